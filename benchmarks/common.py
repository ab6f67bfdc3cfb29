"""What the benchmarks share: the networks measured, timing, worker processes, reports.

Runs under the peer's Python too, and imports nothing heavy: a process inherits its parent's peak
memory, so a parent that measures its children's must stay small.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

FOLDER = Path(__file__).resolve().parent
FOV = 16.0
CMF_A = 0.5


@dataclass(frozen=True)
class ConvSpec:
    """One convolution, from an array matched to a square image of one side to another.

    Its form is "full", "depthwise" (every channel by itself, to a multiple of the input channels)
    or "separable" (that, and then a linear map over channels).
    """

    in_channels: int
    out_channels: int
    k: int
    kernel_size: int
    side_in: int
    side_out: int
    form: str = "full"

    @property
    def stride(self) -> int:
        """How much smaller the output's side is."""
        return self.side_in // self.side_out

    def __str__(self) -> str:
        cells = self.kernel_size**2
        return f"{self.in_channels}→{self.out_channels}, k {self.k}, {cells} cells"

    def as_request(self) -> dict[str, Any]:
        """The specification as JSON."""
        return asdict(self)


# Pools, which are not measured, halve the side after some layers. Kernels have twice the
# neighbourhood's resolution. `fovinet` strides as FoviNet does, `classifier` as the plain AlexNet;
# `depthwise` and `separable` stride as `fovinet` with channels that are multiples of each other.
NETWORKS: dict[str, tuple[ConvSpec, ...]] = {
    "fovinet": (
        ConvSpec(3, 96, 121, 22, 64, 32),
        ConvSpec(96, 256, 25, 10, 16, 16),
        ConvSpec(256, 384, 9, 6, 8, 8),
        ConvSpec(384, 384, 9, 6, 8, 8),
        ConvSpec(384, 256, 9, 6, 8, 8),
    ),
    "classifier": (
        ConvSpec(3, 96, 121, 22, 64, 16),
        ConvSpec(96, 256, 25, 10, 16, 16),
        ConvSpec(256, 384, 9, 6, 8, 8),
        ConvSpec(384, 384, 27, 11, 8, 8),
        ConvSpec(384, 256, 9, 6, 8, 8),
    ),
}
for form in ("depthwise", "separable"):
    NETWORKS[form] = (
        ConvSpec(3, 96, 121, 22, 64, 32, form),
        ConvSpec(96, 192, 25, 10, 16, 16, form),
        ConvSpec(192, 384, 9, 6, 8, 8, form),
        ConvSpec(384, 384, 9, 6, 8, 8, form),
        ConvSpec(384, 384, 9, 6, 8, 8, form),
    )


def seconds_of(
    call: Callable[[], object], repeats: int, wait: Callable[[], object] = lambda: None
) -> list[float]:
    """Times a call.

    Args:
        call: What to time.
        repeats: How often.
        wait: Returns when the work that the call has started is done (on a GPU).

    Returns:
        Seconds of each call.
    """
    seconds = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        call()
        wait()
        seconds.append(time.perf_counter() - start)
    return seconds


def peak_megabytes() -> float:
    """The most memory that this process has had resident, in MB."""
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


class Worker:
    """A process that answers JSON requests, one per line, and computes only while asked to."""

    def __init__(self, python: str, script: str) -> None:
        """Starts `script`, a file of this folder, under the interpreter `python`."""
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(FOLDER / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._requests = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)

    def ask(self, task: str, **request: Any) -> Any:
        """Sends a request and waits for the answer.

        Raises:
            RuntimeError: The worker failed; what it wrote is on the standard error stream.
        """
        self._requests.write(json.dumps({"task": task, **request}) + "\n")
        self._requests.flush()
        answer = self._answers.readline()
        if not answer:
            raise RuntimeError(f"worker failed at {task!r} with {request}")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process."""
        self._requests.close()
        self._process.wait()


def serve(tasks: dict[str, Callable[..., Any]]) -> None:
    """Answers requests from the standard input until it closes: a worker's main loop."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what tasks print must not mix with answers
    for line in sys.stdin:
        request = json.loads(line)
        answer = tasks[request.pop("task")](**request)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def median_ms(seconds: Sequence[float]) -> float:
    """The median in milliseconds."""
    return 1e3 * statistics.median(seconds)


def machine(threads: int | None = None) -> dict[str, Any]:
    """Describes the machine without naming it."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table in Markdown, its columns aligned; the first to the left."""
    cells = [[_cell(value) for value in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    for row in (cells[0], rule, *cells[1:]):
        padded = [
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("| " + " | ".join(padded) + " |")


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)


def ratio(a: float | None, b: float | None) -> float | None:
    """The ratio of two numbers, or None where either is missing."""
    return None if a is None or not b else a / b


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Keeps a result, its numbers rounded to what is meaningful."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(result), indent=1, ensure_ascii=False) + "\n")
    print(f"\nwritten to {path}")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
