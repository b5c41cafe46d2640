"""The classifiers that judge images: how each data set's is trained, and what it finds in images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from ddpm import streams
from ddpm.data import Images, to_unit
from ddpm.networks import Classifier, ClassifierConfig
from ddpm.process import seeded
from ddpm.training.optimizers import ConvMuon

# --- images as they are trained on ----------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Images (B, C, H, W) in [−1, 1], their ``rows`` (B,) in the data, and the passes over the data done before."""

    images: Tensor
    rows: Tensor
    epoch: int


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


def mirrored_and_shifted(batch: Batch, generator: Generator, shift: int = 2) -> Tensor:
    """Each image mirrored in every other epoch, and shifted by up to ``shift`` pixels along each axis at random.

    To alternate shows an image and its mirror image equally often (Jordan 2024, section 3.6); at its edges a shifted
    image goes on as its own reflection.
    """
    count, _, height, width = batch.images.shape
    mirrored = (batch.rows + batch.epoch) % 2 == 1
    images = torch.where(mirrored[:, None, None, None], batch.images.flip(-1), batch.images)
    windows = F.pad(images, (shift,) * 4, "reflect").unfold(2, height, 1).unfold(3, width, 1)
    down, right = torch.randint(2 * shift + 1, (2, count), generator=generator)
    return windows[torch.arange(count), :, down, right]


# --- recipes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassifierRecipe:
    """How a classifier is trained: ``config`` builds its architecture for a shape and a number of classes.

    The gradients of a ``batch`` are summed over ``part`` images at a time, which stay in the CPU's cache.
    """

    config: Callable[[tuple[int, int, int], int], ClassifierConfig]
    epochs: int
    batch: int
    part: int
    label_smoothing: float
    augment: Callable[[Batch, Generator], Tensor]
    schedules: Callable[[Classifier, int, int], list[LRScheduler]]
    """(classifier, batch, steps) -> a schedule for each optimizer, which it holds."""


def _one_cycle(classifier: Classifier, batch: int, steps: int) -> list[LRScheduler]:
    """AdamW along one cycle (Smith & Topin 2019)."""
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.05)
    return [OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps, pct_start=0.2)]


def _muon_to_zero(classifier: Classifier, batch: int, steps: int) -> list[LRScheduler]:
    """Muon for the convolutions, Nesterov's momentum for biases and the last layer, their rates falling to 0 linearly.

    The rates of Jordan's airbench94_muon, where the loss is the sum over a batch and the logits are divided by the
    number of features. The whitened layer's bias is trained for three eighths of the time.
    """
    convolutions = [layer.weight for layer in classifier.body[1:] if isinstance(layer, nn.Conv2d)]
    norms = [layer.bias for layer in classifier.body if isinstance(layer, nn.BatchNorm2d)]
    bias_rate, leave_rate = 0.053 * batch, 0.67 * batch / classifier.leave.in_features**2
    groups = [([classifier.body[0].bias], bias_rate), (norms, bias_rate), ([classifier.leave.weight], leave_rate)]
    decay = 2e-6 * batch
    sgd = torch.optim.SGD(
        [{"params": params, "lr": rate, "weight_decay": decay / rate} for params, rate in groups],
        momentum=0.85,
        nesterov=True,
    )
    muon = _UnitMuon(convolutions, lr=0.24, weight_decay=0.0, momentum=0.6, ns_steps=3, adjust_lr_fn="original")

    def falling(share: float) -> Callable[[int], float]:
        return lambda step: max(0.0, 1 - step / (share * steps))

    return [LambdaLR(sgd, [falling(3 / 8), falling(1), falling(1)]), LambdaLR(muon, falling(1))]


class _UnitMuon(ConvMuon):
    """Muon on convolutions that are held at a mean norm of 1 an output channel."""

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # as of ConvMuon
        for matrix, _ in self.pairs:
            matrix.mul_(len(matrix) ** 0.5 / matrix.norm())
        super().step()


