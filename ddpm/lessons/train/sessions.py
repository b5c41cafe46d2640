"""What each visitor has: a budget, perhaps a training, perhaps a network of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from ddpm.lessons.train.run import Apprentice, Frame, Training
from ddpm.lessons.trained import Trained
from ddpm.serving.engine import Work

BUDGET = 60.0
"""Seconds of computation that a visitor may spend on training."""

SHARED_BUDGET = 30 * BUDGET
"""Seconds that all visitors of one address may spend on training in an hour."""

T = TypeVar("T")


# --- what a visitor may use -----------------------------------------------------------------------------------------


class Budget:
    """Seconds of computation that are left; ``clock`` counts the computation of the thread that asks it."""

    def __init__(self, seconds: float = BUDGET, clock: Callable[[], float] = time.thread_time):
        self.seconds, self.left, self.clock = seconds, seconds, clock

    def within(self, steps: Iterator[T]) -> Generator[T, None, None]:
        """``steps`` until nothing is left; what passes between them does not count."""
        end: Any = object()
        while self.left > 0:
            begun = self.clock()
            step = next(steps, end)
            self.left = max(self.left - (self.clock() - begun), 0.0)
            if step is end:
                return
            yield step


class VisitorSession:
    """What one visitor has: a budget, perhaps a training, perhaps a network of their own.

    What they compute counts against ``shared``, too, which is the budget of all visitors of their ``address``.
    """

    def __init__(self, address: str, seconds: float, shared: Budget, keep: Callable[[VisitorSession], None]):
        self.address, self.budget, self.shared, self._keep = address, Budget(seconds), shared, keep
        self.apprentice: Apprentice | None = None
        self.mine: Trained | None = None

    @property
    def spent(self) -> bool:
        """Whether there is no computation left for a training."""
        return not (self.budget.left and self.shared.left)

    def train(self, training: Training | None) -> Work:
        """The job of a new training, or, if it is None, of what is left of the last."""
        return self.shared.within(self.budget.within(self._learn(training)))

    def bring(self, network: Trained) -> None:
        """Makes ``network`` the visitor's own."""
        self.mine = network
        self._keep(self)

    def _learn(self, training: Training | None) -> Iterator[Frame | None]:
        if training:
            self.apprentice = Apprentice(training)
            self._keep(self)
        if self.apprentice is None:
            raise ValueError("There is no training to go on with.")
        for frame in self.apprentice.learn():
            if frame:
                self.mine = frame.trained
            yield frame


class NoRoom(ValueError):
    """There is no room for another visitor's network; the message is one sentence for the visitor."""


class VisitorSessions:
    """The visits by the visitors' secret names, each for ``lifetime`` seconds after its last use.

    A visit is kept once it has a network, and no newcomer displaces it: of one address at most ``most_of_address`` are
    kept, of all ``most``. ``budget`` are the seconds of computation of a visitor, ``shared`` those of an address.
    """

    def __init__(
        self,
        most: int = 256,
        most_of_address: int = 64,
        lifetime: float = 3600.0,
        budget: float = BUDGET,
        shared: float = SHARED_BUDGET,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.most, self.most_of_address, self.lifetime = most, most_of_address, lifetime
        self.budget, self.shared, self.clock = budget, shared, clock
        self._kept: dict[str, tuple[VisitorSession, float]] = {}
        self._new: WeakValueDictionary[str, VisitorSession] = WeakValueDictionary()
        """Those without a network, for as long as somebody works with them."""
        self._budgets: dict[str, tuple[Budget, float]] = {}
        """Of the addresses, and when each began: after a lifetime it is renewed."""
        self._lock = threading.RLock()

    def find(self, visitor: str) -> VisitorSession | None:
        """The visit of ``visitor``, if there is one; this is a use of it."""
        with self._lock:
            now = self.clock()
            self._kept = {name: kept for name, kept in self._kept.items() if now - kept[1] <= self.lifetime}
            if visitor not in self._kept:
                return self._new.get(visitor)
            visit, _ = self._kept[visitor]
            self._kept[visitor] = visit, now
            return visit

    def of(self, visitor: str, address: str = "") -> VisitorSession:
        """The visit of ``visitor``, a new one of ``address`` if there is none. Raises NoRoom if that cannot be kept."""
        with self._lock:
            if visit := self.find(visitor):
                return visit
            of_address = sum(visit.address == address for visit, _ in self._kept.values())
            if of_address >= self.most_of_address or len(self._kept) >= self.most:
                whose = "your address" if of_address >= self.most_of_address else "all visitors"
                raise NoRoom(f"The networks of {whose} fill the room there is; please try again within an hour.")
            keep = lambda visit: self._keep(visitor, visit)
            visit = self._new[visitor] = VisitorSession(address, self.budget, self._shared_budget(address), keep)
            return visit

    def _keep(self, visitor: str, visit: VisitorSession) -> None:
        with self._lock:
            self._new.pop(visitor, None)
            self._kept[visitor] = visit, self.clock()

    def _shared_budget(self, address: str) -> Budget:
        now = self.clock()
        self._budgets = {who: one for who, one in self._budgets.items() if now - one[1] <= self.lifetime}
        return self._budgets.setdefault(address, (Budget(self.shared), now))[0]
