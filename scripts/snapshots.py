"""Train the Learning lesson's networks, kept as they were on the way: python scripts/snapshots.py unet --data-dir DIR.

Ctrl-C (or a kill) leaves a state in --state-dir from which --resume goes on, to the same weights.
"""

from __future__ import annotations

import argparse
import json
import signal
from dataclasses import replace
from pathlib import Path

import _root  # noqa: F401
import torch
from _arguments import keep_state, positive
from torch import Tensor, nn

from ddpm.checkpoint import CheckpointError, save_network
from ddpm.data import both_parts, to_unit
from ddpm.files import read_json, write_beside
from ddpm.lessons.models import KEPT
from ddpm.networks import NETWORKS, ConvolutionsConfig, UNetConfig
from ddpm.training.loop import Draw, Trainer, image_draw, simple_losses
from ddpm.training.recipe import Recipe

PROBE = 2000
"""Pictures, seen in training and held out, on which the losses are measured."""

BINS = 20
"""Ranges of t, 50 of the 1,000 steps each, in which the held-out loss is averaged."""

RECIPE = Recipe(steps=12_000, batch=16, lr=2e-3, density="steps", compile=True)

TASKS: dict[str, tuple[UNetConfig | ConvolutionsConfig, Recipe]] = {
    "unet": (
        UNetConfig((1, 28, 28), 10, channels=(8, 24, 48), embedding=64),
        replace(RECIPE, lr=1e-3, matrix_lr=4e-3, density="cosine"),
    ),
    "convolutions": (ConvolutionsConfig((1, 28, 28)), RECIPE),
}
"""The U-Net learns as the app's larger one does, to predict v: one of its size that predicts the noise itself draws badly,
because near pure noise the errors of ε̂ count 150 times in x̂0. The two convolutions learn by Algorithm 1 as it stands."""

Curves = dict[str, list]
"""[step, ε-loss] pairs of "training" and "held_out", and [step, [held-out ε-loss of each range of t]] of "by_t"; JSON."""

Probes = dict[str, tuple[Tensor, Tensor]]
"""x0 (N, *D) and label (N,) of "training" and "held_out" pictures."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(TASKS), help="which network")
    parser.add_argument("--data-dir", type=Path, help="an existing copy of MNIST (default: download to ./data)")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/snapshots"), help="folder for the snapshots")
    parser.add_argument("--state-dir", type=Path, default=Path("runs"), help="folder for the state to resume from")
    parser.add_argument("--overwrite", action="store_true", help="begin anew though --state-dir has a state")
    parser.add_argument("--resume", action="store_true", help="go on from the state in --state-dir")
    parser.add_argument("--steps", type=positive, default=RECIPE.steps, help="train for so many batches")
    parser.add_argument("--save-every", type=positive, default=250, help="batches between saved states")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: torch's choice)")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    config, recipe = TASKS[options.name]
    recipe = replace(recipe, steps=options.steps)
    train, test = both_parts("mnist", options.data_dir)
    probes = {
        name: (to_unit(data.images[:PROBE]), data.labels[:PROBE])
        for name, data in (("training", train), ("held_out", test))
    }
    torch.manual_seed(recipe.seed)
    module = next(module for kind, module in NETWORKS.values() if kind is type(config))
    trainer, curves = Trainer(module(config), recipe), {"training": [], "held_out": [], "by_t": []}
    state = options.state_dir / f"snapshots-{options.name}.safetensors"
    if options.resume:
        trainer.restore(state)
        curves = read_json(state.with_suffix(".json"))
    else:
        if not options.overwrite:
            keep_state(state)
        keep(trainer, curves, probes, options)
    run(trainer, image_draw(train.images, train.labels, recipe), curves, probes, state, options)


def run(trainer: Trainer, draw: Draw, curves: Curves, probes: Probes, state: Path, options: argparse.Namespace) -> None:
    """Trains to the end, or to the end of the step in which it is interrupted, recording the losses in ``curves``."""
    interrupts: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: interrupts.append(number))
    for step, _ in trainer.run(draw):
        if step in KEPT or step == trainer.recipe.steps:
            keep(trainer, curves, probes, options)
        elif is_measured(step):
            measure(trainer.averaged(), step, curves, probes)
        if step % options.save_every == 0 or interrupts:
            trainer.save(state)
            write_beside(state.with_suffix(".json"), json.dumps(curves).encode())
        if interrupts:
            raise SystemExit(f"Stopped at step {step}; go on with --resume.")


def is_measured(step: int) -> bool:
    """Whether the held-out loss is measured: at 10, 20, 50, 100, 200, … and at every thousandth step."""
    return step in {digit * 10**power for digit in (1, 2, 5) for power in (1, 2, 3)} or step % 1000 == 0


def measure(network: nn.Module, step: int, curves: Curves, probes: Probes) -> list[float]:
    """Adds the losses after ``step`` batches to ``curves``; gives the held-out one for each range of t, noise first."""
    for name, probe in probes.items():
        losses = simple_losses(network, *probe)
        curves[name].append([step, losses.mean().item()])
    print(f"step {step}: held-out ε-loss {losses.mean():.4f}", flush=True)
    return [part.mean().item() for part in losses.tensor_split(BINS)]


def keep(trainer: Trainer, curves: Curves, probes: Probes, options: argparse.Namespace) -> None:
    """Writes the averaged network as it is now, and the curves up to it."""
    network, step = trainer.averaged(), trainer.step
    curves["by_t"].append([step, measure(network, step, curves, probes)])
    about = {"data": "mnist", "steps": step, "samples": step * trainer.recipe.batch}
    save_network(options.out / f"{options.name}-{step:05}.safetensors", network, about, half=True)
    write_beside(options.out / f"{options.name}.json", json.dumps(curves).encode())


if __name__ == "__main__":
    try:
        main()
    except (CheckpointError, OSError, ValueError) as error:
        raise SystemExit(f"snapshots.py: {error}") from error
