"""Makes `tests/data/upstream_resnets.npz`: ResNets of the peer (fovi 2.4.0) and what they answer.

    PEER/bin/python tests/make_upstream_resnets.py tests/data/upstream_resnets.npz

runs under the peer's Python (`benchmarks/README.md` says how to make that environment). All weights
and statistics are those of `drawn_weights.py`, and so not kept. The file has

    images          [1, 3, 44, 60] uint8
    fixations       [2, 2]: no node falls within 1e-3 pixels of a pixel's border
    samples         [1, 2, N, 3], the same in all networks
    list0, …        neighbourhoods and places, as `use_neighbours` takes them, each once
    outputs/NETWORK in one row: of every module of the backbone the outputs of up to 20 nodes and 2
                    channels, [image, fixation, node, channel]; `fixation_logits`, `probabilities`
    networks        JSON; of every network `config`, `lists` (name → number) and `outputs`
                    ([name, shape] in the order of the row)

The two that are called `dense…` have taken over a dense ResNet-18, with weights drawn in the same
way, and with `preserve_kernel_norm` for the larger kernels. `resnet9` has the peer's widths. The
others, which have every size of kernel, are 16 times narrower, which the peer has no option for:
here a class of its own makes them so.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import peer_networks as peer
from drawn_weights import drawn
from recorder import Recorder

architectures = peer.import_peer("fovi.models.architectures")
pretrained_resnet = peer.import_peer("fovi.models.pretrained_resnet")
torchvision_resnet = peer.import_peer("torchvision.models.resnet")

NARROWER = 16
NETWORKS = {
    "resnet9": {"model__arch": "fovi_resnet9", "model__ref_frame_mult": 1},
    "resnet18": {"model__arch": "fovi_resnet18", "model__ref_frame_mult": 1},
    "resnet18_m2": {"model__arch": "fovi_resnet18"},
    "resnet50": {"model__arch": "fovi_resnet50", "model__ref_frame_mult": 1},
    "resnet50_m2": {"model__arch": "fovi_resnet50"},
    "dense18": {"model__arch": "fovi_resnet18", "model__ref_frame_mult": 1},
    "dense18_m2": {"model__arch": "fovi_resnet18"},
}


class NarrowDense(torchvision_resnet.ResNet):  # type: ignore[misc, name-defined]
    """torchvision's ResNet-18 with fewer channels."""

    def __init__(self) -> None:
        super().__init__(torchvision_resnet.BasicBlock, [2, 2, 2, 2])

    def __setattr__(self, name: str, value: Any) -> None:
        first = name == "inplanes" and not hasattr(self, "inplanes")
        super().__setattr__(name, value // NARROWER if first else value)

    def _make_layer(self, block: Any, planes: int, *args: Any, **options: Any) -> Any:
        return super()._make_layer(block, planes // NARROWER, *args, **options)


class Narrow(architectures.KNNResNet):  # type: ignore[misc, name-defined]
    """The peer's ResNet with fewer channels."""

    def __setattr__(self, name: str, value: Any) -> None:
        first = name == "in_channels" and not hasattr(self, "in_channels")
        super().__setattr__(name, value // NARROWER if first or name == "out_channels" else value)

    def _make_layer(self, block: Any, planes: int, blocks: int, stride: int = 1) -> Any:
        return super()._make_layer(block, planes // NARROWER, blocks, stride)


def in_resnet(name: str, module: Any) -> bool:
    """Whether a module is a block of a ResNet or a layer that is called once."""
    return name.startswith("backbone.") and not isinstance(
        module, (torch.nn.ReLU, torch.nn.Sequential)
    )


def main(path: Path) -> None:
    recorder = Recorder()
    for name, changes in NETWORKS.items():
        content = peer.configuration(
            model__mlp="",
            saccades__resize_size=32,
            saccades__n_fixations=2,
            saccades__field_geometry="planar",
            data__num_classes=10,
            **changes,
        )
        kind = Narrow if name != "resnet9" else architectures.KNNResNet
        with mock.patch.object(architectures, "KNNResNet", kind):
            net = peer.build(content)
        net.load_state_dict(drawn(net.state_dict()))
        if name.startswith("dense"):
            dense = NarrowDense()
            dense.load_state_dict(drawn(dense.state_dict()))
            pretrained_resnet.load_torchvision_resnet_backbone(
                net.network.backbone, dense, preserve_kernel_norm=name.endswith("m2")
            )
        recorder.add(name, net, content, in_resnet)
    recorder.save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
