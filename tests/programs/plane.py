"""Particles out of noise: data in the plane."""

from pathlib import Path

import torch

from ddpm.checkpoint import load_network
from ddpm.denoiser import unlabelled
from ddpm.plane import Plane
from ddpm.process import posterior, seeded
from ddpm.schedule import grid

plane = Plane(count=100, steps=5)
network = load_network(Path("checkpoints/moons.safetensors")).network
predict_x0 = unlabelled(network)

levels = grid(plane.curve, plane.steps)  # the log-SNR of each state: T + 1 numbers, noise first
generator = seeded(plane.seed)
x = torch.randn(plane.count, 2, generator=generator)

for now, after in zip(levels, levels[1:]):
    x0 = predict_x0(x, now)  # which clean data is hidden in x?
    x, _ = posterior(x, x0, now, after, eta=0)  # a step towards it

print(x)  # (count, 2)
