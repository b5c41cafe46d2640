"""The guard refuses what is not allowed in one sentence, and lets everything else pass as it streams."""

from __future__ import annotations

import ast
import asyncio
import itertools
from pathlib import Path

import pytest
from gradio import processing_utils
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from ddpm.page import gradio_patches, guard
from ddpm.page.guard import (
    APART,
    CLOSED,
    DESCRIPTION_COST,
    MOST_BODY_BYTES,
    MOST_BYTES,
    SECURITY,
    UPLOAD,
    Buckets,
    Guard,
    Limits,
    address,
)

ROOT = Path(__file__).parent.parent


async def _echo(request: Request) -> JSONResponse:
    return JSONResponse(len(await request.body()))


async def _fail(request: Request) -> JSONResponse:
    raise KeyError("/a/path/of/this/machine")


def app(limits: Limits = Limits(rate=0)) -> Starlette:  # noqa: B008  # a frozen value
    routes = [
        Route("/gradio_api/queue/join", _echo, methods=["POST"]),
        Route("/gradio_api/upload", _echo, methods=["POST"]),
        Route("/", _echo),
        Route("/config", _echo),
        Route("/gradio_api/info", _echo),
        Route("/fail", _fail),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, limits=limits)])


@pytest.fixture
def client():
    return TestClient(app())


# --- headers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/nowhere", 404), (CLOSED[0], 404), ("/fail", 500)])
def test_every_answer_has_the_security_headers(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY


def test_only_the_app_itself_and_hugging_face_may_frame_the_page():
    policy = dict(part.split(" ", 1) for part in SECURITY["Content-Security-Policy"].split("; "))
    assert policy["frame-ancestors"] == "'self' https://huggingface.co https://*.hf.space"
    others = " ".join(sources for name, sources in policy.items() if name != "frame-ancestors")
    assert "http" not in others and "*" not in others


def test_an_error_says_nothing_of_what_is_inside(client):
    answer = client.get("/fail")
    assert answer.json() == {"detail": "The server has an error; please try again."}


# --- sizes and times ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "most"), [("/gradio_api/queue/join", MOST_BODY_BYTES), (UPLOAD, MOST_BYTES[UPLOAD])])
def test_a_body_may_have_so_many_bytes_and_not_one_more(client, path, most):
    assert client.post(path, content=b"0" * most).json() == most
    refused = client.post(path, content=b"0" * (most + 1))
    assert refused.status_code == 413
    assert f"{most:,}" in refused.json()["detail"]


def test_a_body_of_unknown_length_is_refused(client):
    assert client.post("/gradio_api/upload", content=iter([b"0"])).status_code == 411


def test_a_body_that_does_not_come_is_given_up(monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.01)
    sent = []

    async def never() -> dict:
        return await asyncio.Event().wait()

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b"", "http_version": "1.1"}
    scope |= {"headers": [(b"content-length", b"5")], "client": ("1.2.3.4", 5)}
    asyncio.run(app()(scope, never, send))
    assert sent[0]["status"] == 408


def test_each_piece_of_a_stream_is_passed_on_before_the_next_is_made():
    made, taken = [], []

    async def pieces():
        for number in range(3):
            made.append(number)
            yield str(number)

    async def endless(scope, receive, send):
        await StreamingResponse(pieces())(scope, receive, send)

    async def send(message: dict) -> None:
        if message.get("body"):
            taken.append((message["body"], len(made)))

    async def connected() -> dict:
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": None}
    asyncio.run(Guard(endless, Limits())(scope, connected, send))
    assert taken == [(b"0", 1), (b"1", 2), (b"2", 3)]


# --- turns ----------------------------------------------------------------------------------------------------------


def asked(method, path):
    return {"type": "http", "method": method, "path": path, "headers": [(b"content-length", b"0")], "client": None}


def test_those_who_start_runs_come_in_one_by_one_and_a_page_waits_for_none_of_them():
    turn, entered = 0, []

    async def count():
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def note(scope, receive, send):
        entered.append((scope["method"], turn))

    async def come():
        guarded, counter = Guard(note, Limits()), asyncio.create_task(count())
        class_ = [guarded(asked("POST", "/gradio_api/queue/join"), None, None) for _ in range(5)]
        await asyncio.gather(*class_, guarded(asked("GET", "/"), None, None))
        counter.cancel()

    asyncio.run(come())
    assert entered[0][0] == "GET"
    turns = [at for method, at in entered if method == "POST"]
    assert len(turns) == 5
    assert all(later - earlier >= APART for earlier, later in itertools.pairwise(turns))


