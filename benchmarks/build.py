"""Times building: a first layer's arrays, graph and kernel map; a whole model; the import.

    python benchmarks/build.py --peer PEER/bin/python

The layer has stride 2, k = 49 neighbours and a kernel of side 14, on arrays matched to squares of
64 to 512 pixels. Every measurement is a fresh process; memory is its peak (`ru_maxrss`). README.md
says how to make the peer's environment and how to read the result.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from common import CMF_A, FOLDER, FOV, Worker, machine, print_table, ratio, write_json

SIDES = (64, 128, 256, 512)
PEER_SIDES = (64, 128, 256)
K = 49
KERNEL_SIZE = 14
# from here on the peer is measured once: minutes, not seconds
SLOW_SIDE = 256
IMPORT = """
import time, torch, torch_geometric
start = time.perf_counter()
import fovigraph
print(time.perf_counter() - start)
"""
Measured = dict[str, float]


def main() -> None:
    """Measures, prints the tables, writes the result."""
    options = parse()
    graphs = measure_graphs(options)
    models = measure_models(options)
    told = {who: fresh(*how, "describe") for who, how in interpreters(options).items()}
    imports = statistics.median(import_seconds() for _ in range(options.repeats + 2))
    growth = {who: exponent(found) for who, found in graphs.items()}
    report_graphs(options, graphs, growth)
    report_models(models, imports)
    write_json(
        options.json or FOLDER / "results" / "build.json",
        {
            "fov": FOV,
            "cmf_a": CMF_A,
            "k": K,
            "kernel_size": KERNEL_SIZE,
            "repeats": options.repeats,
            "machine": machine(told["ours"]["threads"]),
            "versions": {who: about["versions"] for who, about in told.items()},
            "graphs": graphs,
            "growth_exponent_against_n_log_n": growth,
            "models": models,
            "import_seconds": imports,
        },
    )


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PYTHON", help="the peer environment's interpreter")
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, metavar="SIDE")
    parser.add_argument("--full", action="store_true", help="the peer at every side (minutes)")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each (default 3)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to keep the result")
    return parser.parse_args()


def interpreters(options: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Whom to measure: interpreter and script of each."""
    found = {"ours": (sys.executable, "own_worker.py")}
    if options.peer:
        found["peer"] = (options.peer, "peer_worker.py")
    return found


def measure_graphs(options: argparse.Namespace) -> dict[str, dict[str, Measured]]:
    """Medians for each side, ours and the peer's taking turns."""
    found: dict[str, dict[str, Measured]] = {}
    for side in options.sides:
        runs: dict[str, list[Measured]] = {}
        for turn in range(options.repeats):
            for who, (python, script) in interpreters(options).items():
                if who == "ours" or peer_takes_part(side, turn, options.full):
                    request = {"side": side, "k": K, "kernel_size": KERNEL_SIZE}
                    runs.setdefault(who, []).append(fresh(python, script, "build_graph", **request))
            print(f"\rside {side}, run {turn + 1}", end="", file=sys.stderr, flush=True)
        for who, results in runs.items():
            found.setdefault(who, {})[str(side)] = medians(results)
    print(file=sys.stderr)
    return found


def peer_takes_part(side: int, turn: int, full: bool) -> bool:
    """Whether to measure the peer: not where it takes minutes, and where it takes long, once."""
    return (full or side in PEER_SIDES) and (side < SLOW_SIDE or turn == 0)


def measure_models(options: argparse.Namespace) -> dict[str, Measured]:
    """Medians for a whole FoviNet (the peer: its retina and backbone)."""
    runs: dict[str, list[Measured]] = {}
    for _ in range(options.repeats):
        for who, (python, script) in interpreters(options).items():
            runs.setdefault(who, []).append(fresh(python, script, "build_model"))
    return {who: medians(results) for who, results in runs.items()}


def fresh(python: str, script: str, task: str, **request: Any) -> Any:
    """Asks a new process, so that memory and caches are its own."""
    with closing(Worker(python, script)) as worker:
        return worker.ask(task, **request)


def medians(results: list[Measured]) -> Measured:
    """The median of each figure."""
    return {name: statistics.median(result[name] for result in results) for name in results[0]}


def import_seconds() -> float:
    """Seconds that importing fovigraph takes once torch and torch_geometric are there."""
    command = [sys.executable, "-W", "ignore", "-c", IMPORT]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def exponent(found: dict[str, Measured]) -> float | None:
    """The p in seconds ∝ (N log N)^p between the two largest sides; 1 is a k-d tree's promise."""
    if len(found) < 2:
        return None
    small, large = sorted(found.values(), key=lambda run: run["nodes"])[-2:]
    work = [run["nodes"] * math.log(run["nodes"]) for run in (small, large)]
    return math.log(large["seconds"] / small["seconds"]) / math.log(work[1] / work[0])


def report_graphs(
    options: argparse.Namespace,
    graphs: dict[str, dict[str, Measured]],
    growth: dict[str, float | None],
) -> None:
    """Prints time and memory of each side."""
    print(f"arrays + graph + kernel map, k {K}, kernel side {KERNEL_SIZE}, stride 2")
    if not options.peer:
        print("(the peer is left out: no --peer PYTHON given)")
    elif not options.full:
        print(f"(the peer stops at side {max(PEER_SIDES)}, where more takes minutes: --full)")
    rows = []
    for side in map(str, options.sides):
        ours = graphs["ours"][side]
        peer = graphs.get("peer", {}).get(side, {})
        rows.append(
            [
                side,
                int(ours["nodes"]),
                ours["seconds"],
                peer.get("seconds"),
                ratio(ours["seconds"], peer.get("seconds")),
                ours["peak_mb"],
                peer.get("peak_mb"),
            ]
        )
    print_table(
        ["side", "nodes", "ours s", "peer s", "ours/peer", "ours peak MB", "peer peak MB"], rows
    )
    grown = ", ".join(f"{who} {p:.2f}" for who, p in growth.items() if p is not None)
    print(f"growth between the two largest sides, as a power of N log N: {grown}")


def report_models(models: dict[str, Measured], imports: float) -> None:
    """Prints the models' figures and the import time."""
    print("\nfovi_alexnet (the peer: retina and backbone only)")
    rows = [
        [who, run["seconds"], run["peak_mb"], int(run["parameters"])] for who, run in models.items()
    ]
    print_table(["", "seconds", "peak MB", "parameters"], rows)
    print(f"\nimport fovigraph, after torch and torch_geometric: {imports:.3f} s")


if __name__ == "__main__":
    main()
