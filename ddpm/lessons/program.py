"""Settings as a short Python program that computes, with this library, what the page shows for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from ddpm.lessons.learning.run import Learning
from ddpm.lessons.likelihood.run import ONE, Likelihood
from ddpm.lessons.line.run import Line
from ddpm.lessons.models import NETWORK as LINE_NETWORK
from ddpm.lessons.noising.run import UPLOADED, Noising
from ddpm.lessons.pictures.run import Run
from ddpm.lessons.plane.run import MINE, Plane
from ddpm.lessons.points import DRAWN
from ddpm.lessons.schedules.run import Curves
from ddpm.lessons.train.run import Training
from ddpm.settings import Settings

WIDTH = 100
"""Characters of a line: more scroll sideways on the page."""

IMPORTS = {
    "ddpm": ("picture",),
    "ddpm.checkpoint": ("load_network",),
    "ddpm.lessons.schedules.run": ("NAMES", "Curves"),
    "ddpm.data": ("TOYS", "to_uint8", "to_unit"),
    "ddpm.denoiser": ("denoiser", "unlabelled"),
    "ddpm.exact": ("gaussian_mixture",),
    "ddpm.lessons.learning.run": (
        *("LABELS", "PICTURES", "RATE", "SAMPLING_STEPS", "SNAPSHOTS", "STEPS", "Learning", "load_snapshots"),
    ),
    "ddpm.lessons.likelihood.run": (
        *("POINT_ROWS", "REFERENCE", "ROUNDS", "ROWS", "Likelihood", "discretised_reconstruction"),
        *("reconstruction", "strata"),
    ),
    "ddpm.lessons.line.run": ("Line", "interpolated", "mixture", "sampled_modes", "table"),
    "ddpm.lessons.train.run": ("Apprentice", "Training", "from_file"),
    "ddpm.lessons.noising.run": ("BINS", "EDGE", "VALUES", "Noising"),
    "ddpm.picture": ("examples", "fitted", "held_out"),
    "ddpm.lessons.plane.run": ("Plane", "known", "start"),
    "ddpm.plots": ("tile",),
    "ddpm.process": (
        *("add_noise", "noise_from_x0", "posterior", "seeded", "stratified", "target", "transition"),
        *("uniform_density", "x0_from_noise"),
    ),
    "ddpm.lessons.pictures.run": ("Run", "shown"),
    "ddpm.sampling": ("generators", "normal"),
    "ddpm.schedule": ("Cosine", "Linear", "alpha", "alpha_bar", "betas", "grid", "sigma"),
    "ddpm.training.loop": ("rate",),
}
"""Where the names that programs use come from: each program imports those that it has in it."""

STANDARD = {"copy": "import copy", "math": "import math", "Path": "from pathlib import Path"}


def program(settings: Settings) -> str:
    """The program of ``settings``; it is to be run in the folder of this project, which holds the checkpoints."""
    about, body = PROGRAMS[type(settings)](settings)
    return f'"""{about}"""\n\n{_imports(body)}\n\n{body.strip()}\n'


def call(settings: Settings, **written: str) -> str:
    """``settings`` as a person types them: those that are not the defaults, some of them ``written`` as given."""
    kind = type(settings)
    given = settings.values().items()
    changed = [f"{name}={written.get(name) or _typed(value)}" for name, value in given if value != getattr(kind, name)]
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


# --- noising and schedules ------------------------------------------------------------------------------------------

NOISING = """
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
predicted_x0 = unlabelled(network)(x[None], log_snr)[0]  # which picture is hidden in x?
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

FACTORS = {
    "mix": "signal, std = torch.tensor([1 - t / T, t / T], dtype=torch.float64)",
    "mix-uniform": "signal, std = torch.tensor([1 - t / T, t / T / math.sqrt(3)], dtype=torch.float64)",
}
"""Of x0 and of the noise, where they are not those of the schedule; uniform noise on [−1, 1] has the variance 1/3."""


def _noising(noising: Noising) -> tuple[str, str]:
    made, written = call(noising), ""
    if noising.picture == UPLOADED:
        written = 'upload = picture.encode(picture.from_file(Path("mine.png")), 8)  # here goes the path of your file\n'
        made = call(noising, upload="upload")
    if noising.way == "chain":
        states = "states = dict(enumerate(chain(x0, seeded(noising.seed)), 1))"
    else:
        states = "states = {k: at_once(x0, k, noising.way, seeded(noising.seed)) for k in (t, *strip)}"
    factors = FACTORS.get(noising.way, "signal, std = alpha(levels[t]), sigma(levels[t])")
    body = NOISING.replace("{model}", noising.model).replace("{states}", states).replace("{factors}", factors)
    return "A picture disappears in noise, and a network looks for it.", f"{written}noising = {made}{body}"


CURVES = """
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
"""


def _curves(curves: Curves) -> tuple[str, str]:
    return "All noise schedules, and a picture under each.", f"curves = {call(curves)}{CURVES}"


# --- learning and likelihood ----------------------------------------------------------------------------------------

LEARNING = """
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
"""


def _learning(learning: Learning) -> tuple[str, str]:
    about = "One step of Algorithm 1, and what networks draw that learned for longer and longer."
    return about, f"learning = {call(learning)}{LEARNING}"


LIKELIHOOD = """
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

PHOTOS = """
network = load_network(Path("checkpoints/{data}.safetensors")).network
predict_x0 = denoiser(network, torch.tensor([network.config.num_classes]), clip=True)  # without a label
x0 = to_unit({photos})

def draw(count, generator):
    return x0[torch.randint(len(x0), (count,), generator=generator)]
"""

POINTS = """
{predict}
draw = TOYS[asked.data]
x0 = draw(REFERENCE, seeded(asked.seed, 0, 1))
"""

LEARNED = """network = load_network(Path("checkpoints/{data}.safetensors")).network
predict_x0 = denoiser(network, torch.tensor([network.config.num_classes]))"""

EXACT = """exact = -draw.log_density(x0) * bits
print("exact:", float(exact.mean()), "+-", float(exact.std() / len(exact) ** 0.5))
"""


def _likelihood(asked: Likelihood) -> tuple[str, str]:
    if asked.of_pictures:
        photos = "examples(asked.data)[asked.example][None]" if asked.of == ONE else "held_out(asked.data)"
        data = PHOTOS.format(data=asked.data, photos=photos)
        bound = LIKELIHOOD.format(rows="ROWS", decoder="discretised_reconstruction", and_prior="")
    else:
        predict = "predict_x0 = TOYS[asked.data].exact" if asked.is_exact else LEARNED.format(data=asked.data)
        data, error = POINTS.format(predict=predict), " + prior.var() / len(prior)"
        bound = LIKELIHOOD.format(rows="POINT_ROWS", decoder="reconstruction", and_prior=error) + EXACT
    return "The bound on how likely the data is, term by term.", f"asked = {call(asked)}{data}{bound}"


PROGRAMS: dict[type[Settings], Callable[..., tuple[str, str]]] = {
    Run: _pictures,
    Line: _line,
    Plane: _plane,
    Training: _training,
    Noising: _noising,
    Curves: _curves,
    Learning: _learning,
    Likelihood: _likelihood,
}
"""By the settings' type: the function settings -> what the program is about, and its lines below the imports."""
