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

import sys
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import peer_networks as peer
from drawn_weights import drawn
from recorder import Recorder

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
    recorder = Recorder()
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
        once = {key: value for key, value in own.items() if "blocks.1" not in key}
        for key, value in once.items():
            recorder.arrays[f"positions/{name}/{key}"] = value.numpy()
        tensors = {key: list(value.shape) for key, value in state.items()}
        recorder.add(name, net, content, in_vit, tensors=tensors)
    recorder.save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
