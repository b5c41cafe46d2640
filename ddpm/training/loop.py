"""The training loop as a generator, with EMA weights and an exact resume, in one process or several."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from ddpm import process, streams
from ddpm.checkpoint import CheckpointError, load_tensors, save_tensors
from ddpm.data import to_unit
from ddpm.denoiser import denoiser
from ddpm.networks import Configured, MLPConfig, UNetConfig
from ddpm.process import DENSITIES, Predict, Prediction, seeded
from ddpm.schedule import Linear, grid
from ddpm.training import parallel
from ddpm.training.optimizers import _optimizers
from ddpm.training.recipe import Recipe

Draw = Callable[[int], tuple[Tensor, Tensor]]
"""step -> (x0 (B, *D) float32, label (B,) int64): the batch of that step, the same whenever it is asked for."""


LOOK_EVERY = 10
"""Steps from one look at the loss on a GPU to the next."""


class Diverged(ValueError):
    """A training whose loss is no longer a finite number."""


class Progress(NamedTuple):
    """After ``step`` steps: the mean loss of the batch just trained on, (), on its device, for which reading it waits."""

    step: int
    loss: Tensor


class Trainer:
    """A network, its EMA copy, its optimizers and the step reached.

    Every random draw of a step comes from (seed, step), so the step number is all the random state there is to save.
    For dropout's, each step seeds torch's global generator. Of several processes each trains on its share of a batch,
    and the first alone averages the weights; but for dropout they train as one process does. Raises ValueError if the
    batch cannot be shared equally.
    """

    def __init__(self, network: Configured, recipe: Recipe):
        if recipe.batch % parallel.size():
            allowed = f"a multiple of {parallel.size()}, the number of processes"
            raise ValueError(f"A batch is {recipe.batch} samples; it must be {allowed}.")
        # Channels-last is the faster layout for convolutions, and ConvMuon needs it to see them as matrices.
        self.network, self.recipe, self.step = network.to(memory_format=torch.channels_last), recipe, 0
        self.weights = list(network.parameters())  # to walk a small network costs as much as a matrix product
        self.ema = {name: value.detach().clone() for name, value in network.named_parameters()}
        self.optimizers = _optimizers(network, recipe)
        together = parallel.together(network)
        self.forward = torch.compile(together) if recipe.compile else together

    def run(self, draw: Callable[[int], tuple[Tensor, ...]]) -> Iterator[Progress]:
        """Trains up to ``recipe.steps`` on the batches of ``draw``, which ``backward`` takes, yielding after each step.

        Raises Diverged at the first loss that is not finite, before it changes a weight; on a GPU, which has to finish
        its work to be asked, every tenth loss is looked at.
        """
        while self.step < self.recipe.steps:
            loss = self._train_one(*draw(self.step))
            self.step += 1
            if parallel.rank() == 0:
                self._average()
            yield Progress(self.step, loss)

    def backward(self, *batch: Tensor) -> Tensor:
        """Adds the gradient of this step's loss on x0 (B, *D), label (B,) to the weights' ``grad``; the loss, ()."""
        x0, label = batch
        recipe, device = self.recipe, self.weights[0].device
        generator = seeded(recipe.seed, self.step, device=device)
        level = process.stratified(len(x0), generator)[torch.randperm(len(x0), generator=generator, device=device)]
        noise = torch.randn(x0.shape, generator=generator, device=device)
        hidden = torch.rand(len(x0), generator=generator, device=device) < recipe.label_dropout
        x0, label = (value.to(device, non_blocking=True) for value in (x0, label))
        label = torch.where(hidden, self.network.config.num_classes, label)
        inputs = map(parallel.share, (x0, noise, DENSITIES[recipe.density](level), label))
        torch.manual_seed(seeded(recipe.seed, self.step, streams.DROPOUT, parallel.rank()).initial_seed())
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bfloat16):
            loss = process.loss(self.forward, self.network.config.prediction, *inputs).mean()
        loss.backward()
        return loss.detach()

    def _train_one(self, *batch: Tensor) -> Tensor:
        loss = self.backward(*batch)
        looked_at = loss.device.type == "cpu" or self.step % LOOK_EVERY == 0
        if looked_at and not loss.isfinite():
            found = f"The loss of step {self.step + 1} is {loss.item()}"
            raise Diverged(f"{found}: the training has diverged, and a lower learning rate may help.")
        nn.utils.clip_grad_norm_(self.weights, self.recipe.clip_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate(self.step, self.recipe) * group["initial_lr"]
            optimizer.step()
        for weight in self.weights:
            weight.grad = None
        return parallel.mean(loss)

    def _average(self) -> None:
        """EMA whose memory grows with the step up to ``recipe.ema``, so the early average forgets the random start."""
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        now = [value.detach() for value in self.weights]
        torch._foreach_lerp_(list(self.ema.values()), now, 1 - decay)

    def averaged(self) -> Configured:
        """A copy of the network with the EMA weights, in evaluation mode."""
        network = copy.deepcopy(self.network).eval()
        network.load_state_dict(self.ema, strict=False)
        return network

    def save(self, path: Path) -> None:
        """Everything that ``restore`` needs to go on exactly, in one safetensors file.

        Raises CheckpointError, and leaves what is there, if a number of it is not finite.
        """
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{index}.{key}": value for key, value in state.items()}
        header = {"step": self.step, "recipe": asdict(self.recipe), "config": asdict(self.network.config)}
        save_tensors(path, tensors, header)

    def restore(self, path: Path) -> None:
        """Goes back to the state in ``path``. Raises CheckpointError if it belongs to another recipe or network.

        ``steps`` may differ: it only says when to stop. A setting that did not exist yet counts as its default.
        """
        tensors, header = load_tensors(path)
        config, recipe = self.network.config, self.recipe
        mine = json.loads(json.dumps(asdict(config) | asdict(recipe)))
        defaults = json.loads(json.dumps(_defaults(config) | _defaults(recipe)))
        theirs = defaults | header.get("config", {}) | header.get("recipe", {})
        for name in sorted((mine.keys() | theirs.keys()) - {"steps"}):
            if mine.get(name) != theirs.get(name):
                raise CheckpointError(f"{path} was trained with {name} = {theirs.get(name)}, not {mine.get(name)}.")
        self.step = header["step"]
        self.network.load_state_dict(_below("network.", tensors))
        for name, value in _below("ema.", tensors).items():
            self.ema[name].copy_(value)
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in _below(f"optimizer.{number}.", tensors).items():
                index, key = name.split(".")
                state.setdefault(int(index), {})[key] = value
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
            # The file keeps values, not layouts, but fused AdamW reads a weight and its moments in memory order.
            for weight, values in optimizer.state.items():
                for key, value in values.items():
                    if value.shape == weight.shape:
                        values[key] = torch.empty_like(weight).copy_(value)


def _defaults(settings: MLPConfig | UNetConfig | Recipe) -> dict[str, Any]:
    return {field.name: field.default for field in fields(settings) if field.default is not MISSING}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def rate(step: int, recipe: Recipe) -> float:
    """The learning rate's factor at ``step``: a linear warm-up, a plateau, a linear cool-down (Zhai et al. 2022).

    Only the cool-down depends on ``steps``, so a resumed training may be given more of them.
    """
    return min(1, (step + 1) / recipe.warmup, (recipe.steps - step) / (recipe.cooldown * recipe.steps))


def image_draw(images: Tensor, labels: Tensor, recipe: Recipe, flip: bool = False) -> Draw:
    """Batches of uint8 images (N, C, H, W) as x0, each epoch in a new order; ``flip`` mirrors half of them.

    They are drawn where the images lie. Raises ValueError if they are fewer than a batch.
    """
    device = images.device
    if len(images) < recipe.batch:
        raise ValueError(f"A batch is {recipe.batch} images; it must be at most {len(images)}, all there are.")

    def draw(step: int) -> tuple[Tensor, Tensor]:
        epoch, position = divmod(step, len(images) // recipe.batch)
        order = torch.randperm(
            len(images), generator=seeded(recipe.seed, epoch, streams.ORDER, device=device), device=device
        )
        index = order[position * recipe.batch :][: recipe.batch]
        x0 = to_unit(images[index])
        if flip:
            coins = seeded(recipe.seed, step, streams.FLIP, device=device)
            mirrored = torch.rand(len(x0), generator=coins, device=device) < 0.5
            x0 = torch.where(mirrored[:, None, None, None], x0.flip(-1), x0)
        return x0.contiguous(memory_format=torch.channels_last), labels[index]

    return draw


def toy_draw(points: Callable[[int, Generator], Tensor], recipe: Recipe) -> Draw:
    """Fresh points of a toy distribution at every step; they have no label."""

    def draw(step: int) -> tuple[Tensor, Tensor]:
        x0 = points(recipe.batch, seeded(recipe.seed, step, streams.ORDER))
        return x0, torch.zeros(recipe.batch, dtype=torch.long)

    return draw


def fixed_noise(x0: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Noise (N, *D) and λ (N,) for held-out x0 (N, *D), the same at every call."""
    generator = seeded(recipe.seed, len(x0))
    log_snr = DENSITIES[recipe.density](process.stratified(len(x0), generator))
    return torch.randn(x0.shape, generator=generator), log_snr


