"""The kinds of picture that ``fovigraph plot`` draws."""

from __future__ import annotations

KINDS = {
    "sampling": "where the retina samples, and how densely",
    "levels": "where every level samples, in the visual field and on the cortex",
    "manifold": "the cortical surface (--out FILE.html: to be turned with the mouse)",
    "kernel-map": "how neighbours fall into the cells of a kernel",
    "receptive-field": "what one unit sees, level by level",
    "fields": "the receptive fields of a level, as ellipses",
    "field-sizes": "the diameter of fields against eccentricity",
    "effective-field-sizes": "the same, of effective fields, from gradients",
    "filters": "the filters of a convolution",
    "filter-in-field": "a filter, as it lies in the visual field",
    "samples": "the samples that the retina takes of a photograph",
    "rebuilt": "the photograph, rebuilt from the samples",
    "fixations": "where the network looks",
    "activations": "what a level computes of a photograph, on its nodes",
    "pyramid": "the levels and steps (--out FILE.dot or FILE.graphml: as a graph)",
}
"""The kinds, and what they show."""

TAKES: dict[str, tuple[str, ...]] = {
    "sampling": ("color", "map"),
    "levels": ("color", "map"),
    "manifold": ("color",),
    "kernel-map": ("level",),
    "receptive-field": ("level", "unit", "space", "binary", "bins", "image", "fixation", "device"),
    "fields": ("level",),
    "field-sizes": (),
    "effective-field-sizes": ("image", "fixation", "seed", "device"),
    "filters": ("level", "seed"),
    "filter-in-field": ("level", "channel", "seed"),
    "samples": ("image", "fixation", "device"),
    "rebuilt": ("image", "fixation", "device"),
    "fixations": ("image", "seed"),
    "activations": ("level", "space", "image", "fixation", "seed", "device"),
    "pyramid": ("level", "unit"),
}
"""The options of ``plot`` that change a kind of picture; the others are refused."""
