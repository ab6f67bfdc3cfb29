"""Positions: their axes, their formulas, and how they follow a network."""

import math

import pytest
import torch

import fovigraph as fg
from fovigraph.graph import PatchStep
from fovigraph.nn import CyclicShift, LearnedPosition, Rotary, SinusoidalPosition, positions_of

PUBLISHED = PatchStep().next_level(fg.SensorArray.matched(64, cmf_a=2.785765))
PATCHES = fg.SensorArray.matched(6)


def test_visual_positions_are_row_and_column_with_the_edge_at_one():
    """Upstream's first three, whose first patch is off the centre by a rounding."""
    expected = torch.tensor([(0, 0), (0, 0.090962), (-0.078776, 0.045481)]).double()
    torch.testing.assert_close(positions_of(PUBLISHED)[:3], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("layout", "axes"), [("isotropic", 3), ("logpolar_cylinder", 3), ("uniform_disc", 2)]
)
def test_cortical_positions_have_the_axes_of_the_surface(layout, axes):
    array = fg.SensorArray.matched(12, layout=layout)
    places = positions_of(array, "cortical")
    assert places.shape == (len(array), axes)
    assert places.abs().max() == pytest.approx(1)
    apart, true = torch.pdist(places), torch.pdist(array.cortical)
    torch.testing.assert_close(apart / apart[0], true / true[0])


def test_rotary_angles_are_dinov3s():
    rotary = Rotary(PUBLISHED, 64)
    row, column = positions_of(PUBLISHED)[7].tolist()
    frequencies = [100 ** (-4 * j / 64) for j in range(16)]
    angles = [2 * math.pi * place * f for place in (row, column) for f in frequencies] * 2
    torch.testing.assert_close(rotary.cos[7], torch.tensor(angles).cos())
    torch.testing.assert_close(rotary.sin[7], torch.tensor(angles).sin())
    cortical = Rotary(PUBLISHED, 64, "cortical")
    assert (cortical.sin != 0).any(0).sum() == 60  # ten pairs an axis; two are left as they are


def test_sinusoids_and_shift_are_upstreams():
    x, y = (
        (axis - axis.min()) / (axis.max() - axis.min()) for axis in PATCHES.cartesian.unbind(-1)
    )
    encoding = SinusoidalPosition(PATCHES, 8)(torch.zeros(len(PATCHES), 8))
    for i in range(4):
        omega = 10000 ** (-2 * i / 8)
        torch.testing.assert_close(encoding[:, 2 * i], (x * omega).sin().float())
        torch.testing.assert_close(encoding[:, 2 * i + 1], (y * omega).cos().float())
    q = torch.randn(1 + len(PATCHES), 8)
    out = CyclicShift(PATCHES, 8)(q)
    assert out[0].equal(q[0])
    for c in range(8):
        place, half = (x, 0) if c < 4 else (y, 4)
        angle = (place * 10000 ** (-4 * ((c - half) // 2) / 8)).float()
        before = q[1:, half + (c - half - 1) % 4]
        torch.testing.assert_close(out[1:, c], q[1:, c] * angle.cos() + before * angle.sin())


def test_positions_keep_their_precision_and_are_not_saved():
    rotary = Rotary(PATCHES, 8).half()
    assert rotary.cos.dtype == torch.float32
    assert rotary(torch.rand(len(PATCHES), 8).half()).dtype == torch.float16
    assert not rotary.state_dict()
    assert Rotary(PATCHES, 8).double().sin.dtype == torch.float64
    learned = LearnedPosition(5, 3)
    assert learned(torch.zeros(2, 5, 3))[1].equal(learned.weight)
