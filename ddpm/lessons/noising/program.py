"""The program of a picture that is noised."""

from __future__ import annotations

from ddpm.lessons.noising.run import UPLOADED, Noising
from ddpm.lessons.program import assembled, call

UPLOAD = """
from pathlib import Path
from ddpm import picture

upload = picture.encode(picture.from_file(Path("mine.png")), 8)  # here goes the path of your file
"""

NOISING = """
import math
from pathlib import Path
import torch
from ddpm.checkpoint import load_network
from ddpm.data import to_uint8
from ddpm.denoiser import unlabelled
from ddpm.lessons.noising.run import BINS, EDGE, VALUES, Noising
from ddpm.lessons.shown import shown
from ddpm.plots import tile
from ddpm.process import seeded
from ddpm.schedule import alpha, betas, grid, sigma

noising = {noising}
network = load_network(Path("checkpoints/{model}.safetensors")).network
x0, T, t = noising.x0, noising.steps, noising.t  # the picture: (C, H, W), from -1 to 1
levels = grid(noising.curve, T).flip(0)  # the log-SNR at t = 0, 1 ... T

def at_once(x0, t, way, generator):  # x_t without the steps between
    if way == "mix-uniform":
        return (1 - t / T) * x0 + t / T * (2 * torch.rand(x0.shape, generator=generator) - 1)
    noise = torch.randn(x0.shape, generator=generator)
    if way == "mix":
        return (1 - t / T) * x0 + t / T * noise
    return alpha(levels[t]) * x0 + sigma(levels[t]) * noise

def chain(x, generator):  # x_1, x_2 ... x_T, each from the one before
    for beta in betas(levels.flip(0)).flip(0):
        x = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn(x.shape, generator=generator)
        yield x

strip = sorted({math.ceil(T * k / 8) for k in range(1, 9)})  # t of the eight pictures
{states}
x = states[t]
{factors}
log_snr = 2 * (signal / std).log()  # of x = signal * x0 + std * noise
known = x / (signal**2 + std**2).sqrt()  # at the variance that the network was trained on
predicted_x0 = unlabelled(network)(known.float()[None], log_snr)[0]  # which picture is hidden in x?
noise, predicted_noise = ((x - signal * clean) / std for clean in (x0, predicted_x0))
histogram = x.histc(BINS, -EDGE, EDGE) / x.numel() / (2 * EDGE / BINS)
pictures = [*(states[k] for k in strip), x0, noise / 3, x, predicted_noise / 3, predicted_x0]
tile(to_uint8(torch.stack(pictures)).numpy(), scale=4, across=len(strip)).save("pictures.png")
print(float(signal), float(std), float(log_snr))

own = {way: seeded(noising.seed, k) for k, way in enumerate(("chain", "jump", "mix", "mix-uniform"), 1)}
many = x0.expand(VALUES // x0.numel(), *x0.shape)  # to measure what each way makes of it
for k, state in enumerate(chain(many, own["chain"]), 1):
    for way, generator in own.items() if k in shown(T) else ():
        x_k = state if way == "chain" else at_once(many, k, way, generator)
        factor = (x_k.mean(0) * x0).sum() / x0.square().sum()  # what the mean keeps of x0
        print(k, way, float(factor), float(x_k.var(0).mean()))
"""

CHAIN = "states = dict(enumerate(chain(x0, seeded(noising.seed)), 1))"

JUMPS = "states = {k: at_once(x0, k, noising.way, seeded(noising.seed)) for k in (t, *strip)}"

FACTORS = {
    "mix": "signal, std = torch.tensor([1 - t / T, t / T], dtype=torch.float64)",
    "mix-uniform": "signal, std = torch.tensor([1 - t / T, t / T / math.sqrt(3)], dtype=torch.float64)",
}
"""Of x0 and of the noise, where they are not those of the schedule; uniform noise on [−1, 1] has the variance 1/3."""


def program(noising: Noising) -> str:
    """A picture noised step by step and at once, and what a network finds in it."""
    uploaded = noising.picture == UPLOADED
    body = NOISING.replace("{noising}", call(noising, **({"upload": "upload"} if uploaded else {})))
    body = body.replace("{model}", noising.model).replace("{states}", CHAIN if noising.way == "chain" else JUMPS)
    body = body.replace("{factors}", FACTORS.get(noising.way, "signal, std = alpha(levels[t]), sigma(levels[t])"))
    parts = [UPLOAD, body] if uploaded else [body]
    return assembled("A picture disappears in noise, and a network looks for it.", *parts)
