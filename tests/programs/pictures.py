"""Pictures out of noise, by a network trained on mnist."""

from pathlib import Path

import torch

from ddpm.checkpoint import load_network
from ddpm.data import to_uint8
from ddpm.denoiser import denoiser
from ddpm.plots import tile
from ddpm.process import posterior
from ddpm.run import Run
from ddpm.sampling import generators, normal
from ddpm.schedule import grid

run = Run(count=2, steps=3, eta=1.0)
network = load_network(Path("checkpoints/mnist.safetensors")).network
predict_x0 = denoiser(network, torch.tensor(run.labels), clip=True)

levels = grid(run.curve, run.steps)  # the log-SNR of each state: T + 1 numbers, noise first
own = generators(run.seed, range(run.count))  # each picture's own random numbers
x = normal(network.config.shape, own)

for t, now, after in zip(range(run.steps, 0, -1), levels, levels[1:]):
    x0 = predict_x0(x, now)  # which clean data is hidden in x?
    mean, std = posterior(x, x0, now, after, eta=1.0)  # a step towards it
    z = normal(network.config.shape, own) if t > 1 else 0
    x = mean + std * z

tile(to_uint8(x).numpy(), scale=4).save("pictures.png")
