"""A recurrent V1: what was seen at one fixation is kept for the next, over lateral edges.

The eye looks four times at small parts of an image. V1's nodes each have a state; at every view,
the state of a node's lateral neighbours, gathered by PyG's GraphConv, and what the node sees now go
through one gated unit (a GRU) into its new state. After each view the network says what it sees;
beside it, as a yardstick, the same network that forgets between views.

Run it: ``python examples/recurrent_views.py``; ``--images`` takes a folder or a parquet file.
"""

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from real_images import Stopwatch, arguments, labelled_images
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GraphConv

import fovigraph as fg

SIDE, VIEW, VIEWS = 64, 20.0, 4  # pixels of the image and of one view, and their number


class RecurrentV1(nn.Module):
    """At every view: retina → V1 by convolution → gated units joined by lateral edges."""

    def __init__(self, num_classes: int, channels: int = 48):
        super().__init__()
        steps = [fg.Step("conv", k=25, stride=2, kernel_size=7)]
        self.pyramid = fg.GraphPyramid(fg.SensorArray.matched(16), steps)
        self.retina = fg.Retina(self.pyramid.levels[0], "bilinear", fixation_size=VIEW)
        self.conv = fg.nn.KNNConv(3, channels, kernel_size=7)
        self.norm = fg.nn.BatchNorm(channels)
        self.neighbours = fg.nn.OnGraph(GraphConv(channels, channels, aggr="mean"), "static")
        self.cell = nn.GRUCell(2 * channels, channels)
        self.head = nn.Linear(2 * channels, num_classes)

    def forward(self, images: Tensor, fixations: Tensor, forget: bool = False) -> Tensor:
        """Return logits after each view, ``[B, F, classes]``."""
        graph, lateral = self.pyramid.graphs[0], self.pyramid.lateral("conv1", k=8)
        seen = self.retina(images, fixations) - 0.5
        seen = torch.relu(self.norm(self.conv(seen, graph)))  # [B, F, N, C]
        state, logits = torch.zeros_like(seen[:, 0]), []
        for now in seen.unbind(1):
            if forget:
                state = torch.zeros_like(state)
            told = torch.cat((now, self.neighbours(state, lateral)), dim=-1)
            state = self.cell(told.flatten(0, 1), state.flatten(0, 1)).view_as(state)
            pooled = torch.cat((state.mean(dim=1), state.amax(dim=1)), dim=1)
            logits.append(self.head(pooled))
        return torch.stack(logits, dim=1)


def views(count: int) -> Tensor:
    """Draw where to look, ``[B, F, 2]``: anywhere that the view stays within the image."""
    margin = VIEW / 2 / SIDE
    return margin + (1 - 2 * margin) * torch.rand(count, VIEWS, 2)


def train(net: RecurrentV1, images: Tensor, labels: Tensor, epochs: int, forget: bool) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    steps = epochs * (len(images) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images))[: len(images) // 32 * 32].split(32):
            logits = net(images[batch], views(len(batch)), forget).flatten(0, 1)
            optimizer.zero_grad()
            wanted = labels[batch].repeat_interleave(VIEWS)
            functional.cross_entropy(logits, wanted).backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def answers(net: RecurrentV1, images: Tensor, places: Tensor, forget: bool) -> Tensor:
    """Probabilities after each view, ``[B, F, classes]``."""
    parts = zip(images.split(64), places.split(64), strict=True)
    return torch.cat([net.eval()(*part, forget).softmax(dim=-1) for part in parts])


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    images = labelled_images(options.images, SIDE, *((64, 64) if options.quick else (1600, 400)))
    places = views(len(images.test))
    told, accuracy = {}, {}
    for name, forget in (("recurrent", False), ("forgetful", True)):
        torch.manual_seed(0)
        watch, net = Stopwatch(), RecurrentV1(len(images.classes))
        train(net, images.train, images.train_labels, 1 if options.quick else 12, forget)
        told[name] = answers(net, images.test, places, forget)
        right = told[name].argmax(dim=-1) == images.test_labels[:, None]
        accuracy[name] = right.float().mean(dim=0)
        shares = ", ".join(f"{share:.1%}" for share in accuracy[name].tolist())
        print(f"{name}: {shares} right after 1, 2, 3, 4 views; {watch}")
    path = options.out / "recurrent_views.png"
    draw(images, places, told["recurrent"], accuracy).savefig(path)
    print(f"the figure is {path}")


def draw(images, places: Tensor, told: Tensor, accuracy: dict[str, Tensor]) -> Figure:
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    axes = figure.subplots(2, 4)
    wanted = images.test_labels
    sure = told.gather(2, wanted[:, None, None].expand(-1, VIEWS, 1))[..., 0]
    gain = sure[:, -1] - sure[:, 0]  # what looking on is worth; the best image of a kind is shown
    best = [int(torch.where(wanted == kind, gain, -1.0).argmax()) for kind in wanted.unique()]
    best.sort(key=lambda pick: -gain[pick])
    names = [name.replace("_", " ") for name in images.classes]
    for column, pick in enumerate(best[:3]):
        picture, bars = axes[:, column]
        picture.imshow(images.test[pick].permute(1, 2, 0).numpy())
        picture.set(title=names[wanted[pick]], xticks=[], yticks=[])
        for view, (row, place) in enumerate((SIDE * places[pick]).tolist()):
            circle = Circle((place - 0.5, row - 0.5), VIEW / 2, fill=False, color="yellow")
            picture.add_patch(circle)
            picture.text(place - 0.5, row - 0.5, view + 1, color="yellow", weight="bold",
                         ha="center", va="center")  # fmt: skip
        shown = bars.imshow(told[pick].T.numpy(), cmap="magma", vmin=0, vmax=1, aspect="auto")
        bars.set_xticks(range(VIEWS), range(1, VIEWS + 1))
        bars.set_yticks(range(len(names)), names if column == 0 else [""] * len(names), fontsize=8)
        bars.set(xlabel="view", title="what it takes it for")
    figure.colorbar(shown, ax=axes[1, 2], label="probability")
    axis = axes[0, 3]
    for (name, values), colour in zip(accuracy.items(), ("tab:red", "tab:gray"), strict=True):
        axis.plot(range(1, VIEWS + 1), values.numpy(), "o-", color=colour, label=name)
    axis.axhline(1 / len(names), color="k", ls=":", label="chance")
    axis.set(xticks=range(1, VIEWS + 1), ylim=(0, 1), title="right on unseen images")
    axis.set_xlabel("views")
    axis.legend()
    ordinary = {name: told[wanted == label, :, label].mean(0) for label, name in enumerate(names)}
    for name, values in ordinary.items():
        axes[1, 3].plot(range(1, VIEWS + 1), values.numpy(), label=name)
    axes[1, 3].set(xticks=range(1, VIEWS + 1), ylim=(0, 1), xlabel="views")
    axes[1, 3].set_title("probability of what is right")
    axes[1, 3].legend(fontsize=7, ncol=2)
    return figure


if __name__ == "__main__":
    main()
