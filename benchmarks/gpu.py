"""Times the kernels on a GPU: ours, the peer's, cuDNN's, beside what the chip could do at best.

    python benchmarks/gpu.py --peer PEER/bin/python

The five convolutions of a FoviNet and its whole backbone, 1 to 512 images × 4 fixations, in float32
(exact and as TF32), bfloat16 and float16, inference and training. All take turns on one GPU, never
two at a time. README.md says how to make the peer's environment; on a GPU it needs CuPy, too.

Times are medians of calls in a row, as a user's program makes them. For inference also those of
replaying a CUDA graph (ours and dense): what is left without Python. The dense convolution is
cuDNN's choice (``cudnn.benchmark``), channels first or last, whichever is faster. Beside each time
are two floors: the arithmetic (2 FLOP per triple, channel and output; three times that in training,
twice in a first layer, whose input is an image) over the measured rate of a large square matrix
product of the same dtype, and the bytes of all inputs and outputs, each once, over the measured
rate of copying. *Memory* is the most that a call allocates, over the bytes of its input, output and
weights. (``--device cpu`` tries the script out; its times mean nothing.)
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from unittest import mock

from common import (
    CMF_A,
    FOLDER,
    FOV,
    NETWORKS,
    ConvSpec,
    Worker,
    machine,
    print_table,
    ratio,
    seconds_of,
    serve,
    write_json,
)

NETWORK = NETWORKS["fovinet"]
BATCHES = (1, 16, 128, 512)
FIXATIONS = 4
DTYPES = ("float32", "tf32", "bfloat16", "float16")
PASSES = {"inference": False, "training": True}
ROLE = "FOVIGRAPH_BENCHMARK_ROLE"
Found = dict[str, Any]


# What is measured, in the main process ------------------------------------------------------------


def main() -> None:
    """Measures, prints the tables, writes the result."""
    options = parse()
    with ExitStack() as stack:
        workers = {who: stack.enter_context(closing(worker)) for who, worker in start(options)}
        request = {
            "layers": [spec.as_request() for spec in NETWORK],
            "device": options.device,
        }
        told = {who: worker.ask("prepare", **request) for who, worker in workers.items()}
        ceilings = workers["ours"].ask("ceilings", device=options.device, dtypes=options.dtypes)
        layers = told["ours"]["layers"]
        results = []
        for dtype, batch, name in itertools.product(options.dtypes, options.batches, PASSES):
            views = batch * FIXATIONS
            rows = measure(workers, views, dtype, name, options.seconds)
            add_floors(rows, layers, views, dtype, PASSES[name], ceilings)
            results.append({"dtype": dtype, "images": batch, "pass": name, "rows": rows})
            print(f"\n{dtype}, {batch} images × {FIXATIONS} fixations, {name}, milliseconds")
            report(rows)
    write_json(
        options.json or FOLDER / "results" / f"gpu-{options.device}.json",
        {
            "fov": FOV,
            "cmf_a": CMF_A,
            "fixations": FIXATIONS,
            "machine": machine() | {"gpu": told["ours"]["gpu"]},
            "versions": {who: about["versions"] for who, about in told.items()},
            "ceilings": ceilings,
            "layers": [
                spec.as_request() | about for spec, about in zip(NETWORK, layers, strict=True)
            ],
            "results": results,
        },
    )


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PYTHON", help="the peer environment's interpreter")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, metavar="IMAGES")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--seconds", type=float, default=0.3, help="spent on each time (0.3)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to keep the result")
    return parser.parse_args()


def start(options: argparse.Namespace) -> list[tuple[str, Worker]]:
    """Starts a process for ours and dense, and one for the peer: this file, in other roles."""
    workers = []
    for who, python in (("ours", sys.executable), ("peer", options.peer)):
        if python:
            with mock.patch.dict(os.environ, {ROLE: who}):
                workers.append((who, Worker(python, Path(__file__).name)))
    return workers


def measure(
    workers: dict[str, Worker], views: int, dtype: str, name: str, seconds: float
) -> list[Found]:
    """Asks for each layer, and last for the whole backbone, by every candidate in turn."""
    rows = []
    for i in range(len(NETWORK) + 1):
        row: Found = {"layer": str(NETWORK[i]) if i < len(NETWORK) else "backbone"}
        for who in ("ours", "peer", "dense"):
            worker = workers.get("ours" if who == "dense" else who)
            if worker is not None and (who != "dense" or i < len(NETWORK)):
                row[who] = worker.ask(
                    "measure",
                    which=who,
                    layer=i,
                    views=views,
                    dtype=dtype,
                    backward=PASSES[name],
                    seconds=seconds,
                )
        rows.append(row)
    return rows


def add_floors(
    rows: list[Found],
    layers: list[dict[str, int]],
    views: int,
    dtype: str,
    backward: bool,
    ceilings: dict[str, float],
) -> None:
    """Writes into each row the floors in seconds; the backbone's are the sum of its layers'."""
    size = 4 if dtype in ("float32", "tf32") else 2
    sums = [0.0, 0.0]
    for i, row in enumerate(rows):
        if i < len(NETWORK):
            work = floors(NETWORK[i], layers[i], views, size, backward, first=i == 0)
            times = [work[0] / ceilings[dtype], work[1] / ceilings["copy"]]
            sums = [total + time for total, time in zip(sums, times, strict=True)]
            row["flop"] = work[0]
        else:
            times = sums
        row["arithmetic"], row["bytes"] = times


def floors(
    spec: ConvSpec, layer: dict[str, int], views: int, size: int, backward: bool, first: bool
) -> tuple[float, float]:
    """Counts what a layer cannot do without.

    Args:
        spec: Its channels and cells.
        layer: Its ``nodes_in``, ``nodes_out`` and ``triples``.
        views: Images times fixations.
        size: Bytes of a number.
        backward: Whether to count the gradients, too.
        first: Whether the input needs none.

    Returns:
        Floating-point operations, and bytes read or written.
    """
    flop = 2.0 * views * layer["triples"] * spec.in_channels * spec.out_channels
    x = views * layer["nodes_in"] * spec.in_channels
    y = views * layer["nodes_out"] * spec.out_channels
    weight = spec.kernel_size**2 * spec.in_channels * spec.out_channels
    numbers = x + weight + y
    if backward:  # gradient of y, x and weights read; gradients of weights and perhaps x written
        flop *= 2 if first else 3
        numbers += y + x + weight + weight + (0 if first else x)
    return flop, float(size * numbers)


def report(rows: list[Found]) -> None:
    """Prints a table."""
    header = ["layer", "ours", "peer", "dense", "ours/peer", "ours/dense"]
    header += ["graph", "dense graph", "arithmetic", "bytes", "of floor", "TFLOP/s", "memory"]
    print_table(header, [cells(row) for row in rows])
    for row, who in itertools.product(rows, ("ours", "peer", "dense")):
        if row.get(who, {}).get("error"):
            print(f"{row['layer']}, {who}: {row[who]['error']}")


def cells(row: Found) -> list[object]:
    """A row of the table: times in milliseconds, ratios, what of the floor was reached."""

    def of(who: str, what: str = "seconds") -> float | None:
        return row.get(who, {}).get(what)

    def ms(seconds: float | None) -> float | None:
        return None if seconds is None else 1e3 * seconds

    ours = of("ours")
    floor = max(row["arithmetic"], row["bytes"])
    rate = ratio(row.get("flop"), ours)
    return [
        row["layer"],
        *(ms(of(who)) for who in ("ours", "peer", "dense")),
        ratio(ours, of("peer")),
        ratio(ours, of("dense")),
        ms(of("ours", "graph_seconds")),
        ms(of("dense", "graph_seconds")),
        ms(row["arithmetic"]),
        ms(row["bytes"]),
        ratio(floor, ours),
        None if rate is None else rate / 1e12,
        of("ours", "memory"),
    ]


# How it is measured, in the workers ---------------------------------------------------------------


def work(role: str) -> None:
    """Answers requests, as ours (and dense) or as the peer."""
    import torch

    if role == "ours":
        import own_worker as worker
    else:
        import peer_worker as worker  # type: ignore[no-redef]
    backbone: list[Any] = []

    def prepare(layers: list[dict[str, int]], device: str) -> Found:
        about = worker.prepare(layers=layers, threads=None, device=device)
        backbone.append(own_backbone(device) if role == "ours" else peer_backbone(device))
        name = torch.cuda.get_device_name() if device == "cuda" else None
        return {**about, "gpu": name}

    def measure(which: str, layer: int, **request: Any) -> Found:
        if layer == len(NETWORK):
            candidate = backbone[0]
        else:
            candidate = worker.CANDIDATES[(which, layer) if role == "ours" else layer]
        return fastest(candidate, which, **request)

    serve({"prepare": prepare, "measure": measure, "ceilings": measure_ceilings})


def own_backbone(device: str) -> Any:
    """Our FoviNet's backbone."""
    from layer_timing import Candidate

    import fovigraph as fg

    net = fg.FoviNet(fg.load_config("fovi_alexnet"))
    shape = (len(net.pyramid.levels[0]), 3)
    backbone = net.backbone.to(device)
    return Candidate(backbone, backbone, shape, input_gradient=False)


