"""Measure in a browser what a visitor waits for: python scripts/waiting.py CHROMIUM --json waiting.json.

The browser takes its share of the same cores as the app. Times are milliseconds in the page from what the visitor does
to the screen that shows the answer, the median and the worst; the cold start counts from the command that serves the app.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from _served import PATIENCE, served

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

GENERATE = "document.querySelector('#generate').click()"
REPLAY = "document.querySelector('.play').click()"
SLIDE = """const slider = document.querySelector('#t input[type=range]');
  slider.value = Number(slider.value) + 7; slider.dispatchEvent(new Event('input', { bubbles: true }))"""
RESAMPLE = "document.querySelector('#dice').click()"


class Wait(NamedTuple):
    """What somebody waits for, in ``unit``: the median and the worst of the turns."""

    what: str
    median: float
    worst: float
    unit: str = "ms"


def of(what: str, taken: list[float]) -> Wait:
    return Wait(what, statistics.median(taken), max(taken))


def waits(chromium: Path, turns: int) -> Iterator[Wait]:
    """All waits, in the order of a visit."""
    with opened(chromium) as page:
        begun = time.monotonic()
        with served({}) as server:
            answered = time.monotonic() - begun
            yield Wait("cold start: the server's first answer", answered, answered, "s")
            page.goto(server.url)
            page.locator("#generate").click()
            page.wait_for_function("Number(document.querySelector('.player').dataset.frames) > 0")
            cold = time.monotonic() - begun
            yield Wait("cold start: the first picture in the browser", cold, cold, "s")

            digits = "/?count=4&steps=50"
            yield of(
                "Generate to the first digits",
                answers(page, server.url + digits, GENERATE, "d.job !== before.job && d.frames > 0", turns),
            )
            yield of(
                "Noising: a slider to its pictures",
                answers(page, server.url + "/noising", SLIDE, "d.t !== before.t", turns),
            )
            first = "d.job !== before.job && d.estimates > 0"
            yield of(
                "Likelihood: new noise to the first estimate",
                answers(page, server.url + "/likelihood", RESAMPLE, first, turns),
            )

            over = "d.job !== before.job && d.state === 'finished'"
            yield of(
                "Plane: 2,000 particles, T = 200, to the last",
                answers(page, server.url + "/plane?count=2000&steps=200", GENERATE, over, 3),
            )
            rates = list(played(page, server.url + "/plane?count=1000&steps=100"))
            yield Wait(
                "Plane: 1,000 particles and the field, while they are computed", rates[0], rates[0], "pictures/s"
            )
            yield Wait("Plane: the same, replayed", rates[1], rates[1], "pictures/s")


@contextmanager
def opened(chromium: Path) -> Iterator[Page]:
    """A page of a fresh browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(1e3 * PATIENCE)
        yield page
        browser.close()


def answers(page: Page, url: str, act: str, condition: str, turns: int) -> list[float]:
    """Milliseconds from ``act`` on the page at ``url`` to ``condition``, ``turns`` times after one that does not count."""
    ready(page, url)
    return [page.evaluate(ANSWER, [act, condition]) for _ in range(turns + 1)][1:]


def played(page: Page, url: str) -> Iterator[float]:
    """The pictures a second of a run at ``url`` as it is computed, and replayed, both as fast as the page offers."""
    ready(page, url)
    rate = page.locator("select.rate")
    rate.select_option(max((option.get_attribute("value") for option in rate.locator("option").all()), key=float))
    page.wait_for_function("document.querySelector('.player').dataset.playing === 'false'")
    for act in (GENERATE, REPLAY):
        page.evaluate(ANSWER, [act, "d.playing === 'true' && d.frames > 0"])
        yield page.evaluate(RATE)


def ready(page: Page, url: str) -> None:
    """Opens ``url`` and returns once it answers."""
    page.goto(url)
    page.locator(".player[data-plots=ready]").wait_for()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chromium", type=Path, help="the browser's executable")
    parser.add_argument("--turns", type=int, default=15, help="turns of each wait (default: 15)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    if options.turns < 1:
        parser.error("turns is a whole number of at least 1")
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
