"""Compares whole networks with the upstream package's: samples, layers, logits, losses.

    python benchmarks/upstream.py --peer PEER/bin/python --photos FOLDER

The peer makes networks (with random weights; after a few real steps of training; trained until they
are sure of the photographs' classes), both packages load them, and both look at ten photographs at
the same places.
README.md says how to make the peer's environment.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
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
CLASSES = 20
"""As many photographs are learnt, each a class."""

FIXATIONS = torch.tensor([[0.5, 0.5], [0.3127, 0.4211], [0.6719, 0.2903], [0.0417, 0.9533]])
RATES = (0.0003, 0.001)
"""Learning rates. At higher ones training is chaotic: it drives apart what differs by rounding."""

SIDE = 256
"""Of the squares that photographs are made for training, in pixels."""

NEIGHBOURS = "neighbours.pth"

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
    """A network that the peer makes: what differs from its published AlexNet, and its training.

    It takes `steps` steps of SGD itself, or learns in `lessons` steps from us (`teach`).
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    lessons: int = 0


SMALL = {"model__channel_mult": 0.25, "model__dropout": 0.0, "data__num_classes": CLASSES}
LEGACY = {"saccades__field_geometry": "legacy"}
PLANAR = {"saccades__field_geometry": "planar"}

NETWORKS = (
    Network("published shape, rf 2, legacy: random weights", LEGACY),
    Network("… after 5 steps", LEGACY, 5),
    Network(
        "published shape, rf 1, planar: random weights", {"model__ref_frame_mult": 1, **PLANAR}
    ),
    Network("a quarter as wide, legacy: trained", {**SMALL, **LEGACY}, lessons=800),
    Network("a quarter as wide, planar: trained", {**SMALL, **PLANAR}, lessons=800),
)


def main() -> None:
    """Measures, prints the tables, keeps the result."""
    options = parse()
    torch.set_num_threads(options.threads)
    paths = [path for path in sorted(options.photos.iterdir()) if path.is_file()]
    photos = [read(path) for path in paths[:CLASSES]]
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
        header = ["sampling", "nodes", "unequal", "ours − theirs"]
        print_table([*header, "ours − double", "theirs − double"], rows)
        return result

    def _sampled(self, questions: list[dict[str, Any]], sampler: str, sampling: str) -> Any:
        """Ours and the peer's; where they do not jump, also against double precision."""
        asked, answers = self.put(questions), self.path("samples")
        options = {"resolution": 64, "sampler": sampler, "field_geometry": "legacy"}
        self.peer.ask("sample", questions=asked, answers=str(answers), options=options)
        retina = fg.Retina(fg.SensorArray.matched(64, field_geometry="legacy"), sampling)
        exact = fg.Retina(retina.array, sampling).double()
        exact.grid = retina.array.cartesian
        given = [(q["image"][None], q["fixation"][None], q["size"]) for q in questions]
        ours = torch.stack([retina(*one)[0, 0] for one in given])
        theirs = torch.load(answers)
        truth = torch.stack([exact(*(part.double() for part in one))[0, 0] for one in given])
        smooth = sampling == "bilinear"
        return {
            "nodes": theirs[..., 0].numel(),
            "unequal": int((ours != theirs).any(-1).sum()),
            "ours_and_theirs": float((ours - theirs).abs().max()),
            "ours_and_double": float((ours - truth).abs().max()) if smooth else None,
            "theirs_and_double": float((theirs - truth).abs().max()) if smooth else None,
        }

    # Networks

    def network(self, network: Network) -> dict[str, Any]:
        """A network in both packages: with the peer's neighbour lists, and with the canonical."""
        folder = self.path("network")
        batches = self.put(self.batches()) if network.steps else None
        losses = self.peer.ask(
            "make",
            folder=str(folder),
            changes=network.changes,
            steps=network.steps,
            batches=batches,
            rate=0.01,
            seed=0,
        )
        if network.lessons:
            folder, losses = self.taught(folder, network.lessons)
        theirs = self.answers(folder)
        elsewhere = self.answers(folder, other_rounding=True)
        net = fg.from_upstream(folder)
        print(f"\n{network.name}")
        if losses:
            print(f"loss {losses[0]:.3g} → {losses[-1]:.3g}")
        result: dict[str, Any] = {"name": network.name, "loss": losses[:1] + losses[-1:]}
        edges = [graph.edge_index for graph in net.pyramid.graphs]
        result["canonical"] = self.compare(net, theirs)
        use_neighbours(net, folder / NEIGHBOURS)
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
        print(f"theirs gives its top-1 class a probability of {row['top1_probability']:.2g}")
        print(f"nodes with other neighbours, each graph: {result['nodes_with_other_neighbours']}")
        print(f"converted, and back: {result['round_trip']}")
        return result

    def batches(self) -> list[dict[str, Tensor]]:
        """All photographs, each a class, seen by the policy: two batches of half of them."""
        images, labels = self.squares(), torch.arange(len(self.photos))
        return [{"images": images[i::2], "labels": labels[i::2]} for i in range(2)]

    def taught(self, folder: Path, lessons: int) -> tuple[Path, list[float]]:
        """A network with the peer's neighbour lists, taught by us and given back; the losses."""
        net = fg.from_upstream(folder, neighbours=folder / NEIGHBOURS)
        losses = teach(net, self.squares() / 255, lessons)
        ours = self.path("taught")
        net.save_pretrained(ours)
        back = convert(ours, self.path("network"), to_upstream=True)
        shutil.copy(folder / NEIGHBOURS, back)
        return back, losses

    def squares(self) -> Tensor:
        """The photographs as squares, `[photographs, 3, SIDE, SIDE]`, 0 to 255."""
        sized = {"size": (SIDE, SIDE), "mode": "bilinear", "antialias": True}
        squares = [functional.interpolate(photo[None].float(), **sized) for photo in self.photos]
        return torch.cat(squares).round()

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
        (first, _), (second, _) = (checkpoint.read_weights(path) for path in (folder, back))
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
        lists = folder / NEIGHBOURS
        batches = self.steady_batches(steps, fg.from_upstream(folder, neighbours=lists))
        given = self.put(batches)
        shape = {"steps": steps, "images": len(self.photos), "fixations": 2}
        result: dict[str, Any] = {**shape, "gradients": self.gradients(folder, batches, given)}
        print("\ngradients, largest relative difference (norms), batch by batch")
        print_table(result["gradients"][0], [row.values() for row in result["gradients"]])
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

    def gradients(
        self, folder: Path, batches: list[dict[str, Tensor]], given: str
    ) -> list[dict[str, Any]]:
        """Gradients of the first batches: ours and the peer's, each also to ours in double.

        The largest relative difference (of norms) over all parameters, and which ReLUs and max
        pools let another input pass in single precision than in double: there gradients jump.
        """
        rows = []
        answers = self.path("gradients")
        for index, batch in enumerate(batches[:5]):
            self.peer.ask(
                "gradients", folder=str(folder), batches=given, index=index, answers=str(answers)
            )
            theirs = torch.load(answers)
            (single, passed), (double, passed_in_double) = (
                gradients(folder, batch, dtype) for dtype in (torch.float32, torch.float64)
            )
            switched = [
                name for name in passed if not passed[name].equal(passed_in_double[name].float())
            ]
            rows.append(
                {
                    "batch": index,
                    "ours_and_theirs": furthest(single, theirs),
                    "ours_and_double": furthest(single, double),
                    "theirs_and_double": furthest(theirs, double),
                    "switched_from_double": ", ".join(switched),
                }
            )
        return rows

    def steady_batches(self, steps: int, net: fg.FoviNet) -> list[dict[str, Tensor]]:
        """Batches whose fixations put no node near a pixel's border."""
        torch.manual_seed(2)
        images = self.squares()
        count = len(images)
        drawn = 0.25 + 0.5 * torch.rand(100 * steps, 2)
        pixels = (net.retina.pixels(place[None], (SIDE, SIDE), float(SIDE)) for place in drawn)
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
        "top1_probability": statistics.median(float(t["probabilities"].max()) for t in theirs),
    }


