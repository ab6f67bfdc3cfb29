"""Pictures: what a retina samples, where it looks, and what a unit sees (the extra ``viz``).

Every function returns a :class:`matplotlib.figure.Figure` and shows nothing; save it with
``figure.savefig``.
"""

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError("fovigraph.viz needs matplotlib: pip install 'fovigraph[viz]'") from error

from fovigraph.viz.cells import SPACES, node_cells
from fovigraph.viz.fixations import plot_fixations
from fovigraph.viz.flatmap import flat_map
from fovigraph.viz.receptive_field import plot_receptive_field, telling_unit
from fovigraph.viz.sampling import plot_glance, plot_samples

__all__ = [
    "SPACES",
    "flat_map",
    "node_cells",
    "plot_fixations",
    "plot_glance",
    "plot_receptive_field",
    "plot_samples",
    "telling_unit",
]
