"""Layouts beyond the isotropic disc: the figures that were measured on the ``fovi`` package."""

import math

import pytest
import torch

from fovigraph import SensorArray
from fovigraph.geometry import Layout, Warp, register_layout

SQUARE = {"extent": "square"}
WARPED = {"layout": "warped_cartesian"}
INF = math.inf
A = (0.5, 2.0, 8.0)


def close(got, expected, tolerance=1e-6):
    torch.testing.assert_close(
        got, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=tolerance
    )


def valid(array):
    return len(array) if array.mask is None else int(array.mask.sum())


# ---- square


def test_square_counts():
    rings = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 26, 29)
    counts = [1, 5, 8, 14, 22, 34, 50, 66, 88, 111, 252, 464, 798, 1002]
    assert [len(SensorArray(r, **SQUARE)) for r in rings] == counts


@pytest.mark.parametrize(
    ("rings", "options", "kept", "field", "outer"),
    [
        (8, {}, 66, 13, 12),
        (26, {}, 798, 103, 108),
        (29, {}, 1002, 128, 160),
        (20, {"fov": 65.0, "cmf_a": 2.0}, 464, 64, 84),
    ],
)
def test_square_padding_is_what_was_cut_off_then_rings(rings, options, kept, field, outer):
    array = SensorArray(rings, **SQUARE, **options)
    radius = array.padding_polar[:, 0] / (array.fov / 2)
    assert len(array) == kept
    assert len(radius) == field + outer
    assert (radius[:field] <= math.sqrt(2) + 1e-9).all()
    assert (radius[field:] > math.sqrt(2) + 1e-3).all()
    assert (array.padding_cartesian[:field].abs().amax(1) > 1).all()


def test_square_places():
    array = SensorArray(8, **SQUARE)
    close(array.cartesian[[1, 33, -1]], [[0.0356934, 0], [0, -0.3182933], [1, 1]])
    close(array.cortical[-1], [6.7717938, 6.7717938, 28.560028], 2e-5)
    wide = SensorArray(20, fov=65.0, cmf_a=2.0, **SQUARE)
    close(wide.cartesian[1], [0.0112012, 0])
    close(wide.cortical[1], [1.5399008, 0, 0.6139266], 2e-5)


@pytest.mark.parametrize(
    ("fov", "cmf_a", "expected"),
    [
        (16, 0.5, {64: (58, 4094), 32: (29, 1002), 16: (15, 252), 8: (7, 50), 4: (4, 14)}),
        (16, 0.5, {2: (1, 1), 1: (1, 1)}),
        (65, 2, {64: (58, 4087), 32: (29, 999), 16: (15, 251), 8: (7, 49), 4: (4, 14)}),
        (100, 10, {64: (53, 4068), 32: (27, 1024), 16: (13, 223), 8: (7, 61), 4: (3, 9)}),
    ],
)
def test_square_matched(fov, cmf_a, expected):
    for side, (rings, nodes) in expected.items():
        array = SensorArray.matched(side, fov=float(fov), cmf_a=float(cmf_a), **SQUARE)
        assert (array.resolution, len(array)) == (rings, nodes)


# ---- exactly s²


@pytest.mark.parametrize(
    ("side", "rings", "padding"), [(4, 4, 10), (8, 8, 36), (16, 14, 93), (32, 27, 290)]
)
def test_a_fixed_number_of_nodes(side, rings, padding):
    array = SensorArray(side, layout="isotropic_fixn")
    assert len(array) == len(array.polar) == side**2
    assert len(array.polar[:, 0].unique()) == rings
    assert len(array.padding_polar) == padding
    assert array.polar.equal(SensorArray(side, layout="isotropic_fixn").polar)


def test_a_fixed_number_of_nodes_by_ring():
    array = SensorArray(16, layout="isotropic_fixn")
    sizes = array.polar[:, 0].unique_consecutive(return_counts=True)[1]
    assert sizes.tolist() == [1, 6, 10, 13, 16, 18, 20, 22, 23, 24, 25, 26, 26, 26]
    for size, angles in zip(sizes, array.polar[:, 1].split(sizes.tolist()), strict=True):
        close(angles, [2 * math.pi * j / int(size) for j in range(int(size))])


@pytest.mark.parametrize("side", range(1, 20))
@pytest.mark.parametrize("extent", ["circular", "square"])
def test_a_fixed_number_of_nodes_is_exact_for_every_side(side, extent):
    array = SensorArray.matched(side, layout="isotropic_fixn", extent=extent)
    assert array.resolution == side
    assert len(array) == len(array.polar) == side**2
    if extent == "circular":  # no ring has lost its only node
        assert (array.polar[:, 0] == 0).any()


def test_a_fixed_number_of_nodes_of_a_square():
    array = SensorArray(16, layout="isotropic_fixn", **SQUARE)
    radius = (array.polar[:, 0] * 1e6).round()
    counts = [1, 5, 10, 12, 16, 17, 20, 20, 22, 23, 23, 24, 25, 25, 9, 4]
    assert radius.unique(return_counts=True)[1].tolist() == counts
    assert len(array.padding_polar) == 48 + 46
    assert array.strided(2) == SensorArray(8, layout="isotropic_fixn", **SQUARE)


