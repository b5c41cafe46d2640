"""The page while a class is at work: it answers clicks, whatever the engine computes."""

from __future__ import annotations

import pytest
from conftest import until
from pages import open_page, state, wait

from scripts._served import at_work

SMALL = "/line?denoiser=exact&steps=5&count=100"


@pytest.mark.slow
def test_a_click_is_answered_while_sixteen_other_runs_are_under_way(page, server):
    open_page(page, server + SMALL)
    with at_work(server, 16) as busy:
        until(lambda: busy() == 16, "the first pictures of all")
        for name, control in (("constant", "#c"), ("polynomial", "#p")):
            page.locator("#schedule input").click()
            page.get_by_role("option", name=name).click()
            page.locator(control).wait_for()
        assert page.locator("#c").is_hidden()
        assert busy() == 16
        job = state(page)["job"]
        page.locator("#generate").click()
        wait(page, f"d.job !== '{job}' && d.state === 'finished'")
        assert busy() == 16
