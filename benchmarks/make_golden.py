"""Records results of the peer (fovi 2.4.0) as small files, for the tests to compare with.

    PEER/bin/python benchmarks/make_golden.py tests/data

runs under the peer's Python (README.md says how to make that environment) and writes five files.
Everything is seeded, computed on the CPU, and rounded to float32 by the peer itself. Names below
stand for arrays; `{g}` is `planar` or `legacy`, the surface (`field_geometry`).

Common to all files: `version`, the peer's version, and, where they occur,

- neighbour lists are [N_out, k], in the peer's order (increasing distance; the order among equal
  distances is an accident of sorting). Values below N_in are nodes of the source array; N_in + p is
  padding node p, in the order of the source array's `padding`;
- cells are [N_out, k], one for each entry of the neighbour list, padding included: cell
  = i_u · s + i_v, where i_u counts along +x (rightwards) and i_v along +y (upwards), 0 … s−1;
- features are the peer's [batch, channels, nodes]; convolution weights are the peer's
  [C_out, C_in · s²], input channel outermost: column c · s² + cell.

geometry.npz: coordinates
    combinations      [6, 3] float64  fov (degrees), cmf_a (degrees), rings
    count{i}          []              number of nodes N of combination i = 0 … 5
    cartesian{i}      [N, 2]          x (right), y (up), in units of fov / 2, ring by ring; the same
                                      for both surfaces
    padding{i}        [P, 2]          the padding nodes, likewise, ring by ring
    cortical_{g}{i}   [N, 3]          on the surface, millimetres
    random            [150, 3] f64    fov, cmf_a, rings of random arrays
    random_count      [150]           their numbers of nodes

matching.npz: resource matching at fov 16, cmf_a 0.5
    side, rings, count   [S]          largest array with at most side² nodes

graphs.npz: neighbourhoods and kernel maps, for graph i = 0 … 6
    graphs            [7, 6] float64  fov, cmf_a, rings of source, rings of destination, k
                                      asked for, kernel side s
    visual            [7] bool        neighbours by distance in the visual plane, not on the surface
    neighbor{i}_{g}   [N_out, k]      neighbour lists (k capped at N_in)
    cell{i}_{g}       [N_out, k]      cells
    distance{i}_{g}   [N_out, k]      distance to the neighbour, millimetres (i = 0, 2, 4)

layers.npz: layers, from 230 to 60 nodes at fov 16, cmf_a 0.5 (13 to 7 rings)
    x                 [2, 3, 230]     input of every layer here
    weight            [8, 300]        convolution, 3 to 8 channels, k = 25, s = 10: graph 0 above
    bias              [8]
    cotangent         [2, 8, 60]
    conv_{g}          [2, 8, 60]      output
    grad_x_{g}        [2, 3, 230]     gradient of sum(output · cotangent) with respect to x
    grad_weight_{g}   [8, 300]        … and to weight
    grad_bias_{g}     [8]             … and to bias
    pool_neighbor_{g} [60, 9]         neighbour lists of the pools (k = 9)
    pool_{m}_{g}      [2, 3, 60]      m = max, mean, sum, gaussian
    gaussian_sigma    []              σ of the last: distances scaled to [0, 1] by their minimum
                                      and maximum over all k neighbours, padding included; only
                                      right to 2e-3, as the peer's distances are inexact (below)
    kernel{j}         [4, 3, h, w]    2-D convolution kernels, rows downwards
    loaded{j}         [4, 3 · s²]     the same loaded into a kernel of side `loaded_size`[j]

retina.npz: sampling an image, on an array of N nodes
    array             [3] float64     fov, cmf_a, rings
    image             [3, 40, 56]     values in [0, 1], multiples of 1/1024; row 0 at the top
    fixation          [S, 2] float64  row, column, as fractions of the image's height and width:
                                      (0, 0) is the outer corner of the top left pixel, (1, 1) that
                                      of the bottom right one, (0.5, 0.5) the centre
    size              [S, 2] float64  height, width in pixels that the field's *diameter* spans:
                                      a node at y = +1 lies size[0] / 2 above the fixation
    pixel             [S, N, 2]       row, column at which the nodes sample, in pixels from the top
                                      left outer corner (pixel (i, j) is centred on i + ½, j + ½):
                                      row = fixation[0] · 40 − y · size[0] / 2,
                                      column = fixation[1] · 56 + x · size[1] / 2
    nearest, bilinear [S, 3, N]       samples: `grid_sample`, align_corners=False, zero outside
    decay_sigma       []              colour decay: all channels multiplied by exp(−r / σ), r the
    decay             [3, N]          node's radius in units of fov / 2; `nearest[0]` so treated

On distances: the peer expands |a − b|² into |a|² − 2ab + |b|² in float32, which leaves errors of
0.02 mm in distances near zero (a node's distance to itself), 1e-4 from 1 mm on. In these graphs
neighbour sets agree with float64 arithmetic all the same, except where the k-th distance is an
exact tie.

On the retina: the image's aspect ratio plays no part. Height and width of the view are two separate
numbers of pixels, one number means a square view, and the view is stretched if they differ. Points
beyond the image are zero, so `bilinear` fades from the outermost pixels' centres to zero half a
pixel beyond the edge. `nearest` rounds halves of `pixel − ½` to even, so a node on the border
between two pixels to within rounding (symmetric arrays at symmetric fixations have such nodes) may
take either: compare where `pixel` is not within 1e-4 of a whole number. Fixations may lie outside
the image.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_env import import_peer

fovi = import_peer("fovi")
coords = import_peer("fovi.sensing.coords")
knn = import_peer("fovi.arch.knn")
retina = import_peer("fovi.sensing.retina")

Arrays = dict[str, Any]

SURFACES = ("planar", "legacy")

# fov, cmf_a, rings
COMBINATIONS = (
    (16.0, 0.5, 26),
    (24.5, 0.3, 17),
    (30.0, 2.0, 14),
    (48.0, 8.0, 15),
    (65.0, 0.15, 26),
    (20.0, 60.0, 16),
)

# fov, cmf_a, rings of source, rings of destination, k, kernel side; the last one is `visual`
GRAPHS = (
    (16.0, 0.5, 13, 7, 25, 10),
    (16.0, 0.5, 26, 13, 49, 14),
    (65.0, 0.15, 13, 13, 9, 6),
    (30.0, 2.0, 9, 5, 121, 22),
    (48.0, 8.0, 7, 1, 16, 8),
    (20.0, 60.0, 12, 8, 36, 6),
    (16.0, 0.5, 13, 7, 9, 6),
)
VISUAL = (False, False, False, False, False, False, True)
WITH_DISTANCE = (0, 2, 4)

SIDES = (256, 224, 128, 64, 48, 32, 16, 8, 4, 2, 1)

# row, column, height, width
VIEWS = (
    (0.5, 0.5, 40, 56),
    (0.5, 0.5, 20, 28),
    (0.4371, 0.6123, 40, 56),
    (0.4371, 0.6123, 20, 28),
    (0.0713, 0.8931, 40, 56),
    (0.0713, 0.8931, 20, 28),
    (0.9107, 0.2213, 40, 40),
    (-0.1319, 0.3117, 20, 28),
    (0.3331, 1.0919, 33.5, 61.7),
)


def main() -> None:
    """Writes the files into the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: make_golden.py FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    recorders = {
        "geometry": geometry,
        "matching": matching,
        "graphs": graphs,
        "layers": layers,
        "retina": retina_samples,
    }
    for name, record in recorders.items():
        path = folder / f"{name}.npz"
        arrays = {key: smallest(value) for key, value in record().items()}
        np.savez_compressed(path, version=fovi.__version__, **arrays)
        print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size / 1e3:.1f} kB")


