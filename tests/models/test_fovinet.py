"""FoviNet: SPEC's figures, views and their average, saving and loading, bad input."""

import copy

import pytest
import torch
from omegaconf import OmegaConf

import fovigraph as fg
from fovigraph.config import FoviConfig, to_dict


@pytest.fixture(scope="module")
def full():
    return fg.FoviNet(fg.load_config("fovi_alexnet")).eval()


@pytest.fixture
def tiny():
    return fg.FoviNet(fg.load_config("fovi_tiny")).eval()


def test_figures_of_the_full_network(full):
    assert [len(level) for level in full.pyramid.levels] == [
        4085, 964, 230, 230, 60, 60, 60, 60, 16, 1,
    ]  # fmt: skip
    assert [graph.k for graph in full.pyramid.graphs] == [121, 9, 25, 9, 9, 9, 9, 9, 16]
    assert sum(parameter.numel() for parameter in full.parameters()) == 17_324_840


def test_shapes_on_one_image_with_four_fixations(full):
    out = full(torch.rand(1, 3, 256, 256))
    assert out.features.shape == (1, 4, 256)
    assert out.embeddings.shape == (1, 4, 1024)
    assert out.fixation_logits.shape == (1, 4, 1000)
    assert out.logits.shape == (1, 1000)
    assert out.fixations.shape == out.fixation_sizes.shape == (1, 4, 2)


def test_each_fixation_is_an_independent_view(tiny):
    images, fixations = torch.rand(2, 3, 48, 64), torch.rand(2, 3, 2)
    together = tiny(images, fixations)
    assert torch.equal(together.fixations, fixations)
    for index in range(3):
        alone = tiny(images, fixations[:, index : index + 1])
        torch.testing.assert_close(
            alone.fixation_logits[:, 0], together.fixation_logits[:, index], rtol=1e-4, atol=1e-5
        )


def test_evaluation_averages_probabilities_and_training_logits(tiny):
    images, fixations = torch.rand(2, 3, 48, 64), torch.rand(2, 3, 2)
    out = tiny(images, fixations)
    mean = out.fixation_logits.softmax(-1).mean(1)
    torch.testing.assert_close(out.logits.exp(), mean)
    out = tiny.train()(images, fixations)
    torch.testing.assert_close(out.logits, out.fixation_logits.mean(1))


def test_the_same_places_in_every_image_may_be_given_once(tiny):
    images = torch.rand(2, 3, 48, 64)
    once = tiny(images, [[0.5, 0.5], [0.25, 0.75]])
    each = tiny(images, torch.tensor([[[0.5, 0.5], [0.25, 0.75]]] * 2))
    assert torch.equal(once.logits, each.logits)


