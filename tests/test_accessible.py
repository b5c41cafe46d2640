"""Every lesson for everybody: axe-core finds nothing serious, light and dark, desk and phone; motion and what is heard."""

from __future__ import annotations

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from conftest import PATIENCE
from pages import FINDINGS, finish, open_page, scrub, state, wait

from app import LESSONS

SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}

SETTLED = """() => { const d = document.querySelector('.player')?.dataset ?? {};
  return d.plots === 'ready' && (d.playing === undefined || d.state === 'finished' && d.playing === 'false'); }"""

QUICK = "/?count=1&steps=5&seed=3"


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("lesson", LESSONS, ids=[lesson.name for lesson in LESSONS])
def test_axe_finds_nothing_serious(page, server, lesson, theme):
    page.goto(f"{server}/{lesson.path}?__theme={theme}")
    page.wait_for_function(SETTLED)
    page.evaluate(AXE_FILE_PATH.read_text("utf-8"))
    for size in SIZES.values():
        page.set_viewport_size(size)
        assert page.evaluate(FINDINGS) == []


@pytest.fixture
def calm(context):
    """A page of a visitor who has asked for no motion."""
    page = context.new_page()
    page.emulate_media(reduced_motion="reduce")
    return page


def test_who_wants_no_motion_sees_the_last_picture_and_steps_by_hand(calm, server):
    positions = """() => { window.seen = new Set(); new MutationObserver(() => {
      const d = document.querySelector('.player')?.dataset; if (d?.frames > 0) window.seen.add(Number(d.position)); })
      .observe(document, { subtree: true, attributes: true, attributeFilter: ['data-position', 'data-frames'] }); }"""
    calm.add_init_script(f"({positions})()")
    last = int(open_page(calm, server + QUICK)["frames"]) - 1
    assert set(calm.evaluate("[...window.seen]")) <= {0, last}
    assert int(state(calm)["position"]) == last
    calm.locator(".back").click()
    wait(calm, f"d.position === '{last - 1}'")
    assert state(calm)["playing"] == "false"


def test_what_the_animation_shows_is_told_once_while_it_moves_and_again_where_it_stands(page, server):
    sentences = """() => { window.told = []; new MutationObserver(() => {
      const text = document.querySelector('.heard')?.textContent; if (text && window.told.at(-1) !== text) window.told.push(text); })
      .observe(document, { subtree: true, childList: true, characterData: true }); }"""
    page.add_init_script(f"({sentences})()")
    open_page(page, server + QUICK)
    page.wait_for_function("() => window.told.at(-1).startsWith('The run is finished')")
    told = page.evaluate("window.told")
    assert [sentence.split(":")[0].split(".")[0] for sentence in told] == ["Playing", "The run is finished"]
    assert page.locator(".heard").get_attribute("role") == "status"
    scrub(page, 2)
    page.wait_for_function("() => window.told.at(-1).includes('step t = 3 of 5')")


def test_the_keyboard_reaches_the_controls_in_the_order_in_which_they_stand(page, server):
    open_page(page, server + QUICK)
    page.locator("#label input").first.focus()
    names = ["generate", "stop", "dice", "player", "play", "back", "forward", "position", "rate"]
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate("(names) => names.find((name) => document.activeElement.id === name || document.activeElement.classList.contains(name))", names)  # fmt: skip
        if name and name not in reached:
            reached.append(name)
    assert reached == names


def test_a_list_that_the_keyboard_has_opened_closes_when_it_moves_on(page, server):
    open_page(page, server + QUICK)
    page.locator("#experiment input").focus()
    page.get_by_role("option", name="DDIM: the noise decides").wait_for()
    page.keyboard.press("Tab")
    page.get_by_role("option", name="DDIM: the noise decides").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.id") == "generate"


def test_a_run_that_is_refused_by_the_rate_is_told_on_the_page(browser, server):
    sentence = "Too many requests come from your address; please wait 3 seconds and try again."
    with (
        browser.new_context() as profile
    ):  # the browser writes a refused request to its console, and `page` allows no error
        profile.set_default_timeout(1000 * PATIENCE)
        page = profile.new_page()
        before = open_page(page, server + QUICK)["job"]
        page.route("**/queue/join*", lambda route: route.fulfill(status=429, json={"detail": sentence}))
        page.locator("#generate").click()
        page.get_by_text("Too many requests").first.wait_for()
        page.unroute("**/queue/join*")
        page.locator("#generate").click()
        wait(page, f"d.job !== '{before}'")
        assert finish(page)["state"] == "finished"
