"""Distances between two sets of points or features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

# --- distances between two sets -------------------------------------------------------------------------------------


def sliced_wasserstein(a: Tensor, b: Tensor, generator: Generator, projections: int = 200) -> float:
    """Sliced 2-Wasserstein distance of two sets of points (N, d), in the points' own units (Bonneel et al. 2015).

    The root of the mean, over random directions, of the squared 2-Wasserstein distance of the projections, which is the
    mean squared difference of their sorted values. For d = 1 it is the 2-Wasserstein distance itself.
    Raises ValueError if the sets differ in size.
    """
    return sliced_wasserstein_to(b, generator, projections)(a)


def sliced_wasserstein_to(b: Tensor, generator: Generator, projections: int = 200) -> Callable[[Tensor], float]:
    """``sliced_wasserstein`` of many sets to ``b`` (N, d), all along the same directions: b is projected once."""
    one = b.shape[1] == 1
    directions = None if one else F.normalize(torch.randn(b.shape[1], projections, generator=generator), dim=0).to(b)

    def projected(points: Tensor) -> Tensor:
        return (points if directions is None else points @ directions).T.sort(1).values

    reference = projected(b)

    def distance(a: Tensor) -> float:
        if a.shape != b.shape:
            raise ValueError(f"The two sets have the shapes {tuple(a.shape)} and {tuple(b.shape)}; they must be equal.")
        return (projected(a) - reference).double().square().mean().sqrt().item()

    return distance


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|a − b| − E|a − a'| − E|b − b'| of sets (N, d), (M, d), in their units (Székely & Rizzo 2013).

    Each mean is over all pairs, a point with itself included; so it is never negative, and 0 for equal sets.
    """
    return 2 * _mean_distance(a, b) - _mean_distance(a, a) - _mean_distance(b, b)


def _mean_distance(a: Tensor, b: Tensor) -> float:
    exact = "donot_use_mm_for_euclid_dist"  # and in parts that fit the CPU's cache, thrice as fast
    total = sum(torch.cdist(part, b, compute_mode=exact).sum(dtype=torch.float64).item() for part in a.split(20))
    return total / (len(a) * len(b))


def frechet(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of Gaussians fitted to features (N, F) and (M, F) (Heusel et al. 2017, eq. 6).

    |m_a − m_b|² + tr(A + B − 2 (A B)^½) with covariances A and B, in float64. A B has the eigenvalues of the symmetric
    A^½ B A^½, so two symmetric eigenproblems do instead of a general matrix root.
    """
    a, b = a.double(), b.double()
    covariance_a, covariance_b = torch.atleast_2d(a.T.cov()), torch.atleast_2d(b.T.cov())
    values, vectors = torch.linalg.eigh(covariance_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp(min=0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return (apart + covariance_a.trace() + covariance_b.trace() - 2 * shared).item()


def neighbour_distances(a: Tensor, b: Tensor, k: int = 1) -> Tensor:
    """The distance of each row of features a (N, F) to its ``k``-th nearest row of b (M, F): shape (N,)."""
    parts = []
    for part in a.split(250):
        nearest = torch.cdist(part, b).topk(k, largest=False).indices[:, -1]
        parts.append((part - b[nearest]).norm(dim=1))  # cdist's own values lose all digits of a small distance
    return torch.cat(parts)


def coverage(a: Tensor, b: Tensor, k: int = 3) -> float:
    """The share of a (N, F) that lies in the manifold of b (M, F) (Kynkäänniemi et al. 2019, eq. 1 and 2, k = 3).

    The manifold is the union of the balls about each row of b that reach to its ``k``-th nearest other row. With real
    features as b it is the precision of a; with generated ones as b, and as many real ones as a, it is their recall.
    Raises ValueError if b has no ``k`` other rows.
    """
    if len(b) <= k:
        raise ValueError(f"The manifold of {len(b)} samples is asked for; its balls need more than {k}.")
    radius = neighbour_distances(b, b, k + 1)  # the nearest is the row itself
    inside = torch.cat([(torch.cdist(part, b) <= radius).any(1) for part in a.split(250)])
    return inside.double().mean().item()
