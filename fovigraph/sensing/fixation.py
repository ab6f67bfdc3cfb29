"""Where to look: policies that choose fixations, and the size of the view at each."""

from __future__ import annotations

import inspect
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fovigraph._checks import (
    flag,
    instance,
    nearest,
    new_class,
    one_of,
    positive_float,
    positive_int,
    shown,
)
from fovigraph._tensors import may_inspect

MAX_COUNT = 1 << 12
"""The most fixations of an image."""

ATTEMPTS = 10
"""How often a crop is drawn anew because it does not fit in the image."""

IN_EVAL = ("fixed", "random", "center")
"""Where a policy that draws fixations in training looks in evaluation."""

STEPS = (0.7548776662466927, 0.5698402909980532)
"""Powers of the inverse of the root of x³ = x + 1: multiples of the two, without their whole parts,
fill a square evenly, however many there are (Roberts 2018, the sequence R₂)."""

P = TypeVar("P", bound="type[FixationPolicy]")


class Fixations(NamedTuple):
    """Where to look, and how much is seen there.

    Attributes:
        location: ``[B, F, 2]``, (row, column) as fractions of the image's height and width.
        size: ``[B, F, 2]``, (height, width) in pixels that the field of view's diameter spans.
    """

    location: Tensor
    size: Tensor


