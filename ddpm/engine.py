"""Carries out many visitors' work at once: one thread owns torch, takes a step of each job in turn, and hands on frames.

A job is an iterator: each ``next`` is one step, and yields a frame to show, or None if the step shows nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from ddpm.run import Run, perform, shown
from ddpm.sampling import Step
from ddpm.schedule import alpha_bar

log = logging.getLogger(__name__)

_END = object()


class Job:
    """Work under way, as its owner sees it: an asynchronous stream of frames that ends early once it is stopped."""

    def __init__(self, steps: Iterator[Any | None], owner: str):
        self.steps, self.owner, self.stopped = steps, owner, threading.Event()
        self._loop, self._frames = asyncio.get_running_loop(), asyncio.Queue()

    async def next(self) -> Any | None:
        """The next frame, or None after the last. Raises RuntimeError if the computation failed."""
        frame = await self._frames.get()
        if isinstance(frame, Exception):
            raise RuntimeError("The computation of this run failed.") from frame
        return frame

    def put(self, frame: Any | Exception | None) -> None:
        """Called by the engine's thread; a loop that has closed has nobody left to tell, so the run ends."""
        try:
            self._loop.call_soon_threadsafe(self._frames.put_nowait, frame)
        except RuntimeError:
            self.stopped.set()


class Engine:
    """One job an owner: a new one replaces the old."""

    def __init__(self):
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="engine", daemon=True).start()

    def submit(self, steps: Iterator[Any | None], owner: str) -> Job:
        """Starts the work; must be called on the event loop that will await its frames."""
        self.stop(owner)
        job = Job(steps, owner)
        with self._changed:
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

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs)
                jobs = list(self._jobs)
            ended = [job for job in jobs if not _advance(job)]
            with self._changed:
                self._jobs = [job for job in self._jobs if job not in ended]


def _advance(job: Job) -> bool:
    """Takes one step of ``job`` and says whether more are to come."""
    try:
        frame = _END if job.stopped.is_set() else next(job.steps, _END)
    except Exception as error:
        log.exception("The work of %s failed", job.owner)
        frame = error
    if frame is not None:
        job.put(None if frame is _END else frame)
    return frame is not _END and not isinstance(frame, Exception)


class Frame(NamedTuple):
    """One shown step: x and x0 (count, *D) float32, ᾱ the share of the signal's variance that is left."""

    index: int
    log_snr: float
    alpha_bar: float
    x: np.ndarray
    x0: np.ndarray
    seconds: float
    """Since the computation began."""


def frames(run: Run, network: nn.Module) -> Iterator[Frame | None]:
    """The job of ``run``: the steps worth showing as frames, None for the others."""
    begun, worth_showing = time.monotonic(), shown(run.steps)
    for step in perform(run, network):
        yield _frame(step, begun) if step.index in worth_showing else None


def _frame(step: Step, begun: float) -> Frame:
    share = float(alpha_bar(step.log_snr))
    x, x0 = (value.contiguous().numpy() for value in (step.x, step.x0))
    return Frame(step.index, float(step.log_snr), share, x, x0, time.monotonic() - begun)
