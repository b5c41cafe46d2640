"""Lecture mode: the page for the class, its keys, and an instructor's own sequence of experiments."""

import json
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import PATIENCE
from pages import finish, open_page, query, scrub, state, wait

from app import LESSONS
from ddpm.lessons.pictures.run import Run
from ddpm.lessons.plane.page import EXPERIMENTS as PLANE

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


# --- browsers as they are ---------------------------------------------------------------------------------------------

PLAIN = "delete Navigator.prototype.clipboard"  # as over plain http
DENIED = "Clipboard.prototype.writeText = () => Promise.reject(new DOMException('denied', 'NotAllowedError'))"
NO_STORAGE = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('Access is denied', 'SecurityError'); } })"
FULL = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }"


def clipboard(context, server):
    """What a visitor would paste."""
    context.grant_permissions(["clipboard-read"], origin=server)
    other = context.new_page()
    other.goto(f"{server}/qr?link=any")
    other.bring_to_front()
    return other.evaluate("navigator.clipboard.readText()")


@pytest.mark.parametrize("browsers", ["", PLAIN, DENIED], ids=["usual", "plain http", "denied"])
def test_the_link_is_copied_with_or_without_the_browsers_clipboard(context, page, server, browsers):
    page.add_init_script(browsers)
    open_page(page, f"{server}/line?count=200&steps=2&lecture=1&__sign=secret")
    page.keyboard.press("q")
    page.get_by_role("button", name="Copy the link").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("document.activeElement.className") == "copy" and page.locator("textarea:visible").count() == 0
    assert clipboard(context, server) == f"{server}/line?count=200&steps=2"


def test_the_button_of_the_program_copies_over_plain_http_too(context, page, server):
    page.add_init_script(PLAIN)
    open_page(page, f"{server}/line?count=200&steps=2")
    page.get_by_role("button", name="Show the code").click()
    page.locator("#program").get_by_role("button", name="Copy").click()
    program = clipboard(context, server)
    assert program.startswith('"""') and "count=200" in program


def test_a_link_that_cannot_be_copied_is_selected_and_a_sentence_says_so(page, server):
    page.add_init_script(f"{DENIED}; document.execCommand = () => false")
    open_page(page, f"{server}/line?count=200&steps=2&lecture=1")
    page.keyboard.press("q")
    page.get_by_role("button", name="Copy the link").click()
    page.get_by_text("the link is selected").wait_for()
    assert page.evaluate("String(window.getSelection())") == f"{server}/line?count=200&steps=2"
    page.keyboard.press("q")
    page.keyboard.press("q")
    assert not page.get_by_text("the link is selected").is_visible()


@pytest.mark.parametrize("browsers", [NO_STORAGE, FULL], ids=["denied", "full"])
def test_a_browser_that_stores_nothing_shows_a_lecture_all_the_same(context, server, browsers):
    context.add_init_script(browsers)
    page = context.new_page()
    page.goto(f"{server}/line?count=200&steps=2")
    hand_over(page, QUICK)
    page.wait_for_url("**/line?**experiment=1**")
    page.locator("#lecture .title", has_text="First").wait_for()
    page.keyboard.press("PageDown")
    page.wait_for_url("**/?count=1**experiment=2**")
    page.locator("#lecture .title", has_text="Second").wait_for()
    page.reload()
    page.locator("#lecture .title", has_text="Second").wait_for()


def test_a_lecture_in_the_name_that_another_site_gave_the_tab_is_not_shown(page, server):
    page.add_init_script(f"window.name = {json.dumps(json.dumps(QUICK))}")
    page.goto(f"{server}/line?count=200&steps=2&lecture=1&experiment=1")
    page.locator("#lecture .bar").wait_for()
    assert page.locator("#lecture .title").inner_text() == ""


DEEP = b"[" * 90_000 + b"]" * 90_000
NESTED = {
    DEEP: "must be an object",
    b"[" * 100_000: "This is no JSON file",
    b'{"steps": ' + DEEP + b"}": "The steps is a list; it must be text or a number",
    b'{"steps": {"a": 1}}': "The steps is an object; it must be text or a number",
    b'{"title": "x", "experiments": ' + DEEP + b"}": "title of experiment 1 must be text",
}


