"""Calibrated cameras: from directions to pixels and back.

Camera axes are x to the right, y *down* and z forward; pixels are (column, row), whose centres are
at whole numbers. Angles are degrees where an argument or attribute says so, else radians.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fovigraph._checks import finite_float, nearest, one_of, positive_int, shown
from fovigraph._tensors import float_tensor

MODELS = ("pinhole", "fisheye")
GAZES = ("camera_xyz", "pan_tilt")
SIDES = ("long", "short")
DISTORTIONS = {"pinhole": (0, 4, 5, 8), "fisheye": (0, 4)}
"""How many coefficients of distortion a model may have."""

NEWTON_STEPS = 12
CLOSE = 1e-3
"""Pixels within which what was unprojected must project back."""

TINY = 1e-12
"""Below this, a distance from the optical axis is zero."""


class Projected(NamedTuple):
    """What a camera makes of directions.

    Attributes:
        pixels: (column, row), ``[*, 2]``.
        valid: Whether the camera sees them, ``[*]``.
    """

    pixels: Tensor
    valid: Tensor


class Rays(NamedTuple):
    """What a camera makes of pixels.

    Attributes:
        directions: Unit vectors, ``[*, 3]``.
        valid: Whether the pixels are the camera's and could be inverted, ``[*]``.
    """

    directions: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Camera:
    """A calibrated camera.

    ``"pinhole"`` is the perspective camera with OpenCV's radial and tangential distortion (and its
    rational form, of 8 coefficients); ``"fisheye"`` is OpenCV's fisheye camera (Kannala & Brandt
    2006), in which the distance from the centre follows the angle.

    Args:
        model: ``"pinhole"`` or ``"fisheye"``.
        image_size: Height and width of the images, pixels.
        intrinsics: Focal lengths and centre (fx, fy, cx, cy), pixels.
        distortion: Coefficients: of a pinhole k1, k2, p1, p2, then perhaps k3, then k4 to k6; of a
            fisheye k1 to k4; empty for none.
        image_circle: Column and row of the centre and the radius of the circle that the lens
            lights, pixels; ``None``: it lights all of the image.
        max_angle_deg: Largest angle to the optical axis, degrees: up to 90 for a pinhole, below 180
            for a fisheye.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch
        >>> from fovigraph.sensing import Camera
        >>> camera = Camera("pinhole", (480, 640), (500, 500, 319.5, 239.5))
        >>> camera.project(torch.tensor([0.3, -0.2, 1.0])).pixels
        tensor([469.5000, 139.5000])
        >>> round(camera.field_of_view("long"), 2)
        65.24
    """

    model: str
    image_size: tuple[int, int]
    intrinsics: tuple[float, float, float, float]
    distortion: tuple[float, ...] = ()
    image_circle: tuple[float, float, float] | None = None
    max_angle_deg: float = 90.0

    def __post_init__(self) -> None:
        one_of("model", self.model, MODELS)
        size = _items("image_size", self.image_size, (2,))
        size = [positive_int(f"image_size[{i}]", value) for i, value in enumerate(size)]
        intrinsics = _numbers("intrinsics", self.intrinsics, (4,))
        for name, value in zip(("fx", "fy"), intrinsics, strict=False):
            if value <= 0:
                raise ValueError(f"intrinsics must have {name} above 0, got {value:g}")
        distortion = _numbers("distortion", self.distortion, DISTORTIONS[self.model])
        circle = None
        if self.image_circle is not None:
            circle = _numbers("image_circle", self.image_circle, (3,))
            if circle[2] <= 0:
                raise ValueError(f"image_circle must have a radius above 0, got {circle[2]:g}")
        angle = finite_float("max_angle_deg", self.max_angle_deg)
        if self.model == "pinhole" and not 0 < angle <= 90:
            raise ValueError(f"max_angle_deg of a pinhole must be in (0, 90], got {angle:g}")
        if not 0 < angle < 180:
            raise ValueError(f"max_angle_deg of a fisheye must be in (0, 180), got {angle:g}")
        made: dict[str, Any] = {
            "image_size": tuple(size),
            "intrinsics": tuple(intrinsics),
            "distortion": tuple(distortion),
            "image_circle": None if circle is None else tuple(circle),
            "max_angle_deg": angle,
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Camera:
        """Return the camera that a mapping of the class's arguments describes.

        Raises:
            ValueError, TypeError: If it is no mapping, a key is missing or unknown, or a value is
                not of its kind.
        """
        if not isinstance(values, Mapping):
            raise TypeError(
                f"values must be a mapping of a camera's arguments, got {shown(values)}"
            )
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                guess = nearest(key, known)
                hint = "" if guess is None else f" (did you mean {guess!r}?)"
                raise TypeError(f"a camera has the keys {', '.join(known)}, got {shown(key)}{hint}")
        missing = [name for name in known[:3] if name not in values]
        if missing:
            raise TypeError(f"a camera must have the key {missing[0]}, got {sorted(values)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments that make this camera, as plain data."""
        plain = asdict(self)
        return {key: list(each) if isinstance(each, tuple) else each for key, each in plain.items()}

    def resized(self, image_size: Sequence[int]) -> Camera:
        """Return the camera of the same images, whole, at another size.

        Args:
            image_size: Height and width, pixels.

        Raises:
            ValueError, TypeError: If they are no whole numbers above 0, or a camera with an image
                circle would change its aspect.
        """
        size = _items("image_size", image_size, (2,))
        height, width = (positive_int(f"image_size[{i}]", each) for i, each in enumerate(size))
        rows, columns = height / self.image_size[0], width / self.image_size[1]
        fx, fy, cx, cy = self.intrinsics
        circle = self.image_circle
        if circle is not None:
            if not math.isclose(rows, columns, rel_tol=1e-9):
                raise ValueError(
                    f"image_size must have the aspect of {self.image_size} for a camera with an "
                    f"image circle, got {(height, width)}"
                )
            x, y, radius = circle
            circle = _scaled(x, columns), _scaled(y, rows), radius * columns
        return replace(
            self,
            image_size=(height, width),
            intrinsics=(fx * columns, fy * rows, _scaled(cx, columns), _scaled(cy, rows)),
            image_circle=circle,
        )

    # ---- directions to pixels

    def project(self, directions: Float[Tensor, "*batch 3"]) -> Projected:
        """Return the pixels of directions; differentiable.

        Args:
            directions: In the camera's axes, of any length, ``[*, 3]``.

        Raises:
            ValueError, TypeError: If they are no floating-point tensor of that shape.
        """
        x, y, z = float_tensor("directions", directions, ("...", 3)).unbind(-1)
        off_axis, on_axis = _length(x, y)
        angle = torch.atan2(off_axis, z)
        in_front = angle <= math.radians(self.max_angle_deg)
        if self.model == "pinhole":
            in_front = in_front & (z > 0)
            safe = torch.where(z > 0, z, 1)
            plane = self._distorted(x / safe, y / safe)
        else:
            bent = self._bent(angle)
            straight_ahead = torch.where(z > 0, 1 / torch.where(z > 0, z, 1), 0)
            along = torch.where(on_axis, straight_ahead, bent / torch.where(on_axis, 1, off_axis))
            plane = along * x, along * y
        fx, fy, cx, cy = self.intrinsics
        pixels = torch.stack((fx * plane[0] + cx, fy * plane[1] + cy), dim=-1)
        return Projected(pixels, in_front & self._seen(pixels))

    def _seen(self, pixels: Tensor) -> Bool[Tensor, " *batch"]:
        """Whether pixels lie in the image and the image circle."""
        column, row = pixels.unbind(-1)
        height, width = self.image_size
        seen = pixels.isfinite().all(-1)
        seen = seen & (column >= -0.5) & (column < width - 0.5)
        seen = seen & (row >= -0.5) & (row < height - 0.5)
        if self.image_circle is not None:
            x, y, radius = self.image_circle
            seen = seen & ((column - x) ** 2 + (row - y) ** 2 <= radius**2)
        return seen

    def _distorted(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distorted place of a place on the plane z = 1."""
        k1, k2, p1, p2, k3, k4, k5, k6 = (*self.distortion, *[0.0] * (8 - len(self.distortion)))
        q = x * x + y * y
        scale = (1 + q * (k1 + q * (k2 + q * k3))) / (1 + q * (k4 + q * (k5 + q * k6)))
        return (
            scale * x + 2 * p1 * x * y + p2 * (q + 2 * x * x),
            scale * y + p1 * (q + 2 * y * y) + 2 * p2 * x * y,
        )

    def _bent(self, angle: Tensor) -> Tensor:
        """Return a fisheye's distance from the centre, in focal lengths, at an angle."""
        k1, k2, k3, k4 = self.distortion or (0.0,) * 4
        q = angle * angle
        return angle * (1 + q * (k1 + q * (k2 + q * (k3 + q * k4))))

    # ---- pixels to directions

    def unproject(self, pixels: Float[Tensor, "*batch 2"]) -> Rays:
        """Return the directions that pixels show; differentiable.

        Args:
            pixels: (column, row), ``[*, 2]``.

        Raises:
            ValueError, TypeError: If they are no floating-point tensor of that shape.
        """
        column, row = float_tensor("pixels", pixels, ("...", 2)).unbind(-1)
        fx, fy, cx, cy = self.intrinsics
        x, y = (column - cx) / fx, (row - cy) / fy
        if self.model == "pinhole":
            x, y = self._undistorted(x, y)
            directions = torch.stack((x, y, torch.ones_like(x)), dim=-1)
            directions = directions / directions.norm(dim=-1, keepdim=True)
        else:
            bent, on_axis = _length(x, y)
            angle = self._unbent(bent)
            along = torch.where(on_axis, 1.0, angle.sin() / torch.where(on_axis, 1, bent))
            directions = torch.stack((along * x, along * y, angle.cos()), dim=-1)
        back = self.project(directions.detach())
        close = (back.pixels - pixels.detach()).abs().amax(-1) < CLOSE
        return Rays(directions, close & back.valid & self._seen(pixels.detach()))

    def _undistorted(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Invert :meth:`_distorted` by Newton's method, the last step with gradients."""
        if not self.distortion:
            return x, y
        u, v = x.detach(), y.detach()
        for step in range(NEWTON_STEPS + 1):
            last = step == NEWTON_STEPS
            with torch.no_grad():
                (du, dv), (a, b, c, d) = self._distorted(u, v), self._jacobian(u, v)
                determinant = a * d - b * c
            du, dv = du - (x if last else x.detach()), dv - (y if last else y.detach())
            u, v = u - (d * du - b * dv) / determinant, v - (a * dv - c * du) / determinant
        return u, v

    def _jacobian(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the derivatives of :meth:`_distorted`: of x' by x and y, of y' by x and y."""
        k1, k2, p1, p2, k3, k4, k5, k6 = (*self.distortion, *[0.0] * (8 - len(self.distortion)))
        q = x * x + y * y
        above, below = 1 + q * (k1 + q * (k2 + q * k3)), 1 + q * (k4 + q * (k5 + q * k6))
        slope_above = k1 + q * (2 * k2 + 3 * q * k3)
        slope_below = k4 + q * (2 * k5 + 3 * q * k6)
        scale = above / below
        slope = 2 * (slope_above - scale * slope_below) / below  # of the scale by q, times 2
        across = slope * x * y + 2 * p1 * x + 2 * p2 * y
        return (
            scale + slope * x * x + 2 * p1 * y + 6 * p2 * x,
            across,
            across,
            scale + slope * y * y + 6 * p1 * y + 2 * p2 * x,
        )

    def _unbent(self, bent: Tensor) -> Tensor:
        """Invert :meth:`_bent` by Newton's method, the last step with gradients."""
        if not self.distortion:
            return bent
        k1, k2, k3, k4 = self.distortion
        angle = bent.detach()
        for step in range(NEWTON_STEPS + 1):
            with torch.no_grad():
                q = angle * angle
                slope = 1 + q * (3 * k1 + q * (5 * k2 + q * (7 * k3 + q * 9 * k4)))
                error = self._bent(angle)
            error = error - (bent if step == NEWTON_STEPS else bent.detach())
            angle = angle - error / slope
        return angle

    # ---- where a view looks

    def field_of_view(self, side: str = "long", fraction: float = 1.0) -> float:
        """Return the angle that a centred window of the image spans, degrees.

        Args:
            side: Whether the window lies along the ``"long"`` or the ``"short"`` side of the image.
            fraction: Its length, as a fraction of that side.

        Raises:
            ValueError: If an argument is not one of these, or an end of the window is beyond the
                lens.
        """
        one_of("side", side, SIDES)
        fraction = finite_float("fraction", fraction)
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be in (0, 1], got {fraction:g}")
        height, width = self.image_size
        along_columns = (width >= height) == (side == "long")
        half = fraction * (width if along_columns else height) / 2
        centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
        step = torch.tensor([half, 0.0] if along_columns else [0.0, half], dtype=torch.float64)
        places = torch.stack((centre - step, centre, centre + step))
        first, middle, last = self.unproject(places).directions
        if not torch.stack((first, last)).isfinite().all():
            raise ValueError(
                f"fraction must leave the window's ends within the lens, got {fraction:g}"
            )
        return math.degrees(_angle(first, middle) + _angle(middle, last))

    def gaze(
        self, fixations: Float[Tensor, "*batch 2"], convention: str = "camera_xyz"
    ) -> tuple[Float[Tensor, "*batch 3 3"], Bool[Tensor, " *batch"]]:
        """Return the rotations that turn the optical axis to points of an image.

        Args:
            fixations: (row, column) as fractions of height and width, ``[*, 2]``.
            convention: ``"camera_xyz"``: turned about y, then about x; ``"pan_tilt"``: about x,
                then about y, as a head does that pans and tilts.

        Returns:
            Rotations Q with Q (0, 0, 1) the direction of the point, ``[*, 3, 3]``; and whether that
            direction is known, ``[*]``.

        Raises:
            ValueError, TypeError: If an argument is not of the kind said above.
        """
        rows, columns = float_tensor("fixations", fixations, ("...", 2)).unbind(-1)
        height, width = self.image_size
        pixels = torch.stack((columns * width - 0.5, rows * height - 0.5), dim=-1)
        directions, valid = self.unproject(pixels)
        return gaze_rotation(directions, convention), valid


def gaze_rotation(
    directions: Float[Tensor, "*batch 3"], convention: str = "camera_xyz"
) -> Float[Tensor, "*batch 3 3"]:
    """Return the rotations without torsion that turn (0, 0, 1) to directions.

    Args:
        directions: Of any length, ``[*, 3]``.
        convention: As for :meth:`Camera.gaze`.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """
    one_of("convention", convention, GAZES)
    x, y, z = float_tensor("directions", directions, ("...", 3)).unbind(-1)
    nothing = torch.zeros_like(x)
    if convention == "camera_xyz":
        pan, tilt = torch.atan2(x, (y * y + z * z).sqrt()), torch.atan2(-y, z)
        cp, sp, ct, st = pan.cos(), pan.sin(), tilt.cos(), tilt.sin()
        rows = [[cp, nothing, sp], [st * sp, ct, -st * cp], [-ct * sp, st, ct * cp]]
    else:
        pan, tilt = torch.atan2(x, z), torch.atan2(-y, (x * x + z * z).sqrt())
        cp, sp, ct, st = pan.cos(), pan.sin(), tilt.cos(), tilt.sin()
        rows = [[cp, sp * st, sp * ct], [nothing, ct, -st], [-sp, cp * st, cp * ct]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def field_rays(places: Float[Tensor, "*batch 2"], fov: float) -> Float[Tensor, "*batch 3"]:
    """Return the directions of places in a visual field whose eccentricity is an angle.

    Args:
        places: x to the right and y up, in radii of the field, ``[*, 2]``.
        fov: Diameter of the field, degrees.

    Returns:
        Unit vectors in a camera's axes at central gaze, ``[*, 3]`` (azimuthal equidistant).
    """
    x, y = float_tensor("places", places, ("...", 2)).unbind(-1)
    radius, central = _length(x, y)
    half = math.radians(finite_float("fov", fov)) / 2
    along = torch.where(central, half, (radius * half).sin() / torch.where(central, 1, radius))
    return torch.stack((along * x, -along * y, (radius * half).cos()), dim=-1)


def _length(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the length of vectors, whose gradient is finite at 0, and where it is zero."""
    square = x * x + y * y
    zero = square < TINY**2
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt()), zero


def _angle(a: Tensor, b: Tensor) -> float:
    return float(torch.atan2(torch.linalg.cross(a, b).norm(), a @ b))


def _scaled(place: float, scale: float) -> float:
    return (place + 0.5) * scale - 0.5


def _items(name: str, values: Any, lengths: Sequence[int]) -> list[Any]:
    allowed = " or ".join(map(str, lengths))
    if not isinstance(values, (list, tuple, Tensor)) and not hasattr(values, "__array__"):
        raise TypeError(f"{name} must be a list of {allowed} numbers, got {shown(values)}")
    items = [each.item() if hasattr(each, "item") else each for each in values]
    if len(items) not in lengths:
        raise ValueError(f"{name} must have {allowed} numbers, got {len(items)}")
    return items


def _numbers(name: str, values: Any, lengths: Sequence[int]) -> list[float]:
    items = _items(name, values, lengths)
    return [finite_float(f"{name}[{i}]", each) for i, each in enumerate(items)]
