"""Whole networks of the peer: configurations, building, saving; runs under the peer's Python."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from peer_env import import_peer

fovinet = import_peer("fovi.models.fovinet")

# What the peer's published AlexNets are configured with, less what only training reads.
ALEXNET: dict[str, Any] = {
    "model": {
        "arch": "fovi_alexnet2023",
        "arch_spec": "base_lowres",
        "arch_flag": "",
        "mlp": "1024-1024",
        "norm_mlp": 1,
        "norm": "force_batch",
        "out_grid_size": 1,
        "channel_mult": 1.0,
        "k_mult": 1.0,
        "dropout": 0.5,
        "dropout_all": 1,
        "dropout_probes": 0.0,
        "ref_frame_mult": 2,
    },
    "saccades": {
        "color_sigma": None,
        "fixation_size": 256,
        "fixation_size_min_frac": 1.0,
        "fixation_size_max_frac": 1.0,
        "fixation_size_frac_val": 1.0,
        "resize_size": 64,
        "auto_match_cart_resources": 1,
        "ssl_policy": "none",
        "sup_policy": "multi_random_nearcenter",
        "nearcenter_dist": 0.25,
        "mode": "isotropic",
        "sample_cortex": True,
        "sampler": "grid_nn",
        "circular": 1,
        "fov": 16.0,
        "rescale_fov": 1,
        "cmf_a": 0.5,
        "fix_agg": "mean",
        "add_aspect_variation": 0,
        "n_fixations": 4,
        "n_fixations_val": 20,
    },
    "transforms": {"where": "pre_warp", "flip": 0, "color_jitter": 0, "gray": 0, "blur": 0},
    "data": {"num_classes": 1000, "train_dataset": "${oc.env:FOVI_DATASETS_DIR}/train.ffcv"},
    "validation": {"no_color": 0, "repeats": 1},
    "training": {"loss": "supervised", "resolution": 256, "amp_dtype": "float16", "load_cpu": 0},
}


def configuration(**changes: Any) -> dict[str, Any]:
    """`ALEXNET` with changes, given as `section__key=value`."""
    content = copy.deepcopy(ALEXNET)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        content[section][name] = value
    return content


def build(content: dict[str, Any], device: str = "cpu") -> Any:
    """The network that a configuration describes, saying nothing."""
    with contextlib.redirect_stdout(io.StringIO()):
        return fovinet.FoviNet(OmegaConf.create(copy.deepcopy(content)), device=device)


def save(net: Any, content: dict[str, Any], folder: Path) -> None:
    """Writes a folder as the peer's trainer does at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(content), folder / "resolved_config.yaml")
    torch.save(
        {"epoch": 0, "state_dict": net.state_dict(), "params": content},
        folder / "final_weights.pth",
    )


def neighbour_lists(net: Any, dtype: torch.dtype = torch.int64) -> dict[str, torch.Tensor]:
    """Places and neighbourhoods of a network, as `fovigraph.interop.use_neighbours` takes them."""
    lists = {"retina.cartesian": net.retinal_transform.sampler.coords.cartesian}
    for name, layer in net.list_knn_layers().items():
        lists[f"{name}.neighbours"] = layer.knn_indices.to(dtype)
        if hasattr(layer, "local_rf"):
            lists[f"{name}.cells"] = layer.local_rf.argmax(-1).T.contiguous().to(dtype)
    return lists


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1] as the peer's loaders give them to a network in evaluation."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std


MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]


def in_alexnet(name: str, module: Any) -> bool:
    """Whether a module is a layer, or a part of one, of an AlexNet or of a projector."""
    return name.startswith(("backbone.layers.", "projector.layers.fc")) and name.count(".") <= 3


def outputs(
    net: Any,
    images: torch.Tensor,
    fixations: torch.Tensor,
    kept: Callable[[str, Any], bool] = in_alexnet,
) -> dict[str, torch.Tensor]:
    """What every part of a network gives, in evaluation.

    Args:
        net: The network.
        images: `[B, 3, H, W]` in [0, 1].
        fixations: `[F, 2]`, for every image.
        kept: Whether to keep the output of a module of `net.network`, by its name and itself.

    Returns:
        `samples` `[B, F, N, 3]`; under the name of every module that is kept its output,
        `[B, F, N, C]` or `[B, F, C]`; `fixation_logits` `[B, F, classes]`, `probabilities`
        `[B, classes]`.
    """
    found: dict[str, torch.Tensor] = {}
    shape = (len(fixations), len(images))

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                by_view = output.detach().clone().unflatten(0, shape).transpose(0, 1)
                found[name] = by_view.transpose(-1, -2) if by_view.dim() == 4 else by_view

        return hook

    handles = [
        module.register_forward_hook(keep(name))
        for name, module in net.network.named_modules()
        if kept(name, module)
    ]
    net.eval()
    with torch.no_grad():
        embeddings, _, samples = net(
            normalised(images),
            fixations=list(fixations.clone()),
            n_fixations=len(fixations),
            do_postproc=False,
        )
        found["samples"] = samples.transpose(-1, -2)
        found["embeddings"] = embeddings
        found["fixation_logits"] = net.head.fix_projector(embeddings)
        found["probabilities"] = net.head(embeddings)
    for handle in handles:
        handle.remove()
    return found
