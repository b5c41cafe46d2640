"""Data that becomes noise, in the plane."""

import torch

from ddpm.plane import Plane, start
from ddpm.process import seeded, transition
from ddpm.schedule import grid

plane = Plane(direction="chain", count=100, steps=10)
levels = grid(plane.curve, plane.steps)  # the log-SNR of each state: T + 1 numbers, noise first
generator = seeded(plane.seed)
x = start(plane)  # points of the data
for now, after in zip(levels[1:].flip(0), levels[:-1].flip(0)):
    noise = torch.randn(x.shape, generator=generator)
    x = transition(x, noise, now, after)

print(x)  # (count, 2)
