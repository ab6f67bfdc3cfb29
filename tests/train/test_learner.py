"""What a training step computes of a batch."""

import pytest
import torch

import fovigraph as fg
from fovigraph.sensing import Fixations
from fovigraph.train import batch_norms, load_recipe
from fovigraph.train.learner import Learner

SMALL = [
    "retina.side=10",
    "fixation.count=2",
    "backbone.channels=[6, 8]",
    "backbone.strides=[1, 1]",
    "backbone.k=[9, 9]",
    "backbone.pool_after=[0]",
    "projector.channels=[12, 8]",
]

AFTER = [f"augment.{option}" for option in ("when=after", "jitter=1", "grey=0.5")]

NORMALISED = ["retina.mean=[0.5,0.4,0.3]", "retina.std=[0.2,0.2,0.3]"]


@pytest.mark.parametrize("normalised", [False, True])
def test_colours_varied_after_foveation_are_normalised_once_and_black_outside(normalised):
    recipe = load_recipe("fovi_tiny", [*SMALL, *AFTER, *(NORMALISED if normalised else [])])
    net = fg.FoviNet(recipe)
    learner = Learner(recipe, net).train()
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    draws = learner.draw(tuple(images.shape), torch.Generator().manual_seed(1))
    # Half of each view lies outside the image.
    places = torch.tensor([[0.0, 0.5], [0.5, 1.0]]).expand(4, 2, 2)
    draws = draws._replace(views=Fixations(places, torch.full((4, 2, 2), 32.0)))
    seen = []
    net.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    learner(images, torch.arange(4), draws)

    retina = net.retina
    inside = fg.Retina(retina.array, "nearest")(torch.ones(4, 1, 32, 32), *draws.views)
    expected = learner.augment.samples(retina.colors(images / 255, *draws.views), draws.variation)
    if normalised:
        expected = (expected - inside * retina.mean) / retina.std
    expected = torch.where(inside == 0, 0.0, expected).flatten(0, 1)
    assert 0.3 < (inside == 0).float().mean() < 0.7
    torch.testing.assert_close(seen[0], expected)


EACH = ["flip=0.5", "jitter=1", "grey=0.3", "blur=0.5"]


def samples_seen(recipe, images, draws):
    """What the backbone gets of a training batch, ``[B, F, N, 3]``, and the learner."""
    net = fg.FoviNet(recipe)
    learner, seen = Learner(recipe, net).train(), []
    net.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    learner(images, torch.arange(len(images)), draws or learner.draw(tuple(images.shape), seeded()))
    return seen[0].unflatten(0, (len(images), -1)), learner


def seeded():
    return torch.Generator().manual_seed(1)


def test_each_fixation_sees_the_whole_image_varied_anew():
    options = [*SMALL, "augment.when=each", *(f"augment.{option}" for option in EACH)]
    recipe = load_recipe("fovi_tiny", options)
    images = torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8)
    seen, learner = samples_seen(recipe, images, None)
    views, how = learner.draw(tuple(images.shape), seeded())
    assert 0 < how.flip.sum() < len(how.flip)
    assert torch.equal(how.flip[::2], how.flip[1::2])  # the same for both fixations
    assert not torch.equal(how.brightness[::2], how.brightness[1::2])
    for f in range(2):
        varied = learner.augment.images(images / 255, how.pick(torch.arange(f, 12, 2)))
        alone = (part[:, f : f + 1] for part in views)
        torch.testing.assert_close(seen[:, f : f + 1], learner.net.retina(varied, *alone))


def test_images_varied_after_foveation_are_flipped_before_it():
    recipe = load_recipe("fovi_tiny", [*SMALL, *AFTER[:1], "augment.flip=0.5"])
    images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    seen, learner = samples_seen(recipe, images, None)
    views, how = learner.draw(tuple(images.shape), seeded())
    flip = how.flip[::2]
    assert 0 < flip.sum() < 8
    flipped = torch.where(flip.view(8, 1, 1, 1), images.flip(-1), images) / 255
    torch.testing.assert_close(seen, learner.net.retina(flipped, *views))


def test_in_evaluation_nothing_varies():
    recipe = load_recipe("fovi_tiny", [*SMALL, *AFTER, *NORMALISED])
    net = fg.FoviNet(recipe)
    learner = Learner(recipe, net).eval()
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    draws = learner.draw(tuple(images.shape), torch.Generator().manual_seed(1))
    features = learner(images, torch.arange(4), draws).features
    assert features.equal(net.see(images / 255, draws.views).features)


