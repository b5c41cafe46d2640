"""Data in the units that the process works in: toy points, and images as tensors in [−1, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from ddpm.process import seeded

MIXTURE_WEIGHTS, MIXTURE_MEANS, MIXTURE_STD = (1 / 3, 2 / 3), (-4.0, 4.0), 1.0
"""The exercise's two Gaussians in one dimension."""


class Images(NamedTuple):
    """Images (N, C, H, W) uint8 with their labels (N,) int64 and the classes' names."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]


def to_unit(images: Tensor) -> Tensor:
    """uint8 0 … 255 to float32 in [−1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """[−1, 1] to uint8 0 … 255; what lies outside is clipped."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


# --- toys: count, generator -> (count, d) float32 -------------------------------------------------------------------


def mixture1d(count: int, generator: Generator) -> Tensor:
    """Two Gaussians, weights 1:2, means −4 and 4, σ = 1, in their own units."""
    second = torch.rand(count, generator=generator) < MIXTURE_WEIGHTS[1]
    mean = torch.tensor(MIXTURE_MEANS)[second.long()]
    return (mean + MIXTURE_STD * torch.randn(count, generator=generator))[:, None]


def moons(count: int, generator: Generator) -> Tensor:
    """Two interleaved half circles."""
    angle = math.pi * torch.rand(count, generator=generator)
    lower = torch.rand(count, generator=generator) < 0.5
    x = torch.where(lower, 1 - angle.cos(), angle.cos()) - 0.5
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin()) - 0.25
    return 0.6 * torch.stack([x, y], 1) + _jitter(count, generator, 0.03)


def swiss_roll(count: int, generator: Generator) -> Tensor:
    """A spiral band of one and a half turns."""
    angle = 1.5 * math.pi * (1 + 2 * torch.rand(count, generator=generator))
    return angle[:, None] * _on_circle(angle) / 15 + _jitter(count, generator, 0.02)


def circles(count: int, generator: Generator) -> Tensor:
    """Two circles, one inside the other."""
    radius = torch.where(torch.rand(count, generator=generator) < 0.5, 0.9, 0.45)
    return radius[:, None] * _on_circle(_angle(count, generator)) + _jitter(count, generator, 0.03)


def checkerboard(count: int, generator: Generator) -> Tensor:
    """The eight dark squares of a 4 × 4 board that fills [−1, 1]²."""
    column = torch.randint(4, (count,), generator=generator)
    row = 2 * torch.randint(2, (count,), generator=generator) + column % 2
    corner = torch.stack([column, row], 1)
    return (corner + torch.rand(count, 2, generator=generator)) / 2 - 1


def gaussians(count: int, generator: Generator) -> Tensor:
    """Eight Gaussians on a circle."""
    angle = torch.randint(8, (count,), generator=generator) * math.pi / 4
    return 0.8 * _on_circle(angle) + _jitter(count, generator, 0.06)


def spiral(count: int, generator: Generator) -> Tensor:
    """Two arms that wind around each other."""
    turn = torch.rand(count, generator=generator).sqrt()
    arm = torch.randint(2, (count,), generator=generator) * math.pi
    points = (0.95 * turn)[:, None] * _on_circle(3 * math.pi * turn + arm)
    return points + _jitter(count, generator, 0.02)


def _angle(count: int, generator: Generator) -> Tensor:
    return 2 * math.pi * torch.rand(count, generator=generator)


def _on_circle(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], 1)


def _jitter(count: int, generator: Generator, std: float) -> Tensor:
    return std * torch.randn(count, 2, generator=generator)


TOYS: dict[str, Callable[[int, Generator], Tensor]] = {
    f.__name__: f for f in (mixture1d, moons, swiss_roll, circles, checkerboard, gaussians, spiral)
}


# --- images ---------------------------------------------------------------------------------------------------------


def mnist(data_dir: Path | None, train: bool) -> Images:
    """MNIST from ``data_dir`` (which holds MNIST/raw), or downloaded there; ``None`` means ./data.

    Raises FileNotFoundError if ``data_dir`` is given and holds no MNIST, OSError if the download fails.
    """
    from torchvision.datasets import MNIST

    try:
        data = MNIST(str(data_dir or "data"), train=train, download=data_dir is None)
    except RuntimeError as error:
        raise FileNotFoundError(f"No MNIST in {data_dir}/MNIST/raw ({error}).") from error
    return Images(data.data[:, None], data.targets, tuple("0123456789"))


def cifar10(data_dir: Path | None, train: bool) -> Images:
    """CIFAR-10 from the class folders of ``data_dir``/train and /test, or downloaded to ./data."""
    if data_dir is not None:
        return image_folder(data_dir / ("train" if train else "test"))
    from torchvision.datasets import CIFAR10

    data = CIFAR10("data", train=train, download=True)
    return Images(torch.from_numpy(data.data).permute(0, 3, 1, 2), torch.tensor(data.targets), tuple(data.classes))


def image_folder(folder: Path) -> Images:
    """Every image of ``folder``/<class>/, all of one size. Raises FileNotFoundError if there is none.

    Their order mixes the classes, so that the first of them stand for all, and is the same at every call.
    """
    from torchvision.datasets import ImageFolder
    from torchvision.io import decode_image

    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; --data-dir must hold one folder of images a class.")
    data = ImageFolder(str(folder), loader=decode_image)
    images, labels = zip(*(data[i] for i in torch.randperm(len(data), generator=seeded(len(data))).tolist()))
    return Images(torch.stack(images), torch.tensor(labels), tuple(data.classes))


IMAGES: dict[str, Callable[[Path | None, bool], Images]] = {"mnist": mnist, "cifar10": cifar10}


# --- what the trajectories are drawn on ------------------------------------------------------------------------------


class Projection(NamedTuple):
    """The plane of a data set's two leading principal components, and some of its images in it.

    ``mean`` (P,) and ``axes`` (2, P) map an image of P values in [−1, 1] to the plane; ``explained`` (2,) is the
    axes' share of the variance; ``points`` (N, 2) and ``labels`` (N,) are real images, ``names`` their classes.
    """

    mean: np.ndarray
    axes: np.ndarray
    explained: np.ndarray
    points: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Images (B, *D) to points (B, 2) float32."""
        return (x.reshape(len(x), -1) - self.mean) @ self.axes.T


def principal_plane(data: Images, keep: int) -> Projection:
    """The projection of ``data``, showing ``keep`` of its images, evenly spaced: a folder's come sorted by class."""
    x = to_unit(data.images).flatten(1).double()
    mean = x.mean(0)
    variances, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    axes = vectors[:, -2:].flip(1).T
    rows = torch.arange(keep) * len(x) // keep
    points = (x[rows] - mean) @ axes.T
    explained = variances[-2:].flip(0) / variances.sum()
    arrays = (value.float().numpy() for value in (mean, axes, explained, points))
    return Projection(*arrays, data.labels[rows].numpy(), data.names)
