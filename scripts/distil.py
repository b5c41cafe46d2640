"""Distil a student that draws in one to four steps from an image network: python scripts/distil.py mnist --data-dir DIR.

Ctrl-C (or a kill) leaves a state in --state-dir from which --resume goes on, to the same weights.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import _root  # noqa: F401
import torch
from _arguments import keep_state, positive
from tqdm import tqdm

from ddpm.checkpoint import CheckpointError, load_network, save_network
from ddpm.data import IMAGES
from ddpm.serving.backend import fast
from ddpm.training.distillation import Batch, Distiller, held_out_loss, path_draw
from ddpm.training.recipe import Recipe

RECIPES = {
    "mnist": Recipe(steps=12_000, batch=64, lr=5e-4, matrix_lr=1.5e-3, ema=0.999),
    "cifar10": Recipe(steps=12_000, batch=64, lr=5e-4, matrix_lr=1.5e-3, matrix_decay=0.05, ema=0.999),
}
GUIDANCE = {"mnist": 0.2, "cifar10": 1.0}
"""That of the teacher, which the student has built in."""

HELD_OUT = 1
"""Added to the seed of the paths that tell how well the student follows those that it is not trained on."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(RECIPES), help="the data set whose network teaches")
    parser.add_argument("--data-dir", type=Path, help="an existing copy of the data set (default: download to ./data)")
    parser.add_argument("--folder", type=Path, default=Path("checkpoints"), help="folder of the teacher's checkpoint")
    parser.add_argument("--out", type=Path, default=Path("checkpoints"), help="folder for the student's checkpoint")
    parser.add_argument("--state-dir", type=Path, default=Path("runs"), help="folder for the state to resume from")
    parser.add_argument("--resume", action="store_true", help="go on from the state in --state-dir")
    parser.add_argument("--overwrite", action="store_true", help="begin anew though --state-dir has a state")
    parser.add_argument("--steps", type=positive, help="train for so many batches instead of the recipe's number")
    parser.add_argument("--guidance", type=float, help="the teacher's guidance (default: 0.2 MNIST, 1 CIFAR-10)")
    parser.add_argument(
        "--save-every", type=positive, default=250, help="steps between saved states and held-out losses"
    )
    parser.add_argument("--threads", type=positive, help="CPU threads (default: torch's choice)")
    return parser.parse_args()


def main() -> None:
    options = parse()
    recipe = RECIPES[options.name]
    recipe = replace(recipe, steps=options.steps or recipe.steps)
    guidance = GUIDANCE[options.name] if options.guidance is None else options.guidance
    if options.threads:
        torch.set_num_threads(options.threads)
    teacher, about = load_network(options.folder / f"{options.name}.safetensors")
    data = IMAGES[options.name](options.data_dir, True)
    student, _ = load_network(options.folder / f"{options.name}.safetensors")
    trainer = Distiller(student.train().requires_grad_(), recipe)
    state = options.state_dir / f"{options.name}-student.state.safetensors"
    if options.resume:
        trainer.restore(state)
    elif not options.overwrite:
        keep_state(state)
    served = fast(teacher)
    held_out = [path_draw(served, data, guidance, 500, recipe.seed + HELD_OUT)(0)]
    draw = path_draw(served, data, guidance, recipe.batch, recipe.seed)
    train(trainer, draw, held_out, state, options.save_every)
    about = {**about, "guidance": guidance, "steps": trainer.step, "samples": trainer.step * recipe.batch}
    path = options.out / f"{options.name}-student.safetensors"
    save_network(path, trainer.averaged(), about, half=True)
    print(
        f"Wrote {path}. Held out: distance {held_out_loss(trainer.averaged(), held_out):.5f} to the ends of the paths."
    )


def train(trainer: Distiller, draw: Callable[[int], Batch], held_out: list[Batch], state: Path, every: int) -> None:
    """Runs to the end or, if interrupted, to the end of its step; keeps a state, and averaged weights, at intervals."""
    interrupts: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: interrupts.append(number))
    total, smooth = trainer.recipe.steps, None
    with closing(trainer.run(draw)) as steps, tqdm(total=total, initial=trainer.step, mininterval=10) as bar:
        for step, loss in steps:
            smooth = loss if smooth is None else torch.lerp(smooth, loss, 0.02)
            bar.set_postfix_str(f"loss {smooth:.4f}", refresh=False)
            bar.update()
            if step % every == 0 or interrupts:
                trainer.save(state)
                averaged = trainer.averaged()
                save_network(
                    state.with_name(f"{state.name.split('.')[0]}-{step:06}.safetensors"),
                    averaged,
                    {"steps": step},
                    half=True,
                )
                tqdm.write(f"step {step}: training loss {smooth:.5f}, held out {held_out_loss(averaged, held_out):.5f}")
            if interrupts and step < total:
                raise SystemExit(f"Stopped at step {step}; go on with --resume.")


if __name__ == "__main__":
    try:
        main()
    except (CheckpointError, OSError, ValueError) as error:
        raise SystemExit(f"distil.py: {error}") from error
