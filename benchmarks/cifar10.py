"""CIFAR-10 by a small foveated network, and by a dense CNN that is trained the same way.

The dense network looks at the same places of the same images in the same order; its samples are a
square grid of as many pixels as the retina has nodes. It has the same layers, strides, channels and
neighbours, of `Conv2d` and max pools. Both are trained by the recipe, with the same seed.

    python benchmarks/cifar10.py --data FOLDER --out runs/cifar10   # of parquet files, or images
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import machine, print_table, write_json
from torch import Tensor, nn
from torch.nn import functional

import fovigraph as fg
from fovigraph.config import AlexNetConfig, FoviConfig
from fovigraph.models.cost import describe
from fovigraph.sensing.fixation import Fixations
from fovigraph.train import Recipe, load_recipe
from fovigraph.train.trainer import Trainer


class Grid(nn.Module):
    """Samples a square grid where a retina samples its array."""

    def __init__(self, retina: fg.Retina):
        super().__init__()
        self.side = round(math.sqrt(len(retina.array)))
        self.array, self.fixation_size = retina.array, retina.fixation_size
        self.register_buffer("mean", retina.mean)
        self.register_buffer("std", retina.std)

    def forward(self, images: Tensor, location: Tensor, size: Tensor, **_: Any) -> Tensor:
        """Sample images `[B, 3, H, W]` around `F` locations: `[B, F, side², 3]`."""
        images = fg.sensing.as_images(images)
        step = (torch.arange(self.side, device=images.device) + 0.5) / self.side * 2 - 1
        extent = location.new_tensor(images.shape[2:])
        centre, scale = 2 * location - 1, size / extent
        row = centre[..., 0, None] + scale[..., 0, None] * step
        column = centre[..., 1, None] + scale[..., 1, None] * step
        shape = (*row.shape, self.side)
        grid = torch.stack((column[:, :, None].expand(shape), row[..., None].expand(shape)), dim=-1)
        seen = functional.grid_sample(images, grid.flatten(1, 2), align_corners=False)
        seen = seen.unflatten(2, row.shape[1:]).flatten(3).permute(0, 2, 3, 1)
        return (seen - self.mean) / self.std


class DenseBackbone(nn.Module):
    """The layers of a KNNAlexNet as `Conv2d` on a grid."""

    def __init__(self, config: AlexNetConfig, side: int, out_nodes: int):
        super().__init__()
        self.side = side
        layers: list[nn.Module] = []
        before = 3
        for index, (channels, stride, k) in enumerate(
            zip(config.channels, config.strides, config.k, strict=True)
        ):
            kernel = round(math.sqrt(k))
            layers += [
                nn.Conv2d(before, channels, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            if index in config.pool_after:
                layers.append(nn.MaxPool2d(3, config.pool_stride, 1))
            before = channels
        out_side = round(math.sqrt(out_nodes))
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(out_side))
        self.num_features = out_side**2 * before

    def forward(self, x: Tensor) -> Tensor:
        """Map samples `[B, N, 3]` to features `[B, M, C]`."""
        grid = x.unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2)
        return self.layers(grid).flatten(2).transpose(1, 2)

    def flops(self) -> int:
        """Return the convolutions' arithmetic for one view."""
        total, x = 0, torch.zeros(1, 3, self.side, self.side)
        for layer in self.layers:
            x = layer.eval()(x)
            if isinstance(layer, nn.Conv2d):
                total += 2 * x[0, 0].numel() * layer.weight.numel()
        return total


class DenseNet(fg.FoviNet):
    """A FoviNet with a grid for a retina and a dense backbone."""

    def __init__(self, config: FoviConfig):
        super().__init__(config)
        self.retina = Grid(self.retina)
        nodes = len(self.pyramid.levels[-1])
        self.backbone = DenseBackbone(self.config.backbone, self.retina.side, nodes)
        head = self.config.head
        features = self.backbone.num_features
        self.head = fg.models.LinearProbe(features, head.num_classes, head.dropout)

    def views(self, *args: Any, **options: Any) -> Fixations:
        return self.fixation_policy(*args, **options)


def train(
    recipe: Recipe, folder: Path, make_net: Callable[[FoviConfig], fg.FoviNet]
) -> dict[str, Any]:
    """Train a network, and return what came of it."""
    began = time.perf_counter()
    trainer = Trainer(recipe, folder, make_net=make_net)
    history = trainer.fit()
    net = trainer.net
    dense = isinstance(net, DenseNet)
    return {
        "network": "dense" if dense else "foveated",
        "samples": net.retina.side**2 if dense else len(net.retina.array),
        "parameters": sum(p.numel() for p in net.parameters()),
        "flops": net.backbone.flops() if dense else describe(net)["total"]["flops"],
        "test_accuracy": history[-1]["test_accuracy"],
        "train_accuracy": history[-1]["accuracy"],
        "minutes": (time.perf_counter() - began) / 60,
        "images_per_second": sum(row["images_per_second"] for row in history) / len(history),
        "waiting": max(row["waiting"] for row in history),
        "history": history,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="folder of CIFAR-10, or its id on the Hub")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two runs")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/cifar10.json"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the recipe cifar10")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = load_recipe("cifar10", [f"data.source={args.data}", *args.overrides])
    makers = {"foveated": fg.FoviNet, "dense": DenseNet}
    results = [train(recipe, args.out / name, make) for name, make in makers.items()]
    columns = ["network", "samples", "parameters", "flops", "test_accuracy", "minutes"]
    print_table(columns, [[result[name] for name in columns] for result in results])
    write_json(args.json, {"machine": machine(args.threads), "results": results})


if __name__ == "__main__":
    main()