def test_whoever_has_stood_at_the_door_for_long_comes_in_anyway(monkeypatch):
    monkeypatch.setattr(guard, "LONGEST_TURN", 0.01)
    entered = []

    async def note(scope, receive, send):
        entered.append(scope["path"])

    async def come():
        guarded = Guard(note, Limits())
        async with guarded._door:
            await guarded(asked("POST", "/gradio_api/queue/join"), None, None)

    asyncio.run(come())
    assert entered == ["/gradio_api/queue/join"]


# --- closed paths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*CLOSED, "/gradio_api/file=HTTPS://example.com/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_what_the_app_does_not_use_is_not_there(client, method, path):
    assert client.request(method, path).status_code == 404


@pytest.mark.parametrize(
    "query", ["deep_link=../../etc", "deep_link=a", "deep_link=", "steps=3&%64eep_link=..%2Fx", "page=nope", "page="]
)
def test_a_link_to_a_state_on_the_servers_disk_or_to_a_page_by_name_leads_nowhere(client, query):
    assert client.get(f"/?{query}").status_code == 404


def test_it_is_not_there_below_a_root_path_either():
    under = TestClient(app(), root_path="/ours")
    assert under.get(f"/ours{CLOSED[0]}").json()["detail"] == "This page does not exist."


# --- the rate -------------------------------------------------------------------------------------------------------


def test_a_bucket_gives_its_burst_at_once_and_its_rate_from_then_on():
    now = [0.0]
    buckets = Buckets(rate=2, burst=3, now=lambda: now[0])
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.wait("b") == 0
    now[0] = 0.5
    assert [buckets.wait("a") for _ in range(2)] == [0, 0.5]
    now[0] = 1000
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_what_costs_more_takes_more_tokens_but_never_more_than_there_can_be():
    buckets = Buckets(rate=2, burst=3, now=lambda: 0)
    assert buckets.wait("a", 2) == 0 and buckets.wait("a", 2) == 0.5
    assert buckets.wait("b", 5) == 0 and buckets.wait("b") == 0.5


def test_a_refused_request_takes_nothing_from_the_bucket():
    now = [0.0]
    buckets = Buckets(rate=1, burst=1, now=lambda: now[0])
    assert buckets.wait("a") == 0
    for k in range(1, 10):
        now[0] = k / 10
        assert buckets.wait("a") == pytest.approx(1 - k / 10)
    now[0] = 1
    assert buckets.wait("a") == 0


def test_so_many_addresses_are_remembered_and_not_one_more(monkeypatch):
    monkeypatch.setattr(guard, "MOST_ADDRESSES", 3)
    buckets = Buckets(rate=1, burst=1, now=lambda: 0)
    for who in "abcd":
        buckets.wait(who)
    assert len(buckets) == 3
    assert buckets.wait("d") > 0 and buckets.wait("a") == 0  # the one seen first was forgotten


