"""``fovigraph look`` where a video is read or written: the gaze, and what the eye sees there."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from fovigraph import viz
from fovigraph.cli.errors import UserError, users_mistake
from fovigraph.cli.files import image_file, make_way
from fovigraph.cli.networks import build, device_of, read_config, saved_folder
from fovigraph.cli.output import say
from fovigraph.models import FoviNet
from fovigraph.viz.video import FPS, VIDEO_SUFFIXES, WRITTEN, import_av, video_seconds

SECONDS = 0.5
"""How long a fixation lasts, if nothing else is said."""


class Look(NamedTuple):
    """An image, where the eye looks in it, how much it sees, and for how long."""

    image: Tensor
    fixation: Tensor
    size: Tensor
    seconds: float


def asks_for_video(args: argparse.Namespace) -> bool:
    """Whether a command line reads or writes a video."""
    asked = args.video is not None or args.path is not None
    if args.seconds is not None and not asked and not any(map(_is_video, args.images)):
        raise UserError("argument --seconds: does nothing without a video, --video FILE")
    return asked or any(map(_is_video, args.images))


def _is_video(path: str) -> bool:
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def _moves(path: str) -> bool:
    """Whether a file is a video, or a GIF of several frames."""
    if Path(path).suffix.lower() != ".gif":
        return _is_video(path)
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except (OSError, UnidentifiedImageError):
        return False


def look_at_video(args: argparse.Namespace) -> int:
    """Write the video of the gaze on the one image or video ``args.images``."""
    if len(args.images) != 1:
        raise UserError(f"a video is made of one image or video, got {len(args.images)}")
    source, moves = args.images[0], _moves(args.images[0])
    if args.video is None and not moves:
        raise UserError("argument --path: does nothing without a video, --video FILE")
    target = args.video or args.out / "look.mp4"
    make_way(target, WRITTEN, "--out" if args.video is None else "--video")
    if Path(source).exists() and target.exists() and target.samefile(source):
        raise UserError(f"argument --video: must be another file than {source}")
    device = device_of(args.device)
    overrides = list(args.overrides)
    if args.fixations is not None:
        overrides += [f"fixation.count={args.fixations}", f"fixation.eval_count={args.fixations}"]
    config, folder = read_config(args.model, overrides), saved_folder(args.model)
    mistakes = (FileNotFoundError, ValueError, ImportError, OSError)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(), users_mistake(*mistakes):
        if target.suffix.lower() != ".gif":
            import_av()
        path = None if args.path is None else viz.read_gaze_path(args.path)
        torch.manual_seed(args.seed or 0)
        seconds = args.seconds or SECONDS
        if moves:
            frames = viz.read_video(source)
            net = build(config, folder, device)
            looks = _along(net, source, frames, path, seconds, args.seed)
        else:
            image = image_file(source)
            net = build(config, folder, device)
            looks = _around(net, image, path, seconds, args.seed)
        count, lasts = _write(net, looks, target, device)
    say(f"{target}  the gaze on {source}, and what the eye sees: {count:,} frames, {lasts:.1f} s")
    return 0


def _write(net: FoviNet, looks: Iterator[Look], target: Path, device: str) -> tuple[int, float]:
    """Write a frame for every look; how many there were, and how long they last."""
    frames, count, lasts = viz.EyeFrames(net.retina), 0, 0.0
    first = next(looks)
    fps = min(max(1 / first.seconds, FPS), 2 * FPS)
    with (
        viz.VideoWriter(target, fps) as video,
        tqdm(disable=None, leave=False, unit="frame") as bar,
    ):
        for look in chain([first], looks):
            frame = frames(look.image.to(device), look.fixation, look.size)
            video.write(frame, look.seconds)
            count, lasts = count + 1, lasts + look.seconds
            bar.update()
    return count, lasts


def _around(
    net: FoviNet, image: Tensor, path: viz.GazePath | None, seconds: float, seed: int | None
) -> Iterator[Look]:
    """Looks at one image: the network's own, or those of a path, which says how long they last."""
    where, size = _views(net, image, path, seed)
    lasting = [seconds] * len(where)
    if path is not None:
        lasting = [*(path.times[1:] - path.times[:-1]).tolist(), seconds]
    return (Look(image, *each) for each in zip(where, size, lasting, strict=True))


def _along(
    net: FoviNet,
    source: str,
    frames: Iterator[viz.VideoFrame],
    path: viz.GazePath | None,
    seconds: float,
    seed: int | None,
) -> Iterator[Look]:
    """Looks at every frame of a video."""
    end = None if path is None else video_seconds(source)
    if path is not None and end is not None:
        path.check_within(end)
    first = next(frames)
    where, size = _views(net, first.image, path, seed)
    end = 0.0
    for frame in chain([first], frames):
        index = int(frame.start / seconds + 1e-4) if path is None else path.index(frame.start)
        index %= len(where)
        yield Look(frame.image, where[index], size[index], frame.seconds)
        end = frame.start + frame.seconds
    if path is not None:  # files may be wrong about how long they last
        path.check_within(end)


def _views(
    net: FoviNet, image: Tensor, path: viz.GazePath | None, seed: int | None
) -> tuple[Tensor, Tensor]:
    """Where to look at an image, ``[F, 2]``, and how much is seen there, pixels, ``[F, 2]``."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    fixations = None if path is None else torch.from_numpy(path.fixations).float()
    views = net.views(image[None], fixations, generator)
    return views.location[0].cpu(), views.size[0].cpu()
