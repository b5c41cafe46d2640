"""The classifier that judges images: how it is trained, and what it finds in images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from ddpm.data import Images, to_unit
from ddpm.networks import Classifier, ClassifierConfig
from ddpm.process import seeded

_ORDER, _MOVES = 1, 2
"""Third parts of generator keys (seed, index, part)."""


class ClassifierProgress(NamedTuple):
    """After ``step`` of ``steps``: the classifier in training, and the mean loss of the batch just seen."""

    step: int
    steps: int
    loss: float
    classifier: Classifier


def moved(images: Tensor, generator: Generator, turn: float = 12, shift: float = 2.5, zoom: float = 0.1) -> Tensor:
    """Images (B, C, H, W) in [−1, 1], each turned, shifted and scaled at random about its centre.

    At most by ``turn`` degrees, ``shift`` pixels along each axis and a factor 1 ± ``zoom``; −1, black, comes in.
    """
    count, size = len(images), images.shape[-1]
    around = 2 * torch.rand(count, 4, generator=generator) - 1
    angle, factor = around[:, 0] * math.radians(turn), 1 + around[:, 1] * zoom
    offset = around[:, 2:] * 2 * shift / size
    cos, sin = angle.cos() / factor, angle.sin() / factor
    places = torch.stack([cos, -sin, offset[:, 0], sin, cos, offset[:, 1]], 1).view(count, 2, 3)
    points = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, points, align_corners=False) - 1


def train_classifier(data: Images, epochs: int = 15, batch: int = 250, seed: int = 0) -> Iterator[ClassifierProgress]:
    """Trains a classifier on ``data``, yielding after each step; the last one's classifier is in evaluation mode.

    AdamW along one cycle (Smith & Topin 2019), on images moved at random, in bfloat16. Everything random comes from
    ``seed``, so the same machine makes the same weights.
    """
    count = len(data.images)
    steps = epochs * (count // batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(ClassifierConfig(tuple(data.images.shape[1:]), len(data.names)))
    classifier.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.05)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps, pct_start=0.2)
    for step in range(1, steps + 1):
        epoch, place = divmod(step - 1, count // batch)
        rows = torch.randperm(count, generator=seeded(seed, epoch, _ORDER))[place * batch : (place + 1) * batch]
        images = moved(to_unit(data.images[rows]), seeded(seed, step, _MOVES))
        loss = _classifier_step(classifier, optimizer, images, data.labels[rows])
        cycle.step()
        yield ClassifierProgress(step, steps, loss, classifier.train(step < steps))


def _classifier_step(classifier: Classifier, optimizer: torch.optim.Optimizer, x: Tensor, label: Tensor) -> float:
    with torch.autocast("cpu", torch.bfloat16):
        logits = classifier(x.contiguous(memory_format=torch.channels_last))
    loss = F.cross_entropy(logits.float(), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.inference_mode()
def classified(classifier: Classifier, images: Tensor, batch: int = 500) -> tuple[Tensor, Tensor]:
    """Features (N, F) and the most likely classes (N,) of images (N, C, H, W) in [−1, 1] or uint8."""
    features, classes = [], []
    for part in images.split(batch):
        x = to_unit(part) if part.dtype == torch.uint8 else part
        found = classifier.features(x.contiguous(memory_format=torch.channels_last))
        features.append(found)
        classes.append(classifier.leave(found).argmax(1))
    return torch.cat(features), torch.cat(classes)
