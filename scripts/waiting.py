"""Measure in a browser what a visitor waits for: python scripts/waiting.py CHROMIUM --json waiting.json.

The browser takes its share of the same cores as the app. Times are milliseconds in the page from what the visitor does
to the screen that shows the answer, the median and the worst.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import _root  # noqa: F401
from _arguments import positive
from _served import PATIENCE, digits, messages, served

if TYPE_CHECKING:
    from playwright.sync_api import Page

ANSWER = """([act, condition]) => new Promise(done => {
  const player = document.querySelector('.player'), before = { ...player.dataset }, begun = performance.now();
  const holds = new Function('d', 'before', `return ${condition}`);
  const look = () => holds(player.dataset, before) ? done(performance.now() - begun) : requestAnimationFrame(look);
  new Function(act)();
  requestAnimationFrame(look); })"""
"""Does ``act`` and says in how many milliseconds ``condition``, over the player's data d and that of before, holds."""

RATE = """() => new Promise(done => {
  const { dataset } = document.querySelector('.player'), shown = new Set(), begun = performance.now();
  let last = begun;
  const look = now => {
    if (!shown.has(dataset.position)) { shown.add(dataset.position); last = now; }
    if (dataset.playing === 'true') requestAnimationFrame(look); else done((shown.size - 1) / (last - begun) * 1000); };
  requestAnimationFrame(look); })"""
"""Different pictures a second until the run stands still."""

HOLDS = "condition => new Function('d', `return ${condition}`)(document.querySelector('.player').dataset)"
GENERATE = "document.querySelector('#generate').click()"
REPLAY = "document.querySelector('.play').click()"
SLIDE = """const slider = document.querySelector('#t input[type=range]');
  slider.value = Number(slider.value) + 7; slider.dispatchEvent(new Event('input', { bubbles: true }))"""
AGAIN = "document.querySelector('#dice').click()"


class Wait(NamedTuple):
    """What somebody waits for, in ``unit``: the median and the worst of the turns."""

    what: str
    median: float
    worst: float
    unit: str = "ms"


def waits(chromium: Path, turns: int) -> Iterator[Wait]:
    """All waits, in the order of a visit."""
    begun = time.monotonic()
    with ExitStack() as until_end:
        server = until_end.enter_context(served({}))
        next(kind for kind in messages(server.url, digits(4, 50, 0)) if kind == "frame")
        yield Wait(
            "Cold start: from the command to the first picture, over HTTP", *2 * (time.monotonic() - begun,), "s"
        )
        page = until_end.enter_context(opened(chromium, server.url))

        def wait(what: str, link: str, act: str, condition: str, rest: str = "true", turns: int = turns) -> Wait:
            ready(page, link)
            taken = []
            for _ in range(turns + 1):
                page.wait_for_function(HOLDS, arg=rest)
                taken.append(page.evaluate(ANSWER, [act, condition]))
            return Wait(what, statistics.median(taken[1:]), max(taken[1:]))  # the first does not count

        new, rests = "d.job !== before.job", "d.state === 'finished' && d.playing === 'false'"
        yield wait("Digits: Generate to the first picture", "/?count=4", GENERATE, f"{new} && d.frames > 0", rests)
        yield wait("Noising: a slider to its pictures", "/noising", SLIDE, "d.t !== before.t")
        yield wait("Likelihood: to the first estimate", "/likelihood", AGAIN, f"{new} && d.estimates > 0")
        over = f"{new} && d.state === 'finished'"
        large = "/plane?count=2000&steps=200"
        yield wait("Plane: 2,000 particles, T = 200, to the last picture", large, GENERATE, over, rests, 3)
        ready(page, "/plane?count=1000&steps=100")
        page.locator("select.rate").select_option("30")
        for what, act in (("as it is computed", GENERATE), ("replayed", REPLAY)):
            page.wait_for_function(HOLDS, arg=rests)
            page.evaluate(ANSWER, [act, "d.playing === 'true' && d.frames > 0"])
            yield Wait(
                f"Plane: 1,000 particles and the field at 30 a second, {what}",
                *2 * (page.evaluate(RATE),),
                "pictures/s",
            )


@contextmanager
def opened(chromium: Path, url: str) -> Iterator[Page]:
    """A page of a fresh browser, whose addresses begin with ``url``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, base_url=url)
        page.set_default_timeout(1e3 * PATIENCE)
        yield page
        browser.close()


def ready(page: Page, link: str) -> None:
    """Opens ``link`` and returns once its plots stand."""
    page.goto(link)
    page.locator(".player[data-plots=ready]").wait_for()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chromium", type=Path, help="the browser's executable")
    parser.add_argument("--turns", type=positive, default=15, help="turns of each wait (default: 15)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    measured = []
    for wait in waits(options.chromium, options.turns):
        print("{:66}{:9.1f}{:9.1f} {}".format(*wait), flush=True)
        measured.append(wait._asdict())
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1), "utf-8")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        raise SystemExit(f"waiting.py: {error}") from error
