"""Exchange with the upstream package, ``fovi``: its configurations, checkpoints and neighbours.

No other part of the package knows upstream's names.
"""

from fovigraph.interop import alexnet as alexnet  # each family registers its mapping
from fovigraph.interop import resnet as resnet
from fovigraph.interop import vit as vit
from fovigraph.interop.config import read_config, write_config
from fovigraph.interop.conversion import convert
from fovigraph.interop.family import UpstreamFamily, register_upstream
from fovigraph.interop.load import from_upstream
from fovigraph.interop.neighbours import use_neighbours
from fovigraph.interop.recomputed import recomputed_neighbours

__all__ = [
    "UpstreamFamily",
    "convert",
    "from_upstream",
    "read_config",
    "recomputed_neighbours",
    "register_upstream",
    "use_neighbours",
    "write_config",
]
