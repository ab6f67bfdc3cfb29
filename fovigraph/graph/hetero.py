"""Levels and graphs as PyG's ``HeteroData``, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage

from fovigraph._checks import instance, one_of
from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import isolated
from fovigraph.graph.kernel_map import nearest_cell
from fovigraph.graph.knn_graph import GEOMETRY, METRICS, KNNGraph, check_geometry
from fovigraph.graph.step import Step

ARRAY = ("resolution", "fov", "cmf_a", "layout", "field_geometry")
UNUSUAL = {"extent": "circular", "norm": 2.0, "max_val": 1.0, "at_least": False}
"""What else describes an array, and is written where it is not this."""

EdgeType = tuple[str, str, str]
"""PyG's name of edges: ``(level, kind, level)``."""


@isolated
def to_data(
    levels: Mapping[str, SensorArray],
    graphs: Mapping[EdgeType, KNNGraph],
    kernel_sizes: Mapping[EdgeType, int | None],
) -> HeteroData:
    """Return levels and the graphs between them as PyG data.

    Args:
        levels: The levels, by name.
        graphs: The graphs.
        kernel_sizes: Side of the reference kernel of those that are convolutions'.
    """
    data = HeteroData()
    for name, level in levels.items():
        data[name].num_nodes = len(level)
        data[name].pos = data[name].cartesian = level.cartesian.float()
        data[name].polar = level.polar.float()
        if level.has_cortex:
            data[name].cortical = level.cortical.float()
        if level.mask is not None:
            data[name].mask = level.mask.clone()
    for edge_type, graph in graphs.items():
        edges, kernel_size = _put(data, edge_type, graph), kernel_sizes.get(edge_type)
        if kernel_size is not None:
            edges.cell = nearest_cell(edges.offset, kernel_size)
    return data


def write_recipe(
    data: HeteroData,
    retina: SensorArray,
    steps: Iterable[Step],
    metric: str,
    k: Sequence[int],
    between: Sequence[tuple[int, int, int, int | None]],
) -> None:
    """Add to PyG data what else its pyramid is made of, which :func:`read_recipe` reads.

    Args:
        data: The data.
        retina: The lowest level.
        steps: The steps up.
        metric: Nearness that neighbours were found by.
        k: Neighbours of every step.
        between: The other connections: both levels, k and kernel_size.
    """
    recipe = {
        "retina": {
            **{name: getattr(retina, name) for name in (*ARRAY, "side")},
            **{n: v for n, usual in UNUSUAL.items() if (v := getattr(retina, n)) != usual},
        },
        "steps": [asdict(step) for step in steps],
        "metric": metric,
        "k": k,
        "between": between,
    }
    data.recipe = json.dumps(recipe)


def _put(data: HeteroData, edge_type: EdgeType, graph: KNNGraph) -> EdgeStorage:
    edges, tensors = data[edge_type], graph.fixed_tensors()
    for name in GEOMETRY:
        edges[name] = tensors[name].clone()  # so that what is done to the data, is done to it alone
    return edges


def read_recipe(data: HeteroData) -> dict[str, Any]:
    """Return what the pyramid in ``data`` was made of.

    The ``"retina"``, the arguments of every one of the ``"steps"``, the ``"metric"``, every step's
    ``"k"``, and the connections ``"between"`` other levels.

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
        if "stages" in content:  # as release 0.1 wrote it
            content["steps"] = content.pop("stages")
        content.setdefault("between", [])
        content["retina"] = _read_array(content["retina"])
        one_of("metric", content["metric"], METRICS)
        if len(content["k"]) != len(content["steps"]):
            raise ValueError(f"{len(content['steps'])} steps and {len(content['k'])} k")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise not_as_written(error) from error
    return content


def not_as_written(error: Exception) -> ValueError:
    """Return the error of a recipe that was changed."""
    return ValueError(
        "data.recipe must be as GraphPyramid.to_hetero_data writes it, and is not: "
        f"{type(error).__name__}: {error}"
    )


def _read_array(recipe: dict[str, Any]) -> SensorArray:
    options = {name: recipe[name] for name in ARRAY[1:]}
    options |= {name: recipe[name] for name in UNUSUAL if name in recipe}
    at_least = options.pop("at_least", False)
    if recipe["side"] is not None:
        return SensorArray.matched(recipe["side"], at_least=at_least, **options)
    return SensorArray(recipe["resolution"], **options)


def read_graphs(
    data: HeteroData,
    levels: Mapping[str, SensorArray],
    k: Mapping[EdgeType, int],
    metric: str,
    known: Iterable[KNNGraph] = (),
) -> list[KNNGraph]:
    """Return graphs as ``data`` has them; equal ones are one object.

    Args:
        data: The data.
        levels: The levels, by name.
        k: Neighbours in each of the graphs.
        metric: Nearness that neighbours were found by.
        known: Graphs that were read before.

    Raises:
        ValueError: If a relation, or an attribute of one, is missing or does not fit its levels.
    """
    graphs: list[KNNGraph] = []
    for edge_type, count in k.items():
        src, dst = levels[edge_type[0]], levels[edge_type[2]]
        geometry = _geometry(data, edge_type, src, dst)
        same = (each for each in (*known, *graphs) if _is(each, src, dst, count, geometry))
        graph = next(same, None) or KNNGraph(src, dst, count, metric, **geometry)
        graphs.append(graph)
    return graphs


def _is(
    graph: KNNGraph, src: SensorArray, dst: SensorArray, k: int, geometry: dict[str, Tensor]
) -> bool:
    return (graph.src, graph.dst, graph.k) == (src, dst, k) and all(
        getattr(graph, name).equal(value) for name, value in geometry.items()
    )


def _geometry(
    data: HeteroData, edge_type: EdgeType, src: SensorArray, dst: SensorArray
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
