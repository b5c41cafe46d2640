"""Train one of the app's networks: python scripts/train.py mnist --data-dir DIR.

Ctrl-C (or a kill) leaves a state in --state-dir from which --resume goes on, to the same weights. On several GPUs:
torchrun --nproc-per-node N scripts/train.py ..., which shares each batch among them.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import _root  # noqa: F401
import torch
from _arguments import keep_state, positive
from torch import Tensor, nn
from tqdm import tqdm

from ddpm import streams
from ddpm.checkpoint import CheckpointError, load_network, save_network
from ddpm.data import both_parts, to_uint8, to_unit
from ddpm.denoiser import denoiser
from ddpm.networks import NETWORKS, MLPConfig, UNetConfig
from ddpm.plots import tile
from ddpm.process import seeded
from ddpm.sampling import dpm_solver, follow, generators, normal
from ddpm.schedule import Cosine, grid
from ddpm.toys import TOYS
from ddpm.training import parallel
from ddpm.training.loop import Draw, Progress, Trainer, image_draw, mean_loss, simple_loss, toy_draw
from ddpm.training.recipe import Recipe

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

HeldOut = tuple[Tensor, Tensor]
"""x0 (N, *D) and label (N,) that no training sees."""

LOG_EVERY = 10
"""Steps between TensorBoard's entries, for each of which a GPU has to finish its work."""


@dataclass(frozen=True)
class Task:
    """What a name on the command line stands for."""

    config: MLPConfig | UNetConfig
    recipe: Recipe
    flip: bool = False


