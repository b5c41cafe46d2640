"""The scripts as they are called: most in this process, those that are interrupted in one of their own."""

import errno
import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from browser import find
from hub import NAME
from huggingface_hub import constants
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_data import write_idx
from test_training import PICTURES, RECIPE, pictures, unet_trainer

import ddpm
from ddpm.checkpoint import load_network, load_projection, load_tensors, save_network
from ddpm.data import Images, to_uint8
from ddpm.lessons.models import load_models
from ddpm.lessons.pictures.run import FIRST, Run, perform
from ddpm.networks import UNet, UNetConfig
from ddpm.plots import tile
from ddpm.process import seeded
from ddpm.projection import principal_plane
from ddpm.training.loop import Trainer

SCRIPTS = Path(__file__).parent.parent / "scripts"
PATIENCE = 60
"""Seconds until a test that waits in vain fails."""


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls a script as the shell does, but in this process; what would be a traceback fails the test."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(script: str, *arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        capsys.readouterr()
        status, message = 0, ""
        try:
            with torch.random.fork_rng():
                runpy.run_path(str(SCRIPTS / script), run_name="__main__")
        except SystemExit as end:
            status, message = (1, end.code) if isinstance(end.code, str) else (end.code or 0, "")
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        shown = capsys.readouterr()
        return Outcome(status, shown.out, shown.err + message)

    return run


def assert_refused(outcome: Outcome, *parts: str) -> None:
    """One sentence at the end of stderr that holds ``parts``, and a status that says so."""
    sentence = outcome.err.splitlines()[-1]
    assert outcome.status != 0
    assert all(part in sentence for part in parts), sentence
    assert "Traceback" not in outcome.err
    assert len(sentence) < 400


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_every_script_imports_what_makes_its_output_safe(script):
    assert "import _root  # noqa: F401\n" in script.read_text("utf-8")


