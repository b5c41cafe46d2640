"""The page while a class is at work: it answers clicks, whatever the engine computes."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager

import pytest
from conftest import until
from pages import open_page, state, wait

from scripts._served import Server, digits, messages

SMALL = "/line?denoiser=exact&steps=5&count=100"


@contextmanager
def crowd(url, visitors):
    """Yields the function that says how many of ``visitors`` get pictures; their runs go on until the context ends."""
    enough, shown = threading.Event(), [0] * visitors

    def visit(number):
        with closing(messages(Server(url, pid=0), digits(2, 1000, number))) as kinds:
            for kind in kinds:
                shown[number] = kind == "frame"
                if enough.is_set():
                    return

    threads = [threading.Thread(target=visit, args=(number,), daemon=True) for number in range(visitors)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(shown)
    finally:
        enough.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
def test_a_click_is_answered_while_sixteen_other_runs_are_under_way(page, server):
    open_page(page, server + SMALL)
    with crowd(server, 16) as at_work:
        until(lambda: at_work() == 16, "the first pictures of all")
        for name, control in (("constant", "#c"), ("polynomial", "#p")):
            page.locator("#schedule input").click()
            page.get_by_role("option", name=name).click()
            page.locator(control).wait_for()
        assert page.locator("#c").is_hidden()
        assert at_work() == 16
        job = state(page)["job"]
        page.locator("#generate").click()
        wait(page, f"d.job !== '{job}' && d.state === 'finished'")
        assert at_work() == 16