def smallest(value: Any) -> np.ndarray:
    """Turns a tensor or number into an array, integers in the smallest type that holds them."""
    array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.dtype.kind in "iu":
        return array.astype(np.min_scalar_type(array.max()))
    return array


def sampling(fov: float, cmf_a: float, rings: float, surface: str = "planar") -> Any:
    """The peer's array."""
    return coords.SamplingCoords(fov, cmf_a, int(rings), device="cpu", field_geometry=surface)


def geometry() -> Arrays:
    """Coordinates of six arrays, node counts of many."""
    out: Arrays = {"combinations": np.array(COMBINATIONS)}
    for i, combination in enumerate(COMBINATIONS):
        planar, legacy = (sampling(*combination, surface) for surface in SURFACES)
        out[f"count{i}"] = len(planar)
        out[f"cartesian{i}"] = planar.cartesian
        out[f"padding{i}"] = planar.cartesian_pad_coords
        out[f"cortical_planar{i}"] = planar.cortical
        out[f"cortical_legacy{i}"] = legacy.cortical
    random = random_arrays(150)
    out["random"] = random
    out["random_count"] = [
        coords.num_sampling_coords(fov, cmf_a, int(rings)) for fov, cmf_a, rings in random
    ]
    return out


def random_arrays(number: int) -> np.ndarray:
    """Draws fov in 16 … 65, cmf_a in 0.15 … 60 (evenly in its logarithm), rings in 2 … 60."""
    rng = np.random.default_rng(0)
    fov = rng.uniform(16, 65, number)
    cmf_a = np.exp(rng.uniform(np.log(0.15), np.log(60), number))
    return np.stack([fov.round(2), cmf_a.round(4), rng.integers(2, 61, number)], axis=1)


