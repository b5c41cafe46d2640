"""The programs that the page shows compute what the lessons' jobs show: each is executed here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pages import finish, open_page, wait
from PIL import Image
from torch.testing import assert_close

from ddpm.checkpoint import load_network
from ddpm.lessons.learning.run import Learning, samples, step
from ddpm.lessons.likelihood import run as likelihood
from ddpm.lessons.likelihood.run import Likelihood, carried_out, estimates
from ddpm.lessons.line import run as line
from ddpm.lessons.models import NETWORK, SNAPSHOTS, load_snapshots, samplers
from ddpm.lessons.noising.run import DRAWN, UPLOADED, WAYS, Noising, look
from ddpm.lessons.pictures.run import Run, perform
from ddpm.lessons.plane import run as plane
from ddpm.lessons.plane.run import Plane
from ddpm.lessons.points import decode_points, encode_points
from ddpm.lessons.program import call
from ddpm.lessons.schedules.run import NAMES, Curves, compare
from ddpm.lessons.tour import LESSONS
from ddpm.lessons.train.run import Apprentice, Training
from ddpm.lessons.trained import to_file
from ddpm.picture import encode, from_file
from ddpm.process import seeded
from ddpm.sampling import SAMPLERS
from ddpm.serving.engine import Forward
from ddpm.settings import Settings

ROOT = Path(__file__).parent.parent
DRAWING = encode_points(torch.tensor([[0.5, -0.5], [-0.25, 0.75], [0.1, 0.2]]))

PROGRAMS = {type(lesson.first): lesson.program for lesson in LESSONS}


def program(settings):
    return PROGRAMS[type(settings)](settings)


def network(name):
    return load_network(ROOT / "checkpoints" / f"{name}.safetensors").network


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder with the checkpoints, to execute programs in."""
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def executed(settings):
    """The names that the program of ``settings`` leaves behind."""
    names = {}
    exec(compile(program(settings), "the program", "exec"), names)  # noqa: S102  # our own text
    return names


def last(job):
    *_, frame = (frame for frame in job if frame is not None)
    return frame


# --- what it computes -----------------------------------------------------------------------------------------------

PICTURES = [
    *(Run(count=2, steps=4, sampler=sampler, seed=3) for sampler in SAMPLERS),
    Run(label="7", count=2, steps=4, schedule="linear", eta=0.6, guidance=1.5, seed=11),
    Run(label="any", count=1, steps=1, eta=1.0),
    Run(model="cifar10", label="frog", count=1, steps=2, eta=1.0),
]


@pytest.mark.parametrize("run", PICTURES, ids=call)
def test_the_program_of_pictures_draws_those_of_the_run(run, folder):
    *_, step = perform(run, network(run.model))
    assert_close(executed(run)["x"], step.x)
    assert (folder / "pictures.png").stat().st_size > 0


LINES = [
    *(line.Line(count=200, steps=12, sampler=sampler, eta=0.0) for sampler in SAMPLERS),
    line.Line(count=100, steps=20),
    line.Line(
        mean1=-1.5, weight1=3, std=0.4, denoiser="exact", count=100, steps=9, schedule="polynomial", p=2.5, eta=0.5
    ),
]


@pytest.mark.parametrize("settings", LINES, ids=call)
def test_the_program_of_the_line_ends_with_the_samples_and_the_modes_of_the_run(settings, capsys):
    frame = last(line.frames(settings, network(NETWORK)))
    x = executed(settings)["x"][:, 0]
    assert_close(x[: line.PATHS].numpy(), frame.paths)
    assert capsys.readouterr().out == "".join(f"{mode}\n" for mode in frame.modes)


PLANES = [
    *(Plane(count=100, steps=6, sampler=sampler) for sampler in SAMPLERS),
    Plane(data="spiral", count=100, steps=10, schedule="sigmoid", reach=2.0, eta=1.0, seed=5),
    Plane(data="checkerboard", denoiser="exact", count=100, steps=5),
    Plane(data="drawn", points=DRAWING, count=100, steps=8),
    Plane(data="circles", direction="chain", count=100, steps=7, seed=2),
    Plane(data="drawn", points=DRAWING, direction="jump", count=100, steps=7),
]


@pytest.mark.parametrize("settings", PLANES, ids=call)
def test_the_program_of_the_plane_ends_with_the_particles_of_the_run(settings):
    own = None if settings.data == plane.DRAWN else network(settings.data)
    frame = last(plane.frames(settings, own))
    x = executed(settings)["x"]
    assert_close(x.numpy(), frame.x)
    assert float(x.std()) > 0.1


