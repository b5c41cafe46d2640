"""What the scripts share that measure the app as visitors meet it: a server of its own, and runs over HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 300
"""Seconds until a server that does not answer is given up."""


class Server(NamedTuple):
    """The address and the process of an app that is served."""

    url: str
    pid: int


@contextmanager
def served(environment: Mapping[str, str]) -> Iterator[Server]:
    """The app, served by a process of its own with ``environment`` besides. Raises OSError if it does not answer."""
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
        yield Server(url, process.pid)
    finally:
        process.terminate()
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


def digits(count: int, steps: int, seed: int) -> dict[str, object]:
    """What the Digits page is asked for: ``count`` pictures in ``steps`` DDIM steps, by names that outlast new settings."""
    return {"count": count, "steps": steps, "seed": seed}


def messages(url: str, settings: Mapping[str, object]) -> Iterator[str]:
    """The kind of each message of a run of the Digits page at ``url``, as it comes: "start", "frame" or "waiting", "end".

    Who closes the iterator leaves in mid-run. Raises OSError for an error of the server, or a run that failed on it.
    """
    with closing(streamed(url, "denoise_mnist", settings)) as found:
        for message in found:
            header = json.loads(message.partition("|")[0])
            if header.get("problem"):
                raise OSError(f"A run failed: {header['problem']}")
            yield header["kind"]


def streamed(url: str, asks: str, settings: Mapping[str, object]) -> Iterator[str]:
    """Each message of the endpoint ``asks`` of the app at ``url``, as it comes: "header|payload"."""
    endpoint = f"{url}/gradio_api/call/v2/{asks}"
    body = json.dumps(settings).encode()
    request = urllib.request.Request(endpoint, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        event = json.load(answer)["event_id"]
    with closing(urllib.request.urlopen(f"{endpoint}/{event}", timeout=PATIENCE)) as stream:
        for line in stream:
            name, _, value = line.decode().rstrip().partition(": ")
            if name == "event":
                kind = value
            elif name == "data" and kind == "generating":
                yield from json.loads(value)[0].split("\n")
            elif name == "data" and kind == "error":
                raise OSError(f"The server has an error: {value}")


@contextmanager
def at_work(url: str, visitors: int) -> Iterator[Callable[[], int]]:
    """``visitors`` whose runs outlast the context; yields the function that says how many of them get pictures."""
    enough, shown = threading.Event(), [False] * visitors

    def visit(number: int) -> None:
        with closing(messages(url, digits(2, 1000, number))) as kinds:
            for kind in kinds:
                shown[number] = kind == "frame"
                if enough.is_set():
                    return

    threads = [threading.Thread(target=visit, args=(number,), daemon=True) for number in range(visitors)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(shown)
    finally:
        enough.set()
        for thread in threads:
            thread.join()
