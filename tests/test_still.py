"""What stays the same is compressed once, kept by browsers, and lies nowhere where visitors' files expire."""

import asyncio
import json
import re
from urllib.parse import urljoin

import brotli
import httpx
import plotly.offline
import pytest
from conftest import served, until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app import LESSONS
from ddpm.page import still
from ddpm.page.still import FOREVER, MOST_PAGES, NEVER, PLOTLY, PLOTLY_3D, Still, address

TEXT = "the same for everybody " * 100


@pytest.fixture
def asked():
    """The paths that were asked for of the app behind."""
    return []


@pytest.fixture
def behind(asked):
    """An app with a file and a page that names the host by which it was asked."""

    def script(request: Request) -> Response:
        asked.append(request.url.path)
        missing = request.path_params["name"] == "missing.js"
        return Response("no" if missing else TEXT, 404 if missing else 200, media_type="text/javascript")

    def page(request: Request) -> Response:
        asked.append(str(request.url))
        return PlainTextResponse(f"{request.url.hostname} {request.url.query} {TEXT}")

    return Starlette(routes=[Route("/assets/{name:path}", script), Route("/plane", page), Route("/other", page)])


@pytest.fixture
def get(behind):
    """Asks for a path with headers, as often as one likes."""
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(Still(behind, frozenset({"plane"}))), base_url="http://here"
    )
    with asyncio.Runner() as runner:
        yield lambda path, **headers: runner.run(
            client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        )


def test_a_file_is_asked_for_once_whoever_wants_it(get, asked):
    answers = [get("/assets/a-1.js", accept_encoding=kind) for kind in ("br", "gzip", "identity", "br;q=1, gzip")]
    assert asked == ["/assets/a-1.js"]
    assert [answer.text for answer in answers] == [TEXT] * 4
    assert [answer.headers.get("content-encoding") for answer in answers] == ["br", "gzip", None, "br"]
    assert {answer.headers["cache-control"] for answer in answers} == {FOREVER}


def test_a_browser_that_has_a_file_is_told_so_in_a_word(get):
    tag = get("/assets/a-1.js").headers["etag"]
    again = get("/assets/a-1.js", if_none_match=tag)
    assert (again.status_code, again.content) == (304, b"")
    assert get("/assets/a-1.js", if_none_match='"another"').text == TEXT


def test_what_is_not_there_is_not_kept(get, asked):
    assert [get("/assets/missing.js").status_code for _ in range(2)] == [404, 404]
    assert len(asked) == 2


@pytest.mark.parametrize("path", ["/assets//a-1.js", "/assets/./a-1.js", "/assets/b/../a-1.js"])
def test_a_file_that_is_named_in_a_roundabout_way_is_not_kept(get, asked, path, monkeypatch):
    monkeypatch.setattr(httpx._urlparse, "normalize_path", lambda path: path)
    for _ in range(2):
        get(path)
    assert len(asked) == 2


def test_a_page_is_kept_by_host_and_not_by_its_query_and_no_browser_keeps_it(get, asked):
    first, second = get("/plane?steps=3"), get("/plane?steps=4&deep_link=x")
    other = get("/plane", host="there")
    assert first.text == second.text == f"here  {TEXT}"
    assert other.text.startswith("there ")
    assert len(asked) == 2
    assert first.headers["cache-control"] == NEVER and "etag" not in first.headers


def test_many_hosts_do_not_fill_the_memory(get, asked):
    for number in range(MOST_PAGES + 1):
        get("/plane", host=f"host{number}")
    get("/plane", host=f"host{MOST_PAGES}")
    assert len(asked) == MOST_PAGES + 1
    get("/plane", host="host0")  # was dropped
    assert len(asked) == MOST_PAGES + 2


def test_what_is_neither_file_nor_page_goes_through(get, asked):
    assert [get("/other").status_code for _ in range(2)] == [200, 200]
    assert len(asked) == 2


# --- the app's own files ----------------------------------------------------------------------------------------------


def test_the_bundle_for_plots_is_of_the_version_that_python_s_plotly_has():
    version = re.search(r"plotly(?:-cartesian)?\.js v([\d.]+)", plotly.offline.get_plotlyjs()[:500])[1]
    bundle = brotli.decompress(still.FILES[PLOTLY].read_bytes()).decode()
    assert re.search(r"plotly(?:\.js)?[ \w()-]*v([\d.]+)", bundle[:500])[1] == version


