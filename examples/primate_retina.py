"""A layout of one's own: a human retina, by Watson's formula and by a table of cell densities.

Run it: ``python examples/primate_retina.py``.
"""

import numpy as np
import torch

import fovigraph as fg
from fovigraph.geometry import RingLayout, register_layout

# Watson (2014, J. Vision 14(7):15), table 1: share, core and skirt (degrees) of the density of
# ganglion cells' receptive fields along the temporal, superior, nasal and inferior meridian.
MERIDIANS = np.array(
    [
        (0.9851, 1.058, 22.14),
        (0.9935, 1.035, 16.35),
        (0.9729, 1.084, 7.633),
        (0.9960, 0.9932, 12.13),
    ]
)
AT_GAZE = 33163.2  # receptive fields a square degree
MM_AT_GAZE = 20.0  # millimetres of cortex a degree


def watson(eccentricity):
    """Receptive fields of ganglion cells a square degree, the mean of the four meridians."""
    share, core, skirt = MERIDIANS.T[..., None]
    near = share * (1 + eccentricity / core) ** -2
    return (AT_GAZE * (near + (1 - share) * np.exp(-eccentricity / skirt))).mean(axis=0)


class CellRings(RingLayout):
    """Rings whose nodes are as dense as cells, on a cortex where all cells have as much room."""

    density = staticmethod(watson)  # of cells, by eccentricity in degrees

    def _mesh(self):
        """Eccentricities to beyond the padding, and how many spacings of cells lie below each."""
        r = np.linspace(0, 4 * self.radius, 20_001)
        per_degree = np.sqrt(self.density(r))
        steps = np.diff(r) * (per_degree[1:] + per_degree[:-1]) / 2
        return r, per_degree, np.append(0, steps.cumsum())

    def _radii(self, count):
        r, _, depth = self._mesh()
        edge = np.interp(self.radius, r, depth)
        rings = np.arange(count) * edge / max(self.resolution - 1, 1)
        return torch.from_numpy(np.interp(rings, depth, r)) * self.max_val

    def spacing(self, eccentricity):
        r, per_degree, depth = self._mesh()
        step = np.interp(self.radius, r, depth) / max(self.resolution - 1, 1)
        return step / torch.from_numpy(np.interp(eccentricity, r, per_degree))

    def cortical(self, polar, manifold):
        r, per_degree, _ = self._mesh()
        m = MM_AT_GAZE * per_degree / per_degree[0]  # millimetres a degree
        around, up = m * r, np.sqrt(np.maximum(m**2 - np.gradient(m * r, r) ** 2, 0))
        height = np.append(0, (np.diff(r) * (up[1:] + up[:-1]) / 2).cumsum())
        distance, angle = polar.unbind(-1)
        rho, z = (torch.from_numpy(np.interp(distance, r, each)) for each in (around, height))
        return torch.stack((rho * angle.cos(), rho * angle.sin(), z), dim=-1)


@register_layout("watson")
class Watson(CellRings):
    """A human retina by the formula."""


# A table, as a laboratory has one. This one is made by the formula; put yours in its place.
TABLE = [(r, float(watson(np.array([r]))[0])) for r in (0, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)]


@register_layout("counted_cells")
class CountedCells(CellRings):
    """A retina by a table: densities between its rows by interpolation of their logarithms."""

    @staticmethod
    def density(r):
        eccentricity, cells = np.array(TABLE).T
        return np.exp(np.interp(np.log1p(r), np.log1p(eccentricity), np.log(cells)))


for name in ("watson", "counted_cells"):
    retina = fg.SensorArray.matched(64, fov=40.0, layout=name)
    print(f"{name}: {len(retina)} nodes on {retina.resolution} rings")

config = fg.load_config("fovi_tiny", ["retina.layout=watson", "retina.fov=40"])
net = fg.FoviNet(config).eval()
print(net(torch.rand(2, 3, 96, 128)).logits.shape, net.pyramid)
