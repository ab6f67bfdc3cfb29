"""Choosing *a* by a camera: the figures that were published, and what is refused."""

import pytest

from fovigraph.sensing import Camera, cmf_a_of_camera
from fovigraph.sensing.choosing import _most_rings, _rings

A = Camera("pinhole", (480, 640), (500, 500, 319.5, 239.5))
B = Camera("pinhole", (480, 640), (500, 510, 320, 240), (-0.28, 0.07, 0.001, -0.0005, 0.01))
D = Camera("fisheye", (480, 640), (200, 200, 319.5, 239.5), max_angle_deg=100)
E = Camera(
    "fisheye", (480, 640), (200, 205, 320, 240), (0.02, -0.01, 0.003, -0.0005), (320, 240, 230), 95
)


@pytest.mark.parametrize(
    ("camera", "fov", "size", "cmf_a"),
    [
        (A, 60, {"resolution": 26}, 0.70255),
        (A, 60, {"side": 32}, 0.83032),
        (A, 60, {"side": 64}, 2.0790),
        (B, 60, {"resolution": 26}, 0.70255),
        (E, 120, {"resolution": 26}, 1.92279),
        (D, 120, {"side": 32}, 2.1630),
        (D, 180, {"side": 32}, 2.0412),
    ],
)
def test_the_first_ring_lies_a_pixel_from_the_gaze(camera, fov, size, cmf_a):
    assert cmf_a_of_camera(camera, fov, **size) == pytest.approx(cmf_a, rel=1e-3)


@pytest.mark.parametrize(
    ("fov", "cmf_a", "side", "rings", "nodes"),
    [
        (16, 0.5, 64, 53, 4084),
        (16, 0.5, 8, 7, 60),
        (65, 2, 64, 53, 4023),
        (65, 2, 4, 4, 16),
        (180, 2.0412, 32, 30, 990),
    ],
)
def test_rings_on_a_sphere_have_as_many_nodes_as_published(fov, cmf_a, side, rings, nodes):
    assert _most_rings(fov, cmf_a, side**2) == rings
    assert _rings(fov, cmf_a, rings)[1].sum() == nodes


@pytest.mark.parametrize(
    ("fov", "size", "message"),
    [
        (181, {"side": 32}, "fov must be from"),
        (60, {}, "exactly one of resolution and side"),
        (60, {"side": 32, "resolution": 26}, "exactly one of resolution and side"),
        (60, {"resolution": 1}, "resolution must be at least 2, got 1"),
        (60, {"resolution": 4000}, "no cmf_a puts the first ring a pixel from the gaze"),
    ],
)
def test_what_no_magnification_is_chosen_for(fov, size, message):
    with pytest.raises(ValueError, match=message):
        cmf_a_of_camera(A, fov, **size)


def test_a_camera_is_a_camera():
    with pytest.raises(TypeError, match="camera must be a Camera"):
        cmf_a_of_camera("A", 60, side=32)
