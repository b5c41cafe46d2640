"""A run on the line as one frozen value: samples of a mixture of two Gaussians, and all that is known of it exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from ddpm.denoiser import unlabelled
from ddpm.exact import gaussian_mixture, gaussian_mixture_density
from ddpm.lessons.shown import shown
from ddpm.lessons.words import MOVED_BY, SAMPLER_NAMES, STEPS_INFO
from ddpm.process import Denoise, Network, seeded
from ddpm.sampling import SAMPLERS, Step, as_one, follow, levels_alone
from ddpm.schedule import alpha_bar, grid
from ddpm.serving.engine import Work
from ddpm.settings import SEED, STEPS, Choice, Number, Scheduled, scheduled, setting
from ddpm.toys import MIXTURE_MEANS, MIXTURE_STD, MIXTURE_WEIGHTS

EDGE = 12.0
"""Densities, curves and histograms reach from −EDGE to EDGE."""

AXIS = torch.linspace(-EDGE, EDGE, 401)
"""Where densities and curves are computed, (401,), 0.06 apart."""

BINS = 240
"""Of the histograms, 0.1 wide each."""

PATHS = 100
"""How many of the samples are followed one by one."""


@dataclass(frozen=True)
class Line(Scheduled):
    """Every setting of a run on the line: the same value gives the same samples. As it stands it is the exercise.

    The data is N(``mean1``, ``std``²) and N(``mean2``, ``std``²), mixed as ``weight1`` : ``weight2``. ``denoiser`` moves
    the samples: the "learned" or the "exact" one. Raises ValueError, in one sentence, for a setting that is not allowed.
    """

    mean1: float = setting(
        MIXTURE_MEANS[0],
        Number(-5, 5),
        "Mean of the first mode",
        "Where the first Gaussian of the data lies.",
        step=0.1,
    )
    mean2: float = setting(
        MIXTURE_MEANS[1], Number(-5, 5), "Mean of the second mode", "Where the second one lies.", step=0.1
    )
    weight1: int = setting(
        1, Number(1, 9, whole=True), "Weight of the first", "Its share of the data, against the second's."
    )
    weight2: int = setting(2, Number(1, 9, whole=True), "Weight of the second", "1 : 2 is one third to two thirds.")
    std: float = setting(MIXTURE_STD, Number(0.2, 1.5), "Standard deviation", "The width of both.", step=0.05)
    denoiser: str = setting("learned", Choice(("learned", "exact")), "Moved by", MOVED_BY, look="radio")
    count: int = setting(
        10_000, Number(PATHS, 10_000, whole=True), "Samples", "More make the histogram finer.", step=100
    )
    steps: int = setting(250, STEPS, "Steps T", STEPS_INFO)
    schedule: str = scheduled("constant")
    sampler: str = setting(
        "ddim", Choice(tuple(SAMPLERS)), "Sampler", "How one step follows from x̂₀.", names=SAMPLER_NAMES
    )
    eta: float = setting(
        1.0, Number(0, 1), "Noise added on the way, η", "0: none, smooth paths (DDIM). 1: as much as DDPM.", step=0.05
    )
    seed: int = setting(0, SEED, "Seed", "The noise begun with: the same seed gives the same samples.", look="number")

    @property
    def means(self) -> tuple[float, float]:
        return self.mean1, self.mean2

    @property
    def weights(self) -> tuple[float, float]:
        """The modes' shares, 1 in all."""
        both = self.weight1 + self.weight2
        return self.weight1 / both, self.weight2 / both

    @property
    def is_exercise(self) -> bool:
        """Whether the data is the mixture that the network was trained on."""
        exercise = sorted(zip(MIXTURE_MEANS, MIXTURE_WEIGHTS))
        return sorted(zip(self.means, self.weights)) == exercise and self.std == MIXTURE_STD


def mixture(line: Line) -> tuple[Tensor, Tensor, float]:
    """The data as a Gaussian mixture: weights (2,), means (2, 1) and their standard deviation."""
    return torch.tensor(line.weights), torch.tensor(line.means)[:, None], line.std


@torch.no_grad()
def densities(line: Line) -> Tensor:
    """p_t on AXIS at the shown steps, from noise to data: (frames, 401)."""
    density = gaussian_mixture_density(*mixture(line))
    levels, worth_showing = grid(line.curve, line.steps), shown(line.steps)
    return torch.stack([density(AXIS, levels[line.steps - t]) for t in sorted(worth_showing, reverse=True)])


# --- what became of the two modes -------------------------------------------------------------------------------------


class Mode(NamedTuple):
    """What lies nearer to one mean than to the other: its share of all, its mean and its standard deviation."""

    weight: float
    mean: float
    std: float

    def standard_errors(self, count: int) -> Mode:
        """Of the three, as estimated from ``count`` samples in all; the deviation's is that of a Gaussian's."""
        own = count * self.weight
        return Mode(
            math.sqrt(self.weight * (1 - self.weight) / count), self.std / math.sqrt(own), self.std / math.sqrt(2 * own)
        )


