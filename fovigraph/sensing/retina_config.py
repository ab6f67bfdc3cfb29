"""The section ``retina`` of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fovigraph._checks import one_of, positive_float, positive_int
from fovigraph._schema import Section
from fovigraph.geometry import SensorArray
from fovigraph.geometry.layout import LAYOUTS, RENAMED
from fovigraph.nn.limits import MOST_CHANNELS

MATCHINGS = ("at_least", "at_most", "input", "none")
"""How the numbers of nodes follow from sides (:class:`RetinaConfig`)."""

ARRAY = ("fov", "cmf_a", "layout", "field_geometry", "extent", "norm", "max_val")
"""The keys that are arguments of :class:`~fovigraph.SensorArray` too."""

OPTIONS = (
    "fixation_size",
    "color_decay",
    "mean",
    "std",
    "darkening",
    "grey_in_eval",
    "acuity",
    "oversampling",
    "cmf_a_mult",
    "k",
    "metric",
    "sigma",
)
"""The keys that are arguments of :class:`~fovigraph.Retina` too, beside ``sampling``."""


def check_acuity(name: str, value: float) -> float:
    """Return a number of cells across the field of view, or say which are allowed."""
    return positive_float(name, value, least=1e-6, most=1e6)


@dataclass(frozen=True)
class RetinaConfig(Section):
    """The section ``retina``: the sensor array, and how it samples images.

    Attributes:
        side: The sensor array is matched to an image of ``side``² pixels.
        matching: ``"at_most"``: the array, and every level above it, has at most as many nodes as
            an image of its side; ``"at_least"``: at least as many; ``"input"``: the array has at
            most as many, and a stride divides its resolution, not its side; ``"none"``: so it does,
            and ``side`` is the resolution.
        fov: Diameter of the field of view, degrees.
        cmf_a: The constant *a* of the cortical magnification, degrees; smaller is more foveated.
        layout: Where the nodes lie in the field of view, as :class:`~fovigraph.SensorArray` says.
        field_geometry: The sensor manifold, as :class:`~fovigraph.SensorArray` says.
        extent: The shape of the field of view, likewise.
        norm: That of a warped lattice, likewise: 2, or infinity (``.inf`` in YAML).
        max_val: Where the outermost nodes lie, likewise: a number, or ``"auto"``.
        sampling: How pixels are read: ``"nearest"``, ``"bilinear"``, ``"area"``, ``"knn_mean"`` or
            ``"gaussian"``, as :class:`~fovigraph.Retina` says.
        acuity: For the sampling ``"area"``: finest cells across the field of view; ``None``: any.
        oversampling: For ``"knn_mean"`` and ``"gaussian"``: the photoreceptors' resolution over the
            array's.
        cmf_a_mult: Likewise, their ``cmf_a`` over the array's.
        k: Likewise, photoreceptors per node; ``None``: as many as there are on average.
        metric: Likewise, which are the nearest: ``"cortical"``, ``"visual"`` or ``"geodesic"``.
        sigma: For ``"gaussian"``: its width, where a neighbourhood's distances go from 0 to 1.
        fixation_size: Pixels that the field of view's diameter spans; ``None``: the policy's.
        color_decay: Eccentricity scale over which colours fade, degrees; ``None``: they do not.
        channels: Channels of the images; 3 are red, green and blue.
        mean: Mean that is subtracted from each channel, whose values are in [0, 1]; ``None``: none.
        std: Standard deviation that it is then divided by; given with ``mean`` or not at all.
        darkening: Eccentricity scale over which samples fall to 0, in radii of the field of view;
            ``None``: they do not.
        grey_in_eval: Whether samples are grey in evaluation.
    """

    SECTION = "retina"

    side: int = 64
    matching: str = "at_most"
    fov: float = 16.0
    cmf_a: float = 0.5
    layout: str = "isotropic"
    field_geometry: str = "planar"
    extent: str = "circular"
    norm: float = 2.0
    max_val: float | str = 1.0
    sampling: str = "nearest"
    acuity: float | None = None
    oversampling: float = 3.0
    cmf_a_mult: float = 1.0
    k: int | None = None
    metric: str = "cortical"
    sigma: float = 0.5
    fixation_size: float | None = None
    color_decay: float | None = None
    channels: int = 3
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    darkening: float | None = None
    grey_in_eval: bool = False

    def check(self) -> None:
        positive_int("retina.side", self.side)
        one_of("retina.matching", self.matching, MATCHINGS)
        positive_float("retina.fov", self.fov)
        positive_float("retina.cmf_a", self.cmf_a)
        layout = RENAMED.get(self.layout, self.layout)  # which warns when the array is made
        if layout in LAYOUTS:  # others may yet be registered
            try:
                SensorArray(2, **{**self._options(), "layout": layout})
            except (TypeError, ValueError) as error:
                raise type(error)(f"retina.{error}") from None
        for name in ("fixation_size", "color_decay", "darkening"):
            if getattr(self, name) is not None:
                positive_float(f"retina.{name}", getattr(self, name))
        for name in ("oversampling", "cmf_a_mult", "sigma"):
            positive_float(f"retina.{name}", getattr(self, name))
        if self.k is not None:
            positive_int("retina.k", self.k)
        if self.acuity is not None:
            check_acuity("retina.acuity", self.acuity)
        positive_int("retina.channels", self.channels, MOST_CHANNELS)
        for name in ("color_decay", "grey_in_eval"):
            if getattr(self, name) and self.channels != 3:
                raise ValueError(
                    f"retina.{name} must be {'false' if name == 'grey_in_eval' else None} unless "
                    f"retina.channels is 3, got {getattr(self, name)} with {self.channels}"
                )
        if (self.mean is None) != (self.std is None):
            raise ValueError("retina.mean and retina.std must be given together or not at all")
        if self.mean is not None and self.std is not None:
            if not len(self.mean) == len(self.std) == self.channels:
                named = ", red, green and blue" if self.channels == 3 else ", one for each channel"
                raise ValueError(
                    f"retina.mean and retina.std must have {self.channels} entries{named}, "
                    f"got {self.mean} and {self.std}"
                )
            for i, value in enumerate(self.std):
                positive_float(f"retina.std[{i}]", value)

    def array(self) -> SensorArray:
        """Return the sensor array.

        Raises:
            ValueError, TypeError: If there is none of this kind, as :class:`~fovigraph.SensorArray`
                says.
        """
        options = self._options()
        if self.matching == "none":
            return SensorArray(self.side, **options)
        matched = SensorArray.matched(self.side, **options, at_least=self.matching == "at_least")
        return matched.with_resolution(matched.resolution) if self.matching == "input" else matched

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ARRAY}
