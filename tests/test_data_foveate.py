"""Images as PyG data: the transform, the dataset, and batches against the static batch."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch_geometric.data import Data, HeteroData
from torch_geometric.loader import DataLoader

import fovigraph as fg
from fovigraph.data import Foveate, FoveatedDataset, as_image, static_batch
from fovigraph.sensing import fixation_policy


@pytest.fixture(scope="module")
def pyramid():
    steps = [fg.Step("conv", k=9, stride=2), fg.Step("pool", k=4, stride=2)]
    return fg.GraphPyramid(fg.SensorArray.matched(12), steps)


@pytest.fixture(scope="module")
def retina(pyramid):
    return fg.Retina(pyramid.levels[0], "bilinear")


@pytest.fixture
def images():
    return [torch.rand(3, 20 + index, 30) for index in range(5)]


def test_an_image_becomes_the_pyramid_with_samples_as_the_retinas_features(retina, pyramid, images):
    data = Foveate(retina, pyramid)(images[0], [0.3, 0.7])
    assert isinstance(data, HeteroData)
    assert data.validate()
    assert data["retina"].x.equal(retina(images[0][None], [[0.3, 0.7]])[0, 0])
    assert data.fixations.equal(torch.tensor([[[0.3, 0.7]]]))
    bare = pyramid.to_hetero_data()
    assert data.edge_types == bare.edge_types
    for edge_type in bare.edge_types:
        assert data[edge_type].edge_index.equal(bare[edge_type].edge_index)


def test_several_fixations_are_side_by_side(retina, pyramid, images):
    places = [[0.3, 0.7], [0.5, 0.5], [0.9, 0.1]]
    data = Foveate(retina, pyramid)(images[0], places)
    nodes = len(pyramid.levels[0])
    assert data["retina"].x.shape == (nodes, 3, 3)
    assert data["retina"].x.transpose(0, 1).equal(retina(images[0][None], places)[0])
    assert static_batch(data).equal(retina(images[0][None], places))


def test_without_a_policy_it_looks_at_the_centre_with_one_where_it_says(retina, pyramid, images):
    centre = Foveate(retina, pyramid)(images[0])
    assert centre.fixations.tolist() == [[[0.5, 0.5]]]
    policy = fixation_policy("near_center", 2, eval_area=0.25).eval()
    torch.manual_seed(3)
    data = Foveate(retina, pyramid, policy)(images[0])
    torch.manual_seed(3)
    where = policy(images[0][None])
    assert data.fixations.equal(where.location)
    expected = retina(images[0][None], where.location, where.size)
    assert static_batch(data).equal(expected)


def test_results_share_their_edges_and_not_their_features(retina, pyramid, images):
    foveate = Foveate(retina, pyramid)
    first, second = foveate(images[0]), foveate(images[1])
    edge_type = ("retina", "conv", "conv1")
    assert first[edge_type].edge_index is second[edge_type].edge_index
    assert not first["retina"].x.equal(second["retina"].x)
    assert "x" not in foveate._template["retina"]


def test_edges_and_other_relations_come_as_asked(retina, pyramid, images):
    assert Foveate(retina, pyramid, edges="none")(images[0]).edge_types == []
    data = Foveate(retina, pyramid, lateral=4, up=2)(images[0])
    assert ("conv1", "lateral", "conv1") in data.edge_types
    assert ("conv1", "up", "retina") in data.edge_types
    assert Foveate(retina)(images[0]).node_types == ["retina"]


def test_it_takes_pyg_data_and_keeps_what_else_is_there(retina, pyramid, images):
    given = Data(image=images[0], fixations=[[0.2, 0.2]], y=torch.tensor([7]), name="cat")
    data = Foveate(retina, pyramid)(given)
    assert data.y.item() == 7 and data.name == "cat" and "image" not in data
    assert data["retina"].x.equal(retina(images[0][None], [[0.2, 0.2]])[0, 0])
    assert given.image is images[0]


def test_the_pyramid_of_foveated_data_is_the_pyramid(retina, pyramid, images):
    other = fg.GraphPyramid.from_hetero_data(Foveate(retina, pyramid)(images[0]))
    assert other.levels == pyramid.levels
    assert other.graphs[0].edge_index.equal(pyramid.graphs[0].edge_index)


# ---- batches


@pytest.mark.parametrize("edges", ["all", "none"])
def test_a_loaders_batch_is_the_static_batch(retina, pyramid, edges):
    pictures = torch.rand(6, 3, 24, 24)
    places = torch.rand(6, 2, 2)
    items = [(picture, label) for label, picture in enumerate(pictures)]
    dataset = FoveatedDataset(items, Foveate(retina, pyramid, edges=edges))
    batch = next(iter(DataLoader(dataset, batch_size=6)))
    assert static_batch(batch).equal(retina(pictures, [[0.5, 0.5]])[:, 0])
    assert batch.y.tolist() == list(range(6))

    several = [Data(image=picture, fixations=places[i]) for i, picture in enumerate(pictures)]
    foveate = Foveate(retina, pyramid, edges=edges)
    batch = next(iter(DataLoader([foveate(data) for data in several], batch_size=6)))
    assert static_batch(batch).equal(retina(pictures, places))
    assert batch.fixations.equal(places)


def test_the_disjoint_batch_convolves_to_the_same_as_the_static_one(retina, pyramid):
    pictures = list(torch.rand(4, 3, 24, 24))
    foveate = Foveate(retina, pyramid, lateral=4)
    batch = next(iter(DataLoader(FoveatedDataset(pictures, foveate), batch_size=4)))
    conv = fg.nn.KNNConv(3, 5, kernel_size=3)
    edges = batch["retina", "conv", "conv1"]
    size = batch["retina"].num_nodes, batch["conv1"].num_nodes
    disjoint = conv((batch["retina"].x, None), edges.edge_index, edges.cell, size=size)
    static = conv(static_batch(batch), pyramid.graphs[0])
    torch.testing.assert_close(disjoint.view_as(static), static)


def test_data_survives_worker_processes(retina, pyramid, images):
    dataset = FoveatedDataset(images, Foveate(retina, pyramid))
    plain = [static_batch(batch) for batch in DataLoader(dataset, batch_size=2)]
    workers = [static_batch(b) for b in DataLoader(dataset, batch_size=2, num_workers=1)]
    for one, other in zip(plain, workers, strict=True):
        assert one.equal(other)


def test_the_dataset_takes_images_of_every_kind(retina, pyramid, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    kinds = [tensor, pixels, Image.fromarray(pixels), tmp_path / "image.png",
             str(tmp_path / "image.png")]  # fmt: skip
    for kind in kinds:
        assert as_image(kind).equal(tensor)
    dataset = FoveatedDataset(kinds, Foveate(retina, pyramid))
    assert len(dataset) == 5
    assert all(data["retina"].x.equal(dataset[0]["retina"].x) for data in dataset)
    assert "y" not in dataset[0]
    assert as_image(pixels[..., 0]).shape == (1, 20, 24)


def test_the_transform_takes_images_of_every_kind(retina, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 24), dtype=np.uint16)
    grey = Image.fromarray(pixels)
    grey.save(tmp_path / "image.png")
    expected = Foveate(retina)(fg.read_image(tmp_path / "image.png"))["retina"].x
    for image in (tmp_path / "image.png", str(tmp_path / "image.png"), grey, Data(image=grey)):
        assert Foveate(retina)(image)["retina"].x.equal(expected)
    assert Foveate(retina)(pixels)["retina"].x.equal(expected[:, :1])


# ---- bad input


def test_a_level_without_features_is_named_with_those_that_have_some(retina, pyramid, images):
    data = Foveate(retina, pyramid)(images[0])
    with pytest.raises(ValueError, match=r"features 'x' \(\['retina'\]\), got 'conv1'"):
        static_batch(data, "conv1")
    with pytest.raises(ValueError, match=r"features 'x' \(none has any\), got 'retina'"):
        static_batch(pyramid.to_hetero_data())
    with pytest.raises(ValueError, match=r"level must be one of .* got 'conv9'"):
        static_batch(data, "conv9")


def test_a_batch_of_different_retinas_is_refused(retina, pyramid, images):
    other = fg.Retina(fg.SensorArray.matched(8))
    both = [Foveate(one)(images[0]) for one in (retina, other)]
    with pytest.raises(ValueError, match="data must be graphs of one size, got"):
        static_batch(next(iter(DataLoader(both, batch_size=2))))


@pytest.mark.parametrize(
    ("image", "fixations", "message"),
    [
        (torch.rand(2, 3, 8, 8), None, r"image must be a tensor \[C, H, W\], got shape \[2, 3, 8"),
        (255 * torch.rand(3, 8, 8), None, r"image must lie in \[0, 1\], .* divide by 255"),
        (torch.full((3, 8, 8), torch.nan), None, "image must be finite"),
        (Data(y=torch.tensor([1])), None, r"image must be a tensor, an array, .*, got NoneType"),
        ("cat.jpg", None, r"no such image file: cat\.jpg"),
        (torch.rand(3, 8, 8), [0.1, 0.2, 0.3], r"fixations must have shape"),
        (torch.rand(3, 8, 8), [[0.1, float("nan")]], "fixations must be finite"),
    ],
)
def test_images_and_fixations_of_another_kind_are_refused(retina, image, fixations, message):
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        Foveate(retina)(image, fixations)


def test_what_does_not_fit_is_refused(retina, pyramid):
    with pytest.raises(ValueError, match="retina must sample the pyramid's lowest level"):
        Foveate(fg.Retina(fg.SensorArray.matched(8)), pyramid)
    with pytest.raises(ValueError, match=r"edges must be one of .* got 'some'"):
        Foveate(retina, pyramid, edges="some")
    with pytest.raises(TypeError, match="retina must be a Retina, got 3"):
        Foveate(3)
    with pytest.raises(TypeError, match="pyramid must be a GraphPyramid or None, got 'a'"):
        Foveate(retina, "a")
    with pytest.raises(TypeError, match="policy must be a FixationPolicy or None, got 'center'"):
        Foveate(retina, pyramid, "center")
    with pytest.raises(TypeError, match="data must be a HeteroData or a batch of them, got 3"):
        static_batch(3)
    with pytest.raises(TypeError, match="name must be a string, got"):
        static_batch(Foveate(retina)(torch.rand(3, 8, 8)), name=["x"])
    for images in (None, 3, "folder", iter([])):
        with pytest.raises(TypeError, match="images must have a length and an index, got"):
            FoveatedDataset(images, Foveate(retina))
    with pytest.raises(TypeError, match="foveate must be a Foveate, got Retina"):
        FoveatedDataset([], retina)
    for item, message in (
        ((), r"image must be a tensor, an array, .* got tuple"),
        ((torch.rand(3, 8, 8), "cat"), "label must be a number or numbers, got 'cat'"),
        ((torch.rand(3, 8, 8), None), "label must be a number or numbers, got None"),
        ({"image": torch.rand(3, 8, 8)}, r"image must be a tensor, an array, .* got dict"),
    ):
        with pytest.raises(TypeError, match=message):
            FoveatedDataset([item], Foveate(retina))[0]
    with pytest.raises(TypeError, match=r"image must be a tensor, an array, .* got int"):
        as_image(3)
    with pytest.raises(ValueError, match=r"image must be an array \[H, W, C\] or \[H, W\], got"):
        as_image(np.zeros(3))
