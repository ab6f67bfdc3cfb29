"""Makes `tests/data/upstream_dinov3.npz`: small DINOv3s of the peer (fovi 2.4.0) and their answers.

    PEER/bin/python tests/make_upstream_dinov3.py tests/data/upstream_dinov3.npz

runs under the peer's Python (`benchmarks/README.md` says how to make that environment). Weights are
those of `drawn_weights.py`. The file has `images`, `fixations`, `samples`, `list0`, …,
`outputs/NETWORK` and `networks` as `make_upstream_vits.py` describes them, and `dinov3`, the
`config.json` of transformers' network in the folder that `pretrained_model.path` names.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import peer_networks as peer
from drawn_weights import drawn
from recorder import Recorder

dinov3 = peer.import_peer("fovi.models.dinov3")
transformers = peer.import_peer("transformers")

SIZE = {
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
    "num_register_tokens": 2,
    "use_gated_mlp": True,
    "hidden_act": "silu",
    "layerscale_value": 0.5,
}
VIT = {"patch_size": 8, "partitioning_patches": "KNN", "force_patches_less_than_matched": 0}
LORA = {
    "r": 2,
    "alpha": 4.0,
    "layers": [-1, 1],
    "sublayers": [
        *(f"attention.{name}_proj" for name in "qkvo"),
        "mlp.up_proj",
        "mlp.down_proj",
    ],
}
PRETRAINED: dict[str, Any] = {
    "path": "dinov3",
    "patch_size": 16,
    "load_weights": False,
    "use_patch_weights": 1,
    "freeze_backbone": 1,
    "unfreeze_norm": 1,
    "unfreeze_layers": None,
    "unfreeze_all_norms": 0,
    "lora": LORA,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "lora": {"saccades__sample_cortex": "geodesic", "model__mlp": "12"},
    "tokens": {"model__output_mode": "tokens", "pretrained__lora": None},
    "patch_tokens": {
        "model__output_mode": "patch_tokens",
        "pretrained__lora": None,
        "model__vit": {
            "patch_size": 8,
            "partitioning_patches": 0,
            "patch_overlap_factor": 1.5,
            "new_parameterization": 1,
            "force_patches_less_than_matched": 1,
        },
    },
}


def in_dinov3(name: str, module: Any) -> bool:
    """Whether a module is the patch embedding, a block or the last norm."""
    del module
    blocks = name.startswith("backbone.model.layer.") and name.count(".") == 3
    return blocks or name in ("backbone.embeddings.patch_embeddings", "backbone.norm")


def main(path: Path) -> None:
    recorder = Recorder()
    folder = Path(tempfile.mkdtemp())
    transformers.DINOv3ViTConfig(**SIZE).save_pretrained(folder)
    for name, changes in NETWORKS.items():
        changes = dict(changes)
        pretrained = {**PRETRAINED, "lora": changes.pop("pretrained__lora", LORA)}
        content = peer.configuration(
            **{
                "model__arch": "fovi_dinov3",
                "model__output_mode": "pooled",
                "model__vit": VIT,
                "model__mlp": "",
                "saccades__resize_size": 32,
                "saccades__n_fixations": 2,
                "saccades__cmf_a": 2.785765,
                "saccades__field_geometry": "planar",
                "data__num_classes": 10,
                **changes,
            }
        )
        content["pretrained_model"] = pretrained
        built = {**content, "pretrained_model": {**pretrained, "path": str(folder)}}
        with mock.patch.object(dinov3, "AutoImageProcessor"):
            net = peer.build(built)
        state = drawn(net.state_dict())
        net.load_state_dict(state)
        recorder.add(
            name,
            net,
            content,
            in_dinov3,
            tensors={key: list(value.shape) for key, value in state.items()},
            learns=[key for key, value in net.named_parameters() if value.requires_grad],
        )
    recorder.save(path, dinov3=(folder / "config.json").read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
