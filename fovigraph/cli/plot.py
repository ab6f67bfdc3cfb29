"""``fovigraph plot``: one picture of a network."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fovigraph import viz
from fovigraph.cli.errors import UserError, users_mistake
from fovigraph.cli.files import image_file, make_way, write
from fovigraph.cli.kinds import KINDS
from fovigraph.cli.networks import build, device_of, read_config, saved_folder
from fovigraph.cli.output import say
from fovigraph.nn import KNNConv
from fovigraph.viz.activations import features_at
from fovigraph.viz.field import nearest_drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fovigraph.graph import GraphPyramid
    from fovigraph.models import FoviNet

PICTURES = (".png", ".pdf", ".svg", ".jpg")


class Subject:
    """The network, image and level of a picture, each made when it is first used."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.folder = saved_folder(args.model)
        self.config = read_config(args.model, args.overrides)
        self.device = device_of(args.device)

    @cached_property
    def net(self) -> FoviNet:
        torch.manual_seed(self.args.seed or 0)
        return build(self.config, self.folder)

    @contextmanager
    def computing(self) -> Iterator[FoviNet]:
        """Within this, the network is on the device that computes; for drawing, on the CPU."""
        try:
            with torch.no_grad():
                yield self.net.to(self.device)
        finally:
            self.net.cpu()

    @property
    def pyramid(self) -> GraphPyramid:
        return self.net.pyramid

    @cached_property
    def image(self) -> Tensor:
        if self.args.image is None:
            raise UserError(f"plot {self.args.kind} needs a photograph: --image IMAGE")
        return image_file(self.args.image)

    @cached_property
    def view(self) -> tuple[Tensor, Tensor, Tensor]:
        """Place ``[2]``, size ``[2]`` and samples ``[N, 3]`` of the fixation."""
        with self.computing() as net:
            image = self.image[None].to(self.device)
            views = net.views(image, torch.tensor([self.args.fixation]))
            colors = net.retina.colors(image, *views)
        return views.location[0, 0].cpu(), views.size[0, 0].cpu(), colors[0, 0].cpu()

    @cached_property
    def samples(self) -> Tensor:
        """The backbone's input at the fixation, ``[1, N, 3]``."""
        with self.computing() as net:
            image = self.image[None].to(self.device)
            views = net.views(image, torch.tensor([self.args.fixation]))
            return net.retina(image, *views)[0].cpu()

    @cached_property
    def unit(self) -> tuple[int, int]:
        """Level and unit, as given, or ones with a large receptive field."""
        level, unit = viz.example_unit(self.pyramid)
        if self.args.level is not None:
            aim = self.pyramid.levels[level].cartesian[unit]
            level = self.pyramid.level_index(self.args.level)
            unit = nearest_drawn(self.pyramid.levels[level], aim)
        return level, unit if self.args.unit is None else self.args.unit

    @cached_property
    def convolution(self) -> int:
        """The step of the convolution that leads to the level given, or of the first."""
        steps = [i for i, size in enumerate(self.pyramid.kernel_sizes) if size is not None]
        if self.args.level is None:
            return steps[0]
        step = self.pyramid.level_index(self.args.level) - 1
        if step not in steps:
            names = ", ".join(self.pyramid.names[i + 1] for i in steps)
            raise UserError(
                f"level must be one that a convolution leads to, {names}, got {self.args.level!r}"
            )
        return step

    @cached_property
    def weight(self) -> Tensor:
        """The weights of :attr:`convolution`, ``[cells, C_in, C_out]``."""
        layer = viz.step_layers(self.net.backbone)[self.convolution]
        if not isinstance(layer, KNNConv):
            raise UserError(f"filters are drawn of full convolutions, got {type(layer).__name__}")
        return layer.weight


def _kernel_map(subject: Subject) -> Figure:
    step, pyramid = subject.convolution, subject.pyramid
    kernel_size = pyramid.kernel_sizes[step]
    assert kernel_size is not None  # it is a convolution
    return viz.plot_kernel_map(pyramid.graphs[step], kernel_size)


def _receptive_field(subject: Subject) -> Figure:
    options = {"space": subject.args.space, "binary": subject.args.binary}
    options["bins"] = subject.args.bins
    if subject.args.image is None:
        return viz.plot_receptive_field(subject.pyramid, *subject.unit, **options)
    where, size, _ = subject.view
    return viz.plot_receptive_field(
        subject.pyramid,
        *subject.unit,
        image=subject.image,
        fixation=where,
        size=size,
        **options,
    )


