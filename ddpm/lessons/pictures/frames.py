"""The job of a run: its steps as frames."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm.lessons.pictures.algorithm import Lines, added, lines
from ddpm.lessons.pictures.run import Run, begin
from ddpm.lessons.shown import shown
from ddpm.process import Network
from ddpm.sampling import Step
from ddpm.schedule import grid
from ddpm.serving.engine import Forward, Work


class Frame(NamedTuple):
    """One shown step: x, x0 and the noise predicted from it (count, *D) float32, ᾱ the share of the signal's variance left.

    ``lines`` are the numbers of the step that follows and ``added`` (count, *D) what it adds to its mean, as
    ``ddpm.lessons.pictures.algorithm`` says. No step follows the last state: it has no lines, and its noise is 0.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks for
    log_snr: float
    alpha_bar: float
    x: np.ndarray
    x0: np.ndarray
    noise: np.ndarray
    lines: Lines | None
    added: np.ndarray | None
    seconds: float
    """Since the computation began."""


@torch.no_grad()
def frames(run: Run, network: Network) -> Work:
    """The job of ``run`` on ``network``: the steps worth showing as frames, each once the state after it is known."""
    begun, worth_showing = time.monotonic(), shown(run.steps)
    path, guided = begin(run, network.config)
    numbers, query = lines(run, grid(run.curve, run.steps)), next(path)
    while query.index != 0:
        output = yield Forward(network, *guided.rows(query.x, query.log_snr))
        x0 = guided.x0(query.x, query.log_snr, output)
        if query.index is not None:
            step = Step(query.index, query.log_snr, query.x, x0)
        query = path.send(x0)
        if query.index is not None and step.index in worth_showing:
            now = numbers[run.steps - step.index]
            noise = (step.x - now.root * step.x0) / now.sigma
            yield _frame(step, noise, now, added(run, step, query.log_snr, query.x), begun)
    yield _frame(Step(0, query.log_snr, query.x, query.x), torch.zeros_like(query.x), None, None, begun)


def _frame(step: Step, noise: Tensor, numbers: Lines | None, rest: Tensor | None, begun: float) -> Frame:
    return Frame(
        step.index,
        float(step.log_snr),
        numbers.alpha_bar if numbers else 1.0,
        step.x.contiguous().numpy(),
        step.x0.contiguous().numpy(),
        noise.contiguous().numpy(),
        numbers,
        None if rest is None else rest.contiguous().numpy(),
        time.monotonic() - begun,
    )
