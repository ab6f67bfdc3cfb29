"""Records the peer's networks for `recordings.py`; runs under the peer's Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peer_networks as peer
import torch
from make_upstream_checkpoint import smooth_images
from recordings import some

FIXATIONS = torch.tensor([[0.4124, 0.5437], [0.0262, 0.868]])


class Recorder:
    """The answers of networks to an image at two fixations.

    Equal lists of neighbours, which networks share, are kept once.
    """

    def __init__(self) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(1)
        images = (smooth_images(1, 44, 60) * 255).round().to(torch.uint8)
        self._images = images / 255
        self.arrays: dict[str, Any] = {"images": images.numpy(), "fixations": FIXATIONS.numpy()}
        self._networks: dict[str, Any] = {}
        self._lists: list[torch.Tensor] = []

    def add(
        self,
        name: str,
        net: Any,
        content: Any,
        kept: Callable[[str, Any], bool],
        samples: str = "samples",
        **more: Any,
    ) -> None:
        """Records a network.

        Args:
            name: What it is called in the file.
            net: The network.
            content: Its configuration.
            kept: Whether a module, by name, is one whose output is recorded.
            samples: What its samples are called, which most networks have in common.
            more: What else is said of it, as JSON.
        """
        found = peer.outputs(net, self._images, FIXATIONS, kept)
        outputs = {key: found[key] for key in ("fixation_logits", "probabilities")}
        outputs |= {key: some(v) for key, v in found.items() if key.startswith("backbone.")}
        self.arrays[samples] = found["samples"].numpy()
        self.arrays[f"outputs/{name}"] = torch.cat([v.flatten() for v in outputs.values()]).numpy()
        lists = peer.neighbour_lists(net, torch.int16)
        self._networks[name] = {
            "config": content,
            "lists": {key: self._number(values) for key, values in lists.items()},
            "outputs": [[key, list(v.shape)] for key, v in outputs.items()],
            **more,
        }

    def _number(self, values: torch.Tensor) -> int:
        """The place of equal values among the lists, where they are put if they are not there."""
        equal = (i for i, there in enumerate(self._lists) if torch.equal(there, values))
        found = next(equal, len(self._lists))
        self._lists[found:] = self._lists[found:] or [values]
        return found

    def save(self, path: Path, **more: Any) -> None:
        """Writes the file, with more arrays or texts."""
        np.savez_compressed(
            path,
            version=peer.import_peer("fovi").__version__,
            networks=json.dumps(self._networks),
            **{f"list{i}": values.numpy() for i, values in enumerate(self._lists)},
            **self.arrays,
            **more,
        )
