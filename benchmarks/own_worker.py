"""Answers the benchmarks' requests about fovigraph and about dense convolutions."""

from __future__ import annotations

import copy
import math
import time
from functools import cache
from typing import Any

import torch
import torch_geometric
from cifar10 import DenseNet
from common import CMF_A, FOV, ConvSpec, peak_megabytes, serve
from layer_timing import Candidate, Inference, TrainingStep, versions
from torch import nn
from torch_geometric.nn import MessagePassing

import fovigraph as fg
from fovigraph.train import load_recipe
from fovigraph.train.recipe import network_of

CANDIDATES: dict[tuple[str, int], Candidate] = {}
STEPS: list[TrainingStep] = []
NETS: dict[str, Inference] = {}


@cache
def array(side: int) -> fg.SensorArray:
    """The array matched to a side."""
    return fg.SensorArray.matched(side, fov=FOV, cmf_a=CMF_A)


def prepare(layers: list[dict[str, Any]], threads: int | None, device: str) -> dict[str, Any]:
    """Builds the layers, ours and dense, and describes what they work on."""
    if threads is not None:
        torch.set_num_threads(threads)
    described = []
    for i, layer in enumerate(layers):
        spec = ConvSpec(**layer)
        graph = fg.knn_graph(array(spec.side_in), array(spec.side_out), k=spec.k).to(device)
        for who, fused in (("ours", True), ("unfused", False)):
            CANDIDATES[who, i] = own_candidate(spec, graph, device, fused, input_gradient=i > 0)
        CANDIDATES["dense", i] = dense_candidate(spec, device, input_gradient=i > 0)
        triples = len(graph.kernel_map(spec.kernel_size).cell)
        described.append(
            {"nodes_in": graph.num_src, "nodes_out": graph.num_dst, "triples": triples}
        )
    return {"layers": described} | describe()


def own_candidate(
    spec: ConvSpec, graph: fg.KNNGraph, device: str, fused: bool, input_gradient: bool
) -> Candidate:
    """Our convolution over a graph, by the fused operator or by plain message passing."""
    ends, size = (spec.in_channels, spec.out_channels), spec.kernel_size
    multiplier = spec.out_channels // spec.in_channels
    conv: nn.Module
    if spec.form == "depthwise":
        conv = fg.nn.KNNDepthwiseConv(spec.in_channels, size, multiplier, bias=False)
    elif spec.form == "separable":
        conv = fg.nn.KNNSeparableConv(*ends, size, multiplier, bias=False)
    else:
        conv = fg.nn.KNNConv(*ends, size, bias=False)
    for layer in conv.to(device).modules():
        if isinstance(layer, MessagePassing):
            layer.fused = fused
    shape = (graph.num_src, spec.in_channels)
    return Candidate(conv, lambda x: conv(x, graph), shape, input_gradient)


def dense_candidate(spec: ConvSpec, device: str, input_gradient: bool) -> Candidate:
    """A convolution of as many neighbours, channels and strides on a square grid."""
    size = round(math.sqrt(spec.k))
    conv: nn.Module = nn.Conv2d(
        spec.in_channels,
        spec.out_channels,
        size,
        stride=spec.stride,
        padding=size // 2,
        groups=1 if spec.form == "full" else spec.in_channels,
        bias=False,
    )
    if spec.form == "separable":
        conv = nn.Sequential(conv, nn.Conv2d(spec.out_channels, spec.out_channels, 1, bias=False))
    conv.to(device)
    shape = (spec.in_channels, spec.side_in, spec.side_in)
    return Candidate(conv, conv, shape, input_gradient)


def describe() -> dict[str, Any]:
    """Threads and versions."""
    return {
        "threads": torch.get_num_threads(),
        "versions": versions(torch, torch_geometric, fg),
    }


def measure(which: str, layer: int, batch: int, backward: bool, repeats: int) -> list[float]:
    """Seconds of a layer, `which` being "ours", "dense" or "unfused"."""
    return CANDIDATES[which, layer].seconds(batch, backward, repeats)


