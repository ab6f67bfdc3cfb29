"""Batches: their order, their shares, and what is left out of them."""

import multiprocessing
import signal
from itertools import chain

import pytest
import torch

from fovigraph.train.batches import Batches
from fovigraph.train.images import BrokenImage, DataError, ImageStream, LoadedImages

COUNT = 23


def unreadable(index):
    return BrokenImage(f"image {index}", f"cannot read image {index}")


class Stored:
    """Images that are read when asked for: image ``i`` has the value i and the label i % 7."""

    size = 2

    def __init__(self, count=COUNT, broken=()):
        self.count = count
        self.broken = set(broken)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.broken:
            raise unreadable(index)
        return torch.full((3, 2, 2), index, dtype=torch.uint8), index % 7


def loaded(count=COUNT, broken=()):
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return LoadedImages(
        images, torch.arange(count) % 7, {index: unreadable(index) for index in broken}
    )


def stream(count=COUNT, buffer=8, broken=(), labels=None, length=None):
    datasets = pytest.importorskip("datasets")
    from test_data import picture

    images = [
        {"bytes": b"no image" if index in broken else picture(index, (2, 2)), "path": None}
        for index in range(count)
    ]
    labels = [index % 7 for index in range(count)] if labels is None else labels
    features = datasets.Features(
        {"image": datasets.Image(decode=False), "label": datasets.Value("int64")}
    )
    rows = datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)
    shards = rows.to_iterable_dataset(num_shards=3)
    return ImageStream(shards, "image", "label", 7, 2, buffer, "birds", length)


KINDS = {"stored": Stored, "loaded": loaded, "stream": stream}


@pytest.fixture(params=KINDS)
def make(request):
    return KINDS[request.param]


def batches(split, size=6, **options):
    return Batches(split, size, **{"shuffle": True, "drop_last": True, "seed": 3, **options})


def values(found):
    """The images of each batch, which must agree with its labels and indices."""
    lists = []
    for batch in found:
        assert batch.images.dtype == torch.uint8 and batch.images.shape[1:] == (3, 2, 2)
        numbers = batch.images[:, 0, 0, 0].long()
        assert all(part.dtype == torch.int64 for part in batch[1:])
        assert torch.equal(batch.labels, numbers % 7)
        assert torch.equal(batch.indices, numbers) or (batch.indices == -1).all()
        lists.append(numbers.tolist())
    return lists


class TestOrder:
    def test_an_epoch_shows_every_image_once(self, make):
        found = values(batches(make(), drop_last=False).epoch(0))
        assert [len(batch) for batch in found] == [6, 6, 6, 5]
        assert sorted(chain.from_iterable(found)) == list(range(COUNT))

    def test_what_does_not_fill_a_batch_is_dropped(self, make):
        assert [len(batch) for batch in values(batches(make()).epoch(0))] == [6, 6, 6]

    def test_depends_on_seed_and_epoch(self, make):
        split = make()
        first = values(batches(split).epoch(1))
        assert first == values(batches(split).epoch(1))
        assert first != values(batches(split).epoch(2))
        assert first != values(batches(split, seed=4).epoch(1))

    def test_without_shuffling_is_that_of_the_split(self, make):
        found = values(batches(make(), shuffle=False, drop_last=False).epoch(5))
        assert list(chain.from_iterable(found)) == list(range(COUNT))

    @pytest.mark.parametrize("workers", [0, 1, 2])
    def test_is_taken_up_anywhere_with_any_number_of_workers(self, make, workers):
        whole = values(batches(make()).epoch(4))
        some = batches(make(), workers=workers)
        for start in range(len(whole) + 1):
            assert values(some.epoch(4, start)) == whole[start:]

    def test_stored_and_loaded_images_come_in_the_same(self):
        assert values(batches(Stored()).epoch(0)) == values(batches(loaded()).epoch(0))

    def test_leaves_the_global_random_state_alone(self, make):
        before = torch.get_rng_state()
        values(batches(make(), workers=1).epoch(0))
        assert torch.equal(torch.get_rng_state(), before)

    def test_an_epoch_may_be_left_early(self):
        some = batches(Stored(), workers=2)
        for epoch in range(3):
            next(some.epoch(epoch))
        assert values(some.epoch(3)) == values(batches(Stored()).epoch(3))


