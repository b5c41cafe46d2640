"""Numbers out of noise: two Gaussians on the line."""

import torch

from ddpm.exact import gaussian_mixture
from ddpm.line import Line, mixture, sampled_modes
from ddpm.process import posterior, seeded
from ddpm.schedule import grid

line = Line(denoiser="exact", count=200, steps=10)
predict_x0 = gaussian_mixture(*mixture(line))

levels = grid(line.curve, line.steps)  # the log-SNR of each state: T + 1 numbers, noise first
generator = seeded(line.seed)
x = torch.randn(line.count, 1, generator=generator)

for t, now, after in zip(range(line.steps, 0, -1), levels, levels[1:]):
    x0 = predict_x0(x, now)  # which clean data is hidden in x?
    mean, std = posterior(x, x0, now, after, eta=1.0)  # a step towards it
    z = torch.randn(x.shape, generator=generator) if t > 1 else 0
    x = mean + std * z

for mode in sampled_modes(line, x[:, 0]):
    print(mode)  # its weight, mean and standard deviation
