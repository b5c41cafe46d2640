"""One step of Algorithm 1, and what networks draw that learned for longer and longer."""

import copy
from pathlib import Path

import torch

from ddpm.data import to_uint8, to_unit
from ddpm.denoiser import denoiser
from ddpm.learning import LABELS, PICTURES, RATE, SAMPLING_STEPS, SNAPSHOTS, STEPS, Learning, load_snapshots
from ddpm.picture import held_out
from ddpm.plots import tile
from ddpm.process import add_noise, noise_from_x0, posterior, seeded
from ddpm.sampling import generators, normal
from ddpm.schedule import Linear, grid

learning = Learning(snapshot="100")
folder, place = Path("checkpoints/snapshots"), SNAPSHOTS.index(learning.snapshot)
unet, convolutions = (load_snapshots(folder, name).networks for name in ("unet", "convolutions"))

# Lines 2 to 4 of Algorithm 1: draw pictures, a step t for each, and noise
generator, photos = seeded(learning.seed, 1), held_out("mnist")
index = torch.randperm(len(photos), generator=generator)[:PICTURES]
t = torch.randint(1, STEPS + 1, (PICTURES,), generator=generator)
x0, label, log_snr = to_unit(photos[index]), index % 10, grid(Linear(), STEPS)[STEPS - t]
noise = torch.randn(x0.shape, generator=generator)
x = add_noise(x0, noise, log_snr)

def predicted_noise(network):
    return noise_from_x0(x, denoiser(network, label)(x, log_snr), log_snr)

answers = [predicted_noise(network) for network in (unet[place], convolutions[place])]
errors = [(noise - answer).square().flatten(1).mean(1) for answer in answers]
rows = torch.cat([x0, *(part / 3 for part in (noise, x, *answers))])
tile(to_uint8(rows).numpy(), scale=4, across=PICTURES).save("step.png")

# Line 5: a step against the gradient of the loss
network = copy.deepcopy(unet[place]).requires_grad_(True)
descent = torch.optim.SGD(network.parameters(), lr=RATE)
loss = (noise - predicted_noise(network)).square().mean()
loss.backward()
gradient = torch.cat([weight.grad.flatten() for weight in network.parameters()])
descent.step()
after = (noise - predicted_noise(network)).square().mean()
print(errors, loss.item(), gradient.norm().item(), after.item())

# What each network draws from the same noise
levels, samples = grid(Linear(), SAMPLING_STEPS), []
for network in (*unet, convolutions[-1]):
    predict_x0 = denoiser(network, torch.tensor(LABELS), clip=True)
    x_t = normal(network.config.shape, generators(learning.noise, range(len(LABELS))))
    for now, later in zip(levels, levels[1:]):
        x_t, _ = posterior(x_t, predict_x0(x_t, now), now, later, eta=0)  # a step towards x0
    samples.append(x_t)
tile(to_uint8(torch.cat(samples)).numpy(), scale=4, across=len(LABELS)).save("samples.png")
