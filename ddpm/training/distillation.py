"""A student that jumps: trained to answer, from anywhere on the teacher's paths, with the end of the path.

The teacher's deterministic paths (the probability flow of Song et al. 2021) are walked by DPM-Solver++, and every state
on one is paired with the picture in which it ends, which is the consistency function of Song et al. 2023
("Consistency models", eq. 5), learned from whole paths instead of from pairs of neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm import process, streams
from ddpm.data import Images, to_unit
from ddpm.denoiser import denoiser
from ddpm.process import Network, posterior, seeded
from ddpm.sampling import dpm_solver, follow
from ddpm.schedule import Cosine, grid
from ddpm.training.loop import Trainer

STEPS = 10
"""Of the teacher along a whole path: more do not lower the Fréchet distance of its pictures."""

PATHS, WINDOW, USES = 256, 8, 64
"""Paths in a chunk, chunks that a batch draws from, batches until the oldest of these is replaced by a new one."""

CLEANEST = 8.0
"""The highest log-SNR that is trained on; beyond it there is nothing left to guess."""

HUBER = 0.03
"""Root mean square error, in units of x, below which the loss becomes quadratic."""


class Stretches(NamedTuple):
    """Steps of the teacher: from x (N, *D) at ``log_snr`` (N,) straight towards ``ahead`` up to ``log_snr_s`` (N,), on a
    path that ends in ``end``, of the label (N,)."""

    x: Tensor
    log_snr: Tensor
    ahead: Tensor
    log_snr_s: Tensor
    end: Tensor
    label: Tensor


class Batch(NamedTuple):
    """States x (B, *D) on the teacher's paths at log_snr (B,), the ends of these x0 (B, *D) and their labels (B,)."""

    x: Tensor
    log_snr: Tensor
    x0: Tensor
    label: Tensor


@torch.no_grad()
def walk(teacher: Network, x: Tensor, levels: Tensor, label: Tensor, guidance: float) -> Stretches:
    """The teacher's paths from x (B, *D) along ``levels`` (K + 1,), noise to data, as K B stretches."""
    steps = list(follow(dpm_solver(levels, x), denoiser(teacher, label, guidance, clip=True)))
    end, parts = steps[-1].x, []
    for now, after in pairwise(steps):
        on_x, on_x0, _ = process.coefficients(now.log_snr, after.log_snr, eta=0)
        ahead = (after.x - float(on_x) * now.x) / float(on_x0)
        parts.append(Stretches(now.x, now.log_snr.expand(len(x)), ahead, after.log_snr.expand(len(x)), end, label))
    return Stretches(*map(torch.cat, zip(*parts)))


def between(stretches: Stretches, share: Tensor) -> Batch:
    """The state on each stretch after the ``share`` (N,) from 0 to 1 of its length in λ, which is cut at CLEANEST."""
    x, log_snr, ahead, log_snr_s, end, label = stretches
    level = log_snr + share * (log_snr_s.clamp(max=CLEANEST) - log_snr).clamp(min=0)
    there, _ = posterior(x, ahead, log_snr, level, eta=0)
    return Batch(there, level, end, label)


def path_draw(
    teacher: Network, data: Images, guidance: float, batch: int, seed: int, unlabelled: float = 0.1
) -> Callable[[int], Batch]:
    """step -> the batch of that step, the same whenever it is asked for.

    Every other chunk of paths starts from pure noise, the rest from training images noised to a level on the way, where
    the student will be asked too and the images are what the teacher's own pictures should be.
    """
    levels = grid(Cosine(), STEPS)

    @lru_cache(maxsize=WINDOW)
    def chunk(number: int) -> Stretches:
        generator = seeded(seed, number, streams.PATHS)
        first = 0 if number % 2 == 0 else 1 + number // 2 % (STEPS - 2)
        rows = torch.randint(len(data.images), (PATHS,), generator=generator)
        x0, label = to_unit(data.images[rows]), data.labels[rows]
        noise = torch.randn(x0.shape, generator=generator)
        hidden = torch.rand(PATHS, generator=generator) < unlabelled
        label = torch.where(hidden, teacher.config.num_classes, label)
        x = noise if first == 0 else process.add_noise(x0, noise, levels[first])
        return walk(teacher, x, levels[first:], label, guidance)

    def draw(step: int) -> Batch:
        newest = WINDOW - 1 + step // USES
        window = [chunk(number) for number in range(newest - WINDOW + 1, newest + 1)]
        generator = seeded(seed, step, streams.STRETCHES)
        picked = [Stretches(*(value[rows] for value in part)) for part, rows in _rows(window, batch, generator)]
        stretches = Stretches(*map(torch.cat, zip(*picked)))
        share = torch.rand(len(stretches.x), generator=generator, dtype=torch.float64)
        start = torch.rand(len(stretches.x), generator=generator) < 0.5
        return between(stretches, torch.where(start, 0.0, share))

    return draw


def _rows(window: list[Stretches], batch: int, generator: torch.Generator) -> list[tuple[Stretches, Tensor]]:
    """Which rows of each part a batch takes, all stretches being equally likely."""
    sizes = torch.tensor([len(part.x) for part in window])
    index = torch.randint(int(sizes.sum()), (batch,), generator=generator)
    ends = sizes.cumsum(0)
    return [
        (part, index[(index >= end - size) & (index < end)] - (end - size))
        for part, size, end in zip(window, sizes, ends)
    ]


class Distiller(Trainer):
    """A trainer whose loss is the pseudo-Huber distance of x̂0 to the path's end (Song & Dhariwal 2024, eq. 7)."""

    def backward(self, *batch: Tensor) -> Tensor:
        """Adds the gradient of the loss on x (B, *D), log_snr (B,), x0 (B, *D), label (B,); the loss, ()."""
        x, log_snr, x0, label = batch
        to_x0 = process.x0_from(self.network.config.prediction)
        answer = to_x0(x, self.forward(x, log_snr.to(x), label), log_snr)
        loss = pseudo_huber(answer, x0).mean()
        loss.backward()
        return loss.detach()


def pseudo_huber(answer: Tensor, x0: Tensor) -> Tensor:
    """√(mean square error + HUBER²) − HUBER of each row: (B,)."""
    return ((answer - x0).square().flatten(1).mean(1) + HUBER**2).sqrt() - HUBER


@torch.no_grad()
def held_out_loss(network: Network, batches: list[Batch]) -> float:
    """The mean loss of ``network`` on paths that no training sees."""
    to_x0 = process.x0_from(network.config.prediction)
    losses = [pseudo_huber(to_x0(x, network(x, level.to(x), label), level), x0) for x, level, x0, label in batches]
    return float(torch.cat(losses).mean())
