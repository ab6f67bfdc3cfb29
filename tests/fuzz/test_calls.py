"""Public callables given strange values: a value comes out, or an error that names an argument."""

import functools

import torch
from hypothesis import given
from hypothesis import strategies as st
from strange import VALUES
from trials import OUTCOMES, trials

import fovigraph as fg
from fovigraph.models import Attention, Calibration, LinearProbe, Projector, Recurrent

ERRORS = (TypeError, ValueError, OSError, ImportError)


@functools.cache
def made():
    """Small valid things to call with."""
    a = fg.SensorArray.matched(12)
    b = a.strided(2)
    graph = fg.knn_graph(a, b, 9)
    pyramid = fg.GraphPyramid(a, [fg.Step("conv", k=9, stride=2), fg.Step("pool", k=4)])
    return {
        "a": a,
        "b": b,
        "graph": graph,
        "kmap": graph.kernel_map(3),
        "pyramid": pyramid,
        "x": torch.rand(1, len(a), 2),
        "y": torch.rand(1, len(b), 3),
        "images": torch.rand(2, 3, 20, 24),
        "conv": fg.nn.KNNConv(2, 3, 3),
        "net": fg.FoviNet(
            fg.load_config(
                "fovi_tiny",
                [
                    "retina.side=12",
                    "backbone.channels=[4]",
                    "backbone.strides=[1]",
                    "backbone.k=[9]",
                    "backbone.pool_after=[]",
                    "projector.channels=[]",
                ],
            )
        ).eval(),
    }


