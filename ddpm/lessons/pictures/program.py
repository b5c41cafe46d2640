"""The program of a run."""

from __future__ import annotations

from ddpm.lessons.pictures.run import Run
from ddpm.lessons.program import assembled, call, loop


def program(run: Run) -> str:
    """Pictures out of noise."""
    *_, guidance = run.method
    guided = f", guidance={guidance!r}" if guidance else ""
    return assembled(
        f"Pictures out of noise, by a network trained on {run.model}.",
        f"""
from pathlib import Path
import torch
from ddpm.checkpoint import load_network
from ddpm.denoiser import denoiser
from ddpm.lessons.pictures.run import Run
from ddpm.sampling import generators, normal
from ddpm.schedule import grid

run = {call(run)}
network = load_network(Path("checkpoints/{run.network}.safetensors")).network
predict_x0 = denoiser(network, torch.tensor(run.labels){guided}, clip=True)

levels = grid(run.curve, run.steps)  # the log-SNR of each state: T + 1 numbers, noise first
own = generators(run.seed, range(run.count))  # each picture's own random numbers
x = normal(network.config.shape, own)
""",
        loop(run, "normal(network.config.shape, own)", *run.method[:2]),
        """
from ddpm.data import to_uint8
from ddpm.plots import tile

tile(to_uint8(x).numpy(), scale=4).save("pictures.png")
""",
    )
