"""The retina: samples an image where a sensor array's nodes fall when the eye fixates a place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor

from fovigraph._checks import flag, instance, one_of, positive_float, positive_int, shown
from fovigraph._tensors import may_inspect
from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import FixedTensors, isolated
from fovigraph.graph import knn_graph
from fovigraph.graph.search import k_nearest
from fovigraph.nn import KNNPool
from fovigraph.sensing.fixation import as_fixations, as_floats, batch_of_fixations
from fovigraph.sensing.mipmap import mean_over_cells
from fovigraph.sensing.places import places
from fovigraph.sensing.retina_config import check_acuity

SAMPLINGS = ("area", "bilinear", "gaussian", "knn_mean", "nearest")

FEW = 16
"""Pixels for each sample, up to which it is faster to convert a whole image to floating point than
to look up the pixels that are read."""

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luminance (ITU-R BT.601)."""

GREY = (0.2989, 0.587, 0.114)
"""The same as torchvision rounds them, and the ``fovi`` package with it."""


class Retina(FixedTensors):
    r"""Samples images at the nodes of a sensor array, around any number of fixations at once.

    A node at :math:`(x, y)` in radii of the field of view (y up) falls, in pixels from the image's
    top left corner, on

    .. math::
        (\text{row}, \text{column}) = \Bigl(f_r H - y \frac{h}{2},\; f_c W + x \frac{w}{2}\Bigr)

    with the fixation :math:`f`, the image's height and width :math:`H, W`, and the size
    :math:`h, w` of the view. Pixel (i, j) is centred on (i + ½, j + ½). Outside the image it is
    black. ``"bilinear"`` and ``"area"`` sampling are differentiable with respect to images and
    fixations, ``"bilinear"`` also to sizes.
    Places are in single precision, rounded as the ``fovi`` package rounds them.

    The two poolings model ganglion cells, which see the image through a denser array of
    photoreceptors: each node is the mean, or the Gaussian-weighted mean, of the k nearest nodes of
    an array ``oversampling`` times as fine, which samples the nearest pixels.

    Args:
        array: Where to sample.
        sampling: ``"bilinear"``; ``"nearest"``, the pixel that the node falls in; ``"area"``, the
            mean over the node's own cell, which does not alias where nodes are sparser than
            pixels; ``"knn_mean"`` or ``"gaussian"``, the poolings.
        fixation_size: Size in pixels that the field of view's diameter spans, when none is given
            with the images: a number, or (height, width). None: a square as long as the image's
            shorter side.
        color_decay: Eccentricity in degrees over which colour fades: saturation falls as
            exp(-eccentricity / color_decay), luminance stays. None: no fading.
        mean, std: Normalisation of each channel of what is within the image,
            ``(value - mean) / std`` (what is outside stays 0). None: none.
        darkening: Eccentricity, in radii of the field of view, over which samples fall to 0, after
            they are normalised: all channels are multiplied by exp(-eccentricity / darkening).
            None: they do not. (The ``fovi`` package's ``color_sigma``.)
        grey_in_eval: Whether samples, normalised and darkened, are grey in evaluation mode.
        acuity: For ``"area"``: the finest cells, as a number of them across the field of view's
            diameter. For a network that learned from small images and is shown large ones, the
            number of pixels across the field of view in training. None: no limit.
        oversampling: For the poolings: the photoreceptors' resolution over the array's.
        cmf_a_mult: For the poolings: the constant *a* of the photoreceptors' magnification over the
            array's. Other than 1, the two have different cortical surfaces, and ``metric`` must be
            ``"visual"``.
        k: For the poolings: photoreceptors per node. None: as many as there are on average.
        metric: For the poolings: which are the nearest, as :func:`~fovigraph.knn_graph` says.
        sigma: For ``"gaussian"``: its width, where a neighbourhood's distances go from 0 to 1.
        output_dtype: Type of the samples, a floating-point one. None: that of the images, float32
            for uint8.

    Attributes:
        photoreceptors: The retina of the finer array, if there is one.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch
        >>> from fovigraph import SensorArray
        >>> from fovigraph.sensing import Retina
        >>> retina = Retina(SensorArray.matched(64))
        >>> retina(torch.rand(2, 3, 96, 128), [[0.5, 0.5], [0.25, 0.75]]).shape
        torch.Size([2, 2, 4085, 3])
    """

    grid: Tensor
    cells: Tensor | None
    saturation: Tensor | None
    brightness: Tensor | None
    outside: Tensor | None = None
    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        array: SensorArray,
        sampling: str = "bilinear",
        *,
        fixation_size: float | Sequence[float] | None = None,
        color_decay: float | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        darkening: float | None = None,
        grey_in_eval: bool = False,
        acuity: float | None = None,
        oversampling: float = 3.0,
        cmf_a_mult: float = 1.0,
        k: int | None = None,
        metric: str = "cortical",
        sigma: float = 0.5,
        output_dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.array = instance("array", array, SensorArray)
        self.sampling = one_of("sampling", sampling, SAMPLINGS)
        self.fixation_size = None if fixation_size is None else _size_pair(fixation_size)
        self.color_decay = color_decay
        self.acuity = None if acuity is None else check_acuity("acuity", acuity)
        cells = None
        if self.sampling == "area":
            cells = _cell_sides(array).clamp(min=1 / (self.acuity or math.inf))
        elif acuity is not None:
            raise ValueError(f"acuity must be None unless sampling='area', got {acuity}")
        saturation = None
        if color_decay is not None:
            self.color_decay = positive_float("color_decay", color_decay)
            saturation = _decay(array, self.color_decay)
        self.darkening, brightness = darkening, None
        if darkening is not None:
            self.darkening = positive_float("darkening", darkening)
            brightness = _decay(array, self.darkening * array.fov / 2)
        self.grey_in_eval = flag("grey_in_eval", grey_in_eval)
        self.output_dtype = output_dtype
        if output_dtype is not None:
            instance("output_dtype", output_dtype, torch.dtype)
            if not output_dtype.is_floating_point:
                raise ValueError(f"output_dtype must be floating point, got {output_dtype}")
        center, scale = _normalisation(mean, std)
        # In half precision nodes would move by pixels, as fixed tensors do not.
        self.fix(grid=places(array), cells=cells, mean=center, std=scale)
        self.fix(saturation=saturation, brightness=brightness)
        if array.mask is not None:
            self.fix(outside=isolated(torch.logical_not)(array.mask[:, None]))

        self.photoreceptors: Retina | None = None
        oversampling = _oversampling(oversampling)
        cmf_a_mult = positive_float("cmf_a_mult", cmf_a_mult)
        sigma = positive_float("sigma", sigma)
        k = k if k is None else positive_int("k", k)
        if self.sampling in ("knn_mean", "gaussian"):
            if cmf_a_mult != 1 and metric != "visual":
                raise ValueError(
                    "metric must be 'visual' unless cmf_a_mult is 1, as cortical distances are "
                    f"along one surface, got {shown(metric)} with {cmf_a_mult:g}"
                )
            receptors = _finer(array, oversampling).with_cmf_a(cmf_a_mult * array.cmf_a)
            k = k or round(len(receptors) / len(array))
            self.photoreceptors = Retina(receptors, "nearest", fixation_size=fixation_size)
            self.graph = knn_graph(receptors, array, k, metric)
            gaussian = self.sampling == "gaussian"
            self.pool = KNNPool("gaussian", sigma=sigma) if gaussian else KNNPool("mean")

    def forward(
        self,
        images: Num[Tensor, "B *F C H W"],
        fixations: Tensor | Sequence[Any],
        fixation_size: float | Tensor | Sequence[Any] | None = None,
        *,
        vary: Callable[[Tensor], Tensor] | None = None,
        divide_first: bool = False,
    ) -> Float[Tensor, "B F N C"]:
        """Sample images around fixations.

        Args:
            images: ``[B, C, H, W]``, floating point, or uint8, which stands for [0, 1]. Of a uint8
                image only the pixels that are needed become floating point. Or
                ``[B, F, C, H, W]``: an image for each fixation, such as the frames of a video, or
                an image that is varied anew for each.
            fixations: ``[B, F, 2]``, or ``[F, 2]`` for the same ones in every image; (row, column)
                as fractions of the image's height and width.
            fixation_size: Size of the view in pixels: a number, or (height, width) in a shape that
                broadcasts to ``[B, F, 2]``. None: the retina's own.
            vary: Changes the colours ``[B, F, N, C]`` before they are normalised. Samples that lie
                outside the image stay black.
            divide_first: Whether pixels of uint8 are divided by 255 before they are interpolated,
                as if :func:`fovigraph.sensing.as_images` had been given the image, or after. The
                two differ by rounding.

        Returns:
            Samples, ``[B, F, N, C]``; of ``output_dtype``, or the images' type, float32 for uint8.

        Raises:
            TypeError: If the images are neither uint8 nor floating point, or others not numbers.
            ValueError: If shapes do not match; if fixations are not finite or far outside the
                image, or sizes not positive (values on an accelerator are not looked at, which
                would wait for it).
        """
        images, fixations, size, shape = self._views(images, fixations, fixation_size)
        samples = _of_views(self._colors(images, fixations, size, divide_first), shape)
        if vary is not None or self.mean is not None:
            # Nodes outside the field stay at 0: neither varied nor normalised.
            ones = samples.new_ones(()).expand(len(images), 1, *images.shape[2:])
            inside = _of_views(self._sample(ones, fixations, size), shape)
            if vary is not None:
                samples = _varied(samples, vary).masked_fill(inside == 0, 0)
            if self.mean is not None and self.std is not None:
                samples = (samples - inside * self.mean.to(samples)) / self.std.to(samples)
        return self._dimmed(samples).to(self.output_dtype or samples.dtype).contiguous()

    def colors(
        self,
        images: Num[Tensor, "B *F C H W"],
        fixations: Tensor | Sequence[Any],
        fixation_size: float | Tensor | Sequence[Any] | None = None,
    ) -> Float[Tensor, "B F N C"]:
        """Return the samples as colours, before ``mean`` and ``std``; all else as :meth:`forward`.

        What a picture of the view shows.
        """
        images, fixations, size, shape = self._views(images, fixations, fixation_size)
        return self._dimmed(_of_views(self._colors(images, fixations, size), shape))

    def _views(
        self, images: Tensor, fixations: Any, fixation_size: Any
    ) -> tuple[Tensor, Tensor, Any, tuple[int, int]]:
        """Check images and fixations; return one image for all fixations of a row, and [B, F].

        Images ``[B, F, C, H, W]`` become B · F images of one fixation each.
        """
        self._check_images(images)
        fixations = batch_of_fixations(fixations, len(images))
        shape = fixations.shape[0], fixations.shape[1]
        if images.ndim == 4:
            return images, fixations, fixation_size, shape
        if images.shape[1] != shape[1]:
            raise ValueError(
                f"images [B, F, C, H, W] must be one for each of the {shape[1]} fixations, "
                f"got {tuple(images.shape)}"
            )
        if fixation_size is not None:
            fixation_size = self._view_size(fixation_size, (1, 1), fixations).flatten(0, 1)[:, None]
        return images.flatten(0, 1), fixations.flatten(0, 1)[:, None], fixation_size, shape

    def _colors(
        self, images: Tensor, fixations: Tensor, size: Any, divide_first: bool = False
    ) -> Tensor:
        return self._fade(self._sample(images, fixations, size, divide_first))

    def _sample(
        self, images: Tensor, fixations: Tensor, fixation_size: Any, divide_first: bool = False
    ) -> Tensor:
        """Return the images' own values, ``[B, F, N, C]``, and 0 for masked nodes."""
        samples = self._sample_all(images, fixations, fixation_size, divide_first)
        return samples if self.outside is None else samples.masked_fill(self.outside, 0)

    def _sample_all(
        self, images: Tensor, fixations: Tensor, fixation_size: Any, divide_first: bool
    ) -> Tensor:
        """Return the images' own values, ``[B, F, N, C]``."""
        if self.photoreceptors is not None:
            return self.pool(self.photoreceptors(images, fixations, fixation_size), self.graph)
        image_size = images.shape[2], images.shape[3]
        pixels = self._pixels(fixations, image_size, fixation_size)
        if self.cells is not None:
            size = self._view_size(fixation_size, image_size, fixations.to(pixels.device))
            if may_inspect(size) and (size == size[:1, :1]).all():
                size = size[:1, :1]  # every node's cell is the same in all views
            sides = size.prod(dim=-1).sqrt()[..., None] * self.cells
            return mean_over_cells(images, pixels, sides)
        if self.sampling == "bilinear":
            return _bilinear(images, pixels, divide_first)
        return _nearest(images, pixels)

    def pixels(
        self,
        fixations: Tensor | Sequence[Any],
        image_size: tuple[int, int],
        fixation_size: float | Tensor | Sequence[Any] | None = None,
    ) -> Float[Tensor, "*batch F N 2"]:
        """Return where every node falls in the image.

        Args:
            fixations: ``[B, F, 2]`` or ``[F, 2]``, as in :meth:`forward`.
            image_size: Height and width of the image in pixels.
            fixation_size: As in :meth:`forward`.

        Returns:
            (row, column) in pixels from the top left corner, ``[B, F, N, 2]`` or ``[F, N, 2]``:
            pixel (i, j) covers i to i + 1, j to j + 1.

        Raises:
            TypeError, ValueError: As in :meth:`forward`; or if ``image_size`` is not two whole
                numbers of at least 1.
        """
        return self._pixels(fixations, height_and_width(image_size), fixation_size)

    def _pixels(
        self, fixations: Tensor | Sequence[Any], image_size: tuple[int, int], fixation_size: Any
    ) -> Tensor:
        location = as_fixations(fixations).to(self.grid.device)
        height, width = image_size
        size = self._view_size(fixation_size, image_size, location)
        x, y = self.grid.unbind(-1)
        row = (location[..., 0] * height)[..., None] - (size[..., 0] / 2)[..., None] * y
        column = (location[..., 1] * width)[..., None] + (size[..., 1] / 2)[..., None] * x
        return torch.stack((row, column), dim=-1)

    def _view_size(self, size: Any, image_size: tuple[int, int], location: Tensor) -> Tensor:
        """Return the views' (height, width) in pixels, shaped as ``location``."""
        if size is None:
            size = self.fixation_size or min(image_size)
        sizes = as_floats("fixation_size", size)
        if may_inspect(sizes) and not (sizes.isfinite() & (sizes > 0)).all():
            given = shown(sizes.tolist())
            raise ValueError(f"fixation_size must be finite and above 0 pixels, got {given}")
        try:
            return sizes.to(location.device).broadcast_to(location.shape)
        except RuntimeError as error:
            raise ValueError(
                "fixation_size must be a number or broadcast to the fixations' shape "
                f"{tuple(location.shape)}, got shape {tuple(sizes.shape)}"
            ) from error

    def _check_images(self, images: Tensor) -> None:
        if not isinstance(images, Tensor):
            raise TypeError(f"images must be a torch.Tensor, got {type(images).__name__}")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise TypeError(f"images must be uint8 or floating point, got {images.dtype}")
        if images.ndim not in (4, 5) or 0 in images.shape[1:]:
            raise ValueError(
                "images must have shape [B, C, H, W], or [B, F, C, H, W], none of the last three "
                f"0, got {tuple(images.shape)}"
            )
        if images.device != self.grid.device:
            raise ValueError(
                f"images must be on the retina's device, {self.grid.device}, got {images.device}"
            )
        colored = "color_decay" if self.saturation is not None else "grey_in_eval"
        channels = images.shape[-3]
        if (self.saturation is not None or self.grey_in_eval) and channels != 3:
            raise ValueError(
                f"images must have 3 channels for {colored}, got {channels} in "
                f"{tuple(images.shape)}"
            )
        if self.mean is not None and channels != len(self.mean):
            raise ValueError(
                f"images must have {len(self.mean)} channels, as mean and std have, "
                f"got {channels} in {tuple(images.shape)}"
            )

    def _fade(self, samples: Tensor) -> Tensor:
        """Blend colours ``[…, N, 3]`` into their luminance with eccentricity."""
        if self.saturation is None:
            return samples
        luminance = _weighted(samples, LUMINANCE)
        saturation = self.saturation.to(samples.dtype)[:, None]
        return luminance + saturation * (samples - luminance)

    def _dimmed(self, samples: Tensor) -> Tensor:
        """Return samples ``[…, N, C]`` darkened with eccentricity and, in evaluation, grey."""
        if self.brightness is not None:
            samples = samples * self.brightness.to(samples.dtype)[:, None]
        if self.grey_in_eval and not self.training:
            samples = _weighted(samples, GREY).expand_as(samples)
        return samples

    def extra_repr(self) -> str:
        size = "" if self.fixation_size is None else f", fixation_size={self.fixation_size}"
        decay = "" if self.color_decay is None else f", color_decay={self.color_decay:g}"
        normal = "" if self.mean is None else ", normalised"
        dark = "" if self.darkening is None else f", darkening={self.darkening:g}"
        grey = ", grey_in_eval=True" if self.grey_in_eval else ""
        kind = f"{len(self.array)} nodes, sampling={self.sampling!r}"
        return f"{kind}{size}{decay}{normal}{dark}{grey}"


