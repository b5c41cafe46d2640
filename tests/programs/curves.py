"""All noise schedules, and a picture under each."""

import math

import torch

from ddpm.curves import NAMES, Curves
from ddpm.data import to_uint8
from ddpm.picture import examples, fitted
from ddpm.plots import tile
from ddpm.process import seeded
from ddpm.schedule import grid

curves = Curves(steps=20)
x0 = fitted(examples(curves.model)[curves.example], curves.model)  # the picture, from -1 to 1
noise = torch.randn(x0.shape, generator=seeded(curves.seed))  # the same under every schedule
strip = sorted({math.ceil(curves.steps * k / 8) for k in range(1, 9)})  # t of the eight pictures

values, pictures = {}, []
for name in NAMES:
    log_snr = grid(curves.curve_of(name), curves.steps)[:-1].flip(0)  # at t = 1, 2 ... T
    signal, rest = log_snr.sigmoid(), (-log_snr).sigmoid()  # shares of the variance: their sum is 1
    beta = 1 - signal / torch.cat([torch.ones(1), signal[:-1]])  # what a step takes of the signal
    values[name] = torch.stack([signal, rest, signal.sqrt(), beta, log_snr])
    pictures += [signal[t - 1].sqrt() * x0 + rest[t - 1].sqrt() * noise for t in strip]
    print(name, float(signal[-1]))  # the signal that is left at t = T

tile(to_uint8(torch.stack(pictures)).numpy(), scale=4, across=len(strip)).save("schedules.png")
