"""Answers the benchmarks' requests about the peer; runs under the peer's Python."""

from __future__ import annotations

import time
from typing import Any

import torch
from common import CMF_A, FOV, ConvSpec, peak_megabytes, serve
from layer_timing import Candidate, Inference, TrainingStep, versions
from peer_env import import_peer

knn = import_peer("fovi.arch.knn")

CANDIDATES: list[Candidate] = []
STEPS: list[TrainingStep] = []
NETS: list[Inference] = []


def conv_layer(spec: ConvSpec, device: str) -> Any:
    """The peer's convolution, its arrays and its neighbourhoods."""
    source, destination, _ = knn.get_in_out_coords(
        None, FOV, CMF_A, spec.stride, in_cart_res=spec.side_in, device=device
    )
    return knn.KNNConvLayer(
        spec.in_channels,
        spec.out_channels,
        spec.k,
        source,
        destination,
        device=device,
        ref_frame_side_length=spec.kernel_size,
    ).to(device)


def prepare(layers: list[dict[str, Any]], threads: int | None, device: str) -> dict[str, Any]:
    """Builds the layers and describes what they work on."""
    if threads is not None:
        torch.set_num_threads(threads)
    described = []
    for i, request in enumerate(layers):
        spec = ConvSpec(**request)
        layer = conv_layer(spec, device)
        nodes = len(layer.in_coords)
        CANDIDATES.append(Candidate(layer, layer, (spec.in_channels, nodes), i > 0))
        triples = int((layer.knn_indices < nodes).sum())
        described.append(
            {"nodes_in": nodes, "nodes_out": len(layer.out_coords), "triples": triples}
        )
    return {"layers": described} | describe()


def describe() -> dict[str, Any]:
    """Threads and versions."""
    return {
        "threads": torch.get_num_threads(),
        "versions": versions(torch, import_peer("fovi")),
    }


def measure(which: str, layer: int, batch: int, backward: bool, repeats: int) -> list[float]:
    """Seconds of a layer, by the path that the peer chooses by itself."""
    return CANDIDATES[layer].seconds(batch, backward, repeats)


def paths() -> list[str]:
    """The path that each layer took last."""
    return [candidate.layer._last_knn_backend for candidate in CANDIDATES]


def prepare_step(network: str, images: int, fixations: int, threads: int) -> dict[str, Any]:
    """Builds the network that `step` trains."""
    import peer_networks  # only here: it needs the peer's models

    torch.set_num_threads(threads)
    changes = {"saccades__n_fixations": fixations, "model__dropout_probes": 0.5}
    if network != "fovi_alexnet":
        changes |= {"model__arch": network, "saccades__field_geometry": "planar"}
    net = peer_networks.build(peer_networks.configuration(**changes))
    STEPS.append(TrainingStep(net, lambda x: net(x)[0], images))
    return describe()


def prepare_inference(fixation: list[float], threads: int, device: str) -> dict[str, Any]:
    """Builds the network that `infer` runs."""
    import peer_networks  # only here: it needs the peer's models

    torch.set_num_threads(threads)
    net = peer_networks.build(peer_networks.configuration(), device).eval()
    look = {"fixations": [torch.tensor(fixation, device=device)], "n_fixations": 1}
    NETS.append(Inference(lambda x: net(x, **look)[0], device))
    return describe()


def build_graph(side: int, k: int, kernel_size: int) -> dict[str, float]:
    """Builds the arrays and a thin layer of stride 2: its neighbourhoods and their cells."""
    before = peak_megabytes()
    start = time.perf_counter()
    layer = conv_layer(ConvSpec(1, 1, k, kernel_size, side, side // 2), "cpu")
    seconds = time.perf_counter() - start
    nodes = len(layer.in_coords)
    return {
        "nodes": nodes,
        "triples": int((layer.knn_indices < nodes).sum()),
        "seconds": seconds,
        "peak_mb": peak_megabytes(),
        "imports_mb": before,
    }


def build_model() -> dict[str, float]:
    """Builds the retina and the backbone of the same FoviNet."""
    alexnet = import_peer("fovi.models.knnalexnet")
    retina = import_peer("fovi.sensing.retina")
    before = peak_megabytes()
    start = time.perf_counter()
    retina.RetinalTransform(64, fov=FOV, cmf_a=CMF_A, start_res=256, device="cpu")
    backbone = alexnet.KNNAlexNet(
        in_res=64,
        in_channels=3,
        features_per_layer=[96, 256, 384, 384, 256],
        stride_per_layer=[2, 1, 1, 1, 1],
        pool_after=[0, 1, 4],
        k_per_layer=[121, 25, 9, 9, 9],
        out_res=1,
        auto_match_cart_resources=1,
        fov=FOV,
        cmf_a=CMF_A,
        ref_frame_mult=2,
        device="cpu",
    )
    seconds = time.perf_counter() - start
    return {
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        "seconds": seconds,
        "peak_mb": peak_megabytes(),
        "imports_mb": before,
    }


if __name__ == "__main__":
    serve(
        {
            "describe": describe,
            "prepare": prepare,
            "measure": measure,
            "paths": paths,
            "build_graph": build_graph,
            "build_model": build_model,
            "prepare_step": prepare_step,
            "step": lambda: STEPS[0].seconds(),
            "forward": lambda: STEPS[0].forward_seconds(),
            "prepare_inference": prepare_inference,
            "infer": lambda which, **request: NETS[0].seconds(**request),
            "memory": peak_megabytes,
        }
    )
