"""Experiments in the plane: settings worth a look, each with two sentences on what to look for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ddpm.data import TOYS
from ddpm.plane import DRAWN, Plane, encode_points
from ddpm.process import seeded


@dataclass(frozen=True)
class Experiment:
    """A run to look at, what to look for, and the layers that show it."""

    plane: Plane
    text: str
    layers: Mapping[str, str] = field(default_factory=dict)


_PATHS = {"trails": "all", "arrows": "none", "contours": "none", "of": "learned"}
_FIELD = {"trails": "clicked", "arrows": "noise", "contours": "none", "of": "learned"}
_FEW = encode_points(TOYS["moons"](24, seeded(5)))

EXPERIMENTS = {
    "Ten steps: linear schedule": Experiment(
        Plane(steps=10, schedule="linear"),
        "Ten steps of the linear schedule end with one long leap, from 10 % noise straight to the data: the particles "
        "stop short of the moons, and the distance stays well above that of fresh data. Compare with the next "
        "experiment: same T, same noise, other levels.",
        _PATHS,
    ),
    "Ten steps: polynomial schedule": Experiment(
        Plane(steps=10, schedule="polynomial"),
        "The polynomial schedule puts more of its ten steps where little noise is left, and the last one leaps from 1 % "
        "only. Ten steps then come almost as near to the data as fresh points do.",
        _PATHS,
    ),
    "A constant β that never reaches noise": Experiment(
        Plane(schedule="constant", c=0.5),
        "At t = T, 61 % of the signal is still there: p_t, the contours, is wider than tall, and the particles start "
        "from a round cloud of noise. Go through the steps to see that they never quite catch up with it, "
        "then raise c to 5.",
        {"contours": "exact", "trails": "none", "arrows": "none", "of": "learned"},
    ),
    "DDIM, smooth paths": Experiment(
        Plane(steps=50, count=300),
        "η = 0 adds no noise on the way: each particle follows the arrows on a smooth path, and its start decides its "
        "end. Compare with the next experiment, which starts from the same noise.",
        _PATHS,
    ),
    "DDPM, from the same noise": Experiment(
        Plane(steps=50, count=300, eta=1.0),
        "η = 1 adds new noise at every step: the same starts lead to other ends along jagged paths. The shape is the "
        "same, because both have the same p_t.",
        _PATHS,
    ),
    "Too few steps on the checkerboard": Experiment(
        Plane(data="checkerboard", steps=5),
        "Five steps cannot turn the sharp corners of the board: particles are left between the squares, and the "
        "distance is more than twice that of fresh data. Raise T to 100 and watch the edges become sharp.",
        _PATHS,
    ),
    "A field that has memorised its data": Experiment(
        Plane(data=DRAWN, points=_FEW, denoiser="exact"),
        "The exact field of 24 points has learned them by heart: every particle ends on one of them, and nothing new "
        "comes out. Choose two moons to see a network that fills the gaps, or train one on these very points.",
        _FIELD | {"of": "exact"},
    ),
}
"""By name, in the order of the page."""
