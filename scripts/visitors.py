"""Measure a class of visitors on the real server: python scripts/visitors.py --visitors 1 8 32 --json visitors.json.

Serves the app twice, once as it is and once with one run at a time (DDPM_JOBS=1), and lets as many visitors as asked
press Generate at the same moment. The visitors take their share of the same cores, so read the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 300
"""Seconds until a server that does not answer is given up."""

SERVERS = {"together": {}, "one after another": {"DDPM_JOBS": "1"}}
"""By what it does with the visitors' runs, the environment that makes it do so."""


class Crowd(NamedTuple):
    """What visitors who came together saw: seconds to the first picture and to the end, median and worst."""

    server: str
    visitors: int
    first: float
    first_worst: float
    end: float
    end_worst: float
    image_steps_per_second: float
    fairness: float
    """The worst end by the median end."""


@contextmanager
def served(environment: dict[str, str]) -> Iterator[str]:
    """The address of the app, served by a process of its own. Raises OSError if it does not answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), **environment}
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env={**os.environ, **own}, stdout=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _await(url, process)
        yield url
    finally:
        process.kill()
        process.wait()


def _await(url: str, process: subprocess.Popen) -> None:
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() < begun + PATIENCE:
        try:
            urllib.request.urlopen(url, timeout=10).close()
            return
        except OSError:
            time.sleep(0.2)
    raise OSError(f"The app does not answer at {url}.")


def crowd(server: str, url: str, visitors: int, digits: int, steps: int) -> Crowd:
    """``visitors`` who ask for ``digits`` pictures in ``steps`` steps at the same moment."""
    from gradio_client import Client

    clients = [Client(url, verbose=False) for _ in range(visitors)]
    start, times = threading.Barrier(visitors), [None] * visitors

    def visit(number: int) -> None:
        start.wait()
        begun, first = time.monotonic(), None
        settings = ("each", digits, steps, "cosine", "ddim", 0, 0, number)
        for message in clients[number].submit(*settings, api_name="/denoise_mnist"):
            if first is None and json.loads(message.partition("|")[0])["kind"] == "frame":
                first = time.monotonic() - begun
        times[number] = (first, time.monotonic() - begun)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(visitors)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not all(times) or not all(first for first, _ in times):
        raise OSError(f"A visitor of {visitors} got no picture.")
    firsts, ends = zip(*times)
    return Crowd(
        server,
        visitors,
        statistics.median(firsts),
        max(firsts),
        statistics.median(ends),
        max(ends),
        visitors * digits * steps / max(ends),
        max(ends) / statistics.median(ends),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", nargs="+", type=int, default=[1, 4, 8, 16, 32], metavar="N", help="at once")
    parser.add_argument("--digits", type=int, default=4, help="pictures that each asks for (default: 4)")
    parser.add_argument("--steps", type=int, default=50, help="T of each run (default: 50)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    if min(*options.visitors, options.digits, options.steps) < 1:
        parser.error("visitors, digits and steps are whole numbers of at least 1")
    print(f"{'server':18}{'visitors':>8}{'first':>7}{'worst':>7}{'end':>7}{'worst':>7}{'steps/s':>9}{'fairness':>9}")
    measured: list[Crowd] = []
    for server, environment in SERVERS.items():
        with served(environment) as url:
            crowd(server, url, 1, 1, 5)  # the first run of a server is slower
            for visitors in options.visitors:
                measured.append(crowd(server, url, visitors, options.digits, options.steps))
                print("{:18}{:8}{:7.2f}{:7.2f}{:7.2f}{:7.2f}{:9.0f}{:9.2f}".format(*measured[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in measured], indent=1), "utf-8")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        raise SystemExit(f"visitors.py: {error}") from error
