"""A pyramid U-Net that rebuilds a photograph from one view in dim light.

In dim light few photons reach each receptor: what the retina's nodes report is noisy.

Down: two kNN convolutions. Up: the transpose of the upper one, then inverse-distance interpolation,
each joined by what the level saw on the way down. Then the inverse retina lays the features of the
retina's nodes out on pixels, where a small perceptron paints. The yardstick is the inverse retina
alone, which interpolates what the retina's nodes reported. Judged on photographs of which
nothing was seen in training.

Run it: ``python examples/image_from_a_view.py``; ``--images`` takes a folder or a parquet file.
"""

import torch
from matplotlib.figure import Figure
from real_images import Stopwatch, arguments, unlabelled_images
from torch import Tensor, nn

import fovigraph as fg

SIDE, VIEW, GAZE = 64, 60.0, [[0.5, 0.5]]  # pixels of the image and of the view, and where to look
NOISE = 0.1  # standard deviation of what a node reports, which is from 0 to 1


class PyramidUNet(nn.Module):
    """retina → conv1 → conv2 and back to the retina, then to pixels."""

    def __init__(self, channels: int = 32):
        super().__init__()
        steps = [
            fg.Step("conv", k=16, stride=1, kernel_size=6),
            fg.Step("conv", k=25, stride=2, kernel_size=7),
        ]
        self.pyramid = fg.GraphPyramid(fg.SensorArray.matched(32), steps)
        self.retina = fg.Retina(self.pyramid.levels[0], "bilinear", fixation_size=VIEW)
        self.to_pixels = fg.sensing.InverseRetina(self.retina, (SIDE, SIDE))
        self.down1 = fg.nn.KNNConv(3, channels, kernel_size=6)
        self.down2 = fg.nn.KNNConv(channels, 2 * channels, kernel_size=7)
        self.up2 = fg.nn.KNNConvTranspose(2 * channels, channels, kernel_size=7)
        self.coarse = fg.nn.KNNUnpool()
        self.join = nn.Sequential(nn.Linear(4 * channels + 3, channels), nn.ReLU())
        self.norm1, self.norm2 = fg.nn.BatchNorm(channels), fg.nn.BatchNorm(2 * channels)
        centres = (torch.arange(SIDE) + 0.5 - SIDE / 2) / (VIEW / 2)
        row, column = torch.meshgrid(centres, centres, indexing="ij")
        self.register_buffer("place", torch.stack((column, row)), persistent=False)
        self.paint = nn.Sequential(
            nn.Linear(channels + 5, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, 3)
        )
        nn.init.zeros_(self.paint[-1].weight)

    def look(self, images: Tensor) -> Tensor:
        """Return what the retina's nodes report, ``[B, N, 3]``."""
        seen = self.retina(images, GAZE)[:, 0]
        return seen + NOISE * torch.randn_like(seen)

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image rebuilt, and the yardstick, both ``[B, 3, SIDE, SIDE]``."""
        graph1, graph2 = self.pyramid.graphs
        low = torch.relu(self.norm1(self.down1(seen - 0.5, graph1)))
        high = torch.relu(self.norm2(self.down2(low, graph2)))
        back = torch.relu(self.up2(high, graph2))
        wide = self.coarse(high, self.pyramid.up("conv2", k=3))
        x = self.join(torch.cat((seen, low, back, wide), dim=-1))
        plain = self.to_pixels(seen)
        place = self.place.expand(len(x), -1, -1, -1)
        pixels = torch.cat((self.to_pixels(x), plain, place), dim=1).movedim(1, -1)
        return plain + self.paint(pixels).movedim(-1, 1) * self.to_pixels.inside, plain


def train(net: PyramidUNet, images: Tensor, epochs: int) -> None:
    optimizer = torch.optim.AdamW(net.parameters())
    steps = epochs * (len(images) // 16)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.004, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images))[: len(images) // 16 * 16].split(16):
            wanted = images[batch] / 255
            if torch.rand(()) < 0.5:
                wanted = wanted.flip(-1)
            loss = (
                (net(net.look(wanted))[0] - wanted)
                .square()
                .mean(dim=(0, 1))[net.to_pixels.inside]
                .mean()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def decibels(images: Tensor, wanted: Tensor, where: Tensor) -> Tensor:
    """Peak signal to noise of every image over the pixels of a mask, dB, ``[B]``."""
    return -10 * (images - wanted).square().mean(dim=1)[:, where].mean(dim=1).log10()


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    sizes = (32, 16) if options.quick else (960, 128)
    learn, judge = unlabelled_images(options.images, SIDE, *sizes)
    watch, net = Stopwatch(), PyramidUNet()
    train(net, learn, 1 if options.quick else 5)
    with torch.no_grad():
        seen = net.eval().look(judge / 255)
        pairs = [net(part) for part in seen.split(16)]
    rebuilt, plain = (torch.cat(part).clamp(0, 1) for part in zip(*pairs, strict=True))
    distance = net.place.norm(dim=0)
    rings = {
        "whole view": net.to_pixels.inside,
        "inner half": distance <= 0.5,
        "outer half": (distance > 0.5) & net.to_pixels.inside,
    }
    quality = {}
    for name, where in rings.items():
        quality[name] = [decibels(x, judge / 255, where).mean().item() for x in (plain, rebuilt)]
        print(f"{name}: {quality[name][0]:.2f} dB interpolated, {quality[name][1]:.2f} dB rebuilt")
    print(f"{len(judge)} unseen images; {watch}")
    path = options.out / "image_from_a_view.png"
    draw(net, judge, seen, plain, rebuilt, quality).savefig(path)
    print(f"the figure is {path}")


def draw(net, judge: Tensor, seen: Tensor, plain: Tensor, rebuilt: Tensor, quality: dict) -> Figure:
    figure = Figure(figsize=(13, 7.8), layout="constrained")
    axes = figure.subplots(3, 5)
    array = net.pyramid.levels[0]
    nodes = (array.cartesian * VIEW / 2 + SIDE / 2).numpy()
    spread = 1 + 60 * (array.eccentricity / array.fov).numpy()
    titles = ("photograph", "one view", "interpolated", "rebuilt")
    picks = torch.linspace(0, len(judge) - 1, 5).long().tolist()[1:4]
    for line, pick in zip(axes, picks, strict=True):
        line[1].scatter(nodes[:, 0], nodes[:, 1], c=seen[pick].clamp(0, 1).numpy(), s=spread)
        line[1].set(aspect="equal", xlim=(0, SIDE), ylim=(0, SIDE), facecolor="black")
        inside = net.to_pixels.inside
        for axis, image in zip(line[[0, 2, 3]], (judge / 255, plain, rebuilt), strict=True):
            axis.imshow((image[pick] * inside).permute(1, 2, 0).numpy())
        for axis, title in zip(line, titles, strict=False):
            axis.set(xticks=[], yticks=[], title=title)
        for axis, image in zip(line[2:4], (plain, rebuilt), strict=True):
            noise = decibels(image[pick : pick + 1], judge[pick : pick + 1] / 255, inside)
            axis.set_xlabel(f"{noise.item():.1f} dB")
    bars = axes[0, 4]
    for index, (name, colour) in enumerate(zip(titles[2:], ("tab:gray", "tab:red"), strict=True)):
        place = [bar + 0.4 * index - 0.2 for bar in range(len(quality))]
        values = [pair[index] for pair in quality.values()]
        bars.bar(place, values, width=0.38, label=name, color=colour)
    bars.set_xticks(range(len(quality)), [name.replace(" ", "\n", 1) for name in quality])
    bars.margins(y=0.15)
    bars.set(ylabel="dB", title="unseen photographs", ylim=(15, None))
    bars.legend(loc="upper center", ncol=2, fontsize=8)
    worse, better = ((x - judge / 255).square().mean(dim=(0, 1)) for x in (plain, rebuilt))
    gain = (100 * (1 - better / worse) * inside).numpy()
    shown = axes[1, 4].imshow(gain, cmap="coolwarm", vmin=-80, vmax=80)
    axes[1, 4].set(title="squared error saved, by place", xticks=[], yticks=[])
    figure.colorbar(shown, ax=axes[1, 4], shrink=0.8, label="%")
    edges, distance = torch.linspace(0, 1, 11), net.place.norm(dim=0)
    for name, error, colour in zip(titles[2:], (worse, better), ("gray", "red"), strict=True):
        ring = torch.bucketize(distance[inside], edges[1:-1])
        sums = torch.zeros(10).index_add_(0, ring, error[inside])
        values = -10 * (sums / torch.bincount(ring, minlength=10)).log10()
        axes[2, 4].plot(
            (edges[:-1] + 0.05).numpy(), values.numpy(), "o-", c=f"tab:{colour}", label=name
        )
    axes[2, 4].set(xlabel="eccentricity, in radii of the view", ylabel="dB", xlim=(0, 1))
    axes[2, 4].legend()
    return figure


if __name__ == "__main__":
    main()