class TestShares:
    def test_are_the_rows_of_what_one_process_has(self, make):
        whole = list(batches(make(), 8).epoch(1))
        parts = [
            list(batches(make(), 8, rank=rank, world_size=4, workers=rank % 2).epoch(1))
            for rank in range(4)
        ]
        for batch, *shares in zip(whole, *parts, strict=True):
            assert [len(share.rows) for share in shares] == [2] * 4
            for together, apart in zip(batch, zip(*shares, strict=True), strict=True):
                assert torch.equal(together, torch.cat(apart))
            assert batch.rows.tolist() == list(range(8))

    def test_of_a_last_batch_differ_in_size_and_miss_nothing(self, make):
        options = {"shuffle": False, "drop_last": False, "world_size": 4}
        shares = [values(batches(make(21), 10, rank=rank, **options).epoch(0)) for rank in range(4)]
        assert sorted(chain.from_iterable(chain.from_iterable(shares))) == list(range(21))
        assert [len(share) for share in shares] == [2, 2, 2, 3]  # the last has the last image

    def test_must_be_even_in_training(self):
        with pytest.raises(ValueError, match="multiple of world_size = 4, got 6"):
            batches(loaded(), 6, world_size=4)

    def test_are_those_of_a_process(self):
        with pytest.raises(ValueError, match="rank must be from 0 to 1, got 2"):
            batches(loaded(), rank=2, world_size=2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rank": None}, "rank must be a whole number"),
        ({"workers": "2"}, "workers must be a whole number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"shuffle": None}, "shuffle must be True or False, got None"),
        ({"strict": "no"}, "strict must be True or False, got 'no'"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(wrong, message):
    with pytest.raises(TypeError, match=message):
        batches(loaded(), **wrong)


class TestLength:
    @pytest.mark.parametrize(("drop_last", "length"), [(True, 3), (False, 4)])
    def test_is_that_of_an_epoch(self, drop_last, length):
        for split in (Stored(), loaded(), stream(length=COUNT)):
            some = batches(split, drop_last=drop_last)
            assert len(some) == some.length == length == len(list(some.epoch(0)))

    def test_of_a_stream_may_be_unknown(self):
        some = batches(stream())
        assert some.length is None
        with pytest.raises(TypeError, match="not known before its end"):
            len(some)

    @pytest.mark.parametrize("split", [Stored(5), loaded(5), stream(5, length=5)])
    def test_fewer_images_than_a_batch(self, split):
        with pytest.raises(DataError, match="at least batch_size = 6 images, got 5"):
            batches(split)

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_stream_of_fewer_images_than_a_batch(self, workers):
        with pytest.raises(
            DataError, match=r"^birds: there must be at least .* = 6 images, got 5$"
        ):
            list(batches(stream(5), workers=workers).epoch(0))

    def test_batch_size(self):
        with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
            batches(loaded(), 0)


class TestBrokenImages:
    BROKEN = (4, 11)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_leave_the_rest_of_their_batch_as_it_is(self, make, workers):
        whole = list(batches(make()).epoch(0))
        found = list(batches(make(broken=self.BROKEN), workers=workers).epoch(0))
        for before, after in zip(whole, found, strict=True):
            kept = [row for row in range(6) if before.images[row, 0, 0, 0] not in self.BROKEN]
            assert after.rows.tolist() == kept
            assert torch.equal(after.images, before.images[kept])
            assert torch.equal(after.labels, before.labels[kept])

    @pytest.mark.parametrize("make", [Stored, loaded])
    def test_are_noted_once(self, make):
        some = batches(make(broken=self.BROKEN), drop_last=False, workers=1)
        for epoch in range(2):
            list(some.epoch(epoch))
        assert sorted(error.name for error in some.skipped) == ["image 11", "image 4"]

    @pytest.mark.parametrize("workers", [0, 1])
    def test_are_errors_if_strict(self, workers):
        for make, name in ((Stored, "image 4"), (stream, "birds, image 4 of epoch 0")):
            some = batches(make(broken=[4]), shuffle=False, strict=True, workers=workers)
            with pytest.raises(BrokenImage, match=f"^cannot read {name}") as raised:
                list(some.epoch(0))
            assert raised.value.name == name

    def test_that_fill_a_batch_are_an_error_in_training(self, make):
        some = batches(make(broken=range(6, 12)), shuffle=False)
        with pytest.raises(DataError, match="none of a batch's images can be read; the first: can"):
            list(some.epoch(0))

    def test_that_fill_a_batch_are_left_out_in_evaluation(self, make):
        some = batches(make(broken=range(6, 12)), shuffle=False, drop_last=False)
        found = chain.from_iterable(values(some.epoch(0)))
        assert list(found) == [*range(6), *range(12, COUNT)]


class TestStreams:
    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_wrong_label_ends_them(self, workers):
        some = batches(stream(labels=[0] * 9 + [7] * 14), shuffle=False, workers=workers)
        with pytest.raises(DataError, match=r"^birds: labels must be from 0 to 6, got 7$"):
            list(some.epoch(0))

    def test_that_break_off(self):
        class Rows:
            def __iter__(self):
                yield {"image": None, "label": 0}
                raise OSError("connection lost\nat some length")

        split = ImageStream(Rows(), "image", "label", 7, 2, 8, "birds", None)
        with pytest.raises(DataError, match=r"^birds breaks off: connection lost$"):
            list(batches(split, 1, shuffle=False, drop_last=False).epoch(0))


class Spy(Stored):
    def __getitem__(self, index):
        threads = torch.get_num_threads()
        deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        return torch.tensor([threads, deaf, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, 2, 2), 0


def test_workers_use_one_thread_and_leave_ctrl_c_to_the_main_process():
    batch = next(batches(Spy(), workers=1).epoch(0))
    assert batch.images[0, :, 0, 0].tolist() == [1, 1, 0]


def test_workers_leave_the_first_sigterm_to_the_main_process():
    some = batches(Stored(), size=1, workers=1)
    epoch = some.epoch(0)
    found = [next(epoch)]
    (worker,) = multiprocessing.active_children()
    worker.terminate()
    found += epoch
    assert len(values(found)) == COUNT


def test_time_spent_waiting_is_counted():
    some = batches(Stored())
    assert some.waited == 0
    list(some.epoch(0))
    assert 0 < some.waited < 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("workers", [0, 1])
def test_pinned_memory(make, workers):
    batch = next(batches(make(), workers=workers, pin_memory=True).epoch(0))
    assert all(part.is_pinned() for part in batch)
