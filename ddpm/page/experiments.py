"""Experiments: settings worth a look, each with two sentences on what to look for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ddpm.lessons.models import MODELS
from ddpm.lessons.pictures.run import Run
from ddpm.lessons.plane.run import Plane
from ddpm.lessons.points import DRAWN, encode_points
from ddpm.lessons.train.run import Training
from ddpm.process import seeded
from ddpm.settings import Settings
from ddpm.toys import TOYS


@dataclass(frozen=True)
class Experiment:
    """A run to look at, what to look for, and the layers that show it."""

    settings: Settings
    text: str
    layers: Mapping[str, str] = field(default_factory=dict)


_PATHS = {"trails": "all", "arrows": "none", "contours": "none", "of": "learned"}
_FIELD = {"trails": "clicked", "arrows": "noise", "contours": "none", "of": "learned"}
_FEW = encode_points(TOYS["moons"](24, seeded(5)))

PLANE = {
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
        "At t = T, 61 % of the signal is still there: pₜ, the contours, is wider than tall, and the particles start "
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
        "same, because pₜ is the same for both.",
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
"""Of the lesson in the plane: by name, in the order of the page."""


def pictures(model: str) -> dict[str, Experiment]:
    """Of the lessons that draw pictures with ``model``, likewise."""
    return {
        "DDIM: the noise decides": Experiment(
            Run(model),
            "η = 0 adds no noise on the way: in Line by line, below the pictures, σ is 0 at every step, and what comes out "
            "depends on the noise at the start alone. Compare with the next experiment, which starts from the same noise.",
        ),
        "DDPM, from the same noise": Experiment(
            Run(model, eta=1.0),
            "η = 1 draws new noise at every step: Line by line shows it and the σ that scales it. The same starts now end "
            "in other pictures, of the same kind.",
        ),
        "Two steps: too few": Experiment(
            Run(model, steps=2),
            "Each of the two steps is a leap towards x̂₀, and from pure noise that is an average of all that could "
            "come of it: soft and plain. Raise T to 50, press Generate, and watch the same starts become sharp.",
        ),
        "A constant β that never reaches noise": Experiment(
            Run(model, schedule="constant", c=1.0),
            "At t = T, 37 % of the signal's variance should still be there, but the run starts from pure noise, which the "
            "network takes for a noisy picture. What comes out is a tangle; raise the rate c to 10.",
        ),
        "Guidance: sure, but all alike": Experiment(
            Run(model, MODELS[model][7], guidance=4.0),
            "w = 4 pushes each picture away from what the network would draw without a label: each becomes hard to "
            "mistake, and all become alike. Set w to 0 and press Generate: the same noise, and more variety.",
        ),
    }


TRAINING = {
    "Data ten times too small, ten steps": Experiment(
        Training(scaling="small", shown_steps=10),
        "Noise has length 1, so data that lies within 0.1 of the middle is lost in it until the very last of the ten "
        "steps. The blue points come to lie about the moons, not on them. The next experiment differs in the scale alone.",
    ),
    "The same, scaled to variance 1": Experiment(
        Training(scaling="standard", shown_steps=10),
        "Now signal and noise are of one size, and the ten steps are shared out over the levels at which the shape is "
        "decided: the distance to the data comes near to what fresh data has.",
    ),
    "Predict the noise": Experiment(
        Training(prediction="noise"),
        "Where there is almost only noise, the noise is easy to predict and says little about x₀: its error counts 400 "
        "times in x̂₀ at λ = −12. Some points fly off at the first step, few come back, and the distance to the data counts how far.",
    ),
    "Predict the clean point": Experiment(
        Training(prediction="x0"),
        "Asked for x₀ itself, the network cannot fly off: at high noise it answers with the middle of the data. "
        "Compare the end with the experiment before: the same network, data, noise and number of batches. Some points lie "
        "between the moons instead, which the distance hardly notices, as they are near.",
    ),
}
"""Of the training, likewise."""