def test_the_program_of_the_plane_takes_a_network_of_the_visitors_own(folder):
    mine = Apprentice(Training(scaling="small")).trained()
    (folder / "mine.safetensors").write_bytes(to_file(mine))
    settings = Plane(denoiser="mine", count=100, steps=4)
    frame = last(plane.frames(settings, mine.network, scaling=mine.scaling))
    assert_close(executed(settings)["x"].numpy(), frame.x)


@pytest.mark.parametrize(
    "settings",
    [
        Training(batches=100, shown_steps=5),
        Training(data="drawn", points=DRAWING, prediction="noise", scaling="standard", batches=100),
    ],
    ids=call,
)
def test_the_program_of_a_training_makes_the_points_and_the_network_that_the_page_shows(settings):
    frame = last(Apprentice(settings).learn())
    names = executed(settings)
    assert frame.trained.batches == settings.batches
    for name, weight in frame.trained.network.state_dict().items():
        assert_close(names["averaged"].state_dict()[name], weight, atol=1e-5, rtol=1e-4)
    assert_close(names["x"].numpy(), frame.x, atol=1e-3, rtol=1e-3)


def answered(job):
    """All that ``job`` yields but None, its networks asked here."""
    said, found = next(job, None), []
    for _ in iter(lambda: job.gi_frame, None):
        if isinstance(said, Forward):
            said = job.send(said.network(said.x, said.log_snr, said.label))
        else:
            found.append(said)
            said = next(job, None)
    return [one for one in found if one is not None]


NOISINGS = [
    Noising(t=6, steps=20),
    Noising(way="chain", t=30, steps=30, schedule="cosine", s=0.02, seed=4),
    Noising(way="mix", t=25, steps=40, example=11),
    Noising(way="mix-uniform", t=3, steps=5, model="cifar10", example=17, seed=2),
    Noising(picture=DRAWN, t=1, steps=1, schedule="table", table="0.1 0.9"),
]


def check_noising(noising, names):
    strip, moment, measured = answered(look(noising, network(noising.model)))
    assert names["strip"] == list(strip.steps)
    assert_close(torch.stack([names["states"][k] for k in strip.steps]).numpy(), strip.x, atol=1e-5, rtol=1e-5)
    for shown in ("x0", "x", "noise", "predicted_noise", "predicted_x0", "histogram"):
        assert_close(names[shown].numpy(), getattr(moment, shown), atol=1e-4, rtol=1e-4, msg=shown)
    for number in ("signal", "std", "log_snr"):
        assert float(names[number]) == pytest.approx(getattr(moment, number))
    return measured


@pytest.mark.parametrize("settings", NOISINGS, ids=call)
def test_the_program_of_a_noised_picture_makes_the_pictures_and_the_numbers_of_the_page(settings, folder, capsys):
    measured = check_noising(settings, executed(settings))
    printed = [text.split() for text in capsys.readouterr().out.splitlines()]
    found = {(int(t), way): (float(factor), float(variance)) for t, way, factor, variance in printed[1:]}
    expected = {
        (t, way): (measured.factor[row, k], measured.variance[row, k])
        for row, way in enumerate(WAYS)
        for k, t in enumerate(measured.steps)
    }
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(expected[key], abs=1e-5) for key in expected)
    assert (folder / "pictures.png").stat().st_size > 0


def test_the_program_of_an_uploaded_picture_takes_it_from_the_visitors_file(folder):
    photo = torch.randint(256, (40, 60, 3), generator=seeded(1)).to(torch.uint8)
    Image.fromarray(photo.numpy()).save(folder / "mine.png")
    upload = encode(from_file(folder / "mine.png"), 8)
    settings = Noising(picture=UPLOADED, upload=upload, model="cifar10", t=2, steps=4)
    assert upload not in program(settings) and "here goes the path of your file" in program(settings)
    names = executed(settings)
    assert names["noising"] == settings
    check_noising(settings, names)


CURVES = [Curves(steps=300), Curves(steps=5, model="cifar10", example=9, c=2.0, table="0.2 0.5", seed=3)]


@pytest.mark.parametrize("settings", CURVES, ids=call)
def test_the_program_of_the_schedules_makes_their_curves_and_their_pictures(settings, folder):
    names, shown = executed(settings), compare(settings)
    values = torch.stack([names["values"][name] for name in NAMES])[:, :, [t - 1 for t in shown.steps]]
    assert_close(values.numpy(), shown.values, rtol=1e-9, atol=0)
    assert_close(torch.stack(names["pictures"]).numpy(), shown.pictures.reshape(-1, *shown.pictures.shape[2:]))
    assert names["strip"] == list(shown.strip_steps)
    with Image.open(folder / "schedules.png") as picture:
        side = shown.pictures.shape[-1] + 1
        assert picture.size == (4 * (len(shown.strip_steps) * side - 1), 4 * (len(NAMES) * side - 1))


