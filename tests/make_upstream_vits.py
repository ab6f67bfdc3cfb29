"""Makes `tests/data/upstream_vits.npz`: vision transformers of the peer (fovi 2.4.0), and answers.

    PEER/bin/python tests/make_upstream_vits.py tests/data/upstream_vits.npz

runs under the peer's Python (`benchmarks/README.md` says how to make that environment). Weights are
those of `drawn_weights.py`, and positions the peer's own. The file has `images`, `fixations`,
`samples`, `list0`, …, `outputs/NETWORK` and `networks` as `make_upstream_resnets.py` describes
them; the outputs are those of the patch embedding, of every block and of the last norm, for up to
20 channels and 2 tokens. `positions/NETWORK/…` are the peer's buffers, of the first block alone.

The peer makes positions on a GPU whatever it is told: here on the CPU.
"""

from __future__ import annotations

import json
import sys
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

vit = peer.import_peer("fovi.models.vit")

VIT: dict[str, Any] = {
    "patch_size": 8,
    "patch_overlap_factor": 1.5,
    "num_layers": 2,
    "mlp_ratio": 2,
    "dropout": 0.0,
    "embed_dim": 24,
    "num_heads": 3,
    "num_outputs": 0,
    "pos_emb_type": "rope",
    "attn_backend": "standard",
    "aggregation": "cls_token",
    "force_patches_less_than_matched": 0,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "rope": {},
    "absolute": {
        "model__vit": {**VIT, "pos_emb_type": "absolute", "aggregation": "avg_pool"},
        "saccades__sample_cortex": "geodesic",
    },
    "fewer": {"model__vit": {**VIT, "force_patches_less_than_matched": 1, "patch_size": 6}},
}


def in_vit(name: str, module: Any) -> bool:
    """Whether a module is the patch embedding, a block or the last norm."""
    del module
    return name in ("backbone.patch_embed", "backbone.norm") or (
        name.startswith("backbone.blocks.") and name.count(".") == 2
    )


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

    for name, changes in NETWORKS.items():
        content = peer.configuration(
            **{
                "model__arch": "fovi_vit_custom",
                "model__vit": VIT,
                "model__ref_frame_mult": None,
                "model__mlp": "",
                "saccades__resize_size": 32,
                "saccades__n_fixations": 2,
                "saccades__field_geometry": "planar",
                "data__num_classes": 10,
                **changes,
            }
        )
        with (
            mock.patch.object(
                vit.PositionalEncoding.__init__, "__defaults__", (None,) * 3 + ("cpu",)
            ),
            mock.patch.object(
                vit.RoPEPositionalEncoding.__init__, "__defaults__", (None,) * 3 + ("cpu",)
            ),
        ):
            net = peer.build(content)
        state = net.state_dict()
        own = {key: value for key, value in state.items() if "_emb" in key or "pos_enc" in key}
        net.load_state_dict({**drawn(state), **own})
        found = peer.outputs(net, images / 255, FIXATIONS, in_vit)
        outputs = {key: found[key] for key in ("fixation_logits", "probabilities")}
        outputs |= {key: some(v) for key, v in found.items() if key.startswith("backbone.")}
        arrays["samples"] = found["samples"].numpy()
        arrays[f"outputs/{name}"] = torch.cat([v.flatten() for v in outputs.values()]).numpy()
        once = {key: value for key, value in own.items() if "blocks.1" not in key}
        for key, value in once.items():
            arrays[f"positions/{name}/{key}"] = value.numpy()
        networks[name] = {
            "config": content,
            "lists": {key: number(v) for key, v in peer.neighbour_lists(net, torch.int16).items()},
            "outputs": [[key, list(v.shape)] for key, v in outputs.items()],
            "tensors": {key: list(value.shape) for key, value in state.items()},
        }
    np.savez_compressed(
        path,
        version=peer.import_peer("fovi").__version__,
        networks=json.dumps(networks),
        **{f"list{i}": values.numpy() for i, values in enumerate(lists)},
        **arrays,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
