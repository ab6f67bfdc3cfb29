"""The check of annotated shapes, which all other tests run under."""

import jaxtyping
import pytest
import torch
from conftest import SHAPES
from jaxtyping import Float
from shapes import checked
from torch import Tensor

import fovigraph as fg


@pytest.mark.parametrize("package", ["geometry", "graph", "models", "nn", "ops", "sensing"])
def test_every_package_states_shapes(package):
    assert any(name.startswith(f"fovigraph.{package}.") for name in SHAPES)


@pytest.mark.parametrize(
    "name",
    [
        "models.fovinet.FoviNet.forward",
        "nn.knn_conv.KNNConv.forward",
        "nn.norm.BatchNorm.forward",
        "ops.knn_conv.knn_conv",
        "ops.knn_pool.knn_pool",
        "sensing.retina.Retina.forward",
    ],
)
def test_what_users_call_states_shapes(name):
    assert f"fovigraph.{name}" in SHAPES


def test_arguments_and_result_are_checked_together():
    def transposed(x: Float[Tensor, "N C"]) -> Float[Tensor, "C N"]:
        return x.T if len(x) > 2 else x

    function = checked(transposed)
    assert function(torch.rand(3, 2)).shape == (2, 3)
    with pytest.raises(jaxtyping.TypeCheckError, match="result"):
        function(torch.rand(2, 3))


def test_the_packages_own_errors_come_first(graph):
    with pytest.raises(ValueError, match="x must have 3 channels"):
        fg.nn.KNNConv(3, 4, 3)(torch.rand(2, graph.num_src, 5), graph)
