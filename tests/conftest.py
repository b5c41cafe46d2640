"""What the tests share: one thread for torch, and for the pages a server, a browser, and pages that must stay clean."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hub as hub_server
import pytest
import torch
from browser import find
from huggingface_hub import constants, file_download
from playwright.sync_api import sync_playwright

import ddpm.hub

torch.set_num_threads(1)  # the tests' tensors are small, and their sums then do not depend on the machine's cores

ROOT = Path(__file__).parent.parent

PATIENCE = 120
"""Seconds until a test that waits in vain fails."""

QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def until(condition, what: str) -> None:
    """Returns once ``condition()`` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status == 200
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


@contextmanager
def started(
    log: Path,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = ("app.py",),
    folder: Path = ROOT,
    through: Sequence[str] = (),
) -> Iterator[tuple[str, subprocess.Popen]]:
    """The app that Python runs by ``command`` in ``folder``, itself run ``through`` another command: address, process.

    What it says goes to ``log``.
    """
    address = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port := free_port())}
    environment = {**os.environ, **address, **(environment or {})}
    url = f"http://{'[::1]' if ':' in environment['GRADIO_SERVER_NAME'] else '127.0.0.1'}:{port}"
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)  # torch leaves it behind where it has compiled
    with log.open("w") as out:
        process = subprocess.Popen(
            [*through, sys.executable, *command], cwd=folder, env=environment, stdout=out, stderr=out
        )
    try:
        until(lambda: process.poll() is not None or answers(url), "the server's first answer")
        assert process.poll() is None, f"the server ended: {log.read_text()}"
        yield url, process
    finally:
        process.kill()
        process.wait()


@contextmanager
def served(*arguments: Any, **named: Any) -> Iterator[str]:
    """The address of the app as ``started`` with these arguments."""
    with started(*arguments, **named) as (url, _):
        yield url


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of the app, served by ``python app.py``."""
    folder = tmp_path_factory.mktemp("server")
    with served(folder / "log", {"TMPDIR": str(folder)}) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    """Closed at the end of each file: while it is open, its event loop keeps other tests from running theirs."""
    path = find()
    if path is None:
        pytest.skip("there is no Chromium; make browser installs one")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser):
    """A fresh browser profile. The test fails if one of its pages has an error or asks another host for anything."""
    profile = browser.new_context(viewport={"width": 1280, "height": 900})
    profile.set_default_timeout(1000 * PATIENCE)
    # Gradio closes its stream as a page is left, and reports the abort as an error that no visitor can see.
    profile.add_init_script("addEventListener('beforeunload', () => { console.error = () => {} })")
    errors, requests = [], []
    profile.on("console", lambda message: message.type == "error" and errors.append(message.text))
    profile.on("weberror", lambda error: errors.append(str(error.error)))
    profile.on("request", lambda request: requests.append(request.url))
    yield profile
    profile.close()
    assert not errors
    outside = [url for url in requests if urlsplit(url).hostname not in ("127.0.0.1", "localhost", None)]
    assert not outside


@pytest.fixture
def page(context):
    return context.new_page()


@pytest.fixture
def remote(monkeypatch, tmp_path):
    """The Hub with an empty repository, an empty cache of it, and little patience."""
    with hub_server.served() as remote:
        monkeypatch.setattr(constants, "ENDPOINT", remote.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", remote.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)  # of 10 MB, without which nothing small is resumed
        monkeypatch.setattr(file_download, "_ETAG_RETRY_TIMEOUT", 0.5)
        monkeypatch.setattr(ddpm.hub, "PATIENCE", 0.5)
        monkeypatch.setenv("HF_TOKEN", "")
        yield remote