def modes(line: Line, x: Tensor, mass: Tensor) -> tuple[Mode | None, Mode | None]:
    """The two modes of points x (N,) that carry ``mass`` (N,), 1 in all, each point with the nearer mean; None if empty."""
    x, mass, middle = x.double(), mass.double(), sum(line.means) / 2
    first = x < middle if line.mean1 <= line.mean2 else x > middle
    return _mode(x[first], mass[first]), _mode(x[~first], mass[~first])


def sampled_modes(line: Line, x: Tensor) -> tuple[Mode | None, Mode | None]:
    """The two modes of samples x (N,)."""
    return modes(line, x, torch.full_like(x, 1 / len(x), dtype=torch.float64))


def true_modes(line: Line) -> tuple[Mode, Mode]:
    """The same of the data itself: where the modes overlap this is not what they were set to, but what to compare with."""
    fine = torch.linspace(-EDGE, EDGE, 24_001, dtype=torch.float64)
    density = gaussian_mixture_density(*mixture(line))(fine, torch.tensor(math.inf))
    both = modes(line, fine, density / density.sum())
    return cast("tuple[Mode, Mode]", both)  # neither is empty: the means lie well within ±EDGE


def _mode(x: Tensor, mass: Tensor) -> Mode | None:
    if len(x) == 0:
        return None
    weight = mass.sum().clamp(max=1)  # all of it may add up to a little more
    mean = mass @ x / weight
    return Mode(float(weight), float(mean), float((mass @ (x - mean).square() / weight).sqrt()))


# --- carried out ------------------------------------------------------------------------------------------------------


class Opening(NamedTuple):
    """What a run opens with: p_t on AXIS at each shown step (frames, 401), and what the data's two modes are."""

    densities: np.ndarray
    truth: tuple[Mode, Mode]


class Frame(NamedTuple):
    """One shown step: the followed samples (100,), how many of all lie in each bin (240,), x̂0 on AXIS (401,), learned and
    exact; and at the last step the samples' two modes. Without samples none of them: (0,) and zeros.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks for
    log_snr: float
    alpha_bar: float
    paths: np.ndarray
    counts: np.ndarray
    learned: np.ndarray
    exact: np.ndarray
    modes: tuple[Mode | None, Mode | None] | None
    seconds: float
    """Since the computation began."""


Table = Callable[[float], Tensor]
"""λ -> x̂0 on AXIS, (401,)."""


def table(denoise: Denoise) -> Table:
    """``denoise`` on AXIS, at each level once; the last two are kept, because Heun's method asks for the next in turn."""

    @lru_cache(maxsize=2)
    def at(log_snr: float) -> Tensor:
        return denoise(AXIS[:, None], torch.tensor(log_snr, dtype=torch.float64))[:, 0]

    return at


def interpolated(table: Table) -> Denoise:
    """The denoiser of x (N, 1) that reads ``table``, linearly between its points and beyond them.

    At one level x̂0 is a function of one number, so 401 evaluations of a network do for any number of samples.
    """

    def denoise(x: Tensor, log_snr: Tensor) -> Tensor:
        x0, place = table(float(log_snr)).to(x), (x[:, 0] + EDGE) / (2 * EDGE) * (len(AXIS) - 1)
        left = place.floor().clamp(0, len(AXIS) - 2).long()
        return torch.lerp(x0[left], x0[left + 1], place - left)[:, None]

    return denoise


def look(line: Line, network: Network, samples: bool = True) -> Work:
    """The job of the page: what it opens with, then the frames."""
    yield Opening(densities(line).numpy(), true_modes(line))
    yield from frames(line, network, samples)


@torch.no_grad()
def frames(line: Line, network: Network, samples: bool = True) -> Work:
    """The steps of ``line``: a frame for each step worth showing and None for the others.

    Without ``samples`` only the curves of each shown step.
    """
    begun, worth_showing = time.monotonic(), shown(line.steps)
    formula = gaussian_mixture(*mixture(line))
    learned, exact = table(unlabelled(network)), table(formula)
    mover = interpolated(learned) if line.denoiser == "learned" else formula
    for step in _states(line, mover) if samples else levels_alone(grid(line.curve, line.steps), (1,)):
        if step.index not in worth_showing:
            yield None
            continue
        x, log_snr = step.x[:, 0], float(step.log_snr)
        yield Frame(
            step.index,
            log_snr,
            float(alpha_bar(step.log_snr)),
            x[:PATHS].numpy(),
            x.histc(BINS, -EDGE, EDGE).numpy(),
            learned(log_snr).numpy(),
            exact(log_snr).numpy(),
            sampled_modes(line, x) if samples and step.index == 0 else None,
            time.monotonic() - begun,
        )


def _states(line: Line, denoise: Denoise) -> Iterator[Step]:
    """The states of the samples, which are together one sample of shape (count, 1)."""
    generators = [seeded(line.seed)]
    noise = torch.randn(1, line.count, 1, generator=generators[0])
    levels = grid(line.curve, line.steps)
    for step in follow(SAMPLERS[line.sampler](levels, noise, line.eta, generators), as_one(denoise)):
        yield step._replace(x=step.x[0], x0=step.x0[0])
