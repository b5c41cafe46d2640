"""The bound on how likely the data is, term by term."""

import math
from pathlib import Path

import torch

from ddpm.checkpoint import load_network
from ddpm.data import to_unit
from ddpm.denoiser import denoiser
from ddpm.likelihood import ROUNDS, ROWS, Likelihood, discretised_reconstruction, strata
from ddpm.picture import examples
from ddpm.process import add_noise, seeded
from ddpm.schedule import alpha_bar, grid

asked = Likelihood(of="one", steps=2)
network = load_network(Path("checkpoints/mnist.safetensors")).network
predict_x0 = denoiser(network, torch.tensor([network.config.num_classes]), clip=True)  # without a label
x0 = to_unit(examples(asked.data)[asked.example][None])

def draw(count, generator):
    return x0[torch.randint(len(x0), (count,), generator=generator)]

levels = grid(asked.curve, asked.steps).flip(0)  # the log-SNR at t = 0, 1 ... T
bits = 1 / (math.log(2) * x0[0].numel())  # from nats to bits per dimension
signal, rest = alpha_bar(levels[-1]), alpha_bar(-levels[-1])  # shares of the variance of x_T
prior = 0.5 * (signal * (x0.double() ** 2 - 1) - rest.log()).flatten(1).sum(1) * bits  # L_T

first, last = torch.tensor(strata(asked.steps)).T  # ranges of t, longer and longer
sizes, generator, found = last - first + 1, seeded(asked.seed), []
for _ in range(ROUNDS):  # in each range draw data, t and noise
    clean = draw(ROWS * len(sizes), generator)
    t = (first + (torch.rand(ROWS, len(sizes), generator=generator) * sizes).long()).T.flatten()
    x = add_noise(clean, torch.randn(clean.shape, generator=generator), levels[t])
    predicted = predict_x0(x, levels[t])
    gain = levels[(t - 1).clamp(min=1)].exp() - levels[t].exp()  # of the signal-to-noise ratio
    terms = gain / 2 * (clean.double() - predicted).square().flatten(1).sum(1)  # L_1 ... L_{T-1}
    one = t == 1
    terms[one] = discretised_reconstruction(clean[one], predicted[one], levels[t[one]])  # L_0
    found.append(terms.reshape(len(sizes), ROWS) * bits)

terms = torch.cat(found, 1)
means, errors = terms.mean(1), terms.std(1) / terms.shape[1] ** 0.5  # of one term of each range
matching = sizes[1:].double() @ means[1:]
variance = (sizes * errors).square().sum()
print("L_T:", float(prior.mean()), "L_1 to L_T-1:", float(matching), "L_0:", float(means[0]))
total = prior.mean() + matching + means[0]
print("the bound:", float(total), "+-", float(variance.sqrt()), "bits per dimension")
