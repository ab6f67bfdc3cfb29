"""Calibrated cameras: figures that must come out, OpenCV's own projections, and files."""

import math

import numpy as np
import pytest
import torch
import yaml

from fovigraph.sensing import (
    CalibrationError,
    Camera,
    field_rays,
    gaze_rotation,
    read_camera,
)

SIZE = (480, 640)
CAMERAS = {
    "A": Camera("pinhole", SIZE, (500, 500, 319.5, 239.5)),
    "B": Camera("pinhole", SIZE, (500, 510, 320, 240), (-0.28, 0.07, 0.001, -0.0005, 0.01)),
    "C": Camera(
        "pinhole",
        SIZE,
        (500, 510, 320, 240),
        (0.1, 0.02, 0.001, -0.0005, 0.003, 0.05, 0.01, 0.002),
    ),
    "D": Camera("fisheye", SIZE, (200, 200, 319.5, 239.5), max_angle_deg=100),
    "E": Camera(
        "fisheye",
        SIZE,
        (200, 205, 320, 240),
        (0.02, -0.01, 0.003, -0.0005),
        (320, 240, 230),
        95,
    ),
}


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


# ---- figures


@pytest.mark.parametrize(
    ("name", "pixel"),
    [
        ("A", (469.5, 139.5)),
        ("B", (464.583245, 141.727593)),
        ("C", (470.856546, 137.461749)),
        ("D", (377.08569, 201.10954)),
        ("E", (377.715639, 200.56098)),
    ],
)
def test_a_direction_projects_to_a_pixel(name, pixel):
    found = CAMERAS[name].project(double(0.3, -0.2, 1))
    assert found.valid
    torch.testing.assert_close(found.pixels, double(*pixel), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("A", (-0.37975409, -0.32785148, 0.86504349)),
        ("B", (-0.41258467, -0.34988884, 0.84104203)),
        ("C", (-0.37634416, -0.31904332, 0.86981402)),
        ("D", (-0.75141601, -0.64871678, 0.12058407)),
        ("E", (-0.75556231, -0.6366157, 0.15442165)),
    ],
)
def test_a_pixel_shows_a_direction(name, direction):
    found = CAMERAS[name].unproject(double(100, 50))
    assert found.valid == (name != "E")  # outside the image circle
    torch.testing.assert_close(found.directions, double(*direction), atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("name", "angles"),
    [
        ("A", (65.2384861, 51.2820116, 35.4893433)),
        ("B", (72.6324734, 53.5054469, 36.5013162)),
        ("C", (64.1713287, 49.9133067, 35.318948)),
        ("D", (183.3464944, 137.5098708, 91.6732472)),
        ("E", (180.6517876, 132.2496563, 90.829842)),
    ],
)
def test_fields_of_view(name, angles):
    camera = CAMERAS[name]
    found = camera.field_of_view(), camera.field_of_view("short"), camera.field_of_view("long", 0.5)
    assert found == pytest.approx(angles, abs=1e-6)


def test_another_size():
    half = CAMERAS["B"].resized((240, 320))
    assert half.intrinsics == (250, 255, 159.75, 119.75)
    assert CAMERAS["E"].resized((240, 320)).image_circle == (159.75, 119.75, 115)
    with pytest.raises(ValueError, match="image_size must have the aspect of"):
        CAMERAS["E"].resized((240, 640))


@pytest.mark.parametrize(
    ("fov", "ray"),
    [(90, (0.37282173, 0.37282173, 0.84971049)), (180, (0.63358107, 0.63358107, 0.44401584))],
)
def test_rays_of_a_field_whose_eccentricity_is_an_angle(fov, ray):
    torch.testing.assert_close(field_rays(double(0.5, -0.5), fov), double(*ray), atol=1e-8, rtol=0)
    assert field_rays(double(0, 0), fov).tolist() == [0, 0, 1]


ROTATIONS = {
    "camera_xyz": (
        (0.95935081, 0, 0.28221626),
        (0.05534716, 0.98058068, -0.18814417),
        (-0.27673581, 0.19611614, 0.94072087),
    ),
    "pan_tilt": (
        (0.95782629, 0.05406283, 0.28221626),
        (0, 0.98214142, -0.18814417),
        (-0.28734789, 0.18020943, 0.94072087),
    ),
}


@pytest.mark.parametrize("convention", ROTATIONS)
def test_gaze_as_a_rotation(convention):
    found = gaze_rotation(double(0.3, -0.2, 1), convention)
    torch.testing.assert_close(found, double(*ROTATIONS[convention]), atol=1e-8, rtol=0)
    fixations = torch.rand(50, 2, dtype=torch.float64)
    rotations, valid = CAMERAS["B"].gaze(fixations, convention)
    eye = torch.eye(3, dtype=torch.float64).expand(50, 3, 3)
    torch.testing.assert_close(rotations @ rotations.mT, eye, atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(50).double())
    pixels = CAMERAS["B"].project(rotations[:, :, 2]).pixels
    wanted = torch.stack((fixations[:, 1] * 640 - 0.5, fixations[:, 0] * 480 - 0.5), dim=1)
    assert valid.all()
    torch.testing.assert_close(pixels, wanted, atol=1e-9, rtol=0)


