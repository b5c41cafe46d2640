"""The noising lesson's screen: packs what its jobs yield into messages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
import numpy as np
import torch

from ddpm.data import to_uint8
from ddpm.lessons.noising.run import BINS, EDGE, Measured, Moment, Noising, Strip
from ddpm.page.components.shared import component, message

NOISE_SHOWN = 3.0
"""Noise from −3 to 3 is drawn from black to white."""


def screen() -> gr.HTML:
    """The component; it triggers ``select`` with a step ``t`` when the visitor clicks one in the strip."""
    return component(Path(__file__).parent, {"bins": BINS, "edge": EDGE}, clock=False)


def start(noising: Noising, job: int, notes: Sequence[str], everything: bool) -> str:
    """Opens an answer to ``noising``: all of it, or the moment alone; ``notes`` are for the visitor."""
    run = {name: value for name, value in noising.values().items() if name != "upload"}
    return message(kind="start", job=job, run=run, query=noising.query(), notes=list(notes), all=everything)


def pack(shown: Moment | Strip | Measured, job: int) -> str:
    """One answer as a message."""
    if isinstance(shown, Moment):
        return _moment(shown, job)
    return _strip(shown, job) if isinstance(shown, Strip) else _measured(shown, job)


def row(moment: Moment) -> np.ndarray:
    """x0, noise, x, predicted noise and predicted x0 as they are drawn, (5, C, H, W) uint8."""
    noises = (moment.noise / NOISE_SHOWN, moment.predicted_noise / NOISE_SHOWN)
    return _drawn(np.stack([moment.x0, noises[0], moment.x, noises[1], moment.predicted_x0]))


def errors(moment: Moment) -> dict[str, float | None]:
    """The root mean square of the errors of both predictions; of the noise none where there is nothing else to predict."""
    return {
        "noise": _distance(moment.noise, moment.predicted_noise) if math.isfinite(moment.log_snr) else None,
        "x0": _distance(moment.x0, moment.predicted_x0),
    }


def _moment(moment: Moment, job: int) -> str:
    return message(
        moment.histogram.astype("<f4").tobytes() + row(moment).tobytes(),
        kind="moment",
        job=job,
        t=moment.t,
        shape=moment.x.shape,
        logSnr=moment.log_snr if math.isfinite(moment.log_snr) else None,
        alphaBar=_share(moment.log_snr),
        signal=moment.signal,
        std=moment.std,
        mean=float(moment.x.mean()),
        variance=float(moment.x.var()),
        errors=errors(moment),
    )


def _strip(strip: Strip, job: int) -> str:
    shares = [_share(log_snr) for log_snr in strip.log_snrs]
    return message(
        _drawn(strip.x).tobytes(), kind="strip", job=job, steps=strip.steps, shape=strip.x.shape[1:], alphaBars=shares
    )


def _measured(measured: Measured, job: int) -> str:
    values = np.concatenate([measured.factor[None], measured.variance[None], measured.errors, measured.true])
    return message(values.astype("<f4").tobytes(), kind="measured", job=job, steps=measured.steps, draws=measured.draws)


def _share(log_snr: float) -> float:
    return 1 / (1 + math.exp(-log_snr)) if log_snr > -700 else 0.0


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """The root mean square of the difference."""
    return float(np.sqrt(np.square(a - b).mean()))


def _drawn(pictures: np.ndarray) -> np.ndarray:
    return to_uint8(torch.from_numpy(pictures)).numpy()
