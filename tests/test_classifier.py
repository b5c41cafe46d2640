"""The judge of images: what it learns from, that it learns, and that it repeats."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from ddpm.checkpoint import load_network, save_network
from ddpm.data import Images
from ddpm.evaluation.classifier import (
    RECIPES,
    Batch,
    ClassifierRecipe,
    classified,
    mirrored_and_shifted,
    moved,
    train_classifier,
)
from ddpm.evaluation.judges import agreement
from ddpm.networks import Classifier, ClassifierConfig
from ddpm.process import seeded


def tiny_images(count: int, classes: int = 3) -> Images:
    """8 × 8 images whose class is the quarter that is white."""
    labels = torch.arange(count) % classes
    images = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    for k in range(classes):
        row, column = 4 * (k // 2), 4 * (k % 2)
        images[labels == k, :, row : row + 4, column : column + 4] = 255
    return Images(images, labels, tuple(map(str, range(classes))))


def test_a_move_keeps_shape_range_and_background():
    images = torch.full((6, 1, 8, 8), -1.0)
    images[:, :, 3:5, 3:5] = 1
    found = moved(images, seeded(1), shift=1)
    assert found.shape == images.shape
    assert found.amin() == -1 and found.amax() <= 1 + 1e-6
    assert (found[:, :, 0] == -1).all()
    assert len({picture.numpy().tobytes() for picture in found}) == len(found)
    still = moved(images, seeded(1), turn=0, shift=0, zoom=0)
    torch.testing.assert_close(still, images, atol=1e-5, rtol=0)


def test_a_move_goes_no_farther_than_it_may():
    """The centre of a square's light, in pixels from the image's centre."""
    images = torch.full((200, 1, 16, 16), -1.0)
    images[:, :, 7:9, 7:9] = 1
    light = moved(images, seeded(1), turn=0, shift=2.5, zoom=0)[:, 0] + 1
    place = torch.arange(16) - 7.5
    down, right = (torch.einsum("bhw,h->b", light, place), torch.einsum("bhw,w->b", light, place))
    for distance in (down, right):
        distance = (distance / light.sum((1, 2))).abs()
        assert 2 < distance.amax() <= 2.5 + 1e-4


def test_an_image_and_its_mirror_image_take_turns():
    images, rows = torch.randn(6, 3, 8, 8, generator=seeded(1)), torch.arange(6)
    first, second = (mirrored_and_shifted(Batch(images, rows, epoch), seeded(1), shift=0) for epoch in (0, 1))
    assert torch.equal(first[::2], images[::2]) and torch.equal(first[1::2], images[1::2].flip(-1))
    assert torch.equal(second, first.flip(-1))


def test_a_shifted_image_goes_on_as_its_reflection():
    """What comes in at the left of an image shifted by s to the right are its columns 1 … s, the nearest first."""
    image = torch.arange(8.0).expand(100, 1, 8, 8)
    found = mirrored_and_shifted(Batch(image, torch.zeros(100, dtype=torch.long), 0), seeded(1), shift=2)
    shifted = {tuple(columns) for columns in found[:, 0, 0].int().tolist()}
    left = [(1, 0, 1, 2, 3, 4, 5, 6), (2, 1, 0, 1, 2, 3, 4, 5)]
    right = [tuple(7 - column for column in reversed(columns)) for columns in left]
    assert shifted == {tuple(range(8)), *left, *right}


def striped_images(count: int) -> Images:
    """8 × 8 images of noise with rows, columns or nothing in white: classes that neither shift nor mirror changes."""
    labels = torch.arange(count) % 3
    images = torch.randint(100, (count, 1, 8, 8), generator=seeded(1), dtype=torch.uint8)
    images[labels == 0, :, ::4] = 255
    images[labels == 1, :, :, ::4] = 255
    return Images(images, labels, ("rows", "columns", "nothing"))


def tiny_recipe(name: str) -> ClassifierRecipe:
    """A recipe as it is, but for small batches and two resolutions."""
    whitened = {"whitened": True, "mirror": True} if name == "cifar10" else {}
    config = partial(ClassifierConfig, channels=(16, 32), blocks=(1, 2), **whitened)
    return replace(RECIPES[name], config=config, epochs=8, batch=20, part=10)


@pytest.fixture(params=RECIPES)
def recipe(request):
    return tiny_recipe(request.param)


def test_a_classifier_learns_and_the_same_seed_gives_the_same_weights(recipe):
    data = striped_images(60)
    first, second = (list(train_classifier(data, recipe))[-1] for _ in range(2))
    assert first.step == first.steps == 24 and not first.classifier.training
    for a, b in zip(first.classifier.state_dict().values(), second.classifier.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert agreement(classified(first.classifier, data.images)[1], data.labels) > 0.9


def test_fewer_images_than_a_batch_are_refused(recipe):
    with pytest.raises(ValueError, match="A batch is 20 images; it must be at most 19"):
        next(train_classifier(striped_images(19), recipe))


def test_training_a_classifier_leaves_the_global_random_state_alone(recipe):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    list(train_classifier(tiny_images(20), replace(recipe, epochs=1)))
    assert torch.rand(1) == expected


def test_the_whitened_layer_stays_as_the_patches_second_moments_made_it():
    """Before its bias, each filter and its negative answer to the training patches with a mean square of 1."""
    images = torch.randint(256, (40, 3, 8, 8), generator=seeded(1), dtype=torch.uint8)
    images[:, 1] = images[:, 0] // 2 + images[:, 1] // 4
    data = Images(images, torch.arange(40) % 2, ("a", "b"))
    *_, last = train_classifier(data, replace(tiny_recipe("cifar10"), epochs=2))
    weight = last.classifier.body[0].weight
    answers = F.conv2d(images.float() / 127.5 - 1, weight).transpose(0, 1).flatten(1)
    moments = answers[:12] @ answers[:12].T / answers.shape[1]
    torch.testing.assert_close(moments, torch.eye(12), atol=0.02, rtol=0)
    assert torch.equal(weight[12:], -weight[:12])


def test_a_mirroring_classifier_finds_the_same_in_an_image_and_its_mirror_image():
    x = torch.randn(4, 3, 8, 8, generator=seeded(1))
    classifier = Classifier(ClassifierConfig((3, 8, 8), 5, (8, 16), (1, 2), whitened=True, mirror=True)).eval()
    torch.testing.assert_close(classifier.features(x), classifier.features(x.flip(-1)))
    assert classifier.features(x).shape == (4, 16)


@pytest.mark.parametrize("whitened", [False, True])
def test_a_classifier_survives_its_checkpoint(tmp_path, whitened):
    config = ClassifierConfig((1, 8, 8), 3, channels=(8, 16), blocks=(1, 1), whitened=whitened, mirror=whitened)
    classifier = Classifier(config).eval()
    save_network(tmp_path / "c.safetensors", classifier, {"accuracy": 0.5})
    loaded, about = load_network(tmp_path / "c.safetensors")
    x = torch.randn(4, 1, 8, 8, generator=seeded(1))
    torch.testing.assert_close(loaded(x), classifier(x))
    assert loaded.config == classifier.config and about == {"accuracy": 0.5}
    assert loaded.features(x).shape == (4, 16) and loaded(x).dtype == torch.float32
