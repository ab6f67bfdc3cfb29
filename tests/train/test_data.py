"""Finding images with labels, and reading them."""

import io
import os
import socket
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from fovigraph.train.batches import Batches
from fovigraph.train.data import open_data
from fovigraph.train.images import (
    BrokenImage,
    DataError,
    Encoded,
    ImageStream,
    LoadedImages,
    StoredImages,
    read_square,
)
from fovigraph.train.source import DataConfig

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _quiet_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(
        datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets_cache")
    )
    datasets.disable_progress_bars()


def picture(value, size=(8, 8), format="png"):
    """An image file's content: one grey."""
    content = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(content, format)
    return content.getvalue()


def folder(path, **classes):
    """Write class folders of so many images, each of a grey of its own: 100 · class + number."""
    for at, (name, count) in enumerate(classes.items()):
        (path / name).mkdir(parents=True)
        for number in range(count):
            (path / name / f"{number:02}.png").write_bytes(picture(100 * at + number))
    return path


def table(path, labels, *, names=None, image="image", label="label", **columns):
    """Write a parquet file of images, of a grey that is their number."""
    columns = {
        image: [{"bytes": picture(index), "path": f"{index}.png"} for index in range(len(labels))],
        label: labels,
        **columns,
    }
    features = None
    if names:
        features = datasets.Features(
            {image: datasets.Image(), label: datasets.ClassLabel(names=names)}
        )
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(path))
    return path


def opened(source, **options):
    return open_data(DataConfig(source=str(source), **{"size": 8, "workers": 0, **options}))


def greys(split):
    return [int(split[index][0][0, 0, 0]) for index in range(len(split))]


def labels(split):
    return [split[index][1] for index in range(len(split))]


class TestReadSquare:
    @pytest.mark.parametrize("size", [(8, 8), (16, 8), (8, 30), (300, 200), (5, 4)])
    @pytest.mark.parametrize("format", ["png", "jpeg"])
    def test_brings_any_size_to_the_square(self, size, format):
        square = read_square(Encoded("a", picture(90, size, format)), 8)
        assert square.shape == (3, 8, 8) and square.dtype == torch.uint8
        assert (square == 90).all()

    def test_the_right_size_is_left_as_it_is(self):
        pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "png")
        square = read_square(Encoded("a", content.getvalue()), 8)
        assert torch.equal(square, torch.from_numpy(pixels).permute(2, 0, 1))

    def test_keeps_the_middle(self):
        pixels = np.zeros((6, 10, 3), dtype=np.uint8)
        pixels[:, 2:8] = 200
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "png")
        assert (read_square(Encoded("a", content.getvalue()), 6) == 200).all()

    def test_a_large_jpeg_read_at_reduced_size_looks_the_same(self):
        ramp = np.linspace(0, 255, 512).astype(np.uint8)
        pixels = np.broadcast_to(ramp[:, None, None], (512, 512, 3))
        contents = {}
        for format in ("png", "jpeg"):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, format)
            contents[format] = read_square(Encoded("a", file.getvalue()), 16).float()
        assert (contents["png"] - contents["jpeg"]).abs().max() < 3

    def test_by_the_rules_of_read_image(self):
        content = io.BytesIO()
        Image.new("RGBA", (4, 4), (9, 8, 7, 0)).save(content, "png")
        assert (read_square(Encoded("a", content.getvalue()), 4) == 255).all()

    def test_an_address_is_opened(self, tmp_path):
        (tmp_path / "a.png").write_bytes(picture(70))
        assert (read_square(Encoded("a", f"file://{tmp_path}/a.png"), 8) == 70).all()

    def test_a_named_pipe_is_broken(self, tmp_path):
        os.mkfifo(tmp_path / "a.png")
        for file in (f"{tmp_path}/a.png", f"file://{tmp_path}/a.png"):
            with pytest.raises(BrokenImage, match="not a regular file, but a named pipe"):
                read_square(Encoded("a", file), 8)

    def test_another_machine_is_asked_only_where_that_is_allowed(self, monkeypatch):
        import fsspec

        fetched = []

        def fetch(address, mode):
            fetched.append(address)
            return io.BytesIO(picture(70))

        monkeypatch.setattr(fsspec, "open", fetch)
        address = "https://example.org/a.png"
        with pytest.raises(BrokenImage, match=f"cannot read {address}: files of other machines"):
            read_square(Encoded("a", address), 8)
        assert fetched == []
        assert (read_square(Encoded("a", address, remote=True), 8) == 70).all()
        assert fetched == [address]

    @pytest.mark.parametrize(
        "file", [b"", b"hello", picture(1)[:50], "/nowhere/a.png"], ids=range(4)
    )
    def test_a_broken_image_says_its_name(self, file):
        with pytest.raises(BrokenImage, match=r"cannot read a\.png|no such image file") as raised:
            read_square(Encoded("a.png", file), 8)
        assert raised.value.name == "a.png" and "\n" not in str(raised.value)


