"""Lecture mode: the page for the class, its keys, and an instructor's own sequence of experiments."""

import json
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from pages import finish, open_page, query, scrub, state, wait

from app import LESSONS
from ddpm.run import Run
from ddpm.ui.experiments import PLANE

COURSE = Path(__file__).parents[1] / "docs" / "lecture.json"
QUICK = {"title": "Short", "experiments": [
    {"link": "/line?count=200&steps=3", "title": "First", "text": "Look <b>here</b>."},
    {"link": "/?count=1&steps=2", "title": "Second"},
]}  # fmt: skip


def hand_over(page, lecture):
    content = lecture if isinstance(lecture, bytes) else json.dumps(lecture).encode()
    file = {"name": "lecture.json", "mimeType": "application/json", "buffer": content}
    page.locator("#lecture .file").set_input_files(file)


def test_the_shipped_lecture_leads_to_pages_that_take_its_settings_as_they_are():
    experiments = json.loads(COURSE.read_text("utf-8"))["experiments"]
    first = {lesson.path: lesson.first for lesson in LESSONS}
    assert len(experiments) == 5
    for one in experiments:
        path, asked = urlsplit(one["link"]).path[1:], dict(parse_qsl(urlsplit(one["link"]).query))
        model = {"model": first[path].model} if isinstance(first[path], Run) else {}
        settings, notes = type(first[path]).from_query({**model, **asked})
        assert notes == [] and one["title"] and one["text"]
        own = {name: value for name, value in asked.items() if not name.startswith("show_")}
        assert own and own.items() <= settings.query().items()


def test_lecture_mode_hides_what_is_not_needed_enlarges_the_rest_and_is_in_the_address(page, server):
    open_page(page, f"{server}/?count=2&steps=3")
    size = "() => parseFloat(getComputedStyle(document.querySelector('.step')).fontSize)"
    before = page.evaluate(size)
    page.get_by_role("button", name="Lecture mode").click()
    assert query(page)["lecture"] == "1" and page.evaluate(size) > before
    for hidden in ("#settings", "#code", ".nav-holder", "footer"):
        assert not page.locator(hidden).first.is_visible()
    for shown in ("#ask", "#generate", ".pictures", ".plots .plane"):
        assert page.locator(shown).first.is_visible()
    page.wait_for_function("document.querySelector('.plane')._fullLayout.font.size === 18")
    page.keyboard.press("l")
    assert "lecture" not in query(page) and page.locator("#settings").is_visible()


def test_the_keys_step_replay_and_generate_from_anywhere_on_the_page(page, server):
    open_page(page, f"{server}/?count=1&steps=6&lecture=1")
    for key, position in (("ArrowLeft", 5), ("ArrowLeft", 4), ("ArrowRight", 5)):
        page.keyboard.press(key)
        wait(page, f"d.position === '{position}'")
    page.keyboard.press("r")
    wait(page, "d.playing === 'true'")
    finish(page)
    job = state(page)["job"]
    page.keyboard.press("g")
    wait(page, f"d.job !== '{job}'")
    finish(page)
    page.keyboard.press("?")
    page.locator("dialog.keys", has_text="next or previous experiment").wait_for()
    page.keyboard.press("Escape")
    assert not page.locator("dialog.keys").is_visible()


def test_keys_are_the_pages_own_outside_lecture_mode(page, server):
    open_page(page, f"{server}/?count=1&steps=2")
    page.keyboard.press("?")
    page.keyboard.press("q")
    assert page.locator("dialog[open]").count() == 0


def test_the_code_leads_the_class_to_the_same_state_by_a_link_of_what_differs(page, server):
    open_page(page, f"{server}/plane?count=200&steps=4&lecture=1")
    assert len(query(page)) > 8
    page.keyboard.press("q")
    page.wait_for_function("document.querySelector('dialog.students img').naturalWidth > 0")
    assert page.locator("dialog.students .link").get_attribute("href") == f"{server}/plane?count=200&steps=4"
    assert "this computer only" in page.locator("dialog.students .instead").inner_text()


def test_a_sequence_is_stepped_through_with_the_keys_and_survives_a_reload(page, server):
    open_page(page, f"{server}/line?count=200&steps=2")
    hand_over(page, QUICK)
    page.wait_for_url("**/line?**experiment=1**")
    finish(page)
    assert page.locator("#lecture .now").inner_text().split("\n")[0].split() == ["1", "/", "2", "First"]
    assert page.locator("#lecture .text").inner_text() == "Look <b>here</b>."
    page.keyboard.press("PageDown")
    page.wait_for_url("**/?count=1**experiment=2**")
    page.reload()
    finish(page)
    assert page.locator("#lecture .title").inner_text() == "Second" and state(page)["frames"] == "3"
    page.keyboard.press("n")
    page.keyboard.press("p")
    page.wait_for_url("**/line?**experiment=1**")


@pytest.mark.parametrize(("lesson", "texts"), [("plane", [one.text for one in PLANE.values()]), ("noising", None)])
def test_without_a_lecture_the_keys_step_through_the_pages_own_experiments(page, server, lesson, texts):
    page.goto(f"{server}/{lesson}?lecture=1&steps=3")
    wait(page, "d.measured || d.state === 'finished'")
    shown = []
    for key in ("n", "n", "p"):
        page.keyboard.press(key)
        page.wait_for_function(
            "before => { const text = document.querySelector('#look-for .md')?.innerText; return text && text !== before; }",
            arg=shown[-1] if shown else "",
        )
        shown.append(page.locator("#look-for .md").inner_text())
    assert shown[0] == shown[2] != shown[1]
    assert texts is None or shown[:2] == texts[:2]


@pytest.mark.parametrize(
    ("experiments", "says"),
    [
        ([], "1 to 100 experiments"),
        ([{"link": "https://example.org/", "title": "x"}], "The link of experiment 1 is “https://example.org/”"),
        ([{"link": "//example.org/plane", "title": "x"}], "must begin with one of"),
        ([{"link": "/gradio_api/info", "title": "x"}], "must begin with one of"),
        ([{"link": "/plane/../../x", "title": "x"}], "must begin with one of"),
        ([{"link": "/plane", "title": 3}], "title of experiment 1 must be text"),
        ([{"link": "/plane", "title": "x"}, None], "title of experiment 2 must be text"),
    ],
)
def test_a_wrong_sequence_is_refused_in_one_sentence_and_nothing_changes(page, server, experiments, says):
    page.goto(f"{server}/line?count=200&steps=2")
    hand_over(page, {"title": "Mine", "experiments": experiments})
    page.locator("#lecture .said", has_text=says).wait_for()
    assert page.evaluate("localStorage.getItem('ddpm.lecture')") is None


def test_lecture_mode_fits_a_phone_and_so_does_the_menu(page, server):
    page.set_viewport_size({"width": 390, "height": 844})
    open_page(page, f"{server}/?count=2&steps=3&lecture=1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    scrub(page, 1)
    page.locator(".save summary").click()
    box = page.locator(".save .choices").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
