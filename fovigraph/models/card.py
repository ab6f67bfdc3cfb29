"""Model cards: what a folder with a network says of it, for people and for the Hub."""

from __future__ import annotations

from collections.abc import Mapping

from fovigraph.models.fovinet import FoviNet


def model_card(net: FoviNet, name: str, origin: str, facts: Mapping[str, str] | None = None) -> str:
    """Return a short description of a network, in Markdown.

    Args:
        net: The network.
        name: What it is called.
        origin: Where it comes from, as ``"trained on …"``.
        facts: Further rows of the table.
    """
    from fovigraph import __version__  # which imports this module

    retina, fixation, classes = net.config.retina, net.config.fixation, net.config.head.num_classes
    parameters = sum(parameter.numel() for parameter in net.parameters())
    rows = {
        "backbone": f"{net.config.backbone.name}, {parameters:,} parameters "
        "with projector and head",
        "retina": f"{len(net.retina.array)} samples over {retina.fov:g}° "
        f"(a = {retina.cmf_a:g}°, {retina.field_geometry} geometry), {retina.sampling} pixels",
        "images": f"RGB in [0, 1]; normalised inside: {retina.mean is not None}",
        "fixations": f"{fixation.count}, {fixation.policy}",
        "classes": str(classes),
        **(facts or {}),
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"""---
library_name: fovigraph
tags: [foveated-vision, graph-neural-network, image-classification]
---

# {name}

A foveated network, {origin} with fovigraph {__version__}.

| | |
|---|---|
{table}

```python
import fovigraph as fg

net = fg.FoviNet.from_pretrained("path/to/this/folder")
out = net(images)   # [B, 3, H, W]; out.logits are [B, {classes}]
```
"""
