"""``fovigraph explore``: a page in which a unit that is pointed at shows what it sees."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from fovigraph import viz
from fovigraph.cli.errors import users_mistake
from fovigraph.cli.files import image_file, make_way, write
from fovigraph.cli.networks import build, read_config, saved_folder
from fovigraph.cli.output import say


def explore(args: argparse.Namespace) -> int:
    """Write the page of the network of ``args.config``, on ``args.image``, to ``args.out``."""
    overrides = list(args.overrides)
    if args.fixations is not None:
        overrides.append(f"fixation.count={args.fixations}")
    config, folder = read_config(args.config, overrides), saved_folder(args.config)
    image = None if args.image is None else image_file(args.image)
    make_way(args.out, (".html", ".htm"))
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(args.seed)
        net = build(config, folder)
        seen: dict[str, Any] = {}
        if image is not None:
            output = net(image[None], generator=torch.Generator().manual_seed(args.seed))
            seen = {"fixations": output.fixations[0], "sizes": output.fixation_sizes[0]}
        title = f"What every unit of {args.config} sees"
        page = viz.explorer_html(net.pyramid, image=image, retina=net.retina, title=title, **seen)
    with users_mistake(OSError):
        write(args.out, page)
    size = args.out.stat().st_size / 1e6
    say(f"{args.out}  {net.pyramid} in one page of {size:.1f} MB; open it in a browser")
    return 0
