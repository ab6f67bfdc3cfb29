"""Training recipes: the schema, and what is refused before anything is done."""

import pytest
import torch

import fovigraph as fg
from fovigraph.config import ConfigError, config_names, to_dict
from fovigraph.train import Recipe, load_recipe, network_of
from fovigraph.train.optim import learning_rate, make_optimizer
from fovigraph.train.source import DataError
from fovigraph.train.trainer import Trainer


@pytest.mark.parametrize("name", config_names())
def test_every_configuration_is_a_recipe_and_has_a_network(name):
    recipe = load_recipe(name)
    assert network_of(recipe) == fg.load_config(name)
    network = {"retina", "fixation", "backbone", "projector", "head"}
    assert set(to_dict(fg.load_config(name))) == network
    assert set(to_dict(recipe)) - network == {
        "data",
        "augment",
        "objective",
        "optimizer",
        "train",
    }


@pytest.mark.parametrize("name", config_names())
def test_every_configuration_is_built_without_its_weights(name):
    if "dinov3" in name:
        pytest.importorskip("transformers")
    with torch.device("meta"):
        net = fg.FoviNet(load_recipe(name))
    assert all(parameter.is_meta for parameter in net.parameters())
    assert net.pyramid.levels[0] == net.retina.array
    report = fg.models.cost.describe(net.to("meta"))  # what fovigraph info prints
    parts = [*report["levels"], report["projector"], report["head"]]
    assert sum(part["parameters"] for part in parts) == report["total"]["parameters"]
    assert report["total"]["flops"] > 0


@pytest.mark.parametrize(
    ("name", "parameters"), [("imagenet_alexnet", 17_324_840), ("imagenet_resnet18", 46_762_088)]
)
def test_imagenet_is_learnt_as_upstream_does(name, parameters):
    recipe = load_recipe(name)
    network = fg.load_config(name.replace("imagenet", "fovi"))
    assert recipe.backbone == network.backbone
    assert (recipe.projector, recipe.head) == (network.projector, network.head)
    with torch.device("meta"):
        net = fg.FoviNet(recipe)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert (recipe.retina.side, recipe.retina.fov, recipe.retina.cmf_a) == (64, 16.0, 0.5)
    assert (recipe.fixation.policy, recipe.fixation.count, recipe.fixation.spread) == (
        "near_center",
        4,
        0.25,
    )
    assert recipe.data.size == 256
    train, optimizer = recipe.train, recipe.optimizer
    assert (train.epochs, train.batch_size, train.precision) == (200, 512, "16-mixed")
    steps = 200 * 1_281_167 // 512
    warmup = 50 * 1_281_167 // 512
    rates = [learning_rate(optimizer, step, steps, warmup, 512) for step in (warmup, steps)]
    assert rates == pytest.approx([0.002, 0.000002])
    adam = make_optimizer(torch.nn.Linear(2, 2), optimizer, scaled=True)
    assert type(adam) is torch.optim.AdamW
    assert [group["weight_decay"] for group in adam.param_groups] == [0.0001, 0]
    assert {(group["betas"], group["eps"]) for group in adam.param_groups} == {((0.9, 0.999), 1e-4)}
    augment = recipe.augment
    assert (augment.when, augment.flip, augment.jitter, augment.grey, augment.blur) == (
        *("before", 0.5, 0.8, 0.2),
        0,
    )
    jitter = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    assert jitter == (0.4, 0.4, 0.2, 0.1)


def test_imagenet_is_adapted_to_as_upstream_does():
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    recipe, other = load_recipe("imagenet_dinov3"), load_recipe("imagenet_alexnet")
    network = fg.load_config("fovi_dinov3_small_plus")
    assert recipe.backbone == network.backbone
    assert (recipe.projector, recipe.head) == (network.projector, network.head)
    assert (recipe.data, recipe.augment) == (other.data, other.augment)
    assert recipe.fixation.center_first
    assert (recipe.retina.cmf_a, recipe.retina.mean) == (2.785765, other.retina.mean)
    with torch.device("meta"):
        net = fg.FoviNet(recipe)
    assert sum(p.numel() for p in net.parameters()) == 32_839_016
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 4_146_920
    train, optimizer = recipe.train, recipe.optimizer
    assert (train.epochs, train.batch_size, train.precision) == (100, 256, "bf16-mixed")
    assert train.activation_checkpointing
    rates = [learning_rate(optimizer, step, 1000, 0, 256) for step in (0, 1000)]
    assert rates == pytest.approx([1e-4, 1e-7])
    assert (optimizer.name, optimizer.weight_decay, optimizer.eps) == ("adamw", 1e-4, 1e-4)


