"""The judge of images: what it learns from, that it learns, and that it repeats."""

from __future__ import annotations

import torch

from ddpm.checkpoint import load_network, save_network
from ddpm.classifier import classified, moved, train_classifier
from ddpm.data import Images
from ddpm.evaluate import agreement
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
    still = moved(images, seeded(1), turn=0, shift=0, zoom=0)
    torch.testing.assert_close(still, images, atol=1e-5, rtol=0)


def test_a_classifier_learns_and_the_same_seed_gives_the_same_weights():
    data = tiny_images(60)
    first, second = (list(train_classifier(data, epochs=8, batch=20))[-1] for _ in range(2))
    assert first.step == first.steps == 24 and not first.classifier.training
    for a, b in zip(first.classifier.parameters(), second.classifier.parameters()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert agreement(classified(first.classifier, data.images)[1], data.labels) > 0.9


def test_training_a_classifier_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    list(train_classifier(tiny_images(10), epochs=1, batch=5))
    assert torch.rand(1) == expected


def test_a_classifier_survives_its_checkpoint(tmp_path):
    classifier = Classifier(ClassifierConfig((1, 8, 8), 3, channels=(8, 16), blocks=(1, 1))).eval()
    save_network(tmp_path / "c.safetensors", classifier, {"accuracy": 0.5})
    loaded, about = load_network(tmp_path / "c.safetensors")
    x = torch.randn(4, 1, 8, 8, generator=seeded(1))
    torch.testing.assert_close(loaded(x), classifier(x))
    assert loaded.config == classifier.config and about == {"accuracy": 0.5}
    assert loaded.features(x).shape == (4, 16) and loaded(x).dtype == torch.float32
