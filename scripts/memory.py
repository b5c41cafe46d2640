"""Measure what runs leave behind on the real server: python scripts/memory.py --runs 1 100 500 --json memory.json.

Every second run is abandoned half-way, as by a visitor who closes the page. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import _root  # noqa: F401
from _arguments import positive
from _served import Server, digits, messages, served

ROW = "{:5}{:10.1f}{:9}{:12}{:11}{:9.1f}"


class Left(NamedTuple):
    """What the server holds after ``runs`` runs; the temporary folder is the server's own."""

    runs: int
    megabytes: float
    threads: int
    open_files: int
    temporary_files: int
    temporary_kilobytes: float


def left(runs: int, server: Server, folder: Path) -> Left:
    """What is left after ``runs`` runs."""
    process = Path(f"/proc/{server.pid}")
    status = dict(re.findall(r"^(\w+):\s*(\d+)", (process / "status").read_text(), re.MULTILINE))
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    opened = len(list((process / "fd").iterdir()))
    return Left(runs, int(status["VmRSS"]) / 1024, int(status["Threads"]), opened, len(sizes), sum(sizes) / 1024)


def visit(server: Server, steps: int, number: int, abandon: bool) -> None:
    """One run, to its end or until half of its messages are there."""
    with closing(messages(server.url, digits(2, steps, number))) as kinds:
        for _ in itertools.islice(kinds, steps // 2 if abandon else None):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="+", type=positive, default=[1, 100, 500], metavar="N", help="after how many")
    parser.add_argument("--steps", type=positive, default=10, help="T of each run, of two digits (default: 10)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    if sys.platform != "linux":
        parser.error(f"this machine is {sys.platform}; /proc, which is read, is there on linux only")
    print(f"{'runs':>5}{'RSS MB':>10}{'threads':>9}{'open files':>12}{'temporary':>11}{'KB':>9}")
    measured: list[Left] = []
    with tempfile.TemporaryDirectory() as folder, served({"TMPDIR": folder}) as server:
        for number in range(1, max(options.runs) + 1):
            visit(server, options.steps, number, abandon=number % 2 == 0)
            if number in options.runs:
                measured.append(left(number, server, Path(folder)))
                print(ROW.format(*measured[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in measured], indent=1), "utf-8")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        raise SystemExit(f"memory.py: {error}") from error
