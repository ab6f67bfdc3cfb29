"""Makes `tests/data/upstream_layouts.npz`: small AlexNets of the peer (fovi 2.4.0) on its layouts.

    PEER/bin/python tests/make_upstream_layouts.py tests/data/upstream_layouts.npz

runs under the peer's Python (`benchmarks/README.md` says how to make that environment). All weights
and statistics are those of `drawn_weights.py`, and so not kept. The file has

    images          [1, 3, 44, 60] uint8
    fixations       [2, 2]
    samples/NETWORK [1, 2, N, 3]
    list0, …        neighbourhoods and places, as `use_neighbours` takes them, each once
    outputs/NETWORK in one row: of every layer the outputs of up to 20 nodes and 2 channels, [image,
                    fixation, node, channel]; `fixation_logits`, `probabilities`
    networks        JSON; of every network `config`, `lists` (name → number) and `outputs`
                    ([name, shape] in the order of the row)

Every layout and field has a network of its own, of its own size, field of view and magnification,
but for the disc, which other files have, and for the disc of exactly s² nodes, which the peer
draws at random.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import peer_networks as peer
from drawn_weights import drawn
from recorder import Recorder

RETINAS: dict[str, dict[str, Any]] = {
    "square": {"side": 20, "fov": 16.0, "cmf_a": 0.5, "fov_type": "square"},
    "fixn_square": {
        "mode": "isotropic_fixn",
        "side": 16,
        "fov": 65.0,
        "cmf_a": 2.0,
        "fov_type": "square",
    },
    "logpolar": {"mode": "logpolar", "side": 18, "fov": 16.0, "cmf_a": 0.5},
    "logpolar_square": {
        "mode": "logpolar",
        "side": 16,
        "fov": 40.0,
        "cmf_a": 1.3,
        "fov_type": "square",
    },
    "warped": {"mode": "warped_cartesian", "side": 16, "fov": 16.0, "cmf_a": 0.5},
    "warped_square": {
        "mode": "warped_cartesian",
        "side": 18,
        "fov": 100.0,
        "cmf_a": 10.0,
        "fov_type": "square",
    },
    "warped_disc_inf": {
        "mode": "warped_cartesian",
        "side": 16,
        "fov": 33.0,
        "cmf_a": 0.7,
        "radius_norm": math.inf,
    },
    "warped_square_inf": {
        "mode": "warped_cartesian",
        "side": 16,
        "fov": 65.0,
        "cmf_a": 2.0,
        "fov_type": "square",
        "radius_norm": math.inf,
    },
    "warped_wang": {
        "mode": "warped_cartesian",
        "side": 16,
        "fov": 9.0,
        "cmf_a": 0.2,
        "fov_type": "wang",
    },
    "uniform": {"mode": "uniform", "side": 16, "fov": 16.0, "cmf_a": None, "sample_cortex": False},
}


def configuration(
    side: int, fov: float, cmf_a: float | None, mode: str = "isotropic", **retina: Any
) -> dict[str, Any]:
    """A small AlexNet on a retina."""
    return peer.configuration(
        model__mlp="",
        model__arch_spec="base_lowres_smallrf",
        model__channel_mult=0.03,
        saccades__resize_size=side,
        saccades__fov=fov,
        saccades__cmf_a=cmf_a,
        saccades__mode=mode,
        saccades__n_fixations=2,
        saccades__field_geometry="planar",
        data__num_classes=5,
        **{f"saccades__{name}": value for name, value in retina.items()},
    )


def main(path: Path) -> None:
    recorder = Recorder()
    for name, retina in RETINAS.items():
        content = configuration(**retina)
        net = peer.build(content)
        net.load_state_dict(drawn(net.state_dict()))
        recorder.add(name, net, content, peer.in_alexnet, samples=f"samples/{name}")
    recorder.save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
