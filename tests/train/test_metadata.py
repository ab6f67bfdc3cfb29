"""Data in which an image has several labels, or none."""

import io
import json

import pytest
import torch
from PIL import Image

from fovigraph.train.batches import Batches
from fovigraph.train.data import open_data
from fovigraph.train.images import DataError, StoredImages
from fovigraph.train.recipe import DataConfig

LABELS = {"a.png": ["dog"], "b.png": ["cat", "dog"], "sub/c.png": [], "d.png": ["cat"]}


def picture(path, value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, value, value)).save(path)


def folder(path, labels=LABELS, *, form="jsonl"):
    """Write images and a list of them."""
    for i, name in enumerate(labels):
        picture(path / name, 10 * i)
    if form == "csv":
        lines = ["file_name,labels", *(f"{n},{';'.join(each)}" for n, each in labels.items())]
    else:
        lines = [json.dumps({"file_name": n, "labels": each}) for n, each in labels.items()]
    (path / f"metadata.{form}").write_text("\n".join(lines) + "\n")
    return path


def opened(source, **options):
    config = DataConfig(source=str(source), size=8, workers=0, **options)
    return open_data(config, multi_label=True)


def table(splits):
    """The labels of the training images by their grey, as names."""
    (batch,) = Batches(splits.train, 99, shuffle=False, drop_last=False).epoch(0)
    greys = batch.images[:, 0, 0, 0].tolist()
    rows = [[splits.classes[i] for i in row.nonzero().flatten()] for row in batch.labels]
    return dict(zip(greys, rows, strict=True))


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("memory", [0, 1])
def test_a_list_in_the_folder_of_each_split(tmp_path, form, memory):
    folder(tmp_path / "train", form=form)
    folder(tmp_path / "test", {"x.png": ["dog"], "y.png": []}, form=form)
    splits = opened(tmp_path, memory=memory)
    assert splits.classes == ["cat", "dog"] and splits.tested == "test"
    assert isinstance(splits.train, StoredImages) == (memory == 0)
    assert table(splits) == {0: ["dog"], 10: ["cat", "dog"], 20: [], 30: ["cat"]}
    assert splits.test[0][1].tolist() == [False, True]
    assert splits.test.labels.dtype == torch.bool


def test_without_splits_some_are_held_out(tmp_path):
    splits = opened(folder(tmp_path), holdout=0.25)
    assert (len(splits.train), len(splits.test)) == (3, 1)
    config = DataConfig(source=str(tmp_path), size=8, workers=0)
    whole = open_data(config, multi_label=True, hold_out=False)
    assert len(whole.test) == 4 and whole.test is whole.train and whole.tested == "all images"


def test_images_that_are_missing_are_broken(tmp_path):
    folder(tmp_path)
    (tmp_path / "d.png").unlink()
    batches = Batches(opened(tmp_path, holdout=0.25).train, 9, shuffle=False, drop_last=False)
    (batch,) = batches.epoch(0)
    assert len(batch.images) == 2 and [each.name for each in batches.skipped] == ["d.png"]


def test_other_classes_are_put_in_their_order(tmp_path):
    split = opened(folder(tmp_path), holdout=0.25).train
    order = torch.tensor([1, 0])
    batches = Batches(split, 9, shuffle=False, drop_last=False, order=order)
    plain = Batches(split, 9, shuffle=False, drop_last=False)
    assert torch.equal(next(batches.epoch(0)).labels, next(plain.epoch(0)).labels.flip(1))


def test_cells_of_csv_may_be_quoted(tmp_path):
    for name in ("a, b.png", "c.png"):
        picture(tmp_path / name)
    text = '\ufefflabels,file_name,note\n"big dog; cat","a, b.png","x\ny"\n,c.png,\n'
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8")
    splits = opened(tmp_path, holdout=0.5)
    assert splits.classes == ["big dog", "cat"]
    assert splits.test[0][1].tolist() == [True, True] or splits.train[0][1].all()