TOY = Recipe(steps=3000, batch=1024, lr=3e-3, ema=0.998, label_dropout=0.0, density="uniform")
TASKS = {name: Task(MLPConfig(shape=(2,), scale=0.55), TOY) for name in TOYS if name != "mixture1d"}
TASKS["mixture1d"] = Task(MLPConfig(shape=(1,), scale=3.9), TOY)
# In float32: it costs a quarter of the speed, but in bfloat16 rounding buries the gradients of a trained U-Net's coarse
# levels, to which Muon nevertheless gives strides of full length (--measure shows it).
TASKS["mnist"] = Task(
    UNetConfig(shape=(1, 28, 28), num_classes=10, channels=(24, 64, 128), blocks=(1, 2, 1)),
    Recipe(steps=36500, batch=64, lr=1e-3, matrix_lr=4e-3, ema=0.999),
)
# Half of the channels sit at 8 × 8 and 4 × 4, where a FLOP buys the most of them: 5.3 M parameters, 0.53 GFLOP.
TASKS["cifar10"] = Task(
    UNetConfig(shape=(3, 32, 32), num_classes=10, channels=(32, 64, 128, 192), blocks=(1, 1, 2, 1), attention=2),
    Recipe(steps=59200, batch=64, lr=1e-3, matrix_lr=4e-3, matrix_decay=0.05, ema=0.999),
    flip=True,
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(TASKS), help="what to train")
    parser.add_argument("--data-dir", type=Path, help="an existing copy of the data set (default: download to ./data)")
    parser.add_argument("--out", type=Path, default=Path("checkpoints"), help="folder for the finished checkpoint")
    parser.add_argument("--state-dir", type=Path, default=Path("runs"), help="folder for the state to resume from")
    parser.add_argument("--resume", action="store_true", help="go on from the state in --state-dir")
    parser.add_argument("--overwrite", action="store_true", help="begin anew though --state-dir has a state")
    parser.add_argument("--steps", type=positive, help="train for so many batches instead of the recipe's number")
    parser.add_argument("--batch", type=positive, help="samples a batch, of all processes together")
    parser.add_argument("--lr", type=float, help="highest learning rate")
    parser.add_argument("--matrix-lr", type=float, help="highest learning rate of Muon; 0 trains all with AdamW")
    parser.add_argument("--seed", type=int, help="seed of the weights and of every draw")
    parser.add_argument(
        "--save-every", type=positive, default=500, help="steps between saved states and held-out losses"
    )
    parser.add_argument("--sample-every", type=positive, default=1000, help="steps between pictures in --state-dir")
    parser.add_argument("--log-dir", type=_log_dir, help="folder for TensorBoard: losses, rates and pictures")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="print the speed of ways to compute and what bfloat16 does to the gradients, and train nothing",
    )
    parser.add_argument("--threads", type=positive, help="CPU threads (default: torch's choice)")
    parser.add_argument("--device", type=_device, default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def _log_dir(text: str) -> Path:
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise argparse.ArgumentTypeError("it needs the package tensorboard; pip install tensorboard") from None
    return Path(text)


def _device(text: str) -> str:
    try:
        torch.zeros(1, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be used here ({str(error).splitlines()[0]})") from None
    return text


def load(name: str, task: Task, data_dir: Path | None, device: str) -> tuple[Draw, HeldOut, list[str]]:
    """The training batches, the held-out data and the names of the classes; all images lie on ``device``."""
    if name in TOYS:
        held_out = TOYS[name](5000, seeded(task.recipe.seed, 0, streams.HELD_OUT_TOYS))
        return toy_draw(TOYS[name], task.recipe), (held_out.to(device), torch.zeros(5000, dtype=torch.long)), []
    train, test = both_parts(name, data_dir)
    draw = image_draw(train.images.to(device), train.labels.to(device), task.recipe, task.flip)
    return draw, (to_unit(test.images[:2000].to(device)), test.labels[:2000]), list(train.names)


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
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    with parallel.joined(options.device) as device:
        draw, held_out, names = load(options.name, task, options.data_dir, device)
        if options.measure:
            measure(task, draw, device)
            return agree(task, draw, device, options.out / f"{options.name}.safetensors")
        trainer = trainer_of(task, device)
        state = options.state_dir / f"{options.name}.state.safetensors"
        if options.resume:
            trainer.restore(state)
        elif not options.overwrite:
            keep_state(state)
        train(trainer, draw, held_out, state, options)
        if parallel.rank() == 0 and trainer.step >= task.recipe.steps:
            finish(trainer, held_out, names, options)


def trainer_of(task: Task, device: str) -> Trainer:
    """A trainer of a fresh network, the same for the same seed."""
    torch.manual_seed(task.recipe.seed)
    network = next(module for config, module in NETWORKS.values() if config is type(task.config))(task.config)
    return Trainer(network.to(device), task.recipe)


def train(trainer: Trainer, draw: Draw, held_out: HeldOut, state: Path, options: argparse.Namespace) -> None:
    """Runs to the end or, if any process is interrupted, to the end of its step; the first process shows and saves."""
    recipe, first = trainer.recipe, parallel.rank() == 0
    interrupts: list[int] = []  # a step cut in two could not be resumed exactly
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: interrupts.append(number))
    steps = watch(trainer, draw, held_out, state, options) if first else trainer.run(draw)
    with closing(steps):
        for step, _ in steps:
            if parallel.anywhere(bool(interrupts)) and step < recipe.steps:
                if first:
                    trainer.save(state)
                    raise SystemExit(f"Stopped at step {step}; go on with --resume.")
                return


def watch(
    trainer: Trainer, draw: Draw, held_out: HeldOut, state: Path, options: argparse.Namespace
) -> Iterator[Progress]:
    """The steps of ``trainer``, shown by a progress bar and TensorBoard; keeps states and pictures at intervals."""
    recipe, smooth, begun, first = trainer.recipe, None, time.monotonic(), trainer.step
    with (
        board(options, first) as log,
        tqdm(total=recipe.steps, initial=first, unit="batch", mininterval=1) as bar,
    ):
        for step, loss in trainer.run(draw):
            last = step == recipe.steps
            smooth = loss if smooth is None else torch.lerp(smooth, loss, 0.02)
            speed = (step - first) * recipe.batch / (time.monotonic() - begun)
            if bar.update() or last:
                bar.set_postfix_str(f"loss {smooth:.4f}, {speed:.0f} samples/s")
            if log and step % LOG_EVERY == 0:
                log.add_scalar("loss/training", loss, step)
                log.add_scalar("samples per second", speed, step)
                log.add_scalar("learning rate", trainer.optimizers[0].param_groups[0]["lr"], step)
            if step % options.save_every == 0 or last:
                trainer.save(state)
                held_out_loss = mean_loss(trainer.averaged(), *held_out, recipe)
                bar.write(f"step {step}: held-out loss {held_out_loss:.5f}")
                if log:
                    log.add_scalar("loss/held-out", held_out_loss, step)
            if trainer.network.config.num_classes and (step % options.sample_every == 0 or last):
                pictures = one_of_each(trainer.averaged())
                state.parent.mkdir(parents=True, exist_ok=True)
                tile(pictures.numpy(), 4).save(state.with_name(f"{options.name}-{step:06}.png"))
                if log:
                    log.add_images("one of each class", pictures, step)
            yield Progress(step, loss)


def board(options: argparse.Namespace, step: int) -> AbstractContextManager[SummaryWriter | None]:
    """TensorBoard's writer into --log-dir, after ``step`` steps; what an earlier training wrote beyond them is hidden."""
    if options.log_dir is None:
        return nullcontext()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(options.log_dir / options.name), purge_step=step + 1)


