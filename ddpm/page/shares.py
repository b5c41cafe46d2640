"""How much of what there is little of one address may have, so that some is left for all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Full(Exception):
    """There is no more of something: the HTTP status, and one sentence for the visitor."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class Places:
    """So many requests may be under way at once: ``each`` of an address, ``in_all`` of all."""

    def __init__(self, each: int, in_all: int):
        self._each, self._in_all = each, in_all
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, who: str) -> Iterator[None]:
        """A place for the address ``who``. Raises Full if there is none."""
        if self._taken[who] >= self._each:
            raise Full(429, f"Your address sends {self._each} files already; please try again in a few seconds.")
        if self._taken.total() >= self._in_all:
            raise Full(503, "Many people send files at this moment; please try again in a few seconds.")
        self._taken[who] += 1
        try:
            yield
        finally:
            self._taken[who] -= 1
            self._taken += Counter()  # forgets who has none
