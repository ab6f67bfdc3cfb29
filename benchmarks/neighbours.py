"""Counts how many neighbourhoods are the upstream package's: recomputed here, and by our own rule.

    python benchmarks/neighbours.py --peer PEER/bin/python

The peer makes networks of random weights on this machine and gives their neighbour lists away; none
of it is used to recompute them. README.md says how to make the peer's environment.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from common import FOLDER, Worker, machine, print_table, write_json
from torch import Tensor

import fovigraph as fg
from fovigraph.interop import recomputed_neighbours

PLANAR = {"saccades__field_geometry": "planar"}
NARROW = {**PLANAR, "model__channel_mult": 0.1}
GEODESIC = {"saccades__sample_cortex": "geodesic", "model__out_grid_size": -1}
RESNET = {"model__norm": "batch"}

NETWORKS: dict[str, dict[str, Any]] = {
    "AlexNet, legacy": {},
    "AlexNet, planar": PLANAR,
    "AlexNet, a = 2.785765": {**PLANAR, "saccades__cmf_a": 2.785765},
    "AlexNet, side 128": {**NARROW, "saccades__resize_size": 128},
    "AlexNet, visual": {**NARROW, "saccades__sample_cortex": False},
    "AlexNet of four layers, side 48, rf 1": {
        **NARROW,
        "model__arch_spec": "4layer_nostride",
        "saccades__resize_size": 48,
        "model__ref_frame_mult": 1,
    },
    "AlexNet of four layers, side 40, geodesic": {
        **NARROW,
        **GEODESIC,
        "model__arch_spec": "4layer_nostride",
        "saccades__resize_size": 40,
    },
    "AlexNet of four layers, side 48, legacy, geodesic": {
        **GEODESIC,
        "model__channel_mult": 0.1,
        "model__arch_spec": "4layer_lowres",
        "saccades__resize_size": 48,
    },
    "ResNet-18, planar": {**RESNET, **PLANAR, "model__arch": "fovi_resnet18"},
    "ResNet-50, legacy, rf 1": {
        **RESNET,
        "model__arch": "fovi_resnet50",
        "model__ref_frame_mult": 1,
    },
    "ResNet-18 low-res, side 32, rf 1": {
        **RESNET,
        **PLANAR,
        "model__arch": "fovi_resnet18_lowres",
        "model__ref_frame_mult": 1,
        "saccades__resize_size": 32,
    },
}


def main() -> None:
    """Measures, prints the table, keeps the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PYTHON", required=True, help="the peer's interpreter")
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to keep the result")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(Worker(options.peer, "upstream_worker.py")) as peer,
    ):
        versions = {"peer": peer.ask("describe"), "ours": {"torch": torch.__version__}}
        rows = [
            network(peer, Path(scratch) / str(index), name, changes)
            for index, (name, changes) in enumerate(NETWORKS.items())
        ]
    names = ["name", "neighbourhoods", "recomputed", "canonical", "kernels", "cells", "seconds"]
    print_table(names, [[row[name] for name in names] for row in rows])
    result = {"machine": machine(options.threads), "versions": versions, "networks": rows}
    write_json(options.json or FOLDER / "results" / "neighbours.json", result)


def network(peer: Worker, folder: Path, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """How many neighbourhoods, and kernels' assignments of cells, are the peer's."""
    nothing = {"steps": 0, "batches": None, "rate": 0.0, "seed": 0}
    peer.ask("make", folder=str(folder), changes=changes, **nothing)
    theirs = {
        key.removeprefix("network."): tensor
        for key, tensor in torch.load(folder / "neighbours.pth").items()
    }
    net = fg.from_upstream(folder)
    start = time.perf_counter()
    ours = recomputed_neighbours(net)
    seconds = time.perf_counter() - start
    canonical = fg.from_upstream(folder, neighbours=theirs).pyramid
    lists = [key for key in ours if key.endswith(".neighbours")]
    cells = [key for key in ours if key.endswith(".cells")]
    pairs = zip(net.pyramid.graphs, canonical.graphs, strict=True)
    steps = sum(graph.num_dst for graph in net.pyramid.graphs)
    same = steps - sum(nodes_that_differ(*pair) for pair in pairs)
    return {
        "name": name,
        "neighbourhoods": sum(ours[key].shape[1] for key in lists),
        "recomputed": sum(
            equal_columns(ours[key].sort(0)[0], theirs[key].sort(0)[0]) for key in lists
        ),
        "canonical": f"{same} of {steps}",
        "kernels": sum(ours[key].shape[1] for key in cells),
        "cells": sum(equal_columns(ours[key], theirs[key]) for key in cells),
        "seconds": round(seconds, 1),
    }


def equal_columns(ours: Tensor, theirs: Tensor) -> int:
    """In how many columns two lists are equal."""
    return int((ours == theirs).all(0).sum())


def nodes_that_differ(one: fg.KNNGraph, other: fg.KNNGraph) -> int:
    """At how many destinations two graphs have other real neighbours."""
    a, b = (graph.edge_index[1] * graph.num_src + graph.edge_index[0] for graph in (one, other))
    apart = torch.cat((a[~torch.isin(a, b)], b[~torch.isin(b, a)]))
    return len((apart // one.num_src).unique())


if __name__ == "__main__":
    main()
