"""Two processes on the CPU, started once for all tests of this file."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from test_training import PICTURES, RECIPE, pictures, train
from torch import Tensor
from torch.testing import assert_close

from ddpm.networks import UNet
from ddpm.training import parallel
from ddpm.training.loop import Trainer

RECIPES = {"adamw": RECIPE, "muon": replace(RECIPE, matrix_lr=1e-2), "clipped": replace(RECIPE, clip_norm=1e-2)}


class Training(NamedTuple):
    losses: Tensor
    weights: dict[str, Tensor]


class Answers(NamedTuple):
    """What one of the processes found."""

    place: tuple[int, int]
    shared: list[int]
    anywhere: list[bool]
    trainings: dict[str, Training]


def trained(recipe) -> Training:
    torch.manual_seed(0)
    trainer = Trainer(UNet(PICTURES), recipe)
    losses = train(trainer, pictures(recipe))
    return Training(torch.stack(losses), trainer.network.state_dict())


def answer(rank, folder) -> None:
    """What each of the processes does; they meet in ``folder``."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    place, shared = (parallel.rank(), parallel.size()), parallel.share(torch.arange(6)).tolist()
    anywhere = [parallel.anywhere(flag) for flag in (rank == 1, False)]
    answers = Answers(place, shared, anywhere, {name: trained(recipe) for name, recipe in RECIPES.items()})
    torch.save(answers, folder / str(rank))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(answer, (folder,), nprocs=2)
    return [torch.load(folder / str(rank), weights_only=False) for rank in range(2)]


def test_each_process_knows_its_place_and_takes_its_share(both):
    assert [answers.place for answers in both] == [(0, 2), (1, 2)]
    assert [answers.shared for answers in both] == [[0, 1, 2], [3, 4, 5]]


def test_a_flag_that_one_process_raises_is_seen_by_all(both):
    assert [answers.anywhere for answers in both] == [[True, False], [True, False]]


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_have_the_losses_of_one_with_the_same_batch(both, name):
    """But for rounding: their sums are in another order."""
    with torch.random.fork_rng():
        losses = trained(RECIPES[name]).losses
    for answers in both:
        assert_close(answers.trainings[name].losses, losses, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_keep_the_same_weights_to_the_last_digit(both, name):
    first, second = (answers.trainings[name].weights for answers in both)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_a_process_alone_is_the_first_and_only_one():
    batch = torch.arange(6)
    assert (parallel.rank(), parallel.size()) == (0, 1)
    assert torch.equal(parallel.share(batch), batch)
    assert [parallel.anywhere(flag) for flag in (True, False)] == [True, False]


def test_a_batch_that_cannot_be_shared_equally_is_refused(monkeypatch):
    monkeypatch.setattr(parallel, "size", lambda: 3)
    with pytest.raises(ValueError, match=r"batch is 4 samples.*multiple of 3.*\.$"):
        Trainer(UNet(PICTURES), RECIPE)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    for name, value in (("TORCHELASTIC_RUN_ID", "run"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"Process 3 .* at most 2\.$"), parallel.joined("cuda"):
        pass
