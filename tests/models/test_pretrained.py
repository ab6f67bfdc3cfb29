"""Networks in folders: what is saved can be loaded, and what cannot be loaded is not saved."""

import copy
import errno
import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import fovigraph as fg
from fovigraph.models import LinearProbe
from fovigraph.models.pretrained import load_weights

LOOK = [[0.5, 0.5], [0.3, 0.6]]
SMALL = ["retina.side=8", "backbone.pool_after=[]", "fixation.count=2"]
SMALL += ["backbone.channels=[3,3,3]", "backbone.strides=[1,1,1]", "backbone.k=[9,9,9]"]


def small(*overrides):
    return fg.FoviNet(fg.load_config("fovi_tiny", [*SMALL, *overrides])).eval()


@pytest.fixture(scope="module")
def made():
    net = small("projector.channels=[16,16]", "head.num_classes=16")
    net.train()(torch.rand(4, 3, 32, 32))  # so that running statistics are not the defaults
    return net.eval()


@pytest.fixture
def net(made):
    return copy.deepcopy(made)


def logits(net):
    images = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return net(images, LOOK).logits


def assert_reloads(net, folder, wanted):
    net.save_pretrained(folder)
    loaded = fg.FoviNet.from_pretrained(folder)
    assert torch.equal(logits(loaded), wanted)
    return loaded


def rewritten(folder, change):
    """Change the tensors of a saved network in place."""
    path = Path(folder, "model.safetensors")
    save_file({name: change(name, x) for name, x in load_file(path).items()}, path)


# ---- wrappers


