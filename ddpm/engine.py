"""Carries out many visitors' runs at once: one thread owns torch, takes a step of each run in turn, and hands on frames."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from torch import nn

from ddpm.run import Run, perform, shown
from ddpm.sampling import Step
from ddpm.schedule import alpha_bar

log = logging.getLogger(__name__)


class Frame(NamedTuple):
    """One shown step: x and x0 (count, *D) float32, ᾱ the share of the signal's variance that is left."""

    index: int
    log_snr: float
    alpha_bar: float
    x: np.ndarray
    x0: np.ndarray
    seconds: float
    """Since the run was submitted."""


class Job:
    """A run under way, as its owner sees it: an asynchronous stream of frames that ends early once it is stopped."""

    def __init__(self, run: Run, owner: str, steps: Iterator[Step]):
        self.run, self.owner, self.steps, self.shown = run, owner, steps, shown(run.steps)
        self.stopped, self.begun = threading.Event(), time.monotonic()
        self._loop, self._frames = asyncio.get_running_loop(), asyncio.Queue()

    async def next(self) -> Frame | None:
        """The next frame, or None after the last. Raises RuntimeError if the computation failed."""
        frame = await self._frames.get()
        if isinstance(frame, Exception):
            raise RuntimeError("The computation of this run failed.") from frame
        return frame

    def put(self, frame: Frame | Exception | None) -> None:
        """Called by the engine's thread; a loop that has closed has nobody left to tell, so the run ends."""
        try:
            self._loop.call_soon_threadsafe(self._frames.put_nowait, frame)
        except RuntimeError:
            self.stopped.set()


class Engine:
    """Runs on the networks that ``load`` gives by model name; one run an owner, a new one replaces the old."""

    def __init__(self, load: Callable[[str], nn.Module]):
        self._load = load
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="engine", daemon=True).start()

    def submit(self, run: Run, owner: str) -> Job:
        """Starts ``run``; must be called on the event loop that will await its frames."""
        self.stop(owner)
        job = Job(run, owner, perform(run, self._load(run.model)))
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
        return job

    def stop(self, owner: str) -> None:
        """Ends the owner's run before its next step; its stream ends with the frames computed so far."""
        with self._changed:
            for job in self._jobs:
                if job.owner == owner:
                    job.stopped.set()

    def drop(self, job: Job) -> None:
        """Ends one run, for an owner who no longer listens to it."""
        job.stopped.set()

    def active(self) -> int:
        """The number of runs under way."""
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
        step = None if job.stopped.is_set() else next(job.steps)
        if step and step.index in job.shown:
            job.put(_frame(step, job.begun))
        if step and step.index > 0:
            return True
        job.put(None)
    except Exception as error:
        log.exception("A run failed: %s", job.run)
        job.put(error)
    return False


def _frame(step: Step, begun: float) -> Frame:
    share = float(alpha_bar(step.log_snr))
    x, x0 = (value.contiguous().numpy() for value in (step.x, step.x0))
    return Frame(step.index, float(step.log_snr), share, x, x0, time.monotonic() - begun)