@pytest.mark.parametrize("name", ["imagenet_alexnet", "imagenet_resnet18", "imagenet_dinov3"])
def test_imagenet_takes_one_to_eight_gpus(name, tmp_path):
    for devices in (1, 2, 4, 8):
        recipe = load_recipe(name, [f"train.devices={devices}"])
        assert recipe.train.batch_size // devices >= 32
    with pytest.raises(
        ConfigError, match=r"batch_size must be a multiple of .* = 3, got (512|256)"
    ):
        load_recipe(name, ["train.devices=3"])
    with pytest.raises(DataError, match=r"data\.source must say what to learn from"):
        Trainer(load_recipe(name), tmp_path)
    with pytest.raises(DataError, match=r"data\.source: there is no file or folder '/imagenet'"):
        Trainer(load_recipe(name, ["data.source=/imagenet"]), tmp_path)


def test_a_network_can_be_made_of_a_recipe():
    assert isinstance(fg.FoviNet(load_recipe("fovi_tiny")), fg.FoviNet)


def test_defaults_are_allowed():
    Recipe()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=1", "did you mean train.epochs"),
        ("train.epochs=0", "train.epochs must be at least 1, got 0"),
        ("train.batch_size=many", "train.batch_size must be a whole number, got 'many'"),
        ("train.accumulate=7", "multiple of devices · nodes · accumulate = 7, got 64"),
        ("train.precision=16", "train.precision must be"),
        ("train.log=[paper]", "train.log must be one of 'tensorboard', 'wandb', got 'paper'"),
        ("train.seed=-1", "train.seed must be from 0"),
        ("optimizer.name=adam", "did you mean 'adamw'"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate must be finite and above 0"),
        (
            "optimizer.schedule=step",
            "optimizer.schedule must be one of 'constant', 'cosine', 'plateau'",
        ),
        ("optimizer.layer_decay=0", "optimizer.layer_decay must be above 0, up to 1, got 0"),
        ("optimizer.reference_batch=0", "optimizer.reference_batch must be at least 1, got 0"),
        ("optimizer.plateau_factor=1", "optimizer.plateau_factor must be above 0 and below 1"),
        ("optimizer.plateau_patience=-1", "optimizer.plateau_patience must be at least 0, got -1"),
        ("optimizer.eps=0", "optimizer.eps must be finite and above 0, got 0"),
        (
            "train.activation_checkpointing=2",
            "train.activation_checkpointing must be true or false, got 2",
        ),
        ("train.ema=1", "train.ema must be above 0 and below 1, got 1"),
        ("train.patience=0", "train.patience must be at least 1, got 0"),
        ("train.start=''", "train.start must be a folder or owner/name on the Hub"),
        ("optimizer.clip=-1", "optimizer.clip must be finite and above 0"),
        ("optimizer.warmup=-1", "optimizer.warmup must be at least 0, got -1"),
        ("optimizer.momentum=1", "optimizer.momentum must be at least 0, below 1"),
        ("objective.name=byol", "objective.name must be one of"),
        ("objective.temperature=0", "objective.temperature must be"),
        ("augment.flip=1.5", "augment.flip must be from 0 to 1"),
        ("augment.hue=0.7", "augment.hue must be from 0 to 0.5"),
        ("augment.blur_sigma=[2, 1]", "augment.blur_sigma must be two numbers"),
        ("data.size=0", "data.size must be at least 1"),
        ("data.holdout=1", "data.holdout must be above 0 and below 1"),
        ("data.workers=-1", "data.workers must be at least 0"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(override, message):
    with pytest.raises(ConfigError) as caught:
        load_recipe("fovi_tiny", [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["augment.when=after", "augment.blur=0.5"], "augment.when must be 'before'"),
        (["objective.name=vicreg", "fixation.count=1"], "fixation.count must be at least 2"),
        (["objective.probe_layers=[layers.0]"], "objective.probe_layers must be null"),
        (["train.frozen_statistics=never"], "train.frozen_statistics must be one of"),
        (["retina.channels=1"], "retina.channels must be 3 in a recipe"),
        (["objective.name=simclr", "train.accumulate=2"], "train.accumulate must be 1"),
        (["objective.name=vicreg", "train.batch_size=1"], "train.batch_size must be at least 2"),
    ],
)
def test_settings_that_do_not_go_together(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe("fovi_tiny", overrides)


@pytest.mark.parametrize("wrong", [None, "digits", {"train": {}}, fg.load_config("fovi_tiny")])
def test_the_network_of_what_is_no_recipe(wrong):
    with pytest.raises(TypeError, match="recipe must be a training recipe, as load_recipe reads"):
        network_of(wrong)


def test_names_of_classes_say_how_many_there_are():
    recipe = load_recipe("fovi_tiny", ["head.class_names=[cat, dog]"])
    assert (recipe.head.num_classes, recipe.data.set_classes) == (2, False)
    with pytest.raises(ConfigError, match=r"head\.class_names must be 3 names"):
        load_recipe("fovi_tiny", ["head.class_names=[cat, dog]", "head.num_classes=3"])


def test_a_number_of_classes_takes_the_names_away(tmp_path):
    (tmp_path / "named.yaml").write_text("head: {num_classes: 2, class_names: [cat, dog]}")
    recipe = load_recipe(tmp_path / "named.yaml", ["head.num_classes=3"])
    assert (recipe.head.num_classes, recipe.head.class_names) == (3, None)
    assert load_recipe(tmp_path / "named.yaml").data.set_classes