WRAPPERS = {
    "torch.compile": lambda module: torch.compile(module, backend="eager"),
    "DataParallel": nn.DataParallel,
    "both": lambda module: nn.DataParallel(torch.compile(module, backend="eager")),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("part", ["backbone", "backbone.layers.0", "projector.0", "head"])
def test_wrappers_of_parts_are_left_out(net, tmp_path, wrap, part):
    wanted = logits(net)
    net.set_submodule(part, wrap(net.get_submodule(part)))
    assert_reloads(net, tmp_path, wanted)


def test_a_compiled_network_is_saved_as_it_is(net, tmp_path):
    compiled = torch.compile(net, backend="eager")
    assert_reloads(compiled, tmp_path, logits(net))


def test_a_network_or_part_of_one_trained_in_several_processes(net, tmp_path):
    wanted = logits(net)
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel
        assert_reloads(parallel(net).module, tmp_path, wanted)
        net.backbone = parallel(net.backbone)
        assert_reloads(net, tmp_path, wanted)
        assert len(net.pyramid) == len(net.backbone.module.pyramid)
    finally:
        torch.distributed.destroy_process_group()


def test_a_module_that_is_called_as_inside_a_wrapper_keeps_its_name(tmp_path):
    class Net(fg.FoviNet):
        def __init__(self, config):
            super().__init__(config)
            self.module = nn.Linear(2, 2)

    net = Net(fg.load_config("fovi_tiny", SMALL))
    net.save_pretrained(tmp_path)
    assert torch.equal(Net.from_pretrained(tmp_path).module.weight, net.module.weight)


def test_names_that_earlier_versions_saved_with_a_wrapper_are_understood(net, tmp_path):
    net.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    old = {name.replace("backbone.", "backbone._orig_mod."): x for name, x in weights.items()}
    save_file(old, path)
    assert torch.equal(logits(fg.FoviNet.from_pretrained(tmp_path)), logits(net))


# ---- tied weights


def test_tied_weights_stay_tied(net, tmp_path):
    net.head[1].weight = net.projector[-1].weight
    loaded = assert_reloads(net, tmp_path, logits(net))
    assert loaded.head[1].weight is loaded.projector[-1].weight
    assert len(list(loaded.parameters())) == len(list(net.parameters()))
    assert_reloads(loaded, tmp_path / "again", logits(net))


def test_a_layer_in_two_places_stays_in_two_places(net, tmp_path):
    net.backbone.layers[1] = net.backbone.layers[0]
    loaded = assert_reloads(net, tmp_path, logits(net))
    one, two = loaded.backbone.layers[:2]
    assert one.conv.weight is two.conv.weight
    assert one.norm.running_mean is two.norm.running_mean


def test_weights_that_are_parts_of_one_tensor_are_saved(net, tmp_path):
    wanted, own = logits(net), net.projector[-1].weight
    whole = torch.stack((own.detach(), torch.zeros_like(own)), dim=2)
    net.projector[-1].weight = nn.Parameter(whole[:, :, 0])
    assert not net.projector[-1].weight.is_contiguous()
    assert_reloads(net, tmp_path, wanted)


@pytest.mark.parametrize("tied", ["?", "{", '[["head.1.weight", "no.such"]]', "[[1, 2]]", "7"])
def test_damaged_names_of_tied_weights_are_an_error(net, tmp_path, tied):
    net.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(load_file(path), path, metadata={"tied": tied})
    with pytest.raises(ValueError, match="damaged metadata 'tied'"):
        fg.FoviNet.from_pretrained(tmp_path)


def test_weights_of_different_shape_are_not_tied(net, tmp_path):
    net.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    groups = [["head.1.weight", "head.1.bias"]]
    save_file(load_file(path), path, metadata={"tied": json.dumps(groups)})
    with pytest.raises(ValueError, match="damaged metadata 'tied'"):
        fg.FoviNet.from_pretrained(tmp_path)


# ---- refused when saving


def replaced_head(net):
    net.head = LinearProbe(net.projector.out_features, 7)


def not_a_number(net):
    with torch.no_grad():
        net.projector[1].weight[0, :2] = torch.nan


def infinite(net):
    net.backbone.layers[0].norm.running_var[1] = torch.inf


def further_layer(net):
    net.further = nn.Linear(2, 2)


def removed_norm(net):
    net.backbone.layers[1].norm = nn.Identity()


def whole_numbers(net):
    net.head[1].weight = nn.Parameter(net.head[1].weight.to(torch.int8), requires_grad=False)


def without_values(net):
    net.head.to("meta")


def too_large(net):
    net.double()
    with torch.no_grad():
        net.head[1].bias[0] = 1e39


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (replaced_head, r"head.1.weight: shape \[7, 16\], needed (?s:.*)another head.num_classes"),
        (not_a_number, r"projector.1.weight: 2 of \d+ values are NaN, infinite or too large"),
        (infinite, r"backbone.layers.0.norm.running_var: 1 of \d+ values are NaN"),
        (further_layer, r"unexpected: further.weight"),
        (removed_norm, r"missing: backbone.layers.1.norm.weight"),
        (whole_numbers, r"head.1.weight: dtype torch.int8, needed torch.float32 or another"),
        (without_values, r"head.1.weight: on the meta device"),
        (too_large, r"head.1.bias: 1 of 16 values are NaN, infinite or too large"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(net, tmp_path, spoil, message):
    assert_reloads(net, tmp_path, logits(net))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    spoil(net)
    with pytest.raises(ValueError, match=message):
        net.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_class_that_cannot_be_made_of_its_configuration_is_not_saved(tmp_path):
    class Net(fg.FoviNet):
        def __init__(self, config, extra):
            super().__init__(config)

    net = Net(fg.load_config("fovi_tiny", SMALL), 1)
    with pytest.raises(ValueError, match=r"Net\.from_pretrained could not make it again: .*extra"):
        net.save_pretrained(tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_saving_leaves_the_random_numbers_alone(net, tmp_path):
    before = torch.get_rng_state()
    net.save_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_graphs_that_are_not_saved_are_said(net, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="fovigraph"):
        net.pyramid.lateral(1, 5)
        net.save_pretrained(tmp_path)
        assert not caplog.records
        graph = net.pyramid.graphs[0]
        neighbours = torch.arange(9).expand(graph.num_dst, 9)
        other = fg.graph.graph_from_neighbours(graph.src, graph.dst, neighbours)
        net.pyramid.graphs[0] = other
        net.save_pretrained(tmp_path)
    assert "graphs of this network are not those of its configuration" in caplog.text


# ---- refused when loading


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64, torch.float8_e5m2]
)
def test_weights_of_another_kind_of_number_are_refused(net, tmp_path, dtype):
    net.save_pretrained(tmp_path)
    rewritten(tmp_path, lambda name, x: x.to(dtype) if name == "head.1.weight" else x)
    with pytest.raises(ValueError, match=rf"head\.1\.weight: dtype {dtype}, needed torch.float32"):
        fg.FoviNet.from_pretrained(tmp_path)


def test_a_count_that_is_not_a_whole_number_is_refused(net, tmp_path):
    net.save_pretrained(tmp_path)
    count = "backbone.layers.0.norm.num_batches_tracked"
    rewritten(tmp_path, lambda name, x: x.float() if name == count else x)
    with pytest.raises(ValueError, match=r"tracked: dtype torch.float32, needed torch.int64"):
        fg.FoviNet.from_pretrained(tmp_path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_refused(net, tmp_path, value):
    net.save_pretrained(tmp_path)

    def spoil(name, x):
        if name == "projector.5.weight":
            x[0, 0] = value
        return x

    rewritten(tmp_path, spoil)
    with pytest.raises(ValueError, match=r"projector\.5\.weight: 1 of 256 values are NaN"):
        fg.FoviNet.from_pretrained(tmp_path)


def test_doubles_that_single_precision_cannot_hold_are_refused(net, tmp_path):
    net.save_pretrained(tmp_path)
    rewritten(tmp_path, lambda name, x: x.double() + 1e39 if name == "head.1.bias" else x)
    with pytest.raises(ValueError, match=r"head\.1\.bias: 16 of 16 values are .* too large"):
        fg.FoviNet.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_are_converted(net, tmp_path, dtype):
    net.to(dtype).save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors")["head.1.weight"].dtype == dtype
    loaded = fg.FoviNet.from_pretrained(tmp_path)
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == (torch.int64 if "num_batches" in name else torch.float32)
        assert torch.equal(tensor, net.state_dict()[name].to(tensor.dtype))


# ---- folders


def test_the_home_folder_is_understood(net, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    net.save_pretrained("~/nets/one")
    assert (tmp_path / "home/nets/one/model.safetensors").is_file()
    assert torch.equal(logits(fg.FoviNet.from_pretrained("~/nets/one")), logits(net))
    assert torch.equal(logits(fg.FoviNet.from_pretrained(Path("~/nets/one"))), logits(net))
    assert not (tmp_path / "~").exists()
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        fg.FoviNet.from_pretrained("~nobody-of-that-name/one")


@pytest.mark.parametrize("wrong", [None, 3, b"net", ["net"], torch.zeros(2)])
def test_what_is_no_path_is_named(net, wrong):
    with pytest.raises(TypeError, match="folder must be a path"):
        net.save_pretrained(wrong)
    with pytest.raises(TypeError, match="folder_or_hub_id must be a path"):
        fg.FoviNet.from_pretrained(wrong)


def test_empty_paths_are_not_the_working_folder(net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="folder must be a path, got ''"):
        net.save_pretrained("")
    net.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="folder_or_hub_id must be a path, got ''"):
        fg.FoviNet.from_pretrained("")


def test_a_revision_is_a_string():
    with pytest.raises(TypeError, match="revision must be a string or None, got 3"):
        fg.FoviNet.from_pretrained("somebody/some-net", revision=3)


@pytest.mark.parametrize("kind", ["weights", "config"])
def test_a_full_disk_leaves_what_was_there(net, tmp_path, monkeypatch, kind):
    net.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(content, path, **_):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    name = {"weights": "save_file", "config": "write_yaml"}[kind]
    monkeypatch.setattr(f"fovigraph.models.pretrained.{name}", full)
    nn.init.zeros_(net.head[1].bias)
    with pytest.raises(OSError, match="No space left"):
        net.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_without_a_network_says_how_to_go_on(tmp_path, resume):
    folder = tmp_path / "my run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "recipe.yaml").write_text("base: digits\n")
    if resume:
        (folder / "checkpoints/last.pt").touch()
    with pytest.raises(FileNotFoundError, match="is a training run") as caught:
        fg.FoviNet.from_pretrained(folder)
    how = f"fovigraph train '{folder}/recipe.yaml' --out '{folder}'"
    assert str(caught.value).endswith(how + " --resume" * resume)


def test_weights_replace_those_that_were_never_made(net, tmp_path):
    net.save_pretrained(tmp_path)
    other = small("projector.channels=[16,16]", "head.num_classes=16")
    other.head.to("meta")
    other.projector.to("meta")
    load_weights(other.projector, with_prefix(tmp_path, "projector."))
    assert torch.equal(other.projector[1].weight, net.projector[1].weight)


def with_prefix(folder, prefix):
    weights = load_file(folder / "model.safetensors")
    path = folder / "part.safetensors"
    part = {n.removeprefix(prefix): x for n, x in weights.items() if n.startswith(prefix)}
    save_file(part, path)
    return path


# ---- other classes


def test_a_network_for_other_classes_keeps_all_but_its_head(net, tmp_path):
    net.calibrate(fg.models.Calibration(2.0, 0.5))
    net.save_pretrained(tmp_path)
    other = fg.FoviNet.from_pretrained(tmp_path, class_names=["cat", "dog"])
    assert other.class_names == ["cat", "dog"]
    assert other.calibration == fg.models.Calibration()
    assert logits(other).shape == (2, 2)
    assert not other.training
    for name, value in net.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(other.state_dict()[name], value)
    other.save_pretrained(tmp_path / "other")
    assert torch.equal(logits(fg.FoviNet.from_pretrained(tmp_path / "other")), logits(other))


def test_a_new_head_is_where_the_old_one_was(net):
    net.double().train().reset_classifier(5)
    assert net.head[1].weight.dtype == torch.float64
    assert net.head.training
    assert net.class_names == list("01234")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_classes": 3, "class_names": ["a", "b"]}, ValueError, "class_names must be 3 names"),
        ({"class_names": ["a", "a"]}, ValueError, "class_names must be distinct, got 'a'"),
        ({"class_names": ["a", " "]}, ValueError, "class_names must not be empty"),
        ({"class_names": "ab"}, TypeError, "class_names must be a list of names, got 'ab'"),
        ({"class_names": [1, 2]}, TypeError, r"class_names\[0\] must be a string, got 1"),
        ({"num_classes": -1}, ValueError, "num_classes must be at least 0, got -1"),
    ],
)
def test_wrong_classes_are_named_before_anything_is_read(options, error, message):
    with pytest.raises(error, match=message):
        fg.FoviNet.from_pretrained("no-such-folder", **options)


def test_classes_are_named(net):
    net.reset_classifier(2)
    net.name_classes(["cat", "dog"])
    assert net.class_names == ["cat", "dog"]
    with pytest.raises(ValueError, match="class_names must be 2 names"):
        net.name_classes(["cat"])
