"""A thousand hostile or random requests: no traceback, no crash, no file touched, and a normal run works right after."""

from __future__ import annotations

import json
import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import plotly
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddpm.page import still
from scripts._served import ROOT, digits, messages, served

REQUESTS = 1000
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
FILE = {"_type": "gradio.FileData"}

PATHS = [
    *(
        "/etc/passwd",
        "../../../../etc/passwd",
        "app.py",
        f"{ROOT}/app.py",
        "checkpoints/mnist.safetensors",
        ".git/config",
    ),
    *("/proc/self/environ", str(PLOTLY), f"{ROOT}/ddpm/examples/mnist.png", "file:///etc/passwd", "\\\\host\\share"),
    *("http://127.0.0.1:1/", "http://example.com/x.png", "data:,x", "%2e%2e%2fapp.py", "..;/app.py", "", "~", "a\0b"),
]

WORDS = [
    "NaN",
    "1e999",
    "-0",
    "0x10",
    "٣",
    "🎲" * 20,
    "x" * 20_000,
    "{{7*7}}",
    "<script>",
    "'; --",
    "__class__",
    "\udcff",
]

numbers = st.integers() | st.sampled_from([10**400, -(2**63), 2**31]) | st.floats()
leaves = st.none() | st.booleans() | numbers | st.text(max_size=30) | st.sampled_from([*PATHS, *WORDS])
files = st.fixed_dictionaries(
    {"path": st.sampled_from(PATHS), "meta": st.just(FILE)}, optional={"url": st.sampled_from(PATHS)}
)
large = st.sampled_from([[0] * 20_000, [[]] * 5_000, {str(i): i for i in range(2_000)}])
junk = files | large | st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4), max_leaves=8
)  # fmt: skip
broken = st.sampled_from(
    ["", "{", "null", "[]", "[" * 50_000, '{"data": [NaN]', "\0", '"' + "x" * 300_000 + '"', "1" * 9000]
)

READS = [
    "/gradio_api/file=",
    "/gradio_api/file/",
    "/gradio_api/proxy=",
    "/static/",
    "/assets/",
    "/svelte/",
    "/config/",
    "/",
]
SCENES = [
    *("/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/component_server"),
    *(
        "/gradio_api/run/predict",
        "/gradio_api/call/predict",
        "/gradio_api/call/v2/denoise_mnist",
        "/gradio_api/vibe-edit",
    ),
    *("/gradio_api/upload", "/gradio_api/stream/x", "/gradio_api/process_recording", "/login", "/"),
]
FILES = [
    b"",
    b"MZ",
    b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
    b"GIF89a" + b"\xff" * 50,
    b"\xff" * 70_000,
    b'{"__metadata__": 1}',
]


class Event(NamedTuple):
    """What a visitor can start: its number, its public name if it has one, the values that its page sends at first."""

    number: int
    name: str | None
    queued: bool
    values: list[Any]


def events(config: dict[str, Any]) -> list[Event]:
    """All events of all pages that reach the server, by the app's own description of itself."""
    values = {component["id"]: component["props"].get("value") for component in config["components"]}
    return [
        Event(
            event["id"],
            event["api_name"] if event["api_visibility"] == "public" else None,
            event["queue"],
            [values.get(component) for component in event["inputs"]],
        )
        for event in config["dependencies"]
        if event["backend_fn"]
    ]


def arguments(event: Event) -> st.SearchStrategy[Any]:
    """Data for ``event``: one value of the page's own turned into junk, all of them, or something that is no list of values."""
    count = len(event.values)
    one = st.tuples(st.integers(0, max(count - 1, 0)), junk).map(lambda change: _replaced(event.values, *change))
    return one | one | st.lists(junk, min_size=count, max_size=count) | junk


def _replaced(values: list[Any], index: int, value: Any) -> list[Any]:
    return [value if i == index else old for i, old in enumerate(values)]


def bodies(event: Event, session: str) -> st.SearchStrategy[str]:
    """The text of a request that starts ``event``; JSON as Python writes it, with NaN in it."""
    known = {"data": arguments(event), "fn_index": st.just(event.number), "session_hash": st.just(session)}
    odd = {"event_data": junk, "trigger_id": junk, "fn_index": junk, "data": junk, "session_hash": junk}
    whole = st.fixed_dictionaries(known, optional={"event_data": junk, "trigger_id": st.integers(0, 500) | junk})
    return (whole | whole | whole | st.fixed_dictionaries(known | odd)).map(json.dumps) | broken


