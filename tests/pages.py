"""What the tests of pages ask of a player: its state, a wait for it, a move in it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from ddpm.page.components import shared

STATE = "({...document.querySelector('.player').dataset})"
AT_REST = """() => { const d = document.querySelector('.player')?.dataset ?? {};
  return ['finished', 'stopped', 'failed'].includes(d.state) && d.playing === 'false' && d.plots === 'ready'
    && Number(d.position) === Number(d.frames) - 1; }"""
INK = """name => { const c = document.querySelector(`.${name} canvas.over`);
  return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v > 0).length; }"""
TRACES = "name => document.querySelector(`.${name}`).data.length"
FINDINGS = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .filter((rule) => ["serious", "critical"].includes(rule.impact))
  .flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.target} ${node.html.slice(0, 150)} ${node.failureSummary}`))"""


def state(page):
    return page.evaluate(STATE)


def wait(page, condition):
    """Until ``condition``, JavaScript over the player's data d, holds."""
    page.wait_for_function(
        f"() => {{ const d = document.querySelector('.player')?.dataset ?? {{}}; return {condition}; }}"
    )


def finish(page):
    page.wait_for_function(AT_REST)
    return state(page)


def open_page(page, url):
    page.goto(url)
    return finish(page)


def scrub(page, position):
    page.locator(".position").evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", position)


def query(page):
    return dict(parse_qsl(urlsplit(page.url).query))


def script(screen, *uses):
    """The script of a lesson's module ``screen``, after those that it ``uses``."""
    own, common = Path(screen.__file__).parent, Path(shared.__file__).parent
    paths = [own / name if (own / name).is_file() else common / name for name in (*uses, "screen.js")]
    return "".join(path.read_text("utf-8") for path in paths)


def read_in(text, name):
    """What a script reads of ``name``, which may be the clock's."""
    read = set(re.findall(rf"(?<![\w.])(?:clock\.)?{re.escape(name)}\.(\w+)", text))
    assert read, f"the script reads nothing of {name}"
    return read
