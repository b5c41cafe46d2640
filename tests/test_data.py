import hashlib
import io
import pickle
import re
import shutil
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torchvision.datasets import CIFAR10
from torchvision.io import write_png

from ddpm.data import IMAGES, DataError, both_parts, cifar10, image_folder, mnist, to_uint8, to_unit
from ddpm.exact import finite
from ddpm.process import add_noise, noise_from_x0, seeded
from ddpm.toys import TOYS

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
    assert data.images.shape == (4, 3, 6, 5)  # grey ones in three equal colours
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


def write_classes(folder, names=tuple("abcdefghij"), size=(32, 32)):
    """A folder of one picture for each of the classes ``names``, of the colour of its number."""
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", size, (number, 0, 0)).save(folder / name / "0.png")
    return folder


@pytest.mark.parametrize(("train", "part"), [(True, "train"), (False, "test")])
def test_cifar10_reads_the_class_folders_of_its_part(tmp_path, train, part):
    write_classes(tmp_path / part)
    assert cifar10(tmp_path, train).names == tuple("abcdefghij")


def test_hidden_names_are_left_out_at_every_level(tmp_path):
    folder = write_classes(tmp_path / "train")
    for name in (".ipynb_checkpoints", "a/.thumbnails"):
        (folder / name).mkdir()
        Image.new("RGB", (32, 32), "white").save(folder / name / "0.png")
    (folder / "a" / "._0.png").write_bytes(b"what a Mac leaves")
    (folder / "a" / "notes.txt").write_text("not a picture")
    data = cifar10(tmp_path, True)
    assert data.names == tuple("abcdefghij") and len(data.images) == 10
    assert data.images[:, 0, 0, 0].tolist() == data.labels.tolist()


@pytest.mark.parametrize(
    ("names", "size", "part"),
    [
        ("abcdefghijkl", (32, 32), "has 12 classes (a, b, c, d, e, f, g, h, i, j, k, l); it must have 10."),
        ("abc", (32, 32), "has 3 classes (a, b, c); it must have 10."),
        ("abcdefghij", (64, 64), "have 64 × 64 pixels; they must have 32 × 32."),
        ("abcdefghij", (30, 30), "have 30 × 30 pixels; they must have 32 × 32."),
    ],
)
def test_pictures_that_do_not_fit_are_refused(tmp_path, names, size, part):
    write_classes(tmp_path / "train", names, size)
    with pytest.raises(DataError) as refusal:
        cifar10(tmp_path, True)
    assert str(tmp_path) in str(refusal.value) and part in str(refusal.value)


def test_a_test_part_that_lacks_a_class_or_names_another_is_refused(tmp_path):
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test", "abcdefghik")
    with pytest.raises(DataError, match="The classes j, k are in one of the parts train and test alone"):
        both_parts("cifar10", tmp_path)
    shutil.rmtree(tmp_path / "test" / "k")
    with pytest.raises(DataError, match="has 9 classes"):
        both_parts("cifar10", tmp_path)


def test_a_class_without_pictures_is_named(tmp_path):
    folder = write_classes(tmp_path / "train")
    (folder / "f" / "0.png").unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"{folder / 'f'} has no pictures")):
        cifar10(tmp_path, True)


def png(size=(32, 32)):
    Image.new("RGB", size).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        *[(b"", "cannot be read"), (b"<html>Not found</html>", "cannot be read"), (png()[:50], "cannot be read")],
        *[(b"\xff\xd8\xff\xe0 no JPEG", "cannot be read"), (png((16, 32)), "has 16 × 32 pixels; it must have 32 × 32")],
    ],
)
def test_a_picture_that_cannot_be_used_is_named(tmp_path, content, part):
    folder = write_classes(tmp_path / "train")
    for number in range(1, 4):
        Image.new("RGB", (32, 32)).save(folder / "c" / f"{number}.png")
    (bad := folder / "d" / "1.png").write_bytes(content)
    with pytest.raises(DataError) as refusal:
        image_folder(folder)
    assert str(bad) in str(refusal.value) and part in str(refusal.value)


@pytest.mark.parametrize("mode", ["L", "1", "RGBA", "LA", "P", "CMYK", "I;16"])
def test_pictures_of_every_mode_are_read_as_colours_on_white(tmp_path, mode):
    pixels = Image.new("RGB", (4, 4), "white").convert(mode) if mode != "I;16" else Image.new(mode, (4, 4), 65535)
    if mode in ("RGBA", "LA"):
        pixels.putpixel((1, 2), (0, 0, 0, 0) if mode == "RGBA" else (0, 0))
    (tmp_path / "a").mkdir()
    pixels.save(tmp_path / "a" / ("0.jpg" if mode == "CMYK" else "0.png"))
    Image.new("RGB", (4, 4), "white").save(tmp_path / "a" / "1.png")
    images = image_folder(tmp_path).images
    assert images.shape == (2, 3, 4, 4) and int(images.min()) >= 254


def test_torchvision_s_own_folder_is_read(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    pixels = np.arange(10 * 3072).reshape(10, 3072) % 256
    batch = {"data": pixels.astype(np.uint8), "labels": list(range(10))}
    names = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": names[0], "key": "label_names", "md5": names[1]})
    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", batch)])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch)])
    for data in both_parts("cifar10", tmp_path):
        assert data.names == tuple("abcdefghij") and data.labels.tolist() == list(range(10))
        assert torch.equal(data.images.flatten(1), torch.from_numpy(batch["data"]))
    (folder / "data_batch_1").write_bytes(pickle.dumps("another"))
    with pytest.raises(DataError, match="cifar-10-batches-py does not hold CIFAR-10 as it was published"):
        cifar10(tmp_path, True)


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


@pytest.fixture
def digits(tmp_path):
    """The folder of MNIST's files, of three pictures in each part."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte", torch.zeros(3, 28, 28))
        write_idx(raw / f"{part}-labels-idx1-ubyte", torch.arange(3))
    return raw


IMAGE_FILE, LABEL_FILE = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "values", "part"),
    [
        (IMAGE_FILE, torch.zeros(3, 32, 32), "have 32 × 32 pixels; they must have 28 × 28"),
        (IMAGE_FILE, torch.zeros(0, 28, 28), "truncated or not a file of MNIST's"),
        (LABEL_FILE, torch.arange(2), "has 2 labels; it must have one for each of the 3 pictures"),
        (LABEL_FILE, torch.tensor([1, 2, 10]), "has 11 classes"),
    ],
)
def test_mnist_files_that_do_not_fit_are_refused(digits, name, values, part):
    write_idx(digits / name, values)
    with pytest.raises(DataError, match=part) as refusal:
        mnist(digits.parents[1], True)
    assert str(digits) in str(refusal.value)


@pytest.mark.parametrize("name", [IMAGE_FILE, LABEL_FILE])
@pytest.mark.parametrize("content", [b"", b"<!doctype html><title>404</title>", b"\0\0\x08\x03\0\0\0\x05abc"])
def test_a_file_that_is_none_of_mnist_s_is_named(digits, name, content):
    (digits / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is truncated or not a file of MNIST's"):
        mnist(digits.parents[1], True)
