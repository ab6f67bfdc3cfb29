"""``fovigraph eyes``: what every layout and field keeps of one photograph."""

from __future__ import annotations

import argparse

from fovigraph import viz
from fovigraph.cli.errors import users_mistake
from fovigraph.cli.files import demo_image, image_file, make_way, write
from fovigraph.cli.output import say


def eyes(args: argparse.Namespace) -> int:
    """Write the page, or the picture, of all eyes on ``args.image`` to ``args.out``."""
    make_way(args.out, (".html", ".htm", ".png", ".pdf", ".svg", ".jpg"))
    image = demo_image() if args.image is None else image_file(args.image)
    with users_mistake(ValueError, OSError):
        every = viz.all_eyes(args.side, fov=args.fov, cmf_a=args.cmf_a)
        view = {"fixation": args.fixation, "size": args.view and (args.view, args.view)}
        if args.out.suffix.lower() in (".html", ".htm"):
            write(args.out, viz.eyes_html(image, every, **view))
        else:
            viz.plot_eyes(image, every, **view).savefig(args.out)
    say(f"{args.out}  {len(every)} eyes on {args.image or 'skimage.data.chelsea()'}")
    return 0
