import asyncio
import itertools
import math
import re
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ddpm.lessons.pictures.frames import frames
from ddpm.lessons.pictures.run import Run, perform
from ddpm.lessons.shown import shown
from ddpm.networks import UNet, UNetConfig
from ddpm.sampling import SAMPLERS
from ddpm.schedule import alpha_bar
from ddpm.serving import engine as engines
from ddpm.serving.engine import ENOUGH, MOST_UNREAD, Engine, Full, QueuePosition

PATIENCE = 20
"""Seconds until a test that waits in vain fails."""


class Gate(nn.Module):
    """A network that answers 0 and counts its calls; while ``shut`` lets through as many as ``admit`` has granted."""

    config = SimpleNamespace(shape=(1, 2, 2), num_classes=10, prediction="v")

    def __init__(self, shut=False):
        super().__init__()
        self.shut, self.calls, self.granted = shut, 0, threading.Semaphore(0)

    def forward(self, x, log_snr, label):
        if self.shut:
            assert self.granted.acquire(timeout=PATIENCE), "nobody has opened the gate"
        self.calls += 1
        return torch.zeros_like(x)

    def admit(self, calls):
        self.granted.release(calls)

    def open(self):
        self.shut = False
        self.granted.release(100)  # whoever waits already


class Broken(Gate):
    def forward(self, x, log_snr, label):
        super().forward(x, log_snr, label)
        raise ArithmeticError("no number")


def submit(engine, network, run, owner="anybody"):
    return engine.submit(frames(run, network), owner)


async def frames_of(job):
    return [frame async for frame in stream(job)]


async def stream(job):
    while (frame := await next_of(job)) is not None:
        yield frame


async def next_of(job):
    return await asyncio.wait_for(job.next(), PATIENCE)


async def idle(engine):
    """Returns once no run is under way."""

    async def poll():
        while engine.active():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(poll(), PATIENCE)


def finished(network, run, engine=None):
    async def wait():
        return await frames_of(submit(engine or Engine(), network, run))

    return asyncio.run(wait())


# --- the frames of one run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 99, 130])
def test_the_frames_of_a_run_are_its_shown_steps_from_T_to_0(steps):
    frames = finished(Gate(), Run(steps=steps, count=1))
    assert [frame.index for frame in frames] == sorted(shown(steps), reverse=True)


def test_the_last_frame_is_the_clean_sample():
    last = finished(Gate(), Run(steps=3, count=2))[-1]
    assert last.index == 0
    assert np.array_equal(last.x, last.x0)
    assert (last.alpha_bar, last.log_snr) == (1, math.inf)


def test_the_seconds_of_frames_grow():
    seconds = [frame.seconds for frame in finished(Gate(), Run(steps=5, count=1))]
    assert 0 < seconds[0] < PATIENCE
    assert seconds == sorted(seconds)


def test_who_waits_for_frames_to_gather_does_not_outwait_the_last():
    async def wait():
        job = submit(Engine(), Gate(), Run(steps=5, count=1))
        await job.wait_for_frames(0)  # nothing has come yet, and nothing is lost
        await asyncio.wait_for(job.wait_for_frames(2 * PATIENCE), PATIENCE)
        return await frames_of(job)

    assert [frame.index for frame in asyncio.run(wait())] == [5, 4, 3, 2, 1, 0]


def test_the_event_loop_is_roused_only_for_what_is_waited_for():
    async def wait():
        loop, roused = asyncio.get_running_loop(), []
        really = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *call: (roused.append(call), really(*call))
        job = submit(Engine(), Gate(), Run(steps=9, count=1))
        await asyncio.wait_for(job.wait_for_frames(2 * PATIENCE, 9), PATIENCE)
        return len(roused), await frames_of(job)

    times, found = asyncio.run(wait())
    assert len(found) == 10
    assert times <= 4  # for the nine frames, perhaps for the tenth, and for the end


@pytest.mark.parametrize("count", [1, ENOUGH])
def test_who_waits_for_a_number_of_frames_has_them_before_the_last(count):
    async def wait():
        job, unread = submit(Engine(), Gate(), Run(steps=1000, count=1)), []
        for _ in range(2):
            await asyncio.wait_for(job.wait_for_frames(2 * PATIENCE, count), PATIENCE)
            unread.append(len(job._frames))
            for _ in range(count):
                await job.next()
        job.stopped.set()
        return unread

    assert min(asyncio.run(wait())) >= count