# ---- log-polar image


def test_logpolar_image():
    array = SensorArray(8, layout="logpolar_image")
    close(array.cartesian[[1, -1]], [[0.0311825, 0], [0.7071068, -0.7071068]])
    close(array.cortical[[1, -1]], [[1 / 7, 0], [1, 0.875]])
    assert len(array.padding_polar) == 64
    close(array.padding_cartesian[[0, -1]], [[-0.0501187, 0], [3.748323, -3.748323]])
    assert not array.polar[::8, 0].any()
    large = SensorArray(26, layout="logpolar_image")
    assert len(large.padding_cortical) == 676
    close(large.padding_cortical[[0, -1]], [[-0.52, 0], [1.52, 25 / 26]])


@pytest.mark.parametrize(
    ("side", "count", "options"),
    [
        (8, 60, {}),
        (16, 232, {}),
        (20, 368, {"fov": 65.0, "cmf_a": 2.0}),
        (26, 614, {}),
        (32, 936, {}),
        (64, 3772, {}),
    ],
)
def test_logpolar_image_of_a_square_is_masked(side, count, options):
    assert valid(SensorArray(side, layout="logpolar_image", **SQUARE, **options)) == count
    assert SensorArray(side, layout="logpolar_image", **options).mask is None


# ---- warped Cartesian


@pytest.mark.parametrize(
    ("extent", "norm", "counts"),
    [
        ("circular", 2, [52, 208, 812, 3228]),
        ("square", 2, [52, 216, 868, 3468]),
        ("circular", INF, [64, 236, 944, 3760]),
        ("square", INF, [64, 256, 1024, 4096]),
        ("wang", 2, [64, 256, 1024, 4096]),
    ],
)
def test_warped_masks(extent, norm, counts):
    arrays = [SensorArray(s, extent=extent, norm=norm, **WARPED) for s in (8, 16, 32, 64)]
    assert [valid(array) for array in arrays] == counts
    assert [len(array.padding_polar) for array in arrays] == [80, 320, 1280, 5120]


def test_warped_places():
    close(
        SensorArray(8, **WARPED).cartesian[[0, 1, 32]],
        [[-1.4280095, -1.4280095], [-1.0193108, -0.7280791], [0.0992967, -0.6950771]],
    )
    close(
        SensorArray(8, **WARPED, **SQUARE, norm=INF).cartesian[[0, 1, 32]],
        [[-0.683129, -0.683129], [-0.683129, -0.4879493], [0.0975899, -0.683129]],
    )
    wang = SensorArray(8, extent="wang", max_val=0.8, **WARPED)
    close(wang.cartesian[0], [-1.093154, -1.093154])
    squares = SensorArray(8, **SQUARE, norm=INF, max_val=0.8, **WARPED)
    close(squares.cartesian[1], [-0.5587612, -0.3991152])
    assert SensorArray(8, extent="wang", **WARPED).polar.equal(SensorArray(8, **WARPED).polar)


def test_a_lattice_of_several_magnifications():
    """Of one side and field: the same cells, and the same mask where its edge is a native one."""
    arrays = {
        options: [SensorArray(16, cmf_a=a, extent=options[0], norm=options[1], **WARPED) for a in A]
        for options in (("circular", 2), ("square", INF))
    }
    assert [valid(array) for array in arrays["circular", 2]] == [208, 208, 208]
    assert [valid(array) for array in arrays["square", INF]] == [256, 256, 256]
    first = [array.cartesian[0].tolist() for array in arrays["square", INF]]
    expected = [[x, x] for x in (-0.8275735, -0.8803799, -0.9152065)]
    assert first == [pytest.approx(each, abs=1e-6) for each in expected]
    for several in arrays.values():
        for array in several:
            close(array.cortical, several[0].cortical.tolist(), 1e-12)


@pytest.mark.parametrize("extent", ["circular", "wang"])
def test_a_warped_cortex_is_the_lattice(extent):
    array = SensorArray(6, extent=extent, max_val=0.7, **WARPED)
    axis = [0.7 * (-1 + (2 * i + 1) / 6) for i in range(6)]
    close(array.cortical, [[x, y] for x in axis for y in axis], 1e-12)


@pytest.mark.parametrize(
    ("norm", "visual", "native"),
    [
        (2, [0.2165358, 0.1082679], [0.725147, 0.3625735]),
        (INF, [0.1951941, 0.097597], [0.7755239, 0.387762]),
    ],
)
def test_the_warp_and_its_inverse(norm, visual, native):
    warp, point = Warp(16.0, 0.5, norm=norm), torch.tensor([0.5, 0.25])
    close(warp.to_visual(point), visual)
    close(warp.to_native(point), native)
    points = torch.randn(200, 2, dtype=torch.float64) * 2
    points[0] = 0
    close(warp.to_native(warp.to_visual(points)), points.tolist(), 1e-12)
    step = torch.tensor([[1e-9, 0.0]], dtype=torch.float64)  # as at 0, the limit
    torch.testing.assert_close(warp.to_visual(step), step * math.log1p(16) / 16, rtol=1e-6, atol=0)


