"""The program of an estimate of the bound."""

from __future__ import annotations

from ddpm.lessons.likelihood.run import ONE, Likelihood, entropy
from ddpm.lessons.program import assembled, call

PHOTOS = """
from pathlib import Path
import torch
from ddpm.checkpoint import load_network
from ddpm.data import to_unit
from ddpm.denoiser import denoiser
from ddpm.lessons.likelihood.run import ROWS, Likelihood, discretised_reconstruction
from ddpm.picture import {pictures}

asked = {asked}
network = load_network(Path("checkpoints/{data}.safetensors")).network
predict_x0 = denoiser(network, torch.tensor([network.config.num_classes]), clip=True)  # without a label
x0 = to_unit({photos})

def draw(count, generator):
    return x0[torch.randint(len(x0), (count,), generator=generator)]
"""

EXACTLY = """
from ddpm.lessons.likelihood.run import Likelihood
from ddpm.toys import TOYS

asked = {asked}
predict_x0 = TOYS[asked.data].exact
"""

LEARNED = """
from pathlib import Path
import torch
from ddpm.checkpoint import load_network
from ddpm.denoiser import denoiser
from ddpm.lessons.likelihood.run import Likelihood

asked = {asked}
network = load_network(Path("checkpoints/{data}.safetensors")).network
predict_x0 = denoiser(network, torch.tensor([network.config.num_classes]))
"""

POINTS = """
from ddpm.lessons.likelihood.run import POINT_ROWS, REFERENCE, reconstruction
from ddpm.process import seeded
from ddpm.toys import TOYS

draw = TOYS[asked.data]
x0 = draw(REFERENCE, seeded(asked.seed, 0, 1))
"""

BOUND = """
import math
import torch
from ddpm.lessons.likelihood.run import ROUNDS, strata
from ddpm.process import add_noise, seeded
from ddpm.schedule import alpha_bar, grid

levels = grid(asked.curve, asked.steps).flip(0)  # the log-SNR at t = 0, 1 ... T
bits = 1 / (math.log(2) * x0[0].numel())  # from nats to bits per dimension
signal, rest = alpha_bar(levels[-1]), alpha_bar(-levels[-1])  # shares of the variance of x_T
prior = 0.5 * (signal * (x0.double() ** 2 - 1) - rest.log()).flatten(1).sum(1) * bits  # L_T

first, last = torch.tensor(strata(asked.steps)).T  # ranges of t, longer and longer
sizes, generator, found = last - first + 1, seeded(asked.seed), []
for _ in range(ROUNDS):  # in each range draw data, t and noise
    clean = draw({rows} * len(sizes), generator)
    t = (first + (torch.rand({rows}, len(sizes), generator=generator) * sizes).long()).T.flatten()
    x = add_noise(clean, torch.randn(clean.shape, generator=generator), levels[t])
    predicted = predict_x0(x, levels[t])
    gain = levels[(t - 1).clamp(min=1)].exp() - levels[t].exp()  # of the signal-to-noise ratio
    terms = gain / 2 * (clean.double() - predicted).square().flatten(1).sum(1)  # L_1 ... L_{{T-1}}
    one = t == 1
    terms[one] = {decoder}(clean[one], predicted[one], levels[t[one]])  # L_0
    found.append(terms.reshape(len(sizes), {rows}) * bits)

terms = torch.cat(found, 1)
means, errors = terms.mean(1), terms.std(1) / terms.shape[1] ** 0.5  # of one term of each range
matching = sizes[1:].double() @ means[1:]
variance = (sizes * errors).square().sum(){and_prior}
print("L_T:", float(prior.mean()), "L_1 to L_T-1:", float(matching), "L_0:", float(means[0]))
total = prior.mean() + matching + means[0]
print("the bound:", float(total), "+-", float(variance.sqrt()), "bits per dimension")
"""

EXACT = """
exact = -draw.log_density(x0) * bits
print("exact:", float(exact.mean()), "+-", float(exact.std() / len(exact) ** 0.5))
"""

KNOWN = """
from ddpm.lessons.likelihood.run import entropy

print("exact:", entropy(asked.data) * bits, "+-", 0.0)
"""


def program(asked: Likelihood) -> str:
    """The bound on how likely the data is, term by term."""
    about = "The bound on how likely the data is, term by term."
    if asked.of_pictures:
        name, photos = (
            ("examples", "examples(asked.data)[asked.example][None]")
            if asked.of == ONE
            else ("held_out", "held_out(asked.data)")
        )
        data = PHOTOS.format(pictures=name, asked=call(asked), data=asked.data, photos=photos)
        return assembled(about, data, BOUND.format(rows="ROWS", decoder="discretised_reconstruction", and_prior=""))
    denoiser = (EXACTLY if asked.is_exact else LEARNED).format(asked=call(asked), data=asked.data)
    bound = BOUND.format(rows="POINT_ROWS", decoder="reconstruction", and_prior=" + prior.var() / len(prior)")
    return assembled(about, denoiser, POINTS, bound, EXACT if entropy(asked.data) is None else KNOWN)
