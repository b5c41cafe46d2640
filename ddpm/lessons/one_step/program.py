"""The program of the lesson on few steps."""

from __future__ import annotations

from ddpm.lessons.one_step.run import OneStep
from ddpm.lessons.program import assembled, call

ONE_STEP = """
from pathlib import Path
import torch
from ddpm.checkpoint import load_network
from ddpm.data import to_uint8
from ddpm.denoiser import denoiser
from ddpm.lessons.one_step.run import PICTURES, WAYS, OneStep
from ddpm.plots import tile
from ddpm.process import posterior
from ddpm.sampling import generators, normal
from ddpm.schedule import grid

asked = {asked}
rows = []
for way in WAYS:  # a network, T, a schedule, eta and the guidance w
    network = load_network(Path("checkpoints") / (way.network + ".safetensors")).network
    predict_x0 = denoiser(network, torch.tensor(asked.labels), way.guidance, clip=True)
    own = generators(asked.seed, range(PICTURES))  # each picture's own random numbers
    x = normal(network.config.shape, own)
    levels = grid(way.schedule, way.steps)
    for now, after in zip(levels, levels[1:]):
        mean, std = posterior(x, predict_x0(x, now), now, after, eta=way.eta)
        z = normal(network.config.shape, own) if way.eta and after < levels[-1] else 0
        x = mean + std * z
    rows.append(x)

tile(to_uint8(torch.cat(rows)).numpy(), scale=4, across=PICTURES).save("pictures.png")
"""


def program(asked: OneStep) -> str:
    """Ten digits by each way."""
    about = "Ten digits, by a network and by a student that jumps."
    return assembled(about, ONE_STEP.replace("{asked}", call(asked)))