def _effective_field_sizes(subject: Subject) -> Figure:
    samples = None if subject.args.image is None else subject.samples
    with subject.computing() as net:
        return viz.plot_effective_field_sizes(net.backbone, samples=samples)


def _filter_in_field(subject: Subject) -> Figure:
    graph = subject.pyramid.graphs[subject.convolution]
    return viz.plot_filter_in_field(graph, subject.weight, subject.args.channel)


def _samples(subject: Subject) -> Figure:
    where, size, colors = subject.view
    return viz.plot_view(subject.image, subject.net.retina.array, colors, where, size)


def _rebuilt(subject: Subject) -> Figure:
    where, size, colors = subject.view
    return viz.plot_rebuilt(subject.image, subject.net.retina.array, colors, where, size)


def _fixations(subject: Subject) -> Figure:
    seed = subject.args.seed
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    views = subject.net.views(subject.image[None], generator=generator)
    return viz.plot_fixations(
        subject.image, views.location[0], views.size[0], array=subject.net.retina.array
    )


def _activations(subject: Subject) -> Figure:
    level, _ = subject.unit
    samples = subject.samples
    with subject.computing() as net:
        features = features_at(net.backbone, level, samples.to(subject.device)).cpu()
    name = subject.pyramid.names[level]
    return viz.plot_activations(
        subject.pyramid.levels[level],
        features[0],
        space=subject.args.space,
        title=f"Activations at level {name!r}: the channels that vary most",
    )


DRAW: dict[str, Callable[[Subject], Figure]] = {
    "sampling": lambda s: viz.plot_sampling(
        s.net.retina.array, color=s.args.color, kind=s.args.map
    ),
    "levels": lambda s: viz.plot_levels(s.pyramid, color=s.args.color, kind=s.args.map),
    "manifold": lambda s: viz.plot_manifold(s.net.retina.array, color=s.args.color),
    "kernel-map": _kernel_map,
    "receptive-field": _receptive_field,
    "fields": lambda s: viz.plot_fields(s.pyramid, s.unit[0]),
    "field-sizes": lambda s: viz.plot_field_sizes(s.pyramid),
    "effective-field-sizes": _effective_field_sizes,
    "filters": lambda s: viz.plot_filters(s.weight),
    "filter-in-field": _filter_in_field,
    "samples": _samples,
    "rebuilt": _rebuilt,
    "fixations": _fixations,
    "activations": _activations,
    "pyramid": lambda s: viz.plot_pyramid(s.pyramid, *s.unit),
}

EXPORTS = {"manifold": (".html",), "pyramid": (".dot", ".graphml")}
"""Files other than pictures, by their suffix."""


def plot(args: argparse.Namespace) -> int:
    """Draw the picture of the kind ``args.kind``, and write it to ``args.out``."""
    args.out = args.out or Path(f"{args.kind}.png")
    make_way(args.out, (*PICTURES, *EXPORTS.get(args.kind, ())))
    suffix = args.out.suffix.lower()
    if args.kind == "pyramid" and suffix not in PICTURES:
        for option in ("level", "unit"):
            if getattr(args, option) is not None:
                raise UserError(f"argument --{option}: does nothing for a {suffix} file")
    with torch.random.fork_rng(devices=[]), users_mistake(ValueError, TypeError, ImportError):
        subject = Subject(args)
        made = DRAW[args.kind](subject) if suffix in PICTURES else _exported(subject, suffix)
    with users_mistake(OSError):
        if isinstance(made, str):
            write(args.out, made)
        else:
            made.savefig(args.out)
    say(f"{args.out}  {KINDS[args.kind]}")
    return 0


def _exported(subject: Subject, suffix: str) -> str:
    """Return the text of a file that is not a picture."""
    if suffix == ".html":
        array, color = subject.net.retina.array, subject.args.color
        return str(viz.plotly_manifold(array, color=color).to_html())
    if suffix == ".dot":
        return viz.pyramid_dot(subject.pyramid)
    graph = viz.pyramid_networkx(subject.pyramid)
    import networkx

    return "\n".join(networkx.generate_graphml(graph)) + "\n"
