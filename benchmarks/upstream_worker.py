"""Answers `upstream.py`'s requests about the peer's networks; runs under the peer's Python.

Tensors travel in files of `torch.save`.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import peer_networks as peer
import torch
from common import serve
from peer_env import import_peer
from torch.nn import functional

loading = import_peer("fovi.models.loading")
retina = import_peer("fovi.sensing.retina")


def load(folder: str) -> Any:
    """A network from a folder, by the peer's own loader."""
    path = Path(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        return loading.get_model_from_base_fn(path.name, model_dirs=(path.parent,), device="cpu")


def precise_cdist(a: torch.Tensor, b: torch.Tensor, p: float = 2.0) -> torch.Tensor:
    """Distances rounded once, at the end, as another machine might."""
    return torch.linalg.vector_norm(
        a.double()[..., :, None, :] - b.double()[..., None, :, :], p, -1
    ).to(a)


def describe() -> dict[str, str]:
    """Versions."""
    return {"fovi": import_peer("fovi").__version__, "torch": torch.__version__}


def make(
    folder: str, changes: dict[str, Any], steps: int, batches: str | None, rate: float, seed: int
) -> list[float]:
    """Makes a network, trains it for some steps, and saves it with its neighbour lists.

    Returns:
        The losses.
    """
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 – the peer draws from it
    content = peer.configuration(**changes)
    net = peer.build(content)
    losses = train(net, batches, steps, rate) if batches else []
    peer.save(net, content, Path(folder))
    torch.save(peer.neighbour_lists(net), Path(folder) / "neighbours.pth")
    return losses


def train(net: Any, batches: str, steps: int, rate: float) -> list[float]:
    """SGD on given batches, over and over; fixations are given too, or left to the policy."""
    net.train()
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    given = torch.load(batches)
    losses = []
    for step in range(steps):
        batch = given[step % len(given)]
        images = batch["images"] / 255
        places: dict[str, Any] = {}
        if "fixations" in batch:  # [B, F, 2]
            places = {"fixations": list(batch["fixations"].unbind(1))}
            places["n_fixations"] = len(places["fixations"])
        with contextlib.redirect_stdout(io.StringIO()):
            loss = functional.cross_entropy(net(images, **places)[0], batch["labels"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    return losses


def gradients(folder: str, batches: str, index: int, answers: str) -> float:
    """The loss of a batch, and its gradients by name."""
    net = load(folder).train()
    batch = torch.load(batches)[index]
    places = list(batch["fixations"].unbind(1))
    with contextlib.redirect_stdout(io.StringIO()):
        out = net(batch["images"] / 255, fixations=places, n_fixations=len(places))[0]
    loss = functional.cross_entropy(out, batch["labels"])
    loss.backward()
    torch.save({name: p.grad for name, p in net.named_parameters()}, answers)
    return float(loss)


def continue_training(folder: str, batches: str, steps: int, rate: float) -> list[float]:
    """Loads a network and trains it on; the losses."""
    return train(load(folder), batches, steps, rate)


def answer(folder: str, questions: str, answers: str, other_rounding: bool = False) -> None:
    """What a saved network gives for every question: images and fixations.

    Args:
        folder: Where it is.
        questions, answers: Files.
        other_rounding: Whether to build it with more exactly rounded distances, so that ties among
            neighbours fall otherwise, as they do between two machines.
    """
    with mock.patch.object(torch, "cdist", precise_cdist if other_rounding else torch.cdist):
        net = load(folder)
    found = [peer.outputs(net, q["images"], q["fixations"]) for q in torch.load(questions)]
    torch.save(found, answers)


def sample(questions: str, answers: str, options: dict[str, Any]) -> None:
    """What a retina samples of images."""
    with contextlib.redirect_stdout(io.StringIO()):
        eye = retina.RetinalTransform(device="cpu", **options).eval()
    samples = [
        eye(q["image"][None], q["fixation"][None], fixation_size=q["size"][None])[0].T
        for q in torch.load(questions)
    ]
    torch.save(torch.stack(samples), answers)


if __name__ == "__main__":
    serve(
        {
            "describe": describe,
            "make": make,
            "gradients": gradients,
            "continue_training": continue_training,
            "answer": answer,
            "sample": sample,
        }
    )
