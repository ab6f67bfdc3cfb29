"""A pyramid as PyG's ``HeteroData``, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage

from fovigraph._checks import instance, one_of, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import isolated
from fovigraph.graph.kernel_map import nearest_cell
from fovigraph.graph.knn_graph import GEOMETRY, METRICS, KNNGraph, check_geometry

if TYPE_CHECKING:
    from fovigraph.graph.pyramid import GraphPyramid, Stage

ARRAY = ("resolution", "fov", "cmf_a", "layout", "field_geometry")


@isolated
def to_hetero_data(
    pyramid: GraphPyramid, lateral: int | None = None, up: int | None = None
) -> HeteroData:
    """Return the pyramid as PyG data; see :meth:`GraphPyramid.to_hetero_data`."""
    lateral = None if lateral is None else positive_int("lateral", lateral)
    up = None if up is None else positive_int("up", up)
    data = HeteroData()
    for name, level in zip(pyramid.names, pyramid.levels, strict=True):
        data[name].num_nodes = len(level)
        data[name].pos = data[name].cartesian = level.cartesian.float()
        data[name].polar = level.polar.float()
        data[name].cortical = level.cortical.float()
    steps = edge_types(pyramid.names, pyramid.stages)
    for edge_type, graph, kernel_size in zip(
        steps, pyramid.graphs, pyramid.kernel_sizes, strict=True
    ):
        edges = _put(data, edge_type, graph)
        if kernel_size is not None:
            edges.cell = nearest_cell(edges.offset, kernel_size)
    for (below, _, above), level in zip(steps, pyramid.levels[1:], strict=True):
        if up is not None:
            _put(data, (above, "up", below), pyramid.up(above, min(up, len(level))))
    for name, level in zip(pyramid.names, pyramid.levels, strict=True):
        if lateral is not None and len(level) > 1:
            graph = pyramid.lateral(name, min(lateral, len(level) - 1))
            _put(data, (name, "lateral", name), graph)
    data.recipe = json.dumps(
        {
            "retina": {name: getattr(pyramid.levels[0], name) for name in (*ARRAY, "side")},
            "stages": [asdict(stage) for stage in pyramid.stages],
            "metric": pyramid.metric,
            "k": [graph.k for graph in pyramid.graphs],
        }
    )
    return data


def _put(data: HeteroData, edge_type: tuple[str, str, str], graph: KNNGraph) -> EdgeStorage:
    edges, tensors = data[edge_type], graph.fixed_tensors()
    for name in GEOMETRY:
        edges[name] = tensors[name].clone()  # so that what is done to the data, is done to it alone
    return edges


def edge_types(names: Sequence[str], stages: Sequence[Stage]) -> list[tuple[str, str, str]]:
    """Return PyG's name of every step: ``(lower level, kind, upper level)``."""
    return [
        (below, stage.kind, above)
        for below, stage, above in zip(names, stages, names[1:], strict=False)
    ]


def read_recipe(data: HeteroData) -> dict[str, Any]:
    """Return what the pyramid in ``data`` was made of.

    The ``"retina"``, the arguments of every one of the ``"stages"``, the ``"metric"``, and every
    step's ``"k"``.

    Raises:
        ValueError, TypeError: If ``data`` does not hold one pyramid.
    """
    instance("data", data, HeteroData)
    recipe = getattr(data, "recipe", None)
    if isinstance(recipe, list):
        raise ValueError(
            "data must hold one pyramid, got a batch of them: give one of data.to_data_list()"
        )
    if recipe is None:
        raise ValueError(
            "data must come from GraphPyramid.to_hetero_data, got one without a recipe "
            f"(node types {data.node_types})"
        )
    try:
        content = json.loads(recipe)
        content["retina"] = _read_array(content["retina"])
        one_of("metric", content["metric"], METRICS)
        if len(content["k"]) != len(content["stages"]):
            raise ValueError(f"{len(content['stages'])} stages and {len(content['k'])} k")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise not_as_written(error) from error
    return content


def not_as_written(error: Exception) -> ValueError:
    """Return the error of a recipe that somebody changed."""
    return ValueError(
        "data.recipe must be as GraphPyramid.to_hetero_data writes it, and is not: "
        f"{type(error).__name__}: {error}"
    )


def _read_array(recipe: dict[str, Any]) -> SensorArray:
    options = {name: recipe[name] for name in ARRAY[1:]}
    if recipe["side"] is not None:
        return SensorArray.matched(recipe["side"], **options)
    return SensorArray(recipe["resolution"], **options)


def read_graphs(
    data: HeteroData,
    types: Sequence[tuple[str, str, str]],
    levels: Sequence[SensorArray],
    k: Sequence[int],
    metric: str,
) -> list[KNNGraph]:
    """Return the graph of every step as ``data`` has it; equal ones are one object.

    Raises:
        ValueError: If a relation, or an attribute of one, is missing or does not fit its levels.
    """
    graphs: list[KNNGraph] = []
    for index, edge_type in enumerate(types):
        src, dst = levels[index : index + 2]
        geometry = _geometry(data, edge_type, src, dst)
        graphs.append(
            next((graph for graph in graphs if _is(graph, src, dst, k[index], geometry)), None)
            or KNNGraph(src, dst, k[index], metric, **geometry)
        )
    return graphs


def _is(
    graph: KNNGraph, src: SensorArray, dst: SensorArray, k: int, geometry: dict[str, Tensor]
) -> bool:
    return (graph.src, graph.dst, graph.k) == (src, dst, k) and all(
        getattr(graph, name).equal(value) for name, value in geometry.items()
    )


def _geometry(
    data: HeteroData, edge_type: tuple[str, str, str], src: SensorArray, dst: SensorArray
) -> dict[str, Tensor]:
    if edge_type not in data.edge_types:
        raise ValueError(f"data must have the relation {edge_type}, got only {data.edge_types}")
    edges = data[edge_type]
    missing = [name for name in GEOMETRY if name not in edges]
    if missing:
        raise ValueError(f"data[{edge_type}] must have {list(GEOMETRY)}, and lacks {missing}")
    geometry = {name: edges[name] for name in GEOMETRY}
    check_geometry(src, dst, geometry, prefix=f"data[{edge_type}].")
    # Copies, so that what is done to the data later is not done to the graph.
    return {name: values.clone() for name, values in geometry.items()}
