"""Settings as a short Python program that computes, with this library, what the page shows for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields

from ddpm.line import NETWORK as LINE_NETWORK
from ddpm.line import Line
from ddpm.live import Training
from ddpm.plane import DRAWN, MINE, Plane
from ddpm.run import Run
from ddpm.settings import Settings

WIDTH = 100
"""Characters of a line: more scroll sideways on the page."""

IMPORTS = {
    "ddpm.checkpoint": ("load_network",),
    "ddpm.data": ("to_uint8",),
    "ddpm.denoiser": ("denoiser", "unlabelled"),
    "ddpm.exact": ("gaussian_mixture",),
    "ddpm.line": ("Line", "interpolated", "mixture", "sampled_modes", "table"),
    "ddpm.live": ("Apprentice", "Training", "from_file"),
    "ddpm.plane": ("Plane", "known", "start"),
    "ddpm.plots": ("tile",),
    "ddpm.process": (
        *("add_noise", "noise_from_x0", "posterior", "seeded", "stratified", "target", "transition"),
        *("uniform_density", "x0_from_noise"),
    ),
    "ddpm.run": ("Run",),
    "ddpm.sampling": ("generators", "normal"),
    "ddpm.schedule": ("Cosine", "betas", "grid"),
    "ddpm.training": ("rate",),
}
"""Where the names that programs use come from: each program imports those that it has in it."""

STANDARD = {"copy": "import copy", "Path": "from pathlib import Path"}


def program(settings: Settings) -> str:
    """The program of ``settings``; it is to be run in the folder of this project, which holds the checkpoints."""
    about, body = PROGRAMS[type(settings)](settings)
    return f'"""{about}"""\n\n{_imports(body)}\n\n{body.strip()}\n'


def call(settings: Settings) -> str:
    """``settings`` as a person types them: those that are not the defaults."""
    kind = type(settings)
    given = [(field.name, getattr(settings, field.name)) for field in fields(kind)]
    changed = [f"{name}={_typed(value)}" for name, value in given if value != getattr(kind, name)]
    line = f"{kind.__name__}({', '.join(changed)})"
    if len(line) <= WIDTH - 10:
        return line
    return f"{kind.__name__}(\n" + "".join(f"    {argument},\n" for argument in changed) + ")"


def _typed(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _imports(body: str) -> str:
    code = re.sub(r"""#.*|"[^"]*"|'[^']*'""", "", body)

    def uses(name: str) -> bool:
        return re.search(rf"(?<![\w.]){name}\b(?!=)", code) is not None

    standard = [text for name, text in STANDARD.items() if uses(name)]
    used = {module: [name for name in names if uses(name)] for module, names in IMPORTS.items()}
    ours = [f"from {module} import {', '.join(names)}" for module, names in used.items() if names]
    return "\n\n".join("\n".join(part) for part in (standard, ["import torch"] if uses("torch") else [], ours) if part)


# --- the reverse process --------------------------------------------------------------------------------------------

LOOPS = {
    "ddim": """
for now, after in zip(levels, levels[1:]):
    x0 = predict_x0(x, now)  # which clean data is hidden in x?
    x, _ = posterior(x, x0, now, after, eta=0)  # a step towards it
""",
    "ddpm": """
for t, now, after in zip(range({run}.steps, 0, -1), levels, levels[1:]):
    x0 = predict_x0(x, now)  # which clean data is hidden in x?
    mean, std = posterior(x, x0, now, after, eta={eta})  # a step towards it
    z = {noise} if t > 1 else 0
    x = mean + std * z
""",
    "ddpm-beta": """
for t, now, after, beta in zip(range({run}.steps, 0, -1), levels, levels[1:], betas(levels)):
    x0 = predict_x0(x, now)  # which clean data is hidden in x?
    mean, _ = posterior(x, x0, now, after)  # a step towards it
    z = {noise} if t > 1 else 0
    x = mean + float(beta.sqrt()) * z
""",
    "dpm-solver++": """
previous = None
for t, now, after in zip(range({run}.steps, 0, -1), levels, levels[1:]):
    x0 = ahead = predict_x0(x, now)  # which clean data is hidden in x?
    if previous and t > 1:  # and what will the answer be in the middle of the step?
        before, x0_before = previous
        ahead = x0 + float((after - now) / (now - before)) / 2 * (x0 - x0_before)
    x, _ = posterior(x, ahead, now, after, eta=0)  # a step towards that
    previous = now, x0
""",
    "heun": """
for t, now, after in zip(range({run}.steps, 0, -1), levels, levels[1:]):
    x0 = predict_x0(x, now)  # which clean data is hidden in x?
    there, _ = posterior(x, x0, now, after, eta=0)  # a step towards it
    if t > 1:  # ask again there, and take the step with the mean of both answers
        noise_there = noise_from_x0(there, predict_x0(there, after), after)
        noise = (noise_from_x0(x, x0, now) + noise_there) / 2
        there, _ = posterior(x, x0_from_noise(x, noise, now), now, after, eta=0)
    x = there
""",
}
"""The loop over the steps of each sampler, "ddim" at η = 0 and "ddpm" above; x is the noise before and the data after."""