def test_the_same_seed_gives_the_same_answer(tiny):
    images = torch.rand(2, 3, 48, 64)
    runs = [tiny(images, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(runs[0].fixations, runs[1].fixations)
    assert torch.equal(runs[0].logits, runs[1].logits)


def test_the_number_of_fixations_and_their_area_may_be_given(tiny):
    images = torch.rand(2, 3, 40, 40)
    out = tiny(images, fixations=6, area=0.25)
    assert out.fixation_logits.shape == (2, 6, 10)
    assert (out.fixation_sizes == 20).all()
    again = tiny.see(images, tiny.views(images, 6, area=0.25), divide_first=True)
    assert torch.equal(again.logits, out.logits)
    assert tiny.features(images, 2)["layers.0"].features.shape[:2] == (2, 2)


def test_a_retina_of_its_own_view_size_takes_no_area():
    net = fg.create_model("fovi_tiny", retina={"fixation_size": 30.0})
    with pytest.raises(ValueError, match="area must be None for a retina of fixation_size"):
        net(torch.rand(1, 3, 40, 40), area=0.5)


def test_samples_are_classified_as_the_images_they_are_of(tiny):
    images = torch.rand(2, 3, 40, 40)
    views = tiny.views(images)
    expected = tiny.see(images, views)
    out = tiny.see_samples(tiny.retina(images, *views), views)
    assert all(map(torch.equal, out, expected))
    unknown = tiny.see_samples(tiny.retina(images, *views))
    assert torch.equal(unknown.logits, expected.logits)
    assert unknown.fixations.shape == (2, 4, 2)
    assert unknown.fixations.isnan().all()


def test_samples_must_be_the_retinas(tiny):
    nodes = len(tiny.pyramid.levels[0])
    with pytest.raises(ValueError, match=rf"samples must have shape \[B, F, {nodes}, 3\]"):
        tiny.see_samples(torch.rand(1, nodes, 3))
    views = tiny.views(torch.rand(1, 3, 9, 9))
    with pytest.raises(ValueError, match="views must be of 2 images at 4 fixations"):
        tiny.see_samples(torch.rand(2, 4, nodes, 3), views)


def test_uint8_images_are_the_same_images(tiny):
    images = torch.randint(256, (2, 3, 48, 64), dtype=torch.uint8)
    fixations = [[0.5, 0.5]]
    torch.testing.assert_close(tiny(images, fixations).logits, tiny(images / 255, fixations).logits)


@pytest.mark.parametrize("sampling", ["nearest", "bilinear"])
def test_a_large_uint8_image_does_not_become_floating_point(largest, sampling):
    options = [f"retina.sampling={sampling}", "retina.mean=[0.5,0.4,0.3]", "retina.std=[1,2,1]"]
    net = fg.FoviNet(fg.load_config("fovi_tiny", options)).eval()
    image = torch.randint(256, (3, 1500, 1600), dtype=torch.uint8)
    with torch.no_grad():
        with largest(image) as made:
            seen = net(image, [[0.5, 0.5]])
        expected = net(image / 255, [[0.5, 0.5]])
    assert made.bytes < image.nbytes / 2
    torch.testing.assert_close(seen.logits, expected.logits, rtol=1e-5, atol=1e-5)


def test_views_must_be_fixations(tiny):
    with pytest.raises(TypeError, match=r"views must be .*Fixations, got"):
        tiny.see(torch.rand(1, 3, 32, 32), [[0.5, 0.5]])


def test_the_retinas_own_view_size_is_the_one_reported():
    net = fg.FoviNet(fg.load_config("fovi_tiny", overrides=["retina.fixation_size=100"])).eval()
    out = net(torch.rand(2, 3, 64, 64), fixations=[[0.5, 0.5]])
    assert out.fixation_sizes.tolist() == [[[100, 100]]] * 2


def test_places_may_be_configured():
    overrides = [
        "fixation.policy=explicit",
        "fixation.count=2",
        "fixation.fixations=[[0.5,0.5],[0.25,0.75]]",
    ]
    net = fg.FoviNet(fg.load_config("fovi_tiny", overrides=overrides)).eval()
    assert net(torch.rand(1, 3, 64, 64)).fixations.tolist() == [[[0.5, 0.5], [0.25, 0.75]]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_runs_in_other_precisions(tiny, dtype):
    images, fixations = torch.rand(2, 3, 48, 64), [[0.5, 0.5], [0.4, 0.4]]
    single = tiny(images, fixations).logits
    other = copy.deepcopy(tiny).to(dtype)(images, fixations).logits
    assert other.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float64 else 0.1
    torch.testing.assert_close(other.float(), single, rtol=tolerance, atol=tolerance)


def test_gradients_reach_every_parameter(tiny):
    tiny.train()
    out = tiny(torch.rand(4, 3, 48, 64))
    torch.nn.functional.cross_entropy(out.logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tiny.parameters())


def test_saved_and_loaded_it_is_the_same_network(tiny, tmp_path):
    tiny.train()(torch.rand(4, 3, 48, 64))  # so that running statistics are not the defaults
    tiny.eval().save_pretrained(tmp_path / "net")
    loaded = fg.FoviNet.from_pretrained(tmp_path / "net")
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == [
        "config.yaml",
        "model.safetensors",
    ]
    assert loaded.config == tiny.config
    assert not loaded.training
    images, fixations = torch.rand(2, 3, 48, 64), [[0.5, 0.5]]
    assert torch.equal(loaded(images, fixations).logits, tiny(images, fixations).logits)


def test_loading_says_what_is_wrong(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        fg.FoviNet.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"lacks config.yaml and model.safetensors"):
        fg.FoviNet.from_pretrained(tmp_path / "empty")
    tiny.save_pretrained(tmp_path)
    other = fg.load_config("fovi_tiny", overrides=["head.num_classes=11"])
    fg.save_config(other, tmp_path / "config.yaml")
    with pytest.raises(ValueError, match=r"head.1.weight: shape \[10, 64\], needed \[11, 64\]"):
        fg.FoviNet.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="cannot read weights from"):
        fg.FoviNet.from_pretrained(tmp_path)


def test_a_hub_id_without_the_hub_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'fovigraph\[hub\]'"):
        fg.FoviNet.from_pretrained("somebody/some-net")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((1, 3, 32, 32), torch.nan), "finite|NaN|nan"),
        (torch.rand(1, 4, 32, 32), "3"),
        (torch.rand(32, 32), "shape"),
        (torch.rand(1, 3, 32, 32) * 255, "255"),
        (torch.rand(1, 3, 32, 32, device="meta"), "images must hold values"),
    ],
)
def test_bad_images_are_refused(tiny, images, message):
    with pytest.raises(ValueError, match=message):
        tiny(images)


@pytest.mark.parametrize(
    "fixations", [[[0.5, torch.nan]], [0.5, 0.5], [[[0.5, 0.5]]] * 3, [[0.5, 0.5, 0.5]]]
)
def test_bad_fixations_are_refused(tiny, fixations):
    with pytest.raises(ValueError, match="fixations must"):
        tiny(torch.rand(2, 3, 32, 32), fixations)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("retina.layout=isotropc", "layout must be one of .*did you mean 'isotropic'"),
        ("retina.sampling=cubic", "sampling must be one of"),
        ("fixation.policy=saliency", "fixation policy must be one of"),
        ("backbone.norm=bach", "norm must be one of"),
        ("backbone.pool=avg", "pool must be one of"),
        ("backbone.metric=cosine", "metric must be one of"),
        ("backbone.strides=[64,1,1,1,1]", "stride must leave at least one node"),
    ],
)
def test_names_that_do_not_exist_are_refused(override, message):
    with pytest.raises(ValueError, match=message):
        fg.FoviNet(fg.load_config("fovi_tiny", overrides=[override]))


def test_public_names_are_there():
    for name in fg.__all__:
        assert hasattr(fg, name), name


@pytest.mark.parametrize(
    "form",
    [
        lambda config: config,
        to_dict,
        lambda config: OmegaConf.create(to_dict(config)),
    ],
    ids=["dataclass", "mapping", "OmegaConf"],
)
def test_a_configuration_in_any_form_makes_the_same_network(form):
    config = fg.load_config("fovi_tiny", ["fixation.count=2"])
    net = fg.FoviNet(form(config))
    assert isinstance(net.config, FoviConfig)
    assert net.config == config
    assert net.config.fixation.count == net.fixation_policy.count == 2


def test_a_networks_configuration_is_its_own():
    config = fg.load_config("fovi_tiny")
    net = fg.FoviNet(config)
    net.name_classes([f"class {i}" for i in range(10)])
    assert config.head.class_names is None
    assert net.config.head.class_names == net.class_names
    assert copy.deepcopy(net).config == net.config