@pytest.fixture
def network():
    """A tiny U-Net for ten classes, every weight random."""
    config = UNetConfig(shape=(1, 4, 4), num_classes=10, channels=(8, 8), blocks=(1, 1), embedding=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(config).eval()
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    return network


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_frames_are_the_states_of_the_run_carried_out_alone(network, eta):
    run = Run(steps=6, count=3, eta=eta, guidance=1.5, seed=8)
    for frame, state in zip(finished(network, run), perform(run, network), strict=True):
        assert (frame.index, frame.log_snr) == (state.index, state.log_snr.item())
        assert frame.alpha_bar == alpha_bar(state.log_snr).item()
        for ours, theirs in ((frame.x, state.x), (frame.x0, state.x0)):
            assert ours.dtype == np.float32
            assert np.array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [5, 120])
def test_every_frame_leads_to_the_state_after_it_even_if_that_is_not_shown(sampler, steps):
    run = Run(steps=steps, count=2, eta=0.5, sampler=sampler)
    states = {state.index: state for state in perform(run, Gate())}
    *frames, last = finished(Gate(), run)
    for frame in frames:
        draws = sampler in ("ddim", "ddpm-beta")
        mean = frame.lines.on_x * frame.x + frame.lines.on_x0 * frame.x0
        after = mean + (frame.lines.own_std if draws else 1) * frame.added
        assert_close(after, states[frame.index - 1].x.numpy(), atol=1e-5, rtol=1e-4)
        assert_close(frame.lines.root * frame.x0 + frame.lines.sigma * frame.noise, frame.x, atol=1e-5, rtol=1e-4)
    assert last.lines is None and last.added is None and not last.noise.any()


def test_a_frame_keeps_its_values_while_the_run_goes_on():
    async def scenario():
        job = submit(Engine(), Gate(), Run(steps=8, count=2))
        first, *others = [(frame, frame.x.copy(), frame.x0.copy()) async for frame in stream(job)]
        for frame, x, x0 in (first, *others):
            assert np.array_equal(frame.x, x)
            assert np.array_equal(frame.x0, x0)
        assert all(np.abs(first[0].x - frame.x).max() > 1e-4 for frame, _, _ in others)

    asyncio.run(scenario())


# --- several owners -------------------------------------------------------------------------------------------------


def test_runs_of_two_owners_take_turns_and_both_finish():
    async def scenario():
        networks, calls = {"a": Gate(shut=True), "b": Gate(shut=True)}, []
        for owner, network in networks.items():
            network.register_forward_hook(lambda *_, owner=owner: calls.append(owner))
        engine = Engine()
        jobs = [submit(engine, network, Run(steps=20, count=1), owner) for owner, network in networks.items()]
        for network in networks.values():
            network.open()
        for found in await asyncio.gather(*map(frames_of, jobs)):
            assert [frame.index for frame in found] == list(range(20, -1, -1))
        assert re.fullmatch("a?(ab)+b?", "".join(calls))  # the first may have begun before the second was submitted
        assert len(calls) == 40

    asyncio.run(scenario())


def test_a_new_run_of_an_owner_ends_the_older_one_early():
    async def scenario():
        network = Gate(shut=True)
        engine = Engine()
        older = submit(engine, network, Run(steps=50, count=1), "a")
        network.admit(2)
        assert (await next_of(older)).index == 50
        newer = submit(engine, network, Run(steps=5, count=1), "a")
        network.open()
        assert len(await frames_of(older)) <= 3
        assert [frame.index for frame in await frames_of(newer)] == [5, 4, 3, 2, 1, 0]

    asyncio.run(scenario())


def test_runs_without_an_owner_replace_none():
    async def scenario():
        engine = Engine()
        jobs = [submit(engine, Gate(), Run(steps=5, count=1), None) for _ in range(2)]
        for job in jobs:
            assert [frame.index for frame in await frames_of(job)] == [5, 4, 3, 2, 1, 0]

    asyncio.run(scenario())


def end_by_stop(engine, job):
    engine.stop(job.owner)


def end_by_drop(engine, job):
    engine.drop(job)


