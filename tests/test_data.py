import struct

import pytest
import torch
from torch.testing import assert_close
from torchvision.io import write_png

from ddpm.data import IMAGES, TOYS, cifar10, image_folder, mnist, to_uint8, to_unit
from ddpm.exact import finite
from ddpm.process import add_noise, noise_from_x0, seeded

every_toy = pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
on_the_plane = pytest.mark.parametrize("toy", [toy for name, toy in TOYS.items() if name != "mixture1d"])


@every_toy
@pytest.mark.parametrize("count", [1, 500])
def test_a_toy_gives_as_many_points_as_asked_for(toy, count):
    points = toy(count, seeded(0))
    assert points.shape == (count, 1 if toy is TOYS["mixture1d"] else 2)
    assert points.dtype == torch.float32


@every_toy
def test_the_same_generator_gives_the_same_points_and_another_does_not(toy):
    assert torch.equal(toy(50, seeded(1)), toy(50, seeded(1)))
    assert not torch.equal(toy(50, seeded(1)), toy(50, seeded(2)))


@on_the_plane
def test_a_toy_on_the_plane_is_centred_and_fills_the_unit_square(toy):
    points = toy(5000, seeded(0))
    assert 0.8 < points.abs().max() < 1.2
    assert points.mean(0).abs().max() < 0.2


def test_the_mixture_has_weights_1_to_2_means_4_and_deviation_1():
    """Each estimate within five of its standard errors."""
    count = 40_000
    x = TOYS["mixture1d"](count, seeded(0)).squeeze()
    left, right = x[x < 0], x[x > 0]
    assert len(right) / count == pytest.approx(2 / 3, abs=5 * (2 / 9 / count) ** 0.5)
    for side, mean in ((left, -4), (right, 4)):
        assert side.mean().item() == pytest.approx(mean, abs=5 / len(side) ** 0.5)
        assert side.std().item() == pytest.approx(1, abs=5 / (2 * len(side)) ** 0.5)


def test_the_checkerboard_covers_eight_squares_of_one_colour():
    column, row = ((TOYS["checkerboard"](1000, seeded(0)) + 1) * 2).floor().long().unbind(1)
    assert ((column + row) % 2 == 0).all()
    assert len((4 * column + row).unique()) == 8


@every_toy
@pytest.mark.parametrize("log_snr", [0.0, 4.0])
def test_a_toys_exact_denoiser_answers_with_the_mean_of_the_draws_that_could_have_become_x(toy, log_snr):
    """Weighing many draws by Bayes' rule is a Monte-Carlo estimate of E[x0 | x_t]; in noise, N(0, 1), they agree to 1 %."""
    level, generator = torch.tensor(log_snr), seeded(0)
    x0 = toy(30, generator).double()
    x = add_noise(x0, torch.randn(x0.shape, generator=generator, dtype=torch.float64), level)
    estimate = noise_from_x0(x, finite(toy(100_000, generator))(x, level), level)
    exact = noise_from_x0(x, toy.exact(x, level), level)
    assert (exact - estimate).square().mean().sqrt() < 0.01


def test_every_pixel_value_survives_the_unit_range():
    values = torch.arange(256, dtype=torch.uint8)
    unit = to_unit(values)
    assert (unit.min(), unit.max()) == (-1, 1)
    assert torch.equal(to_uint8(unit), values)


def test_values_outside_the_unit_range_are_clipped():
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def write_images(folder, channels):
    """Two classes of two images; image n of the folder is of the colour 10 n."""
    for number, name in enumerate(["cat/a", "cat/b", "dog/a", "dog/b"]):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(torch.full((channels, 6, 5), 10 * number, dtype=torch.uint8), str(path))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_gives_its_images_and_names_its_classes(tmp_path, channels):
    write_images(tmp_path, channels)
    data = image_folder(tmp_path)
    assert data.images.dtype == torch.uint8
    assert data.images.shape == (4, channels, 6, 5)
    colours = data.images[:, 0, 0, 0].tolist()
    assert sorted(colours) == [0, 10, 20, 30]
    assert data.labels.tolist() == [colour // 20 for colour in colours]
    assert data.names == ("cat", "dog")


def test_the_first_images_of_a_folder_are_of_all_classes_and_the_same_at_every_call(tmp_path):
    for number in range(40):
        path = tmp_path / f"{number // 20}" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        write_png(torch.full((1, 2, 2), number, dtype=torch.uint8), str(path))
    first, again = image_folder(tmp_path), image_folder(tmp_path)
    assert first.labels[:20].unique().tolist() == [0, 1]
    assert torch.equal(first.images, again.images)


@pytest.mark.parametrize(("train", "part"), [(True, "train"), (False, "test")])
def test_cifar10_reads_the_class_folders_of_its_part(tmp_path, train, part):
    write_images(tmp_path / part, 3)
    assert cifar10(tmp_path, train).names == ("cat", "dog")


@pytest.mark.parametrize("load", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("train", [True, False])
def test_a_missing_data_folder_is_named(tmp_path, load, train):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path / "nowhere", train)


def test_a_missing_image_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        image_folder(tmp_path / "nowhere")


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        image_folder(tmp_path)


def write_idx(path, values):
    """The format of the MNIST files: two zeros, 8 for uint8, the number of dimensions, the dimensions, the values."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.to(torch.uint8).numpy().tobytes())


def test_mnist_reads_its_files_from_the_given_folder(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 3), ("t10k", 2)):
        write_idx(raw / f"{part}-images-idx3-ubyte", torch.arange(count * 784).reshape(count, 28, 28) % 256)
        write_idx(raw / f"{part}-labels-idx1-ubyte", torch.arange(count))
    for train, count in ((True, 3), (False, 2)):
        data = mnist(tmp_path, train)
        assert_close(data.images, (torch.arange(count * 784) % 256).to(torch.uint8).reshape(count, 1, 28, 28))
        assert data.labels.tolist() == list(range(count))
        assert data.names[:2] == ("0", "1")
