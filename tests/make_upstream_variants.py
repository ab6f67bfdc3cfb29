"""Makes `tests/data/upstream_variants.npz`: what networks of the peer (fovi 2.4.0) have besides.

    PEER/bin/python tests/make_upstream_variants.py tests/data/upstream_variants.npz

runs under the peer's Python (`benchmarks/README.md` says how to make that environment). A network
of every family, each with another aggregation of its fixations and with the second projector of
self-supervision; the convolutional ones have neighbours along the surface. And a ResNet-18 with
LoRA, which the peer takes over from a dense network: here a narrow one, not the published.

Weights are those of `drawn_weights.py`, positions of the vision transformer the peer's own. The
file has `images`, `fixations`, `list0`, …, `outputs/NETWORK` and `networks` as
`make_upstream_vits.py` describes them, and `dinov3` as `make_upstream_dinov3.py`. Every network
also has `learns` (the names of parameters that do), and `probes` (the tensors of the trainer's
probes: name → shape).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import peer_networks as peer
from drawn_weights import drawn
from make_upstream_dinov3 import LORA, PRETRAINED, SIZE, in_dinov3
from make_upstream_dinov3 import VIT as COVER
from make_upstream_resnets import Narrow, NarrowDense, in_resnet
from make_upstream_vits import VIT, in_vit
from recorder import Recorder

architectures = peer.import_peer("fovi.models.architectures")
dinov3 = peer.import_peer("fovi.models.dinov3")
probes = peer.import_peer("fovi.models.probes")
transformers = peer.import_peer("transformers")
vit = peer.import_peer("fovi.models.vit")

SELF_SUPERVISED = {"training__loss": "barlow", "model__mlp": "16-12"}
GEODESIC = {"saccades__sample_cortex": "geodesic", "saccades__resize_size": 24}
NETWORKS: dict[str, dict[str, Any]] = {
    "alexnet": {
        **SELF_SUPERVISED,
        **GEODESIC,
        "model__arch_spec": "4layer_nostride",
        "model__channel_mult": 0.05,
        "saccades__fix_agg": "attn",
    },
    "resnet": {
        **SELF_SUPERVISED,
        **GEODESIC,
        "model__arch": "fovi_resnet9_lowres",
        "model__stem_kernel_size": 3,
        "model__ref_frame_mult": 1,
        "model__norm_mlp": 0,
        "saccades__fix_agg": "rnn",
    },
    "vit": {
        **SELF_SUPERVISED,
        "model__arch": "fovi_vit_custom",
        "model__vit": VIT,
        "model__ref_frame_mult": None,
        "saccades__fix_agg": "gru",
    },
    "dinov3": {
        **SELF_SUPERVISED,
        "model__arch": "fovi_dinov3",
        "model__vit": COVER,
        "model__dropout_all": 0,
        "saccades__cmf_a": 2.785765,
        "saccades__fix_agg": "force_mean",
    },
    "lora": {
        "model__arch": "fovi_resnet18_lora",
        "model__ref_frame_mult": 1,
        "model__mlp": "",
        "saccades__fix_agg": "mean",
    },
}
RESNET: dict[str, Any] = {
    "weights": "IMAGENET1K_V1",
    "preserve_kernel_norm": False,
    "freeze_backbone": True,
    "unfreeze_norm": True,
    "unfreeze_all_norms": False,
    "unfreeze_layers": [3],
    "lora": {
        "r": 2,
        "alpha": 4.0,
        "layers": [-1, 0, 2, 7],
        "sublayers": ["conv1", "conv2", "downsample.0"],
    },
}
PARTS = {"lora": RESNET, "dinov3": {**PRETRAINED, "lora": LORA}}
ON_THE_CPU = (None, None, None, "cpu")
KEPT: dict[str, Callable[[str, Any], bool]] = {
    "alexnet": peer.in_alexnet,
    "resnet": in_resnet,
    "vit": in_vit,
    "dinov3": in_dinov3,
    "lora": lambda name, module: in_resnet(name, module) and "parametrizations" not in name,
}


def main(path: Path) -> None:
    recorder = Recorder()
    folder = Path(tempfile.mkdtemp())
    transformers.DINOv3ViTConfig(**SIZE).save_pretrained(folder)
    for name, changes in NETWORKS.items():
        content = peer.configuration(
            **{
                "saccades__resize_size": 32,
                "saccades__n_fixations": 2,
                "saccades__field_geometry": "planar",
                "data__num_classes": 10,
                **changes,
            }
        )
        content["pretrained_model"] = PARTS.get(name, {})
        built = {**content, "pretrained_model": {**PARTS.get(name, {}), "path": str(folder)}}
        with (
            mock.patch.object(architectures, "KNNResNet", Narrow),
            mock.patch.object(
                architectures, "load_torchvision_resnet18", return_value=NarrowDense()
            ),
            mock.patch.object(dinov3, "AutoImageProcessor"),
            mock.patch.object(vit.RoPEPositionalEncoding.__init__, "__defaults__", ON_THE_CPU),
        ):
            net = peer.build(built)
        state = net.state_dict()
        own = {key: value for key, value in state.items() if ".rope." in key}
        net.load_state_dict({**drawn(state), **own})
        for key, value in own.items():
            if "blocks.1" not in key:
                recorder.arrays[f"positions/{name}/{key}"] = value.numpy()
        net.default_setting = "supervised"
        each = probes.FoviNetProbes(net.mlp_spec, content["saccades"]["fix_agg"], 10)
        recorder.add(
            name,
            net,
            content,
            KEPT[name],
            tensors={key: list(value.shape) for key, value in state.items()},
            probes={key: list(value.shape) for key, value in each.state_dict().items()},
            learns=[key for key, value in net.named_parameters() if value.requires_grad],
        )
        del recorder.arrays["samples"]
    recorder.save(path, dinov3=(folder / "config.json").read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