@pytest.mark.parametrize("end", [end_by_stop, end_by_drop])
def test_a_run_that_is_ended_early_calls_the_network_no_more(end):
    async def scenario():
        network = Gate(shut=True)
        engine = Engine()
        job = submit(engine, network, Run(steps=50, count=1), "a")
        network.admit(2)
        for index in (50, 49):
            assert (await next_of(job)).index == index
        end(engine, job)
        network.open()
        rest = await frames_of(job)
        await idle(engine)
        assert len(rest) <= 1  # the step that was being computed
        assert network.calls <= 3
        calls = network.calls
        assert len(await frames_of(submit(engine, network, Run(steps=4, count=1), "b"))) == 5
        assert network.calls == calls + 4

    asyncio.run(scenario())


def test_stopping_an_owner_leaves_the_runs_of_others_alone():
    async def scenario():
        network = Gate(shut=True)
        engine = Engine()
        jobs = [submit(engine, network, Run(steps=9, count=1), owner) for owner in ("a", "b")]
        engine.stop("a")
        engine.stop("nobody")
        network.open()
        assert len(await frames_of(jobs[0])) <= 1
        assert len(await frames_of(jobs[1])) == 10

    asyncio.run(scenario())


# --- one forward pass for many ----------------------------------------------------------------------------------------

COMPANY = [
    Run(count=3, steps=4, seed=1),
    Run(label="any", count=1, steps=9, schedule="linear", eta=1.0, seed=2),
    Run(label="7", count=5, steps=6, schedule="sigmoid", sampler="heun", guidance=2.0, seed=3),
    Run(count=2, steps=7, schedule="polynomial", sampler="dpm-solver++", seed=4),
]


async def in_company(network, runs, batch, parallel_batches=1):
    """The frames of ``runs`` submitted together, each with an owner of its own."""
    engine = Engine(batch, parallel_batches=parallel_batches)
    jobs = [submit(engine, network, run, str(number)) for number, run in enumerate(runs)]
    return await asyncio.gather(*map(frames_of, jobs))


@pytest.mark.parametrize(("batch", "parallel_batches"), [(1, 1), (4, 1), (64, 1), (1, 3), (4, 2)])
def test_a_run_in_company_gives_the_pictures_it_gives_alone(network, batch, parallel_batches):
    for run, found in zip(COMPANY, asyncio.run(in_company(network, COMPANY, batch, parallel_batches)), strict=True):
        for frame, state in zip(found, perform(run, network), strict=True):
            assert frame.index == state.index
            np.testing.assert_allclose(frame.x, state.x, atol=1e-4)
            np.testing.assert_allclose(frame.x0, state.x0, atol=1e-4)


class Counting(Gate):
    """Keeps the number of rows of each call, and their labels."""

    def __init__(self):
        super().__init__(shut=True)
        self.rows, self.labels = [], []

    def forward(self, x, log_snr, label):
        self.rows.append(len(x))
        self.labels.append(label.tolist())
        return super().forward(x, log_snr, label)


def test_runs_share_forward_passes_and_none_has_more_rows_than_the_batch():
    async def scenario():
        network, engine = Counting(), Engine(batch=8)
        jobs = [submit(engine, network, Run(count=4, steps=10), owner) for owner in "abcd"]
        network.open()
        await asyncio.gather(*map(frames_of, jobs))
        assert max(network.rows) == 8
        assert sum(network.rows) == 4 * 4 * 10
        assert len(network.rows) <= 20 + 2  # the first call may have begun before the others were there

    asyncio.run(scenario())


def test_a_run_larger_than_the_batch_is_computed_in_parts():
    async def scenario():
        network = Counting()
        job = submit(Engine(batch=8), network, Run(count=20, steps=2))
        network.open()
        assert len(await frames_of(job)) == 3
        assert network.rows == [8, 8, 4] * 2

    asyncio.run(scenario())


def test_a_small_run_beside_a_large_one_gets_as_many_rows():
    async def scenario():
        network, engine = Counting(), Engine(batch=4)
        large = submit(engine, network, Run(label="1", count=25, steps=100), "large")
        small = submit(engine, network, Run(label="7", count=1, steps=8), "small")
        network.open()
        await frames_of(small)
        engine.drop(large)
        last = max(call for call, labels in enumerate(network.labels) if 7 in labels)
        before = [label for labels in network.labels[: last + 1] for label in labels]
        assert before.count(7) == 8
        assert before.count(1) <= 8 + 25 + 4 * 2  # what it had before, a step of its own, and the rest of two batches

    asyncio.run(scenario())