RECIPES: dict[str, ClassifierRecipe] = {
    "mnist": ClassifierRecipe(
        ClassifierConfig, 15, 250, 250, 0.0, lambda batch, generator: moved(batch.images, generator), _one_cycle
    ),
    "cifar10": ClassifierRecipe(
        partial(ClassifierConfig, channels=(64, 192, 192), blocks=(2, 2, 2), whitened=True, mirror=True),
        *(10, 2000, 250, 0.2, mirrored_and_shifted, _muon_to_zero),
    ),
}
"""The recipe of each image data set: a plain network on digits, airbench94 (Jordan 2024) with narrower layers on CIFAR-10."""


# --- training -------------------------------------------------------------------------------------------------------


class ClassifierProgress(NamedTuple):
    """After ``step`` of ``steps``: the classifier in training, and the mean loss of the batch just seen."""

    step: int
    steps: int
    loss: float
    classifier: Classifier


def train_classifier(data: Images, recipe: ClassifierRecipe, seed: int = 0) -> Iterator[ClassifierProgress]:
    """Trains a classifier on ``data``, yielding after each step; the last one's classifier is in evaluation mode.

    In bfloat16 with float32 weights. Everything random comes from ``seed``, so the same machine makes the same weights.
    Raises ValueError if there are fewer images than a batch.
    """
    count, batch = len(data.images), recipe.batch
    if count < batch:
        raise ValueError(f"A batch is {batch} images; it must be at most {count}, all there are.")
    steps = recipe.epochs * (count // batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels, height, width = data.images.shape[1:]
        classifier = Classifier(recipe.config((channels, height, width), len(data.names)))
        if classifier.config.whitened:
            _start_whitened(classifier, to_unit(data.images[:: math.ceil(count / 2000)]))
    classifier.to(memory_format=torch.channels_last).train()
    schedules = recipe.schedules(classifier, batch, steps)
    for step in range(1, steps + 1):
        epoch, place = divmod(step - 1, count // batch)
        rows = torch.randperm(count, generator=seeded(seed, epoch, streams.ORDER))[place * batch : (place + 1) * batch]
        images = recipe.augment(Batch(to_unit(data.images[rows]), rows, epoch), seeded(seed, step, streams.MOVES))
        loss = _train_one(classifier, schedules, recipe, images, data.labels[rows])
        yield ClassifierProgress(step, steps, loss, classifier.train(step < steps))


def _train_one(
    classifier: Classifier, schedules: list[LRScheduler], recipe: ClassifierRecipe, x: Tensor, label: Tensor
) -> float:
    total = 0.0
    for images, labels in zip(x.split(recipe.part), label.split(recipe.part)):
        with torch.autocast("cpu", torch.bfloat16):
            logits = classifier(images.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing) * (len(images) / len(x))
        loss.backward()
        total += loss.item()
    for schedule in schedules:
        schedule.optimizer.step()
        schedule.step()
    classifier.zero_grad()
    return total


@torch.no_grad()
def _start_whitened(classifier: Classifier, images: Tensor) -> None:
    """Sets the first layer to whiten 2 × 2 patches of ``images`` (N, C, H, W), for good, and the others to pass on.

    Its filters are the eigenvectors of the patches' second moments, scaled to unit variance, and their negatives. The
    convolutions begin as the identity on their first channels (Jordan 2024, sections 3.2 and 3.3).
    """
    whiten, *others = (layer for layer in classifier.body if isinstance(layer, nn.Conv2d))
    patches = F.unfold(images, 2).transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + 5e-4 * values.mean()).sqrt()).T.view(-1, *whiten.weight.shape[1:])
    whiten.weight.copy_(torch.cat([filters, -filters]))
    whiten.weight.requires_grad_(False)
    for layer in others:
        nn.init.dirac_(layer.weight[: layer.in_channels])
    nn.init.normal_(classifier.leave.weight, std=1 / classifier.leave.in_features)
    nn.init.zeros_(classifier.leave.bias)


# --- use ------------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def classified(classifier: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, F) and the most likely classes (N,) of images (N, C, H, W) in [−1, 1] or uint8."""
    features, classes = [], []
    for part in images.split(500):
        x = to_unit(part) if part.dtype == torch.uint8 else part
        found = classifier.features(x.contiguous(memory_format=torch.channels_last))
        features.append(found)
        classes.append(classifier.leave(found).argmax(1))
    return torch.cat(features), torch.cat(classes)
