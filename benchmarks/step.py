"""Times whole training steps of a FoviNet, ours and the peer's, and their memory.

    python benchmarks/step.py --peer PEER/bin/python

The AlexNet FoviNet (17.3 million parameters, 64² samples) takes a step of SGD on 16 images of 256²
pixels, looking 4 times at each. The two take turns in one run, each in one process, never two at a
time. Memory is the peak of the whole process (`ru_maxrss`), the imports included. README.md says
how to make the peer's environment.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, closing
from pathlib import Path

from common import FOLDER, Worker, machine, median_ms, print_table, ratio, write_json


def main() -> None:
    """Measures, prints the table, writes the result."""
    options = parse()
    task = {
        "images": options.images,
        "fixations": options.fixations,
        "threads": options.threads,
    }
    with ExitStack() as stack:
        workers = {"ours": stack.enter_context(closing(Worker(sys.executable, "own_worker.py")))}
        if options.peer:
            peer = Worker(options.peer, "peer_worker.py")
            workers["peer"] = stack.enter_context(closing(peer))
        told = {who: worker.ask("prepare_step", **task) for who, worker in workers.items()}
        seconds: dict[str, list[float]] = {who: [] for who in workers}
        for turn in range(options.rounds + 1):
            for who, worker in workers.items():
                took = worker.ask("step")
                if turn:  # the first warms up
                    seconds[who].append(took)
            print(f"\rround {turn} of {options.rounds}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        memory = {who: worker.ask("memory") for who, worker in workers.items()}
    found = {
        who: {"milliseconds": median_ms(times), "peak_mb": memory[who]}
        for who, times in seconds.items()
    }
    report(options, found)
    versions = {who: about["versions"] for who, about in told.items()}
    write_json(
        options.json or FOLDER / "results" / "step-cpu.json",
        task
        | {"rounds": options.rounds, "machine": machine(options.threads), "versions": versions}
        | found,
    )


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PYTHON", help="the peer environment's interpreter")
    parser.add_argument("--images", type=int, default=16, help="images a step (default 16)")
    parser.add_argument("--fixations", type=int, default=4, help="of each image (default 4)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each (default 5)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to keep the result")
    return parser.parse_args()


def report(options: argparse.Namespace, found: dict[str, dict[str, float]]) -> None:
    """Prints the table."""
    print(f"a training step, {options.images} images × {options.fixations} fixations, CPU, float32")
    if not options.peer:
        print("(the peer is left out: no --peer PYTHON given)")
    ours, peer = found["ours"], found.get("peer", {})
    rows = [[key, ours[key], peer.get(key), ratio(ours[key], peer.get(key))] for key in ours]
    print_table(["", "ours", "peer", "ours/peer"], rows)


if __name__ == "__main__":
    main()
