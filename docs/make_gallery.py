"""Make the pictures of docs/gallery.md, on the photograph that comes with scikit-image.

    python docs/make_gallery.py [FOLDER]

The picture of the explorer needs Chromium, and is left as it is without.
"""

from __future__ import annotations

import io
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from skimage import data
from torch import Tensor, nn

import fovigraph as fg
from fovigraph import viz

WIDTH = 1100
"""Pixels of a picture."""

LARGEST = 140_000
"""Bytes of a picture."""

GAZE = (0.42, 0.55)
"""Between the cat's eyes."""

LOOKS = [GAZE, (0.4, 0.33), (0.7, 0.52), (0.15, 0.3)]


def gabors(count: int, side: int = 21) -> Tensor:
    """Edge and colour detectors as early vision has them, ``[count, 3, side, side]``."""
    at = torch.linspace(-1, 1, side)
    down, across = torch.meshgrid(at, at, indexing="ij")
    filters = []
    for index in range(count):
        angle, waves = math.pi * index / 8, (1.0, 1.7, 2.6)[index // 8 % 3]
        along = across * math.cos(angle) - down * math.sin(angle)
        phase = math.pi / 2 * (index // 24)
        wave = torch.exp(-3.5 * (across**2 + down**2)) * torch.cos(
            2 * math.pi * waves * along + phase
        )
        color = [(1.0, 1.0, 1.0), (1.0, -1.0, 0.0), (0.5, 0.5, -1.0)][index % 5 // 2]
        filters.append(torch.stack([share * wave for share in color]))
    return torch.stack(filters)


def network() -> fg.FoviNet:
    """The AlexNet of the paper with Gabor filters in its first layer; the other weights random."""
    torch.manual_seed(0)
    net = fg.FoviNet(fg.load_config("fovi_alexnet")).eval()
    first = viz.step_layers(net.backbone)[0]
    conv = nn.Conv2d(3, first.out_channels, 21, bias=False)
    conv.weight.data = gabors(first.out_channels) / 21
    first.load_conv2d(conv)
    return net


def figures(net: fg.FoviNet, image: Tensor) -> dict[str, Figure]:
    """Every picture by name."""
    array, pyramid = net.retina.array, net.pyramid
    with torch.no_grad():
        out = net(image[None], [GAZE])
        where, size = out.fixations[0], out.fixation_sizes[0]
        colors = net.retina.colors(image[None], where, size)[0, 0]
        samples = net.retina(image[None], where, size)[0]
        features = viz.level_features(net.backbone, samples)
        looks = net(image[None], LOOKS)
    graph, weight = pyramid.graphs[0], viz.step_layers(net.backbone)[0].weight
    level, unit = viz.example_unit(pyramid)
    view = {"image": image, "fixation": where[0], "size": size[0]}
    title = "What the first layer answers: the channels that vary most"
    array_1, features_1 = pyramid.levels[1], features[pyramid.names[1]]
    return {
        "sampling": viz.plot_sampling(array),
        "polar-angle": viz.plot_sampling(array, color="polar_angle"),
        "levels": viz.plot_levels(pyramid, kind="schwartz"),
        "manifold": viz.plot_manifold(array),
        "eyes": viz.plot_eyes(image, fixation=GAZE),
        "samples": viz.plot_view(image, array, colors, where[0], size[0]),
        "rebuilt": viz.plot_rebuilt(image, array, colors, where[0], size[0]),
        "fixations": viz.plot_fixations(
            image, looks.fixations[0], looks.fixation_sizes[0], array=array
        ),
        "kernel-map": viz.plot_kernel_map(pyramid.graphs[2], pyramid.kernel_sizes[2]),
        "filters": viz.plot_filters(weight),
        "filter-in-field": viz.plot_filter_in_field(graph, weight, 0),
        "activations": viz.plot_activations(array_1, features_1[0], title=title),
        "receptive-field": viz.plot_receptive_field(pyramid, level, unit, **view),
        "field-bins": viz.plot_receptive_field(pyramid, level, unit, **view, bins=40),
        "fields": viz.plot_fields(pyramid, "conv2"),
        "field-sizes": viz.plot_field_sizes(pyramid),
        "effective-field-sizes": viz.plot_effective_field_sizes(
            net.backbone, samples=net.retina(image[None], where, size)[0]
        ),
        "pyramid": viz.plot_pyramid(pyramid),
    }


def save(picture: Image.Image, file: Path) -> None:
    """Write a JPEG of no more than :data:`LARGEST` bytes; what is too rich for it gets smaller."""
    while True:
        for quality in range(88, 30, -6):
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=quality, optimize=True, progressive=True)
            if out.tell() <= LARGEST:
                file.write_bytes(out.getvalue())
                return
        picture = picture.resize((picture.width * 4 // 5, picture.height * 4 // 5))


def explorer(image: Tensor) -> Image.Image | None:
    """The explorer of a trained network, as a browser shows it, if there is one."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return None
    net = fg.FoviNet.from_pretrained("fovi_cifar10")
    with torch.no_grad():
        out = net(image[None])
    page = viz.explorer_html(
        net.pyramid,
        image=image,
        retina=net.retina,
        fixations=out.fixations[0],
        sizes=out.fixation_sizes[0],
        probabilities=out.fixation_logits[0].softmax(-1),
        together=out.probabilities[0],
        class_names=net.class_names,
        title="What every unit of fovi_cifar10 sees",
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "explorer.html").write_text(page, encoding="utf-8")
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += ["--disable-background-networking", f"--user-data-dir={folder}/profile"]
        options += [f"--screenshot={folder}/page.png", "--window-size=1400,960"]
        options += ["--virtual-time-budget=8000", f"file://{folder}/explorer.html"]
        subprocess.run([browser, *options], check=True, capture_output=True)
        return Image.open(Path(folder) / "page.png").convert("RGB")


def main(folder: Path) -> None:
    """Write every picture to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    image = torch.from_numpy(data.chelsea()).permute(2, 0, 1).contiguous()
    net = network()
    for name, figure in figures(net, image).items():
        out = io.BytesIO()
        figure.savefig(out, dpi=WIDTH / figure.get_figwidth())
        save(Image.open(out).convert("RGB"), folder / f"{name}.jpg")
    page = explorer(image)
    if page is not None:
        save(page, folder / "explorer.jpg")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images" / "gallery")
