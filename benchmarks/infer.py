"""Times a whole FoviNet in evaluation: as it is, optimised, compiled, and the peer's.

    python benchmarks/infer.py --peer PEER/bin/python

The AlexNet FoviNet (17.3 million parameters, 64² samples) looks once at each of 1 and of 64 images
of 256² pixels, float32, without gradients. All take turns in one run, never two at a time; times
are medians. README.md says how to make the peer's environment.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from contextlib import ExitStack, closing
from pathlib import Path

from common import FOLDER, Worker, machine, median_ms, print_table, ratio, write_json

OURS = ("plain", "optimised", "compiled")
FIXATION = [0.5, 0.5]


def main() -> None:
    """Measures, prints the table, writes the result."""
    options = parse()
    with ExitStack() as stack:
        own = stack.enter_context(closing(Worker(sys.executable, "own_worker.py")))
        workers = dict.fromkeys(OURS, own)
        if options.peer:
            peer = Worker(options.peer, "peer_worker.py")
            workers["peer"] = stack.enter_context(closing(peer))
        task = {"fixation": FIXATION, "threads": options.threads, "device": options.device}
        told = {
            who: workers[who].ask("prepare_inference", **task)
            for who in ("plain", "peer")
            if who in workers
        }
        seconds: dict[tuple[str, int], list[float]] = {}
        in_turn = list(workers)
        for turn in range(options.rounds + 1):
            for images, who in itertools.product(options.images, in_turn):
                repeats = 5 if turn and images == 1 else 1
                took = workers[who].ask("infer", which=who, images=images, repeats=repeats)
                # the second turn replaces the first, which warms up and compiles
                seconds[who, images] = (seconds[who, images] if turn > 1 else []) + took
            in_turn.append(in_turn.pop(0))
            print(f"\rround {turn} of {options.rounds}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    found = {
        images: {who: median_ms(seconds[who, images]) for who in workers}
        for images in options.images
    }
    report(found, options.device)
    versions = {"ours": told["plain"]["versions"]}
    if "peer" in told:
        versions["peer"] = told["peer"]["versions"]
    write_json(
        options.json or FOLDER / "results" / f"infer-{options.device}.json",
        {
            "device": options.device,
            "fixations": 1,
            "rounds": options.rounds,
            "machine": machine(options.threads),
            "versions": versions,
            "milliseconds": {str(images): times for images, times in found.items()},
        },
    )


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PYTHON", help="the peer environment's interpreter")
    parser.add_argument(
        "--images", type=int, nargs="+", default=[1, 64], help="images at a time (default 1 64)"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default 7)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to keep the result")
    return parser.parse_args()


def report(found: dict[int, dict[str, float]], device: str) -> None:
    """Prints the table."""
    print(f"a FoviNet in evaluation, one fixation, {device}, float32, milliseconds")
    rows = [
        [
            f"{images} image{'s' if images > 1 else ''}",
            *times.values(),
            ratio(times["optimised"], times["plain"]),
            ratio(times["optimised"], times.get("peer")),
        ]
        for images, times in found.items()
    ]
    who = next(iter(found.values()))
    print_table(["", *who, "optimised/plain", "optimised/peer"], rows)


if __name__ == "__main__":
    main()