class TestFolder:
    def test_subfolders_are_classes_in_order_of_their_names(self, tmp_path):
        splits = opened(folder(tmp_path, cat=20, bee=10))
        assert splits.classes == ["bee", "cat"]
        assert len(splits.train) == 27 and len(splits.test) == 3
        for split in (splits.train, splits.test):
            assert all(
                (grey >= 100) == (label == 0)
                for grey, label in zip(greys(split), labels(split), strict=True)
            )

    def test_what_is_held_out_is_not_learnt_and_always_the_same(self, tmp_path):
        splits, again = (
            opened(folder_, holdout=0.25) for folder_ in [folder(tmp_path, a=8, b=12)] * 2
        )
        assert sorted(greys(splits.train) + greys(splits.test)) == [*range(8), *range(100, 112)]
        assert [labels(splits.test).count(label) for label in (0, 1)] == [2, 3]
        assert greys(splits.test) == greys(again.test)

    @pytest.mark.parametrize("name", ["test", "val", "validation"])
    def test_train_and_test_folders(self, tmp_path, name):
        folder(tmp_path / "train", a=3, b=4)
        folder(tmp_path / name, b=2)
        splits = opened(tmp_path)
        assert splits.classes == ["a", "b"]
        assert (len(splits.train), len(splits.test)) == (7, 2)
        assert labels(splits.test) == [1, 1]

    def test_named_splits(self, tmp_path):
        for name, count in (("big", 5), ("small", 2), ("train", 1)):
            folder(tmp_path / name, a=count, b=count)
        splits = opened(tmp_path, train_split="big", test_split="small")
        assert (len(splits.train), len(splits.test)) == (10, 4)

    def test_images_deeper_down_count_and_other_files_do_not(self, tmp_path):
        folder(tmp_path, a=10, b=10)
        folder(tmp_path / "a", deeper=10)
        (tmp_path / "a" / "notes.txt").write_text("no image")
        (tmp_path / "a" / ".hidden.png").write_text("no image")
        (tmp_path / ".cache").mkdir()
        splits = opened(tmp_path)
        assert splits.classes == ["a", "b"]
        assert len(splits.train) + len(splits.test) == 30

    def test_links_to_folders_are_followed(self, tmp_path):
        folder(tmp_path / "elsewhere", x=5, y=5)
        source = folder(tmp_path / "source", a=10)
        (source / "a" / "more").symlink_to(tmp_path / "elsewhere" / "x")
        (source / "b").symlink_to(tmp_path / "elsewhere" / "y")
        splits = opened(source, holdout=0.2)
        assert splits.classes == ["a", "b"]
        assert labels(splits.train).count(0) + labels(splits.test).count(0) == 15
        assert labels(splits.train).count(1) + labels(splits.test).count(1) == 5

    def test_links_that_lead_back_add_nothing(self, tmp_path):
        source = folder(tmp_path / "source", a=10, b=10)
        (source / "b" / "deep").mkdir()
        (source / "b" / "deep" / "x.png").write_bytes(picture(9))
        expected = opened(source)
        for link, target in {
            "a/up": "..",
            "a/itself": ".",
            "b/deep/back": "..",
            "b/also": "deep",
            "b/.first": "deep",
            "loop": ".",
            "nowhere": "nowhere",
        }.items():
            (source / link).symlink_to(target)
        (source / "a" / "top").symlink_to("/")
        splits = opened(source)
        assert splits.classes == ["a", "b"]
        assert greys(splits.train) == greys(expected.train)
        assert greys(splits.test) == greys(expected.test)

    def test_a_folder_that_is_linked_to_twice_counts_once(self, tmp_path):
        outside = folder(tmp_path / "outside", x=5)
        source = folder(tmp_path / "source", a=10, b=10)
        (source / "a" / "inner").symlink_to(outside / "x")
        (source / "a" / "outer").symlink_to(outside)
        splits = opened(source)
        assert len(splits.train) + len(splits.test) == 25

    def test_a_folder_that_cannot_be_listed(self, tmp_path, monkeypatch):
        source, scan = folder(tmp_path, a=3, b=3), os.scandir

        def scandir(path):
            if str(path).endswith("b"):
                raise PermissionError(13, "Permission denied", path)
            return scan(path)

        monkeypatch.setattr(os, "scandir", scandir)
        with pytest.raises(DataError, match="/b: cannot be listed: Permission denied"):
            opened(source)

    def test_a_named_pipe_is_a_broken_image(self, tmp_path):
        source = folder(tmp_path, a=10, b=10)
        os.mkfifo(source / "a" / "99.png")
        train = opened(source).train
        assert len(train) == 19 and list(train.broken) == [9]
        with pytest.raises(BrokenImage, match="not a regular file, but a named pipe"):
            train[9]

    def test_a_named_pipe_is_no_source(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        os.mkfifo("birds")
        with pytest.raises(DataError, match=r"birds must be a folder or .* but a named pipe"):
            opened("birds")

    def test_no_images(self, tmp_path):
        (tmp_path / "readme.txt").touch()
        with pytest.raises(DataError, match=r"there are no images; expected .* readme\.txt"):
            opened(tmp_path)

    def test_images_without_class_folders(self, tmp_path):
        (tmp_path / "a.png").write_bytes(picture(1))
        with pytest.raises(DataError, match=r"expected a subfolder .* \(found a\.png\)"):
            opened(tmp_path)

    def test_a_class_without_images(self, tmp_path):
        folder(tmp_path, a=3, b=3, c=0)
        with pytest.raises(DataError, match="/c: there are no images in this folder of a class"):
            opened(tmp_path)

    def test_one_class(self, tmp_path):
        with pytest.raises(DataError, match="must be two classes at least, got 1: a"):
            opened(folder(tmp_path, a=3))

    def test_a_class_that_is_not_learnt(self, tmp_path):
        folder(tmp_path / "train", a=3, b=3)
        folder(tmp_path / "test", a=3, c=3)
        with pytest.raises(DataError, match="/c: must be named like a class to learn, a, b"):
            opened(tmp_path)

    def test_too_few_to_hold_out(self, tmp_path):
        with pytest.raises(DataError, match=r"too few images to hold out data\.holdout=0\.1"):
            opened(folder(tmp_path, a=2, b=2))

    def test_unknown_split(self, tmp_path):
        folder(tmp_path / "train", a=3, b=3)
        with pytest.raises(DataError, match=r"no split 'dev', but train; .* data\.test_split"):
            opened(tmp_path, test_split="dev")

    def test_the_same_split_twice(self, tmp_path):
        folder(tmp_path / "train", a=3, b=3)
        with pytest.raises(DataError, match="must differ, got 'train'"):
            opened(tmp_path, test_split="train")

    def test_no_stream(self, tmp_path):
        with pytest.raises(DataError, match="streaming=true is for parquet files and datasets"):
            opened(folder(tmp_path, a=3, b=3), streaming=True)


class TestBrokenFiles:
    @pytest.fixture
    def source(self, tmp_path):
        folder(tmp_path / "train", a=4, b=4)
        folder(tmp_path / "test", a=2, b=2)
        (tmp_path / "train" / "a" / "02.png").write_bytes(b"hello")
        (tmp_path / "train" / "b" / "01.png").write_bytes(picture(7)[:50])
        return tmp_path

    @pytest.mark.parametrize("memory", [0, 1])
    def test_are_left_out_and_named(self, source, memory):
        splits = opened(source, memory=memory)
        batches = Batches(splits.train, 8, shuffle=False, drop_last=True)
        (batch,) = batches.epoch(0)
        assert batch.images[:, 0, 0, 0].tolist() == [0, 1, 3, 100, 102, 103]
        assert batch.rows.tolist() == batch.indices.tolist() == [0, 1, 3, 4, 6, 7]
        assert [broken.name for broken in batches.skipped] == ["a/02.png", "b/01.png"]

    @pytest.mark.parametrize("memory", [0, 1])
    def test_are_refused_if_strict(self, source, memory):
        def read():
            splits = opened(source, memory=memory, strict=True)
            list(Batches(splits.train, 8, shuffle=False, drop_last=True, strict=True).epoch(0))

        with pytest.raises(BrokenImage, match=rf"cannot read {source}/train/a/02\.png: not an im"):
            read()

    def test_in_memory_too_each_says_what_is_wrong(self, source):
        train = opened(source).train
        assert isinstance(train, LoadedImages)
        assert int(train[3][0][0, 0, 0]) == 3
        for index, name in ((2, "a/02"), (5, "b/01")):
            with pytest.raises(BrokenImage, match=name):
                train[index]

    def test_all_broken(self, source):
        for file in source.glob("test/*/*.png"):
            file.write_bytes(b"")
        with pytest.raises(DataError, match=r"none of 4 images can be read; the first: .*a/00"):
            opened(source)


class TestMemory:
    def test_what_fits_is_in_memory(self, tmp_path):
        source = folder(tmp_path, a=10, b=10)
        assert isinstance(opened(source).train, LoadedImages)
        assert isinstance(opened(source, memory=18 * 3 * 8 * 8 / 1e9).train, LoadedImages)
        assert isinstance(opened(source, memory=17 * 3 * 8 * 8 / 1e9).train, StoredImages)

    def test_by_workers_it_is_the_same(self, tmp_path, monkeypatch):
        source = folder(tmp_path, a=10, b=10)
        alone = opened(source).train
        monkeypatch.setattr("fovigraph.train.data.FEW", 0)
        monkeypatch.setattr("fovigraph.train.data.CHUNK", 4)
        together = opened(source, workers=2).train
        assert torch.equal(alone.images, together.images)
        assert torch.equal(alone.labels, together.labels)

    def test_a_bar_only_if_it_takes_long_or_none_at_all(self, tmp_path, capsys, monkeypatch):
        source = folder(tmp_path, a=10, b=10)
        opened(source)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr("fovigraph.train.data.DELAY", 0)
        open_data(DataConfig(source=str(source), size=8, workers=0), progress=False)
        assert capsys.readouterr().err == ""
        opened(source)
        assert "Reading images" in capsys.readouterr().err


class TestParquet:
    def test_files_by_split_with_class_labels(self, tmp_path):
        table(tmp_path / "train-00000-of-00002.parquet", [0, 1, 1], names=["bee", "cat"])
        table(tmp_path / "train-00001-of-00002.parquet", [1, 0], names=["bee", "cat"])
        table(tmp_path / "test.parquet", [0], names=["bee", "cat"])
        splits = opened(tmp_path)
        assert splits.classes == ["bee", "cat"]
        assert labels(splits.train) == [0, 1, 1, 1, 0]
        assert greys(splits.train) == [0, 1, 2, 0, 1]
        assert labels(splits.test) == [0]

    @pytest.mark.parametrize("name", ["train.parquet", "birds.parquet", "data/train-0.parquet"])
    def test_without_a_test_split_some_are_held_out(self, tmp_path, name):
        (tmp_path / "data").mkdir()
        table(tmp_path / name, [0, 1] * 10, names=["a", "b"])
        for source in (tmp_path, tmp_path / name):
            splits = opened(source)
            assert labels(splits.test) == [0, 1]
            assert not set(greys(splits.test)) & set(greys(splits.train))

    def test_integers_without_names(self, tmp_path):
        table(tmp_path / "train.parquet", [7, 3, 7, 10])
        table(tmp_path / "test.parquet", [3, 10])
        splits = opened(tmp_path)
        assert splits.classes == ["3", "7", "10"]
        assert labels(splits.train) == [1, 0, 1, 2]
        assert labels(splits.test) == [0, 2]

    def test_named_columns_and_splits(self, tmp_path):
        columns = {"image": "seen", "label": "fine", "coarse": [0] * 3}
        table(tmp_path / "big.parquet", [0, 1, 2], **columns)
        table(tmp_path / "dev.parquet", [2, 1, 0], **columns)
        chosen = {"train_split": "big", "test_split": "dev", "label_column": "fine"}
        assert opened(tmp_path, **chosen).classes == ["0", "1", "2"]
        assert labels(opened(tmp_path, image_column="seen", **chosen).test) == [2, 1, 0]

    def test_a_missing_image_is_a_broken_one(self, tmp_path):
        images = [{"bytes": picture(1), "path": None}, None] * 2
        rows = datasets.Dataset.from_dict(
            {"image": images, "label": [0, 1, 1, 0]},
            features=datasets.Features(
                {"image": datasets.Image(), "label": datasets.Value("int8")}
            ),
        )
        for name in ("train", "test"):
            rows.to_parquet(str(tmp_path / f"{name}.parquet"))
        batches = Batches(opened(tmp_path).train, 4, shuffle=False, drop_last=False)
        assert [broken.name for broken in batches.skipped] == [
            f"{tmp_path}, train, row {row}" for row in (1, 3)
        ]

    @pytest.mark.parametrize("streaming", [False, True])
    def test_an_image_with_an_address_is_broken_and_not_asked_for(
        self, tmp_path, monkeypatch, streaming
    ):
        def connect(*_):
            raise AssertionError("asks for another machine")

        (tmp_path / "here.png").write_bytes(picture(7))
        paths = ["https://example.org/a.png", f"{tmp_path}/here.png", "zip://a.png::https://a.b/c"]
        rows = datasets.Dataset.from_dict(
            {"image": [{"bytes": None, "path": path} for path in paths], "label": [0, 1, 0]},
            features=datasets.Features(
                {
                    "image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
                    "label": datasets.ClassLabel(names=["a", "b"]),
                }
            ),
        )
        for name in ("train", "test"):
            rows.to_parquet(str(tmp_path / f"{name}.parquet"))
        monkeypatch.setattr(socket, "getaddrinfo", connect)
        monkeypatch.setattr(socket.socket, "connect", connect)
        train = opened(tmp_path, streaming=streaming).train
        if streaming:
            files = [file for file, _ in train.files(None, 0)]
            assert (read_square(files[1], 8) == 7).all()
            for file in files[::2]:
                with pytest.raises(BrokenImage, match="other machines are not fetched"):
                    read_square(file, 8)
        else:
            assert greys([train[1]]) == [7] and list(train.broken) == [0, 2]

    @pytest.mark.parametrize(
        "image", [{"bytes": "a", "path": "b"}, {"bytes": b"a", "path": 3}], ids=["bytes", "path"]
    )
    def test_a_column_of_other_types_holds_no_images(self, tmp_path, image):
        rows = datasets.Dataset.from_dict({"image": [image] * 2, "label": [0, 1]})
        rows.to_parquet(str(tmp_path / "train.parquet"))
        with pytest.raises(DataError, match="there must be one column of images, got none"):
            opened(tmp_path)

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
    def test_only_regular_files(self, tmp_path, make):
        make(tmp_path / "train.parquet")
        with pytest.raises(DataError, match=r"train\.parquet must be a file: "):
            opened(tmp_path)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([0, 1, -1], "train: labels must be at least 0, got -1, as images without labels"),
            ([0, None, 1], "train: 1 of 3 labels in column 'label' are missing"),
            ([0.0, 1.0, 1.0], "column 'label' must hold class labels or integers, got Value"),
            (["a", "b", "b"], "column 'label' must hold class labels or integers, got Value"),
            ([4, 4, 4], "must be two classes at least, got 1: 4"),
            ([], r"train\.parquet: .*no data"),
        ],
    )
    def test_bad_labels(self, tmp_path, values, message):
        with pytest.raises(DataError, match=message):
            opened(table(tmp_path / "train.parquet", values))

    def test_labels_beyond_the_classes(self, tmp_path):
        path = table(tmp_path / "train.parquet", [0, 1, 2, 2], names=["a", "b", "c"])
        with pytest.raises(DataError, match=r"from 0 to 1, got 2 \(2 of 4 are wrong\)"):
            opened(relabelled(path, ["a", "b"]))

    def test_labels_of_the_test_split_that_are_not_learnt(self, tmp_path):
        table(tmp_path / "train.parquet", [1, 2])
        table(tmp_path / "test.parquet", [1, 3])
        with pytest.raises(DataError, match=r"test: labels must be of 1, 2, got 3 \(1 of 2 "):
            opened(tmp_path)

    def test_other_classes_in_the_test_split(self, tmp_path):
        table(tmp_path / "train.parquet", [0, 1], names=["a", "b"])
        table(tmp_path / "test.parquet", [0, 1], names=["b", "a"])
        with pytest.raises(DataError, match="test: classes must be those to learn, a, b, got b, a"):
            opened(tmp_path)

    def test_columns(self, tmp_path):
        path = table(tmp_path / "train.parquet", [0, 1], label="kind", other=[1, 2])
        with pytest.raises(DataError, match="one column of labels, got none; choose one of image,"):
            opened(path)
        with pytest.raises(DataError, match=r"no column data\.label_column='label', but image"):
            opened(path, label_column="label")
        with pytest.raises(DataError, match="column 'other' must hold images"):
            opened(path, image_column="other", label_column="kind")

    def test_no_file_to_learn_from(self, tmp_path):
        table(tmp_path / "test.parquet", [0, 1])
        with pytest.raises(DataError, match=r"no files train\*\.parquet .*, but test\.parquet"):
            opened(tmp_path)

    def test_not_a_parquet_file(self, tmp_path):
        (tmp_path / "train.parquet").write_text("hello")
        with pytest.raises(DataError, match=rf"cannot read {tmp_path}: .*[Pp]arquet"):
            opened(tmp_path)

    def test_another_file(self, tmp_path):
        (tmp_path / "a.csv").touch()
        with pytest.raises(DataError, match=r"a\.csv must be a folder or a parquet file"):
            opened(tmp_path / "a.csv")

    def test_without_datasets_installed(self, tmp_path, monkeypatch):
        path = table(tmp_path / "train.parquet", [0, 1])
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(DataError, match=r"need datasets: pip install 'fovigraph\[train\]'"):
            opened(path)