# --- several forward passes at the same time ---------------------------------------------------------------------------


class Meeting(Gate):
    """Every call waits until as many others as ``together`` says are under way, and keeps its number of rows."""

    def __init__(self, together):
        super().__init__()
        self.barrier, self.rows = threading.Barrier(together, timeout=PATIENCE), []

    def forward(self, x, log_snr, label):
        self.rows.append(len(x))
        self.barrier.wait()
        return super().forward(x, log_snr, label)


def test_each_lane_has_a_forward_pass_of_its_own():
    network = Meeting(together=2)
    assert len(finished(network, Run(count=8, steps=5), Engine(batch=4, parallel_batches=2))) == 6
    assert network.rows == [4] * 2 * 5


def test_the_rows_of_a_lone_run_are_shared_out_among_the_lanes():
    network = Meeting(together=3)
    assert len(finished(network, Run(count=6, steps=2), Engine(batch=16, parallel_batches=3))) == 3
    assert network.rows == [2] * 3 * 2


def test_a_run_stopped_while_its_rows_are_under_way_leaves_the_lane_to_others():
    async def scenario():
        network, engine = Gate(shut=True), Engine(batch=1, parallel_batches=2)
        stopped = submit(engine, network, Run(count=2, steps=5), "a")
        network.admit(1)
        engine.stop("a")
        assert await frames_of(stopped) == []
        network.open()
        assert len(await frames_of(submit(engine, Gate(), Run(count=3, steps=4), "a"))) == 5
        await idle(engine)

    asyncio.run(scenario())


# --- owners that do not keep up -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel_batches", [1, 2])
def test_a_job_pauses_while_its_owner_leaves_frames_unread_and_loses_none(parallel_batches):
    async def scenario():
        network, other, engine = Gate(), Gate(), Engine(parallel_batches=parallel_batches)
        slow = submit(engine, network, Run(count=1, steps=60), "slow")
        assert len(await frames_of(submit(engine, other, Run(count=1, steps=90), "quick"))) == 91
        assert network.calls <= MOST_UNREAD + 1
        assert [frame.index for frame in await frames_of(slow)] == list(range(60, -1, -1))
        assert network.calls == 60

    asyncio.run(scenario())


def test_a_paused_job_that_is_dropped_leaves_the_engine():
    async def scenario():
        engine = Engine()
        job = submit(engine, Gate(), Run(count=1, steps=90), "a")
        assert len(await frames_of(submit(engine, Gate(), Run(count=1, steps=40), "b"))) == 41
        engine.drop(job)
        await idle(engine)

    asyncio.run(scenario())


# --- when there are too many ----------------------------------------------------------------------------------------


def test_jobs_beyond_the_most_wait_are_told_their_place_and_follow_in_turn():
    async def scenario():
        network, engine = Gate(shut=True), Engine(most=2)
        jobs = [submit(engine, network, Run(count=1, steps=3), owner) for owner in "abcd"]
        network.admit(1)
        assert await next_of(jobs[2]) == QueuePosition(1, None)
        assert await next_of(jobs[3]) == QueuePosition(2, None)
        network.open()
        for job in jobs[:2]:
            assert [frame.index for frame in await frames_of(job)] == [3, 2, 1, 0]
        for job in jobs[2:]:
            told = await frames_of(job)
            places = [place for place in told if isinstance(place, QueuePosition)]
            assert all(place.number == 1 and place.seconds > 0 for place in places)
            assert [frame.index for frame in told[len(places) :]] == [3, 2, 1, 0]

    asyncio.run(scenario())


def test_a_waiting_job_that_is_stopped_leaves_the_queue():
    async def scenario():
        network, engine = Gate(shut=True), Engine(most=1)
        jobs = [submit(engine, network, Run(count=1, steps=3), owner) for owner in "abc"]
        network.admit(1)
        assert (await next_of(jobs[1])).number == 1
        assert (await next_of(jobs[2])).number == 2
        engine.stop("b")
        network.open()
        assert await frames_of(jobs[1]) == []
        assert [frame.index for frame in await frames_of(jobs[2]) if not isinstance(frame, QueuePosition)] == [
            3,
            2,
            1,
            0,
        ]

    asyncio.run(scenario())