class FixationPolicy(nn.Module, ABC):
    """Chooses ``count`` fixations for every image of a batch.

    In training the view at each fixation has an area and an aspect ratio drawn from the given
    ranges (the area evenly, the aspect ratio evenly in its logarithm); in evaluation it is a square
    of ``eval_area``. Sides are whole pixels. Draws come from the CPU's random numbers, whatever the
    images' device, so that the same seed gives the same fixations everywhere.

    In evaluation, fixations are not drawn unless that is asked for: the same image is looked at in
    the same places every time. The first is the centre; the next fill the range that the policy
    draws from evenly, however many there are.

    A policy of one's own defines :meth:`locate`, and has a name in configurations by
    :func:`register_policy`.

    Args:
        count: Number of fixations F per image.
        area: Range of the view's area in training, as a fraction of the image's, in (0, 1].
        aspect: Range of its width over its height in training.
        eval_area: Its area in evaluation.
        spread: How far from the centre ``near_center`` looks, in heights and widths of the image.
        center_first: Whether the first fixation is at the centre, whatever the policy.
        in_eval: Where a random policy looks in evaluation if it is not given a generator:
            ``"fixed"``: in the same places every time, as said above; ``"random"``: where it
            draws; ``"center"``: at the centre every time.
        eval_count: Number of fixations in evaluation; ``None``: ``count``.
        random_in_eval: Deprecated: ``True`` is ``in_eval="random"``, ``False`` is
            ``in_eval="center"``.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """

    fits: ClassVar[bool] = True
    """Whether a view must fit in the image. One that does not is drawn anew, up to ten times; then
    it is the largest centred one of a permitted aspect ratio."""

    random: ClassVar[bool] = False
    """Whether locations are drawn."""

    def __init__(
        self,
        count: int,
        *,
        area: Sequence[float] = (1.0, 1.0),
        aspect: Sequence[float] = (1.0, 1.0),
        eval_area: float = 1.0,
        spread: float = 0.25,
        center_first: bool = False,
        in_eval: str = "fixed",
        eval_count: int | None = None,
        random_in_eval: bool | None = None,
    ):
        super().__init__()
        self.train_count = positive_int("count", count, MAX_COUNT)
        self.eval_count = (
            None if eval_count is None else positive_int("eval_count", eval_count, MAX_COUNT)
        )
        self.area = _range("area", area, most=1.0)
        self.aspect = _range("aspect", aspect)
        self.eval_area = _range("eval_area", (eval_area, eval_area), most=1.0)[0]
        self.spread = _spread(spread)
        self.center_first = flag("center_first", center_first)
        if random_in_eval is not None:
            in_eval = "random" if flag("random_in_eval", random_in_eval) else "center"
            message = f"random_in_eval={random_in_eval} is now in_eval={in_eval!r}"
            warnings.warn(message, DeprecationWarning, stacklevel=3)
        self.in_eval = one_of("in_eval", in_eval, IN_EVAL)

    @property
    def count(self) -> int:
        """Number of fixations per image, in the present mode (training or evaluation)."""
        return self.train_count if self.training or not self.eval_count else self.eval_count

    def forward(
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        fixations: Tensor | Sequence[Any] | int | None = None,
        area: float | Sequence[float] | None = None,
    ) -> Fixations:
        """Choose fixations.

        Args:
            images: ``[B, C, H, W]``; only their shape and device matter.
            generator: Source of the random numbers, on the CPU; a random policy that is given one
                draws from it in evaluation too. None: torch's global state.
            fixations: Their number F, in place of ``count``; or ``[F, 2]`` or ``[B, F, 2]``: look
                there instead, with the policy's sizes.
            area: The views' area as a fraction of the image's, in place of the policy's own; or
                (lowest, highest), between which it is drawn in training and evaluation.

        Returns:
            Locations and sizes, float32, on the images' device.

        Raises:
            TypeError: If ``images`` is no tensor, ``generator`` no generator, or ``fixations`` or
                ``area`` are no numbers.
            ValueError: If ``generator`` is not on the CPU, or ``images`` or ``fixations`` have
                another shape, or there are not so many fixations, or ``area`` is not in (0, 1].

        Example:
            >>> import torch
            >>> from fovigraph import fixation_policy
            >>> policy = fixation_policy("near_center", 4).eval()
            >>> views = policy(torch.zeros(1, 3, 100, 100), fixations=2, area=0.25)
            >>> views.size.tolist()
            [[[50.0, 50.0], [50.0, 50.0]]]
        """
        instance("images", images, Tensor, allowed="a torch.Tensor [B, C, H, W]")
        if images.ndim != 4 or 0 in images.shape[-2:]:
            raise ValueError(f"images must have shape [B, C, H, W], got {tuple(images.shape)}")
        _check_generator(generator)
        areas = None if area is None else _areas(area)
        batch, image = len(images), torch.tensor(images.shape[-2:], dtype=torch.float64)
        if not (fixations is None or isinstance(fixations, int | Integral)):
            location = batch_of_fixations(fixations, batch)
            size, _ = self._draw_sizes(batch, location.shape[1], image, areas, generator)
        else:
            count = (
                self.count if fixations is None else positive_int("fixations", fixations, MAX_COUNT)
            )
            size, fitted = self._draw_sizes(batch, count, image, areas, generator)
            if not self.random:
                location = self.locate(size, fitted, image, size)
            elif self.training or self.in_eval == "random" or generator is not None:
                at = _uniform(tuple(size.shape), generator)
                location = self.locate(size, fitted, image, at)
            elif self.in_eval == "fixed":
                location = self.locate(size, torch.ones_like(fitted), image, _even(size))
                location[:, 0] = 0.5
            else:
                location = torch.full_like(size, 0.5)
            if self.center_first:
                location[:, 0] = 0.5
        return Fixations(
            location.to(images.device, torch.float32), size.to(images.device, torch.float32)
        )

    @abstractmethod
    def locate(self, size: Tensor, fitted: Tensor, image: Tensor, at: Tensor) -> Tensor:
        """Choose locations ``[B, F, 2]``, (row, column) in [0, 1], a new tensor.

        Args:
            size: Sizes of the views, ``[B, F, 2]``, float64 as everything here.
            fitted: ``[B, F, 1]``, False where a view was made to fit and must be centred.
            image: Height and width of the images, ``[2]``.
            at: Of a random policy, where in the range that it draws from, ``[B, F, 2]`` in [0, 1).
        """

    def _draw_sizes(
        self,
        batch: int,
        count: int,
        image: Tensor,
        areas: tuple[float, float] | None,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """Draw sizes, ``[B, F, 2]``, and whether each fitted in the image, ``[B, F, 1]``.

        Of the policy's own areas, or of ``areas``, the smallest and the largest.
        """
        least, most = areas or (self.area if self.training else (self.eval_area, self.eval_area))
        drawn = self.training or least < most
        shape = (batch, count, ATTEMPTS if self.fits and drawn else 1)
        if drawn:
            area = least + (most - least) * _uniform(shape, generator)
        else:
            area = torch.full(shape, least, dtype=torch.float64)
        aspect = torch.ones(shape, dtype=torch.float64)
        if self.training:
            low, high = self.aspect
            aspect = low * (high / low) ** _uniform(shape, generator)
        pixels = area * image.prod()
        sizes = torch.stack(((pixels / aspect).sqrt(), (pixels * aspect).sqrt()), dim=-1)
        sizes = sizes.round().clamp(min=1)
        if not self.fits:
            return sizes[:, :, 0], torch.ones(batch, count, 1, dtype=torch.bool)
        fit = (sizes <= image).all(dim=-1)
        first = fit.int().argmax(dim=-1)[..., None, None].expand(-1, -1, 1, 2)
        fitted = fit.any(dim=-1, keepdim=True)
        return torch.where(fitted, sizes.gather(2, first)[:, :, 0], self._largest(image)), fitted

    def _largest(self, image: Tensor) -> Tensor:
        """Return the largest view in an image whose aspect ratio is permitted, ``[2]``."""
        height, width = image.tolist()
        low, high = self.aspect if self.training else (1.0, 1.0)
        aspect = min(max(width / height, low), high)
        size = torch.tensor((min(height, width / aspect), min(width, height * aspect)))
        return size.double().round().clamp(min=1)

    def extra_repr(self) -> str:
        in_eval = f"{self.in_eval!r}" if self.random else "as in training"
        return (
            f"count={self.train_count}, area={self.area}, aspect={self.aspect}, "
            f"eval_area={self.eval_area:g}, center_first={self.center_first}, "
            f"in_eval={in_eval}, eval_count={self.eval_count or self.train_count}"
        )


class Center(FixationPolicy):
    """Looks at the image's centre, every time."""

    def locate(self, size: Tensor, fitted: Tensor, image: Tensor, at: Tensor) -> Tensor:
        return torch.full_like(size, 0.5)


class RandomCrop(FixationPolicy):
    """Looks at the centres of random crops, each drawn as ``RandomResizedCrop`` draws them."""

    random = True

    def locate(self, size: Tensor, fitted: Tensor, image: Tensor, at: Tensor) -> Tensor:
        corner = (at * (image - size + 1)).floor()
        return torch.where(fitted, (corner + size / 2) / image, 0.5)


class NearCenter(FixationPolicy):
    """Looks within ± ``spread`` of the centre; its views may reach beyond the image."""

    fits = False
    random = True

    def locate(self, size: Tensor, fitted: Tensor, image: Tensor, at: Tensor) -> Tensor:
        return 0.5 + self.spread * (2 * at - 1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, spread={self.spread:g}"


class Explicit(FixationPolicy):
    """Looks at the same given places in every image.

    Args:
        count: Their number.
        fixations: The places, ``count`` pairs (row, column), as fractions of the image's height
            and width.
        **options: See :class:`FixationPolicy`.

    Raises:
        TypeError, ValueError: If ``fixations`` are not ``count`` such pairs.
    """

    def __init__(self, count: int, *, fixations: Sequence[Sequence[float]], **options: Any):
        super().__init__(count, **options)
        if self.eval_count not in (None, self.train_count):
            raise ValueError(
                f"eval_count must be count={count} where fixations are given, got {self.eval_count}"
            )
        places = as_fixations(fixations)
        if places.shape != (self.count, 2):
            raise ValueError(
                f"fixations must be count={self.count} pairs (row, column), "
                f"got shape {tuple(places.shape)}"
            )
        self.fixations = [[float(row), float(column)] for row, column in fixations]

    def locate(self, size: Tensor, fitted: Tensor, image: Tensor, at: Tensor) -> Tensor:
        count = size.shape[1]
        if count > len(self.fixations):
            raise ValueError(
                f"fixations must be at most {len(self.fixations)}, as many places as the policy "
                f"'explicit' has, got {count}"
            )
        return size.new_tensor(self.fixations[:count]).repeat(len(size), 1, 1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, fixations={self.fixations}"


FIXATION_POLICIES: dict[str, type[FixationPolicy]] = {
    "center": Center,
    "explicit": Explicit,
    "near_center": NearCenter,
    "random_crop": RandomCrop,
}
"""The policies by their names in configurations (:func:`register_policy`)."""


def register_policy(name: str) -> Callable[[P], P]:
    """Return a decorator that makes a class the fixation policy of a name.

    Args:
        name: What ``fixation.policy`` and :func:`fixation_policy` call it.

    Raises:
        TypeError: If ``name`` is not a string, or what is decorated is not a policy.
        ValueError: If another class has the name.

    Example:
        >>> import torch, fovigraph as fg
        >>> from fovigraph.sensing import FixationPolicy, register_policy
        >>> @register_policy("left_and_right")
        ... class LeftAndRight(FixationPolicy):
        ...     def locate(self, size, fitted, image, at):
        ...         location = torch.full_like(size, 0.5)
        ...         location[:, ::2, 1], location[:, 1::2, 1] = 0.25, 0.75
        ...         return location
        >>> net = fg.create_model("fovi_tiny", fixation={"policy": "left_and_right"})
        >>> net(torch.rand(1, 3, 64, 64), fixations=2).fixations.tolist()
        [[[0.5, 0.25], [0.5, 0.75]]]
    """
    instance("name", name, str, allowed="a string")

    def decorate(policy: P) -> P:
        new_class("policy", policy, FixationPolicy, name, FIXATION_POLICIES.get(name))
        FIXATION_POLICIES[name] = policy
        return policy

    return decorate


def fixation_policy(name: str, count: int, **options: Any) -> FixationPolicy:
    """Make a fixation policy by name.

    Args:
        name: A key of :data:`FIXATION_POLICIES`.
        count: Number of fixations per image.
        **options: See :class:`FixationPolicy`; ``explicit`` also takes ``fixations``.

    Raises:
        ValueError: If the name is unknown, or an option has a value that is not allowed.
        TypeError: If the policy has no such option, or an option is of the wrong type.
    """
    policy = FIXATION_POLICIES[one_of("name of the fixation policy", name, FIXATION_POLICIES)]
    parameters = {
        key: parameter
        for kind in (FixationPolicy, policy)
        for key, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for option in options:
        if option not in parameters:
            hint = nearest(option, parameters)
            raise TypeError(
                f"fixation policy {name!r} has no option {option!r}, only {', '.join(parameters)}"
                + (f" (did you mean {hint!r}?)" if hint else "")
            )
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in options:
            raise TypeError(f"fixation policy {name!r} needs the option {key!r}")
    return policy(count, **options)


def as_fixations(fixations: Tensor | Sequence[Any]) -> Float[Tensor, "*batch F 2"]:
    """Check fixations and return them in at least single precision.

    Args:
        fixations: ``[F, 2]`` or ``[B, F, 2]``, (row, column) as fractions of the image's height and
            width; they may lie outside the image, by its height or width at most. Values on an
            accelerator are not looked at, which would wait for it.

    Raises:
        TypeError: If they are not numbers.
        ValueError: If they are of another shape, not finite, or too far outside the image.
    """
    fixations = as_floats("fixations", fixations)
    shape = tuple(fixations.shape)
    if len(shape) not in (2, 3) or shape[-1] != 2 or shape[-2] == 0:
        raise ValueError(f"fixations must have shape [F, 2] or [B, F, 2], F ≥ 1, got {shape}")
    if may_inspect(fixations):
        bad = ~fixations.isfinite()
        if bad.any():
            raise ValueError(f"fixations must be finite, got {fixations[bad][0].item()}")
        bad = (fixations < -1) | (fixations > 2)
        if bad.any():
            raise ValueError(
                "fixations must be fractions of the image's height and width (0 to 1 is in the "
                f"image, -1 to 2 is allowed), got {fixations[bad][0].item():g}"
            )
    return fixations


def batch_of_fixations(fixations: Tensor | Sequence[Any], batch: int) -> Tensor:
    """Check fixations and give every one of ``batch`` images its own: ``[B, F, 2]``.

    Args:
        fixations: As :func:`as_fixations` takes them.
        batch: Number of images B.

    Raises:
        TypeError, ValueError: As :func:`as_fixations`; also if they are for another number of
            images.
    """
    fixations = as_fixations(fixations)
    if fixations.ndim == 2:
        return fixations.expand(batch, -1, -1)
    if len(fixations) != batch:
        raise ValueError(
            f"fixations must have shape [F, 2] or [B, F, 2] with B={batch}, the number of images, "
            f"got {tuple(fixations.shape)}"
        )
    return fixations


def as_floats(name: str, values: Any) -> Tensor:
    """Return numbers as a tensor of at least single precision, or say that they are not numbers."""
    if isinstance(values, np.ndarray):  # of any strides and byte order, which torch does not take
        values = np.array(values, dtype=values.dtype.newbyteorder("="), order="C")
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be numbers, got {shown(values)}") from error
    if tensor.layout != torch.strided or tensor.is_nested:
        raise TypeError(f"{name} must be a dense tensor, got {shown(values)}")
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise TypeError(f"{name} must be real numbers, got {tensor.dtype}")
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _uniform(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=generator)


def _check_generator(generator: Any) -> None:
    device = getattr(generator, "device", None)
    if isinstance(device, torch.device) and device.type != "cpu":
        raise ValueError(f"generator must be on the CPU, got one on {device}")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, got {shown(generator)}")


def _even(size: Tensor) -> Tensor:
    """Return places that fill the unit square evenly, the first of them its centre, as ``size``."""
    number = torch.arange(size.shape[1], dtype=torch.float64)[:, None]
    return ((0.5 + number * torch.tensor(STEPS, dtype=torch.float64)) % 1).expand_as(size)


def _range(name: str, values: Any, most: float = math.inf) -> tuple[float, float]:
    try:
        low, high = [] if isinstance(values, str) else list(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a pair (lowest, highest), got {shown(values)}") from error
    low, high = positive_float(name, low), positive_float(name, high)
    if low > high or high > most:
        limit = f" and at most {most:g}" if math.isfinite(most) else ""
        raise ValueError(f"{name} must be above 0{limit}, lowest first, got {(low, high)}")
    return low, high


def _areas(area: Any) -> tuple[float, float]:
    """Return the smallest and the largest area, of one number or two."""
    one = isinstance(area, Real) and not isinstance(area, bool)
    return _range("area", (area, area) if one else area, most=1.0)


def _spread(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"spread must be a number from 0 to 0.5, got {shown(value)}")
    if not 0 <= value <= 0.5:  # type: ignore[operator]
        raise ValueError(f"spread must be from 0 to 0.5, got {shown(value)}")
    return float(value)
