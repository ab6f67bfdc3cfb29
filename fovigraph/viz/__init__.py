"""Pictures: what a retina samples, where it looks, and what a unit sees (the extra ``viz``).

Every function returns a :class:`matplotlib.figure.Figure` and shows nothing; save it with
``figure.savefig``.
"""

from fovigraph._matplotlib import import_matplotlib

try:
    import_matplotlib()
except ImportError as error:
    raise ImportError("fovigraph.viz needs matplotlib: pip install 'fovigraph[viz]'") from error

from fovigraph._deprecated import module_getattr
from fovigraph.viz.accuracy import plot_accuracy
from fovigraph.viz.activations import level_features, plot_activations, step_layers
from fovigraph.viz.array import (
    node_spacing,
    plot_manifold,
    plot_nodes,
    plot_sampling,
    plot_spacing,
    plotly_manifold,
    spacing_law,
)
from fovigraph.viz.bins import plot_bins
from fovigraph.viz.cells import SPACES, node_cells
from fovigraph.viz.explorer import explorer_html
from fovigraph.viz.eyes import all_eyes, eyes_html, plot_eyes
from fovigraph.viz.fields import (
    Ellipses,
    effective_fields,
    field_ellipses,
    plot_effective_field_sizes,
    plot_field_sizes,
    plot_fields,
)
from fovigraph.viz.fixations import plot_fixations
from fovigraph.viz.flatmap import MAPS, flat_map
from fovigraph.viz.kernel import (
    cell_counts,
    example_nodes,
    kernel_picture,
    plot_filter_in_field,
    plot_filters,
    plot_kernel_map,
)
from fovigraph.viz.levels import plot_levels
from fovigraph.viz.pyramid import plot_pyramid, pyramid_dot, pyramid_networkx
from fovigraph.viz.rebuilt import plot_rebuilt, rebuild
from fovigraph.viz.receptive_field import example_unit, plot_receptive_field
from fovigraph.viz.sampling import plot_samples, plot_view
from fovigraph.viz.scan_path import (
    EyeFrames,
    GazePath,
    Raster,
    read_gaze_path,
    scan_path_frames,
)
from fovigraph.viz.video import VideoFrame, VideoWriter, read_video

__all__ = [
    "MAPS",
    "SPACES",
    "Ellipses",
    "EyeFrames",
    "GazePath",
    "Raster",
    "VideoFrame",
    "VideoWriter",
    "all_eyes",
    "cell_counts",
    "effective_fields",
    "example_nodes",
    "example_unit",
    "explorer_html",
    "eyes_html",
    "field_ellipses",
    "flat_map",
    "kernel_picture",
    "level_features",
    "node_cells",
    "node_spacing",
    "plot_accuracy",
    "plot_activations",
    "plot_bins",
    "plot_effective_field_sizes",
    "plot_eyes",
    "plot_field_sizes",
    "plot_fields",
    "plot_filter_in_field",
    "plot_filters",
    "plot_fixations",
    "plot_kernel_map",
    "plot_levels",
    "plot_manifold",
    "plot_nodes",
    "plot_pyramid",
    "plot_rebuilt",
    "plot_receptive_field",
    "plot_samples",
    "plot_sampling",
    "plot_spacing",
    "plot_view",
    "plotly_manifold",
    "pyramid_dot",
    "pyramid_networkx",
    "read_gaze_path",
    "read_video",
    "rebuild",
    "scan_path_frames",
    "spacing_law",
    "step_layers",
]

_RENAMED = {
    "plot_glance": "plot_view",
    "telling_nodes": "example_nodes",
    "telling_unit": "example_unit",
}

__getattr__ = module_getattr(__name__, _RENAMED)