CSV = "file_name,labels\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "file,labels\na.png,x\n", "must be a column 'file_name', got file, label"),
        ("metadata.csv", "file_name,label\na.png,x\n", "there must be a column 'labels', got file"),
        ("metadata.csv", "", "there must be a column 'file_name', got "),
        ("metadata.csv", CSV, "there are no images in it"),
        ("metadata.csv", CSV + "a.png\n", "line 2: must have as many cells as the first line"),
        ("metadata.csv", CSV + "a.png,x,y\n", "line 2: must have as many cells as the first line"),
        ("metadata.csv", CSV + "a.png,x;;y\n", "labels must be names with ; between them, got 'x;"),
        ("metadata.csv", CSV + "a.png,\n", "none of 1 images has a label"),
        ("metadata.csv", CSV + "a.png,x\na.png,y\n", "must be listed once, got a.png more often"),
        ("metadata.csv", CSV + "../a.png,x\n", "within the folder, got '../a.png'"),
        ("metadata.csv", CSV + "/a.png,x\n", "within the folder, got '/a.png'"),
        ("metadata.csv", CSV + ",x\n", "line 2: file_name must be the path of an image"),
        ("metadata.jsonl", '{"file_name": "a.png", "labels": "x"}', "a list of names, got 'x'"),
        ("metadata.jsonl", '{"file_name": "a.png", "labels": [1]}', r"list of names, got \[1\]"),
        ("metadata.jsonl", '{"file_name": "a.png", "labels": [""]}', "must be a list of names"),
        ("metadata.jsonl", '{"file_name": "a.png"}', "line 1: must be an object with file_name"),
        (
            "metadata.jsonl",
            '{"file_name": 3, "labels": ["x"]}',
            "image within the folder, got 3",
        ),
        ("metadata.jsonl", "\n[1]\n", "line 2: must be an object"),
        ("metadata.jsonl", "{", "line 1: not valid JSON"),
        ("metadata.jsonl", "[" * 100_000, "cannot be read|not valid JSON"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_its_line(tmp_path, name, text, message):
    picture(tmp_path / "a.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


def test_labels_of_the_test_split_that_are_not_learnt(tmp_path):
    folder(tmp_path / "train")
    folder(tmp_path / "test", {"x.png": ["dgo"]})
    with pytest.raises(DataError, match="labels must be of the classes to learn, cat, dog, got dg"):
        opened(tmp_path)


def test_no_list_or_two(tmp_path):
    picture(tmp_path / "cat" / "a.png")
    with pytest.raises(DataError, match=r"expected one of the files metadata\.csv .* found cat"):
        opened(tmp_path)
    folder(tmp_path, form="csv")
    folder(tmp_path, form="jsonl")
    with pytest.raises(DataError, match="got both"):
        opened(tmp_path)


def test_a_list_where_subfolders_are_wanted_is_named(tmp_path):
    folder(tmp_path, {"a.png": ["cat"]})
    with pytest.raises(DataError, match=r"which objective\.name=multi_label learns from"):
        open_data(DataConfig(source=str(tmp_path), size=8, workers=0))


def test_digits_and_streams_have_one_label_each(tmp_path):
    with pytest.raises(DataError, match="digits: images have one label each"):
        opened("digits")
    with pytest.raises(DataError, match=r"data\.streaming must be false where images have several"):
        opened(folder(tmp_path), streaming=True)


class TestParquet:
    @pytest.fixture(autouse=True)
    def _quiet_cache(self, tmp_path_factory, monkeypatch):
        datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(
            datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets_cache")
        )
        datasets.disable_progress_bars()

    def write(self, path, lists, entries=None, column="labels"):
        import datasets

        content = []
        for i in range(len(lists)):
            file = io.BytesIO()
            Image.new("RGB", (8, 8), (10 * i,) * 3).save(file, "png")
            content.append({"bytes": file.getvalue(), "path": f"{i}.png"})
        features = None
        if entries is not None:
            features = datasets.Features(
                {"image": datasets.Image(), column: datasets.Sequence(entries)}
            )
        columns = {"image": content, column: lists}
        datasets.Dataset.from_dict(columns, features=features).to_parquet(str(path))
        return path

    @pytest.mark.parametrize("column", ["labels", "tags"])
    def test_lists_of_names(self, tmp_path, column):
        path = self.write(tmp_path / "train.parquet", [["b", "a"], [], ["b"]] * 2, column=column)
        splits = opened(path, holdout=0.17)
        assert splits.classes == ["a", "b"]
        assert table(splits)[0] == ["a", "b"] and table(splits)[10] == []

    def test_lists_of_integers_in_their_order(self, tmp_path):
        self.write(tmp_path / "train.parquet", [[10], [2, 10], []])
        self.write(tmp_path / "test.parquet", [[2]])
        splits = opened(tmp_path)
        assert splits.classes == ["2", "10"]
        assert table(splits) == {0: ["10"], 10: ["2", "10"], 20: []}
        assert splits.test[0][1].tolist() == [True, False]

    def test_lists_of_class_labels(self, tmp_path):
        import datasets

        entries = datasets.ClassLabel(names=["zebra", "ant"])
        self.write(tmp_path / "train.parquet", [[0], [1, 0], []], entries)
        self.write(tmp_path / "test.parquet", [[1]], entries)
        splits = opened(tmp_path)
        assert splits.classes == ["zebra", "ant"]
        assert table(splits) == {0: ["zebra"], 10: ["zebra", "ant"], 20: []}

    @pytest.mark.parametrize(
        ("lists", "message"),
        [
            ([0, 1], "must be one column of labels, got none|must hold lists"),
            ([[0.5], [1.5]], "column 'labels' must hold lists of class labels, names or integers"),
            ([["a"], None], "1 of 2 labels in column 'labels' are missing"),
            ([["a", None], ["b"]], "a label is missing in 1 of 2 lists"),
            ([["a"], []] * 0, "no data|no images"),
        ],
    )
    def test_labels_of_the_wrong_form(self, tmp_path, lists, message):
        with pytest.raises(DataError, match=message):
            opened(self.write(tmp_path / "train.parquet", lists))

    def test_names_that_are_not_learnt(self, tmp_path):
        self.write(tmp_path / "train.parquet", [["a"], ["b"]])
        self.write(tmp_path / "test.parquet", [["c"]])
        with pytest.raises(DataError, match="must be of the classes to learn, a, b, got c"):
            opened(tmp_path)
