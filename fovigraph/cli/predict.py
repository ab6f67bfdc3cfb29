"""``fovigraph predict``: classes of images, as a table, CSV or JSON lines."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from fovigraph.cli.errors import UserError, users_mistake
from fovigraph.cli.networks import (
    build,
    device_of,
    read_config,
    saved_folder,
    warn_of_random_weights,
)
from fovigraph.cli.output import complain, say
from fovigraph.models import FoviNet
from fovigraph.models.predict import Prediction, predictions
from fovigraph.sensing import read_image

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

SEPARATOR = ";"
"""Between the labels of an image in CSV."""

Lines = Callable[[str, Prediction], str]
"""A function of a file and its prediction that returns the line to print."""


def predict_command(args: argparse.Namespace) -> int:
    """Print the classes of ``args.images``; return 1 if some of them cannot be read."""
    device = device_of(args.device)
    overrides = list(args.overrides)
    if args.fixations is not None:
        overrides += [f"fixation.count={args.fixations}", f"fixation.eval_count={args.fixations}"]
    config, folder = read_config(args.model, overrides), saved_folder(args.model)
    files = _files(args.images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build(config, folder, device)
        warn_of_random_weights(args.model, folder)
        head, line = _form(args, files, net)
        if head:
            say(head)
        read: deque[str] = deque()
        broken: list[str] = []
        with tqdm(total=len(files), disable=None, leave=False, unit="image") as bar:
            images = _readable(files, read, broken, bar)
            for prediction in predictions(net, images, top=args.top, batch_size=args.batch_size):
                with tqdm.external_write_mode():
                    say(line(read.popleft(), prediction))
    return 1 if broken else 0


def _files(words: Sequence[str]) -> list[str]:
    """Return the files: those named, those in folders, and those listed on standard input."""
    files: list[str] = []
    for word in words:
        if word == "-":
            files += _listed()
        elif _URL.match(word):
            raise _no_url(word)
        elif os.path.isdir(word):
            files += _inside(word)
        else:
            files.append(word)
    return files


def _listed() -> list[str]:
    """Return the paths on standard input, one a line."""
    if sys.stdin is None:
        raise UserError("argument IMAGE: - is standard input, which is closed")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    with users_mistake(OSError):
        files = [line for line in sys.stdin.read().splitlines() if line.strip()]
    if not files:
        raise UserError("argument IMAGE: - is standard input, which names no files")
    for file in files:
        if _URL.match(file):
            raise _no_url(file)
    return files


def _inside(folder: str) -> list[str]:
    """Return the images in a folder and its folders, in order of their paths."""
    known = Image.registered_extensions()
    with users_mistake(OSError):
        found = [
            os.path.join(parent, name)
            for parent, _, names in os.walk(folder, onerror=_raise)
            for name in names
            if os.path.splitext(name)[1].lower() in known and not name.startswith(".")
        ]
    if not found:
        raise UserError(f"argument IMAGE: there are no images in the folder {folder!r}")
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _no_url(word: str) -> UserError:
    return UserError(
        f"argument IMAGE: must be files, got the address {word!r}: download it first, and name "
        "the file"
    )


def _readable(
    files: Sequence[str], read: deque[str], broken: list[str], bar: tqdm[Any]
) -> Iterator[Tensor]:
    """Yield images, and add their names to ``read``, or to ``broken`` if they cannot be read."""
    for file in files:
        try:
            image = read_image(file)
        except (OSError, ValueError) as error:
            broken.append(file)
            with tqdm.external_write_mode():
                complain(f"fovigraph: {' '.join(str(error).split())}")
        else:
            read.append(file)
            yield image
        bar.update()


def _form(args: argparse.Namespace, files: Sequence[str], net: FoviNet) -> tuple[str, Lines]:
    """Return the header, and the function that makes a line."""
    if args.json:
        return "", _json
    if args.csv:
        columns = ["file", "class", "probability"]
        for i in range(2, min(args.top, len(net.class_names)) + 1):
            columns += [f"class_{i}", f"probability_{i}"]
        columns += ["labels"] if net.config.head.multi_label else []
        return _csv_row(columns), _csv
    width = max(map(len, files))
    return "", lambda file, answer: f"{file:<{width}}  {_named(answer)}"


def _json(file: str, answer: Prediction) -> str:
    top = [[name, round(probability, 6)] for name, probability in answer.top]
    row = {"file": file, "class": answer.name, "probability": top[0][1], "top": top}
    return json.dumps(row if answer.labels is None else {**row, "labels": answer.labels})


def _csv(file: str, answer: Prediction) -> str:
    row = [file, *(entry for name, p in answer.top for entry in (name, f"{p:.6g}"))]
    return _csv_row(row if answer.labels is None else [*row, SEPARATOR.join(answer.labels)])


def _csv_row(row: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()


def _named(answer: Prediction) -> str:
    top = ", ".join(f"{name} {probability:.1%}" for name, probability in answer.top)
    return top if answer.labels is None else f"[{', '.join(answer.labels)}] {top}"
