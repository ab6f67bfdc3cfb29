"""Makes `tests/data/upstream_tiny`: a small network of the peer (fovi 2.4.0) and what it answers.

    PEER/bin/python tests/make_upstream_checkpoint.py tests/data/upstream_tiny

runs under the peer's Python (`benchmarks/README.md` says how to make that environment). The network
has every part of the published AlexNets, 4 to 19 channels wide, and has been trained for a few
steps, so that batch-norm statistics are not trivial. Its configuration is of the older form,
without `field_geometry`. The folder holds, as the peer's trainer writes them,

    resolved_config.yaml, final_weights.pth

and, besides,

    neighbours.pth   where it samples, and the neighbourhoods of its layers (int16), as
                     `use_neighbours` takes them
    expected.npz     images     [2, 3, 44, 60] uint8
                     fixations  [2, 2]: no node falls within 1e-3 pixels of a pixel's border
                     samples, fixation_logits, probabilities, and under the names of modules their
                     outputs: [image, fixation, node, channel] or [image, fixation, channel]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import peer_networks as peer

STEPS, BATCH = 8, 8
MODULES = (
    *(f"backbone.layers.{layer}.{part}" for layer in range(5) for part in ("conv", "norm")),
    *(f"backbone.layers.{layer}" for layer in range(6)),
    "projector.layers.fc_block_6",
    "projector.layers.fc_block_7",
)


def smooth_images(count: int, height: int, width: int) -> torch.Tensor:
    """Random images with structure at two scales."""
    coarse, fine = torch.rand(count, 3, 4, 5), torch.rand(count, 3, 16, 20)
    parts = [
        functional.interpolate(part, (height, width), mode="bicubic") for part in (coarse, fine)
    ]
    return (0.7 * parts[0] + 0.3 * parts[1]).clamp(0, 1)


def main(folder: Path) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 – the peer draws from it
    torch.set_num_threads(1)
    content = peer.configuration(
        model__channel_mult=0.05,
        model__k_mult=0.7,
        model__mlp="16-12",
        saccades__resize_size=32,
        saccades__n_fixations=2,
        data__num_classes=10,
    )
    net = peer.build(content).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(STEPS):
        images, labels = smooth_images(BATCH, 48, 48), torch.randint(10, (BATCH,))
        loss = functional.cross_entropy(net(images)[0], labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    peer.save(net, content, folder)
    torch.save(peer.neighbour_lists(net, torch.int16), folder / "neighbours.pth")

    images = (smooth_images(2, 44, 60) * 255).round().to(torch.uint8)
    fixations = torch.tensor([[0.4124, 0.5437], [0.0262, 0.868]])
    found = peer.outputs(net, images / 255, fixations)
    kept = ("samples", "fixation_logits", "probabilities", *MODULES)
    np.savez_compressed(
        folder / "expected.npz",
        version=peer.import_peer("fovi").__version__,
        images=images.numpy(),
        fixations=fixations.numpy(),
        **{name: found[name].numpy() for name in kept},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
