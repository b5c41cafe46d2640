"""The program of a run in the plane."""

from __future__ import annotations

from ddpm.lessons.plane.run import MINE, Plane
from ddpm.lessons.points import DRAWN
from ddpm.lessons.program import assembled, call, loop

OWN = """
from pathlib import Path
from ddpm.lessons.trained import from_file

mine = from_file(Path("mine.safetensors"))  # your network, from "Download my network"
predict_x0 = mine.scaling.around(mine.denoise)
"""

EXACT = """
from ddpm.lessons.points import known

predict_x0, _ = known(plane)  # the formula
"""

LEARNED = """
from pathlib import Path
from ddpm.checkpoint import load_network
from ddpm.denoiser import unlabelled

network = load_network(Path("checkpoints/{data}.safetensors")).network
predict_x0 = unlabelled(network)
"""

LEVELS = """
from ddpm.schedule import grid

levels = grid(plane.curve, plane.steps)  # the log-SNR of each state: T + 1 numbers, noise first
"""

CHAIN = """
import torch
from ddpm.lessons.plane.run import start
from ddpm.process import seeded, transition

generator = seeded(plane.seed)
x = start(plane)  # points of the data
for now, after in zip(levels[1:].flip(0), levels[:-1].flip(0)):
    noise = torch.randn(x.shape, generator=generator)
    x = transition(x, noise, now, after)
"""

JUMP = """
import torch
from ddpm.lessons.plane.run import start
from ddpm.process import add_noise, seeded

x0 = start(plane)  # points of the data
noise = torch.randn(x0.shape, generator=seeded(plane.seed))
for level in levels.flip(0):
    x = add_noise(x0, noise, level)
"""

START = """
import torch
from ddpm.process import seeded

generator = seeded(plane.seed)
x = torch.randn(plane.count, 2, generator=generator)
"""


def program(plane: Plane) -> str:
    """Particles out of noise, or data that becomes noise."""
    settings = f"from ddpm.lessons.plane.run import Plane\n\nplane = {call(plane)}"
    end = "print(x)  # (count, 2)"
    if plane.direction != "generate":
        way = CHAIN if plane.direction == "chain" else JUMP
        return assembled("Data that becomes noise, in the plane.", settings, LEVELS, way, end)
    steps = loop(plane, "torch.randn(x.shape, generator=generator)", plane.sampler, plane.eta)
    about = "Particles out of noise: data in the plane."
    return assembled(about, settings, _denoiser(plane), LEVELS, START, steps, end)


def _denoiser(plane: Plane) -> str:
    if plane.denoiser == MINE:
        return OWN
    return EXACT if plane.denoiser == "exact" or plane.data == DRAWN else LEARNED.replace("{data}", plane.data)
