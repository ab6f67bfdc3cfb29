"""What processes agree on: the parts that need no second process."""

from types import SimpleNamespace

import pytest
import torch

from fovigraph.train import load_recipe
from fovigraph.train.processes import Processes


@pytest.fixture
def alone(tmp_path):
    return Processes(load_recipe("fovi_tiny", ["train.accelerator=cpu"]), tmp_path)


def process(alone, rank, world_size):
    alone.fabric = SimpleNamespace(
        global_rank=rank, world_size=world_size, is_global_zero=rank == 0
    )
    return alone


def test_one_process_gathers_its_own(alone):
    values = torch.rand(3)
    assert torch.equal(alone.gather(values), values[None])
    assert torch.equal(alone.share(alone.gather(values)), values)


@pytest.mark.parametrize("rank", [0, 1])
def test_as_many_processes_as_before_get_their_own(alone, rank):
    every = torch.rand(2, 3)
    assert torch.equal(process(alone, rank, 2).share(every), every[rank])


@pytest.mark.parametrize("before", [0, 1, 3])
def test_more_or_fewer_processes_keep_the_sum(alone, before):
    every = torch.rand(before, 3)
    shares = [process(alone, rank, 2).share(every) for rank in range(2)]
    assert torch.equal(shares[0], every.sum(0))
    assert torch.equal(shares[1], torch.zeros(3))