def test_a_file_nested_deeply_is_refused_in_one_sentence(page, server):
    page.goto(f"{server}/line?count=200&steps=2")
    for content, says in NESTED.items():
        hand_over(page, content)
        page.locator("#lecture .said", has_text=says).wait_for()


def test_a_runs_file_opens_whatever_its_byte_order_mark_and_the_way_its_numbers_are_written(page, server):
    page.goto(f"{server}/line?count=200&steps=2")
    hand_over(page, '\ufeff{"model": "mnist", "count": 1, "steps": 5.0, "label": 3}'.encode())
    page.wait_for_url("**/?model=mnist&**")
    finish(page)
    assert state(page)["frames"] == "6" and not page.locator(".notes").is_visible()


# --- in the frame of a Space ------------------------------------------------------------------------------------------

HUB = "https://huggingface.co"
SPACE = """<iframe width="1200" height="800"></iframe><script>
document.querySelector("iframe").src = `SERVER/${location.search}&__theme=light&__sign=secret${location.hash}`;
addEventListener("message", ({ data }) => {
  if (!("queryString" in data)) return;
  const address = new URL(location);
  [address.search, address.hash] = [data.queryString, data.hash];
  history.replaceState(null, "", address);
});</script>"""
"""The Hub's page as https://huggingface.co/docs/hub/spaces-handle-url-parameters describes it."""


@pytest.fixture
def space(browser, server):
    """A page on which a Space of the Hub is the app in a frame; its browser lets a public page show one of this machine."""
    profile = browser.new_context(viewport={"width": 1280, "height": 900})
    profile.set_default_timeout(1000 * PATIENCE)
    profile.grant_permissions(["local-network-access"], origin=HUB)
    answer = {"body": SPACE.replace("SERVER", server), "content_type": "text/html"}
    profile.route(f"{HUB}/**", lambda route: route.fulfill(**answer))
    yield profile.new_page()
    profile.close()


def own_settings(frame):
    return {name: value for name, value in parse_qsl(urlsplit(frame.url).query) if not name.startswith("__")}


def test_the_address_around_a_spaces_frame_follows_each_change(space):
    space.goto(f"{HUB}/spaces/someone/ddpm?count=1&steps=2")
    frame = space.frames[1]
    wait(frame, "d.state === 'finished'")
    space.wait_for_url(lambda url: "schedule=cosine" in url and query(space) == own_settings(frame))
    frame.locator("#seed input").fill("77")
    frame.locator("#seed input").press("Enter")
    space.wait_for_url("**/spaces/someone/ddpm?**seed=77**")
    frame.get_by_role("button", name="Lecture mode").click()
    space.wait_for_url("**lecture=1**")
    assert query(space) == own_settings(frame) and not urlsplit(space.url).fragment


def test_the_address_around_a_spaces_frame_leads_to_the_same_lesson_with_the_same_settings(space, server):
    space.goto(f"{HUB}/spaces/someone/ddpm?count=1&steps=2")
    space.frames[1].goto(f"{server}/line?count=200&steps=3&show_paths=0")
    space.wait_for_url("**/spaces/someone/ddpm?**count=200**#/line")
    shared, asked = space.url, query(space)
    again = space.context.new_page()
    again.goto(shared)
    frame = again.frames[1]
    frame.wait_for_url(f"{server}/line?**")
    wait(frame, "d.state === 'finished' && d.frames === '4'")
    assert asked.items() <= own_settings(frame).items()
    again.wait_for_url(lambda url: url.endswith("#/line") and query(again) == own_settings(frame))


def test_a_page_in_no_frame_tells_nobody_its_address(page, server):
    page.add_init_script("window.told = []; window.postMessage = (...what) => window.told.push(what)")
    open_page(page, f"{server}/line?count=200&steps=2")
    page.get_by_role("button", name="Lecture mode").click()
    assert query(page)["lecture"] == "1" and not page.evaluate(
        "told.filter(([data]) => data.queryString !== undefined).length"
    )
