"""The lesson on few steps: its rows are the library's runs, and the page shows them."""

import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from pages import wait

from ddpm.checkpoint import load_network
from ddpm.data import to_uint8
from ddpm.lessons.one_step.program import program
from ddpm.lessons.one_step.run import WAYS, OneStep, draw
from ddpm.lessons.pictures.run import FEW, Run, perform
from ddpm.serving.engine import Forward

NETWORKS = {
    name: load_network(ROOT / "checkpoints" / f"{name}.safetensors").network for name in ("mnist", "mnist-student")
}


def rows(asked):
    """The job's rows, its networks asked here."""
    found, work = [], draw(asked, NETWORKS)
    said = next(work, None)
    while said is not None:
        if isinstance(said, Forward):
            with torch.inference_mode():
                answer = said.network(said.x, said.log_snr.float(), said.label)
            said = work.send(answer)
        else:
            found.append(said)
            said = next(work, None)
    return found


@pytest.fixture(scope="module")
def found():
    return rows(OneStep(seed=3))


def test_a_row_of_the_network_is_its_run(found):
    for row, run in ((found[0], Run(steps=1, seed=3)), (found[-1], Run(steps=50, guidance=0.2, seed=3))):
        *_, end = perform(run, NETWORKS["mnist"])
        assert np.abs(row.x - end.x.numpy()).max() < 1e-3


def test_a_row_of_the_student_is_the_run_of_few_steps(found):
    for row in found[1:-1]:
        run = Run(steps=row.way.steps, schedule="polynomial", sampler=FEW, seed=3)
        assert run.network == row.way.network == "mnist-student"
        *_, end = perform(run, NETWORKS[run.network])
        assert np.abs(row.x - end.x.numpy()).max() < 1e-3


def test_the_student_is_sharp_where_the_network_answers_with_an_average(found):
    """A picture that is black or white nearly everywhere has the larger contrast."""
    contrast = [float(row.x.std()) for row in found]
    assert contrast[0] < 0.75 * contrast[1]
    assert all(one == pytest.approx(contrast[-1], rel=0.15) for one in contrast[1:])


def test_the_program_draws_the_rows(found, tmp_path, monkeypatch):
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(program(OneStep(seed=3)), "the program", "exec"), names)  # noqa: S102  # our own text
    assert all(np.abs(row.x - made.numpy()).max() < 1e-3 for row, made in zip(found, names["rows"], strict=True))


def test_a_student_has_its_guidance_built_in_and_colour_pictures_have_none():
    plain, guided = (Run(steps=2, sampler=FEW, guidance=w) for w in (0.0, 3.0))
    ends = [list(perform(run, NETWORKS["mnist-student"]))[-1].x for run in (plain, guided)]
    assert torch.equal(*ends) and guided.rows_each == 2
    with pytest.raises(ValueError, match="The sampler is 'few-steps'; it must be one of"):
        Run("cifar10", sampler=FEW)
    run, notes = Run.from_query({"model": "cifar10", "sampler": FEW})
    assert run.sampler == "ddim" and len(notes) == 1


def test_the_page_shows_a_row_for_every_way(page, server, found):
    page.goto(f"{server}/one-step?seed=3")
    wait(page, "d.state === 'finished'")
    assert page.locator(".way").count() == len(WAYS) and page.locator(".way canvas").count() == 10 * len(WAYS)
    for place in (0, 2):
        red = page.locator(".way").nth(place).locator("canvas").nth(7)
        shown = red.evaluate(
            "c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0)"
        )
        expected = to_uint8(torch.from_numpy(found[place].x[7])).numpy().ravel()
        assert np.abs(np.array(shown) - expected.astype(int)).max() <= 2
    page.locator("#dice").click()
    wait(page, "d.state === 'computing'")
    wait(page, "d.state === 'finished'")
    assert "seed=3" not in page.url


def test_the_sampler_of_few_steps_sets_what_suits_it(page, server):
    page.goto(f"{server}/?count=2&steps=5")
    wait(page, "d.state === 'finished' && d.playing === 'false'")
    page.locator("#sampler input").click()
    page.get_by_role("option", name="Few steps: the student").click()
    page.wait_for_function("() => document.querySelector('#steps input[type=number]').value === '2'")
    page.locator("#generate").click()
    wait(page, "d.state === 'finished' && d.playing === 'false' && d.frames === '3'")
    assert "sampler=few-steps" in page.url and "schedule=polynomial" in page.url


def test_a_program_gets_every_row(server):
    from gradio_client import Client

    client = Client(server, verbose=False, analytics_enabled=False)
    picture, run = client.predict(label="7", seed=1, api_name="/draw_in_few_steps")
    assert [row["steps"] for row in run["rows"]] == [1, 1, 2, 4, 50]
    assert json.dumps(run["settings"]) == '{"label": "7", "seed": 1}' and picture
