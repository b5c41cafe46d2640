"""Train one of the app's networks: python scripts/train.py mnist --data-dir DIR.

Ctrl-C (or a kill) leaves a state in --state-dir from which --resume goes on, to the same weights.
"""

from __future__ import annotations

import argparse
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import _root  # noqa: F401
import torch
from torch import Tensor
from tqdm import tqdm

from ddpm.checkpoint import CheckpointError, save_network
from ddpm.data import IMAGES, TOYS, to_unit
from ddpm.networks import NETWORKS, MLPConfig, UNetConfig
from ddpm.process import seeded
from ddpm.training import Draw, Recipe, Trainer, image_draw, mean_loss, toy_draw


@dataclass(frozen=True)
class Task:
    """What a name on the command line stands for."""

    config: MLPConfig | UNetConfig
    recipe: Recipe
    flip: bool = False


TOY = Recipe(steps=3000, batch=1024, lr=3e-3, ema=0.998, label_dropout=0.0, density="uniform")
TASKS = {name: Task(MLPConfig(shape=(2,), scale=0.55), TOY) for name in TOYS if name != "mixture1d"}
TASKS["mixture1d"] = Task(MLPConfig(shape=(1,), scale=3.9), TOY)
TASKS["mnist"] = Task(
    UNetConfig(shape=(1, 28, 28), num_classes=10, channels=(24, 64, 128), blocks=(1, 2, 1)),
    Recipe(steps=6500, batch=64, lr=1e-3, matrix_lr=4e-3, ema=0.999, bfloat16=True, compile=True),
)
# Half of the channels sit at 8 × 8 and 4 × 4, where a FLOP buys the most of them: 5.3 M parameters, 0.53 GFLOP.
TASKS["cifar10"] = Task(
    UNetConfig(shape=(3, 32, 32), num_classes=10, channels=(32, 64, 128, 192), blocks=(1, 1, 2, 1), attention=2),
    Recipe(steps=40000, batch=64, lr=1e-3, matrix_lr=4e-3, ema=0.9995, bfloat16=True, compile=True),
    flip=True,
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(TASKS), help="what to train")
    parser.add_argument("--data-dir", type=Path, help="an existing copy of the data set (default: download to ./data)")
    parser.add_argument("--out", type=Path, default=Path("checkpoints"), help="folder for the finished checkpoint")
    parser.add_argument("--state-dir", type=Path, default=Path("runs"), help="folder for the state to resume from")
    parser.add_argument("--resume", action="store_true", help="go on from the state in --state-dir")
    parser.add_argument("--steps", type=_positive, help="train for so many batches instead of the recipe's number")
    parser.add_argument("--batch", type=_positive, help="samples a batch")
    parser.add_argument("--lr", type=float, help="highest learning rate")
    parser.add_argument("--matrix-lr", type=float, help="highest learning rate of Muon; 0 trains all with AdamW")
    parser.add_argument("--seed", type=int, help="seed of the weights and of every draw")
    parser.add_argument("--save-every", type=_positive, default=500, help="steps between saved states")
    parser.add_argument("--threads", type=_positive, help="CPU threads (default: torch's choice)")
    parser.add_argument("--device", type=_device, default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def _device(text: str) -> str:
    try:
        torch.zeros(1, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be used here ({str(error).splitlines()[0]})") from None
    return text


def load(name: str, task: Task, data_dir: Path | None) -> tuple[Draw, tuple[Tensor, Tensor], list[str]]:
    """The training batches, held-out (x0, label), and the names of the classes."""
    if name in TOYS:
        held_out = TOYS[name](5000, seeded(task.recipe.seed, 0, 3))
        return toy_draw(TOYS[name], task.recipe), (held_out, torch.zeros(5000, dtype=torch.long)), []
    train, test = (IMAGES[name](data_dir, part) for part in (True, False))
    draw = image_draw(train.images, train.labels, task.recipe, task.flip)
    return draw, (to_unit(test.images[:2000]), test.labels[:2000]), list(train.names)


def main() -> None:
    options = parse()
    task = TASKS[options.name]
    changes = {
        key: getattr(options, key)
        for key in ("steps", "batch", "lr", "matrix_lr", "seed")
        if getattr(options, key) is not None
    }
    task = replace(task, recipe=replace(task.recipe, **changes))
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = True

    draw, held_out, names = load(options.name, task, options.data_dir)
    state = options.state_dir / f"{options.name}.state.safetensors"
    torch.manual_seed(task.recipe.seed)
    network = next(module for config, module in NETWORKS.values() if config is type(task.config))(task.config)
    trainer = Trainer(network.to(options.device), task.recipe)
    if options.resume:
        trainer.restore(state)
    train(trainer, draw, held_out, state, options.save_every)
    about = {"data": options.name, "names": names, "steps": trainer.step, "samples": trainer.step * task.recipe.batch}
    path = options.out / f"{options.name}.safetensors"
    save_network(path, trainer.averaged(), about, half=True)
    print(f"Wrote {path}. Held-out loss {mean_loss(trainer.averaged(), *held_out, task.recipe):.5f}.")


def train(trainer: Trainer, draw: Draw, held_out: tuple[Tensor, Tensor], state: Path, save_every: int) -> None:
    """Runs to the end with a progress bar; saves the state at intervals and, if interrupted, at the end of the step."""
    recipe, smooth = trainer.recipe, None
    begun, first = time.monotonic(), trainer.step
    interrupts: list[int] = []  # a step cut in two could not be resumed exactly
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: interrupts.append(number))
    with tqdm(total=recipe.steps, initial=trainer.step, unit="batch", mininterval=1) as bar:
        for step, loss in trainer.run(draw):
            smooth = loss if smooth is None else 0.98 * smooth + 0.02 * loss
            speed = (step - first) * recipe.batch / (time.monotonic() - begun)
            bar.set_postfix_str(f"loss {smooth:.4f}, {speed:.0f} samples/s", refresh=False)
            bar.update()
            if step % save_every == 0 or step == recipe.steps:
                trainer.save(state)
                bar.write(f"step {step}: held-out loss {mean_loss(trainer.averaged(), *held_out, recipe):.5f}")
            if interrupts and step < recipe.steps:
                trainer.save(state)
                raise SystemExit(f"Stopped at step {step}; go on with --resume.")


if __name__ == "__main__":
    try:
        main()
    except (CheckpointError, OSError, ValueError) as error:
        raise SystemExit(f"train.py: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit("\nStopped before the first step.") from None
