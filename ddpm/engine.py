"""Carries out many visitors' work at once: one thread owns torch, batches what they ask the networks, hands on frames.

A job is a generator. It yields a frame to show, None for a step that shows nothing, or a ``Forward``, which the engine
answers with the network's output: rows of different jobs, at different steps, schedules, labels and guidance, go
through the network in one batch, since each row carries its own noise level.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm.algorithm import Lines, added, lines
from ddpm.process import Network, noise_from_x0
from ddpm.run import Run, begin, shown
from ddpm.sampling import Step
from ddpm.schedule import alpha_bar

log = logging.getLogger(__name__)

BATCH = 16
"""Rows of a forward pass: on two cores more are hardly cheaper a row, and the next visitor waits for them."""


MOST_JOBS = 32
"""Jobs under way at once; further ones wait, and are told their place."""


class Place(NamedTuple):
    """What a waiting job gives instead of a frame: its place in the queue, from 1, and about how long it has to wait.

    ``seconds`` is None until a job has ended from which it can be told.
    """

    number: int
    seconds: float | None


class Forward(NamedTuple):
    """What a job asks: the output of ``network`` for x (B, *D), log_snr (B,) and label (B,)."""

    network: Network
    x: Tensor
    log_snr: Tensor
    label: Tensor


Work = Generator[Any, Tensor | None, None]
"""A job's generator: yields frames, None or ``Forward``s, and is sent the output (B, *D) of the last ``Forward``."""

_END = object()


class Job:
    """Work under way, as its owner sees it: an asynchronous stream of frames that ends early once it is stopped."""

    def __init__(self, work: Work, owner: str):
        self.work, self.owner, self.stopped = work, owner, threading.Event()
        self.asked: Forward | None = None
        self.answers: list[Tensor] = []
        self.begun: float | None = None
        self.place: int | None = None
        self.served = 0
        """Rows computed for it: the engine serves those first who have had fewest."""
        self._loop, self._frames = asyncio.get_running_loop(), asyncio.Queue()

    async def next(self) -> Any | None:
        """The next frame, or None after the last. Raises RuntimeError if the computation failed."""
        frame = await self._frames.get()
        if isinstance(frame, Exception):
            raise RuntimeError("The computation of this run failed.") from frame
        return frame

    def put(self, frame: Any | Exception | None) -> None:
        """Called by the engine's thread; a loop that has closed has nobody left to tell, so the job ends."""
        try:
            self._loop.call_soon_threadsafe(self._frames.put_nowait, frame)
        except RuntimeError:
            self.stopped.set()

    def end(self) -> None:
        """Frees what the work holds and ends the stream."""
        self.work.close()
        self.put(None)

    @property
    def missing(self) -> int:
        """How many rows of what it asked are not computed yet."""
        return len(self.asked.x) - sum(map(len, self.answers)) if self.asked else 0


class Engine:
    """One job an owner: a new one replaces the old. ``batch`` is the most rows of a forward pass, ``most`` of jobs."""

    def __init__(self, batch: int = BATCH, most: int = MOST_JOBS):
        self._batch, self._most = batch, most
        self._jobs: list[Job] = []
        self._durations: deque[float] = deque(maxlen=20)
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    def submit(self, work: Work, owner: str) -> Job:
        """Starts the work; must be called on the event loop that will await its frames."""
        self.stop(owner)
        job = Job(work, owner)
        with self._changed:
            job.served = min((other.served for other in self._jobs), default=0)
            self._jobs.append(job)
            self._changed.notify()
        return job

    def stop(self, owner: str) -> None:
        """Ends the owner's job before its next step; its stream ends with the frames computed so far."""
        with self._changed:
            for job in self._jobs:
                if job.owner == owner:
                    job.stopped.set()

    def drop(self, job: Job) -> None:
        """Ends one job, for an owner who no longer listens to it."""
        job.stopped.set()

    def active(self) -> int:
        """The number of jobs under way."""
        with self._changed:
            return len(self._jobs)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs)
                self._jobs = [job for job in self._jobs if not self._is_stopped(job)]
                jobs, waiting = self._jobs[: self._most], self._jobs[self._most :]
            self._tell_places(waiting)
            ended = {job for job in jobs if not job.missing and not _advance(job)}
            ended |= _serve([job for job in jobs if job not in ended and job.asked], self._batch)
            for job in ended:
                self._durations.append(time.monotonic() - job.begun)
                job.end()
            with self._changed:
                self._jobs = [job for job in self._jobs if job not in ended]

    def _is_stopped(self, job: Job) -> bool:
        if job.stopped.is_set():
            job.end()
        return job.stopped.is_set()

    def _tell_places(self, waiting: list[Job]) -> None:
        """Tells each waiting job its place if that has changed: one job ends about every mean duration / ``most``."""
        pace = sum(self._durations) / len(self._durations) / self._most if self._durations else None
        for number, job in enumerate(waiting, 1):
            if job.place != number:
                job.place = number
                job.put(Place(number, pace and pace * number))


