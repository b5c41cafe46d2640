"""The program of a run on the line."""

from __future__ import annotations

from ddpm.lessons.line.run import Line
from ddpm.lessons.models import NETWORK
from ddpm.lessons.program import assembled, call, loop

EXACT = """
from ddpm.exact import gaussian_mixture
from ddpm.lessons.line.run import mixture

predict_x0 = gaussian_mixture(*mixture(line))
"""

LEARNED = f"""
from pathlib import Path
from ddpm.checkpoint import load_network
from ddpm.denoiser import unlabelled
from ddpm.lessons.line.run import interpolated, table

network = load_network(Path("checkpoints/{NETWORK}.safetensors")).network
predict_x0 = interpolated(table(unlabelled(network)))  # asked at 401 points, linear between them
"""

START = """
import torch
from ddpm.process import seeded
from ddpm.schedule import grid

levels = grid(line.curve, line.steps)  # the log-SNR of each state: T + 1 numbers, noise first
generator = seeded(line.seed)
x = torch.randn(line.count, 1, generator=generator)
"""

END = """
from ddpm.lessons.line.run import sampled_modes

for mode in sampled_modes(line, x[:, 0]):
    print(mode)  # its weight, mean and standard deviation
"""


def program(line: Line) -> str:
    """Numbers out of noise."""
    return assembled(
        "Numbers out of noise: two Gaussians on the line.",
        f"from ddpm.lessons.line.run import Line\n\nline = {call(line)}",
        EXACT if line.denoiser == "exact" else LEARNED,
        START,
        loop(line, "torch.randn(x.shape, generator=generator)", line.sampler, line.eta),
        END,
    )