@pytest.mark.parametrize("settings", [Learning(), Learning(snapshot="end", seed=8, noise=3)], ids=call)
def test_the_program_of_learning_takes_the_step_and_draws_the_samples_of_the_page(settings, folder):
    trained = {name: load_snapshots(ROOT / "checkpoints" / "snapshots", name) for name in ("unet", "convolutions")}
    (shown,) = answered(step(settings, trained))
    drawn = answered(samples(settings, samplers(trained)))[-1]
    names = executed(settings)
    assert all(torch.equal(names[part], getattr(shown.batch, part)) for part in ("x0", "t", "label", "noise", "x"))
    for answer, error, one in zip(names["answers"], names["errors"], shown.answers, strict=True):
        assert_close(answer.numpy(), one.noise, atol=1e-5, rtol=1e-5)
        assert_close(error.numpy(), one.error, atol=1e-6, rtol=1e-5)
    found = (names["loss"].item(), names["gradient"].norm().item(), names["after"].item())
    assert found == pytest.approx(shown.descent, rel=1e-4)
    assert_close(torch.stack(names["samples"]).numpy(), drawn.x, atol=0.01, rtol=0)  # about a grey level
    assert len(drawn.x) == len(SNAPSHOTS) + 1
    assert (folder / "samples.png").stat().st_size > 0 < (folder / "step.png").stat().st_size


LIKELIHOODS = [
    Likelihood(),
    Likelihood(data="mnist", of="one", example=13, steps=7, schedule="constant", seed=2),
    Likelihood(data="moons", steps=100, schedule="cosine"),
    Likelihood(data="checkerboard", denoiser="exact", steps=1, seed=5),
    Likelihood(data="mixture1d", steps=1000),
]


@pytest.mark.parametrize("settings", LIKELIHOODS, ids=call)
def test_the_program_of_the_likelihood_prints_the_terms_of_the_page(settings, monkeypatch, capsys):
    monkeypatch.setattr(likelihood, "ROUNDS", 3)  # of 60, which a program imports
    *_, shown = carried_out(estimates(settings, network(settings.data), rounds=3))
    names = executed(settings)
    assert_close(names["means"].numpy(), shown.terms, rtol=1e-5, atol=1e-9)
    assert_close(names["errors"].numpy(), shown.errors, rtol=1e-5, atol=1e-9)
    numbers = [float(number) for number in re.findall(r"(?<= )-?\d[\d.e+-]*", capsys.readouterr().out)]
    parts = [shown.prior.value, shown.matching.value, shown.reconstruction.value, *shown.total]
    assert numbers == pytest.approx([*parts, *(shown.exact or ())], rel=1e-5, abs=1e-9)


# --- how it reads ---------------------------------------------------------------------------------------------------

EVERY = [
    *(*PICTURES, *LINES, *PLANES, *NOISINGS, *CURVES, *LIKELIHOODS),
    *(Plane(denoiser="mine"), Training(prediction="x0"), Learning(snapshot="100")),
    *(kind() for kind in PROGRAMS),
]
every_program = pytest.mark.parametrize("settings", EVERY, ids=call)


def test_every_kind_of_settings_has_a_program():
    kinds = [Settings]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    whole = {kind for kind in kinds if kind.__dataclass_fields__ and not kind.__subclasses__()}
    assert {kind for kind in whole if kind.__module__.endswith(".run")} == PROGRAMS.keys()


@every_program
def test_a_program_has_at_most_fifty_lines_beside_empty_ones_and_none_that_a_person_would_break(settings):
    lines = program(settings).splitlines()
    assert len([one for one in lines if one]) <= 50
    assert all(len(one) <= 110 for one in lines)


@every_program
def test_the_settings_in_a_program_are_those_that_differ_from_the_defaults_and_give_them_back(settings):
    kind = type(settings)
    assert eval(call(settings), {kind.__name__: kind}) == settings
    assert call(kind()) == f"{kind.__name__}()"
    assert call(settings) in program(settings)