def _loop(settings: Run | Line | Plane, noise: str) -> str:
    """The loop of the settings' sampler; ``noise`` is the expression that draws fresh noise."""
    name = "ddpm" if settings.sampler == "ddim" and settings.eta > 0 else settings.sampler
    filled = {"{run}": type(settings).__name__.lower(), "{eta}": repr(settings.eta), "{noise}": noise}
    return re.sub("{[a-z]+}", lambda found: filled[found[0]], LOOPS[name]).strip()


def _pictures(run: Run) -> tuple[str, str]:
    guidance = f", guidance={run.guidance!r}" if run.guidance else ""
    return (
        f"Pictures out of noise, by a network trained on {run.model}.",
        f"""
run = {call(run)}
network = load_network(Path("checkpoints/{run.model}.safetensors")).network
predict_x0 = denoiser(network, torch.tensor(run.labels){guidance}, clip=True)

levels = grid(run.curve, run.steps)  # the log-SNR of each state: T + 1 numbers, noise first
own = generators(run.seed, range(run.count))  # each picture's own random numbers
x = normal(network.config.shape, own)

{_loop(run, "normal(network.config.shape, own)")}

tile(to_uint8(x).numpy(), scale=4).save("pictures.png")
""",
    )


def _line(line: Line) -> tuple[str, str]:
    if line.denoiser == "exact":
        predict = "predict_x0 = gaussian_mixture(*mixture(line))"
    else:
        predict = f"""network = load_network(Path("checkpoints/{LINE_NETWORK}.safetensors")).network
predict_x0 = interpolated(table(unlabelled(network)))  # asked at 401 points, linear between them"""
    return (
        "Numbers out of noise: two Gaussians on the line.",
        f"""
line = {call(line)}
{predict}

levels = grid(line.curve, line.steps)  # the log-SNR of each state: T + 1 numbers, noise first
generator = seeded(line.seed)
x = torch.randn(line.count, 1, generator=generator)

{_loop(line, "torch.randn(x.shape, generator=generator)")}

for mode in sampled_modes(line, x[:, 0]):
    print(mode)  # its weight, mean and standard deviation
""",
    )


CHAIN = """
generator = seeded(plane.seed)
x = start(plane)  # points of the data
for now, after in zip(levels[1:].flip(0), levels[:-1].flip(0)):
    noise = torch.randn(x.shape, generator=generator)
    x = transition(x, noise, now, after)
"""

JUMP = """
x0 = start(plane)  # points of the data
noise = torch.randn(x0.shape, generator=seeded(plane.seed))
for level in levels.flip(0):
    x = add_noise(x0, noise, level)
"""

GENERATE = """
generator = seeded(plane.seed)
x = torch.randn(plane.count, 2, generator=generator)

{loop}
"""


def _plane(plane: Plane) -> tuple[str, str]:
    loop = _loop(plane, "torch.randn(x.shape, generator=generator)")
    way = {"chain": CHAIN, "jump": JUMP, "generate": GENERATE.replace("{loop}", loop)}[plane.direction].strip()
    predict = f"{_predict(plane)}\n\n" if plane.direction == "generate" else ""
    about = "Particles out of noise: data in the plane." if predict else "Data that becomes noise, in the plane."
    return (
        about,
        f"""
plane = {call(plane)}
{predict}levels = grid(plane.curve, plane.steps)  # the log-SNR of each state: T + 1 numbers, noise first
{way}

print(x)  # (count, 2)
""",
    )


def _predict(plane: Plane) -> str:
    if plane.denoiser == MINE:
        return """mine = from_file(Path("mine.safetensors"))  # your network, from "Download my network"
predict_x0 = mine.scaling.around(mine.denoise)"""
    if plane.denoiser == "exact" or plane.data == DRAWN:
        return "predict_x0, _ = known(plane)  # the formula"
    return f"""network = load_network(Path("checkpoints/{plane.data}.safetensors")).network
predict_x0 = unlabelled(network)"""


# --- training -------------------------------------------------------------------------------------------------------


TRAIN = """
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
"""


def _training(training: Training) -> tuple[str, str]:
    return (
        "A small network learns to remove noise, and then makes points.",
        f"""
training = {call(training)}
{TRAIN.strip()}
""",
    )


PROGRAMS: dict[type[Settings], Callable[..., tuple[str, str]]] = {
    Run: _pictures,
    Line: _line,
    Plane: _plane,
    Training: _training,
}
"""By the settings' type: the function settings -> what the program is about, and its lines below the imports."""
