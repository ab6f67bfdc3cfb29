"""Times kNN convolutions: ours, the peer's, and dense convolutions of the same neighbourhood.

    python benchmarks/conv.py --peer PEER/bin/python

Five convolutions of an AlexNet on an array matched to 64 × 64 pixels (full, depthwise or
separable), float32, forward alone (without gradients) and forward with backward. All take turns in
one run, never two at a time; times are medians. README.md says how to make the peer's environment
and how to read the result.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from common import (
    CMF_A,
    FOLDER,
    FOV,
    NETWORKS,
    ConvSpec,
    Worker,
    machine,
    median_ms,
    print_table,
    ratio,
    write_json,
)

PASSES = {"forward": False, "forward+backward": True}
WHO = ("ours", "peer", "unfused", "dense")
Samples = dict[tuple[str, str, int], list[float]]


def main() -> None:
    """Measures, prints the tables, writes the result."""
    options = parse()
    network = NETWORKS[options.network]
    with ExitStack() as stack:
        workers = start_workers(stack, options)
        request = {
            "layers": [spec.as_request() for spec in network],
            "threads": options.threads,
            "device": options.device,
        }
        ready: dict[str, Any] = {
            who: workers[who].ask("prepare", **request)
            for who in ("ours", "peer")
            if who in workers
        }
        samples = measure(workers, network, options)
        paths = workers["peer"].ask("paths") if "peer" in workers else None
    tables = {name: summarise(name, network, samples) for name in PASSES}
    report(options, tables)
    name = "conv" if options.network == "fovinet" else f"conv-{options.network}"
    write_json(
        options.json or FOLDER / "results" / f"{name}-{options.device}.json",
        describe(options, ready) | {"peer_paths_in_training": paths, "milliseconds": tables},
    )


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PYTHON", help="the peer environment's interpreter")
    parser.add_argument("--network", choices=NETWORKS, default="fovinet")
    parser.add_argument("--batch", type=int, default=64, help="images (default 64)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to keep the result")
    parser.add_argument(
        "--unfused",
        action="store_true",
        help="also plain message passing, with a message of every triple in memory",
    )
    options = parser.parse_args()
    if options.peer and options.network in ("depthwise", "separable"):
        parser.error(f"--peer cannot be compared in --network {options.network}: its layers fail")
    return options


def describe(options: argparse.Namespace, ready: dict[str, Any]) -> dict[str, Any]:
    """What was measured, and on what machine."""
    layers = zip(NETWORKS[options.network], ready["ours"]["layers"], strict=True)
    return {
        "network": options.network,
        "batch": options.batch,
        "device": options.device,
        "rounds": options.rounds,
        "fov": FOV,
        "cmf_a": CMF_A,
        "machine": machine(ready["ours"]["threads"]),
        "versions": {who: told["versions"] for who, told in ready.items()},
        "layers": [spec.as_request() | told for spec, told in layers],
    }


def start_workers(stack: ExitStack, options: argparse.Namespace) -> dict[str, Worker]:
    """Starts one process for all but the peer, one for the peer."""
    own = stack.enter_context(closing(Worker(sys.executable, "own_worker.py")))
    workers = {"ours": own, "dense": own}
    if options.unfused:
        workers["unfused"] = own
    if options.peer:
        workers["peer"] = stack.enter_context(closing(Worker(options.peer, "peer_worker.py")))
    return workers


def measure(
    workers: dict[str, Worker], network: tuple[ConvSpec, ...], options: argparse.Namespace
) -> Samples:
    """Seconds of every layer, pass and candidate, taking turns, the first turn not counted."""
    samples: Samples = {}
    who_in_turn = [who for who in WHO if who in workers]
    for turn in range(options.rounds + 1):
        for i, name, who in itertools.product(range(len(network)), PASSES, who_in_turn):
            key = (who, name, i)
            seconds = workers[who].ask(
                "measure",
                which=who,
                layer=i,
                batch=options.batch,
                backward=PASSES[name],
                repeats=repeats_for(samples.get(key)),
            )
            # the second turn replaces the first, which only warms up
            samples[key] = samples[key] + seconds if turn > 1 else seconds
        who_in_turn.append(who_in_turn.pop(0))
        print(f"\rround {turn} of {options.rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return samples


def repeats_for(seconds: list[float] | None) -> int:
    """How often to repeat in one turn: once at first, then for about a fifth of a second."""
    return 1 if seconds is None else max(1, min(10, round(0.2 / min(seconds))))


def summarise(name: str, network: tuple[ConvSpec, ...], samples: Samples) -> dict[str, Any]:
    """Medians in milliseconds of each layer, their sums, and the middle half's spread."""
    result: dict[str, Any] = {}
    for who in WHO:
        times = [samples.get((who, name, i)) for i in range(len(network))]
        if all(times):
            medians = [median_ms(seconds) for seconds in times if seconds]
            result[who] = {
                "layers": medians,
                "sum": sum(medians),
                "spread": max(spread(seconds) for seconds in times if seconds),
            }
    return result


def spread(seconds: list[float]) -> float:
    """The interquartile range over the median."""
    if len(seconds) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(seconds, n=4)
    return (high - low) / middle


def report(options: argparse.Namespace, tables: dict[str, dict[str, Any]]) -> None:
    """Prints a table for each pass."""
    network = NETWORKS[options.network]
    print(f"{options.network}, batch {options.batch}, {options.device}, float32, milliseconds")
    for name, table in tables.items():
        print(f"\n{name}")
        rows = [
            row(str(spec), [column["layers"][i] for column in table.values()])
            for i, spec in enumerate(network)
        ]
        rows.append(row("sum", [column["sum"] for column in table.values()]))
        print_table(["layer", *table, *(f"ours/{who}" for who in list(table)[1:])], rows)
        spreads = [f"{who} {column['spread']:.2f}" for who, column in table.items()]
        print("spread (widest interquartile range / median): " + ", ".join(spreads))


def row(label: str, times: list[float]) -> list[object]:
    """A row of the table, with the ratios of our time, the first, to the others'."""
    ours, *others = times
    return [label, ours, *others, *(ratio(ours, other) for other in others)]


if __name__ == "__main__":
    main()