def test_what_a_terminal_cannot_show_does_not_end_a_finished_run_as_an_error(call, checkpoints, monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.delitem(sys.modules, "_root", raising=False)  # as in a process of its own
    arguments = ("--checkpoints", checkpoints, "--link", "steps=Ω&count=1", "--steps", 2)
    assert call("sample.py", *arguments, "--out", checkpoints / "x̂₀.png").status == 0
    assert rb"steps = \u03a9" in shown.buffer.getvalue() and rb"x\u0302\u2080.png" in shown.buffer.getvalue()
    assert (checkpoints / "x̂₀.png").exists()


# --- train.py -------------------------------------------------------------------------------------------------------


class Folders(NamedTuple):
    """Where a training writes: its checkpoint and its state, and the arguments that say so."""

    checkpoint: Path
    state: Path
    arguments: list[object]


def folders(root: Path) -> Folders:
    arguments = ["--out", root / "out", "--state-dir", root / "runs", "--threads", 1, "--batch", 16]
    return Folders(root / "out" / "moons.safetensors", root / "runs" / "moons.state.safetensors", arguments)


def test_a_training_writes_a_checkpoint_that_says_how_it_was_made(call, tmp_path):
    checkpoint, _, arguments = folders(tmp_path)
    outcome = call("train.py", "moons", "--steps", 20, *arguments)
    assert outcome.status == 0
    assert str(checkpoint) in outcome.out
    assert load_network(checkpoint).about == {"data": "moons", "names": [], "steps": 20, "samples": 320}


def test_a_training_that_diverges_leaves_the_checkpoint_and_the_state_that_were_there(call, tmp_path):
    checkpoint, state, arguments = folders(tmp_path)
    assert call("train.py", "moons", "--steps", 20, "--save-every", 5, *arguments).status == 0
    before = checkpoint.read_bytes(), state.read_bytes()
    outcome = call("train.py", "moons", "--steps", 400, "--lr", 1e30, "--save-every", 200, "--overwrite", *arguments)
    assert_refused(outcome, "training has diverged")
    assert (checkpoint.read_bytes(), state.read_bytes()) == before


def test_training_anew_where_a_state_lies_asks_what_to_do_with_it(call, tmp_path):
    _, state, arguments = folders(tmp_path)
    assert call("train.py", "moons", "--steps", 4, "--save-every", 2, *arguments).status == 0
    before = state.read_bytes()
    assert_refused(call("train.py", "moons", "--steps", 4, *arguments), str(state), "--resume", "--overwrite")
    assert state.read_bytes() == before
    assert call("train.py", "moons", "--steps", 4, "--overwrite", *arguments).status == 0


def test_a_training_interrupted_within_a_step_and_resumed_ends_with_the_same_weights(call, tmp_path, monkeypatch):
    straight, halved = folders(tmp_path / "straight"), folders(tmp_path / "halved")
    call("train.py", "moons", "--steps", 20, *straight.arguments)

    def interrupted(trainer, average=Trainer._average):
        if trainer.step == 7:
            signal.raise_signal(signal.SIGINT)
        average(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_average", interrupted)
        outcome = call("train.py", "moons", "--steps", 20, *halved.arguments)
    assert_refused(outcome, "Stopped at step 7", "--resume")
    assert not halved.checkpoint.exists()
    assert call("train.py", "moons", "--steps", 20, "--resume", *halved.arguments).status == 0
    assert halved.checkpoint.read_bytes() == straight.checkpoint.read_bytes()


def start(*arguments: object, launcher: tuple[object, ...] = ()) -> subprocess.Popen:
    command = [sys.executable, *launcher, SCRIPTS / "train.py", "moons", "--steps", 10**6, *arguments]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Returns once ``path`` exists."""
    give_up = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_ctrl_c_leaves_a_state_from_which_to_resume_and_one_sentence(call, tmp_path):
    checkpoint, state, arguments = folders(tmp_path)
    process = start("--save-every", 5, *arguments)
    try:
        wait_for(state, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert_refused(Outcome(process.returncode, "", err), "Stopped at step", "--resume")
    step = int(re.search(r"Stopped at step (\d+)", err)[1])
    assert load_tensors(state)[1]["step"] == step
    assert call("train.py", "moons", "--steps", step + 2, "--resume", *arguments).status == 0
    assert load_network(checkpoint).about["steps"] == step + 2


def test_two_processes_that_are_interrupted_stop_at_the_same_step_from_which_one_can_resume(call, tmp_path):
    checkpoint, state, arguments = folders(tmp_path)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    process = start("--save-every", 5, *arguments, launcher=torchrun)
    try:
        wait_for(state, process)
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    step = load_tensors(state)[1]["step"]
    assert re.findall(r"Stopped at step (\d+)", err) == [str(step)]
    assert call("train.py", "moons", "--steps", step + 2, "--resume", *arguments).status == 0
    assert load_network(checkpoint).about["steps"] == step + 2


def test_a_training_that_is_killed_leaves_a_whole_state(tmp_path):
    _, state, arguments = folders(tmp_path)
    process = start("--save-every", 1, *arguments)
    try:
        wait_for(state, process)
    finally:
        process.kill()
        process.communicate()
    assert load_tensors(state)[1]["step"] >= 1


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["moon"], ["moon", "moons"]),
        (["moons", "--steps", 0], ["--steps", "0 is not a whole number of at least 1"]),
        (["moons", "--batch", "many"], ["--batch", "many"]),
        (["moons", "--lr", -1], ["learning rate", "-1"]),
        (["moons", "--seed", -1], ["-1"]),
        (["moons", "--resume", "--state-dir", "nowhere"], ["train.py: There is no checkpoint nowhere"]),
        (["mnist", "--data-dir", "nowhere"], ["train.py: There is no MNIST file nowhere"]),
    ],
    ids=lambda value: str(value[-1]),
)
def test_training_refuses_what_it_cannot_do_in_one_sentence(call, tmp_path, monkeypatch, arguments, parts):
    monkeypatch.chdir(tmp_path)
    assert_refused(call("train.py", *arguments), *parts)


def test_a_folder_that_cannot_be_written_is_named_and_the_training_can_go_on_elsewhere(call, tmp_path):
    (tmp_path / "file").touch()
    checkpoint, _, arguments = folders(tmp_path)
    outcome = call("train.py", "moons", "--steps", 2, *arguments, "--out", tmp_path / "file" / "below")
    assert_refused(outcome, "train.py: ", str(tmp_path / "file"))
    assert call("train.py", "moons", "--steps", 2, *arguments, "--resume").status == 0
    assert checkpoint.exists()


def test_a_full_disk_is_told_in_one_sentence_and_leaves_no_half_file(call, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    outcome = call("train.py", "moons", "--steps", 2, *folders(tmp_path).arguments)
    assert_refused(outcome, "train.py: ", "No space left on device")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_tensorboard_shows_how_a_training_and_its_resumption_went(call, tmp_path):
    arguments = [*folders(tmp_path).arguments, "--log-dir", tmp_path / "log", "--save-every", 10]
    for steps, resume in ((20, []), (40, ["--resume"])):
        outcome = call("train.py", "moons", "--steps", steps, *resume, *arguments)
        assert outcome.status == 0
    log = EventAccumulator(str(tmp_path / "log" / "moons")).Reload()
    curves = {name: [event.step for event in log.Scalars(name)] for name in log.Tags()["scalars"]}
    names = ("loss/training", "loss/held-out", "learning rate", "samples per second")
    assert curves == {name: [10, 20, 30, 40] for name in names}
    assert f"step 40: held-out loss {log.Scalars('loss/held-out')[-1].value:.5f}" in outcome.out


def test_a_missing_tensorboard_is_told_before_the_training(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    outcome = call("train.py", "moons", "--log-dir", tmp_path / "log", *folders(tmp_path).arguments)
    assert_refused(outcome, "--log-dir", "pip install tensorboard")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def train_script(monkeypatch):
    """What scripts/train.py defines."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return Namespace(**runpy.run_path(str(SCRIPTS / "train.py")))


def test_a_picture_of_each_class_is_kept_at_intervals_and_at_the_end(train_script, tmp_path):
    trainer, state = unet_trainer(), tmp_path / "new" / "tiny.state"
    held_out = torch.zeros(2, *PICTURES.shape), torch.zeros(2, dtype=torch.long)
    options = Namespace(name="tiny", save_every=100, sample_every=4, log_dir=tmp_path / "log")
    steps = [step for step, _ in train_script.watch(trainer, pictures(RECIPE), held_out, state, options)]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in state.parent.glob("*.png")) == ["tiny-000004.png", "tiny-000006.png"]
    drawn = train_script.one_of_each(trainer.averaged())
    assert drawn.shape == (PICTURES.num_classes, *PICTURES.shape)
    assert np.array_equal(np.asarray(Image.open(state.parent / "tiny-000006.png")), np.asarray(tile(drawn.numpy(), 4)))
    log = EventAccumulator(str(tmp_path / "log" / "tiny")).Reload()
    assert [event.step for event in log.Images("one of each class")] == [4, 6]


def test_the_speed_of_each_way_to_compute_is_printed(train_script, monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda network: network)
    task = train_script.Task(PICTURES, RECIPE)
    with torch.random.fork_rng():
        train_script.measure(task, pictures(RECIPE), "cpu", seconds=0)
    lines = capsys.readouterr().out.splitlines()
    assert len({line.rsplit(maxsplit=2)[0] for line in lines}) == len(lines) == 5
    assert all(re.fullmatch(r"(bfloat16|float32), .* [1-9]\d* samples/s", line) for line in lines)


def test_what_bfloat16_does_to_the_gradients_is_printed(train_script, tmp_path, capsys):
    """Of a fresh network nearly nothing; float32's gradients over the steps of a training are their own sum."""
    task, draw, path = train_script.Task(PICTURES, RECIPE), pictures(RECIPE), tmp_path / "tiny.safetensors"
    trainer = train_script.trainer_of(task, "cpu")
    for weight in trainer.weights:
        torch.nn.init.normal_(weight, std=0.1)
    save_network(path, trainer.network, {"data": "tiny", "names": []})
    train_script.agree(task, draw, "cpu", path, batches=2)
    low, median, high = map(float, re.findall(r"\d\.\d\d", capsys.readouterr().out))
    assert 0.9 < low <= median <= high <= 1
    both = train_script.gradients(task, draw, "cpu", path, 2, bfloat16=False)
    first = train_script.gradients(task, draw, "cpu", path, 1, bfloat16=False)
    assert all(a.shape == b.shape and not torch.equal(a, b) for a, b in zip(first, both, strict=True))
    train_script.agree(task, draw, "cpu", tmp_path / "none.safetensors")
    assert "does not exist" in capsys.readouterr().out


# --- a small MNIST --------------------------------------------------------------------------------------------------


@pytest.fixture
def digits(tmp_path):
    """A folder that holds an MNIST of 30 images of noise."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = torch.randint(256, (30, 28, 28), generator=torch.Generator().manual_seed(0))
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", torch.arange(30) % 10)
    return tmp_path


def test_a_data_set_smaller_than_a_batch_is_refused(call, digits):
    assert_refused(call("train.py", "mnist", "--data-dir", digits), "64", "30")


@pytest.mark.slow
def test_the_snapshots_script_keeps_the_network_and_its_losses_and_goes_on(call, digits):
    folders = ("--out", digits / "out", "--state-dir", digits / "state", "--save-every", 2)
    for more in (("--steps", 2), ("--steps", 4, "--resume")):
        assert call("snapshots.py", "convolutions", "--data-dir", digits, *folders, *more).status == 0
    kept = sorted(path.name for path in (digits / "out").glob("*.safetensors"))
    assert kept == [f"convolutions-0000{step}.safetensors" for step in (0, 2, 4)]
    curves = json.loads((digits / "out" / "convolutions.json").read_text())
    assert [step for step, _ in curves["by_t"]] == [step for step, _ in curves["held_out"]] == [0, 2, 4]
    assert load_network(digits / "out" / kept[-1]).about["steps"] == 4


def test_the_projection_script_writes_the_plane_of_its_data(call, digits):
    outcome = call("projection.py", "mnist", "--data-dir", digits, "--out", digits / "out", "--keep", 20)
    assert outcome.status == 0
    plane = load_projection(digits / "out" / "mnist-projection.safetensors")
    assert plane.names == tuple("0123456789")
    assert plane.points.shape == (20, 2)
    assert plane.labels.tolist() == [row * 30 // 20 % 10 for row in range(20)]
    assert np.allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-5)


def test_the_plane_of_most_variance_is_found_again():
    """Pictures along two known directions, with standard deviations of 30 and 10 grey levels, and a third of 1."""
    known = torch.linalg.qr(torch.randn(12, 3, generator=seeded(1)))[0].T
    weights = torch.randn(2000, 3, generator=seeded(2)) * torch.tensor([30.0, 10.0, 1.0])
    pixels = (128 + weights @ known).round().clamp(0, 255).to(torch.uint8)
    plane = principal_plane(Images(pixels.view(-1, 1, 3, 4), torch.zeros(2000, dtype=torch.long), ("a",)), 100)
    turned = np.abs(plane.axes @ known.numpy().T)
    assert np.allclose(turned, [[1, 0, 0], [0, 1, 0]], atol=0.02)
    assert np.allclose(plane.explained, [0.9, 0.1], atol=0.02)
    assert np.allclose(plane.mean, 0, atol=0.02)
    assert np.allclose(np.abs(plane.points), np.abs(weights[::20, :2]) / 127.5, atol=0.03)


def test_the_projection_script_names_missing_data(call, tmp_path):
    assert_refused(call("projection.py", "mnist", "--data-dir", tmp_path / "nowhere"), "projection.py: ", "nowhere")


# --- sample.py ------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoints(tmp_path):
    """A folder with a tiny network of random weights as the network of MNIST."""
    config = UNetConfig(shape=(1, 5, 4), num_classes=10, channels=(8,), blocks=(1,), embedding=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(config)
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    save_network(tmp_path / "mnist.safetensors", network, {})
    return tmp_path


SETTINGS = ["--label", "3", "--count", "6", "--steps", "4", "--seed", "7", "--eta", "0.5", "--guidance", "1"]
RUN = Run(label="3", count=6, steps=4, seed=7, eta=0.5, guidance=1.0)


def test_the_sample_script_draws_the_pictures_of_the_run(checkpoints):
    out = checkpoints / "new" / "digits.png"
    command = [
        sys.executable,
        SCRIPTS / "sample.py",
        *SETTINGS,
        "--checkpoints",
        checkpoints,
        "--out",
        out,
        "--scale=2",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    assert out.read_bytes().startswith(b"\x89PNG")
    drawn = np.asarray(Image.open(out)).astype(int)
    assert drawn.shape == (2 * (2 * 6 - 1), 2 * (3 * 5 - 1))
    *_, last = perform(RUN, load_network(checkpoints / "mnist.safetensors").network)
    assert np.abs(drawn - np.asarray(tile(to_uint8(last.x).numpy(), 2))).max() <= 1


def test_a_saved_run_and_its_link_draw_the_same_pictures_again(call, checkpoints):
    def png(*arguments):
        out = checkpoints / "digits.png"
        outcome = call("sample.py", *arguments, "--checkpoints", checkpoints, "--out", out)
        assert (outcome.status, outcome.out) == (0, f"Wrote {out}.\n")
        return out.read_bytes()

    first = png(*SETTINGS, "--save-run", checkpoints / "run.json")
    assert Run.from_json((checkpoints / "run.json").read_text()) == RUN
    query = "&".join(f"{name}={value}" for name, value in RUN.query().items())
    assert png("--run", checkpoints / "run.json") == first
    (checkpoints / "marked.json").write_text(f"{RUN.json()}\r\n", "utf-8-sig")
    assert png("--run", checkpoints / "marked.json") == first
    assert png("--link", f"https://a.example/?{query}") == first
    other = png("--run", checkpoints / "run.json", "--seed", 8)
    assert other != first
    assert Image.open(io.BytesIO(other)).size == Image.open(io.BytesIO(first)).size


def test_a_link_to_the_page_of_colour_pictures_draws_what_that_page_draws(call, tmp_path):
    link, saved = "http://a.example/colour?count=1&steps=2", tmp_path / "run.json"
    outcome = call("sample.py", "--link", link, "--save-run", saved, "--out", tmp_path / "a.png")
    assert outcome.status == 0
    assert Run.from_json(saved.read_text()) == replace(FIRST["colour"], count=1, steps=2)


@pytest.mark.parametrize(("path", "told"), [("plane?steps=2", True), ("diffusion/?steps=2&guidance=1", False)])
def test_a_link_that_may_be_of_a_page_without_pictures_is_told(call, checkpoints, path, told):
    out = checkpoints / "a.png"
    outcome = call("sample.py", "--link", f"http://a.example/{path}", "--checkpoints", checkpoints, "--out", out)
    assert outcome.status == 0 and out.exists()
    assert ("The link does not say that /plane shows pictures" in outcome.out) == told


def test_a_value_of_a_link_that_is_corrected_is_told(call, checkpoints):
    outcome = call(
        "sample.py", "--link", "steps=0&count=1", "--checkpoints", checkpoints, "--out", checkpoints / "a.png"
    )
    assert outcome.status == 0
    assert re.match(r"steps.* 0.* 1 .*\.\n", outcome.out)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--steps", 5000], ["The steps is 5000; it must be a whole number from 1 to 1000."]),
        (["--steps", "many"], ["The steps is 'many'; it must be a whole number from 1 to 1000."]),
        (["--count", "2.5"], ["2.5", "from 1 to 25"]),
        (["--eta", "nan"], ["The eta is nan", "from 0 to 1."]),
        (["--guidance", -1], ["The guidance is -1", "from 0 to 8."]),
        (["--label", "ten"], ["'ten'", "each, any, 0, 1"]),
        (["--model", "cats"], ["'cats'", "mnist"]),
        (["--scale", 0], ["The scale is 0; it must be"]),
        (["--pace", 1], ["--pace"]),
        (["--run", "nowhere.json"], ["nowhere.json"]),
        (["--run", "text.json"], ["text.json holds no run"]),
        (["--run", "text.json", "--link", ""], ["not allowed with"]),
        (["--run", "deep.json"], ["deep.json holds no run", "nested more than 50 levels deep"]),
        (["--checkpoints", "nowhere"], ["There is no checkpoint nowhere"]),
    ],
    ids=lambda value: " ".join(map(str, value))[:20],
)
def test_sampling_refuses_what_it_cannot_do_in_one_sentence(call, checkpoints, monkeypatch, arguments, parts):
    monkeypatch.chdir(checkpoints)
    (checkpoints / "text.json").write_text("once upon a time")
    (checkpoints / "deep.json").write_text("[" * 100_000)
    assert_refused(call("sample.py", "--checkpoints", checkpoints, *arguments), "sample.py: ", *parts)
    assert not (checkpoints / "samples.png").exists()


def test_the_benchmark_compares_the_backends_with_plain_pytorch(call, tmp_path):
    file = tmp_path / "costs.json"
    outcome = call(
        "benchmark.py", "--networks", "mnist", "--batches", 1, 2, "--turns", 1, "--threads", 1, "--json", file
    )
    costs = json.loads(file.read_text())["costs"]
    assert [cost["candidate"] for cost in costs] == ["eager", "channels-last", "onnx"] * 2
    assert all(cost["ratio"] == 1 for cost in costs if cost["candidate"] == "eager")
    assert len(outcome.out.splitlines()) == 1 + len(costs)


def test_the_benchmark_measures_the_plane(call, tmp_path, monkeypatch):
    monkeypatch.setattr("ddpm.lessons.models.NETWORKS", ("moons",))
    file = tmp_path / "costs.json"
    outcome = call("benchmark.py", "--plane", "--turns", 1, "--json", file)
    [cost] = json.loads(file.read_text())["costs"]
    assert cost["data"] == "moons" and cost["ratio"] == cost["exact"] / cost["learned"]
    assert cost["run"] > cost["learned"] > 0
    assert len(outcome.out.splitlines()) == 2


@pytest.mark.parametrize("option", ["--batches", "--turns", "--threads"])
def test_the_benchmark_refuses_to_measure_nothing(call, option):
    assert_refused(call("benchmark.py", option, 0), "at least 1")


@pytest.mark.parametrize(("script", "option"), [("visitors.py", "--visitors"), ("memory.py", "--runs")])
def test_measuring_nobody_is_refused(call, script, option):
    assert_refused(call(script, option, 0), "at least 1")


@pytest.mark.slow
def test_what_runs_leave_behind_is_measured_on_a_server(call, tmp_path):
    file = tmp_path / "memory.json"
    outcome = call("memory.py", "--runs", 1, 4, "--steps", 2, "--json", file)
    first, last = json.loads(file.read_text())
    assert (first["runs"], last["runs"]) == (1, 4)
    assert last["megabytes"] > 50
    assert (last["open_files"], last["temporary_files"]) <= (first["open_files"] + 2, first["temporary_files"])
    assert len(outcome.out.splitlines()) == 3


@pytest.mark.slow
def test_a_crowd_is_measured_together_and_one_after_another(call, tmp_path):
    file = tmp_path / "visitors.json"
    call("visitors.py", "--visitors", 3, "--digits", 1, "--steps", 3, "--json", file)
    together, alone = json.loads(file.read_text())
    assert (together["server"], alone["server"]) == ("together", "one after another")
    for row in (together, alone):
        assert 0 < row["first"] <= row["end"] <= row["end_worst"]
        assert 0 < row["answer"] <= row["answer_worst"]


@pytest.mark.slow
def test_what_a_visitor_waits_for_is_measured_in_a_browser(call, tmp_path):
    if not (chromium := find()):
        pytest.skip("there is no Chromium; make browser installs one")
    file = tmp_path / "waiting.json"
    call("waiting.py", chromium, "--turns", 1, "--json", file)
    waits = json.loads(file.read_text())
    assert [wait["unit"] for wait in waits] == ["s", *["ms"] * 4, *["pictures/s"] * 2]
    assert all(0 < wait["median"] <= wait["worst"] for wait in waits)


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("DDPM_ENGINE", "cloud", ["'cloud'", "local and ray"]),
        ("DDPM_BATCH", "0", ["DDPM_BATCH is '0'", "at least 1"]),
        ("DDPM_JOBS", "many", ["DDPM_JOBS is 'many'", "at least 1"]),
        ("DDPM_REPLICAS", "-1", ["DDPM_REPLICAS is '-1'", "at least 1"]),
    ],
)
def test_the_app_refuses_a_wrong_environment_in_one_sentence(call, monkeypatch, name, value, parts):
    monkeypatch.setenv("DDPM_BACKEND", "torch")
    monkeypatch.setenv("DDPM_ENGINE", "ray" if name == "DDPM_REPLICAS" else "local")
    monkeypatch.setenv(name, value)
    assert_refused(call("../app.py"), "app.py: ", *parts)


# --- publish.py -----------------------------------------------------------------------------------------------------


@pytest.fixture
def account(remote, monkeypatch):
    """The Hub with the token that may write to its repository."""
    remote.token = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    return remote


def front_matter(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def pinned() -> dict[str, str]:
    return dict(re.findall(r"^(\w+)==(\S+)$", (SCRIPTS.parent / "requirements.txt").read_text(), re.MULTILINE))


def test_the_readme_asks_for_the_versions_that_the_requirements_pin():
    asked = front_matter((SCRIPTS.parent / "README.md").read_text("utf-8"))
    assert asked["sdk"] == "gradio" and asked["sdk_version"] == pinned()["gradio"]
    assert (SCRIPTS.parent / asked["app_file"]).is_file() and len(asked["short_description"]) <= 60
    assert f"FROM python:{asked['python_version']}-slim" in (SCRIPTS.parent / "Dockerfile").read_text()
    assert f"gradio[mcp]=={pinned()['gradio']}" in (SCRIPTS.parent / "requirements-mcp.txt").read_text()


def test_a_space_gets_what_the_app_needs_and_nothing_else(call, account, tmp_path):
    account.files |= {"ddpm/gone.py": b"", "notes.txt": b"mine"}
    outcome = call("publish.py", "space", NAME, "--model", "someone/digits", "--yes")
    assert outcome.status == 0, outcome.err
    assert account.created == [{"name": "digits", "organization": "someone", "type": "space", "sdk": "gradio"}]
    assert len(account.commits) == 1
    top = {path.split("/")[0] for path in account.files}
    papers = {path.name for path in SCRIPTS.parent.glob("*.md")}
    assert top == {"LICENSE", "requirements.txt", "app.py", "ddpm", "checkpoints", "docs", "notes.txt", *papers}
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", account.files["README.md"].decode())
    assert len(linked) > 5 and set(linked) <= account.files.keys()
    assert "ddpm/gone.py" not in account.files and not [path for path in account.files if "classifier.s" in path]
    for path in ("app.py", "ddpm/lessons/pictures/screen.js", "checkpoints/mnist.safetensors"):
        assert account.files[path] == (SCRIPTS.parent / path).read_bytes()
    for path, content in account.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    assert not load_models(None, tmp_path / "checkpoints").problem
    asked = front_matter(account.files["README.md"].decode())
    assert asked["models"] == ["someone/digits"] and asked["thumbnail"].endswith(f"{NAME}/resolve/main/docs/page.png")


def test_a_published_network_comes_back_with_its_card_and_its_results(call, account):
    assert call("publish.py", "model", NAME, SCRIPTS.parent / "checkpoints" / "moons", "--yes").status == 0
    assert account.files.keys() == {"README.md", "moons.safetensors", "moons.json"}
    shipped = load_network(SCRIPTS.parent / "checkpoints" / "moons.safetensors").network.state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in ddpm.load(NAME).state_dict().items())
    card = account.files["README.md"].decode()
    assert front_matter(card)["license"] == "mit"
    for part in ("3,072,000 samples", "Made by", "sliced 2-Wasserstein", f'ddpm.load("{NAME}")', "## Licence"):
        assert part in card


def test_what_training_has_not_made_is_not_published(call, account):
    assert_refused(call("publish.py", "model", NAME, SCRIPTS.parent / "checkpoints" / "mnist-classifier"), "train.py")
    assert not account.commits


def test_a_card_of_several_networks_names_each_and_the_data_sets(call, account):
    checkpoints = SCRIPTS.parent / "checkpoints"
    call("publish.py", "model", NAME, checkpoints / "mnist", checkpoints / "moons.safetensors", "--yes")
    card = account.files["README.md"].decode()
    assert re.findall("^## (.*)$", card, re.MULTILINE) == ["mnist", "moons", "How to load", "Licence"]
    assert front_matter(card)["datasets"] == ["ylecun/mnist"] and f'ddpm.load("{NAME}", "mnist")' in card


@pytest.mark.parametrize("kind", [("space", NAME), ("model", NAME, SCRIPTS.parent / "checkpoints" / "moons")])
def test_a_dry_run_lists_files_and_their_sizes_and_asks_the_hub_nothing(call, account, kind):
    outcome = call("publish.py", *kind, "--dry-run")
    assert outcome.status == 0 and account.requests == []
    *files, total = [int(line.split()[0].replace(",", "")) for line in outcome.out.splitlines()]
    assert sum(files) == total > 600_000


@pytest.mark.parametrize("answer", ["", "n", "never"])
def test_nothing_is_published_without_a_yes(call, account, monkeypatch, answer):
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert_refused(call("publish.py", "space", NAME), "Nothing is published")
    assert account.requests == []


def no_token(account, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")


def no_right(account, monkeypatch):
    account.may_write = False


def offline(account, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("fail", "part"), [(no_token, "HF_TOKEN"), (no_right, "may not write"), (offline, "could not be reached")]
)
def test_what_keeps_from_publishing_is_one_sentence(call, account, monkeypatch, fail, part):
    fail(account, monkeypatch)
    assert_refused(call("publish.py", "space", NAME, "--yes"), part)
    assert account.commits == []


def test_what_is_published_must_be_a_checkpoint_and_a_repository_without_a_revision(call, account, tmp_path):
    (tmp_path / "cats.safetensors").write_bytes(b"cats")
    assert_refused(call("publish.py", "model", NAME, tmp_path / "cats", "--yes"), "cats.safetensors", "not a ddpm")
    assert_refused(call("publish.py", "model", NAME, tmp_path / "dogs", "--yes"), "no checkpoint", "dogs.safetensors")
    assert_refused(call("publish.py", "space", "digits", "--yes"), "'digits'", "USER/NAME")
    assert_refused(call("publish.py", "space", f"{NAME}@v1", "--yes"), "without a revision")
