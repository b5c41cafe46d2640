"""The app answers for hosts that are its own, and its answers are for its own pages."""

from __future__ import annotations

import socket

import httpx
import pytest
from gradio import routes
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from ddpm.page import gradio_patches
from ddpm.page.guard import Guard, Limits, is_trusted
from ddpm.page.hosts import Hosts

OWN = Hosts(frozenset({"diffusion.example.org", "*.school.example"}))


async def _page(request: Request) -> HTMLResponse:
    return HTMLResponse("|".join(f"{name}={value}" for name, value in request.headers.items()))


async def _data(request: Request) -> JSONResponse:
    return JSONResponse(1)


def client(peer: str = "10.0.0.7", hosts: Hosts = OWN) -> TestClient:
    paths = [Route("/", _page, methods=["GET", "POST"]), Route("/config", _data)]
    app = Starlette(routes=paths, middleware=[Middleware(Guard, limits=Limits(rate=0), hosts=hosts)])
    return TestClient(app, client=(peer, 5))


# --- hosts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "localhost:7860",
            "LOCALHOST.",
            "app.localhost",
            "lecturer.local:80",
            "diffusion",
            "my_app:7860",
        ),
        *("127.0.0.1:7860", "192.168.1.20", "8.8.8.8", "[::1]:7860", "[fd00::2]", "srv.internal", "pc.home.arpa"),
    ],
)
def test_addresses_and_local_names_need_not_be_configured(host):
    assert host in Hosts()


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example", "0x7f.0.0.1"),
        *("", ":80", "127.0.0.1@evil.example", 'localhost"><script>', "localhost/x", "localhost:80:80", "::1", "[x]"),
        *("notlocalhost.example", "evillocal.com"),
    ],
)
def test_any_other_host_is_a_strangers(host):
    assert host not in Hosts()


@pytest.mark.parametrize(
    ("configured", "inside", "outside"),
    [
        ("diffusion.example.org", "Diffusion.example.org:443", "x.diffusion.example.org"),
        ("*.example.org", "a.b.example.org", "example.org"),
        ("*", "anything.example", "no host"),
    ],
)
def test_the_hosts_that_are_configured_are_the_apps_too(configured, inside, outside):
    hosts = Hosts.from_environment({"DDPM_HOSTS": f"other.example, {configured}"})
    assert inside in hosts and outside not in hosts and "other.example" in hosts


@pytest.mark.parametrize(
    ("name", "value", "host"),
    [
        ("SPACE_HOST", "user-diffusion.hf.space,diffusion.example", "user-diffusion.hf.space"),
        ("SPACE_HOST", "user-diffusion.hf.space,diffusion.example", "diffusion.example"),
        ("GRADIO_SERVER_NAME", "pc12.example.edu", "pc12.example.edu:7860"),
        ("GRADIO_ROOT_PATH", "https://www.example.org:8443/diffusion", "www.example.org"),
    ],
)
def test_a_space_and_the_name_under_which_the_app_is_served_are_known(name, value, host):
    assert host in Hosts.from_environment({name: value}) and host not in Hosts.from_environment({})


def test_the_machines_own_name_is_known(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "pc12.example.edu")
    assert "pc12.example.edu:7860" in Hosts.from_environment({})


@pytest.mark.parametrize(
    "value", ["https://example.org", "example.org:80", "a b", "*example.org", "exa*mple.org", "a/b"]
)
def test_what_is_no_host_is_refused_in_a_sentence_that_says_what_is_wanted(value):
    with pytest.raises(ValueError, match="DDPM_HOSTS has .*; it must be names such as"):
        Hosts.from_environment({"DDPM_HOSTS": value})


def test_a_strange_host_is_refused_in_a_sentence_that_says_what_to_do():
    answer = client().get("/", headers={"Host": "evil.example"})
    assert answer.status_code == 421
    assert "'evil.example'; DDPM_HOSTS" in answer.json()["detail"]
    assert client().get("/", headers={"Host": "a.school.example"}).status_code == 200


# --- what proxies say -----------------------------------------------------------------------------------------------

SAYS = {"X-Forwarded-Host": "diffusion.example.org", "X-Forwarded-Proto": "https"}


def test_a_proxy_is_believed_if_it_is_trusted_and_nobody_else():
    assert "x-forwarded-host=diffusion.example.org" in client("10.0.0.7").get("/", headers=SAYS).text
    assert "x-forwarded" not in client("8.8.8.8").get("/", headers=SAYS).text


