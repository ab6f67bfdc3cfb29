"""Self-supervised losses."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fovigraph.train.objectives import barlow_twins, simclr, vicreg

LOSSES = {
    "simclr": (simclr, {"temperature": 0.2}),
    "vicreg": (vicreg, {"invariance": 25.0, "variance": 20.0, "covariance": 1.5}),
    "barlow_twins": (barlow_twins, {"redundancy": 0.005}),
}

# Formulas, slow and plain: numbers in lists, one sum at a time.


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def plain_simclr(z, temperature):
    def cosine(x, y):
        dot = math.fsum(a * b for a, b in zip(x, y, strict=True))
        return dot / math.sqrt(math.fsum(a * a for a in x) * math.fsum(b * b for b in y))

    views = [(image, tuple(view)) for image, row in enumerate(z) for view in row]
    losses = []
    for i, (image, view) in enumerate(views):
        e = [math.exp(cosine(view, other) / temperature) for _, other in views]
        everything = math.fsum(value for a, value in enumerate(e) if a != i)
        positives = [p for p, (other, _) in enumerate(views) if other == image and p != i]
        losses.append(-mean(math.log(e[p] / everything) for p in positives))
    return mean(losses)


def columns(z, view):
    """Lists over images, one for every dimension."""
    return [[image[view][d] for image in z] for d in range(len(z[0][0]))]


def plain_covariance(x, y):
    """Covariance, divided by the number of images."""
    at, to = mean(x), mean(y)
    return mean((a - at) * (b - to) for a, b in zip(x, y, strict=True))


def plain_vicreg(z, invariance, variance, covariance):
    images, dim = len(z), len(z[0][0])
    unbiased = images / (images - 1)

    def s(a, b):
        return mean((i[a][d] - i[b][d]) ** 2 for i in z for d in range(dim))

    def v(a):
        spreads = (math.sqrt(unbiased * plain_covariance(x, x) + 1e-4) for x in columns(z, a))
        return mean(max(0.0, 1 - spread) for spread in spreads)

    def c(a):
        pairs = itertools.permutations(columns(z, a), 2)
        return math.fsum((unbiased * plain_covariance(x, y)) ** 2 for x, y in pairs) / dim

    return mean(
        invariance * s(a, b) + variance * (v(a) + v(b)) + covariance * (c(a) + c(b))
        for a, b in itertools.combinations(range(len(z[0])), 2)
    )


def plain_barlow_twins(z, redundancy):
    def correlation(x, y):
        spread = (plain_covariance(x, x) + 1e-5) * (plain_covariance(y, y) + 1e-5)
        return plain_covariance(x, y) / math.sqrt(spread)

    def loss(a, b):
        return math.fsum(
            (1 - correlation(x, y)) ** 2 if i == j else redundancy * correlation(x, y) ** 2
            for i, x in enumerate(columns(z, a))
            for j, y in enumerate(columns(z, b))
        )

    return mean(loss(a, b) for a, b in itertools.combinations(range(len(z[0])), 2))


PLAIN = {"simclr": plain_simclr, "vicreg": plain_vicreg, "barlow_twins": plain_barlow_twins}


def embeddings(images=5, views=3, dim=4, dtype=torch.float64):
    common = torch.randn(images, 1, dim, dtype=dtype)
    return common + 0.7 * torch.randn(images, views, dim, dtype=dtype) + 0.3


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    @pytest.mark.parametrize("views", [2, 3, 4])
    @pytest.mark.parametrize("scale", [0.4, 3.0])
    def test_equals_the_plain_formula(self, name, views, scale):
        loss, weights = LOSSES[name]
        z = scale * embeddings(views=views)
        plain = PLAIN[name](z.tolist(), **weights)
        assert loss(z, **weights).item() == pytest.approx(plain, rel=1e-12, abs=1e-12)

    @pytest.mark.parametrize("views", [2, 3])
    def test_gradient(self, name, views):
        loss, weights = LOSSES[name]
        z = 0.5 * embeddings(4, views, 3).requires_grad_()
        assert torch.autograd.gradcheck(lambda z: loss(z, **weights), z)

    def test_order_of_images_and_fixations_does_not_matter(self, name):
        loss, weights = LOSSES[name]
        z = embeddings(6, 4)
        other = z[torch.randperm(6)][:, torch.randperm(4)]
        torch.testing.assert_close(loss(other, **weights), loss(z, **weights))

    @pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
    def test_collapsed_embeddings_have_a_finite_loss_and_gradient(self, name, value):
        loss, weights = LOSSES[name]
        z = torch.full((3, 2, 4), value, requires_grad=True)
        total = loss(z, **weights)
        total.backward()
        assert total.isfinite()
        assert z.grad.isfinite().all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_is_computed_in_single_precision(self, name, dtype):
        loss, weights = LOSSES[name]
        z = embeddings(dtype=torch.float32).to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            total = loss(z, **weights)
        assert total.dtype == torch.float32
        assert torch.equal(total, loss(z.float(), **weights))

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ((4, 3), r"shape \[B, F, D\].* got \[4, 3\]"),
            ((4, 1, 3), r"at least 2 fixations F, got \[4, 1, 3\]"),
            ((0, 2, 3), r"got \[0, 2, 3\]"),
            ((1, 2, 3), "embeddings must be of at least 2 images, got those of 1"),
        ],
    )
    def test_of_another_shape(self, name, shape, message):
        loss, weights = LOSSES[name]
        with pytest.raises(ValueError, match=message):
            loss(torch.zeros(shape), **weights)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (torch.ones(4, 2, 3, dtype=torch.int64), r"got torch\.int64"),
            (torch.ones(4, 2, 3, dtype=torch.complex64), r"got torch\.complex64"),
            ([[[1.0], [2.0]]], r"got \[\[\[1\.0\], \[2\.0\]\]\]"),
            (None, "got None"),
        ],
    )
    def test_of_another_type(self, name, given, message):
        loss, weights = LOSSES[name]
        with pytest.raises(TypeError, match=f"embeddings must be a floating-point .*{message}"):
            loss(given, **weights)

    def test_weights_must_be_above_0(self, name):
        loss, weights = LOSSES[name]
        for weight in weights:
            with pytest.raises(ValueError, match=f"{weight} must be finite and above 0, got 0"):
                loss(embeddings(), **{**weights, weight: 0.0})


def test_alike_views_of_unlike_images_lose_little():
    z = torch.eye(8).unsqueeze(1).expand(8, 3, 8)
    assert simclr(z, temperature=0.02) < math.log(3)
    assert simclr(z, temperature=0.02) < simclr(embeddings(8, 3, 8).float(), temperature=0.02)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()


def losses_and_gradients(net, images):
    found = {}
    for name, (loss, weights) in LOSSES.items():
        net.zero_grad()
        total = loss(net(images).transpose(0, 1), **weights)  # not contiguous
        total.backward()
        found[name] = [total.detach(), *(p.grad.clone() for p in net.parameters())]
    return found


def one_of_two(rank, meeting, images, file):
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=2),
    )
    try:
        share = images.chunk(2, dim=1)[rank]
        torch.save(losses_and_gradients(DistributedDataParallel(network()), share), file)
    finally:
        torch.distributed.destroy_process_group()


def test_two_processes_with_half_the_images_each_are_as_one_with_all(tmp_path):
    images = torch.randn(3, 8, 6, dtype=torch.float64)
    tasks = [(rank, tmp_path / "meeting", images, tmp_path / f"{rank}.pt") for rank in range(2)]
    other = torch.multiprocessing.get_context("spawn").Process(target=one_of_two, args=tasks[1])
    other.start()
    one_of_two(*tasks[0])
    other.join()
    assert other.exitcode == 0
    alone = losses_and_gradients(network(), images)
    for *_, file in tasks:
        torch.testing.assert_close(torch.load(file), alone, rtol=1e-12, atol=1e-12)
