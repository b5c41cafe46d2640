"""Sample pictures into a PNG: python scripts/sample.py --label 3 --count 9 --steps 50 --seed 7 --out digits.png.

A run's settings give the same pictures here as on the page: --link takes them from the address of
the page of digits or of colour pictures.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import _root  # noqa: F401
import torch
from tqdm import tqdm

from ddpm.checkpoint import CheckpointError, load_network
from ddpm.data import to_uint8
from ddpm.files import write_beside
from ddpm.lessons.models import MODELS
from ddpm.lessons.pictures.run import ANY, EACH, FIRST, Run, perform
from ddpm.plots import tile
from ddpm.settings import Number, read

SETTINGS = Run.allowed({})
CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
ABOUT = {"label": f"{EACH}, {ANY}, or a class: " + "; ".join(f"{k}: {', '.join(v)}" for k, v in MODELS.items())}
SCALE = Number(1, 32, whole=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, setting in SETTINGS.items():
        about = f"{ABOUT.get(name) or setting.problem(None)} (default: {getattr(Run, name)})"
        parser.add_argument(f"--{name}", help=about, metavar="X", default=argparse.SUPPRESS)
    whole_run = parser.add_mutually_exclusive_group()
    whole_run.add_argument("--run", type=Path, metavar="FILE.json", help="take the settings not given here from a file")
    whole_run.add_argument("--link", help="take the settings not given here from the page's address, or its query")
    parser.add_argument("--save-run", type=Path, metavar="FILE.json", help="write the settings to a file")
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="the folder of the networks")
    parser.add_argument("--scale", default="4", help=f"enlargement; {SCALE.problem(None)} (default: 4)")
    parser.add_argument("--out", type=Path, default=Path("samples.png"), help="the picture (default: samples.png)")
    return parser.parse_args(arguments)


def run_of(options: argparse.Namespace) -> tuple[Run, list[str]]:
    """The run asked for, and a sentence for each value of a link that had to be corrected."""
    run, notes = Run(), []
    if options.run:
        try:
            run = Run.from_json(options.run.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{options.run} holds no run: {error}") from error
    elif options.link is not None:
        link = urlsplit(options.link if re.search(r"[?/]", options.link) else f"?{options.link}")
        page, query = link.path.rstrip("/").rpartition("/")[2], dict(parse_qsl(link.query, keep_blank_values=True))
        run, notes = Run.from_query(FIRST.get(page, Run()).query() | query)
        if page not in FIRST and "guidance" not in query:  # the app may be below a path, where links hold every setting
            notes = [f"The link does not say that /{page} shows pictures; it is taken for the page of digits.", *notes]
    given = {name: read(SETTINGS[name], text) for name, text in vars(options).items() if name in SETTINGS}
    return replace(run, **given), notes


def main() -> None:
    options = parse()
    run, notes = run_of(options)
    scale = read(SCALE, options.scale)
    if problem := SCALE.problem(scale):
        raise ValueError(f"The scale is {scale!r}; it {problem}.")
    print(*notes, sep="\n", end="\n" if notes else "")
    network = load_network(options.checkpoints / f"{run.network}.safetensors").network
    network.to(memory_format=torch.channels_last)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.save_run:
        write_beside(options.save_run, f"{run.json()}\n".encode())
    for step in tqdm(perform(run, network), total=run.steps + 1, unit="step"):
        pictures = to_uint8(step.x)
    tile(pictures.numpy(), scale).save(options.out, "PNG")
    print(f"Wrote {options.out}.")


if __name__ == "__main__":
    try:
        main()
    except (CheckpointError, OSError, ValueError) as error:
        raise SystemExit(f"sample.py: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit("\nStopped; no picture is written.") from None