def matching() -> Arrays:
    """Rings and node counts of arrays matched to square images."""
    found = [
        coords.find_desired_res(16.0, 0.5, side**2, "isotropic", force_less_than=True, quiet=True)
        for side in SIDES
    ]
    rings, count = zip(*found, strict=True)
    return {"side": SIDES, "rings": rings, "count": count}


def graphs() -> Arrays:
    """Neighbour lists and cells of small bipartite graphs."""
    out: Arrays = {"graphs": np.array(GRAPHS), "visual": np.array(VISUAL)}
    for i, visual in enumerate(VISUAL):
        for surface in SURFACES:
            layer = conv_layer(i, surface, 1, 1, sample_cortex=not visual)
            out[f"neighbor{i}_{surface}"] = layer.knn_indices.T
            out[f"cell{i}_{surface}"] = layer.local_rf.argmax(dim=2)
            if i in WITH_DISTANCE:
                out[f"distance{i}_{surface}"] = layer.knn_distances.T
    return out


def conv_layer(i: int, surface: str, c_in: int, c_out: int, **kwargs: Any) -> Any:
    """The peer's convolution over graph i, by its definition rather than a faster path."""
    fov, cmf_a, rings_in, rings_out, k, side = GRAPHS[i]
    return knn.KNNConvLayer(
        c_in,
        c_out,
        k,
        sampling(fov, cmf_a, rings_in, surface),
        sampling(fov, cmf_a, rings_out, surface),
        device="cpu",
        ref_frame_side_length=side,
        kernel_backend="baseline",
        **kwargs,
    )


def layers() -> Arrays:
    """One convolution with its gradients, the pools, and kernels loaded from 2-D convolutions."""
    generator = torch.Generator().manual_seed(0)
    out: Arrays = {
        "x": torch.randn(2, 3, 230, generator=generator),
        "weight": torch.randn(8, 300, generator=generator) / 300**0.5,
        "bias": torch.randn(8, generator=generator),
        "cotangent": torch.randn(2, 8, 60, generator=generator),
    }
    inputs = dict(out)
    for surface in SURFACES:
        out |= convolution(surface, **inputs) | pools(surface, inputs["x"])
    return out | loaded_kernels(generator)


def convolution(
    surface: str,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    cotangent: torch.Tensor,
) -> Arrays:
    """Output and gradients of a convolution over graph 0."""
    layer = conv_layer(0, surface, x.shape[1], len(bias), bias=True)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    x = x.clone().requires_grad_()
    y = layer(x)
    (y * cotangent).sum().backward()
    return {
        f"conv_{surface}": y,
        f"grad_x_{surface}": x.grad,
        f"grad_weight_{surface}": layer.weight.grad,
        f"grad_bias_{surface}": layer.bias.grad,
    }