# --- many addresses ---------------------------------------------------------------------------------------------------


async def steady(engine, jobs):
    """Returns once every job of ``jobs`` has a frame or has been told its place."""
    while not all(job.unread for job in jobs):
        await asyncio.sleep(0.001)


def test_a_newcomer_need_not_wait_for_the_many_jobs_of_another_address():
    async def scenario():
        network, engine = Gate(), Engine(most=4)
        many = [engine.submit(frames(Run(count=1, steps=1000), network), None, "many") for _ in range(40)]
        await asyncio.wait_for(steady(engine, many), PATIENCE)
        newcomer = engine.submit(frames(Run(count=1, steps=5), network), None, "one")
        found = await frames_of(newcomer)
        assert [frame.index for frame in found] == [5, 4, 3, 2, 1, 0]
        for job in many:
            engine.drop(job)
        await idle(engine)

    asyncio.run(scenario())


def test_two_addresses_get_as_many_rows_however_many_jobs_each_has():
    async def scenario():
        network, engine = Slow(), Engine(batch=2)
        many = [engine.submit(frames(Run(label="1", count=2, steps=1000), network), None, "many") for _ in range(10)]
        one = engine.submit(frames(Run(label="7", count=2, steps=15), network), None, "one")
        network.open()
        await frames_of(one)
        for job in many:
            engine.drop(job)
        last = max(call for call, labels in enumerate(network.labels) if 7 in labels)
        labels = [label for labels in network.labels[: last + 1] for label in labels]
        assert labels.count(7) == 30
        assert labels.count(1) <= 60  # as many, twice over since the shares are measured in time

    asyncio.run(scenario())


class Slow(Counting):
    """Takes so long for a forward pass that nothing else counts."""

    def forward(self, x, log_snr, label):
        time.sleep(0.005)
        return super().forward(x, log_snr, label)


def test_jobs_that_compute_on_their_own_hold_up_no_other_address():
    async def scenario():
        engine, calls = Engine(), []

        def busy(number):
            while True:
                calls.append(number)
                time.sleep(engines.TURN / 3)
                yield None

        many = [engine.submit(busy(number), None, "many") for number in range(20)]
        while not calls:
            await asyncio.sleep(0.001)
        before = len(calls)
        assert len(await frames_of(engine.submit(frames(Run(count=1, steps=10), Gate()), None, "one"))) == 11
        assert len(calls) - before <= 12 * 5  # a turn of three or four calls for each step, not twenty
        for job in many:
            engine.drop(job)
        await idle(engine)

    asyncio.run(scenario())


def test_of_a_kind_only_so_many_are_under_way_and_those_that_wait_do_nothing():
    async def scenario():
        engine, gate, begun = Engine(most_of_kind={"training": 2}), threading.Event(), []

        def work(number):
            begun.append(number)
            while not gate.is_set():
                time.sleep(0.001)
                yield None
            yield number

        jobs = [engine.submit(work(number), None, kind="training") for number in range(4)]
        assert await next_of(jobs[3]) == QueuePosition(2, None)
        assert len(await frames_of(submit(engine, Gate(), Run(count=1, steps=3)))) == 4
        assert sorted(begun) == [0, 1]
        gate.set()
        found = [await frames_of(job) for job in jobs]
        assert [told[-1] for told in found] == [0, 1, 2, 3]

    asyncio.run(scenario())


def test_an_address_has_so_many_jobs_and_all_together_have_so_many(monkeypatch):
    monkeypatch.setattr(engines, "MOST_OF_ADDRESS", 2)
    monkeypatch.setattr(engines, "MOST_IN_ALL", 3)

    async def scenario():
        network, engine = Gate(shut=True), Engine()
        run = Run(count=1, steps=3)
        kept = [engine.submit(frames(run, network), None, "here") for _ in range(2)]
        assert "Your address has 2 runs" in engine.full("here") and not engine.full("elsewhere")
        with pytest.raises(Full, match="Your address"):
            engine.submit(frames(run, network), None, "here")
        kept.append(engine.submit(frames(run, network), None, "elsewhere"))
        with pytest.raises(Full, match="There are 3 runs"):
            engine.submit(frames(run, network), None, "a third")
        engine.drop(kept[0])
        kept[0] = engine.submit(frames(run, network), None, "here")
        network.open()
        assert [len(await frames_of(job)) for job in kept] == [4, 4, 4]

    asyncio.run(scenario())


