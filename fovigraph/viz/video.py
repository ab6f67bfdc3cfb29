"""Videos, read and written a frame at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import GifImagePlugin, Image, ImageSequence, UnidentifiedImageError
from torch import Tensor

from fovigraph._checks import path_of, positive_float, regular_file, shown

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
"""Suffixes of the files that are videos, and nothing else."""

WRITTEN = (".mp4", ".gif")
"""Suffixes of the videos that are written."""

FPS = 30.0
"""Frames a second of an mp4 file, if nothing else is said."""

STILL = 0.1
"""Seconds that a frame of a GIF lasts which does not say how long."""


class VideoFrame(NamedTuple):
    """One frame of a video.

    Attributes:
        image: ``[3, H, W]``, uint8.
        start: When it is shown first, seconds from the beginning.
        seconds: How long it is shown.
    """

    image: Tensor
    start: float
    seconds: float


def read_video(path: str | os.PathLike[str]) -> Iterator[VideoFrame]:
    """Yield the frames of a video, each decoded when it is asked for.

    GIFs are read by Pillow; all else by PyAV (the extra ``video``).

    Args:
        path: The file.

    Raises:
        TypeError: If ``path`` is no path.
        FileNotFoundError: If there is no such file.
        ImportError: If PyAV is missing, and needed.
        ValueError: If the file is no regular file, cannot be decoded or has no frames. What is
            broken late in a video is found there.

    Example:
        >>> from fovigraph.viz import read_video
        >>> for frame in read_video("clip.mp4"):  # doctest: +SKIP
        ...     print(frame.start, frame.image.shape)
    """
    file = path_of("path", path)
    try:
        regular_file(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such video file: {file}") from None
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from error
    frames = _read_gif(file) if file.suffix.lower() == ".gif" else _read_av(file)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"path must be a video with frames, got {file}, which has none")
    return _chain(first, frames)


def _chain(first: VideoFrame, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    yield first
    yield from frames


def _read_gif(file: Path) -> Iterator[VideoFrame]:
    start = 0.0
    try:
        with Image.open(file) as image:
            for frame in ImageSequence.Iterator(image):
                pixels = np.asarray(frame.convert("RGB"))
                seconds = float(frame.info.get("duration", 0)) / 1000 or STILL
                yield VideoFrame(_as_tensor(pixels), start, seconds)
                start += seconds
    except (UnidentifiedImageError, OSError, EOFError, SyntaxError) as error:
        raise _undecodable(file, error) from error


def _read_av(file: Path) -> Iterator[VideoFrame]:
    av = import_av()
    try:
        with av.open(os.fspath(file)) as container:
            if not container.streams.video:
                return
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            usual = 1 / float(stream.average_rate or stream.guessed_rate or FPS)
            waiting: VideoFrame | None = None  # until the next one says how long it lasts
            first = 0.0
            for frame in container.decode(stream):
                start = 0.0
                if waiting is None:
                    first = frame.time or 0.0
                elif frame.time is None:
                    start = waiting.start + usual
                else:
                    start = max(frame.time - first, waiting.start + 1e-6)
                if waiting is not None:
                    yield waiting._replace(seconds=start - waiting.start)
                # As it is to be shown: cameras may lie on their side.
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                waiting = VideoFrame(_as_tensor(pixels), start, usual)
            if waiting is not None:
                yield waiting
    except (av.error.FFmpegError, OSError) as error:
        raise _undecodable(file, error) from error


def video_seconds(path: str | os.PathLike[str]) -> float | None:
    """Return how long a video says that it lasts; None: it does not say.

    Raises:
        ImportError, ValueError, OSError: As :func:`read_video`.
    """
    file = path_of("path", path)
    if file.suffix.lower() == ".gif":
        return None
    av = import_av()
    try:
        with av.open(os.fspath(file)) as container:
            return None if container.duration is None else container.duration / av.time_base
    except (av.error.FFmpegError, OSError) as error:
        raise _undecodable(file, error) from error


def _as_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).contiguous()


def _undecodable(file: Path, error: Exception) -> ValueError:
    reason = getattr(error, "strerror", None) or str(error)
    return ValueError(f"path must be a video that can be decoded, got {file}: {reason}")


def import_av() -> ModuleType:
    """Return PyAV, or say which extra it is in."""
    try:
        import av
    except ImportError as error:
        raise ImportError("videos need PyAV: pip install 'fovigraph[video]'") from error
    return av  # type: ignore[no-any-return]


class VideoWriter:
    """Writes a video a frame at a time: MP4 (H.264), or GIF, which needs Pillow alone.

    All frames have the size of the first; MP4 cuts the last row or column off odd sizes. What is
    not finished is removed: the file is there only when all went well.

    Args:
        path: The file, ending in ``.mp4`` or ``.gif``.
        fps: Frames a second of an MP4, from 1 to 240. A frame that is shown for longer is repeated.

    Raises:
        TypeError, ValueError: If an argument is not of the kind said above.
        ImportError: If PyAV (the extra ``video``) is missing, for an MP4.
        OSError: If the file cannot be written.

    Example:
        >>> import torch
        >>> from fovigraph.viz import VideoWriter
        >>> with VideoWriter("noise.gif") as video:  # doctest: +SKIP
        ...     for _ in range(10):
        ...         video.write(torch.rand(3, 64, 96), seconds=0.1)
    """

    def __init__(self, path: str | os.PathLike[str], fps: float = FPS):
        self.path = path_of("path", path)
        self._fps = positive_float("fps", fps, 1.0, 240.0)
        suffix = self.path.suffix.lower()
        if suffix not in WRITTEN:
            raise ValueError(f"path must end in {' or '.join(WRITTEN)}, got {shown(str(path))}")
        self._encoder: _Gif | _Mp4
        self._encoder = _Gif(self.path) if suffix == ".gif" else _Mp4(self.path, self._fps)
        self._shape: tuple[int, ...] | None = None

    def write(self, image: Tensor | np.ndarray, seconds: float | None = None) -> None:
        """Add a frame.

        Args:
            image: ``[3, H, W]``, uint8 or float in [0, 1].
            seconds: How long it is shown; ``None``: one frame of an MP4.

        Raises:
            ValueError, TypeError: If it is no such image, or of another size than the first.
        """
        pixels = _as_pixels(image)
        if self._shape is None:
            self._shape = pixels.shape
        if pixels.shape != self._shape:
            raise ValueError(
                f"image must have the first frame's size, {self._shape[0]} × {self._shape[1]} "
                f"pixels, got {pixels.shape[0]} × {pixels.shape[1]}"
            )
        seconds = 1 / self._fps if seconds is None else positive_float("seconds", seconds)
        self._encoder.add(pixels, seconds)

    def close(self) -> None:
        """Finish the file.

        Raises:
            ValueError: If no frame was written.
        """
        if self._shape is None:
            self._encoder.abandon()
            raise ValueError("a video must have at least one frame, got none")
        self._encoder.finish()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._encoder.abandon()


def _as_pixels(image: Tensor | np.ndarray) -> np.ndarray:
    """Return an image as ``[H, W, 3]``, uint8."""
    given = torch.as_tensor(image)
    if given.ndim != 3 or given.shape[0] != 3 or 0 in given.shape:
        raise ValueError(f"image must have shape [3, H, W], got {list(given.shape)}")
    if given.is_floating_point():
        given = (given.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    if given.dtype != torch.uint8:
        raise TypeError(f"image must be uint8 or floating point, got {given.dtype}")
    return given.cpu().permute(1, 2, 0).contiguous().numpy()


class _Gif:
    """A GIF, every frame with 256 colours of its own."""

    def __init__(self, path: Path):
        self._path, self._part = path, _part(path)
        self._file: BinaryIO = self._part.open("wb")
        self._begun, self._owed = False, 0.0

    def add(self, pixels: np.ndarray, seconds: float) -> None:
        frame = Image.fromarray(pixels).quantize(256)
        if not self._begun:
            for block in GifImagePlugin.getheader(frame, info={"loop": 0})[0]:
                self._file.write(block)
            self._begun = True
        # In hundredths of a second; what rounding leaves over, the next frame gets.
        hundredths = max(round(100 * (seconds + self._owed)), 1)
        self._owed += seconds - hundredths / 100
        blocks = GifImagePlugin.getdata(
            frame, (0, 0), duration=10 * hundredths, include_color_table=True
        )
        for block in blocks:
            self._file.write(block)

    def finish(self) -> None:
        self._file.write(b";")
        self._file.close()
        os.replace(self._part, self._path)

    def abandon(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)


class _Mp4:
    """An MP4 of H.264, which any browser plays."""

    def __init__(self, path: Path, fps: float):
        self._av = import_av()
        self._path, self._part = path, _part(path)
        self._rate = Fraction(fps).limit_denominator(1001)
        self._container: Any = self._av.open(
            os.fspath(self._part), "w", format="mp4", options={"movflags": "faststart"}
        )
        self._stream: Any = None
        self._count, self._due = 0, 0.0

    def add(self, pixels: np.ndarray, seconds: float) -> None:
        pixels = pixels[: len(pixels) // 2 * 2, : pixels.shape[1] // 2 * 2]
        if not pixels.size:
            raise ValueError("image must be at least 2 × 2 pixels for an MP4")
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate)
            self._stream.height, self._stream.width = pixels.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {"crf": "18"}
        self._due += seconds
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        while self._count < max(round(self._due * self._rate), 1):
            frame.pts, frame.time_base = self._count, 1 / self._rate
            self._container.mux(self._stream.encode(frame))
            self._count += 1

    def finish(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()
        os.replace(self._part, self._path)

    def abandon(self) -> None:
        with suppress(Exception):  # a file without a frame has no header
            self._container.close()
        self._part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return path.with_name(f".{path.name}.part")