def calls():
    """Each callable with valid arguments: name, function, arguments by name."""
    m = made()
    a, b, graph, kmap, x = (m[key] for key in ("a", "b", "graph", "kmap", "x"))
    edges, ptr, images = graph.edge_index, graph.ptr, m["images"]
    weight = torch.rand(9, 2, 3)
    policy = fg.fixation_policy("near_center", 2)
    array_options = {"fov": 16.0, "cmf_a": 0.5, "layout": "isotropic", "field_geometry": "planar"}
    return {
        "SensorArray": (fg.SensorArray, {"resolution": 5, **array_options}),
        "SensorArray.matched": (fg.SensorArray.matched, {"side": 9, **array_options}),
        "SensorArray.strided": (a.strided, {"stride": 2}),
        "magnification": (
            fg.geometry.magnification,
            {"eccentricity": torch.rand(3), "cmf_a": 0.5},
        ),
        "PlanarManifold.to_cortical": (
            fg.geometry.PlanarManifold(0.5).to_cortical,
            {"polar": torch.rand(4, 2)},
        ),
        "knn_graph": (fg.knn_graph, {"src": a, "dst": b, "k": 9, "metric": "cortical"}),
        "graph_from_neighbours": (
            fg.graph.graph_from_neighbours,
            {"src": a, "dst": b, "neighbours": torch.zeros(len(b), 1, dtype=torch.int64)},
        ),
        "kernel_map": (graph.kernel_map, {"kernel_size": 3, "interpolation": "nearest"}),
        "nearest_cell": (fg.graph.nearest_cell, {"offset": torch.rand(5, 2), "kernel_size": 3}),
        "KernelMap": (
            fg.KernelMap,
            {
                "dst": kmap.dst,
                "src": kmap.src,
                "cell": kmap.cell,
                "num_dst": len(b),
                "num_src": len(a),
                "num_cells": 9,
            },
        ),
        "Step": (
            fg.Step,
            {"kind": "conv", "k": 4, "stride": 2, "kernel_size": 3},
        ),
        "GraphPyramid": (
            fg.GraphPyramid,
            {"retina": a, "steps": [fg.Step("conv", k=4)], "metric": "cortical"},
        ),
        "receptive_field": (m["pyramid"].receptive_field, {"level": 1, "unit": 0}),
        "up": (m["pyramid"].up, {"level": 1, "k": 3}),
        "lateral": (m["pyramid"].lateral, {"level": 1, "k": 3}),
        "to_hetero_data": (m["pyramid"].to_hetero_data, {"lateral": 3}),
        "from_hetero_data": (
            fg.GraphPyramid.from_hetero_data,
            {"data": m["pyramid"].to_hetero_data()},
        ),
        "knn_conv": (fg.ops.knn_conv, {"x": x, "weight": weight, "kernel_map": kmap}),
        "knn_pool": (
            fg.ops.knn_pool,
            {"x": x, "src": edges[0], "ptr": ptr, "reduce": "max"},
        ),
        "KNNConv": (
            fg.nn.KNNConv,
            {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "bias": True},
        ),
        "KNNConv()": (m["conv"], {"x": x, "graph": graph}),
        "KNNConv() of edges": (
            m["conv"],
            {"x": (x, None), "graph": edges, "cell": kmap.cell, "size": graph.size()},
        ),
        "KNNDepthwiseConv": (
            fg.nn.KNNDepthwiseConv,
            {"in_channels": 2, "kernel_size": 3, "multiplier": 2},
        ),
        "KNNPool": (fg.nn.KNNPool, {"mode": "gaussian", "sigma": 0.5}),
        "KNNPool()": (fg.nn.KNNPool("mean"), {"x": x, "graph": graph}),
        "BatchNorm": (fg.nn.BatchNorm, {"num_features": 2, "eps": 1e-5}),
        "BatchNorm()": (fg.nn.BatchNorm(2), {"x": x}),
        "LayerNorm": (fg.nn.LayerNorm, {"mode": "channels", "num_features": 2, "eps": 1e-5}),
        "Retina": (
            fg.Retina,
            {"array": a, "sampling": "bilinear", "fixation_size": 8, "color_decay": 2.0},
        ),
        "Retina of areas": (fg.Retina, {"array": a, "sampling": "area", "acuity": 9}),
        "Retina()": (
            fg.Retina(a),
            {"images": images, "fixations": [[0.5, 0.5]], "fixation_size": 9},
        ),
        "Retina.pixels": (
            fg.Retina(a).pixels,
            {"fixations": [[0.5, 0.5]], "image_size": (24, 20), "fixation_size": 12},
        ),
        "fixation_policy": (
            fg.fixation_policy,
            {"name": "near_center", "count": 2, "area": (0.5, 1.0), "in_eval": "fixed"},
        ),
        "policy()": (policy, {"images": images, "generator": None, "fixations": None}),
        "as_image": (fg.data.as_image, {"image": images[0]}),
        "as_images": (fg.sensing.as_images, {"images": images}),
        "KNNAlexNet.steps": (
            fg.KNNAlexNet.steps,
            {"strides": [1, 2], "k": [9, 9], "pool_after": [0], "pool": "max"},
        ),
        "KNNAlexNet": (
            fg.KNNAlexNet,
            {"pyramid": m["pyramid"], "channels": [4], "in_channels": 2, "num_classes": 3},
        ),
        "Projector": (Projector, {"in_features": 4, "channels": [3, 2], "dropout": 0.1}),
        "Recurrent": (
            Recurrent,
            {"num_classes": 4, "cell": "gru", "width": 8, "dropout": 0.1, "multi_label": False},
        ),
        "Attention": (Attention, {"num_classes": 4, "width": 8, "dropout": 0.1}),
        "LinearProbe": (LinearProbe, {"in_features": 4, "num_classes": 2, "dropout": 0.1}),
        "Calibration": (Calibration, {"temperature": 1.0, "sharpening": 0.0}),
        "FoviNet": (fg.FoviNet, {"config": "fovi_tiny"}),
        "FoviNet()": (m["net"], {"images": images, "fixations": [[0.5, 0.5]]}),
        "FoviNet.predict": (m["net"].predict, {"images": images, "top": 2, "batch_size": 2}),
        "FoviNet.from_pretrained": (
            fg.FoviNet.from_pretrained,
            {"folder_or_hub_id": "nowhere/at-all/ever"},
        ),
        "optimize": (fg.optimize, {"net": m["conv"]}),
        "load_config": (fg.load_config, {"name_or_path": "fovi_tiny", "overrides": []}),
        "as_config": (fg.config.as_config, {"config": {}}),
    }


@functools.cache
def table():
    return calls()


@trials("calls")
@given(data=st.data())
def test_a_value_or_an_error_that_names_an_argument(data):
    name = data.draw(st.sampled_from(sorted(table())), label="call")
    function, arguments = table()[name]
    changed = data.draw(st.lists(st.sampled_from(sorted(arguments)), min_size=1, max_size=2))
    given_ = {**arguments, **{key: data.draw(VALUES, label=key) for key in changed}}
    try:
        function(**given_)
    except ERRORS as error:
        files = [value for value in given_.values() if isinstance(value, str) and value]
        words = (*arguments, *(key.rstrip("s") for key in arguments), *files)
        known = isinstance(error, OSError | ImportError) or any(
            word in str(error) for word in words
        )
        assert known, f"{name}: {type(error).__name__} names no argument: {error}"
        OUTCOMES["refused by name"] += 1
    else:
        OUTCOMES["values"] += 1