def _of_views(samples: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return samples ``[B, F, N, C]``, also those of B · F images of one fixation each."""
    return samples if samples.shape[:2] == shape else samples.squeeze(1).unflatten(0, shape)


def height_and_width(image_size: Any) -> tuple[int, int]:
    """Return the size of an image, or say what ``image_size`` must be.

    Raises:
        TypeError, ValueError: If it is not two whole numbers of at least 1.
    """
    wanted = f"image_size must be (height, width) in pixels, got {shown(image_size)}"
    if not isinstance(image_size, Sequence) or isinstance(image_size, (str, bytes)):
        raise TypeError(wanted)
    if len(image_size) != 2:
        raise ValueError(wanted)
    height, width = image_size
    if torch.compiler.is_compiling():  # which may trace them as symbols
        return height, width
    return positive_int("image_size", height), positive_int("image_size", width)


def _weighted(samples: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Return a weighted sum of red, green and blue, ``[…, 1]``."""
    red, green, blue = samples.split(1, dim=-1)
    return weights[0] * red + weights[1] * green + weights[2] * blue


@isolated
def _decay(array: SensorArray, scale: float) -> Tensor:
    """Return the exponential decay with eccentricity over ``scale`` degrees, ``[N]``."""
    return torch.exp(-array.eccentricity / scale).float()


@isolated
def _normalisation(mean: Any, std: Any) -> tuple[Tensor | None, Tensor | None]:
    """Check mean and std and return them as vectors."""
    if mean is None and std is None:
        return None, None
    if mean is None or std is None:
        given = f"mean={shown(mean)} and std={shown(std)}"
        raise ValueError(f"mean and std must be given together, got {given}")
    given = f"{shown(mean)} and {shown(std)}"
    center, scale = _numbers("mean", mean), _numbers("std", std)
    if center.dim() != 1 or center.shape != scale.shape:
        raise ValueError(f"mean and std must have one entry a channel, got {given}")
    if not (center.isfinite().all() and scale.isfinite().all() and (scale > 0).all()):
        raise ValueError(f"mean must be finite, std finite and above 0, got {given}")
    return center, scale


def _numbers(name: str, values: Any) -> Tensor:
    values = list(values) if isinstance(values, Sequence) else values  # OmegaConf's, for torch
    return as_floats(name, values).float()


def _varied(colors: Tensor, vary: Callable[[Tensor], Tensor]) -> Tensor:
    if not callable(vary):
        raise TypeError(f"vary must be a function of colours, or None, got {shown(vary)}")
    varied = vary(colors)
    if not isinstance(varied, Tensor) or varied.shape != colors.shape:
        raise ValueError(
            f"vary must return colours of shape {list(colors.shape)}, got {shown(varied)}"
        )
    return varied


@isolated
def _cell_sides(array: SensorArray) -> Tensor:
    """Return the side of every node's cell, as a fraction of the field of view's diameter, ``[N]``.

    The mean distance to the four nearest nodes: in a square lattice, its spacing.
    """
    if len(array) == 1:
        return torch.ones(1)
    _, distance = k_nearest(array.cartesian, array.cartesian, min(5, len(array)))
    return (distance.sort(dim=1).values[:, 1:].mean(dim=1) / 2).float()


def _normalised(images: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of positions ``[B, F, N, 2]`` as ``grid_sample`` counts them, in [-1, 1]."""
    row, column = pixels.unbind(-1)
    return 2 * row / images.shape[2] - 1, 2 * column / images.shape[3] - 1


def _nearest(images: Tensor, pixels: Tensor) -> Tensor:
    """Values ``[B, F, N, C]`` of the pixels that positions ``[B, F, N, 2]`` fall in.

    Looked up directly, as ``grid_sample`` takes no integers, but rounded as it rounds: on a border
    between two pixels, to the even one.
    """
    row, column = (
        ((place + 1) * (size / 2) - 0.5).round()
        for place, size in zip(_normalised(images, pixels.detach()), images.shape[2:], strict=True)
    )
    inside = (row >= 0) & (row < images.shape[2]) & (column >= 0) & (column < images.shape[3])
    row, column = (index.where(inside, 0.0).long() for index in (row, column))
    image = torch.arange(len(images), device=images.device)[:, None, None]
    samples = images.movedim(1, -1)[image, row, column].masked_fill(~inside[..., None], 0)
    if images.dtype == torch.uint8:
        return samples / 255
    return samples


def _bilinear(images: Tensor, pixels: Tensor, divide_first: bool) -> Tensor:
    """Values ``[B, F, N, C]`` of the images, interpolated at positions ``[B, F, N, 2]``."""
    if images.dtype == torch.uint8:
        if divide_first:
            return _interpolated(images, pixels, lambda values: values / 255)
        return _interpolated(images, pixels, Tensor.float) / 255
    if images.dtype.itemsize < 4:
        return _interpolated(images, pixels, Tensor.float).to(images.dtype)
    return _grid_sample(images, pixels)


def _grid_sample(images: Tensor, pixels: Tensor) -> Tensor:
    row, column = _normalised(images, pixels)
    grid = torch.stack((column, row), dim=-1).to(images.dtype)
    samples = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    return samples.movedim(1, -1)


def _interpolated(images: Tensor, pixels: Tensor, convert: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``_grid_sample(convert(images), pixels)``; of large images, convert only what is read.

    Rounded as ``grid_sample`` rounds, which multiplies and adds in one step (``addcmul``) where the
    processor can. Gradients are ``grid_sample``'s own, and need the whole image.
    """
    small = images.shape[2] * images.shape[3] <= FEW * pixels.shape[1] * pixels.shape[2]
    if small or (torch.is_grad_enabled() and (images.requires_grad or pixels.requires_grad)):
        return _grid_sample(convert(images), pixels)
    dtype = convert(images.new_empty(0)).dtype
    half = images.new_full((), 0.5, dtype=dtype)
    row, column = (
        torch.addcmul(-half, place.to(dtype) + 1, half * size)
        for place, size in zip(_normalised(images, pixels), images.shape[2:], strict=True)
    )
    top, left = row.floor(), column.floor()
    down, right = row - top, column - left
    up, back = 1 - down, 1 - right
    image = torch.arange(len(images), device=images.device)[:, None, None]
    channels_last = images.movedim(1, -1)
    total: Tensor | None = None
    for r, c, weight in (
        (top, left, back * up),
        (top, left + 1, right * up),
        (top + 1, left, back * down),
        (top + 1, left + 1, right * down),
    ):
        inside = (r >= 0) & (r < images.shape[2]) & (c >= 0) & (c < images.shape[3])
        index = (image, r.where(inside, 0.0).long(), c.where(inside, 0.0).long())
        values = convert(channels_last[index].masked_fill(~inside[..., None], 0))
        weight = weight[..., None]
        total = values * weight if total is None else torch.addcmul(total, values, weight)
    assert total is not None  # there are four pixels
    return total


def _oversampling(value: Any) -> float:
    oversampling = positive_float("oversampling", value)
    if oversampling < 1:
        raise ValueError(f"oversampling must be at least 1, got {oversampling}")
    return oversampling


def _finer(array: SensorArray, oversampling: float) -> SensorArray:
    try:
        return array.with_resolution(round(oversampling * array.resolution))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"oversampling must be smaller, got {oversampling:g}: {error}") from error


@isolated
def _size_pair(value: Any) -> tuple[float, float]:
    size = as_floats("fixation_size", value)
    if size.shape not in ((), (2,)):
        given = shown(value)
        raise ValueError(f"fixation_size must be a number or (height, width), got {given}")
    height, width = size.double().expand(2).tolist()
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise ValueError(f"fixation_size must be finite and above 0 pixels, got {value!r}")
    return height, width