def _advance(job: Job) -> bool:
    """Takes ``job`` to its next question, or by one step if it asks nothing; says whether more is to come."""
    answer = torch.cat(job.answers) if job.asked else None
    job.begun = job.begun or time.monotonic()
    job.asked, job.answers = None, []
    try:
        said = job.work.send(answer)
        while answer is not None and said is not None and not isinstance(said, Forward):
            job.put(said)
            said = job.work.send(None)
    except StopIteration:
        return False
    except Exception as error:
        log.exception("The work of %s failed", job.owner)
        job.put(error)
        return False
    if isinstance(said, Forward):
        job.asked = said
    elif said is not None:
        job.put(said)
    return True


@torch.inference_mode()
def _serve(asking: list[Job], most: int) -> set[Job]:
    """One forward pass of at most ``most`` rows, those served least first; returns the jobs that it failed for."""
    if not asking:
        return set()
    asking = sorted(asking, key=lambda job: job.served)
    network, taken, room = asking[0].asked.network, {}, most
    for job in asking:
        if job.asked.network is network and room:
            taken[job] = min(job.missing, room)
            room -= taken[job]
    try:
        parts = [_part(job, count) for job, count in taken.items()]
        output = network(*(torch.cat(values) for values in zip(*parts)))
    except Exception as error:
        log.exception("A forward pass for %d jobs failed", len(taken))
        for job in taken:
            job.put(error)
        return set(taken)
    for job, rows in zip(taken, output.split(list(taken.values()))):
        job.answers.append(rows)
        job.served += len(rows)
    return set()


def _part(job: Job, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments of the next ``count`` rows that ``job`` waits for."""
    first = len(job.asked.x) - job.missing
    return tuple(value[first : first + count] for value in job.asked[1:])


class Frame(NamedTuple):
    """One shown step: x, x0 and the noise predicted from it (count, *D) float32, ᾱ the share of the signal's variance left.

    ``lines`` are the numbers of the step that follows and ``added`` (count, *D) what it adds to its mean, as
    ``ddpm.algorithm`` says. No step follows the last state: it has no lines, and its noise is 0.
    """

    index: int
    log_snr: float
    alpha_bar: float
    x: np.ndarray
    x0: np.ndarray
    noise: np.ndarray
    lines: Lines | None
    added: np.ndarray | None
    seconds: float
    """Since the computation began."""


@torch.no_grad()
def frames(run: Run, network: Network) -> Work:
    """The job of ``run`` on ``network``: the steps worth showing as frames, each once the state after it is known."""
    begun, worth_showing = time.monotonic(), shown(run.steps)
    path, guided = begin(run, network.config)
    query = next(path)
    while query.index != 0:
        output = yield Forward(network, *guided.rows(query.x, query.log_snr))
        x0 = guided.x0(query.x, query.log_snr, output)
        if query.index is not None:
            step = Step(*query, x0)
        query = path.send(x0)
        if query.index is not None and step.index in worth_showing:
            noise = noise_from_x0(step.x, step.x0, step.log_snr)
            numbers, rest = lines(run, step.log_snr, query.log_snr), added(run, step, query.log_snr, query.x)
            yield _frame(step, noise, numbers, rest, begun)
    yield _frame(Step(*query, query.x), torch.zeros_like(query.x), None, None, begun)


def _frame(step: Step, noise: Tensor, numbers: Lines | None, rest: Tensor | None, begun: float) -> Frame:
    pictures = [value.contiguous().numpy() for value in (step.x, step.x0, noise)]
    rest = None if rest is None else rest.contiguous().numpy()
    level = float(step.log_snr), float(alpha_bar(step.log_snr))
    return Frame(step.index, *level, *pictures, numbers, rest, time.monotonic() - begun)
