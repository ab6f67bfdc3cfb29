"""Compares whole networks with the upstream package's: samples, layers, logits, losses.

    python benchmarks/upstream.py --peer PEER/bin/python --photos FOLDER

The peer makes networks (random weights; a few real training steps; a network trained to tell the
photographs apart), both packages load them, and both look at ten photographs at the same places.
README.md says how to make the peer's environment.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from common import FOLDER, Worker, machine, print_table, write_json
from torch import Tensor
from torch.nn import functional

import fovigraph as fg
from fovigraph.interop import checkpoint, convert, use_neighbours
from fovigraph.interop.load import links
from fovigraph.interop.upstream_config import UpstreamConfig

PHOTOS = 10
FIXATIONS = torch.tensor([[0.5, 0.5], [0.3127, 0.4211], [0.6719, 0.2903], [0.0417, 0.9533]])
BORDER = 1e-3
"""Nodes nearer to a pixel's border than this, in pixels, may take either pixel."""

RATES = (0.0003, 0.001)
"""Learning rates. At higher ones training is chaotic: it drives apart what differs by rounding."""

CLEAR = 1e-4
"""How near to a pixel's border no node may be in training, in pixels."""

PARTS = {
    "convolutions": (".conv",),
    "norms": (".norm",),
    "blocks": ("backbone.layers.",),
    "projector": ("projector.",),
    "embeddings": ("embeddings",),
    "logits": ("fixation_logits",),
}


