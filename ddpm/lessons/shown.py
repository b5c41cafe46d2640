"""Which of a run’s steps are worth showing."""

from __future__ import annotations

import math


def strip_steps(steps: int) -> list[int]:
    """The at most eight step indices, evenly spaced, the last of them T, whose pictures stand beside each other."""
    return sorted({math.ceil(steps * k / 8) for k in range(1, 9)})


def shown(steps: int, most: int = 100) -> frozenset[int]:
    """The step indices T … 0 worth showing: at most ``most``, evenly spaced, the first and the last among them."""
    count = min(steps + 1, most)
    return frozenset(round(i * steps / max(count - 1, 1)) for i in range(count))
