"""How much of this machine may be used: what the system and a container's quota allow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

CGROUPS = Path("/sys/fs/cgroup")
"""Where the system shows its control groups."""


def threads() -> int:
    """How many threads compute at the same time: torch's number, or fewer if fewer cores may be used.

    More than the quota allows are stopped together for the rest of every tenth of a second.
    """
    return min(torch.get_num_threads(), cores())


def cores() -> int:
    """How many cores this process may use: by its affinity and its container's quota, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(allowed, quota())))


def quota(own: Path = Path("/proc/self/cgroup"), groups: Path = CGROUPS) -> float:
    """The least number of cores that the control groups of this process are limited to; infinity if none is.

    ``own`` lists its groups, ``groups`` is their root. Reads version 2 (``cpu.max``) and 1 (``cpu.cfs_quota_us``).
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return float("inf")
    limits = [limit for line in lines for group in _groups(line, groups) if (limit := _limit(group))]
    return min(limits, default=float("inf"))


def _groups(line: str, groups: Path) -> Iterator[Path]:
    """The folders of the group in a line "number:controllers:path" and of those above it that may limit the processor."""
    _, controllers, path = line.split(":", 2)
    if controllers and "cpu" not in controllers.split(","):
        return
    root = groups / controllers if controllers else groups
    within = Path(path.strip("/"))
    # In a container the path may be the host's, of which only the end, or nothing, is there.
    yield from (root / part for part in (within, *within.parents) if ".." not in part.parts)


def _limit(group: Path) -> float | None:
    """The cores that ``group`` is limited to, None if it is not."""
    try:
        if (maximum := group / "cpu.max").is_file():
            limit, period = maximum.read_text().split()
        else:
            limit, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return None if limit in ("max", "-1") else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