def test_the_app_s_own_files_are_found_at_addresses_with_a_version_and_at_no_others(get):
    for name, path in still.FILES.items():
        answer = get(f"/{address(name)}", accept_encoding="identity")
        content = path.read_bytes()
        assert answer.content == (brotli.decompress(content) if path.suffix == ".br" else content)
        assert answer.headers["cache-control"] == FOREVER
    assert get(f"/files/0000/{PLOTLY}").status_code == 404
    assert get("/files/app.py").status_code == 404


def test_a_module_finds_the_others_by_their_places_beside_it(get):
    assert len({address(name).removesuffix(name) for name in still.MODULES}) == 1
    for name, path in still.MODULES.items():
        for other in re.findall(r'^import .* from "(.*)";$', path.read_text("utf-8"), re.MULTILINE):
            answer = get(urljoin(f"/{address(name)}", other))
            assert answer.status_code == 200 and answer.headers["content-type"] == "application/javascript"


def test_a_browser_without_brotli_gets_the_bundle_by_gzip(get):
    answer = get(f"/{address(PLOTLY)}", accept_encoding="gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == brotli.decompress(still.FILES[PLOTLY].read_bytes())
    assert int(answer.headers["content-length"]) < 500_000


# --- on the real server -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [lesson.path for lesson in LESSONS])
def test_no_page_names_a_file_where_visitors_files_are(server, path):
    page = httpx.get(f"{server}/{path}", timeout=60)
    assert page.status_code == 200 and page.headers["cache-control"] == NEVER
    assert "gradio_api/file=" not in page.text
    assert "ddpm-" not in json.dumps(re.findall(r'"(?:path|url|icon)":\s*"[^"]+"', page.text))


def test_the_large_bundle_is_fetched_by_the_click_that_needs_it(page, server):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server}/plane?count=50&steps=3")
    page.wait_for_function("document.querySelector('.player')?.dataset.state === 'finished'")
    assert any(url.endswith(address(PLOTLY)) for url in asked)
    assert not any(url.endswith(address(PLOTLY_3D)) for url in asked)
    page.get_by_role("button", name="Show them in 3D").click()
    page.wait_for_function("document.querySelector('.space').data?.length === 2")
    assert any(url.endswith(address(PLOTLY_3D)) for url in asked)
    page.locator("#generate").click()  # and the other plots go on with theirs
    page.wait_for_function("document.querySelector('.player').dataset.resting === 'true'")


@pytest.mark.slow
def test_every_address_that_a_page_names_answers_when_visitors_files_have_expired(page, tmp_path):
    with served(tmp_path / "log", {"DDPM_FILE_SECONDS": "3", "TMPDIR": str(tmp_path)}) as url:
        asked = set()
        page.on("request", lambda request: request.method == "GET" and asked.add(request.url))
        for lesson in LESSONS:
            page.goto(f"{url}/{lesson.path}?count=1&steps=1")
            page.wait_for_function("document.querySelector('.player')?.dataset.plots === 'ready'")
        boundary = {"files": ("note.txt", b"a visitor's", "text/plain")}
        (path,) = httpx.post(f"{url}/gradio_api/upload", files=boundary, timeout=60).json()
        until(lambda: httpx.get(f"{url}/gradio_api/file={path}", timeout=60).status_code != 200, "the file's end")
        for address in sorted(asked):
            if "heartbeat" not in address and "queue/data" not in address:
                assert httpx.get(address, timeout=60).status_code == 200, address
        job = page.evaluate("document.querySelector('.player').dataset.job")
        page.locator("#dice").click()
        page.wait_for_function(f"document.querySelector('.player').dataset.job !== '{job}'")
        page.goto("about:blank")  # before the server ends


def test_a_module_that_cannot_be_loaded_is_told(browser, server):
    page = browser.new_page()
    page.route("**/schedules/screen.js", lambda route: route.abort())
    page.goto(f"{server}/schedules")
    page.get_by_text("This part of the page could not be loaded; please reload the page.").wait_for()
    page.close()
