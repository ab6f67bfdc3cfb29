"""Times whole backbones: a foveated ResNet-18 and ViT-S, the peer's, and dense torch's.

    python benchmarks/families.py --peer PEER/bin/python

Forward without gradients, and forward with backward, of 16 images × 4 fixations, samples in and
features out. The dense networks have as many channels and blocks on square images of about as many
pixels and patches as ours have nodes. (The peer's ViT cannot be built on a CPU.) All take turns in
one run, never two at a time; times are medians. README.md says how to make the peer's environment.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from unittest import mock

from common import FOLDER, Worker, machine, median_ms, print_table, ratio, serve, write_json

ROLE = "FOVIGRAPH_BENCHMARK_ROLE"
PASSES = {"forward": False, "forward+backward": True}
NETWORKS = ("resnet18", "vit_small")


def main() -> None:
    """Measures, prints the table, writes the result."""
    options = parse()
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for who, python in (("ours", sys.executable), ("peer", options.peer)):
            if python:
                with mock.patch.dict(os.environ, {ROLE: who}):
                    worker = Worker(python, Path(__file__).name)
                workers[who] = stack.enter_context(closing(worker))
        workers["dense"] = workers["ours"]
        told = {
            who: workers[who].ask("prepare", threads=options.threads)
            for who in ("ours", "peer")
            if who in workers
        }
        seconds: dict[tuple[str, str, str], list[float]] = {}
        for turn in range(options.rounds + 1):
            for name, way, who in itertools.product(options.networks, PASSES, workers):
                if who == "peer" and name not in told["peer"]["networks"]:
                    continue
                took = workers[who].ask(
                    "measure", which=who, name=name, views=options.views, backward=PASSES[way]
                )
                if turn:  # the first warms up
                    seconds.setdefault((name, way, who), []).append(took)
            print(f"\rround {turn} of {options.rounds}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    found = {key: median_ms(times) for key, times in seconds.items()}
    rows = []
    for name, way in itertools.product(options.networks, PASSES):
        ours, dense, peer = (found.get((name, way, who)) for who in ("ours", "dense", "peer"))
        rows.append([name, way, ours, dense, peer, ratio(ours, dense), ratio(ours, peer)])
    print(f"backbones, {options.views} views, CPU, float32, milliseconds")
    print_table(["", "", "ours", "dense", "peer", "ours/dense", "ours/peer"], rows)
    write_json(
        options.json or FOLDER / "results" / "families-cpu.json",
        {
            "views": options.views,
            "rounds": options.rounds,
            "machine": machine(options.threads),
            "versions": {who: about["versions"] for who, about in told.items()},
            "milliseconds": {" ".join(key): time for key, time in found.items()},
        },
    )


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PYTHON", help="the peer environment's interpreter")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--views", type=int, default=64, help="images times fixations (64)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to keep the result")
    return parser.parse_args()


# In the workers -----------------------------------------------------------------------------------


def work(role: str) -> None:
    """Answers requests, as ours (and dense) or as the peer."""
    import torch
    from layer_timing import Candidate, versions

    candidates: dict[tuple[str, str], Candidate] = {}

    def prepare(threads: int) -> dict[str, Any]:
        torch.set_num_threads(threads)
        made, package = own_and_dense() if role == "ours" else peers()
        for key, (backbone, shape) in made.items():
            candidates[key] = Candidate(backbone.train(), backbone, shape, input_gradient=False)
        networks = [name for who, name in made if who == role]
        return {"networks": networks, "versions": versions(torch, package)}

    def measure(which: str, name: str, views: int, backward: bool) -> float:
        return candidates[which, name].seconds(views, backward, 1)[0]

    serve({"prepare": prepare, "measure": measure})


def own_and_dense() -> tuple[dict[tuple[str, str], Any], Any]:
    """Our backbones, and dense ones of as many nodes, channels and blocks."""
    import fovigraph as fg

    made: dict[tuple[str, str], Any] = {}
    for name, config in (("resnet18", "fovi_resnet18"), ("vit_small", "fovi_vit_small")):
        net = fg.FoviNet(fg.load_config(config))
        made["ours", name] = net.backbone, (len(net.pyramid.levels[0]), 3)
    made["dense", "resnet18"] = dense_resnet18(), (3, 64, 64)
    made["dense", "vit_small"] = dense_vit_small(), (3, 72, 72)  # 81 patches for our 83
    return made, fg


def dense_resnet18() -> Any:
    """A ResNet-18 of torch's modules, without a classifier."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels: int, out: int, stride: int) -> None:
            super().__init__()
            self.branch = nn.Sequential(
                nn.Conv2d(channels, out, 3, stride, 1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
                nn.Conv2d(out, out, 3, 1, 1, bias=False),
                nn.BatchNorm2d(out),
            )
            self.shortcut = nn.Identity()
            if stride != 1 or channels != out:
                conv = nn.Conv2d(channels, out, 1, stride, bias=False)
                self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out))

        def forward(self, x: Any) -> Any:
            return (self.branch(x) + self.shortcut(x)).relu()

    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)]
    layers += [nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(channels, out, stride), Block(out, out, 1)]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))


def dense_vit_small() -> Any:
    """A ViT-S of torch's modules on 8² patches, without positions."""
    import torch
    from torch import nn

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 384, 8, 8, bias=False)
            self.token = nn.Parameter(torch.zeros(1, 1, 384))
            layer = nn.TransformerEncoderLayer(
                384, 6, 1536, 0.2, "gelu", batch_first=True, norm_first=True
            )
            self.blocks = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
            self.norm = nn.LayerNorm(384)

        def forward(self, images: Any) -> Any:
            x = self.patches(images).flatten(2).mT
            x = torch.cat((self.token.expand(len(x), -1, -1), x), dim=1)
            return self.norm(self.blocks(x))[:, 0]

    return ViT()


def peers() -> tuple[dict[tuple[str, str], Any], Any]:
    """The peer's backbones that can be built on a CPU."""
    import peer_networks

    net = peer_networks.build(
        peer_networks.configuration(
            model__arch="fovi_resnet18",
            model__stem_kernel_size=7,
            model__stem_conv_stride=2,
            model__stem_pool_stride=2,
        )
    )
    backbone = net.network.backbone
    shape = (3, len(backbone.in_coords) if hasattr(backbone, "in_coords") else 4085)
    return {("peer", "resnet18"): (backbone, shape)}, peer_networks.import_peer("fovi")


if __name__ == "__main__":
    if ROLE in os.environ:
        work(os.environ[ROLE])
    else:
        main()