def pools(surface: str, x: torch.Tensor) -> Arrays:
    """Outputs of every pool over the arrays of graph 0, with nine neighbours."""
    fov, cmf_a, rings_in, rings_out, _, _ = GRAPHS[0]
    source = sampling(fov, cmf_a, rings_in, surface)
    destination = sampling(fov, cmf_a, rings_out, surface)
    sigma = 0.5
    out: Arrays = {"gaussian_sigma": sigma}
    for ours, mode in (("max", "max"), ("mean", "avg"), ("sum", "sum"), ("gaussian", "gaussian")):
        pool = knn.KNNPoolingLayer(
            9, source, destination, mode=mode, device="cpu", gauss_sigma=sigma
        )
        out[f"pool_neighbor_{surface}"] = pool.knn_indices.T
        out[f"pool_{ours}_{surface}"] = pool(x)
    return out


def loaded_kernels(generator: torch.Generator) -> Arrays:
    """2-D convolution kernels as the peer loads them, resized (0, 1) and as they are (2)."""
    out: Arrays = {}
    # graph and the side of the 2-D kernel: 5 to 10, 3 to 6, 6 to 6
    for j, (graph, side) in enumerate(((0, 5), (2, 3), (2, 6))):
        kernel = torch.nn.Conv2d(3, 4, side, bias=False)
        kernel.weight.data = torch.randn(4, 3, side, side, generator=generator)
        layer = conv_layer(graph, "planar", 3, 4)
        layer.load_conv2d_weights(kernel)
        out |= {f"kernel{j}": kernel.weight, f"loaded{j}": layer.weight}
    return out | {"loaded_size": [10, 6, 6]}


def retina_samples() -> Arrays:
    """An image sampled at several views."""
    fov, cmf_a, side = 16.0, 0.5, 8
    image = smooth_image(40, 56)
    views = torch.tensor(VIEWS, dtype=torch.float64)
    out: Arrays = {"image": image, "fixation": views[:, :2], "size": views[:, 2:]}
    for name, sampler in (("nearest", "grid_nn"), ("bilinear", "grid_bilinear")):
        eye = retina.RetinalTransform(
            side, fov=fov, cmf_a=cmf_a, sampler=sampler, start_res=40, device="cpu"
        )
        looks = [eye(image[None], view[None, :2].float(), view[None, 2:].float()) for view in views]
        out[name] = torch.cat(looks)
    grids = [sampled_grid(eye, image, view) for view in views]
    out["pixel"] = torch.stack(grids)
    out["array"] = np.array([fov, cmf_a, eye.resolution])
    decay = 0.3
    return out | {
        "decay_sigma": decay,
        "decay": retina.GaussianColorDecay(decay)(out["nearest"][:1], eye.sampler.polar_radius)[0],
    }


def sampled_grid(eye: Any, image: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
    """Rows and columns in pixels at which the peer samples, [N, 2]."""
    _, grid = eye.sampler(
        image[None], view[None, :2].float(), view[None, 2:].float(), return_coords=True
    )
    size = torch.tensor(image.shape[-2:])
    return (grid[0, 0].flip(-1) + 1) * size / 2


def smooth_image(height: int, width: int) -> torch.Tensor:
    """A random image of slow waves, [3, height, width], in multiples of 1/1024."""
    rng = np.random.default_rng(1)
    row, column = np.meshgrid(np.arange(height) / 40, np.arange(width) / 40, indexing="ij")
    frequency = rng.uniform(-2.5, 2.5, (2, 3, 6, 1, 1))
    phase = rng.uniform(0, 2 * np.pi, (3, 6, 1, 1))
    waves = np.sin(2 * np.pi * (frequency[0] * row + frequency[1] * column) + phase).sum(axis=1)
    waves -= waves.min(axis=(1, 2), keepdims=True)
    waves /= waves.max(axis=(1, 2), keepdims=True)
    return torch.from_numpy((np.round(waves * 1024) / 1024).astype(np.float32))


if __name__ == "__main__":
    main()