def outputs(net: fg.FoviNet, question: dict[str, Tensor], samples: Tensor) -> dict[str, Tensor]:
    """Outputs of all modules under the peer's names, from samples `[B, F, N, 3]` on.

    And the probabilities from the image on.
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


def furthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest relative difference of two sets of gradients."""
    # The true gradient of that bias is zero: a batch norm follows.
    names = [name for name in b if name != "network.projector.layers.fc_block_6.1.bias"]
    return max(float((a[name] - b[name]).norm() / b[name].norm()) for name in names)


def gradients(
    folder: Path, batch: dict[str, Tensor], dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our gradients of a batch, under the peer's names and in its layouts.

    And which inputs every ReLU and max pool of the backbone lets pass: its sum's gradient.
    """
    net = fg.from_upstream(folder, neighbours=folder / NEIGHBOURS).to(dtype).train()
    inputs: dict[str, tuple[Any, ...]] = {}
    kinks = {
        name: module
        for name, module in net.backbone.named_modules()
        if isinstance(module, torch.nn.ReLU) or getattr(module, "mode", None) == "max"
    }
    handles = [
        module.register_forward_hook(lambda _, given, __, name=name: inputs.update({name: given}))
        for name, module in kinks.items()
    ]
    logits = net((batch["images"] / 255).to(dtype), batch["fixations"]).logits
    functional.cross_entropy(logits, batch["labels"]).backward()
    for handle in handles:
        handle.remove()
    own = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    content, _ = checkpoint.read_config(folder)
    found = {
        link.theirs: link.to_theirs(own[link.ours]).double()
        for link in links(net, UpstreamConfig(content))
        if link.ours in own
    }
    passed = {}
    for name, (given, *rest) in inputs.items():
        leaf = given.detach().requires_grad_()
        (passed[name],) = torch.autograd.grad(kinks[name](leaf, *rest).sum(), leaf)
    return found, passed


def teach(net: fg.FoviNet, images: Tensor, lessons: int) -> list[float]:
    """Trains a network to tell images apart in views of all sizes from all over them; the losses.

    It is left in evaluation.
    """
    torch.manual_seed(3)
    shape = (len(images), 4, 2)
    labels = torch.arange(len(images)).repeat_interleave(4)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.02)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=lessons)
    losses = []
    net.train()
    for _ in range(lessons):
        seen = images if torch.rand(()) < 0.5 else images.flip(-1)
        sizes = SIDE * (0.6 + 0.8 * torch.rand(shape))
        samples = net.retina(seen, torch.rand(shape), sizes)
        embeddings = net.projector(net.backbone(samples.flatten(0, 1)).flatten(1))
        loss = functional.cross_entropy(net.head(embeddings), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
        losses.append(float(loss.detach()))
    net.eval()
    return losses


def train(
    folder: Path,
    lists: Path | None,
    batches: list[dict[str, Tensor]],
    rate: float,
    dtype: torch.dtype = torch.float32,
) -> list[float]:
    """Loads a network and trains it with SGD on given batches; the losses."""
    net = fg.from_upstream(folder, neighbours=lists).to(dtype).train()
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