def test_the_host_that_a_trusted_proxy_names_must_be_the_apps_too():
    for named in ("evil.example", "diffusion.example.org, evil.example"):
        assert client().get("/", headers={"X-Forwarded-Host": named}).status_code == 421
        assert client("8.8.8.8").get("/", headers={"X-Forwarded-Host": named}).status_code == 200


def test_nobody_says_where_gradios_own_server_is():
    assert "gradio-server" not in client().get("/", headers={"X-Gradio-Server": "http://evil.example"}).text


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [("127.0.0.1", True), ("::ffff:10.1.2.3", True), ("fd00::1", True), ("8.8.8.8", False), ("unknown", False)],
)
def test_loopback_and_private_peers_are_trusted(peer, trusted):
    assert is_trusted(peer, Limits().proxies) is trusted


# --- other sites' pages ---------------------------------------------------------------------------------------------

STRANGERS = ["null", "https://evil.example", "http://localhost.evil.example", "http://127.0.0.1:9", "", "x"]


@pytest.mark.parametrize("origin", STRANGERS)
def test_a_request_from_another_sites_page_starts_nothing(origin):
    answer = client().post("/", headers={"Origin": origin, "Host": "diffusion.example.org"}, content=b"1")
    assert answer.status_code == 403
    assert "own pages only" in answer.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "diffusion.example.org", "Origin": "https://diffusion.example.org"},
        {"Host": "192.168.1.20:7860", "Origin": "http://192.168.1.20:7860"},
        {"Host": "[::1]:7860", "Origin": "http://[::1]:7860"},
        {"Host": "127.0.0.1:7860", "Origin": "https://diffusion.example.org", **SAYS},
        {"Host": "localhost:7860"},
    ],
)
def test_a_request_from_the_apps_own_page_or_from_a_program_is_let_in(headers):
    assert client().post("/", headers=headers, content=b"1").status_code == 200


@pytest.mark.parametrize("origin", [*STRANGERS, "https://diffusion.example.org"])
def test_gradio_allows_no_sites_scripts_to_read_an_answer(monkeypatch, origin):
    monkeypatch.setattr(routes, "CustomCORSMiddleware", routes.CustomCORSMiddleware)
    gradio_patches.answer_own_origin_alone()
    app = Starlette(routes=[Route("/", _page)])
    app.add_middleware(routes.CustomCORSMiddleware, strict_cors=True, parent_app=None)
    asked = {"Origin": origin, "Host": "diffusion.example.org", "Access-Control-Request-Method": "POST"}
    for method in ("GET", "OPTIONS"):
        answer = TestClient(app).request(method, "/", headers=asked)
        assert not [name for name in answer.headers if name.startswith("access-control")]


# --- copies on the way ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/config", "/?deep_link=x"])
def test_nobody_on_the_way_keeps_a_page_that_names_the_host_that_was_asked_for(path):
    answer = client().get(path)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "X-Forwarded-Host, X-Forwarded-Proto"


# --- the app as it is served ----------------------------------------------------------------------------------------


def test_the_app_itself_is_only_for_its_own_hosts_and_pages(server):
    named = httpx.get(server, headers={"Host": "pictures.localhost", "Origin": "null"})
    assert named.status_code == 200 and "http://pictures.localhost" in named.text
    assert named.headers["cache-control"] == "no-store"
    assert not [name for name in named.headers if name.startswith("access-control")]
    for headers in ({"Host": "evil.example"}, {"X-Forwarded-Host": "evil.example"}):
        assert httpx.get(server, headers=headers).status_code == 421
    strange = httpx.get(server, headers={"X-Gradio-Server": "http://evil.example"})
    assert strange.status_code == 200 and "evil.example" not in strange.text
    started = httpx.post(f"{server}/gradio_api/queue/join", json={}, headers={"Origin": "null"})
    assert started.status_code == 403


def test_the_app_itself_takes_one_file_an_upload_and_describes_itself_to_its_own_clients_only(server):
    files = [("files", (f"{k}.png", b"1")) for k in range(2)]
    refused = httpx.post(f"{server}/gradio_api/upload", files=files)
    assert refused.status_code == 400 and "Maximum number of files is 1" in refused.text
    assert httpx.post(f"{server}/gradio_api/upload", files=files[:1]).status_code == 200
    for path in ("/gradio_api/openapi.json", "/?deep_link=../../x", "/config?deep_link=../../x", "/?page=nope"):
        assert httpx.get(server + path).status_code == 404
