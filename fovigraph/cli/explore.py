"""``fovigraph explore``: a web page of receptive fields, where the fixation can be moved."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from fovigraph import viz
from fovigraph.cli.errors import UserError, users_mistake
from fovigraph.cli.files import demo_image, image_file, make_way, write
from fovigraph.cli.networks import build, device_of, read_config, saved_folder
from fovigraph.cli.output import say


def explore(args: argparse.Namespace) -> int:
    """Write the page of the network ``args.model`` to ``args.out``.

    The photograph is ``args.image``; ``None``: the demo's, if scikit-image is installed.
    """
    overrides = list(args.overrides)
    if args.fixations is not None:
        overrides += [f"fixation.{key}={args.fixations}" for key in ("count", "eval_count")]
    device = device_of(args.device)
    config, folder = read_config(args.model, overrides), saved_folder(args.model)
    image = _photograph(args.image)
    if image is None and args.fixations is not None:
        raise UserError("argument --fixations: needs a photograph, --image IMAGE")
    make_way(args.out, (".html", ".htm"))
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(args.seed)
        net = build(config, folder)
        seen: dict[str, Any] = {}
        if image is not None:
            output = net.to(device)(image[None].to(device)).cpu()
            net.cpu()
            seen = {"fixations": output.fixations[0], "sizes": output.fixation_sizes[0]}
            if folder is not None:  # with random weights, scores of classes mean nothing
                seen["probabilities"] = output.fixation_probabilities[0]
                seen["together"] = output.probabilities[0]
                seen["class_names"] = net.class_names
                seen["multi_label"] = net.config.head.multi_label
        title = f"What every unit of {args.model} sees"
        with users_mistake(ValueError):
            page = viz.explorer_html(
                net.pyramid, image=image, retina=net.retina, title=title, **seen
            )
    with users_mistake(OSError):
        write(args.out, page)
    size = args.out.stat().st_size / 1e6
    say(f"{args.out}  {net.pyramid} in one page of {size:.1f} MB; open it in a browser")
    return 0


def _photograph(file: str | None) -> Tensor | None:
    if file is not None:
        return image_file(file)
    return demo_image() if find_spec("skimage") else None