# ---- uniform square, max_val


def test_uniform_square():
    arrays = [SensorArray(s, layout="uniform_square") for s in (7, 8, 32, 64)]
    assert [len(array.padding_polar) for array in arrays] == [105, 156, 1740, 6601]
    close(arrays[1].cartesian[1], [-0.875, -0.625])
    close(arrays[1].padding_cartesian[0], [1.3995831, 0])
    assert arrays[1].mask is None
    with pytest.raises(ValueError, match=r"layout must be one with cortical .* metric='visual'"):
        _ = arrays[0].cortical


@pytest.mark.parametrize(
    ("options", "scale"),
    [({}, 0.8000520), (SQUARE, 1.1117334), ({"layout": "logpolar_image"}, 0.8231719)],
)
def test_automatic_max_val(options, scale):
    array = SensorArray.matched(32, max_val="auto", **options).strided(4)
    assert array.cartesian.abs().max().item() == pytest.approx(scale, abs=1e-6)
    if not options:
        close(array.cartesian[-1], [0.7084109, -0.3718027])
        close(array.cortical[-1], [8.212964, -4.310496, 23.191895], 2e-5)
        assert len(array.padding_polar) == 40


# ---- all of them


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"extent": "round"}, ValueError, r"extent must be one of 'circular', 'square', 'wang'"),
        ({"extent": "wang"}, ValueError, r"extent must be 'circular' or 'square' .* got 'wang'"),
        ({"layout": "uniform_disc", **SQUARE}, ValueError, r"extent must be 'circular' for"),
        (
            {"extent": "wang", "norm": INF, **WARPED},
            ValueError,
            r"norm must be 2 for extent='wang'",
        ),
        ({"norm": INF}, ValueError, r"norm must be 2 for a layout of the kind Isotropic, got inf"),
        ({"norm": 1, **WARPED}, ValueError, r"norm must be 2 or infinity .* got 1"),
        ({"max_val": 0.0}, ValueError, r"max_val must be .*, got 0"),
        ({"max_val": -1.0}, ValueError, r"max_val must be"),
        ({"max_val": INF}, ValueError, r"max_val must be"),
        ({"max_val": "most"}, TypeError, r"max_val must be .*, got 'most'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        SensorArray(8, **options)
    with pytest.raises(error, match=message):
        SensorArray.matched(8, **options)


def test_automatic_max_val_needs_two_radii():
    with pytest.raises(ValueError, match=r"max_val must be a number .* 'auto' for resolution 2"):
        _ = SensorArray(2, layout="uniform_square", max_val="auto").polar
    assert SensorArray(1, max_val="auto").polar.tolist() == [[0, 0]]  # which no scale moves


@pytest.mark.parametrize(
    ("old", "new"), [("logpolar", "logpolar_cylinder"), ("uniform", "uniform_disc")]
)
def test_former_names_of_the_controls_still_load(old, new):
    with pytest.warns(DeprecationWarning, match=rf"'{old}' is now called '{new}'"):
        array = SensorArray(6, layout=old)
    assert array == SensorArray(6, layout=new)


def test_options_are_kept_by_other_sizes_and_tell_arrays_apart():
    array = SensorArray(12, extent="square", norm=INF, max_val=0.9, **WARPED)
    assert array.strided(3) == SensorArray(4, extent="square", norm=INF, max_val=0.9, **WARPED)
    assert array != SensorArray(12, extent="square", norm=INF, **WARPED)
    assert repr(array).endswith(
        "layout='warped_cartesian', extent='square', norm=inf, max_val=0.9)"
    )


def test_a_layout_of_a_user_and_what_may_not_be_one():
    class Spokes(Layout):
        """Four nodes on every ring, evenly from the edge in."""

        def coordinates(self):
            radii = torch.arange(1, self.resolution + 1).double() / self.resolution
            angles = torch.arange(4).double() * math.pi / 2
            return torch.cartesian_prod(radii * self.radius, angles)

        def padding(self):
            return torch.zeros(0, 2, dtype=torch.float64)

        def spacing(self, eccentricity):
            return torch.full_like(eccentricity, self.radius / self.resolution)

        def valid(self):
            return self.coordinates()[:, 0] < 0

    register_layout("spokes")(Spokes)
    array = SensorArray.matched(6, layout="spokes")
    assert (array.resolution, len(array)) == (9, 36)
    assert array.cortical.shape == (36, 3)
    with pytest.raises(ValueError, match=r"must leave a node within the field's extent, got S"):
        _ = array.mask
    with pytest.raises(ValueError, match=r"name must be new, got 'isotropic'"):
        register_layout("isotropic")(Spokes)
    with pytest.raises(ValueError, match=r"name must be new, got 'uniform'"):
        register_layout("uniform")(Spokes)
    with pytest.raises(TypeError, match=r"layout must be a class of Layout, got 3"):
        register_layout("three")(3)