def relabelled(path, names):
    """Change the names of the classes that a parquet file states, not its labels."""
    from pyarrow import parquet

    content = parquet.read_table(path)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    parquet.write_table(content.replace_schema_metadata(features.arrow_schema.metadata), path)
    return path


class TestHub:
    def test_is_asked_for_what_is_no_file(self, tmp_path, monkeypatch):
        def load(name, subset, streaming):
            assert (name, subset, streaming) == ("someone/birds", "small", False)
            return datasets.DatasetDict({"train": rows, "validation": rows})

        rows = datasets.Dataset.from_parquet(
            str(table(tmp_path / "a.parquet", [0, 1], names=["a", "b"]))
        )
        monkeypatch.setattr(datasets, "load_dataset", load)
        splits = opened("someone/birds", subset="small")
        assert labels(splits.test) == [0, 1]

    def test_out_of_reach(self, monkeypatch):
        def load(*_, **__):
            raise ConnectionError("Couldn't reach 'someone/birds' on the Hub\nand more")

        monkeypatch.setattr(datasets, "load_dataset", load)
        with pytest.raises(DataError) as raised:
            opened("someone/birds")
        assert str(raised.value) == (
            "someone/birds is no file or folder here, and the Hugging Face Hub did not give it: "
            "Couldn't reach 'someone/birds' on the Hub"
        )

    @pytest.mark.parametrize("source", ["/no/such/folder", "./birds", "a/b/c", "my birds"])
    def test_neither_file_nor_possible_id(self, source):
        with pytest.raises(DataError, match=f"no file or folder {source!r}, and it is no id"):
            opened(source)


