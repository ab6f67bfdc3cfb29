"""What a server accepts: sizes, pixels, time, and how much of it at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from fovigraph._checks import positive_float, positive_int


class Refusal(Exception):
    """A request is refused.

    Args:
        status: The status of the answer, of HTTP.
        message: What is wrong.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Limits:
    """What a server accepts.

    Attributes:
        file_bytes: Largest image file.
        pixels: Most pixels of an image.
        seconds: Longest time that a request may take to arrive.
        requests: Most requests at a time; more are told to come back.
        waiting_bytes: Most bytes of files at a time, of all requests.
        fixations: Most fixations of a request.
        batch: Most images that are computed together.
        threads: Images that are decoded and sampled at a time.

    Raises:
        ValueError, TypeError: If one of them is not above 0.
    """

    file_bytes: int = 10_000_000
    pixels: int = 25_000_000
    seconds: float = 10.0
    requests: int = 256
    waiting_bytes: int = 256_000_000
    fixations: int = 64
    batch: int = 64
    threads: int = 2

    def __post_init__(self) -> None:
        for field in fields(self):
            check = positive_float if field.name == "seconds" else positive_int
            check(field.name, getattr(self, field.name))


class Admission:
    """Counts the requests that are being answered, and the bytes of their files."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.requests = self.bytes = 0

    @contextmanager
    def admit(self, length: int | None) -> Iterator[None]:
        """Count a request while it is answered.

        Args:
            length: Bytes of its file, if it says so; otherwise it may have as many as are allowed.

        Raises:
            Refusal: If it is too long (413), or there are too many (429).
        """
        limits = self.limits
        if length is not None and length > limits.file_bytes:
            raise too_long(limits)
        length = limits.file_bytes if length is None else length
        if self.requests >= limits.requests or self.bytes + length > limits.waiting_bytes:
            raise Refusal(429, "too many requests at a time; try again in a second")
        self.requests, self.bytes = self.requests + 1, self.bytes + length
        try:
            yield
        finally:
            self.requests, self.bytes = self.requests - 1, self.bytes - length


def too_long(limits: Limits) -> Refusal:
    """Return the refusal of a file that is too long."""
    return Refusal(413, f"the image file must have at most {limits.file_bytes:,} bytes")


async def receive(stream: AsyncIterator[bytes], limits: Limits) -> bytes:
    """Return the body of a request, in bounded time and memory.

    Raises:
        Refusal: If it is too long (413), or takes too long (408).
    """
    try:
        return await asyncio.wait_for(_whole(stream, limits), limits.seconds)
    except asyncio.TimeoutError:
        message = f"the image must arrive within {limits.seconds:g} seconds"
        raise Refusal(408, message) from None


async def _whole(stream: AsyncIterator[bytes], limits: Limits) -> bytes:
    body = bytearray()
    async for part in stream:
        if len(body) + len(part) > limits.file_bytes:
            raise too_long(limits)
        body += part
    return bytes(body)
