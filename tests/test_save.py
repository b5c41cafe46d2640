"""What is saved of a run, decoded and compared with the frames on the page."""

import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pages import finish, open_page, query, scrub, state, wait
from PIL import Image

from ddpm.lessons.pictures.run import Run

RUN = "/?label=7&count=3&steps=5&seed=3"
PIXELS = """name => { const c = document.querySelector(`canvas.${name}`);
  return [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }"""


def save(page, kind):
    """The file that the menu's ``kind`` downloads."""
    if not page.locator(".save[open]").count():
        page.locator(".save summary").click()
    with page.expect_download() as download:
        page.locator(f".save [data-save={kind}]").click()
    wait(page, "d.playing === 'false' && !document.querySelector('.player').inert")
    return Path(download.value.path()).read_bytes()


def canvas(page, name):
    """The canvas as an image (height, width, 3), on the page's white."""
    height, width, *values = page.evaluate(PIXELS, name)
    pixels = np.array(values, np.uint8).reshape(height, width, 4)
    return np.where(pixels[..., 3:] == 0, 255, pixels[..., :3]).astype(np.uint8)


def on_page(page):
    """What the page shows of x and x0 at every step."""
    shown = []
    for position in range(int(state(page)["frames"])):
        scrub(page, position)
        wait(page, f"d.position === '{position}'")
        shown.append([canvas(page, name) for name in ("x", "x0")])
    return shown


def within(picture, whole):
    """Whether ``picture``, enlarged by whole numbers, stands somewhere in ``whole``: by its grey values, exactly."""
    for zoom in range(1, whole.shape[0] // picture.shape[0] + 1):
        enlarged = picture.repeat(zoom, 0).repeat(zoom, 1)
        high, wide, _ = enlarged.shape
        for top in range(whole.shape[0] - high + 1):
            row = np.lib.stride_tricks.sliding_window_view(whole[top, :, 0], wide)
            for left in np.flatnonzero((row == enlarged[0, :, 0]).all(1)):
                if np.array_equal(whole[top : top + high, left : left + wide], enlarged):
                    return True
    return False


def images(file):
    with Image.open(io.BytesIO(file)) as image:
        found = []
        for i in range(image.n_frames):
            image.seek(i)
            found.append(np.array(image.convert("RGB")))
        return found


def test_a_film_holds_every_step_as_the_page_shows_it_and_the_page_stands_where_it_stood(page, server):
    open_page(page, server + RUN)
    shown = on_page(page)
    scrub(page, 2)
    wait(page, "d.position === '2'")
    film = images(save(page, "webp"))
    assert len(film) == 6 and state(page)["position"] == "2"
    for (x, x0), picture in zip(shown, film, strict=True):
        assert within(x, picture) and within(x0, picture)
    assert [picture.shape for picture in images(save(page, "gif"))] == [picture.shape for picture in film]


def test_the_strip_holds_its_steps_and_the_numbers_are_those_of_the_pictures(page, server):
    open_page(page, server + RUN)
    shown = on_page(page)
    strip = images(save(page, "png"))[0]
    assert all(within(picture, strip) for step in shown for picture in step)
    numbers = np.load(io.BytesIO(save(page, "npz")))
    assert numbers["x"].shape == numbers["x0"].shape == (6, 3, 1, 28, 28)
    assert numbers["index"].tolist() == [5, 4, 3, 2, 1, 0] and numbers["labels"].tolist() == [7, 7, 7]
    assert np.isinf(numbers["log_snr"][-1]) and numbers["alpha_bar"][-1] == 1
    for k, step in enumerate(shown):
        for name, picture in zip(("x", "x0"), step):
            first = picture[:28, :28, 0].astype(float)
            assert np.abs(((numbers[name][k, 0, 0] + 1) * 127.5).clip(0, 255) - first).max() <= 0.51


def test_the_menu_serves_the_keyboard_and_saves_the_settings_which_open_again_as_the_same_run(page, server):
    open_page(page, server + RUN)
    before = canvas(page, "x")
    page.locator(".save summary").focus()
    page.keyboard.press("Space")
    page.locator(".save[open]").wait_for()
    assert state(page)["playing"] == "false"
    page.locator(".save .json").focus()
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    path = Path(download.value.path())
    assert Run.from_json(path.read_text("utf-8")) == Run(label="7", count=3, steps=5, seed=3)
    page.keyboard.press("Escape")
    assert page.locator(".save[open]").count() == 0
    page.goto(f"{server}/schedules")
    page.locator("#lecture .file").set_input_files(path)
    page.wait_for_url("**/?**label=7**")
    finish(page)
    assert query(page)["seed"] == "3" and np.array_equal(canvas(page, "x"), before)


def test_a_film_of_the_plane_has_a_picture_of_plot_and_particles_a_step(page, server):
    open_page(page, f"{server}/plane?count=200&steps=4&seed=3")
    film = images(save(page, "gif"))
    assert len(film) == 5
    changes = [np.abs(a.astype(int) - b).max(-1) > 60 for a, b in pairwise(film)]
    assert all(200 < changed.sum() < 0.5 * changed.size for changed in changes)
    numbers = np.load(io.BytesIO(save(page, "npz")))
    assert numbers["x"].shape == (5, 200, 2) and numbers["x0_learned"].shape == (5, 20, 20, 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "This is no JSON file."),
        ("[1]", "neither a run nor a lecture"),
        ("{}", "no settings"),
        (json.dumps({"stepz": 3}), "unknown setting “stepz”"),
        (json.dumps({"steps": [3]}), "must be text or a number"),
        (json.dumps({"mean1": 3, "points": ""}), "several lessons"),
        (json.dumps({"x": "y" * 200_000}), "200 kB at most"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(page, server, content, says):
    page.goto(f"{server}/line?count=200&steps=2")
    file = {"name": "wrong.json", "mimeType": "application/json", "buffer": content.encode()}
    page.locator("#lecture .file").set_input_files(file)
    page.locator("#lecture .said", has_text=says).wait_for()
    assert page.locator("#lecture .said").inner_text().startswith("wrong.json: ")
