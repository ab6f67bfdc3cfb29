"""Answers many requests at once: images are sampled one by one, and computed together."""

from __future__ import annotations

import asyncio
import io
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fovigraph.models import FoviNet
from fovigraph.models.predict import labels_of, top_classes
from fovigraph.sensing.fixation import Fixations
from fovigraph.sensing.image import pixels_of, read_rgb
from fovigraph.serve.limits import Limits, Refusal

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Formats that are read: those that browsers know, each of which says its size first."""


@dataclass
class Seen:
    """What the retina sampled of one image, ``[1, F, N, C]``, and what is made of it."""

    samples: Tensor
    views: Fixations
    top: int
    answer: Future[dict[str, Any]]


class Answerer:
    """Answers with a network, in threads of its own.

    An image is decoded and sampled as soon as a thread is free, and forgotten. Samples, which are
    as many whatever the image's size, are computed together with those of the requests that came
    while the ones before were computed.

    Args:
        net: The network, in evaluation mode.
        limits: What is accepted.
        on_batch: Called with the size of every batch.
    """

    def __init__(
        self, net: FoviNet, limits: Limits, on_batch: Callable[[int], None] = lambda size: None
    ):
        self.net, self.limits, self._on_batch = net, limits, on_batch
        self._device = next(net.parameters()).device
        self._eyes = ThreadPoolExecutor(limits.threads, thread_name_prefix="fovigraph-eye")
        self._waiting: queue.SimpleQueue[Seen | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._compute, name="fovigraph-net", daemon=True)
        self._thread.start()

    async def answer(self, file: bytes, fixations: Tensor | None, top: int) -> dict[str, Any]:
        """Classify an image.

        Args:
            file: Its file.
            fixations: Where to look, ``[F, 2]``; ``None`` leaves it to the network's policy.
            top: Number of classes to name.

        Raises:
            Refusal: If it is no image (400), or has too many pixels (413).
        """
        loop = asyncio.get_running_loop()
        seen = await loop.run_in_executor(self._eyes, self._look, file, fixations, top)
        self._waiting.put(seen)
        return await asyncio.wrap_future(seen.answer)

    def close(self) -> None:
        """End the threads, once what waits is answered."""
        self._eyes.shutdown()
        self._waiting.put(None)
        self._thread.join()

    @torch.inference_mode()
    def _look(self, file: bytes, fixations: Tensor | None, top: int) -> Seen:
        image = decoded(file, self.limits)[None].to(self._device)
        views = self.net.views(image, fixations)
        samples = self.net.retina(image, *views, divide_first=True)
        return Seen(samples, views, top, Future())

    def _compute(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch: list[Seen] = [first]
            ended = False
            while len(batch) < self.limits.batch and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    ended = True
                    break
                batch.append(following)
            self._on_batch(len(batch))
            for count in {seen.samples.shape[1] for seen in batch}:
                self._answer([seen for seen in batch if seen.samples.shape[1] == count])
            if ended:
                return

    @torch.inference_mode()
    def _answer(self, batch: Sequence[Seen]) -> None:
        """Answer requests of equally many fixations together."""
        try:
            samples = torch.cat([seen.samples for seen in batch])
            entries = zip(*(seen.views for seen in batch), strict=True)
            views = Fixations(*map(torch.cat, entries))
            out = self.net.see_samples(samples, views).cpu()
            told = zip(
                batch,
                out.probabilities,
                out.fixation_probabilities,
                out.fixations.tolist(),
                strict=True,
            )
            for seen, probabilities, alone, fixations in told:
                seen.answer.set_result(self._told(probabilities, alone, fixations, seen.top))
        except Exception as error:  # whatever it is, nobody may wait for ever
            for seen in batch:
                if not seen.answer.done():
                    seen.answer.set_exception(error)

    def _told(
        self, probabilities: Tensor, alone: Tensor, fixations: list[list[float]], top: int
    ) -> dict[str, Any]:
        names = self.net.class_names
        best = top_classes(probabilities, names, top)
        answer: dict[str, Any] = {
            "class": best[0][0],
            "probability": best[0][1],
            "top": [{"class": name, "probability": share} for name, share in best],
            "fixations": [
                {"row": row, "column": column, "class": name, "probability": share}
                for (row, column), each in zip(fixations, alone, strict=True)
                for name, share in top_classes(each, names, 1)
            ],
        }
        if self.net.config.head.multi_label:
            answer["labels"] = labels_of(probabilities, names)
        return answer


def decoded(file: bytes, limits: Limits) -> Tensor:
    """Return an image file as uint8 ``[3, H, W]``; its size is looked at before it is decoded.

    Raises:
        Refusal: If it is no image (400), or has too many pixels (413).
    """
    try:
        with Image.open(io.BytesIO(file), formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise _too_many_pixels(limits) from None
    except Exception:  # decoders raise nearly everything
        raise Refusal(400, f"the body must be an image file: {', '.join(FORMATS)}") from None
    if width * height > limits.pixels:
        raise _too_many_pixels(limits)
    try:
        return pixels_of(read_rgb(io.BytesIO(file), "the image"))
    except ValueError as error:
        raise Refusal(400, str(error)) from None


def _too_many_pixels(limits: Limits) -> Refusal:
    return Refusal(413, f"the image must have at most {limits.pixels:,} pixels")
