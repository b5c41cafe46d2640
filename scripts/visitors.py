"""Measure a class of visitors on the real server: python scripts/visitors.py --visitors 1 8 32 --json visitors.json.

Serves the app twice, once as it is and once with one run at a time (DDPM_JOBS=1), and lets as many visitors as asked
press Generate at the same moment. The visitors take their share of the same cores, so read the ratios.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import _root  # noqa: F401
from _arguments import positive
from _served import PATIENCE, Server, at_work, digits, messages, served

SERVERS = {"together": {}, "one after another": {"DDPM_JOBS": "1"}}
"""By what it does with the visitors' runs, the environment that makes it do so."""

SLIDERS = {"constant": "#c", "polynomial": "#p"}
"""Schedules and the slider that the page shows for each."""

CHOOSE = """([name, slider]) => new Promise(done => {
  const option = [...document.querySelectorAll('[role=option]')].find(option => option.textContent.includes(name));
  const player = document.querySelector('.player'), { job } = player.dataset, begun = performance.now();
  let page = 0;
  const look = () => {
    if (!page && document.querySelector(slider)?.checkVisibility()) page = performance.now() - begun;
    if (page && player.dataset.job !== job && player.dataset.frames > 0) done([page, performance.now() - begun]);
    else requestAnimationFrame(look); };
  option.dispatchEvent(new MouseEvent('mousedown', { bubbles: true }));
  look(); })"""
"""Chooses a schedule and says in how many milliseconds the page shows its slider, and the curve that the server made."""

ROW = "{:18}{:8}{:7.2f}{:7.2f}{:7.2f}{:7.2f}{:9.0f}{:9.2f}{:8.0f}{:7.0f}"


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
    answer: float
    answer_worst: float
    """Milliseconds in which the page answers one more visitor who opens it meanwhile, median and worst."""


def crowd(name: str, server: Server, visitors: int, count: int, steps: int) -> Crowd:
    """``visitors`` who ask for ``count`` pictures in ``steps`` steps at the same moment."""
    start, times = threading.Barrier(visitors), [None] * visitors

    def visit(number: int) -> None:
        start.wait()
        begun, first = time.monotonic(), None
        for kind in messages(server.url, digits(count, steps, number)):
            if kind == "frame" and first is None:
                first = time.monotonic() - begun
        times[number] = (first, time.monotonic() - begun)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(visitors)]
    with answers(server.url) as seconds:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if not all(times) or not all(first for first, _ in times):
        raise OSError(f"A visitor of {visitors} got no picture.")
    firsts, ends = zip(*times)
    return Crowd(
        name,
        visitors,
        statistics.median(firsts),
        max(firsts),
        statistics.median(ends),
        max(ends),
        visitors * count * steps / max(ends),
        max(ends) / statistics.median(ends),
        1e3 * statistics.median(seconds),
        1e3 * max(seconds),
    )


@contextmanager
def answers(url: str) -> Iterator[list[float]]:
    """The seconds in which the page answers a GET, again and again until the context ends; there when it has ended."""
    spawn, seconds = multiprocessing.get_context("spawn"), []
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_ask, args=(url, theirs))  # in this one the visitors' threads would hold it up
    process.start()
    ours.recv()
    try:
        yield seconds
        ours.send("enough")
        seconds += ours.recv()
    finally:
        process.kill()
        process.join()


def _ask(url: str, pipe: Connection) -> None:
    seconds = []
    pipe.send("ready")
    while not seconds or not pipe.poll(0.1):
        begun = time.monotonic()
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            answer.read()
        seconds.append(time.monotonic() - begun)
    pipe.send(seconds)


def clicks(server: Server, visitors: int, chromium: Path, turns: int = 10) -> list[tuple[float, float]]:
    """Milliseconds from a click in ``chromium`` to the page's answer and to the server's, among ``visitors``' runs."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, at_work(server.url, visitors) as busy:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(1e3 * PATIENCE)
        page.goto(f"{server.url}/line?denoiser=exact&steps=2&count=100")
        page.locator("#schedule input").wait_for()
        while busy() < visitors:
            page.wait_for_timeout(100)
        found = []
        for choice in itertools.islice(itertools.cycle(SLIDERS.items()), turns + 1):
            page.locator("#schedule input").click()
            page.get_by_role("option", name=choice[0]).wait_for()
            found.append(page.evaluate(CHOOSE, choice))
        browser.close()
        return found[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", nargs="+", type=positive, default=[1, 4, 8, 16, 32], metavar="N", help="at once")
    parser.add_argument("--digits", type=positive, default=4, help="pictures that each asks for (default: 4)")
    parser.add_argument("--steps", type=positive, default=50, help="T of each run (default: 50)")
    parser.add_argument(
        "--chromium", type=Path, help="a browser in which clicks are measured, too, while 16 runs go on"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    print(
        f"{'server':18}{'visitors':>8}{'first':>7}{'worst':>7}{'end':>7}{'worst':>7}{'steps/s':>9}{'fairness':>9}"
        f"{'answer':>8}{'worst':>7}"
    )
    measured: list[Crowd] = []
    for name, environment in SERVERS.items():
        with served(environment) as server:
            crowd(name, server, 1, 1, 5)  # the first run of a server is slower
            for visitors in options.visitors:
                measured.append(crowd(name, server, visitors, options.digits, options.steps))
                print(ROW.format(*measured[-1]), flush=True)
    if options.chromium:
        with served({}) as server:
            page, drawn = zip(*clicks(server, 16, options.chromium), strict=True)
        print("a click among 16 runs, in the median and at worst: its slider stands after ", end="")
        print(f"{statistics.median(page):.0f} and {max(page):.0f} ms, ", end="")
        print(f"its curve after {statistics.median(drawn):.0f} and {max(drawn):.0f}")
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in measured], indent=1), "utf-8")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        raise SystemExit(f"visitors.py: {error}") from error
