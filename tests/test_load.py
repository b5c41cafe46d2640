"""The page while a class is at work, or an attacker: it answers clicks and gives pictures, whatever the engine computes."""

from __future__ import annotations

import json
import sys

import pytest
from conftest import until
from pages import open_page, state, wait

from ddpm.serving.engine import MOST_OF_ADDRESS
from scripts._served import ROOT, at_work, digits, messages

sys.path.append(str(ROOT / "scripts"))

from attacks import ATTACKS, post, under_attack

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


def test_seventy_trainings_that_nobody_reads_do_not_keep_others_from_their_pictures(server):
    with under_attack(server, ATTACKS["trainings"], 70):
        kinds = list(messages(server, digits(4, 20, 0)))
    assert kinds.count("frame") == 21 and kinds[-1] == "end"


def test_past_its_share_of_waiting_runs_an_address_is_refused_and_others_are_not(server):
    path, settings = "/gradio_api/call/v2/train_network", {"batches": 5000}
    with under_attack(server, ATTACKS["trainings"], MOST_OF_ADDRESS):
        until(lambda: post(server, path, settings).status == 503, "a refusal")
        told = json.loads(post(server, path, settings).content)["detail"]
        others = list(messages(server, digits(1, 5, 0)))
    assert f"Your address has {MOST_OF_ADDRESS} runs" in told
    assert others[-1] == "end"
