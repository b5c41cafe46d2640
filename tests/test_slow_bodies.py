"""Who is slow to send a film's pictures or a file, or hangs up, takes nothing from others: real HTTP, two addresses."""

from __future__ import annotations

import http.client
import io
import logging
import select
import socket
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvicorn
from conftest import until
from gradio import route_utils
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ddpm.page import gradio_patches, guard, routes
from ddpm.page.guard import UPLOAD, Guard, Limits

ATTACKER, VISITOR = "127.0.0.2", "127.0.0.1"


@pytest.fixture
def address(tmp_path, monkeypatch) -> Iterator[tuple[str, int]]:
    """Where the app's own routes and Gradio's way to take a file are served behind the guard."""
    monkeypatch.setattr(route_utils, "GradioMultiPartParser", route_utils.GradioMultiPartParser)
    gradio_patches.take_one_file_an_upload()

    async def upload(request: Request) -> JSONResponse:
        taken, *_ = await route_utils.upload_fn(request, tmp_path, 1000, None)
        return JSONResponse([Path(one).name for one in taken])

    paths = [*routes.routes(()), Route(UPLOAD, upload, methods=["POST"])]
    app = Starlette(routes=paths, middleware=[Middleware(Guard, limits=Limits(rate=0))])
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    until(lambda: server.started, "the server")
    yield listening.getsockname()
    server.should_exit = True
    thread.join()


def begun(address: tuple[str, int], path: str, who: str = ATTACKER) -> socket.socket:
    """A connection on which a POST of 1,000 bytes has come to the first."""
    link = socket.create_connection(address, timeout=30, source_address=(who, 0))
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000"
    link.sendall(f"{head}\r\n\r\n-".encode())
    return link


def refusal(links: list[socket.socket]) -> bytes:
    """The first answer on any of the ``links``, which comes before the bodies have."""
    (refused, *_), _, _ = select.select(links, [], [], 30)
    said = b""
    while b"please try again in a few seconds." not in said and (more := refused.recv(10_000)):
        said += more
    return said


def asked(address: tuple[str, int], path: str, body: bytes, content: str, who: str = VISITOR) -> int:
    """The status of the answer to a POST."""
    link = http.client.HTTPConnection(*address, timeout=30, source_address=(who, 0))
    link.request("POST", path, body, {"Content-Type": content})
    status = link.getresponse().status
    link.close()
    return status


def pictures() -> bytes:
    picture, archive = io.BytesIO(), io.BytesIO()
    Image.new("L", (8, 8)).save(picture, "PNG")
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("0.png", picture.getvalue())
    return archive.getvalue()


FILE = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n1\r\n--x--\r\n'
SENT = {
    "/movie/gif": (pictures(), "application/zip", routes.MOST_EACH),
    UPLOAD: (FILE, "multipart/form-data; boundary=x", guard.UPLOADS_EACH),
}


@pytest.mark.parametrize("path", SENT)
def test_whoever_is_slow_to_send_takes_the_places_of_his_own_address_only(address, path):
    body, content, most = SENT[path]
    with ExitStack() as slow:
        links = [slow.enter_context(begun(address, path)) for _ in range(most + 1)]
        assert refusal(links).startswith(b"HTTP/1.1 429")
        assert asked(address, path, body, content) == 200
    until(lambda: asked(address, path, body, content, ATTACKER) == 200, "a place that is free again")


def test_many_addresses_together_have_so_many_places_for_films(address):
    with ExitStack() as slow:
        hosts = range(routes.MOST_AT_ONCE // routes.MOST_EACH + 1)
        senders = [f"127.0.1.{host}" for host in hosts for _ in range(routes.MOST_EACH)]
        links = [slow.enter_context(begun(address, "/movie/gif", who)) for who in senders]
        assert refusal(links).startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize("path", SENT)
def test_a_hang_up_leaves_one_line_in_the_log_and_no_file(address, path, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    begun(address, path).close()
    until(lambda: caplog.records, "the line")
    assert asked(address, path, *SENT[path][:2]) == 200
    assert [record.getMessage() for record in caplog.records] == [
        f"The client left before its request for {path!r} had come."
    ]
    assert not caplog.records[0].exc_info
    assert all(one.name == "a.png" for one in tmp_path.rglob("*") if one.is_file())
