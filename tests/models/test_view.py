"""A network from the samples of one view on."""

import pytest
import torch

import fovigraph as fg
from fovigraph.models import OneView


@pytest.fixture(scope="module")
def net():
    return fg.FoviNet(fg.load_config("fovi_tiny", ["retina.side=16"])).eval()


def test_it_classifies_the_samples_of_views(net):
    image, where = torch.rand(1, 3, 32, 32), [[0.5, 0.5], [0.2, 0.7]]
    samples = net.retina(image, where)[0]
    wanted = net(image, where).fixation_logits[0]
    torch.testing.assert_close(OneView(net)(samples), wanted)
    torch.testing.assert_close(OneView(net)(samples[1]), wanted[1:], rtol=1e-4, atol=1e-5)


def test_what_is_no_network_or_no_samples_is_named(net):
    with pytest.raises(TypeError, match="net must be a FoviNet, got 'fovi_tiny'"):
        OneView("fovi_tiny")
    with pytest.raises(TypeError, match=r"net must be a FoviNet, got Linear\("):
        OneView(torch.nn.Linear(2, 2))
    assert OneView(torch.compile(net, backend="eager")).net.pyramid is net.pyramid
    for wrong in (None, [[1.0, 2.0]]):
        with pytest.raises(TypeError, match=r"x must be a torch\.Tensor"):
            OneView(net)(wrong)
    with pytest.raises(ValueError, match=r"x must be \[..., \d+ nodes, channels\], got shape"):
        OneView(net)(torch.rand(4, 3))