def test_a_new_run_of_an_owner_takes_the_place_of_the_old_where_no_more_are_taken(monkeypatch):
    monkeypatch.setattr(engines, "MOST_OF_ADDRESS", 1)

    async def scenario():
        network, engine = Gate(shut=True), Engine()
        older = engine.submit(frames(Run(count=1, steps=9), network), "page", "here")
        newer = engine.submit(frames(Run(count=1, steps=3), network), "page", "here")
        network.open()
        assert len(await frames_of(older)) <= 1
        assert len(await frames_of(newer)) == 4

    asyncio.run(scenario())


# --- when something goes wrong --------------------------------------------------------------------------------------


def test_a_failing_network_is_told_to_its_owner_and_the_engine_serves_the_next_run():
    async def scenario():
        engine = Engine()
        with pytest.raises(RuntimeError, match="failed") as failure:
            await frames_of(submit(engine, Broken(), Run(steps=3, count=1), "a"))
        assert isinstance(failure.value.__cause__, ArithmeticError)
        assert len(await frames_of(submit(engine, Gate(), Run(steps=3, count=1), "a"))) == 4
        await idle(engine)

    asyncio.run(scenario())


class FailsOnce(Gate):
    """Fails at its first call, for the rows in that batch."""

    def __init__(self, **options):
        super().__init__(**options)
        self.turns = itertools.count()  # of which two parallel_batches cannot take the same

    def forward(self, x, log_snr, label):
        first = next(self.turns) == 0
        output = super().forward(x, log_snr, label)
        if first:
            raise ArithmeticError("no number")
        return output


@pytest.mark.parametrize("parallel_batches", [1, 2])
def test_a_forward_pass_that_fails_ends_only_the_runs_in_it(parallel_batches):
    async def scenario():
        network, engine = FailsOnce(shut=True), Engine(batch=2, parallel_batches=parallel_batches)
        jobs = [submit(engine, network, Run(count=2, steps=6), owner) for owner in "abc"]
        network.open()
        found = await asyncio.gather(*map(frames_of, jobs), return_exceptions=True)
        failed = [outcome for outcome in found if isinstance(outcome, RuntimeError)]
        assert [str(error) for error in failed] == ["The computation of this run failed."]
        assert [len(told) for told in found if isinstance(told, list)] == [7, 7]
        assert len(await frames_of(submit(engine, network, Run(count=1, steps=3), "a"))) == 4
        await idle(engine)

    asyncio.run(scenario())


def test_a_failing_run_does_not_disturb_one_under_way():
    async def scenario():
        good, bad = Gate(shut=True), Broken()
        engine = Engine()
        jobs = [submit(engine, network, Run(steps=9, count=1), owner) for owner, network in (("a", good), ("b", bad))]
        good.open()
        assert len(await frames_of(jobs[0])) == 10
        with pytest.raises(RuntimeError):
            await frames_of(jobs[1])

    asyncio.run(scenario())


def test_an_event_loop_that_has_closed_leaves_the_engine_working():
    network = Gate(shut=True)
    engine = Engine()

    async def abandoned():
        network.admit(1)
        job = submit(engine, network, Run(steps=5, count=1), "a")
        assert (await next_of(job)).index == 5

    asyncio.run(abandoned())
    network.open()
    assert [frame.index for frame in finished(network, Run(steps=3, count=1), engine)] == [3, 2, 1, 0]
    asyncio.run(idle(engine))


def test_a_run_whose_event_loop_has_closed_leaves_the_engine():
    engine, closed = Engine(), threading.Event()

    def endless():
        yield 0
        closed.wait(PATIENCE)
        while True:
            yield 0

    async def abandoned():
        await next_of(engine.submit(endless()))

    asyncio.run(abandoned())
    closed.set()
    asyncio.run(idle(engine))


def test_a_run_may_be_submitted_only_where_its_frames_can_be_awaited():
    with pytest.raises(RuntimeError):
        submit(Engine(), Gate(), Run())
