"""What a stored set of links gives: python scripts/links.py compares it with tests/links.json, --write stores it anew.

Each link's run is asked of the served app as a program asks for it, and every message of it counts, byte for byte, but
for the times in it. Bytes depend on the machine and on PyTorch as well, so the file says with which they were made.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import _root  # noqa: F401
import torch
from _served import ROOT, served, streamed

LINKS = ROOT / "tests" / "links.json"

SERVER = {"DDPM_BACKEND": "torch", "DDPM_BATCH": "8", "DDPM_RATE": "0"}
"""So that nothing is chosen by how fast the machine is at the moment."""

OF_THE_MOMENT = ("job", "seconds", "left")
"""What tells of the machine or of earlier runs in a message's header."""


def machine() -> str:
    """What the bytes of a run depend on besides its settings."""
    return f"torch {torch.__version__}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def digest(messages: Iterator[str]) -> str:
    """A name for what ``messages`` say."""
    total = hashlib.sha256()
    for message in messages:
        header, _, payload = message.partition("|")
        about = {name: value for name, value in json.loads(header).items() if name not in OF_THE_MOMENT}
        if about["kind"] != "waiting":
            total.update(f"{json.dumps(about, sort_keys=True)}|{payload}\n".encode())
    return total.hexdigest()[:24]


def found(url: str, links: list[dict[str, Any]]) -> Iterator[str]:
    """The digest of each link, asked of the app at ``url``."""
    for link in links:
        with closing(streamed(url, link["asks"], link["settings"])) as messages:
            yield digest(messages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="store what is found")
    arguments = parser.parse_args()
    stored = json.loads(LINKS.read_text("utf-8"))
    if not arguments.write and stored["machine"] != machine():
        sys.exit(f"The stored digests are of another machine: {stored['machine']}; this one is {machine()}.")
    changed = 0
    with served(SERVER) as server:
        for link, now in zip(stored["links"], found(server.url, stored["links"])):
            if link.get("digest") != now:
                changed += 1
                print(f"{link['asks']} {link['settings']}: {link.get('digest')} is now {now}")
            link["digest"] = now
    if arguments.write:
        rows = ",\n".join(f"  {json.dumps(link, ensure_ascii=False)}" for link in stored["links"])
        LINKS.write_text(f'{{\n "machine": {json.dumps(machine())},\n "links": [\n{rows}\n ]\n}}\n', "utf-8")
    print(f"{len(stored['links']) - changed} of {len(stored['links'])} links give what they gave.")
    sys.exit(bool(changed and not arguments.write))


if __name__ == "__main__":
    main()