# ---- there and back


@pytest.mark.parametrize("name", CAMERAS)
def test_what_is_unprojected_projects_back(name):
    camera = CAMERAS[name]
    pixels = torch.rand(2000, 2, dtype=torch.float64) * double(640, 480) - 0.5
    found = camera.unproject(pixels)
    back = camera.project(found.directions)
    assert found.valid.float().mean() > 0.5
    assert (back.pixels - pixels)[found.valid].abs().max() < 1e-9
    torch.testing.assert_close(found.directions.norm(dim=1), torch.ones(2000).double())
    assert (found.valid <= back.valid).all()


@pytest.mark.parametrize("name", CAMERAS)
def test_gradients_are_right(name):
    camera = CAMERAS[name]
    directions = double((0.3, -0.2, 1), (-0.1, 0.4, 0.9)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: camera.project(x).pixels, (directions,))
    pixels = double((300, 200), (350, 310)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: camera.unproject(x).directions, (pixels,))
    ahead = double(0, 0, 1).requires_grad_()
    camera.project(ahead).pixels.sum().backward()
    assert ahead.grad.isfinite().all()


def test_what_a_camera_does_not_see():
    camera = CAMERAS["A"]
    seen = camera.project(
        double((0, 0, 1), (0, 0, -1), (1, 0, 0), (0, 0.6, 1), (float("nan"), 0, 1))
    )
    assert seen.valid.tolist() == [True, False, False, False, False]
    edges = camera.unproject(double((-0.5, -0.5), (639.5, 0), (0, 479.49)))
    assert edges.valid.tolist() == [True, False, True]
    wide = CAMERAS["D"]
    behind = double(math.sin(math.radians(99)), 0, math.cos(math.radians(99)))
    beyond = double(math.sin(math.radians(101)), 0, math.cos(math.radians(101)))
    tall = Camera("fisheye", (900, 900), (200, 200, 449.5, 449.5), max_angle_deg=100)
    assert tall.project(behind).valid
    assert not tall.project(beyond).valid
    assert not wide.project(behind).valid  # beyond the image


@pytest.mark.parametrize("model", ["pinhole", "fisheye"])
def test_projections_are_opencvs(model):
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(0)
    for _ in range(1000):
        fx, fy = random.uniform(100, 900, 2)
        cx, cy = random.uniform(100, 500, 2)
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        points = np.stack((*random.uniform(-0.8, 0.8, (2, 5)), random.uniform(0.8, 2, 5)), axis=1)
        nothing = np.zeros(3)
        if model == "pinhole":
            count = random.choice([0, 4, 5, 8])
            distortion = random.uniform(-0.05, 0.05, count)
            expected, _ = cv2.projectPoints(points, nothing, nothing, matrix, distortion)
        else:
            distortion = random.uniform(-0.02, 0.02, 4)
            expected, _ = cv2.fisheye.projectPoints(
                points[:, None], nothing, nothing, matrix, distortion
            )
        camera = Camera(model, SIZE, (fx, fy, cx, cy), tuple(distortion))
        found = camera.project(torch.from_numpy(points)).pixels
        np.testing.assert_allclose(found, expected[:, 0], atol=1e-9, rtol=0)


# ---- files

OPENCV = """%YAML:1.0
---
calibration_time: "Fri 27 Nov 2026"
image_width: 640
image_height: 480
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 500., 0., 320., 0., 510., 240., 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 5
   cols: 1
   dt: d
   data: [ -0.28, 0.07, 0.001, -0.0005, 0.01 ]
"""

ROS = """
image_width: 640
image_height: 480
camera_name: wide
camera_matrix: {rows: 3, cols: 3, data: [200, 0, 320, 0, 205, 240, 0, 0, 1]}
distortion_model: equidistant
distortion_coefficients: {rows: 1, cols: 4, data: [0.02, -0.01, 0.003, -0.0005]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
"""


def test_opencvs_files(tmp_path):
    (tmp_path / "camera.yml").write_text(OPENCV)
    assert read_camera(tmp_path / "camera.yml") == CAMERAS["B"]
    assert read_camera(str(tmp_path / "camera.yml"), "pinhole") == CAMERAS["B"]


def test_a_file_that_opencv_writes(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "written.yml"
    file = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    file.write("image_width", 640)
    file.write("image_height", 480)
    file.write("camera_matrix", np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]]))
    file.write("distortion_coefficients", np.array([[-0.28, 0.07, 0.001, -0.0005, 0.01]]))
    file.release()
    assert read_camera(path) == CAMERAS["B"]


