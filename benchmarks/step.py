"""Times whole training steps and answers of a FoviNet, ours and the peer's, and their memory.

    python benchmarks/step.py --peer PEER/bin/python
    python benchmarks/step.py --peer PEER/bin/python --network fovi_resnet18
    python benchmarks/step.py --network cifar10 --images 128 --fixations 1 --beside 1

A FoviNet (the AlexNet has 17.3 million parameters, the ResNet-18 46.8; 64² samples) takes a step of
SGD on 16 images of 256² pixels, looking 4 times at each, and answers for them in evaluation. Beside
the ResNet-18 and the ViT-S is a dense one of as many channels and neighbours on 64² or 72² pixels,
with the same projector and head; its pixels are ready, so that it samples nothing. (The peer's ViT
cannot be built on a CPU.) The small network of the recipe `cifar10` is trained on 32² pixels beside
the dense one of benchmarks/cifar10.py, which samples a square grid. All take turns in one run,
each in one process, never two at a time; `--beside` starts processes that keep a core busy, as
others on a shared machine do. Memory is the peak of the whole process (`ru_maxrss`), the
imports included. README.md says how to make the peer's environment.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

from common import FOLDER, Worker, machine, median_ms, print_table, ratio, write_json

FILES = {
    "fovi_alexnet": "",
    "fovi_resnet18": "-resnet18",
    "fovi_vit_small": "-vit-small",
    "cifar10": "-cifar10",
}
"""The networks, and what the names of their results have."""


def main() -> None:
    """Measures, prints the table, writes the result."""
    options = parse()
    task = {
        "network": options.network,
        "images": options.images,
        "fixations": options.fixations,
        "threads": options.threads,
    }
    with ExitStack() as stack:
        workers = {"ours": stack.enter_context(closing(Worker(sys.executable, "own_worker.py")))}
        for _ in range(options.beside):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.kill)
        if options.peer and options.network not in ("fovi_vit_small", "cifar10"):
            peer = Worker(options.peer, "peer_worker.py")
            workers["peer"] = stack.enter_context(closing(peer))
        if options.network != "fovi_alexnet":
            dense = Worker(sys.executable, "own_worker.py")
            workers["dense"] = stack.enter_context(closing(dense))
        told = {
            who: worker.ask("prepare_step", **task, **({"dense": True} if who == "dense" else {}))
            for who, worker in workers.items()
        }
        seconds: dict[tuple[str, str], list[float]] = {}
        for turn in range(options.rounds + 1):
            for who, worker in workers.items():
                for what in ("forward", "step"):
                    took = worker.ask(what)
                    if turn:  # the first warms up
                        seconds.setdefault((who, what), []).append(took)
            print(f"\rround {turn} of {options.rounds}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        memory = {who: worker.ask("memory") for who, worker in workers.items()}
    name = FILES[options.network] + f"-beside-{options.beside}" * bool(options.beside)
    found = {
        who: {
            "forward_milliseconds": median_ms(seconds[who, "forward"]),
            "milliseconds": median_ms(seconds[who, "step"]),
            "peak_mb": memory[who],
        }
        for who in workers
    }
    report(options, found)
    versions = {who: about["versions"] for who, about in told.items()}
    write_json(
        options.json or FOLDER / "results" / f"step{name}-cpu.json",
        task
        | {
            "beside": options.beside,
            "rounds": options.rounds,
            "machine": machine(options.threads),
            "versions": versions,
        }
        | found,
    )


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PYTHON", help="the peer environment's interpreter")
    parser.add_argument("--network", choices=FILES, default="fovi_alexnet", help="which FoviNet")
    parser.add_argument("--images", type=int, default=16, help="images a step (default 16)")
    parser.add_argument("--fixations", type=int, default=4, help="of each image (default 4)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each (default 5)")
    parser.add_argument("--beside", type=int, default=0, help="busy processes (default none)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to keep the result")
    return parser.parse_args()


def report(options: argparse.Namespace, found: dict[str, dict[str, float]]) -> None:
    """Prints the table."""
    about = f"{options.images} images × {options.fixations} fixations, CPU, float32"
    print(f"{options.network}: an answer and a training step, {about}")
    if not options.peer:
        print("(the peer is left out: no --peer PYTHON given)")
    ours, others = found["ours"], [who for who in found if who != "ours"]
    rows = [
        [
            key,
            *(each[key] for each in found.values()),
            *(ratio(ours[key], found[who][key]) for who in others),
        ]
        for key in ours
    ]
    print_table(["", *found, *(f"ours/{who}" for who in others)], rows)


if __name__ == "__main__":
    main()