@dataclass
class Network:
    """A network that the peer makes: what differs from its published AlexNet, and its training."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    rate: float = 0.01


SMALL = {"model__channel_mult": 0.25, "model__dropout": 0.0, "data__num_classes": 20}
LEGACY = {"saccades__field_geometry": "legacy"}
PLANAR = {"saccades__field_geometry": "planar"}

NETWORKS = (
    Network("published shape, rf 2, legacy: random weights", LEGACY),
    Network("… after 5 steps", LEGACY, 5),
    Network(
        "published shape, rf 1, planar: random weights", {"model__ref_frame_mult": 1, **PLANAR}
    ),
    Network("a quarter as wide, legacy: 300 steps", {**SMALL, **LEGACY}, 300, 0.005),
    Network("a quarter as wide, planar: 300 steps", {**SMALL, **PLANAR}, 300, 0.005),
)


def main() -> None:
    """Measures, prints the tables, keeps the result."""
    options = parse()
    torch.set_num_threads(options.threads)
    photos = [read(path) for path in sorted(options.photos.iterdir()) if path.is_file()]
    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(Worker(options.peer, "upstream_worker.py")) as peer,
    ):
        bench = Bench(peer, Path(scratch), photos)
        result = {
            "machine": machine(options.threads),
            "versions": {
                "peer": peer.ask("describe"),
                "ours": {"torch": torch.__version__, "safetensors": safetensors.__version__},
            },
            "photographs": min(PHOTOS, len(photos)),
            "fixations": FIXATIONS.tolist(),
            "samples": bench.samples(),
            "networks": [bench.network(network) for network in NETWORKS],
            "sgd": bench.sgd(options.steps),
        }
    write_json(options.json or FOLDER / "results" / "upstream.json", result)


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PYTHON", required=True, help="the peer's interpreter")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", required=True, help="photographs")
    parser.add_argument("--steps", type=int, default=50, help="of SGD (default 50)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default 1)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to keep the result")
    return parser.parse_args()


def read(path: Path) -> Tensor:
    """A photograph, `[3, H, W]` uint8."""
    image = fg.read_image(path)
    return image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)


class Bench:
    """What is compared, each as a table and as a dictionary."""

    def __init__(self, peer: Worker, scratch: Path, photos: list[Tensor]):
        self.peer, self.scratch, self.photos = peer, scratch, photos
        self.made = 0

    def path(self, kind: str) -> Path:
        """A new path in the scratch folder."""
        self.made += 1
        return self.scratch / f"{kind}-{self.made}"

    def put(self, content: Any) -> str:
        """Writes something for the peer to read."""
        path = self.path("questions")
        torch.save(content, path)
        return str(path)

    # Samples

    def samples(self) -> dict[str, Any]:
        """Both retinas, on photographs and squares cut from them, at places and of sizes."""
        square = [functional.interpolate(p[None].float(), (256, 256))[0] for p in self.photos[:2]]
        images = [p / 255 for p in [*self.photos[:4], *square]]
        questions = [
            {
                "image": image,
                "fixation": torch.tensor(place),
                "size": torch.tensor(size, dtype=torch.float32),
            }
            for image in images
            for place in ((0.5, 0.5), (0.4137, 0.5519), (0.01, 0.97), (0.0, 1.0), (0.86, 0.13))
            for height, width in [image.shape[1:]]
            for size in (
                (min(height, width),) * 2,
                (round((height * width) ** 0.5),) * 2,
                (97, 203),
                (3 * height // 2, width // 2),
            )
        ]
        rows, result = [], {}
        for sampler, sampling in (("grid_nn", "nearest"), ("grid_bilinear", "bilinear")):
            row = self._sampled(questions, sampler, sampling)
            result[sampling] = row
            rows.append([sampling, *row.values()])
        print("\nsamples, largest difference (values in [0, 1])")
        header = ["sampling", "nodes", "near a border", "there unequal", "elsewhere", "its places"]
        print_table(header, rows)
        return result

    def _sampled(self, questions: list[dict[str, Any]], sampler: str, sampling: str) -> Any:
        asked, answers = self.put(questions), self.path("samples")
        options = {"resolution": 64, "sampler": sampler, "field_geometry": "legacy"}
        self.peer.ask("sample", questions=asked, answers=str(answers), options=options)
        theirs = torch.load(answers)
        retina = fg.Retina(fg.SensorArray.matched(64, field_geometry="legacy"), sampling)
        exact = fg.Retina(retina.array, sampling)
        exact.grid = theirs["cartesian"]
        nodes = near = unequal = 0
        elsewhere = with_places = 0.0
        for q, expected in zip(questions, theirs["samples"], strict=True):
            given = q["image"][None], q["fixation"][None], q["size"]
            away = (retina(*given)[0, 0] - expected).abs().amax(-1)
            pixels = retina.pixels(given[1], tuple(q["image"].shape[1:]), q["size"])[0]
            border = ((pixels - pixels.round()).abs() < BORDER).any(-1)
            border &= sampling == "nearest"
            nodes, near = nodes + len(away), near + int(border.sum())
            unequal += int((away[border] > 0).sum())
            elsewhere = max(elsewhere, float(away[~border].max()))
            same = (exact(*given)[0, 0] - expected).abs().amax(-1)
            with_places = max(with_places, float(same[~border].max()))
        return {
            "nodes": nodes,
            "near_a_border": near,
            "there_unequal": unequal,
            "largest_elsewhere": elsewhere,
            "largest_with_its_places": with_places,
        }

    # Networks

    def network(self, network: Network) -> dict[str, Any]:
        """A network in both packages: with the peer's neighbour lists, and with the canonical."""
        folder = self.path("network")
        batches = self.put(self.batches(network)) if network.steps else None
        losses = self.peer.ask(
            "make",
            folder=str(folder),
            changes=network.changes,
            steps=network.steps,
            batches=batches,
            rate=network.rate,
            seed=0,
        )
        theirs = self.answers(folder)
        elsewhere = self.answers(folder, other_rounding=True)
        net = fg.FoviNet.from_upstream(folder)
        print(f"\n{network.name}")
        if losses:
            print(f"loss {losses[0]:.3g} → {losses[-1]:.3g}")
        result: dict[str, Any] = {"name": network.name, "loss": losses[:1] + losses[-1:]}
        edges = [graph.edge_index for graph in net.pyramid.graphs]
        result["canonical"] = self.compare(net, theirs)
        use_neighbours(net, folder / "neighbours.pth")
        result["nodes_with_other_neighbours"] = [
            nodes_that_differ(graph, other)
            for graph, other in zip(net.pyramid.graphs, edges, strict=True)
        ]
        result["neighbours_given"] = self.compare(net, theirs)
        result["peer_elsewhere"] = compare(elsewhere, theirs)
        result["round_trip"] = self.round_trip(folder, theirs)
        kinds = ("neighbours_given", "canonical", "peer_elsewhere")
        header = ["largest |ours − theirs| / largest |theirs|", *kinds]
        print_table(
            header, [[part, *(result[kind]["relative"][part] for kind in kinds)] for part in PARTS]
        )
        for kind in kinds:
            row = result[kind]
            print(
                f"{kind}: logits {row['logits']:.2g} apart (their spread {row['spread']:.2g}), "
                f"log-probabilities {row['log_probabilities']:.2g}; same top-1 class for "
                f"{row['same_top1']} of {row['photographs']} photographs"
            )
        print(f"nodes with other neighbours, each graph: {result['nodes_with_other_neighbours']}")
        print(f"converted, and back: {result['round_trip']}")
        return result

    def batches(self, network: Network) -> list[dict[str, Tensor]]:
        """All photographs, each a class, seen by the policy: two batches of half of them."""
        images = torch.stack([self.square(photo) for photo in self.photos])
        labels = torch.arange(len(images)) % network.changes.get("data__num_classes", 1000)
        return [{"images": images[i::2], "labels": labels[i::2]} for i in range(2)]

    def square(self, photo: Tensor, side: int = 256) -> Tensor:
        """A photograph as a square."""
        return functional.interpolate(
            photo[None].float(), (side, side), mode="bilinear", antialias=True
        )[0].round()

    def questions(self) -> list[dict[str, Tensor]]:
        """Ten photographs, of their own shapes."""
        return [
            {"images": photo[None] / 255, "fixations": FIXATIONS} for photo in self.photos[:PHOTOS]
        ]

    def answers(self, folder: Path, other_rounding: bool = False) -> list[dict[str, Tensor]]:
        """What the peer gives for them."""
        answers = self.path("answers")
        self.peer.ask(
            "answer",
            folder=str(folder),
            questions=self.put(self.questions()),
            answers=str(answers),
            other_rounding=other_rounding,
        )
        return torch.load(answers)

    def compare(self, net: fg.FoviNet, theirs: list[dict[str, Tensor]]) -> dict[str, Any]:
        """Ours against the peer's."""
        found = [
            outputs(net, question, expected["samples"])
            for question, expected in zip(self.questions(), theirs, strict=True)
        ]
        return compare(found, theirs)

    def round_trip(self, folder: Path, theirs: list[dict[str, Tensor]]) -> str:
        """Converts, loads, converts back; the peer loads that and answers again."""
        ours = convert(folder, self.path("ours"))
        back = convert(ours, self.path("back"), to_upstream=True)
        first = torch.load(folder / "final_weights.pth")["state_dict"]
        second = torch.load(back / "state_dict.pth")["state_dict"]
        tensors = first.keys() == second.keys() and all(
            first[name].dtype == second[name].dtype and torch.equal(first[name], second[name])
            for name in first
        )
        again = self.answers(back)
        answers = all(
            torch.equal(a["probabilities"], b["probabilities"])
            for a, b in zip(theirs, again, strict=True)
        )
        said = {True: "equal", False: "DIFFER"}
        return f"tensors {said[tensors]}, answers {said[answers]}"

    # Training

    def sgd(self, steps: int) -> dict[str, Any]:
        """The same steps of SGD in both, from the same weights, neighbour lists and batches."""
        folder = self.path("network")
        request = {"steps": 0, "batches": None, "rate": 0.0, "seed": 1}
        self.peer.ask("make", folder=str(folder), changes={**SMALL, **LEGACY}, **request)
        lists = folder / "neighbours.pth"
        batches = self.steady_batches(steps, fg.FoviNet.from_upstream(folder, neighbours=lists))
        given = self.put(batches)
        shape = {"steps": steps, "images": len(self.photos), "fixations": 2}
        result: dict[str, Any] = {**shape, "gradients": self.gradients(folder, batches, given)}
        print(f"\ngradients, largest relative difference (norms): {result['gradients']}")
        rows = []
        for rate in RATES:
            theirs = self.peer.ask(
                "continue_training", folder=str(folder), batches=given, steps=steps, rate=rate
            )
            ours = {
                "neighbours_given": train(folder, lists, batches, rate),
                "in_double_precision": train(folder, lists, batches, rate, torch.float64),
                "canonical": train(folder, None, batches, rate),
            }
            row = {
                kind: max(abs(a - b) for a, b in zip(losses, theirs, strict=True))
                for kind, losses in ours.items()
            }
            apart = zip(ours["neighbours_given"], ours["in_double_precision"], strict=True)
            row["ours_single_and_double"] = max(abs(a - b) for a, b in apart)
            result[f"rate_{rate}"] = {"theirs": theirs, **ours, "largest_difference": row}
            rows.append([rate, theirs[0], theirs[-1], *row.values()])
        print(f"\nSGD, {shape}: losses, largest difference")
        header = ["rate", "first", "last", "ours", "ours in double", "canonical graphs"]
        print_table([*header, "ours to ours in double"], rows)
        return result

    def gradients(self, folder: Path, batches: list[dict[str, Tensor]], given: str) -> Any:
        """Gradients of the first batch: ours and the peer's, each also to ours in double."""
        answers = self.path("gradients")
        self.peer.ask("gradients", folder=str(folder), batches=given, answers=str(answers))
        theirs = torch.load(answers)
        single, double = (
            gradients(folder, batches[0], dtype) for dtype in (torch.float32, torch.float64)
        )
        # Its true gradient is zero: a batch norm follows.
        names = [name for name in single if name != "network.projector.layers.fc_block_6.1.bias"]

        def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
            return max(float((a[n] - b[n]).norm() / b[n].norm()) for n in names)

        return {
            "ours_and_theirs": apart(single, theirs),
            "ours_and_double": apart(single, double),
            "theirs_and_double": apart(theirs, double),
        }

    def steady_batches(self, steps: int, net: fg.FoviNet) -> list[dict[str, Tensor]]:
        """Batches whose fixations put no node near a pixel's border."""
        torch.manual_seed(2)
        images = torch.stack([self.square(photo) for photo in self.photos])
        count = len(images)
        drawn = 0.25 + 0.5 * torch.rand(100 * steps, 2)
        pixels = (net.retina.pixels(place[None], (256, 256), 256.0) for place in drawn)
        clear = torch.stack([(at - at.round()).abs().min() > CLEAR for at in pixels])
        places = drawn[clear]
        places = places.repeat(-(-2 * count * steps // len(places)), 1)
        batches = []
        for step in range(steps):
            chosen = torch.randperm(count)
            fixations = places[2 * count * step : 2 * count * (step + 1)].view(count, 2, 2)
            batches.append({"images": images[chosen], "labels": chosen, "fixations": fixations})
        return batches


def compare(ours: list[dict[str, Tensor]], theirs: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Largest differences over all photographs."""
    worst = dict.fromkeys(PARTS, 0.0)
    logits = spread = log_probabilities = whole = 0.0
    same = 0
    for found, expected in zip(ours, theirs, strict=True):
        for part, names in PARTS.items():
            for name, value in expected.items():
                if name in found and any(key in name for key in names):
                    apart = (found[name].view_as(value) - value).abs().max()
                    worst[part] = max(worst[part], float(apart / value.abs().max()))
        apart = (found["fixation_logits"] - expected["fixation_logits"]).abs().max()
        logits = max(logits, float(apart))
        spread = max(spread, float(expected["fixation_logits"].std(-1).max()))
        apart = (found["probabilities"].log() - expected["probabilities"].log()).abs().max()
        log_probabilities = max(log_probabilities, float(apart))
        from_image = found.get("probabilities_from_the_image_on", found["probabilities"])
        apart = (from_image.log() - expected["probabilities"].log()).abs().max()
        whole = max(whole, float(apart))
        same += int(from_image.argmax(-1) == expected["probabilities"].argmax(-1))
    return {
        "relative": worst,
        "logits": logits,
        "spread": spread,
        "log_probabilities": log_probabilities,
        "log_probabilities_from_the_image_on": whole,
        "same_top1": same,
        "photographs": len(theirs),
    }


def outputs(net: fg.FoviNet, question: dict[str, Tensor], samples: Tensor) -> dict[str, Tensor]:
    """Outputs of all modules under the peer's names, from samples `[B, F, N, 3]` on.

    And, from the image on, the probabilities: there pixels at borders may differ.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            found[name] = output

        return hook

    names = {name: module for name, module in net.named_modules() if name.startswith("backbone.")}
    linear = [m for m in net.projector if isinstance(m, torch.nn.Linear)]
    names |= {f"projector.layers.fc_block_{6 + i}.1": module for i, module in enumerate(linear)}
    with torch.no_grad():
        whole = net(question["images"], question["fixations"])
        handles = [module.register_forward_hook(keep(name)) for name, module in names.items()]
        features = net.backbone(samples.flatten(0, 1)).flatten(1).unflatten(0, samples.shape[:2])
        found["embeddings"] = net.projector(features)
        found["fixation_logits"] = net.head(found["embeddings"])
    for handle in handles:
        handle.remove()
    found["probabilities"] = found["fixation_logits"].softmax(-1).mean(1)
    found["probabilities_from_the_image_on"] = whole.logits.exp()
    return found


def nodes_that_differ(graph: fg.KNNGraph, edges: Tensor) -> str:
    """At how many of a graph's destinations the real neighbours are others than in `edges`."""

    def pairs(edge_index: Tensor) -> Tensor:
        return edge_index[1] * graph.num_src + edge_index[0]

    ours, theirs = pairs(edges), pairs(graph.edge_index)
    other = torch.cat((ours[~torch.isin(ours, theirs)], theirs[~torch.isin(theirs, ours)]))
    return f"{len((other // graph.num_src).unique())}/{graph.num_dst}"


def gradients(folder: Path, batch: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Our gradients of a batch, under the peer's names and in its layouts."""
    lists = folder / "neighbours.pth"
    net = fg.FoviNet.from_upstream(folder, neighbours=lists).to(dtype).train()
    logits = net((batch["images"] / 255).to(dtype), batch["fixations"]).logits
    functional.cross_entropy(logits, batch["labels"]).backward()
    own = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    content, _ = checkpoint.read_config(folder)
    return {
        link.theirs: link.to_theirs(own[link.ours]).double()
        for link in links(net, UpstreamConfig(content))
        if link.ours in own
    }


def train(
    folder: Path,
    lists: Path | None,
    batches: list[dict[str, Tensor]],
    rate: float,
    dtype: torch.dtype = torch.float32,
) -> list[float]:
    """Loads a network and trains it with SGD on given batches; the losses."""
    net = fg.FoviNet.from_upstream(folder, neighbours=lists).to(dtype).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    losses = []
    for batch in batches:
        logits = net((batch["images"] / 255).to(dtype), batch["fixations"]).logits
        loss = functional.cross_entropy(logits, batch["labels"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


if __name__ == "__main__":
    sys.exit(main())
