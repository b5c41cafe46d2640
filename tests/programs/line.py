"""Numbers out of noise: two Gaussians on the line."""

from pathlib import Path

import torch

from ddpm.checkpoint import load_network
from ddpm.denoiser import unlabelled
from ddpm.line import Line, interpolated, sampled_modes, table
from ddpm.process import noise_from_x0, posterior, seeded, x0_from_noise
from ddpm.schedule import grid

line = Line(count=200, steps=10, sampler="heun")
network = load_network(Path("checkpoints/mixture1d.safetensors")).network
predict_x0 = interpolated(table(unlabelled(network)))  # asked at 401 points, linear between them

levels = grid(line.curve, line.steps)  # the log-SNR of each state: T + 1 numbers, noise first
generator = seeded(line.seed)
x = torch.randn(line.count, 1, generator=generator)

for t, now, after in zip(range(line.steps, 0, -1), levels, levels[1:]):
    x0 = predict_x0(x, now)  # which clean data is hidden in x?
    there, _ = posterior(x, x0, now, after, eta=0)  # a step towards it
    if t > 1:  # ask again there, and take the step with the mean of both answers
        noise_there = noise_from_x0(there, predict_x0(there, after), after)
        noise = (noise_from_x0(x, x0, now) + noise_there) / 2
        there, _ = posterior(x, x0_from_noise(x, noise, now), now, after, eta=0)
    x = there

for mode in sampled_modes(line, x[:, 0]):
    print(mode)  # its weight, mean and standard deviation
