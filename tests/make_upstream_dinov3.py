"""Makes `tests/data/upstream_dinov3.npz`: small DINOv3s of the peer (fovi 2.4.0) and their answers.

    PEER/bin/python tests/make_upstream_dinov3.py tests/data/upstream_dinov3.npz

runs under the peer's Python (`benchmarks/README.md` says how to make that environment). Weights are
those of `drawn_weights.py`. The file has `images`, `fixations`, `samples`, `list0`, …,
`outputs/NETWORK` and `networks` as `make_upstream_vits.py` describes them, and `dinov3`, the
`config.json` of transformers' network in the folder that `pretrained_model.path` names.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import peer_networks as peer
from drawn_weights import drawn
from make_upstream_checkpoint import smooth_images
from make_upstream_resnets import FIXATIONS, some

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
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images = (smooth_images(1, 44, 60) * 255).round().to(torch.uint8)
    arrays: dict[str, Any] = {"images": images.numpy(), "fixations": FIXATIONS.numpy()}
    networks: dict[str, Any] = {}
    lists: list[torch.Tensor] = []

    def number(values: torch.Tensor) -> int:
        """The place of equal values in `lists`, where they are put if they are not there yet."""
        equal = (i for i, there in enumerate(lists) if torch.equal(there, values))
        found = next(equal, len(lists))
        lists[found:] = lists[found:] or [values]
        return found

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
        found = peer.outputs(net, images / 255, FIXATIONS, in_dinov3)
        outputs = {key: found[key] for key in ("fixation_logits", "probabilities")}
        outputs |= {key: some(v) for key, v in found.items() if key.startswith("backbone.")}
        arrays["samples"] = found["samples"].numpy()
        arrays[f"outputs/{name}"] = torch.cat([v.flatten() for v in outputs.values()]).numpy()
        networks[name] = {
            "config": content,
            "lists": {key: number(v) for key, v in peer.neighbour_lists(net, torch.int16).items()},
            "outputs": [[key, list(v.shape)] for key, v in outputs.items()],
            "tensors": {key: list(value.shape) for key, value in state.items()},
            "learns": [key for key, value in net.named_parameters() if value.requires_grad],
        }
    np.savez_compressed(
        path,
        version=peer.import_peer("fovi").__version__,
        networks=json.dumps(networks),
        dinov3=(folder / "config.json").read_text(),
        **{f"list{i}": values.numpy() for i, values in enumerate(lists)},
        **arrays,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
