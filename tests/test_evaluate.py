"""Quality measures: closed-form answers, invariances, and the command that writes them down."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from test_classifier import tiny_images
from test_data import write_idx
from torch import Tensor, nn

from ddpm.checkpoint import save_network
from ddpm.data import Images, to_unit
from ddpm.evaluation import judges as evaluate
from ddpm.evaluation.judges import Setting
from ddpm.evaluation.report import BEGIN, END
from ddpm.networks import MLP, Classifier, ClassifierConfig, MLPConfig, UNet, UNetConfig
from ddpm.process import Prediction, seeded
from ddpm.toys import TOYS

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


def test_a_neighbours_distance_is_the_one_of_a_sorted_list_of_all():
    a, b = points(300, 30, 1), points(400, 30, 2)
    every = (a[:, None] - b).norm(dim=2).sort(1).values
    for k in (1, 3):
        torch.testing.assert_close(evaluate.neighbour_distances(a, b, k), every[:, k - 1])


def test_a_copy_is_at_no_distance_at_all_from_what_it_copies():
    a = points(300, 50, 1) + 100
    assert evaluate.neighbour_distances(a[40:60], a).tolist() == [0] * 20


def test_a_manifold_reaches_from_each_point_to_its_kth_neighbour():
    manifold = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [10.0, 0.0]])
    inside = torch.tensor([[-2.9, 0.0], [3.0, 2.9], [16.0, 0.0]])
    outside = torch.tensor([[-3.1, 0.0], [20.0, 0.0], [3.0, 9.0]])
    assert evaluate.coverage(inside, manifold, k=2) == 1
    assert evaluate.coverage(outside, manifold, k=2) == 0
    assert evaluate.coverage(torch.cat([inside, outside]), manifold, k=2) == 0.5


def test_a_lost_mode_costs_recall_and_an_invented_one_costs_precision():
    mode, other = points(200, 5, 1), points(200, 5, 2) + 50
    both = torch.cat([points(200, 5, 3), points(200, 5, 4) + 50])
    half = torch.cat([mode, mode + 1e-3])
    assert evaluate.coverage(half, both) > 0.8 and evaluate.coverage(both, half) < 0.6
    one, two = torch.cat([mode, points(200, 5, 5)]), torch.cat([points(200, 5, 6), other])
    assert evaluate.coverage(two, one) < 0.6 and evaluate.coverage(one, two) > 0.8


def test_a_manifold_of_fewer_points_than_neighbours_is_refused():
    with pytest.raises(ValueError, match="of 3 samples .* more than 3"):
        evaluate.coverage(points(5, 2, 1), points(3, 2, 2))


# --- samples --------------------------------------------------------------------------------------------------------


@pytest.fixture
def unet() -> UNet:
    torch.manual_seed(0)
    config = UNetConfig((1, 8, 8), num_classes=3, channels=(8, 32), blocks=(1, 1), embedding=16)
    network = UNet(config).eval().requires_grad_(False)
    nn.init.normal_(network.leave.weight, std=0.1)
    return network


def test_labels_are_balanced_and_a_count_that_cannot_be_is_refused():
    assert evaluate.balanced_labels(30, 10).bincount().tolist() == [3] * 10
    assert evaluate.balanced_labels(5, 0).tolist() == [0] * 5
    with pytest.raises(ValueError, match="31; it must be a multiple of the 10"):
        evaluate.balanced_labels(31, 10)


@pytest.mark.parametrize(
    "changes", [{}, {"eta": 1.0, "guidance": 1.0}, {"sampler": "dpm-solver++"}], ids=lambda changes: " ".join(changes)
)
def test_a_sample_depends_on_seed_and_index_alone(unet, changes):
    setting = Setting(4, samples=6, **changes)
    whole, labels = evaluate.generate(unet, setting, 0)
    parts, _ = evaluate.generate(unet, setting, 0, batch=4)
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=0)
    assert not torch.allclose(whole, evaluate.generate(unet, setting, 1)[0])
    assert labels.tolist() == [0, 1, 2, 0, 1, 2] and whole.abs().max() <= 1


def test_samples_are_the_same_to_the_last_bit_on_one_thread_and_on_several(unet):
    def on(threads: int) -> Tensor:
        torch.set_num_threads(threads)
        try:
            return evaluate.generate(unet, Setting(3, eta=1.0, samples=30), 0, batch=4)[0]
        finally:
            torch.set_num_threads(1)

    assert torch.equal(on(1), on(3))


def test_the_sampler_of_a_setting_makes_its_samples(unet):
    ends = [evaluate.generate(unet, Setting(4, sampler=name, samples=3), 0)[0] for name in evaluate.SAMPLERS]
    assert all(not torch.allclose(a, b) for k, a in enumerate(ends) for b in ends[:k])


def test_progress_counts_every_step_of_every_sample(unet):
    seen = []
    evaluate.generate(unet, Setting(3, samples=9), 0, batch=4, watch=seen.append)
    assert sum(seen) == 3 * 9


def test_a_watcher_that_stops_it_ends_the_sampling(unet):
    def interrupt(count: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluate.generate(unet, Setting(3, samples=9), 0, watch=interrupt)


def test_the_tables_name_each_setting_once_and_spend_fewer_samples_on_slow_ones():
    for settings in (evaluate.image_settings(2000), evaluate.toy_settings(20_000)):
        assert len({str(setting) for setting in settings}) == len(settings)
    *_, slow = evaluate.toy_settings(20_000)
    assert slow.steps == 1000 and slow.samples < 20_000
    assert {s.schedule for s in evaluate.image_settings(2000)} == set(evaluate.SCHEDULES)
    *full, long = evaluate.image_settings(500, "full")
    assert {s.samples for s in full} == {500} and (long.steps, long.samples) == (1000, 100)
    assert {s.samples for s in evaluate.image_settings(5000, "marks")} == {5000}


def test_the_frontier_compares_every_sampler_at_every_number_of_steps():
    rows = evaluate.image_settings(2000, "frontier")
    assert len({str(row) for row in rows}) == len(rows) == 3 * len(evaluate.FRONTIER_STEPS)
    assert all(100 <= row.samples <= 2000 and row.samples * row.steps <= 100_000 for row in rows)
    with pytest.raises(ValueError, match="The settings are frontier; toys have the settings standard, quick, full"):
        evaluate.toy_settings(2000, "frontier")


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
    assert right.agreement == 1 and right.agreement_by_class == [1, 1, 1]
    assert right.frechet == pytest.approx(right.frechet_floor, abs=1e-6)
    half = labels.clone()
    half[:6] = (half[:6] + 1) % 3
    assert judge(samples, half, 0).agreement == 0.5


def speckled(count: int, *key: int) -> Images:
    """``tiny_images``, no two alike."""
    plain = tiny_images(count)
    specks = torch.randint(100, plain.images.shape, generator=seeded(*key), dtype=torch.uint8)
    return plain._replace(images=plain.images // 2 + specks)


def test_copies_of_training_images_are_told_from_fresh_ones():
    train, test, fresh = speckled(600, 1), speckled(300, 2), speckled(300, 3)
    judge = evaluate.judge_images(Oracle(), train, test)
    copies, new = (judge(to_unit(data.images[:300]), data.labels[:300], 0) for data in (train, fresh))
    assert (copies.nearest_ratio, copies.nearest_share) == (0, 1)
    assert new.nearest_ratio == pytest.approx(1, abs=0.2) and new.nearest_share < 0.05


def test_training_images_as_samples_reach_the_precision_and_recall_that_stand_beside_them():
    """And what is nothing like the data has neither."""
    train, test = speckled(600, 1), speckled(300, 2)
    judge = evaluate.judge_images(Oracle(), train, test)
    labels = train.labels[:300]
    real, grey = judge(to_unit(train.images[:300]), labels, 0), judge(torch.full((300, 1, 8, 8), 9.0), labels, 0)
    assert real.precision == pytest.approx(real.precision_real, abs=0.1) and real.precision > 0.8
    assert real.recall == pytest.approx(real.recall_real, abs=0.1) and real.recall > 0.8
    assert (grey.precision, grey.recall) == (0, 0)


def test_precision_and_recall_compare_as_many_samples_as_the_test_set_can_pair():
    train, test = speckled(600, 1), speckled(31, 2)
    found = evaluate.judge_images(Oracle(), train, test)(to_unit(train.images[:300]), train.labels[:300], 0)
    assert 0 < found.precision <= 1 and round(30 * found.precision, 6) % 1 == 0


class Inception(nn.Module):
    """Stands for torch-fidelity's network, of which it has the interface: its features are four pixels' values."""

    def __init__(self, name: str, features: list[str], weights: str):
        super().__init__()
        assert Path(weights).is_file()

    def forward(self, x: Tensor) -> tuple[Tensor]:
        assert x.dtype == torch.uint8 and x.shape[1] == 3
        return (x[:, 0, ::4, ::4].flatten(1).float(),)


@pytest.fixture
def fidelity(monkeypatch):
    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Inception
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_the_fid_is_the_distance_to_the_whole_training_set_in_inceptions_features(fidelity, tmp_path):
    (tmp_path / "weights.pth").touch()
    seen = []
    inception = evaluate.inception_features(tmp_path / "weights.pth", seen.append)
    train, test = speckled(90, 1), speckled(60, 2)
    judge = evaluate.judge_images(Oracle(), train, test, inception)
    assert judge(to_unit(train.images), train.labels, 0).fid == pytest.approx(0, abs=1e-6)
    assert sum(seen) == 90 + 90
    darker = judge(to_unit(train.images // 2), train.labels, 0)
    expected = [images[:, 0, ::4, ::4].flatten(1).float() for images in (train.images // 2, train.images)]
    assert darker.fid == pytest.approx(evaluate.frechet(*expected), rel=1e-6)


def test_missing_weights_and_a_missing_package_are_named(fidelity, monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        evaluate.inception_features(tmp_path / "nowhere.pth", print)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ValueError, match="needs the package torch-fidelity"):
        evaluate.inception_features(tmp_path / "nowhere.pth", print)


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
    assert real.energy < 3 * real.energy_floor
    assert real.sliced_wasserstein < 1.5 * real.sliced_wasserstein_floor
    assert noise.energy > 3 * real.energy
    assert noise.sliced_wasserstein > 2 * noise.sliced_wasserstein_floor
    assert real.energy_floor == noise.energy_floor


# --- the learned field ----------------------------------------------------------------------------------------------


class Known(nn.Module):
    """A network that answers with ``answer(x, log_snr)``."""

    def __init__(self, prediction: Prediction, answer):
        super().__init__()
        self.config, self.answer = SimpleNamespace(prediction=prediction, num_classes=0), answer

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
        return self.answer(x, log_snr)


@pytest.mark.parametrize("name", ["mixture1d", "spiral", "checkerboard"])
def test_the_exact_field_has_no_error_and_no_field_has_the_whole(name):
    exact = evaluate.field_error(Known("x0", TOYS[name].exact), TOYS[name], 0, samples=100)
    nothing = evaluate.field_error(Known("noise", lambda x, log_snr: 0 * x), TOYS[name], 0, samples=100)
    assert max(exact.relative) < 1e-4
    assert nothing.relative == pytest.approx([1] * 10) and nothing.mean == pytest.approx(1)


def test_the_field_is_measured_from_data_to_noise():
    found = evaluate.field_error(Known("x0", TOYS["moons"].exact), TOYS["moons"], 0, samples=10)
    assert found.t == sorted(found.t) and found.log_snr == sorted(found.log_snr, reverse=True)
    assert 0 < found.t[0] and found.t[-1] < 1


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
    assert len(json.loads(first)["field"]["relative"]) == 10
    command(*options, "T=10,eta=1,schedule=cosine", "--again")
    assert report.read_text() == first


@pytest.fixture
def digits(folder) -> Path:
    """That folder with a small MNIST, and an untrained network of digits with its judge."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = torch.randint(256, (50, 28, 28), generator=seeded(1))
    for part, rows in (("train", slice(30)), ("t10k", slice(30, 50))):
        write_idx(raw / f"{part}-images-idx3-ubyte", images[rows])
        write_idx(raw / f"{part}-labels-idx1-ubyte", torch.arange(50)[rows] % 10)
    network = UNet(UNetConfig((1, 28, 28), 10, channels=(8, 8), blocks=(1, 1), embedding=8))
    save_network(folder / "mnist.safetensors", network, {"data": "mnist", "names": list("0123456789")})
    judge = Classifier(ClassifierConfig((1, 28, 28), 10, channels=(4, 8), blocks=(1, 1)))
    save_network(folder / "mnist-classifier.safetensors", judge, {"accuracy": 0.1})
    return folder


def test_images_are_judged_by_every_measure_and_the_readme_shows_their_frontier(command, digits):
    options = ("mnist", "--folder", digits, "--data-dir", digits, "--samples", 10, "--settings", "frontier", "--only")
    for steps in (5, 10):
        command(*options, f"T={steps},sampler=dpm-solver++")
    rows = json.loads((digits / "mnist.json").read_text())["rows"]
    assert [row["steps"] for row in rows] == [5, 10]
    assert {"agreement", "frechet", "precision", "recall", "nearest_ratio", "nearest_share"} <= rows[0].keys()
    readme = digits / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    command("readme", "--folder", digits, "--readme", readme)
    assert "frontier-mnist.svg" in readme.read_text()
    assert "DPM-Solver++(2M)" in (digits / "frontier-mnist.svg").read_text()


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
    assert "| moons |" in readme.read_text() and "relative error" in readme.read_text()
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
