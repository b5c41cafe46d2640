"""A lesson is a folder and a line: the one of docs/lesson.md is built from that page, served, and used."""

import os
import re
import shutil

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from conftest import ROOT, served
from gradio_client import Client
from pages import FINDINGS, open_page, query

SHOWN = "() => document.querySelector('.player')?.dataset.walk"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the app with the lesson of the document: its address."""
    folder = tmp_path_factory.mktemp("house") / "app"
    folder.mkdir()
    shutil.copytree(ROOT / "ddpm", folder / "ddpm", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", folder)
    os.symlink(ROOT / "checkpoints", folder / "checkpoints")
    document = (ROOT / "docs" / "lesson.md").read_text("utf-8")
    for path, text in re.findall(r"^```\w+ (\S+)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    tour = folder / "ddpm" / "lessons" / "tour.py"
    line = re.search(r"^from ddpm.lessons.walk.page import .*$", document, re.MULTILINE)[0]
    text = tour.read_text("utf-8").replace("from ddpm.page", f"{line}\nfrom ddpm.page", 1)
    tour.write_text(text.replace("ONE_STEP)", "ONE_STEP, WALK)"), "utf-8")
    with served(folder.parent / "log", folder=folder) as url:
        yield url


def test_a_lesson_of_one_folder_has_all_that_lessons_have(house, page):
    open_page(page, f"{house}/?count=1&steps=2")
    page.get_by_role("link", name="Walk").click()
    page.wait_for_function(SHOWN)
    assert page.get_by_text("From x₀ = 2.00").count() == 1
    page.goto(f"{house}/walk?steps=7&x0=-1&schedule=cosinus")
    page.wait_for_function(SHOWN)
    assert page.get_by_text("From x₀ = −1.00 to x at T = 7").count() == 1
    assert page.get_by_text("schedule = cosinus").count() == 1
    page.evaluate(AXE_FILE_PATH.read_text("utf-8"))
    assert page.evaluate(FINDINGS) == []
    before = page.evaluate(SHOWN)
    page.locator("#seed input").fill("5")
    page.locator("#seed input").press("Enter")
    page.wait_for_function("(before) => document.querySelector('.player').dataset.walk !== before", arg=before)
    page.wait_for_function("() => location.search.includes('seed=5')")
    assert query(page)["x0"] == "-1"
    page.get_by_role("button", name="Show the code").click()
    page.wait_for_function("() => document.querySelector('#program')?.innerText.includes('x0=-1')")
    page.goto(f"{house}/walk?lecture=1")
    page.wait_for_function("() => document.body.classList.contains('lecture')")


def test_programs_have_it_too(house):
    client = Client(house, verbose=False, analytics_enabled=False)
    run = client.predict(x0=1.0, steps=3, api_name="/take_a_walk")
    assert run["settings"]["steps"] == 3 and len(run["x"]) == 4 and run["x"][0] == 1.0
    messages = "\n".join(client.submit(x0=1.0, steps=3, api_name="/walks"))
    assert re.findall(r'"kind": "(\w+)"', messages) == ["start", "walk", "end"]