def test_ruff_finds_nothing_unused_or_missing_in_the_programs(folder):
    for number, settings in enumerate(EVERY):
        (folder / f"program{number}.py").write_text(program(settings))
    ours = ("--config", "lint.isort.known-first-party = ['ddpm']")
    checked = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        *ours,
        "--select",
        "F,I",
        "--line-length",
        "120",
        ".",
    ]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_drawing_whose_text_holds_a_name_of_the_library_imports_nothing_for_it():
    points = encode_points(decode_points("-rate-AA"))
    assert points == "-rate-AA"
    text = program(Plane(data="drawn", points=points, direction="jump"))
    assert points in text and "ddpm.training.loop" not in text


# --- the page -------------------------------------------------------------------------------------------------------

COPIED = "() => navigator.clipboard.readText()"


def copied(page):
    """The program as the page's copy button gives it."""
    page.locator("#program").get_by_role("button", name="Copy").click()
    page.wait_for_function("() => navigator.clipboard.readText().then(text => text.includes('import'))")
    return page.evaluate(COPIED)


LESSONS = {
    "/?count=2&steps=4&eta=1": Run(count=2, steps=4, eta=1.0),
    "/colour?count=1&steps=2&label=cat&guidance=0": Run(model="cifar10", label="cat", count=1, steps=2),
    "/line?count=200&steps=9&mean1=-2.5": line.Line(count=200, steps=9, mean1=-2.5),
    "/plane?count=100&steps=5&data=spiral": Plane(count=100, steps=5, data="spiral"),
    "/train?batches=200&prediction=noise": Training(batches=200, prediction="noise"),
}
STILL = {
    "/noising?t=7&steps=20&way=mix": Noising(t=7, steps=20, way="mix"),
    "/schedules?steps=30&c=2": Curves(steps=30, c=2.0),
    "/learning?snapshot=100&noise=4": Learning(snapshot="100", noise=4),
    "/likelihood?data=moons&steps=20&denoiser=exact": Likelihood(data="moons", steps=20, denoiser="exact"),
}
"""Lessons that show no run."""


@pytest.mark.parametrize("url", [*LESSONS, *STILL])
def test_every_lesson_shows_the_program_of_its_link_and_copies_it(page, context, server, url):
    settings = (LESSONS | STILL)[url]
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(server + url)
    if url in LESSONS:
        finish(page)
    page.get_by_role("button", name="Show the code").click()
    page.locator("#program").get_by_text(call(settings)).wait_for()
    assert copied(page) == program(settings).strip()  # the page leaves the end of the last line out


def test_the_program_follows_the_controls(page, server):
    open_page(page, server + "/?count=2&steps=4")
    page.get_by_role("button", name="Show the code").click()
    page.locator("#program").get_by_text("Run(count=2, steps=4)").wait_for()
    page.get_by_role("radio", name="8", exact=True).check()
    page.locator("#program").get_by_text('Run(label="8", count=2, steps=4)').wait_for()
    page.locator("#eta input[type=number]").fill("0.5")
    page.locator("#eta input[type=number]").press("Tab")
    page.locator("#program").get_by_text("posterior(x, x0, now, after, eta=0.5)").wait_for()


def test_the_programs_of_the_lessons_without_a_run_follow_their_controls(page, server):
    def program_holds(text):
        page.locator("#program").get_by_text(text).wait_for()

    def opened(url):
        page.goto(server + url)
        wait(page, "d.measured || d.compared || d.sampled || d.state === 'finished'")
        page.get_by_role("button", name="Show the code").click()

    opened("/noising?t=7&steps=20")
    page.get_by_role("radio", name="step by step").check()
    program_holds('Noising(way="chain", t=7, steps=20)')
    page.locator("#example [aria-checked=true]").focus()
    page.keyboard.press("ArrowRight")
    program_holds('Noising(example=4, way="chain", t=7, steps=20)')
    page.locator("input[type=file][accept='image/*']").set_input_files(ROOT / "docs" / "page.png")
    program_holds("here goes the path of your file")
    opened("/schedules?steps=30")
    page.locator(".curve[data-name=sigmoid] button").click()
    program_holds('Curves(steps=30, schedule="sigmoid")')
    opened("/learning?snapshot=0")
    page.get_by_role("radio", name="2,500", exact=True).check()
    program_holds('Learning(snapshot="2500")')
    opened("/likelihood?data=moons&denoiser=exact&steps=20")
    page.get_by_role("radio", name="learned").check()
    program_holds('Likelihood(data="moons", steps=20)')


def test_the_program_fits_a_phone(page, server):
    page.set_viewport_size({"width": 390, "height": 844})
    open_page(page, server + "/line?count=200&steps=4")
    page.get_by_role("button", name="Show the code").click()
    page.locator("#program").get_by_text("Line(count=200, steps=4)").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