def test_ross_files(tmp_path):
    (tmp_path / "camera.yaml").write_text(ROS)
    found = read_camera(tmp_path / "camera.yaml")
    assert found.model == "fisheye"
    assert found.intrinsics == CAMERAS["E"].intrinsics
    assert found.distortion == CAMERAS["E"].distortion


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_our_own_files(camera, tmp_path):
    (tmp_path / "camera.yaml").write_text(yaml.safe_dump(camera.to_dict()))
    assert read_camera(tmp_path / "camera.yaml") == camera
    assert Camera.from_dict(camera.to_dict()) == camera


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "must be a camera's calibration"),
        (b"3", "must be a camera's calibration, a mapping, got 3"),
        (b"a: [1", "must be a camera's calibration in YAML"),
        (b"a: 1", "must have the key camera_matrix .* got a"),
        (b"camera_matrix: 3", "camera_matrix must be a list of numbers, got 3"),
        (b"camera_matrix: [1, 2]", "camera_matrix must have 9 numbers, got 2"),
        (b"camera_matrix: [1, 1, 0, 0, 1, 0, 0, 0, 1]", "must have no skew, got 1"),
        (b"camera_matrix: [1, 0, 0, 0, 1, 0, 0, 0, 1]", "must have the keys image_height"),
        (
            b"{camera_matrix: [1, 0, 0, 0, 1, 0, 0, 0, 1], distortion_model: thin}",
            "distortion_model must be one of .* got 'thin'",
        ),
        (b"!!python/object/apply:os.system [ls]", "must be a camera's calibration in YAML"),
    ],
)
def test_a_file_that_is_none_is_refused(content, message, tmp_path):
    (tmp_path / "camera.yaml").write_bytes(content)
    with pytest.raises(CalibrationError, match=message):
        read_camera(tmp_path / "camera.yaml")


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "orthographic"}, ValueError, "model must be one of"),
        ({"image_size": (0, 640)}, ValueError, r"image_size\[0\] must be at least 1, got 0"),
        ({"image_size": (480.5, 640)}, TypeError, r"image_size\[0\] must be a whole number"),
        ({"image_size": (480,)}, ValueError, "image_size must have 2 numbers, got 1"),
        ({"image_size": "480"}, TypeError, "image_size must be a list of 2 numbers, got '480'"),
        ({"image_size": {480, 640}}, TypeError, "image_size must be a list"),
        ({"intrinsics": (500, 500, 320)}, ValueError, "intrinsics must have 4 numbers, got 3"),
        ({"intrinsics": (0, 500, 320, 240)}, ValueError, "intrinsics must have fx above 0, got 0"),
        ({"intrinsics": (500, 500, math.nan, 240)}, ValueError, r"intrinsics\[2\] must be finite"),
        ({"intrinsics": (True, 500, 1, 1)}, TypeError, r"intrinsics\[0\] must be a finite number"),
        ({"distortion": (1, 2)}, ValueError, "distortion must have 0 or 4 or 5 or 8 numbers"),
        ({"distortion": {"k1": 1}}, TypeError, "distortion must be a list"),
        ({"image_circle": (320, 240, 0)}, ValueError, "image_circle must have a radius above 0"),
        ({"max_angle_deg": 91}, ValueError, r"max_angle_deg of a pinhole must be in \(0, 90\]"),
        ({"model": "fisheye", "max_angle_deg": 180}, ValueError, r"must be in \(0, 180\), got 180"),
        ({"model": "fisheye", "distortion": (1,) * 5}, ValueError, "must have 0 or 4 numbers"),
    ],
)
def test_what_is_no_camera_is_refused(arguments, error, message):
    given = {"model": "pinhole", "image_size": SIZE, "intrinsics": (500, 500, 320, 240)}
    with pytest.raises(error, match=message):
        Camera(**given | arguments)


def test_mappings_that_are_no_cameras_are_refused():
    with pytest.raises(TypeError, match="values must be a mapping of a camera's arguments, got 3"):
        Camera.from_dict(3)
    with pytest.raises(TypeError, match=r"got 'modle' \(did you mean 'model'\?\)"):
        Camera.from_dict({"modle": "pinhole"})
    with pytest.raises(TypeError, match="a camera must have the key intrinsics"):
        Camera.from_dict({"model": "pinhole", "image_size": [4, 4]})


def test_tensors_of_other_shapes_are_refused():
    camera = CAMERAS["A"]
    with pytest.raises(ValueError, match="directions must have shape"):
        camera.project(torch.rand(3, 2))
    with pytest.raises(TypeError, match="pixels must be floating point"):
        camera.unproject(torch.ones(3, 2).long())
    with pytest.raises(ValueError, match="side must be one of"):
        camera.field_of_view("wide")
    with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\], got 2"):
        camera.field_of_view(fraction=2)
    with pytest.raises(ValueError, match="convention must be one of"):
        camera.gaze(torch.rand(1, 2), "euler")
