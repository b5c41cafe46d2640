"""Measure what one address can do to the visitors of all others: python scripts/attacks.py --json attacks.json.

Serves the app without its limit of requests a second, attacks it from 127.0.0.2, and sees how long a visitor at
127.0.0.1 waits for the first picture and the last of four digits, and what is left of the attack in the server once it
is over. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import _root  # noqa: F401
from _arguments import positive
from _served import PATIENCE, Server, digits, messages, served
from memory import Left, left

ATTACKER = ("127.0.0.2", 0)
"""Where the attacks come from."""

SETTLE = 100.0
"""Seconds after an attack in which the server must be as it was before: what nobody reads is kept for 60."""

API = "/gradio_api/call/v2"

MANY = 1000
"""Requests of the attack that begins as many sessions."""

HEAVY = {"count": 25, "steps": 1000, "guidance": 2.0, "schedule": "cosine"}
"""A run of pictures that asks for as much as one may."""

ROW = "{:12}{:10}{:9.2f}{:9.2f}{:9.2f}{:12.0f}{:8.0f}{:12}{:8}{:12}{:8}"


class Felt(NamedTuple):
    """What a visitor feels of an attack of so many ``requests``, and what it leaves behind.

    Seconds to the ``first`` picture (the median and the worst of some runs) and to the ``end``; what the server held
    before the attack and after it.
    """

    attack: str
    requests: int
    first: float
    first_worst: float
    end: float
    before: Left
    after: Left


def post(url: str, path: str, body: object, cookie: str = "") -> http.client.HTTPResponse:
    """The answer to one POST of the attacker."""
    link = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE, source_address=ATTACKER)
    headers = {"Content-Type": "application/json"} | ({"Cookie": f"ddpm_visitor={cookie}"} if cookie else {})
    link.request("POST", path, json.dumps(body), headers)
    answer = link.getresponse()
    answer.content = answer.read()
    link.close()
    return answer


def unread(endpoint: str, settings: dict[str, object]) -> Callable[[str, int, ExitStack], None]:
    """The attack that calls ``endpoint`` and never asks for the answer, each time as another visitor."""

    def attack(url: str, number: int, until_end: ExitStack) -> None:
        post(url, f"{API}/{endpoint}", settings, f"{number:032x}")

    return attack


def deaf(url: str, number: int, until_end: ExitStack) -> None:
    """Starts a large run, asks for its stream, and never reads it."""
    answer = post(url, f"{API}/denoise_cifar10", HEAVY)
    if answer.status != 200:
        return
    link = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE, source_address=ATTACKER)
    link.request("GET", f"{API}/denoise_cifar10/{json.loads(answer.content)['event_id']}")
    until_end.callback(link.close)


ATTACKS = {
    "trainings": unread("train_network", {"batches": 5000, "shown_steps": 100}),
    "pictures": unread("generate_cifar10", HEAVY),
    "likelihood": unread("estimate_bound", {"data": "cifar10", "steps": 1000}),
    "deaf": deaf,
    "sessions": unread("denoise_mnist", digits(1, 1, 0)),
}


def visit(url: str, seed: int) -> tuple[float, float]:
    """Seconds to the first picture and to the last of somebody else's run."""
    begun, first = time.monotonic(), 0.0
    for kind in messages(url, digits(4, 50, seed)):
        first = first or (kind == "frame") * (time.monotonic() - begun)
    return first, time.monotonic() - begun


@contextmanager
def under_attack(url: str, attack: Callable[[str, int, ExitStack], None], requests: int) -> Iterator[None]:
    """``requests`` of the attack at once, which last as long as the context."""
    with ExitStack() as until_end:
        threads = [threading.Thread(target=attack, args=(url, number, until_end)) for number in range(requests)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield


def felt(server: Server, folder: Path, name: str, requests: int, runs: int) -> Felt:
    """What others feel of the attack ``name``."""
    before = left(0, server, folder)
    with under_attack(server.url, ATTACKS[name], requests):
        waits = sorted(visit(server.url, seed) for seed in range(runs))
    time.sleep(SETTLE)
    middle = waits[len(waits) // 2]
    return Felt(name, requests, middle[0], waits[-1][0], middle[1], before, left(requests, server, folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=positive, default=200, help="requests of an attack (default: 200)")
    parser.add_argument("--runs", type=positive, default=5, help="runs of the visitor during each (default: 5)")
    parser.add_argument("--only", choices=ATTACKS, action="append", help="only this attack")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder, served({"DDPM_RATE": "0", "TMPDIR": folder}) as server:
        first, end = visit(server.url, 0)
        print(f"Without an attack the first picture comes after {first:.2f} s and the last after {end:.2f} s.")
        print(
            "attack        requests    first    worst      end          MB (after)       files (after)     threads (after)",
            flush=True,
        )
        for name in options.only or ATTACKS:
            requests = MANY if name == "sessions" else options.requests
            one = felt(server, Path(folder), name, requests, options.runs)
            found.append(one)
            held = ((each.megabytes, each.open_files, each.threads) for each in (one.before, one.after))
            print(ROW.format(*one[:5], *chain(*zip(*held))), flush=True)
    if options.json:
        options.json.write_text(json.dumps([one._asdict() for one in found], indent=1) + "\n")
    if any(one.first_worst > 1 for one in found):
        sys.exit("A visitor has waited for more than a second for the first picture.")


if __name__ == "__main__":
    main()
