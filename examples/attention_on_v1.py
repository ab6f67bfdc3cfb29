"""Graph attention on V1: what kNN convolutions see, PyG's GATv2 relates.

A retina and one kNN convolution bring an image to V1; there and on the level above, nodes attend to
their lateral neighbours with PyG's GATv2Conv, which knows how far apart and in which direction they
lie. Beside it, as a yardstick, the same network with linear maps in the place of attention.

Run it: ``python examples/attention_on_v1.py``; ``--images`` takes a folder or a parquet file.
"""

import torch
from matplotlib.figure import Figure
from real_images import Stopwatch, arguments, labelled_images
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GATv2Conv

import fovigraph as fg

SIDE = 64


class AttentiveV1(nn.Module):
    """retina → V1 by convolution → lateral attention → pool → lateral attention → classes."""

    def __init__(self, num_classes: int, attention: bool, channels: int = 32):
        super().__init__()
        steps = [fg.Step("conv", k=25, stride=2, kernel_size=7), fg.Step("pool", k=9, stride=2)]
        self.pyramid = fg.GraphPyramid(fg.SensorArray.matched(32), steps)
        self.retina = fg.Retina(self.pyramid.levels[0], "bilinear")
        self.conv = fg.nn.KNNConv(3, channels, kernel_size=7)
        self.norm = fg.nn.BatchNorm(channels)
        self.pool = fg.nn.KNNPool("max")
        self.lateral = nn.ModuleList()
        for _ in range(2):
            gat = GATv2Conv(channels, channels // 4, heads=4, edge_dim=3)
            self.lateral.append(fg.nn.OnGraph(gat) if attention else nn.Linear(channels, channels))
        self.norms = nn.ModuleList(fg.nn.BatchNorm(channels) for _ in range(2))
        self.head = nn.Linear(channels, num_classes)

    def relate(self, x: Tensor, step: int) -> Tensor:
        layer = self.lateral[step]
        if isinstance(layer, nn.Linear):
            return x + torch.relu(self.norms[step](layer(x)))
        graph = self.pyramid.lateral(step + 1, k=8)
        return x + torch.relu(
            self.norms[step](layer(x, graph, edge={"edge_attr": graph.edge_attr}))
        )

    def forward(self, images: Tensor) -> Tensor:
        to_v1, to_v2 = self.pyramid.graphs
        gaze = torch.full((len(images), 1, 2), 0.5)
        if self.training:  # look a little beside the centre
            gaze = gaze + 0.2 * (torch.rand_like(gaze) - 0.5)
        x = self.retina(images, gaze)[:, 0] - 0.5
        x = self.relate(torch.relu(self.norm(self.conv(x, to_v1))), 0)
        x = self.relate(self.pool(x, to_v2), 1)
        return self.head(x.mean(dim=1))


def train(net: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    steps = epochs * (len(images) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images))[: len(images) // 32 * 32].split(32):
            seen = images[batch].flip(-1) if torch.rand(()) < 0.5 else images[batch]
            optimizer.zero_grad()
            functional.cross_entropy(net(seen), labels[batch]).backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def confusion(net: nn.Module, images: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Share of the images of each class (row) that are taken for each class (column)."""
    answers = torch.cat([net.eval()(part).argmax(dim=1) for part in images.split(64)])
    counts = torch.bincount(labels * classes + answers, minlength=classes**2).view(classes, -1)
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


@torch.no_grad()
def attended(net: AttentiveV1, image: Tensor) -> Tensor:
    """How much attention every V1 node gets from its neighbours, over that of an even share."""
    x = net.retina(image[None], [[0.5, 0.5]])[0, 0] - 0.5
    x = torch.relu(net.norm(net.conv(x, net.pyramid.graphs[0])))
    graph = net.pyramid.lateral(1, k=8)
    _, (edges, weight) = net.lateral[0].operator(
        x, graph.edge_index, graph.edge_attr, return_attention_weights=True
    )
    src, dst = edges
    even = 1 / torch.bincount(dst, minlength=len(x)).float()
    get = torch.zeros(len(x)).index_add_(0, src, weight.mean(dim=1))
    return get / torch.zeros(len(x)).index_add_(0, src, even[dst])


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    images = labelled_images(options.images, SIDE, *((64, 64) if options.quick else (1600, 400)))
    epochs, classes, accuracy = (1 if options.quick else 25), len(images.classes), {}
    tables = {}
    for name, attention in (("attention", True), ("linear maps", False)):
        torch.manual_seed(0)
        watch, net = Stopwatch(), AttentiveV1(classes, attention)
        train(net, images.train, images.train_labels, epochs)
        tables[name] = confusion(net, images.test, images.test_labels, classes)
        accuracy[name] = tables[name].diagonal().mean().item()
        print(f"{name}: {accuracy[name]:.1%} right (chance {1 / classes:.1%}); {watch}")
        if attention:
            seen = net
    draw(seen, images, tables["attention"], accuracy).savefig(options.out / "attention_on_v1.png")
    print(f"the figure is {options.out / 'attention_on_v1.png'}")


def draw(net: AttentiveV1, images, table: Tensor, accuracy: dict[str, float]) -> Figure:
    figure = Figure(figsize=(13, 6.6), layout="constrained")
    axes = figure.subplots(2, 4)
    v1 = net.pyramid.levels[1]
    place = (v1.cartesian * SIDE / 2 + SIDE / 2).numpy()
    spread = 6 + 110 * (v1.eccentricity / v1.fov).numpy()  # nodes stand for more in the periphery
    picks = torch.linspace(0, len(images.test) - 1, 3).long().tolist()
    for column, pick in enumerate(picks):
        image = images.test[pick]
        for axis in axes[:, column]:
            axis.imshow(image.permute(1, 2, 0).numpy(), extent=(0, SIDE, 0, SIDE))
            axis.set(xlim=(0, SIDE), ylim=(0, SIDE))
        axes[0, column].set_title(images.classes[images.test_labels[pick]].replace("_", " "))
        axes[1, column].set_title("attention that V1's nodes get")
        points = axes[1, column].scatter(
            *place.T, c=attended(net, image).numpy(), cmap="coolwarm", s=spread, vmin=0.5, vmax=1.5
        )
    figure.colorbar(points, ax=axes[1, 2], label="over an even share", shrink=0.8)
    for axis in axes[:, :3].flat:
        axis.set(xticks=[], yticks=[])
    axes[0, 3].imshow(table.numpy(), cmap="Blues", vmin=0, vmax=1)
    names = [name.split("_")[0] for name in images.classes]
    axes[0, 3].set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes[0, 3].set_yticks(range(len(names)), names, fontsize=8)
    axes[0, 3].set_title("attention: what is taken for what")
    bars = axes[1, 3].bar(accuracy.keys(), accuracy.values(), color=["tab:red", "tab:gray"])
    axes[1, 3].bar_label(bars, [f"{value:.1%}" for value in accuracy.values()])
    axes[1, 3].axhline(1 / len(names), color="k", ls=":", label="chance")
    axes[1, 3].set(ylim=(0, 1.1), title="right on unseen images")
    axes[1, 3].legend()
    return figure


if __name__ == "__main__":
    main()
