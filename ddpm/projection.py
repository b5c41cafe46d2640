"""The plane of pictures in which the paths are drawn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ddpm.data import Images, to_unit

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
    """The projection of ``data``, showing ``keep`` of its images, evenly spaced."""
    x = to_unit(data.images).flatten(1).double()
    mean = x.mean(0)
    variances, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    axes = vectors[:, -2:].flip(1).T
    rows = torch.arange(keep) * len(x) // keep
    points = (x[rows] - mean) @ axes.T
    explained = variances[-2:].flip(0) / variances.sum()
    return Projection(
        mean.float().numpy(),
        axes.float().numpy(),
        explained.float().numpy(),
        points.float().numpy(),
        data.labels[rows].numpy(),
        data.names,
    )
