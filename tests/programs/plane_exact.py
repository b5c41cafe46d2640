"""Particles out of noise: data in the plane."""

import torch

from ddpm.plane import Plane, known
from ddpm.process import posterior, seeded
from ddpm.schedule import grid

plane = Plane(denoiser="exact", count=100, steps=5, sampler="dpm-solver++")
predict_x0, _ = known(plane)  # the formula

levels = grid(plane.curve, plane.steps)  # the log-SNR of each state: T + 1 numbers, noise first
generator = seeded(plane.seed)
x = torch.randn(plane.count, 2, generator=generator)

previous = None
for t, now, after in zip(range(plane.steps, 0, -1), levels, levels[1:]):
    x0 = ahead = predict_x0(x, now)  # which clean data is hidden in x?
    if previous and t > 1:  # and what will the answer be in the middle of the step?
        before, x0_before = previous
        ahead = x0 + float((after - now) / (now - before)) / 2 * (x0 - x0_before)
    x, _ = posterior(x, ahead, now, after, eta=0)  # a step towards that
    previous = now, x0

print(x)  # (count, 2)
