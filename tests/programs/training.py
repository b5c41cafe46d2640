"""A small network learns to remove noise, and then makes points."""

import copy

import torch

from ddpm.denoiser import unlabelled
from ddpm.live import Apprentice, Training
from ddpm.process import add_noise, posterior, seeded, stratified, target, uniform_density
from ddpm.schedule import Cosine, grid
from ddpm.training import rate

training = Training(batches=100, shown_steps=3)
recipe, untrained = training.recipe, Apprentice(training)
network, draw = untrained.trainer.network, untrained.draw
averaged = copy.deepcopy(network).requires_grad_(False)
weights = list(network.parameters())
adam = torch.optim.AdamW(weights, betas=(0.9, 0.99), weight_decay=0.01, fused=True)

for step in range(training.batches):
    x0, label = draw(step)  # fresh data, in the network's coordinates
    generator = seeded(recipe.seed, step)
    levels = stratified(len(x0), generator)[torch.randperm(len(x0), generator=generator)]
    log_snr = uniform_density(levels)  # a noise level for each point
    noise = torch.randn(x0.shape, generator=generator)
    x = add_noise(x0, noise, log_snr)
    answer = network(x, log_snr.float(), label)
    error = answer - target(training.prediction, x, x0, noise, log_snr)
    error.square().mean().backward()
    torch.nn.utils.clip_grad_norm_(weights, recipe.clip_norm)
    adam.param_groups[0]["lr"] = recipe.lr * rate(step, recipe)
    adam.step()
    adam.zero_grad()
    decay = min(recipe.ema, (step + 2) / (step + 11))
    for mean, weight in zip(averaged.parameters(), weights):
        mean.lerp_(weight.detach(), 1 - decay)

predict_x0 = unlabelled(averaged.eval())
levels = grid(Cosine(), training.shown_steps)
x = torch.randn(500, 2, generator=seeded(2))
for now, after in zip(levels, levels[1:]):
    x, _ = posterior(x, predict_x0(x, now), now, after, eta=0)
x = training.scale.back(x)

print(x)  # (500, 2), in the data's coordinates