def test_too_many_requests_are_refused_in_a_sentence_that_says_how_long_to_wait():
    client = TestClient(app(Limits(rate=0.1, burst=2)))
    answers = [client.post("/gradio_api/queue/join", content=b"{}") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["detail"].startswith("Too many requests come from your address; please wait")
    assert int(answers[2].headers["retry-after"]) in range(1, 11)
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("path", ["/config", "/gradio_api/info", "/Config"])
def test_whoever_asks_for_large_descriptions_of_the_app_is_asked_to_wait_too(path):
    client = TestClient(app(Limits(rate=0.1, burst=2 * DESCRIPTION_COST)))
    answers = [client.get(path) for _ in range(3)]
    assert [answer.status_code == 429 for answer in answers] == [False, False, True]
    assert "please wait" in answers[2].json()["detail"]


@pytest.mark.parametrize(
    ("limits", "header", "who"),
    [
        (Limits(), "6.6.6.6", "10.0.0.1"),
        (Limits(header="X-Forwarded-For"), "6.6.6.6, 7.7.7.7", "7.7.7.7"),
        (Limits(header="X-Forwarded-For", hops=2), "5.5.5.5, 6.6.6.6, 7.7.7.7", "6.6.6.6"),
        (Limits(header="X-Forwarded-For", hops=2), "7.7.7.7", "10.0.0.1"),
        (Limits(header="X-Forwarded-For"), "", "10.0.0.1"),
        (Limits(header="X-Forwarded-For"), "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (Limits(header="X-Forwarded-For"), "::ffff:7.7.7.7", "7.7.7.7"),
        (Limits(header="X-Real-IP"), "6.6.6.6", "10.0.0.1"),
    ],
)
def test_an_address_is_believed_only_where_a_trusted_proxy_has_written_it(limits, header, who):
    scope = {"headers": [(b"x-forwarded-for", header.encode())], "client": ("10.0.0.1", 5)}
    assert address(scope, limits) == who


@pytest.mark.parametrize(
    ("peer", "proxies", "believed"),
    [
        *[("127.0.0.1", "", True), ("::1", "", True), ("192.168.1.2", "", True), ("::ffff:10.0.0.1", "", True)],
        *[("8.8.8.8", "", False), ("2001:db8::1", "", False), ("unknown", "", False)],
        *[("8.8.8.8", "8.8.8.0/24, 10.1.0.0/16", True), ("10.2.0.1", "8.8.8.0/24,10.1.0.0/16", False)],
    ],
)
def test_a_header_is_believed_only_of_a_proxy_in_a_named_network(peer, proxies, believed):
    limits = Limits.from_environment({"DDPM_TRUSTED_PROXY_HEADER": "X-Forwarded-For", "DDPM_TRUSTED_PROXIES": proxies})
    scope = {"headers": [(b"x-forwarded-for", b"6.6.6.6")], "client": (peer, 5)}
    assert (address(scope, limits) == "6.6.6.6") == believed


def test_an_address_that_is_none_cannot_fill_the_memory():
    scope = {"headers": [(b"x-forwarded-for", b"x" * 5000)], "client": ("10.0.0.1", 5)}
    assert len(address(scope, Limits(header="X-Forwarded-For"))) <= 64


def test_the_limits_come_from_the_environment():
    names = {"DDPM_RATE": "0.5", "DDPM_TRUSTED_PROXY_HEADER": "X-Forwarded-For", "DDPM_TRUSTED_PROXY_HOPS": "2"}
    assert Limits.from_environment(names) == Limits(0.5, 15, "X-Forwarded-For", 2)
    assert Limits.from_environment({}) == Limits()


@pytest.mark.parametrize(
    "names",
    [{"DDPM_RATE": "fast"}, {"DDPM_RATE": "-1"}, {"DDPM_RATE": "nan"}, {"DDPM_RATE": "inf"}, {"DDPM_TRUSTED_PROXY_HOPS": "0"}, {"DDPM_TRUSTED_PROXIES": "10.0.0.1/8"}, {"DDPM_TRUSTED_PROXIES": "all"}],
)  # fmt: skip
def test_limits_that_cannot_be_are_refused(names):
    with pytest.raises(ValueError, match="must be"):
        Limits.from_environment(names)


# --- the code -------------------------------------------------------------------------------------------------------

CODE = [*ROOT.glob("*.py"), *ROOT.glob("ddpm/**/*.py"), *ROOT.glob("scripts/*.py")]


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_reads_a_pickle_or_runs_text(path):
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not forbidden & {name.split(".")[0] for name in names}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "torch.load", "torch.jit.load", "np.load", "numpy.load")
            assert not {word.arg for word in node.keywords} & {"allow_pickle", "shell"}


def test_gradio_fetches_nothing_for_a_visitor(monkeypatch, tmp_path):
    monkeypatch.setattr(processing_utils, "async_ssrf_protected_get", processing_utils.async_ssrf_protected_get)
    gradio_patches.forbid_outgoing_requests()
    with pytest.raises(ValueError, match="fetches nothing"):
        asyncio.run(processing_utils.async_ssrf_protected_download("https://example.com/a.png", str(tmp_path)))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
