"""Cameras read from calibration files: OpenCV's, ROS's and our own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import yaml

from fovigraph._checks import path_of, shown
from fovigraph.sensing.camera import Camera

FISHEYE = ("equidistant", "fisheye")
"""Names of the fisheye model in ROS's files."""

PINHOLE = ("plumb_bob", "rational_polynomial", "radial-tangential", "radtan")


class CalibrationError(ValueError):
    """A file that is no camera's calibration."""


class _Loader(yaml.SafeLoader):
    """Reads plain YAML, and OpenCV's matrices as the mappings that they are."""


def _matrix(loader: _Loader, node: yaml.Node) -> dict[Any, Any]:
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", _matrix)


def read_camera(path: str | os.PathLike[str], model: str | None = None) -> Camera:
    """Read a camera from a calibration file.

    Three forms of YAML are known: that of OpenCV's calibration sample (``image_width``,
    ``camera_matrix``, ``distortion_coefficients``), that of ROS's ``camera_info`` files
    (``distortion_model`` besides), and our own (:meth:`Camera.to_dict`).

    Args:
        path: The file.
        model: ``"pinhole"`` or ``"fisheye"``, where the file does not say which: OpenCV's files do
            not always, and are then taken for a pinhole's.

    Raises:
        CalibrationError: If the file is not one of these.
        OSError: If it cannot be read.
        ValueError, TypeError: If a value in it is not of its kind.

    Example:
        >>> import tempfile, yaml
        >>> from pathlib import Path
        >>> from fovigraph.sensing import Camera, read_camera
        >>> camera = Camera("pinhole", (480, 640), (500, 500, 319.5, 239.5))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "camera.yaml"
        ...     _ = file.write_text(yaml.safe_dump(camera.to_dict()))
        ...     read_camera(file) == camera
        True
    """
    path = path_of("path", path)
    text = path.read_bytes()
    if text.startswith(b"%YAML:1.0"):  # OpenCV's own header, which is not YAML's
        text = text.split(b"\n", 1)[-1]
    try:
        content = yaml.load(text, _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path} must be a camera's calibration in YAML: {error}") from None
    if not isinstance(content, Mapping):
        raise CalibrationError(
            f"{path} must be a camera's calibration, a mapping, got {shown(content)}"
        )
    if "intrinsics" in content:
        return Camera.from_dict(content)
    if "camera_matrix" not in content and "Camera_Matrix" not in content:
        raise CalibrationError(
            f"{path} must have the key camera_matrix (OpenCV, ROS) or intrinsics (fovigraph), "
            f"got {', '.join(map(str, content))[:200] or 'nothing'}"
        )
    return _matrix_camera(path, content, model)


def _matrix_camera(path: Any, content: Mapping[str, Any], model: str | None) -> Camera:
    """Return the camera of a file with a camera matrix."""
    matrix = _values(path, content, ("camera_matrix", "Camera_Matrix"))
    if len(matrix) != 9:
        raise CalibrationError(f"{path}: camera_matrix must have 9 numbers, got {len(matrix)}")
    fx, skew, cx, _, fy, cy = matrix[:6]
    if skew != 0:
        raise CalibrationError(f"{path}: camera_matrix must have no skew, got {shown(skew)}")
    distortion = _values(
        path, content, ("distortion_coefficients", "Distortion_Coefficients", "dist_coeffs")
    )
    kind = content.get("distortion_model")
    if kind is not None:
        if kind not in (*FISHEYE, *PINHOLE):
            names = ", ".join((*PINHOLE, *FISHEYE))
            raise CalibrationError(
                f"{path}: distortion_model must be one of {names}, got {shown(kind)}"
            )
        found = "fisheye" if kind in FISHEYE else "pinhole"
    elif content.get("fisheye_model"):
        found = "fisheye"
    else:
        found = model or "pinhole"
    height, width = (
        content.get(f"image_{side}", content.get(f"image_{side}".title()))
        for side in ("height", "width")
    )
    if height is None or width is None:
        raise CalibrationError(f"{path} must have the keys image_height and image_width")
    while distortion and len(distortion) > 8 and distortion[-1] == 0:
        distortion = distortion[:-1]  # OpenCV may write 12 or 14, the last of which are zero
    while len(distortion) in (6, 7):
        distortion = [*distortion, 0.0]
    if found == "fisheye" and len(distortion) > 4 and not any(distortion[4:]):
        distortion = distortion[:4]
    return Camera(found, (height, width), (fx, fy, cx, cy), tuple(distortion))


def _values(path: Any, content: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    """Return the numbers of a matrix: a mapping with ``data``, a list, or a list of rows."""
    value: Any = next((content[name] for name in names if name in content), [])
    if isinstance(value, Mapping):
        value = value.get("data", [])
    if not isinstance(value, list):
        raise CalibrationError(f"{path}: {names[0]} must be a list of numbers, got {shown(value)}")
    return [each for row in value for each in (row if isinstance(row, list) else [row])]
