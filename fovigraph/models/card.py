"""Model cards: what a folder with a network says of it, for people and for the Hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fovigraph.models.fovinet import FoviNet

_SPECIAL = re.compile(r"[\\`*_\[\]~$#]")
"""What Markdown takes for more than text, within a line."""


def model_card(net: FoviNet, name: str, origin: str, facts: Mapping[str, str] | None = None) -> str:
    """Return a short description of a network, in Markdown.

    Args:
        net: The network.
        name: What it is called.
        origin: Where it comes from, as ``"trained on …"``.
        facts: Further rows of the table.

    Returns:
        The card. Names and facts are text in it, whatever they consist of.
    """
    from fovigraph import __version__  # which imports this module

    retina, fixation, classes = net.config.retina, net.config.fixation, net.config.head.num_classes
    several = ", of which an image may have several" if net.config.head.multi_label else ""
    parameters = sum(parameter.numel() for parameter in net.parameters())
    channels = retina.channels
    pixels = "RGB" if channels == 3 else f"{channels} channel{'s' * (channels > 1)}"
    rows = {
        "backbone": f"{net.config.backbone.name}, {parameters:,} parameters "
        "with projector and head",
        "retina": f"{len(net.retina.array)} samples over {retina.fov:g}° "
        f"(a = {retina.cmf_a:g}°, {retina.field_geometry} geometry), {retina.sampling} pixels",
        "images": f"{pixels} in [0, 1]; normalised inside: {retina.mean is not None}",
        "fixations": f"{fixation.count}, {fixation.policy}, put together by "
        f"{net.config.head.aggregation.replace('_', ' of ')}",
        "classes": f"{classes}{several}",
        **(facts or {}),
    }
    table = "\n".join(f"| {as_text(key)} | {as_text(value)} |" for key, value in rows.items())
    return f"""---
library_name: fovigraph
tags: [foveated-vision, graph-neural-network, image-classification]
---

# {as_text(name)}

A foveated network, {as_text(origin)} with fovigraph {__version__}.

| | |
|---|---|
{table}

```python
import fovigraph as fg

net = fg.FoviNet.from_pretrained("path/to/this/folder")
out = net(images)   # [B, {channels}, H, W]; out.logits are [B, {classes}]
```
"""


def as_text(words: str) -> str:
    """Return Markdown, for within a line or a cell of a table, that shows ``words`` as they are."""
    line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    line = _SPECIAL.sub(lambda match: "\\" + match[0], escape(line, quote=False))
    return line.replace("|", "&#124;")
