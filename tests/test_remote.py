"""Replicas under Ray Serve compute what a network in this process does, and the death of one costs only its batch."""

import asyncio
import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ddpm.checkpoint import load_network
from ddpm.lessons.pictures.frames import frames
from ddpm.lessons.pictures.run import Run, perform
from ddpm.networks import UNetConfig
from ddpm.serving.backend import BackendError
from ddpm.serving.engine import Engine
from ddpm.serving.remote import PATIENCE, RemoteNetwork, Replica, replicated

with_ray = pytest.mark.skipif(not find_spec("ray"), reason="Ray Serve is not installed; requirements-ray.txt has it")

MNIST = Path(__file__).parents[1] / "checkpoints" / "mnist.safetensors"
DEADLY = 7
"""The label that kills the process which is asked about it."""


def mortal() -> nn.Module:
    """A network that answers 0; its class is defined here, so that it travels to replicas, which know no tests."""

    class Mortal(nn.Module):
        config = UNetConfig(shape=(1, 4, 4), num_classes=10)

        def forward(self, x, log_snr, label):
            if DEADLY in label.tolist():
                os._exit(1)
            return torch.zeros_like(x)

    return Mortal()


class Handle:
    """As a deployment's, with one replica in this process: arrays that cannot be written to go to it."""

    def __init__(self, replica):
        self.replica, self.asked = replica, []

    def remote(self, name, *arrays):
        for array in arrays:
            array.setflags(write=False)
        self.asked.append((name, *map(type, arrays)))

        def result(timeout_s):
            assert timeout_s == PATIENCE
            return self.replica(name, *arrays)

        return SimpleNamespace(result=result)


def test_what_a_replica_is_asked_are_arrays_and_its_answer_is_the_networks(networks):
    handle = Handle(Replica(networks, "torch", threads=1))
    network = RemoteNetwork("mnist", networks["mnist"].config, handle)
    run = Run(count=3, steps=3, guidance=1.5, seed=1)
    for told, state in zip(perform(run, network), perform(run, networks["mnist"]), strict=True):
        np.testing.assert_allclose(told.x, state.x, atol=1e-4)
    assert handle.asked == [("mnist", np.ndarray, np.ndarray, np.ndarray)] * 3


@with_ray
@pytest.mark.slow
def test_ray_that_cannot_start_is_one_sentence(monkeypatch):
    import ray

    def fail(*_, **__):
        raise RuntimeError("no memory to share\nand more")

    monkeypatch.setattr(ray, "init", fail)
    with (
        pytest.raises(BackendError, match="^Ray cannot start 3 replicas here: no memory to share$"),
        replicated({"mortal": mortal()}, replicas=3),
    ):
        pass


@pytest.fixture(scope="module")
def networks():
    return {"mnist": load_network(MNIST).network, "mortal": mortal()}


@pytest.fixture(scope="module")
def remote(networks):
    with replicated(networks, replicas=2, backend="torch") as served:
        yield served


async def outcomes(engine, network, runs):
    """What became of ``runs`` submitted together: their frames, or the error."""

    async def follow(job):
        told = []
        while (frame := await job.next()) is not None:
            told.append(frame)
        return told

    jobs = [engine.submit(frames(run, network), str(number)) for number, run in enumerate(runs)]
    return await asyncio.gather(*map(follow, jobs), return_exceptions=True)


@with_ray
@pytest.mark.slow
def test_runs_on_replicas_give_the_pictures_of_the_network_in_this_process(networks, remote):
    runs = [Run(count=5, steps=4, seed=1), Run(label="3", count=2, steps=3, guidance=1.5, eta=1.0, seed=2)]
    found = asyncio.run(outcomes(Engine(batch=4, parallel_batches=2), remote["mnist"], runs))
    for run, told in zip(runs, found, strict=True):
        for frame, state in zip(told, perform(run, networks["mnist"]), strict=True):
            assert frame.index == state.index
            np.testing.assert_allclose(frame.x, state.x, atol=1e-4)


@with_ray
@pytest.mark.slow
def test_a_replica_that_dies_ends_only_the_runs_in_its_batch_and_the_next_run_works(remote):
    async def scenario():
        engine, network = Engine(batch=1, parallel_batches=2), remote["mortal"]
        runs = [Run(label=label, count=1, steps=20) for label in ("1", str(DEADLY), "3")]
        first, died, last = await outcomes(engine, network, runs)
        assert [len(first), len(last)] == [21, 21]
        assert isinstance(died, RuntimeError)
        assert str(died) == "The computation of this run failed."
        (again,) = await outcomes(engine, network, [Run(label="1", count=4, steps=5)])
        assert [frame.index for frame in again] == [5, 4, 3, 2, 1, 0]

    asyncio.run(scenario())
