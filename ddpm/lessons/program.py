"""What the lessons' programs share: a program of parts, settings as a person types them, and the loops of the samplers."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ddpm.settings import Settings

WIDTH = 100
"""Characters of a line: more scroll sideways on the page."""

STANDARD = ("import copy", "import math", "from pathlib import Path")
"""What programs import of Python itself, in order."""


def assembled(about: str, *parts: str) -> str:
    """The program of ``parts``, each of which begins with what it imports, if anything, and a blank line.

    It is to be run in the folder of this project, which holds the checkpoints.
    """
    plain: set[str] = set()
    names: dict[str, set[str]] = {}
    body = []
    for part in parts:
        head, _, text = part.strip("\n").partition("\n\n")
        lines = head.split("\n")
        if not all(line.startswith(("import ", "from ")) for line in lines):
            body.append(part.strip("\n"))
            continue
        body.append(text)
        for line in lines:
            module, _, imported = line.removeprefix("from ").partition(" import ")
            if module.startswith("ddpm"):
                names.setdefault(module, set()).update(imported.split(", "))
            else:
                plain.add(line)
    ours = [_import(module, sorted(of, key=_kind)) for module, of in sorted(names.items())]
    groups = [line for line in STANDARD if line in plain], sorted(plain - {*STANDARD}), ours
    imports = "\n\n".join("\n".join(group) for group in groups if group)
    return f'"""{about}"""\n\n{imports}\n\n' + "\n\n".join(body).rstrip("\n") + "\n"


def _import(module: str, names: Sequence[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH + 10:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"


def _kind(name: str) -> tuple[bool, bool, str]:
    """Constants first, then classes, then functions."""
    return not name.isupper(), not name[0].isupper(), name


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


# --- the loops of the samplers ----------------------------------------------------------------------------------------

LOOPS = {
    "ddim": """
from ddpm.process import posterior

for now, after in zip(levels, levels[1:]):
    x0 = predict_x0(x, now)  # which clean data is hidden in x?
    x, _ = posterior(x, x0, now, after, eta=0)  # a step towards it
""",
    "ddpm": """
from ddpm.process import posterior

for t, now, after in zip(range({run}.steps, 0, -1), levels, levels[1:]):
    x0 = predict_x0(x, now)  # which clean data is hidden in x?
    mean, std = posterior(x, x0, now, after, eta={eta})  # a step towards it
    z = {noise} if t > 1 else 0
    x = mean + std * z
""",
    "ddpm-beta": """
from ddpm.process import posterior
from ddpm.schedule import betas

for t, now, after, beta in zip(range({run}.steps, 0, -1), levels, levels[1:], betas(levels)):
    x0 = predict_x0(x, now)  # which clean data is hidden in x?
    mean, _ = posterior(x, x0, now, after)  # a step towards it
    z = {noise} if t > 1 else 0
    x = mean + float(beta.sqrt()) * z
""",
    "dpm-solver++": """
from ddpm.process import posterior

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
from ddpm.process import noise_from_x0, posterior, x0_from_noise

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


def loop(settings: Settings, noise: str, sampler: str, eta: float) -> str:
    """The loop of ``sampler`` at ``eta`` over the steps of ``settings``; ``noise`` is the expression that draws fresh noise."""
    name = "ddpm" if sampler == "ddim" and eta > 0 else sampler
    filled = {"{run}": type(settings).__name__.lower(), "{eta}": repr(eta), "{noise}": noise}
    text = LOOPS[name]
    for mark, written in filled.items():
        text = text.replace(mark, written)
    return text
