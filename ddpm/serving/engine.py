"""Carries out many visitors' work at once: one thread owns it, batches what they ask the networks, hands on frames.

The machine is shared out evenly among the addresses that jobs come from, and within an address among its jobs, so that
whoever asks for much waits for it alone. A job is a generator. It yields a frame to show, None for a step that shows nothing, or a ``Forward``, which the engine
answers with the network's output: rows of different jobs, at different steps, schedules, labels and guidance, go
through the network in one batch, since each row carries its own noise level.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from ddpm.process import Network

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

MOST_JOBS = 32
"""Jobs under way at once; further ones wait, and are told their place."""

MOST_OF_ADDRESS, MOST_IN_ALL = 96, 384
"""Jobs, under way and waiting, of one address (that of a lecture hall, perhaps) and of all; no more are taken."""

TURN = 0.03
"""Seconds in which jobs compute on their own, before what they have asked the networks is computed."""

MOST_UNREAD = 16
"""Frames of a job that its owner has not taken; with more it pauses. Of 25 colour pictures that is up to 20 MB."""

ENOUGH = MOST_UNREAD * 3 // 4
"""Unread frames at which their owner stops waiting for more, so that the job need not pause."""


class Full(RuntimeError):
    """There are too many jobs to take another; the message is one sentence for whoever has asked."""


class QueuePosition(NamedTuple):
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


Work = Generator[Any, Any, None]
"""A job's generator: yields frames, None or ``Forward``s, and is sent the output (B, *D) of the last ``Forward``, a tensor
of inference mode that others may share: it is not to be changed. After what is no ``Forward`` it is sent None; that what
comes depends on what was yielded is more than a type says."""


class PendingForward:
    """What a job has asked, and what is there of the answer: batches take its rows in turn and bring theirs back."""

    def __init__(self, forward: Forward):
        self.forward = forward
        self.answer: Tensor | None = None
        self.left = self.missing = len(forward.x)
        """Rows that no batch has taken yet, and rows whose answer is not there yet."""

    def take(self, count: int) -> slice:
        """The next ``count`` rows, for a batch."""
        first = len(self.forward.x) - self.left
        self.left -= count
        return slice(first, first + count)

    def arguments(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """What the network must be asked about ``rows``."""
        asked = self.forward
        return asked.x[rows], asked.log_snr[rows], asked.label[rows]

    def put(self, rows: slice, answer: Tensor) -> None:
        """Keeps the network's answer for ``rows``."""
        if len(answer) == len(self.forward.x):
            self.answer = answer
        else:
            whole = torch.empty_like(self.forward.x) if self.answer is None else self.answer
            whole[rows] = answer
            self.answer = whole
        self.missing -= len(answer)


class Job:
    """Work under way, as its owner sees it: an asynchronous stream of frames that ends early once it is stopped.

    It goes on only while fewer than ``MOST_UNREAD`` frames wait for its owner; ``wake`` is called when one is taken.
    """

    def __init__(self, work: Work, owner: str | None, address: str, kind: str, wake: Callable[[], None]):
        self.work, self.owner, self.stopped = work, owner, threading.Event()
        self.address, self.kind = address, kind
        self.asked: PendingForward | None = None
        self.begun: float | None = None
        self.place: int | None = None
        self.served = 0
        """Rows computed for it: of an address the engine serves those jobs first that have had fewest."""
        self._frames: deque[Any] = deque()
        self._loop, self._wake, self._wanted, self._gathered = (
            asyncio.get_running_loop(),
            wake,
            MOST_UNREAD,
            asyncio.Event(),
        )
        self._over = False

    async def next(self) -> Any | None:
        """The next frame, or None after the last. Raises RuntimeError if the computation failed."""
        await self._until(1)
        frame = self._frames.popleft()
        if len(self._frames) == MOST_UNREAD - 1:
            self._wake()  # it had paused
        if isinstance(frame, Exception):
            raise RuntimeError("The computation of this run failed.") from frame
        return frame

    async def wait_for_frames(self, seconds: float, count: int = ENOUGH) -> None:
        """Lets frames gather for so long, or until ``count`` of them or the last are there."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._until(count), seconds)

    async def _until(self, count: int) -> None:
        """Returns once ``count`` frames or the last are there; the engine rouses the event loop for that alone."""
        self._wanted = count
        try:
            while not self._enough():
                self._gathered.clear()
                if not self._enough():  # nor have they come since, when it was still set
                    await self._gathered.wait()
        finally:
            self._wanted = MOST_UNREAD

    def _enough(self) -> bool:
        return self._over or len(self._frames) >= self._wanted

    def put(self, frame: Any | Exception | None) -> None:
        """Called by the engine's thread; a loop that has closed has nobody left to tell, so the job ends."""
        self._frames.append(frame)
        self._over = self._over or frame is None
        if self._enough():
            try:
                self._loop.call_soon_threadsafe(self._gathered.set)
            except RuntimeError:
                self.stopped.set()
                self._wake()  # to be removed

    def end(self) -> None:
        """Frees what the work holds and ends the stream."""
        self.work.close()
        self.asked = None
        self.put(None)

    @property
    def unread(self) -> bool:
        """Whether ``next`` has something to give at once."""
        return bool(self._frames)

    @property
    def ready(self) -> bool:
        """Whether it can go on: what it asked is answered, and its owner keeps up with its frames."""
        return not (self.asked and self.asked.missing) and len(self._frames) < MOST_UNREAD