def one_of_each(network: nn.Module) -> Tensor:
    """A sample of each class (N, C, H, W) uint8 by 20 steps of DPM-Solver++, from the same noise at every call."""
    count, device = network.config.num_classes, next(network.parameters()).device
    noise = normal(network.config.shape, generators(0, range(count))).to(device)
    denoise = denoiser(network, torch.arange(count, device=device), clip=True)
    for step in follow(dpm_solver(grid(Cosine(), 20), noise), denoise):
        x = step.x
    return to_uint8(x).cpu()


def finish(trainer: Trainer, held_out: HeldOut, names: list[str], options: argparse.Namespace) -> None:
    """Writes the averaged network's checkpoint and says how good it is on held-out data."""
    network, recipe = trainer.averaged(), trainer.recipe
    about = {"data": options.name, "names": names, "steps": trainer.step, "samples": trainer.step * recipe.batch}
    path = options.out / f"{options.name}.safetensors"
    save_network(path, network, about, half=True)
    ours = f"{network.config.prediction}-loss {mean_loss(network, *held_out, recipe):.5f}"
    print(f"Wrote {path}. Held out: {ours}, eps-loss {simple_loss(network, *held_out):.5f} (as Ho et al. 2020).")


def measure(task: Task, draw: Draw, device: str, seconds: float = 5) -> None:
    """Prints how many samples a second a training takes, by number format and memory layout, compiled and not."""
    if parallel.size() > 1:
        raise ValueError(f"--measure is for one process, not {parallel.size()}; start it without torchrun.")

    def contiguous(step: int) -> tuple[Tensor, Tensor]:
        x0, label = draw(step)
        return x0.contiguous(), label

    for bfloat16, channels_last, compiled in (
        (False, False, False), (False, True, False), (False, True, True), (True, True, False), (True, True, True),
    ):  # fmt: skip
        recipe = replace(task.recipe, steps=10**9, bfloat16=bfloat16, compile=compiled)
        trainer = trainer_of(replace(task, recipe=recipe), device)
        if not channels_last:  # Muon then misses the weights, but takes its time
            trainer.network.to(memory_format=torch.contiguous_format)
        way = ["bfloat16" if bfloat16 else "float32", "channels-last" if channels_last else "contiguous"]
        way += ["compiled"] if compiled else []
        reached = speed(trainer, draw if channels_last else contiguous, seconds)
        print(f"{', '.join(way):35} {reached:8.0f} samples/s", flush=True)


def agree(task: Task, draw: Draw, device: str, path: Path, batches: int = 16) -> None:
    """Prints how far bfloat16 turns the gradients of the weights in ``path``: what is fast may no longer train."""
    if not path.exists():
        return print(f"{path} does not exist: nothing to compare the gradients of.")
    exact, rounded = (gradients(task, draw, device, path, batches, bfloat16) for bfloat16 in (False, True))
    cosines = torch.stack([nn.functional.cosine_similarity(a, b, 0) for a, b in zip(exact, rounded)])
    low, middle, high = cosines.quantile(torch.tensor([0.1, 0.5, 0.9], device=device)).tolist()
    print(f"Gradients of {path} over {batches} batches, in bfloat16 and in float32: cosine {middle:.2f} for the median")
    print(f"convolution or matrix, {low:.2f} to {high:.2f} for eight in ten.")


def gradients(task: Task, draw: Draw, device: str, path: Path, batches: int, bfloat16: bool) -> list[Tensor]:
    """For each convolution or matrix of the network in ``path``, its flattened gradient over the first batches."""
    network, recipe = load_network(path)[0], replace(task.recipe, bfloat16=bfloat16, compile=False)
    trainer = Trainer(network.to(device).requires_grad_().train(), recipe)
    for step in range(batches):
        trainer.step = step
        trainer.backward(*draw(step))
    return [weight.grad.flatten() for weight in trainer.weights if weight.ndim > 1]


def speed(trainer: Trainer, draw: Draw, seconds: float) -> float:
    """Samples a second over at least ``seconds``, after three steps that compile and warm up."""
    progress = trainer.run(draw)
    for _ in range(3):
        next(progress).loss.item()
    begun, first = time.monotonic(), trainer.step
    while time.monotonic() < begun + seconds or trainer.step == first:
        loss = next(progress).loss
    loss.item()
    return (trainer.step - first) * trainer.recipe.batch / (time.monotonic() - begun)


if __name__ == "__main__":
    try:
        main()
    except (CheckpointError, OSError, ValueError) as error:
        raise SystemExit(f"train.py: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit("\nStopped before the first step.") from None
