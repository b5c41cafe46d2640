"""Quality measures: closed-form answers, invariances, and the command that writes them down."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from test_classifier import tiny_images
from torch import Tensor, nn

from ddpm import evaluate
from ddpm.checkpoint import save_network
from ddpm.data import TOYS
from ddpm.evaluate import Setting
from ddpm.networks import MLP, MLPConfig, UNet, UNetConfig
from ddpm.process import seeded
from ddpm.report import BEGIN, END

SCRIPTS = Path(__file__).parents[1] / "scripts"


def points(count: int, dimensions: int, *key: int) -> Tensor:
    return torch.randn(count, dimensions, generator=seeded(*key))


def sliced(a: Tensor, b: Tensor) -> float:
    return evaluate.sliced_wasserstein(a, b, seeded(7))


# --- distances ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_set_is_at_no_distance_from_itself_in_any_order(dimensions):
    a = points(300, dimensions, 1)
    shuffled = a[torch.randperm(300, generator=seeded(2))]
    assert sliced(a, shuffled) == pytest.approx(0, abs=1e-6)
    assert evaluate.energy_distance(a, shuffled) == pytest.approx(0, abs=1e-6)
    assert evaluate.frechet(a, shuffled) == pytest.approx(0, abs=1e-6)


def test_sliced_wasserstein_of_a_shift_is_the_shift_in_one_dimension():
    a = points(500, 1, 1)
    assert sliced(a, a + 0.75) == pytest.approx(0.75, rel=1e-5)


def test_sliced_wasserstein_of_a_shift_in_two_dimensions_is_the_shift_over_root_two():
    """A random direction sees the share cos² of a squared shift, 1/2 on average."""
    a = points(200, 2, 1)
    far = evaluate.sliced_wasserstein(a, a + torch.tensor([3.0, 4.0]), seeded(7), projections=5000)
    assert far == pytest.approx(5 / math.sqrt(2), rel=0.03)


def test_sliced_wasserstein_and_energy_are_symmetric_and_scale_with_the_units():
    a, b = points(400, 2, 1), points(400, 2, 2) + 1
    for distance in (sliced, evaluate.energy_distance):
        assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-5)
        assert distance(3 * a, 3 * b) == pytest.approx(3 * distance(a, b), rel=1e-5)


def test_sliced_wasserstein_refuses_sets_of_different_size():
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(4, 2\)"):
        sliced(points(3, 2, 1), points(4, 2, 1))


def test_energy_distance_of_two_points_is_twice_their_distance():
    assert evaluate.energy_distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])) == pytest.approx(10)


def test_energy_distance_is_the_mean_over_all_pairs():
    a, b = points(50, 2, 1), points(70, 2, 2) + 0.5
    pairs = [(x[:, None] - y).norm(dim=-1).mean().item() for x, y in ((a, b), (a, a), (b, b))]
    assert evaluate.energy_distance(a, b) == pytest.approx(2 * pairs[0] - pairs[1] - pairs[2], abs=1e-6)
    assert evaluate.energy_distance(a, b) > 0


def test_frechet_of_gaussians_with_diagonal_covariance_is_the_closed_form():
    """Σ (m_a − m_b)² + (s_a − s_b)²; the features are made to have exactly these moments."""
    a = points(1000, 3, 1).double()
    a = torch.linalg.solve_triangular(torch.linalg.cholesky(a.T.cov()), (a - a.mean(0)).T, upper=False).T
    shift, stretch = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.5, 1.0])
    expected = shift.square().sum() + (stretch - 1).square().sum()
    assert evaluate.frechet(a, a * stretch + shift) == pytest.approx(expected.item(), rel=1e-9)


def test_frechet_does_not_change_when_both_sets_turn():
    a, b = points(200, 4, 1), 2 * points(200, 4, 2) + 1
    turn = torch.linalg.qr(points(4, 4, 3)).Q
    assert evaluate.frechet(a @ turn, b @ turn) == pytest.approx(evaluate.frechet(a, b), rel=1e-4)


def test_frechet_works_with_fewer_samples_than_features():
    assert evaluate.frechet(points(5, 20, 1), points(6, 20, 2)) > 0


# --- samples --------------------------------------------------------------------------------------------------------


@pytest.fixture
def unet() -> UNet:
    torch.manual_seed(0)
    config = UNetConfig((1, 8, 8), num_classes=3, channels=(8, 32), blocks=(1, 1), embedding=16)
    network = UNet(config).eval().requires_grad_(False)
    nn.init.normal_(network.leave.weight, std=0.1)
    return network


def drawn(network: nn.Module, setting: Setting, seed: int = 0, batch: int = 50) -> tuple[Tensor, Tensor]:
    ends = [(label, step.x) for label, step in evaluate.generate(network, setting, seed, batch) if step.index == 0]
    return torch.cat([x for _, x in ends]), torch.cat([label for label, _ in ends])


def test_labels_are_balanced_and_a_count_that_cannot_be_is_refused():
    assert evaluate.balanced_labels(30, 10).bincount().tolist() == [3] * 10
    assert evaluate.balanced_labels(5, 0).tolist() == [0] * 5
    with pytest.raises(ValueError, match="31; it must be a multiple of the 10"):
        evaluate.balanced_labels(31, 10)


@pytest.mark.parametrize(("eta", "guidance"), [(0.0, 0.0), (1.0, 1.0)])
def test_a_sample_depends_on_seed_and_index_alone(unet, eta, guidance):
    setting = Setting(4, eta=eta, guidance=guidance, samples=6)
    whole, labels = drawn(unet, setting)
    parts, _ = drawn(unet, setting, batch=4)
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=0)
    assert torch.equal(whole, drawn(unet, setting)[0])
    assert not torch.allclose(whole, drawn(unet, setting, seed=1)[0])
    assert labels.tolist() == [0, 1, 2, 0, 1, 2] and whole.abs().max() <= 1


def test_progress_counts_every_step_of_every_sample(unet):
    seen = [len(label) for label, step in evaluate.generate(unet, Setting(3, samples=9), 0, batch=4) if step.index]
    assert sum(seen) == 3 * 9


def test_the_standard_tables_name_each_setting_once_and_spend_fewer_samples_on_slow_ones():
    for settings in (evaluate.image_settings(5000), evaluate.toy_settings(20_000)):
        assert len({str(setting) for setting in settings}) == len(settings)
        slow = next(setting for setting in settings if setting.steps == 1000)
        assert slow.samples < settings[0].samples
    images = evaluate.image_settings(5000)
    assert {s.schedule for s in images} == set(evaluate.SCHEDULES)
    assert {s.samples for s in evaluate.image_settings(500, "full")} == {500}


# --- judges ---------------------------------------------------------------------------------------------------------


class Oracle(nn.Module):
    """A classifier of ``tiny_images`` that is always right: its features are how white each quarter is."""

    def features(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 4).flatten(1)[:, :3]

    def leave(self, features: Tensor) -> Tensor:
        return features


def test_a_judge_that_is_right_agrees_with_right_samples_and_only_with_them():
    train, test = tiny_images(90), tiny_images(30)
    judge = evaluate.judge_images(Oracle(), train, test)
    samples, labels = train.images[:12] / 127.5 - 1, train.labels[:12]
    right = judge(samples, labels, 0)
    assert right["agreement"] == 1 and right["agreement_by_class"] == [1, 1, 1]
    assert right["frechet"] == pytest.approx(right["frechet_floor"], abs=1e-6)
    half = labels.clone()
    half[:6] = (half[:6] + 1) % 3
    assert judge(samples, half, 0)["agreement"] == 0.5


def test_the_floor_has_training_images_of_the_labels_asked_for_and_none_twice():
    labels, asked = torch.arange(40) % 4, torch.tensor([3, 3, 1, 0, 3])
    rows = evaluate.rows_of_labels(labels, asked, seeded(1))
    assert torch.equal(labels[rows], asked) and len(rows.unique()) == 5
    with pytest.raises(ValueError, match="12 images of class 2 are asked for, but the data has 10"):
        evaluate.rows_of_labels(labels, torch.full((12,), 2), seeded(1))


@pytest.mark.parametrize("name", TOYS)
def test_fresh_points_are_near_their_floor_and_noise_is_not(name):
    judge = evaluate.judge_points(TOYS[name])
    fresh = TOYS[name](1000, seeded(1, 2, 3))
    real, noise = (judge(samples, torch.zeros(1000), 0) for samples in (fresh, points(1000, fresh.shape[1], 5)))
    assert real["energy"] < 20 * real["energy_floor"]
    assert noise["energy"] > 3 * real["energy"]
    assert noise["sliced_wasserstein"] > 2 * noise["sliced_wasserstein_floor"]
    assert real["energy_floor"] == noise["energy_floor"]


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def command():
    """scripts/evaluate.py's main, with the arguments as strings."""
    sys.path.insert(0, str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("evaluate_script", SCRIPTS / "evaluate.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    sys.path.remove(str(SCRIPTS))
    return lambda *arguments: script.main([str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with an untrained network of the moons."""
    torch.manual_seed(0)
    network = MLP(MLPConfig((2,), width=16, depth=1))
    save_network(tmp_path / "moons.safetensors", network, {"data": "moons", "names": []})
    return tmp_path


def test_the_same_seed_gives_the_same_report_and_rows_add_up(command, folder):
    report = folder / "moons.json"
    options = ("moons", "--folder", folder, "--samples", 50, "--only")
    command(*options, "T=10,schedule=cosine")
    command(*options, "T=50")
    first = report.read_text()
    assert [r["steps"] for r in json.loads(first)["rows"]] == [10, 50]
    command(*options, "T=10,eta=1,schedule=cosine", "--again")
    assert report.read_text() == first


def test_a_row_that_is_there_is_measured_again_only_if_asked(command, folder, capsys):
    options = ("moons", "--folder", folder, "--samples", 20, "--only", "T=10,schedule=constant")
    command(*options)
    command(*options)
    assert "measured already" in capsys.readouterr().out
    command(*options, "--again")
    assert "measured already" not in capsys.readouterr().out


def test_the_readme_command_refuses_results_of_other_weights(command, folder):
    readme = folder / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    options = ("--folder", folder, "--readme", readme)
    with pytest.raises(ValueError, match="There is no report"):
        command("readme", *options)
    command("moons", "--folder", folder, "--samples", 20, "--only", "T=10,schedule=constant")
    command("readme", *options)
    assert "| moons |" in readme.read_text()
    save_network(folder / "moons.safetensors", MLP(MLPConfig((2,), width=16, depth=1)), {"data": "moons"})
    with pytest.raises(ValueError, match="measured with other weights"):
        command("readme", *options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("moons", "--only", "T=11"), "No row matches --only; the rows are T=10, cosine"),
        (("circles",), "There is no checkpoint"),
        (("spiral",), "holds a MLP of moons; not one that makes spiral"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(command, folder, arguments, message):
    (folder / "spiral.safetensors").write_bytes((folder / "moons.safetensors").read_bytes())
    with pytest.raises((ValueError, OSError), match=message):
        command(*arguments, "--folder", folder)


@pytest.mark.parametrize("arguments", [("cats",), ("moons", "--only", "speed=3"), ("moons", "--samples", "0")])
def test_a_wrong_option_is_refused(command, arguments, capsys):
    with pytest.raises(SystemExit):
        command(*arguments)
    assert str(arguments[-1]) in capsys.readouterr().err
