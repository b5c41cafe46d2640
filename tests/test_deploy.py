"""The app where people put it: in a container's files, on a disk that cannot be written, below a path, with the Hub gone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from conftest import ROOT, free_port, served, started, until
from gradio_client import Client
from hub import NAME
from pages import finish, open_page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from app import LESSONS

QUICK = {"count": 1, "steps": 2}
RUNS = ("", "colour", "line", "plane")
"""The paths of the lessons that begin with a run."""


def copied(folder: Path) -> Path:
    """What the Dockerfile copies into the image, in ``folder``."""
    text = (ROOT / "Dockerfile").read_text()
    folder.mkdir()
    for *sources, target in (line.split() for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE)):
        for source in sources:
            place = folder / target / Path(source).name if target == "./" else folder / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__", "*-classifier.*"))
            else:
                shutil.copy(ROOT / source, place)
    return folder


def test_the_image_is_built_from_what_may_enter_it_and_runs_as_an_ordinary_user():
    text = (ROOT / "Dockerfile").read_text()
    let_in = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    sources = {one.rstrip("/") for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for one in line.split()}
    assert sources == let_in and all((ROOT / source).exists() for source in sources)
    assert re.search(r"^USER (?!root)\w+$", text, re.MULTILINE) and "HEALTHCHECK" in text


def as_ordinary_user() -> list[str]:
    """What runs a command as another user than root, where the system allows it."""
    ordinary = ["unshare", "--user", "--map-user=1000"]
    if (
        os.getuid() == 0
        and shutil.which("unshare")
        and subprocess.run([*ordinary, "true"], check=False).returncode == 0
    ):
        return ordinary
    return []


@pytest.mark.slow
def test_the_app_draws_from_the_images_files_as_an_ordinary_user_on_a_disk_that_cannot_be_written(
    tmp_path, monkeypatch, capsys
):
    folder, temporary, refused = copied(tmp_path / "app"), tmp_path / "tmp", tmp_path / "refused"
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary), "HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent/cache"}
    ordinary = as_ordinary_user()
    command = [str(ROOT / "tests" / "guard.py"), str(refused)]
    begun = time.monotonic()
    with served(tmp_path / "log", environment, command, folder, ordinary) as url:
        up = time.monotonic() - begun
        client = Client(url, verbose=False, analytics_enabled=False, download_files=False)
        kinds = re.findall(r'"kind": "(\w+)"', "".join(client.submit(**QUICK, api_name="/denoise_mnist")))
        drawn = time.monotonic() - begun
        picture, _ = client.predict(**QUICK, api_name="/generate_mnist")
        assert Path(picture["path"]).is_relative_to(temporary)
    assert kinds == ["start", "frame", "frame", "frame", "end"]
    assert not [line for line in refused.read_text().splitlines() if "ddpm" not in line.rpartition(" ")[2]]
    assert "The graph is not kept" in (tmp_path / "log").read_text()
    with capsys.disabled():
        print(f"\ncold start: first page after {up:.1f} s, first picture after {drawn:.1f} s")


def test_the_app_ends_in_order_when_it_is_told_to_in_the_middle_of_a_run(tmp_path):
    with started(tmp_path / "log") as (url, process):
        client = Client(url, verbose=False, analytics_enabled=False, download_files=False)
        run = client.submit(count=25, steps=1000, api_name="/denoise_mnist")
        until(lambda: len(run.outputs()) > 1, "pictures")
        process.terminate()
        assert process.wait(60) == 0
    said = (tmp_path / "log").read_text()
    assert "terminate" not in said and "Traceback" not in said


# --- below a path -----------------------------------------------------------------------------------------------------


@contextmanager
def proxy(target: str, path: str) -> Iterator[str]:
    """A reverse proxy that serves ``target`` below ``path`` and nothing else; gives the address below the path."""
    # No connection is kept for later: uvicorn may close one in the moment in which it is taken again.
    client = httpx.AsyncClient(base_url=target, timeout=None, limits=httpx.Limits(max_keepalive_connections=0))

    async def forward(request: Request) -> StreamingResponse:
        dropped = {"host", "content-length", "connection"}
        headers = {name: value for name, value in request.headers.items() if name not in dropped}
        headers |= {"x-forwarded-host": request.headers["host"], "x-forwarded-proto": "http"}
        url = httpx.URL(
            path=request.path_params["rest"] and f"/{request.path_params['rest']}" or "/",
            query=request.url.query.encode(),
        )
        asked = client.build_request(request.method, url, headers=headers, content=await request.body())
        answer = await client.send(asked, stream=True)
        kept = {
            name: value for name, value in answer.headers.items() if name not in {"connection", "transfer-encoding"}
        }
        return StreamingResponse(answer.aiter_raw(), answer.status_code, kept)

    methods = ["GET", "HEAD", "POST"]
    routes = [
        Route(
            "/favicon.ico", lambda request: Response(status_code=204)
        ),  # which browsers ask the host for by themselves
        Route(path, lambda request: RedirectResponse(f"{path}/?{request.url.query}")),
        Mount(path, routes=[Route("/{rest:path}", forward, methods=methods)]),
    ]
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=routes), port=(port := free_port()), log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, "the proxy")
        yield f"http://127.0.0.1:{port}{path}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


@pytest.fixture(scope="module")
def below(tmp_path_factory):
    """The app below a path, behind a proxy."""
    log = tmp_path_factory.mktemp("below") / "log"
    with served(log, {"GRADIO_ROOT_PATH": "/some/path"}) as url, proxy(url, "/some/path") as address:
        yield address


@pytest.mark.parametrize("path", RUNS)
def test_every_lesson_runs_below_a_path(page, below, path):
    state = open_page(page, f"{below}/{path}?steps=5&count={2 if path in ('', 'colour') else 100}")
    assert state["state"] == "finished" and state["plots"] == "ready"


@pytest.mark.parametrize("path", [lesson.path for lesson in LESSONS if lesson.path not in RUNS])
def test_every_other_lesson_has_its_plots_below_a_path(page, below, path):
    page.goto(f"{below}/{path}")
    page.wait_for_function("document.querySelector('.player')?.dataset.plots === 'ready'")


def test_the_lessons_lead_to_one_another_below_a_path(page, below):
    open_page(page, f"{below}/?count=1&steps=2")
    for name, path in (("In the plane", "plane"), ("Digits", "")):
        page.get_by_role("link", name=name).first.click()
        page.wait_for_url(re.compile(re.escape(f"{below}/{path}") + r"/?(\?.*)?$"))
        finish(page)


def test_a_program_finds_the_app_below_a_path(below):
    _, told = Client(below, verbose=False, analytics_enabled=False).predict(**QUICK, api_name="/generate_mnist")
    assert told["settings"]["steps"] == 2


# --- the Hub ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_page_says_that_the_hub_is_gone_and_draws_all_the_same(page, tmp_path, remote):
    remote.down = True
    environment = {"DDPM_CHECKPOINTS": NAME, "HF_ENDPOINT": remote.url, "HF_HOME": str(tmp_path / "hub")}
    with served(tmp_path / "log", environment) as url:
        assert open_page(page, f"{url}/?count=1&steps=2")["state"] == "finished"
        told = page.locator("#problem").inner_text()
    assert f"did not deliver {NAME}" in told and "those of the app" in told
    assert remote.requests


@pytest.mark.parametrize(
    ("source", "part"), [("nowhere", "USER/NAME"), ("someone/else", "no repository someone/else"), (NAME, "none of")]
)
def test_a_source_that_cannot_be_right_keeps_the_app_from_starting(tmp_path, remote, source, part):
    environment = os.environ | {"DDPM_CHECKPOINTS": source, "HF_ENDPOINT": remote.url, "HF_HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert part in ended.stderr.splitlines()[-1] and "Traceback" not in ended.stderr