def attack(strategy: st.SearchStrategy[Any], send: Any, times: int) -> None:
    """Lets ``send`` have ``times`` examples."""

    @settings(
        max_examples=times, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(strategy)
    def each(example: Any) -> None:
        send(example)

    each()


LEFT_ALONE = {".venv", ".git", ".hypothesis", ".pytest_cache", ".ruff_cache", "__pycache__"}
"""Folders that other programs write to, the tests' own among them."""


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file below ``folder``."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not LEFT_ALONE & set(path.parts))
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def app(folder):
    with served({"TMPDIR": str(folder), "DDPM_RATE": "0"}) as server:
        yield server


class Attacker:
    """Sends requests and judges the answers."""

    def __init__(self, url: str):
        self.sent, self.started = 0, 0
        self._client = httpx.Client(base_url=url, timeout=60)

    def ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        answer = self._client.request(method, path, **content)
        self.sent += 1
        self._judge(answer.text, path)
        return answer

    def post(self, path: str, body: str) -> None:
        content = body.encode("utf-8", "surrogatepass")
        answer = self.ask("POST", path, content=content, headers={"Content-Type": "application/json"})
        self.started += answer.status_code == 200 and "event_id" in answer.text

    def listen(self, session: str, lines: int = 12) -> None:
        """The first answers to what ``session`` has started; then it leaves."""
        path = f"/gradio_api/queue/data?session_hash={session}"
        with suppress(httpx.ReadTimeout), self._client.stream("GET", path, timeout=5) as stream:
            for number, line in enumerate(stream.iter_lines()):
                self._judge(line, session)
                if number >= lines or "close_stream" in line:
                    return

    @staticmethod
    def _judge(text: str, what: str) -> None:
        for secret in ("Traceback (most", 'File "', "site-packages/gradio", "root:x:0", "def build_app"):
            assert secret not in text[:200_000] or what == "/", f"{what} answers {text[:300]}"


@pytest.fixture
def attacker(app):
    return Attacker(app.url)


def normal_run(app) -> list[str]:
    return list(messages(app.url, digits(1, 3, 5)))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what the server writes is found through /proc")
def test_a_thousand_hostile_requests_break_nothing_and_a_normal_run_works_right_after(app, folder, attacker):
    expected, before = normal_run(app), snapshot(ROOT)
    own = {path: path.stat().st_mtime_ns for path in (PLOTLY, Path("/etc/passwd"))}
    every = events(httpx.get(f"{app.url}/config", timeout=60).json())
    assert {"denoise_mnist", "sample", "flow", "train"} <= {event.name for event in every}

    reads = st.tuples(st.sampled_from(["GET", "HEAD"]), st.sampled_from(READS), st.sampled_from(PATHS))
    attack(reads, lambda each: attacker.ask(each[0], each[1] + each[2].replace("\0", "%00")), 100)
    attack(st.tuples(st.sampled_from(SCENES), junk.map(json.dumps) | broken), lambda each: attacker.post(*each), 100)
    named = st.tuples(st.sampled_from([path for path in PATHS if path]), st.sampled_from(FILES))
    attack(named, lambda each: attacker.ask("POST", "/gradio_api/upload", files={"files": each}), 40)

    times = math.ceil((REQUESTS - attacker.sent) / len(every))
    for event in every:
        session = f"hostile{event.number}"
        path = "/gradio_api/queue/join" if event.queued else "/gradio_api/run/predict"
        attack(bodies(event, session), lambda body, path=path: attacker.post(path, body), times)
        if event.name:
            calls = arguments(event).map(lambda data: json.dumps({"data": data}))
            attack(calls, lambda body, name=event.name: attacker.post(f"/gradio_api/call/{name}", body), 10)
        if event.queued:
            attacker.listen(session)

    assert attacker.sent >= REQUESTS
    assert attacker.started >= REQUESTS / 10, "hardly a request came as far as a handler"
    assert snapshot(ROOT) == before
    assert {path: path.stat().st_mtime_ns for path in own} == own
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 2**24
    assert os.path.exists(f"/proc/{app.pid}")
    assert normal_run(app) == expected


def file_event(app, suffix: str) -> int:
    """The number of the event of a lesson that takes a file: an upload button's, on the page with ``suffix``."""
    config = httpx.get(f"{app.url}/config", timeout=60).json()
    buttons = {each["id"] for each in config["components"] if each["type"] == "uploadbutton"}
    return next(
        event["id"]
        for event in config["dependencies"]
        if set(event["inputs"]) & buttons and set(event["inputs"]) <= config_page(config, suffix)
    )


def config_page(config: dict[str, Any], name: str) -> set[int]:
    return set(config["page"][name]["components"])


@pytest.mark.slow
@pytest.mark.parametrize("page", ["noising", "train"])
@pytest.mark.parametrize("named", [PLOTLY, ROOT / "ddpm" / "examples" / "mnist.png"], ids=["plotly", "examples"])
def test_a_file_that_everybody_may_read_is_not_taken_for_an_upload_and_removed(app, attacker, page, named):
    content, session = named.read_bytes(), f"thief{page}{named.stem}"
    data = [{"path": str(named), "meta": FILE, "orig_name": "x.png", "size": 1}]
    body = {"data": data, "fn_index": file_event(app, page), "session_hash": session}
    attacker.post("/gradio_api/queue/join", json.dumps(body))
    assert attacker.started == 1
    attacker.listen(session)
    exists = named.exists()
    if not exists:
        named.write_bytes(content)  # what the test has proved must not stay broken
    assert exists


@pytest.mark.slow
def test_the_server_tells_nobody_that_it_was_started(app, folder):
    normal_run(app)
    assert not list(folder.rglob(".ses")), "ONNX Runtime keeps a session to report to its makers"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["app.py", "README.md", "checkpoints/mnist.safetensors", "ddpm/page/guard.py"])
def test_the_working_directory_is_not_served(app, name):
    for path in (f"/gradio_api/file={name}", f"/gradio_api/file={ROOT / name}", f"/static/../{name}", f"/{name}"):
        assert httpx.get(app.url + path, timeout=60).status_code in (403, 404)


@pytest.mark.slow
def test_what_the_page_needs_is_served(app):
    for name, path in still.FILES.items():
        answer = httpx.get(f"{app.url}/{still.address(name)}", timeout=60)
        assert answer.status_code == 200 and len(answer.content) >= path.stat().st_size
