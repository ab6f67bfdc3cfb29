"""Loads a server with many clients at a time, then with clients that mean harm.

    fovigraph serve fovi_cifar10 --port 8000 &
    python benchmarks/serve.py --url http://127.0.0.1:8000 --clients 200 --seconds 60

Each client posts a photograph, waits for the answer, and posts it again. Then come a bomb (a PNG
of few bytes and 20,000² pixels), a file of 1 GB and clients that send a byte a second. Printed are
requests a second, the median and 99th percentile of their times, answers by status, and the
server's memory (Linux) before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import struct
import time
import zlib
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from common import FOLDER, machine, write_json
from PIL import Image


def photograph() -> bytes:
    """A JPEG file of 640 × 480 pixels."""
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 255, (60, 80, 3), dtype=np.uint8))
    file = io.BytesIO()
    image.resize((640, 480)).save(file, "JPEG")
    return file.getvalue()


def bomb(side: int = 20_000) -> bytes:
    """A PNG file of a few hundred kilobytes that would fill gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    line = bytes(1 + 3 * side)
    body = b"".join(packer.compress(line) for _ in range(side)) + packer.flush()
    parts = chunk(b"IHDR", head), chunk(b"IDAT", body), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class Client:
    """Posts files to a server over one connection."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.reader: asyncio.StreamReader | None = None

    async def post(self, file: bytes) -> int:
        """Returns the status; 0 if the connection was closed."""
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        head = f"POST /predict HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(file)}\r\n\r\n"
        try:
            self.writer.write(head.encode() + file)
            answer = await self.reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await self.reader.readexactly(length)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.reader = None
            return 0
        if b"connection: close" in answer.lower():
            self.writer.close()
            self.reader = None
        return int(answer.split()[1])


async def load(url: str, clients: int, seconds: float) -> dict[str, object]:
    """Posts a photograph from many clients for some seconds."""
    file, ends = photograph(), time.perf_counter() + seconds
    times: list[float] = []
    statuses: Counter[int] = Counter()

    async def run() -> None:
        client = Client(url)
        while time.perf_counter() < ends:
            began = time.perf_counter()
            status = await client.post(file)
            statuses[status] += 1
            if status == 200:
                times.append(time.perf_counter() - began)
            elif status == 429:
                await asyncio.sleep(1)

    await asyncio.gather(*(run() for _ in range(clients)))
    times.sort()
    return {
        "clients": clients,
        "seconds": seconds,
        "answers_per_second": round(len(times) / seconds, 1),
        "median_milliseconds": round(1e3 * times[len(times) // 2], 1),
        "p99_milliseconds": round(1e3 * times[int(0.99 * len(times))], 1),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
    }


async def harm(url: str) -> dict[str, object]:
    """Posts what should be refused, and returns the statuses and how long that took."""
    found: dict[str, object] = {}
    for name, file in (("bomb", bomb()), ("noise", bytes(1000))):
        began = time.perf_counter()
        status = await Client(url).post(file)
        found[name] = {"status": status, "seconds": round(time.perf_counter() - began, 2)}
    parts = urlsplit(url)
    for name, head in (
        ("gigabyte", b"Content-Length: 1000000000\r\n\r\n"),
        ("endless", b"Transfer-Encoding: chunked\r\n\r\n"),
        ("slow body", b"Content-Length: 1000\r\n\r\n"),
        ("slow head", b"X: "),
    ):
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + head)
        answer = asyncio.create_task(reader.read(200))
        sent = 0
        while not answer.done() and time.perf_counter() - began < 60:
            part = b"10000\r\n" + bytes(65536) + b"\r\n" if name == "endless" else bytes(65536)
            try:
                writer.write(b"a" if "slow" in name else part)
                sent += 1 if "slow" in name else 65536
                await asyncio.wait_for(writer.drain(), 1)
            except (ConnectionError, asyncio.TimeoutError):
                pass
            await asyncio.wait([answer], timeout=1 if "slow" in name else 0.001)
        try:
            said = answer.result() if answer.done() else b""
        except ConnectionError:
            said = b""
        writer.close()
        found[name] = {
            "status": int(said.split()[1]) if said else "closed",
            "seconds": round(time.perf_counter() - began, 2),
            "bytes_sent": sent,
        }
    return found


def memory(process: int | None) -> float | None:
    """Megabytes that a process has in memory."""
    if process is None:
        return None
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None


async def main() -> None:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the server")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pid", type=int, help="the server's process, to read its memory")
    parser.add_argument("--json", type=Path, default=FOLDER / "results" / "serve-cpu.json")
    options = parser.parse_args()
    await load(options.url, 8, 5)  # warms up
    megabytes = [memory(options.pid)]
    found: dict[str, object] = {"load": await load(options.url, options.clients, options.seconds)}
    megabytes.append(memory(options.pid))
    found["harm"] = await harm(options.url)
    megabytes.append(memory(options.pid))
    found |= {"megabytes": megabytes, "machine": machine(2)}
    for name, value in found.items():
        print(name, value)
    write_json(options.json, found)


if __name__ == "__main__":
    asyncio.run(main())
