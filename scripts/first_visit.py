"""Measure what a page costs the server and the line, at the first visit and the next: python scripts/first_visit.py CHROMIUM.

Counts the files that a browser asks for, and fetches them as it does: all at the first visit, and at the next those that
it may not keep. Linux only: it reads the server's processor time from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import urllib.request
from pathlib import Path
from typing import NamedTuple

import _root  # noqa: F401
from _arguments import positive
from _served import PATIENCE, Server, served
from playwright.sync_api import sync_playwright

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
ENDLESS = ("/queue/data", "/heartbeat/")
"""In the addresses of streams, which are no files."""


class Visit(NamedTuple):
    """``files`` of ``kilobytes`` on the wire, and the milliseconds of the server's processor that they took."""

    visit: str
    files: int
    kilobytes: float
    milliseconds: float


def addresses(url: str, chromium: Path) -> list[str]:
    """What a browser asks for with GET until the plots of the page stand."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        page, asked = browser.new_page(), []
        page.on("request", lambda request: request.method == "GET" and asked.append(request.url))
        page.goto(f"{url}/?count=1&steps=1")
        page.wait_for_function("document.querySelector('.player')?.dataset.plots === 'ready'")
        page.wait_for_load_state("load")
        browser.close()
    return [one for one in asked if one.startswith(url) and not any(part in one for part in ENDLESS)]


def fetch(address: str) -> tuple[int, bool]:
    """Bytes of the answer, and whether a browser may keep it."""
    request = urllib.request.Request(address, headers={"Accept-Encoding": "gzip, deflate, br"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return len(answer.read()), "max-age=" in answer.headers.get("Cache-Control", "")


def processor(server: Server) -> float:
    """Seconds of the processor that the server has used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(server: Server, name: str, asked: list[str], turns: int) -> Visit:
    """The mean of as many visits."""
    begun = processor(server)
    size = sum(fetch(address)[0] for _ in range(turns) for address in asked) / turns
    return Visit(name, len(asked), size / 1000, 1000 * (processor(server) - begun) / turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chromium", type=Path, help="Chromium's executable")
    parser.add_argument("--turns", type=positive, default=20, help="visits of each kind (default: 20)")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    with served({}) as server:
        asked = addresses(server.url, options.chromium)
        again = [address for address in asked if not fetch(address)[1]]
        visits = [measured(server, *each, options.turns) for each in (("first", asked), ("next", again))]
    for visit in visits:
        print("{:8}{:5} files{:9.1f} kB{:9.1f} ms".format(*visit))
    if options.json:
        options.json.write_text(json.dumps([visit._asdict() for visit in visits], indent=1) + "\n")


if __name__ == "__main__":
    main()