def mean_loss(network: Configured, x0: Tensor, label: Tensor, recipe: Recipe, batch: int = 250) -> float:
    """The loss of ``network`` on held-out x0 (N, *D), label (N,), over noise and λ that are the same at every call."""
    return _losses(network, network.config.prediction, (x0, *fixed_noise(x0, recipe), label), batch).mean().item()


def simple_losses(network: Configured, x0: Tensor, label: Tensor, seed: int = 0, batch: int = 250) -> Tensor:
    """The squared error of ε̂ on held-out x0 (N, *D), label (N,), one step of the linear schedule's 1,000 an image: (N,).

    The steps fall from 1,000 to 1, so the mean of a slice is that of a range of steps (L_simple, Ho et al. 2020, eq. 14).
    Noise and steps are the same at every call.
    """
    generator = seeded(seed, len(x0), streams.SIMPLE)
    log_snr = grid(Linear(), 1000)[(1000 * process.stratified(len(x0), generator)).long()]
    noise = torch.randn(x0.shape, generator=generator)

    def predicted(x: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
        return process.noise_from_x0(x, denoiser(network, label)(x, log_snr), log_snr)

    return _losses(predicted, "noise", (x0, noise, log_snr, label), batch)


def simple_loss(network: Configured, x0: Tensor, label: Tensor, seed: int = 0, batch: int = 250) -> float:
    """The mean of ``simple_losses``: the unit in which others quote their losses."""
    return simple_losses(network, x0, label, seed, batch).mean().item()


@torch.no_grad()
def _losses(network: Predict, prediction: Prediction, inputs: tuple[Tensor, ...], batch: int) -> Tensor:
    parts = zip(*(value.to(inputs[0].device).split(batch) for value in inputs))
    return torch.cat([process.loss(network, prediction, *part) for part in parts])
