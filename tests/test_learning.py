"""The learning lesson: a step of Algorithm 1, the snapshots that ship, and the page."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import query, wait
from torch.testing import assert_close

from ddpm.checkpoint import load_network
from ddpm.lessons.learning.run import (
    LABELS,
    RATE,
    SAMPLING_STEPS,
    Learning,
    descend,
    draw,
    predicted_noise,
    samples,
    step,
)
from ddpm.lessons.models import SNAPSHOTS, load_snapshots, samplers
from ddpm.networks import Convolutions, ConvolutionsConfig
from ddpm.picture import held_out
from ddpm.process import add_noise, like
from ddpm.schedule import Linear, grid, sigma
from ddpm.serving.engine import Forward
from ddpm.training.loop import simple_loss

SHIPPED = Path(__file__).parent.parent / "checkpoints" / "snapshots"


@pytest.fixture(scope="module")
def trained():
    return {name: load_snapshots(SHIPPED, name) for name in ("unet", "convolutions")}


def test_a_step_draws_t_from_all_and_noises_the_pictures_as_the_schedule_says():
    batch = draw(3, 200)
    assert 1 <= batch.t.min() < 50 and 950 < batch.t.max() <= 1000
    assert_close(batch.x, add_noise(batch.x0, batch.noise, batch.log_snr))
    levels = grid(Linear(), 1000).flip(0)
    assert_close(batch.log_snr, levels[batch.t])


def test_the_label_of_a_drawn_picture_is_the_digit_that_it_shows():
    """The shipped classifier judges, so it may be wrong about one."""
    classifier, _ = load_network(SHIPPED.parent / "mnist-classifier.safetensors")
    batch = draw(0, len(held_out("mnist")))
    assert (classifier(batch.x0).argmax(1) == batch.label).double().mean() > 0.97


def test_the_same_draw_is_the_same_step_and_the_next_another():
    assert_close(draw(5).x, draw(5).x)
    assert not torch.equal(draw(5).t, draw(6).t)


@pytest.mark.parametrize("place", range(len(SNAPSHOTS)), ids=SNAPSHOTS)
def test_a_small_step_against_the_gradient_lowers_the_loss_as_much_as_the_gradient_says(trained, place):
    found = descend(trained["unet"].networks[place], draw(1), rate := 1e-3)
    assert found.after < found.loss
    assert (found.loss - found.after) / (rate * found.gradient**2) == pytest.approx(1, abs=0.3)


def test_the_gradient_step_leaves_the_network_as_it_is(trained):
    network = trained["unet"].networks[1]
    before = [weight.clone() for weight in network.parameters()]
    descend(network, draw(2), RATE)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_the_errors_shown_are_those_of_the_predictions_shown(trained):
    (shown,) = step(Learning(seed=4), trained)
    for answer in shown.answers:
        own = (shown.batch.noise - torch.from_numpy(answer.noise)).square().mean((1, 2, 3))
        assert_close(torch.from_numpy(answer.error), own)
    assert shown.descent.loss == pytest.approx(shown.answers[0].error.mean(), rel=1e-4)


def test_the_network_that_has_learned_nothing_takes_what_it_sees_for_noise(trained):
    batch = draw(0)
    seen = like(sigma(batch.log_snr), batch.x) * batch.x
    assert_close(predicted_noise(trained["unet"].networks[0], batch), seen, atol=1e-4, rtol=0)


def test_the_two_convolutions_see_five_by_five_pixels():
    network = Convolutions(ConvolutionsConfig((1, 28, 28)))
    x = torch.zeros(2, 1, 28, 28)
    x[1, 0, 14, 14] = 1
    with torch.no_grad():
        differs = network(x, torch.zeros(2), torch.zeros(2).long()).diff(dim=0)[0, 0] != 0
    rows, columns = differs.nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 16, 12, 16)


# --- what ships -------------------------------------------------------------------------------------------------------


def test_the_snapshots_are_of_the_steps_that_their_names_say(trained):
    for one in trained.values():
        assert one.steps[:-1] == tuple(map(int, SNAPSHOTS[:-1])) and one.steps[-1] > one.steps[-2]
        assert [at for at, _ in one.curves["by_t"]] == list(one.steps)


def test_the_held_out_losses_meet_the_marks_of_the_practical(trained):
    held_out_losses = dict(trained["unet"].curves["held_out"])
    assert held_out_losses[2500] < 0.1 and held_out_losses[10_000] < 0.05


def test_the_snapshots_reach_the_losses_that_their_curves_state(trained):
    pictures = held_out("mnist").float() / 127.5 - 1
    labels = torch.arange(len(pictures)) % 10
    for one in trained.values():
        stated = dict(one.curves["held_out"])
        for network, at in zip(one.networks, one.steps, strict=True):
            assert simple_loss(network, pictures, labels) == pytest.approx(stated[at], rel=0.15)


def test_the_loss_by_noise_level_averages_to_the_loss(trained):
    for one in trained.values():
        whole = dict(one.curves["held_out"])
        for at, losses in one.curves["by_t"]:
            assert math.fsum(losses) / len(losses) == pytest.approx(whole[at], rel=1e-4)


def test_the_two_convolutions_stay_far_behind(trained):
    ends = {name: dict(one.curves["held_out"])[one.steps[-1]] for name, one in trained.items()}
    assert ends["convolutions"] > 2 * ends["unet"]


def test_a_missing_snapshot_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="0 snapshots of unet"):
        load_snapshots(tmp_path, "unet")


@pytest.mark.slow
def test_samples_come_from_the_same_noise_and_only_the_trained_make_the_digits_asked_for(trained):
    work, made = samples(Learning(noise=1), samplers(trained)), []
    said = next(work, None)
    while said is not None:
        if isinstance(said, Forward):
            said = work.send(said.network(said.x, said.log_snr, said.label))
        else:
            made.append(said)
            said = next(work, None)
    assert [one.index for one in made] == list(range(SAMPLING_STEPS, -1, -1))
    assert all((row == made[0].x[0]).all() for row in made[0].x)
    classifier, _ = load_network(SHIPPED.parent / "mnist-classifier.safetensors")
    last = torch.from_numpy(made[-1].x)
    right = [(classifier(row).argmax(1) == torch.tensor(LABELS)).sum().item() for row in last]
    assert right[5] >= 5 and right[0] <= 3 and right[6] <= 3


# --- the page ---------------------------------------------------------------------------------------------------------

LINK = "/learning?snapshot=2500&seed=3&noise=2"
SAMPLED = "d.sampled && d.plots === 'ready' && d.step"


def open_lesson(page, url):
    page.goto(url)
    wait(page, SAMPLED)


def test_the_page_shows_a_step_samples_and_curves_by_itself(page, server):
    open_lesson(page, server + LINK)
    assert page.locator(".batch canvas").count() == 8 * 7
    assert page.locator(".samples canvas").count() == 7 * len(LABELS)
    assert "8 test pictures: " in page.locator(".of-x0").inner_text()
    assert len(page.evaluate("document.querySelector('.curves').data")) == 4
    assert len(page.evaluate("document.querySelector('.by-t').data")) == 7


def test_the_pictures_numbers_and_curves_are_those_of_the_step(page, server, trained):
    open_lesson(page, server + LINK)
    (shown,) = step(Learning(snapshot="2500", seed=3, noise=2), trained)
    batch, ours, theirs = shown.batch, *shown.answers
    cells = np.array(
        page.evaluate("""() => [...document.querySelectorAll('.batch canvas')].map(c =>
      [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data])""")
    ).reshape(7, 8, 784, 4)
    greys = {0: batch.x0, 1: batch.noise / 3, 2: batch.x, 3: ours.noise / 3, 5: theirs.noise / 3}
    for row, values in greys.items():
        expected = 127.5 * (np.asarray(values).reshape(8, 784).clip(-1, 1) + 1)
        assert np.abs(cells[row, :, :, 0] - expected).max() <= 1, row
    for row, answer in ((4, ours), (6, theirs)):
        off = np.abs(batch.noise.numpy() - answer.noise).flatten()
        brightness = cells[row, :, :, :3].sum(-1).flatten()[off.argsort()]
        assert np.diff(brightness).min() >= -5  # brighter where it errs more, but for rounding
        assert np.ptp(brightness) > 250
    said = page.locator(".batch .value").all_inner_texts()
    assert said[:8] == [str(t) for t in batch.t.tolist()]
    assert [float(text) for text in said[8:]] == pytest.approx([*ours.error, *theirs.error], rel=0.06, abs=5.1e-6)
    drawn = page.evaluate("() => document.querySelector('.by-t').data.map(({ x, y }) => [x, y])")
    for (x, y), (_, losses) in zip(
        drawn, [*trained["unet"].curves["by_t"], trained["convolutions"].curves["by_t"][-1]]
    ):
        assert y == losses and x == pytest.approx([1000 - (k + 0.5) * 1000 / len(y) for k in range(len(y))])


def test_the_next_step_draws_another_batch_and_the_address_follows(page, server):
    open_lesson(page, server + LINK)
    before, drawn = page.locator(".of-t").inner_text(), page.evaluate("document.querySelector('.player').dataset.step")
    page.locator("#next").focus()
    page.keyboard.press("Enter")
    wait(page, f"d.step !== '{drawn}'")
    assert page.locator(".of-t").inner_text() != before
    assert query(page)["seed"] == "4"


def test_another_snapshot_errs_on_the_same_batch(page, server):
    open_lesson(page, server + LINK)
    before = page.evaluate("({...document.querySelector('.player').dataset})")
    t = page.locator(".of-t").inner_text()
    page.locator("#snapshot label", has_text="100").first.click()
    wait(page, f"d.step !== '{before['step']}'")
    assert page.locator(".of-t").inner_text() == t
    assert float(page.evaluate("document.querySelector('.player').dataset.loss")) > float(before["loss"])
    assert query(page)["snapshot"] == "100"


def test_the_address_reproduces_the_step(page, context, server):
    open_lesson(page, server + LINK)
    other = context.new_page()
    open_lesson(other, page.url)
    for part in (".of-t", ".of-loss", ".of-x0"):
        assert page.locator(part).inner_text() == other.locator(part).inner_text()
    picture = "document.querySelectorAll('.samples canvas')[30].toDataURL()"
    assert page.evaluate(picture) == other.evaluate(picture)


def test_a_wrong_link_is_corrected_in_words(page, server):
    page.goto(server + "/learning?snapshot=7&seed=-3")
    wait(page, "d.step")
    notes = page.locator(".notes").inner_text()
    assert "snapshot = 7" in notes and "seed = -3" in notes


def test_a_preset_shows_what_to_look_for(page, server):
    open_lesson(page, server + LINK)
    page.get_by_role("button", name="Before the first step").click()
    page.wait_for_function("document.querySelector('#look-for')?.textContent.includes('knows nothing of digits')")
    page.wait_for_function("document.querySelector('.of-end').textContent.includes('done it 0 times')")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_the_step_without_scrolling_sideways(page, server, theme):
    page.set_viewport_size({"width": 390, "height": 844})
    open_lesson(page, f"{server}{LINK}&__theme={theme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_curves_that_ship_are_json_of_numbers():
    for name in ("unet", "convolutions"):
        curves = json.loads((SHIPPED / f"{name}.json").read_text())
        assert all(math.isfinite(loss) for key in ("training", "held_out") for _, loss in curves[key])