def test_no_source():
    with pytest.raises(ValueError, match=r"data\.source must name a folder, a file or a dataset"):
        DataConfig(source="")


class TestStream:
    def test_of_parquet_files(self, tmp_path):
        for name in ("train", "test"):
            table(tmp_path / f"{name}.parquet", [0, 1, 1], names=["a", "b"])
        splits = opened(tmp_path, streaming=True)
        assert isinstance(splits.train, ImageStream) and splits.train.length == 3
        found = [label for _, label in splits.train.files(None, 0)]
        assert found == [0, 1, 1]

    def test_needs_a_test_split(self, tmp_path):
        path = table(tmp_path / "train.parquet", [0, 1], names=["a", "b"])
        with pytest.raises(DataError, match="nothing can be held out of a stream"):
            opened(path, streaming=True)

    def test_needs_the_names_of_its_classes(self, tmp_path):
        for name in ("train", "test"):
            table(tmp_path / f"{name}.parquet", [0, 1])
        with pytest.raises(DataError, match="a stream must say what its classes are"):
            opened(tmp_path, streaming=True)

    def test_checks_labels_as_they_come(self, tmp_path):
        for name in ("train", "test"):
            path = table(tmp_path / f"{name}.parquet", [0, 2, 1], names=["a", "b", "c"])
            relabelled(path, ["a", "b"])
        stream = opened(tmp_path, streaming=True).train
        with pytest.raises(DataError, match="train: labels must be from 0 to 1, got 2"):
            list(stream.files(None, 0))


class TestDigits:
    def test_come_with_scikit_learn(self, monkeypatch):
        pytest.importorskip("sklearn")
        monkeypatch.setattr("fovigraph.train.scenes.COUNTS", {"train": 40, "test": 10})
        splits = opened("digits", size=32)
        assert splits.classes == list("0123456789")
        assert splits.train.images.shape == (40, 3, 32, 32)
        assert len(splits.test) == 10

    def test_without_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        with pytest.raises(DataError, match=r"not installed: pip install 'fovigraph\[train\]'"):
            opened("digits", size=32)

    def test_too_small(self):
        with pytest.raises(DataError, match="must be at least 32 pixels, got 8"):
            opened("digits")
