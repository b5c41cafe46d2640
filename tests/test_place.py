"""Where the app is served: what the environment may say, and what is said of nonsense."""

import os
import re
import socket
import subprocess
import sys

import httpx
import pytest
from conftest import ROOT, free_port, served
from test_deploy import as_ordinary_user

from app import LESSONS
from ddpm.page.place import Where, root_path

READ = Where.from_environment


@pytest.mark.parametrize(
    ("name", "shown"), [("::", "[::]"), ("[::1]", "[::1]"), ("0.0.0.0", "0.0.0.0"), ("", "127.0.0.1")]
)
def test_a_host_is_taken_with_brackets_and_without(name, shown):
    assert READ({"GRADIO_SERVER_NAME": name}).name == shown


@pytest.mark.parametrize("port", ["70000", "http", "", "0", "-1", "78²", "7860.0"])
def test_a_port_that_cannot_be_is_refused_in_a_sentence(port):
    with pytest.raises(ValueError, match=r"GRADIO_SERVER_PORT is '.*'; it must be a whole number from 1 to 65535\."):
        READ({"GRADIO_SERVER_PORT": port})


@pytest.mark.parametrize(
    ("given", "path"),
    [
        *[
            ("diffusion", "/diffusion"),
            ("/diffusion/", "/diffusion"),
            ("/", ""),
            ("", ""),
            ("/a/b-c_d.e~f", "/a/b-c_d.e~f"),
        ],
        ("https://example.org/app/", "https://example.org/app"),
    ],
)
def test_a_root_path_is_written_in_one_way(given, path):
    assert root_path(given) == path


@pytest.mark.parametrize(
    "text", ["/a b", "/a?b", "//evil.example", "/a//b", "/../a", "javascript:x", "/a\n"[:-1] + '"']
)
def test_a_root_path_that_cannot_be_is_refused(text):
    with pytest.raises(ValueError, match="GRADIO_ROOT_PATH is"):
        root_path(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_told_in_a_sentence(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken, pytest.raises(ValueError, match="already in use"):
        Where(host, taken.getsockname()[1]).check()


def ended(**environment):
    """How ``app.py`` ends with these variables."""
    return subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_app_ends_where_its_port_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = ended(GRADIO_SERVER_PORT=str(taken.getsockname()[1]))
    assert found.returncode == 1
    assert "cannot be served at 127.0.0.1:" in found.stderr.splitlines()[-1] and "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("variable", "value"), [("GRADIO_SERVER_PORT", "http"), ("DDPM_BATCH", "²"), ("DDPM_TRUSTED_PROXIES", "everybody")]
)
def test_the_app_does_not_start_with_a_variable_that_is_wrong(variable, value):
    found = ended(**{variable: value, "GRADIO_SERVER_PORT": value if variable.endswith("PORT") else str(free_port())})
    assert found.returncode == 1
    assert variable in found.stderr.splitlines()[-1] and "Traceback" not in found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("host", ["::", "[::1]"])
def test_the_app_serves_by_the_sixth_version_of_the_protocol(tmp_path, host):
    with served(tmp_path / "log", {"GRADIO_SERVER_NAME": host, "GRADIO_ROOT_PATH": "diffusion/"}) as url:
        assert httpx.get(url, timeout=60).status_code == 200


@pytest.mark.slow
def test_the_app_serves_a_user_without_a_home(tmp_path):
    environment = {"XDG_CACHE_HOME": "", "TMPDIR": str(tmp_path)}
    stranger = [part.replace("1000", "54321") for part in as_ordinary_user()]
    if not stranger:
        pytest.skip("the system lets nobody be a user whom it does not know")
    with served(tmp_path / "log", environment, through=["env", "-u", "HOME", *stranger]) as url:
        assert httpx.get(url, timeout=60).status_code == 200


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["plane/?steps=4&data=moons", "plane/", "noising/?"])
def test_a_page_with_a_slash_leads_to_the_one_without_and_keeps_the_query(server, asked):
    answer = httpx.get(f"{server}/{asked}", timeout=60)
    assert answer.status_code == 307
    assert str(answer.next_request.url) == f"{server}/{asked.rstrip('?').replace('/', '', 1)}"


@pytest.mark.parametrize("asked", ["//evil.example/", "/evil.example/plane/", "//evil.example/plane/?a"])
def test_nothing_leads_to_another_host(server, asked):
    answer = httpx.get(server + asked, timeout=60)
    assert answer.next_request is None or answer.next_request.url.host == "127.0.0.1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_unknown_address_shows_a_page_that_leads_on(context, server, scheme):
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme)
    page.route(re.compile("/favicon.ico$"), lambda route: route.fulfill(status=204))
    page.on("console", lambda message: None)
    page.set_content((answer := httpx.get(f"{server}/nothing", headers={"Accept": "text/html"}, timeout=60)).text)
    assert answer.status_code == 404
    assert page.get_by_role("link").all_inner_texts() == [lesson.name for lesson in LESSONS]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    links = page.get_by_role("link").evaluate_all("(links) => links.map((link) => link.getAttribute('href'))")
    assert {httpx.get(server + link, timeout=60).status_code for link in links} == {200}


@pytest.mark.parametrize("path", ["/nothing", "/gradio_api/nothing"])
def test_a_program_is_told_in_a_sentence_that_nothing_is_there(server, path):
    answer = httpx.get(server + path, headers={"Accept": "text/html" if "api" in path else "*/*"}, timeout=60)
    assert (answer.status_code, answer.json()) == (404, {"detail": "This page does not exist."})
