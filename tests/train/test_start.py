"""Warm starts."""

import pytest
import torch

import fovigraph as fg
from fovigraph.config import to_yaml
from fovigraph.train import load_recipe
from fovigraph.train.start import find_start, start_from

SMALL = ["retina.side=8", "backbone.pool_after=[]", "backbone.channels=[3,3]"]
SMALL += ["backbone.strides=[1,1]", "backbone.k=[9,9]", "projector.channels=[4]"]


def small(*overrides):
    return fg.FoviNet(fg.load_config("fovi_tiny", [*SMALL, *overrides])).eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    net = small("head.num_classes=2", "head.class_names=[cat, dog]", "head.temperature=2")
    net.save_pretrained(folder)
    return folder


def same(a, b, prefix=""):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a if name.startswith(prefix))


def test_with_the_same_classes_everything_is_taken_over(trained):
    net = small("head.num_classes=2", "head.class_names=[cat, dog]")
    report = start_from(net, trained)
    assert same(net, fg.FoviNet.from_pretrained(trained))
    assert (report.fresh, report.differences) == ([], {})


@pytest.mark.parametrize("names", ["[dog, cat]", "[cat, cow]"])
def test_the_head_of_other_classes_stays_random(trained, names):
    net = small("head.num_classes=2", f"head.class_names={names}")
    head = net.head[1].weight.clone()
    report = start_from(net, trained)
    assert torch.equal(net.head[1].weight, head)
    assert report.fresh == ["head.1.weight", "head.1.bias"]
    assert "random: head.1.weight, head.1.bias" in str(report)
    assert same(net, fg.FoviNet.from_pretrained(trained), "backbone.")


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recurrent")
    options = ["head.aggregation=gru", "head.aggregation_width=5"]
    small("head.num_classes=2", "head.class_names=[cat, dog]", *options).save_pretrained(folder)
    return folder


def test_the_aggregation_belongs_to_the_classes(recurrent):
    options = ["head.aggregation=gru", "head.aggregation_width=5", "head.num_classes=2"]
    net = small(*options, "head.class_names=[cat, dog]")
    assert start_from(net, recurrent).fresh == []
    assert same(net, fg.FoviNet.from_pretrained(recurrent))
    report = start_from(small(*options, "head.class_names=[dog, cat]"), recurrent)
    assert "aggregation.cell.weight_ih" in report.fresh


def test_a_recipe_has_the_aggregation_of_its_start_unless_it_states_one(
    recurrent, trained, tmp_path
):
    mine, start = tmp_path / "mine.yaml", [f"train.start={recurrent}"]
    mine.write_text("data: {source: photos}")
    head = load_recipe(mine, start).head
    assert (head.aggregation, head.aggregation_width) == ("gru", 5)
    assert load_recipe(mine, [f"train.start={trained}"]).head.aggregation == "mean"
    stated = load_recipe(mine, [*start, "head.aggregation=mean_logits"])
    assert stated.head.aggregation == "mean_logits"
    with pytest.raises(
        fg.ConfigError, match=r"objective\.per_fixation must be false with the learnt"
    ):
        load_recipe(mine, [*start, "objective.per_fixation=true"])


def test_what_differs_without_a_change_of_shape_is_reported(trained):
    report = start_from(small("retina.cmf_a=3", "projector.channels=[5]"), trained)
    assert report.differences == {"retina.cmf_a": (0.5, 3.0), "projector.channels": ([4], [5])}
    assert "projector.1.weight" in report.fresh
    assert "retina.cmf_a (0.5 there, 3.0 here)" in str(report)


def test_another_backbone_is_refused_by_what_differs(trained):
    with pytest.raises(
        ValueError, match=r"does not fit .*backbone.channels \(\[3, 3\] there, \[3, 4\]"
    ):
        start_from(small("backbone.channels=[3,4]"), trained)


def test_a_recipe_has_the_architecture_of_the_start_where_it_states_none(trained, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"train:\n  start: {trained}\nretina: {{fov: 20}}\n")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert list(recipe.backbone.channels) == [3, 3]
    assert (recipe.retina.fov, recipe.retina.side, recipe.head.temperature) == (20, 8, 1)


def test_no_network_to_start_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.start must hold config\.yaml and model"):
        find_start(str(tmp_path))


def test_a_recipe_that_states_all_of_its_network_needs_no_start(trained, tmp_path):
    (tmp_path / "mine.yaml").write_text("train: {epochs: 3}")
    recipe = load_recipe(tmp_path / "mine.yaml", [f"train.start={trained}"])
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe).replace(str(trained), "gone"))
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again.train.start == "gone"
    assert again.retina == recipe.retina
    with pytest.raises(FileNotFoundError, match=r"train\.start"):
        load_recipe(tmp_path / "mine.yaml", ["train.start=gone"])
    assert load_recipe(tmp_path / "mine.yaml", ["train.start=gone"], run=tmp_path) == again