def peer_backbone(device: str) -> Any:
    """The peer's backbone of the same network."""
    from layer_timing import Candidate
    from peer_env import import_peer

    alexnet = import_peer("fovi.models.knnalexnet").KNNAlexNet(
        in_res=64,
        in_channels=3,
        features_per_layer=[spec.out_channels for spec in NETWORK],
        stride_per_layer=[spec.stride for spec in NETWORK],
        pool_after=[0, 1, 4],
        k_per_layer=[spec.k for spec in NETWORK],
        out_res=1,
        auto_match_cart_resources=1,
        fov=FOV,
        cmf_a=CMF_A,
        ref_frame_mult=2,
        device=device,
    )
    return Candidate(alexnet.to(device), alexnet, (3, 4085), input_gradient=False)


def fastest(
    candidate: Any, which: str, views: int, dtype: str, backward: bool, seconds: float
) -> Found:
    """Times a candidate; a dense one in either memory format, of which the faster counts.

    What cannot run in a dtype by itself runs under autocast; what cannot run says why.
    """
    import torch

    formats = [torch.contiguous_format]
    if which == "dense":
        formats.append(torch.channels_last)
    found: list[Found] = []
    error = ""
    for memory_format, autocast in itertools.product(formats, (False, True)):
        if autocast and (found or dtype in ("float32", "tf32")):
            continue
        try:
            one = views, dtype, backward, seconds, memory_format, autocast
            found.append(times(candidate, *one, graph=which != "peer"))
        except Exception as problem:  # whatever a candidate raises is its result
            error = error or f"{type(problem).__name__}: {problem}".splitlines()[0][:200]
        finally:
            candidate.layer.zero_grad(set_to_none=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    if not found:
        return {"error": error}
    return min(found, key=lambda result: result["seconds"])


def times(
    candidate: Any,
    views: int,
    dtype: str,
    backward: bool,
    seconds: float,
    memory_format: Any,
    autocast: bool,
    graph: bool,
) -> Found:
    """Times one candidate in one way."""
    import torch

    layer = candidate.layer
    device = next(layer.parameters()).device
    exact = dtype in ("float32", "tf32")
    number = torch.float32 if exact else getattr(torch, dtype)
    allow_tf32(dtype == "tf32")
    torch.backends.cudnn.benchmark = True
    layer.to(torch.float32 if autocast else number).train(backward)
    if memory_format == torch.channels_last:
        layer.to(memory_format=memory_format)
    x = torch.randn(views, *candidate.input_shape, device=device)
    x = x.to(torch.float32 if autocast else number)
    if x.dim() == 4:
        x = x.contiguous(memory_format=memory_format)

    def forward() -> Any:
        context = torch.autocast(device.type, number) if autocast else contextlib.nullcontext()
        with context:
            return candidate.call(x)

    def step() -> None:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        forward().backward(cotangent)

    with torch.no_grad():
        out = forward()
    numbers = x.numel() + out.numel() + sum(p.numel() for p in layer.parameters())
    found: Found = {"autocast": autocast, "channels_last": memory_format == torch.channels_last}
    if backward:
        x.requires_grad_(candidate.input_gradient)
        cotangent = torch.randn_like(out)
        del out
        found["seconds"] = in_a_row(step, device.type, seconds)
        extra = allocated(step, device.type)
    else:
        del out
        with torch.no_grad():
            found["seconds"] = in_a_row(forward, device.type, seconds)
            extra = allocated(forward, device.type)
            if graph and device.type == "cuda":
                found["graph_seconds"] = in_a_graph(forward, seconds)
    if extra is not None:
        found["memory"] = extra / (numbers * x.element_size())
    return found


def allow_tf32(allowed: bool) -> None:
    """Sets how float32 is multiplied, in matrix products and in cuDNN alike."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def in_a_row(call: Callable[[], object], device: str, seconds: float) -> float:
    """The median time of a call among many, in groups long enough for the clock."""
    import torch

    if device != "cuda":
        return statistics.median(seconds_of(call, 3))
    for _ in range(3):  # compiles kernels, lets cuDNN choose
        call()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    call()
    torch.cuda.synchronize()
    once = time.perf_counter() - begin
    group = max(1, min(100, round(2e-3 / once)))
    samples = []
    for _ in range(max(5, min(50, round(seconds / (group * once))))):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(group):
            call()
        end.record()
        torch.cuda.synchronize()
        samples.append(start.elapsed_time(end) / 1e3 / group)
    return statistics.median(samples)


def in_a_graph(call: Callable[[], object], seconds: float) -> float:
    """The median time of a call replayed as a CUDA graph."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return in_a_row(graph.replay, "cuda", seconds)


def allocated(call: Callable[[], object], device: str) -> int | None:
    """The most bytes that a call has allocated at a time."""
    import torch

    if device != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure_ceilings(device: str, dtypes: list[str]) -> dict[str, float]:
    """Rates of copying (bytes read and written, a second) and of multiplying large matrices."""
    import torch

    large = device == "cuda"
    source = torch.empty((1 << 32) if large else (1 << 24), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copying = in_a_row(lambda: target.copy_(source), device, 0.5)
    rates = {"copy": 2 * source.numel() / copying}
    del source, target
    side = 8192 if large else 256
    for dtype in dtypes:
        allow_tf32(dtype == "tf32")
        number = torch.float32 if dtype in ("float32", "tf32") else getattr(torch, dtype)
        a, b = (torch.randn(side, side, device=device).to(number) for _ in range(2))
        rates[dtype] = 2 * side**3 / in_a_row(lambda a=a, b=b: a @ b, device, 0.5)
    return rates


if __name__ == "__main__":
    if ROLE in os.environ:
        work(os.environ[ROLE])
    else:
        main()