def prepare_step(
    network: str, images: int, fixations: int, threads: int, dense: bool = False
) -> dict[str, Any]:
    """Builds the network that `step` trains; or a dense one in place of its backbone."""
    torch.set_num_threads(threads)
    overrides = [f"fixation.count={fixations}"]
    if network == "cifar10":
        config = network_of(load_recipe(network, [*overrides, "data.source=FOLDER"]))
        net = DenseNet(config) if dense else fg.FoviNet(config)
        STEPS.append(TrainingStep(net, lambda x: net(x).logits, images, size=32))
        return describe()
    net = fg.FoviNet(fg.load_config(network, overrides=overrides))
    if dense:
        backbone, side = DENSE[network]
        whole = nn.Sequential(backbone(), net.projector, net.head)
        views = torch.rand(images * fixations, 3, side, side)  # sampling costs it nothing
        STEPS.append(
            TrainingStep(whole, lambda _: whole(views).view(images, -1, 1000).mean(1), images)
        )
    else:
        STEPS.append(TrainingStep(net, lambda x: net(x).logits, images))
    return describe()


class DenseResNet18(nn.Sequential):
    """A ResNet-18 on images of 64², with the channels and neighbours of the foveated one."""

    def __init__(self) -> None:
        blocks, channels = [], 64
        for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [DenseBlock(channels, width, stride), DenseBlock(width, width, 1)]
            channels = width
        super().__init__(
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


class DenseViTSmall(nn.Module):
    """A ViT-S of torch's modules on 8² patches, without positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 384, 8, 8, bias=False)
        self.token = nn.Parameter(torch.zeros(1, 1, 384))
        layer = nn.TransformerEncoderLayer(
            384, 6, 1536, 0.2, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(384)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patches(images).flatten(2).mT
        x = torch.cat((self.token.expand(len(x), -1, -1), x), dim=1)
        return self.norm(self.blocks(x))[:, 0]


class DenseBlock(nn.Module):
    """Two convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            conv = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.branch(x) + self.shortcut(x)).relu()


def prepare_inference(fixation: list[float], threads: int, device: str) -> dict[str, Any]:
    """Builds the network that `infer` runs: as it is, optimised and compiled."""
    torch.set_num_threads(threads)
    net = fg.FoviNet(fg.load_config("fovi_alexnet")).eval().to(device)
    compiled = torch.compile(copy.deepcopy(net))
    for name, some in (("plain", net), ("optimised", fg.optimize(net)), ("compiled", compiled)):
        NETS[name] = Inference(lambda x, some=some: some(x, [fixation]).logits, device)
    return describe()


def build_graph(side: int, k: int, kernel_size: int) -> dict[str, float]:
    """Builds the arrays, graph and kernel map of a first layer of stride 2."""
    before = peak_megabytes()
    start = time.perf_counter()
    retina = array(side)
    graph = fg.knn_graph(retina, retina.strided(2), k=k)
    kernel_map = graph.kernel_map(kernel_size=kernel_size)
    seconds = time.perf_counter() - start
    return {
        "nodes": graph.num_src,
        "triples": len(kernel_map.cell),
        "seconds": seconds,
        "peak_mb": peak_megabytes(),
        "imports_mb": before,
    }


def build_model() -> dict[str, float]:
    """Builds a FoviNet: retina, graphs, weights."""
    before = peak_megabytes()
    start = time.perf_counter()
    net = fg.FoviNet(fg.load_config("fovi_alexnet"))
    seconds = time.perf_counter() - start
    return {
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "seconds": seconds,
        "peak_mb": peak_megabytes(),
        "imports_mb": before,
    }


DENSE: dict[str, tuple[type[nn.Module], int]] = {
    "fovi_resnet18": (DenseResNet18, 64),
    "fovi_vit_small": (DenseViTSmall, 72),  # 81 patches, where ours are 83
}
"""Dense backbones of as many channels and about as many nodes, and the side of their images."""


if __name__ == "__main__":
    serve(
        {
            "describe": describe,
            "prepare": prepare,
            "measure": measure,
            "build_graph": build_graph,
            "build_model": build_model,
            "prepare_step": prepare_step,
            "step": lambda: STEPS[0].seconds(),
            "forward": lambda: STEPS[0].forward_seconds(),
            "prepare_inference": prepare_inference,
            "infer": lambda which, **request: NETS[which].seconds(**request),
            "memory": peak_megabytes,
        }
    )