@pytest.mark.parametrize("name", ["mean_logits", "gru", "attention"])
@pytest.mark.parametrize("objective", ["classify", "simclr"])
def test_the_aggregation_learns_the_labels(name, objective):
    options = [f"head.aggregation={name}", "head.dropout=0", f"objective.name={objective}"]
    recipe = load_recipe("fovi_tiny", [*SMALL, *options])
    net = fg.FoviNet(recipe)
    learner = Learner(recipe, net).train()
    images = torch.randint(256, (6, 3, 24, 24), dtype=torch.uint8)
    draws = learner.draw(tuple(images.shape), torch.Generator().manual_seed(1))
    learner(images, torch.arange(6), draws).loss.backward()
    learnt = [net.head[1].weight, *net.aggregation.parameters()]
    assert all(float(weight.grad.abs().sum()) > 0 for weight in learnt)


def test_activations_are_recomputed_of_blocks_alone():
    class Whole(fg.models.Backbone):
        def __init__(self, retina):
            super().__init__()
            self.pyramid = fg.GraphPyramid(retina, [])
            self.num_features = 3 * len(retina)
            self.weight = torch.nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x * self.weight

    recipe = load_recipe("fovi_tiny", [*SMALL, "train.activation_checkpointing=true"])
    net = fg.FoviNet(recipe)
    net.backbone = Whole(net.retina.array)
    with pytest.raises(ValueError, match=r"train\.activation_checkpointing must be false .* Whole"):
        Learner(recipe, net)


def test_what_is_frozen_does_not_learn_and_stays_in_evaluation_mode():
    recipe = load_recipe("fovi_tiny", [*SMALL, "train.freeze=[backbone.layers.0, projector]"])
    net = fg.FoviNet(recipe)
    Learner(recipe, net).train()
    learnt = {name for name, p in net.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("backbone.layers.0.", "projector.")) for name in learnt)
    assert any(name.startswith("backbone.layers.1.") for name in learnt)
    assert not any(module.training for module in net.projector.modules())
    assert net.head.training and net.backbone.layers[1].training


def test_frozen_batch_norms_may_go_on_with_their_statistics():
    options = ["train.freeze=[backbone]", "train.frozen_statistics=updated"]
    recipe = load_recipe("fovi_tiny", [*SMALL, *options])
    net = fg.FoviNet(recipe)
    learner = Learner(recipe, net).train()
    norms = [m for m in net.backbone.modules() if isinstance(m, batch_norms.KINDS)]
    assert norms and all(norm.training for norm in norms)
    assert not net.backbone.layers[0].training
    weights = {name: p.clone() for name, p in net.backbone.named_parameters()}
    means = [norm.running_mean.clone() for norm in norms]
    images = torch.randint(256, (6, 3, 24, 24), dtype=torch.uint8)
    learner(images, torch.arange(6), learner.draw(tuple(images.shape), seeded())).loss.backward()
    assert not any(map(torch.equal, means, (norm.running_mean for norm in norms)))
    assert all(p.grad is None and p.equal(weights[n]) for n, p in net.backbone.named_parameters())
    assert not any(norm.training for norm in norms if learner.eval())


def test_probes_alone_may_learn_and_of_some_layers():
    frozen = "train.freeze=[backbone, projector, head]"
    options = ["objective.probes=true", "objective.probe_layers=[layers.1]", frozen]
    recipe = load_recipe("fovi_tiny", [*SMALL, *options])
    learner = Learner(recipe, fg.FoviNet(recipe)).train()
    learnt = {name: tuple(p.shape) for name, p in learner.named_parameters() if p.requires_grad}
    assert learnt == {"probes.maps.0.weight": (10, 8), "probes.maps.0.bias": (10,)}
    images = torch.randint(256, (6, 3, 24, 24), dtype=torch.uint8)
    draws = learner.draw(tuple(images.shape), seeded())
    assert learner(images, torch.arange(6), draws).correct.shape == (2,)


def test_probes_are_of_layers_that_are_there():
    options = ["objective.probes=true", "objective.probe_layers=[layers.9]"]
    recipe = load_recipe("fovi_tiny", [*SMALL, *options])
    with pytest.raises(
        ValueError, match=r"objective\.probe_layers must be of layers\.0, .* 'layers"
    ):
        Learner(recipe, fg.FoviNet(recipe))


@pytest.mark.parametrize("name", ["back", "''", "backbone.layers.7"])
def test_modules_that_are_not_there_cannot_be_frozen(name):
    recipe = load_recipe("fovi_tiny", [*SMALL, f"train.freeze=[{name}]"])
    with pytest.raises(
        ValueError, match=r"train\.freeze must name modules .*backbone, projector, head"
    ):
        Learner(recipe, fg.FoviNet(recipe))


def test_not_everything_can_be_frozen():
    recipe = load_recipe("fovi_tiny", [*SMALL, "train.freeze=[backbone, projector, head]"])
    with pytest.raises(ValueError, match=r"train\.freeze must leave something to learn"):
        Learner(recipe, fg.FoviNet(recipe))