class BatchSlice(NamedTuple):
    """The rows of one job in a batch; the job may have ended when they come back."""

    job: Job
    question: PendingForward
    rows: slice


class Engine:
    """One job an owner: a new one replaces the old.

    ``batch`` is the most rows of a forward pass, ``most`` of jobs, ``parallel_batches`` of forward passes at the same time: one is
    carried out in the engine's own thread, more in a thread each, which suits networks that only wait for an answer.
    ``most_of_kind`` says of which kinds even fewer jobs are under way at once.
    """

    def __init__(
        self,
        batch: int = 16,
        most: int = MOST_JOBS,
        parallel_batches: int = 1,
        most_of_kind: Mapping[str, int] | None = None,
    ):
        self._batch, self._most, self._parallel_batches = batch, most, parallel_batches
        self._most_of_kind = dict(most_of_kind or {})
        self._spent: dict[str, float] = {}
        """Seconds of the machine that each address has had, of those with jobs."""
        self._executor = ThreadPoolExecutor(parallel_batches, "lane") if parallel_batches > 1 else _Inline()
        self._flying: dict[Future[tuple[tuple[Tensor, ...], float]], list[BatchSlice]] = {}
        self._jobs: list[Job] = []
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._durations: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=20))
        self._closed, self._thread = False, threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, work: Work, owner: str | None = None, address: str = "", kind: str = "") -> Job:
        """Starts the work; must be called on the event loop that will await its frames. Work of no owner replaces none.

        Raises Full if ``address``, or all together, have as many jobs as are taken.
        """
        if owner is not None:
            self.stop(owner)
        job = Job(work, owner, address, kind, self._wake.set)
        with self._lock:
            if problem := self._full(address):
                raise Full(problem)
            job.served = min((other.served for other in self._jobs), default=0)
            self._spent.setdefault(address, min(self._spent.values(), default=0.0))
            self._jobs.append(job)
        self._wake.set()
        return job

    def full(self, address: str) -> str:
        """One sentence that says why ``address`` can have no further job, or none."""
        with self._lock:
            return self._full(address)

    def _full(self, address: str) -> str:
        jobs = [job for job in self._jobs if not job.stopped.is_set()]
        if sum(job.address == address for job in jobs) >= MOST_OF_ADDRESS:
            return (
                f"Your address has {MOST_OF_ADDRESS} runs under way or waiting; please try again when some have ended."
            )
        if len(jobs) >= MOST_IN_ALL:
            return f"There are {len(jobs)} runs under way or waiting, which is all this server takes; please try again soon."
        return ""

    def stop(self, owner: str) -> None:
        """Ends the owner's job before its next step; its stream ends with the frames computed so far."""
        with self._lock:
            jobs = [job for job in self._jobs if job.owner == owner]
        for job in jobs:
            self.drop(job)

    def drop(self, job: Job) -> None:
        """Ends one job, for an owner who no longer listens to it."""
        job.stopped.set()
        self._wake.set()

    def active(self) -> int:
        """The number of jobs under way."""
        with self._lock:
            return len(self._jobs)

    def close(self) -> None:
        """Ends the engine, whatever is under way: before Python exits, as forward passes do not outlive it unharmed."""
        self._closed = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                self._jobs = [job for job in self._jobs if not _is_stopped(job)]
                jobs, waiting = self._share_out()
            self._tell_places(waiting)
            ended = self._collect()
            ended |= self._advance([job for job in jobs if job not in ended and job.ready])
            self._launch([job for job in jobs if job not in ended])
            for job in ended:
                if job.begun is not None:
                    self._durations[job.kind].append(time.monotonic() - job.begun)
                job.end()
            with self._lock:
                self._jobs = [job for job in self._jobs if job not in ended]
                present = {job.address for job in self._jobs}
                self._spent = {address: spent for address, spent in self._spent.items() if address in present}
            if ended or any(job.ready for job in jobs):
                self._wake.set()

    def _share_out(self) -> tuple[list[Job], list[Job]]:
        """The jobs that are under way, and those that wait: every address has one before any has another.

        So a job may have to pause for a newcomer of another address.
        """
        of_address, of_kind = Counter[str](), Counter[str]()
        rank: dict[Job, int] = {}
        for job in self._jobs:
            rank[job] = of_address[job.address]
            of_address[job.address] += 1
        under_way: list[Job] = []
        waiting: list[Job] = []
        for job in sorted(self._jobs, key=rank.__getitem__):
            free = len(under_way) < self._most and of_kind[job.kind] < self._most_of_kind.get(job.kind, self._most)
            of_kind[job.kind] += free
            (under_way if free else waiting).append(job)
        return under_way, waiting

    def _advance(self, ready: list[Job]) -> set[Job]:
        """Takes ``ready`` jobs on, those first whose addresses have had least, for a TURN at most; returns which have ended."""
        ended, deadline = set(), time.monotonic() + TURN
        for job in sorted(ready, key=self._had):
            begun = time.monotonic()
            if begun > deadline:
                break
            if not _advance(job):
                ended.add(job)
            self._spent[job.address] += time.monotonic() - begun
        return ended

    def _had(self, job: Job) -> tuple[float, int]:
        """What the job's address has had of the machine, and what it has had itself: who has had least is served first."""
        return self._spent[job.address], job.served

    def _tell_places(self, waiting: list[Job]) -> None:
        """Tells each waiting job that has not begun its place if that has changed, counted among those of its kind.

        One job of a kind ends about every mean duration / as many as are under way at once.
        """
        number = Counter[str]()
        for job in waiting:
            number[job.kind] += 1
            if job.begun is None and job.place != number[job.kind]:
                job.place = number[job.kind]
                durations = self._durations[job.kind]
                at_once = self._most_of_kind.get(job.kind, self._most)
                pace = sum(durations) / len(durations) / at_once if durations else None
                job.put(QueuePosition(job.place, pace and pace * job.place))

    def _launch(self, jobs: list[Job]) -> None:
        """Sends off batches while a lane is free and rows wait, which it divides evenly among the free lanes."""
        while free := self._parallel_batches - len(self._flying):
            asking = [(job, job.asked) for job in jobs if job.asked and job.asked.left]
            rows = sum(question.left for _, question in asking)
            if not rows:
                return
            asking.sort(key=lambda asked: self._had(asked[0]))
            parts = _batch(asking, min(self._batch, -(-rows // free)))
            future = self._executor.submit(_forward, parts)
            self._flying[future] = parts
            future.add_done_callback(lambda _: self._wake.set())

    def _collect(self) -> set[Job]:
        """Hands out the answers of the batches that are back; returns the jobs that one failed for."""
        failed: set[Job] = set()
        for future in [future for future in self._flying if future.done()]:
            parts = self._flying.pop(future)
            if error := future.exception():
                hit = {part.job for part in parts if part.job.asked is part.question} - failed  # others have ended
                log.error("A forward pass for %d jobs failed", len(hit), exc_info=error)
                for job in hit:
                    job.put(error)
                failed |= hit
            else:
                answers, seconds = future.result()
                for part, answer in zip(parts, answers):
                    part.question.put(part.rows, answer)
                    self._charge(part.job, seconds * len(answer) / sum(map(len, answers)))
        return failed

    def _charge(self, job: Job, seconds: float) -> None:
        with self._lock:
            if job.address in self._spent:  # else it has left
                self._spent[job.address] += seconds


class _Inline(Executor):
    """Carries out what is submitted at once, in the caller's thread."""

    def submit(self, work: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(work(*arguments, **named))
        except Exception as error:  # noqa: BLE001  # who asks the future is told
            future.set_exception(error)
        return future


def _is_stopped(job: Job) -> bool:
    if not job.stopped.is_set():
        return False
    job.end()
    return True


def _advance(job: Job) -> bool:
    """Takes ``job`` to its next question, or by one step if it asks nothing; says whether more is to come."""
    answer = job.asked.answer if job.asked else None
    job.begun = job.begun or time.monotonic()
    job.asked = None
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
        job.asked = PendingForward(said)
    elif said is not None:
        job.put(said)
    return True


def _batch(asking: list[tuple[Job, PendingForward]], most: int) -> list[BatchSlice]:
    """At most ``most`` rows for one network, that of the first, in the order of ``asking``."""
    network, parts = asking[0][1].forward.network, []
    for job, question in asking:
        if question.forward.network is network and most:
            count = min(question.left, most)
            parts.append(BatchSlice(job, question, question.take(count)))
            job.served += count
            most -= count
    return parts


@torch.inference_mode()
def _forward(parts: list[BatchSlice]) -> tuple[tuple[Tensor, ...], float]:
    """The answers to ``parts``, by one forward pass, and the seconds that it took."""
    begun = time.monotonic()
    network, asked = parts[0].question.forward.network, [part.question.arguments(part.rows) for part in parts]
    if len(asked) == 1:
        return (network(*asked[0]),), time.monotonic() - begun
    output = network(*map(torch.cat, zip(*asked)))
    return output.split([len(x) for x, *_ in asked]), time.monotonic() - begun
