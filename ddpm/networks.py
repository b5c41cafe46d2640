"""The networks: an MLP for points, a U-Net for images and one that fails, conditioned on the log-SNR λ and a label.

Neither knows a step number, a schedule or a T: λ alone fixes the task (see ``schedule``).
A network is called as ``network(x, log_snr, label)`` with x (B, *D), log_snr (B,) and label (B,) int64, where the
label ``num_classes`` means "no label"; it answers with a tensor like x.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.process import LOG_SNR_MAX, Prediction
from ddpm.schedule import LOG_SNR_MIN


@dataclass(frozen=True)
class MLPConfig:
    """An MLP on points of ``shape`` (d,). ``scale`` is the data's standard deviation, in the data's own units."""

    shape: tuple[int]
    scale: float = 1.0
    width: int = 128
    depth: int = 3
    embedding: int = 64
    num_classes: int = 0
    prediction: Prediction = "v"
    log_snr_min: float = LOG_SNR_MIN
    log_snr_max: float = LOG_SNR_MAX


@dataclass(frozen=True)
class UNetConfig:
    """A U-Net on images of ``shape`` (C, H, W): one entry of ``channels`` and ``blocks`` a resolution, finest first.

    ``attention`` counts the coarsest resolutions whose blocks end in self-attention.
    Raises ValueError if the image cannot be halved often enough.
    """

    shape: tuple[int, int, int]
    num_classes: int
    channels: tuple[int, ...] = (32, 64, 96)
    blocks: tuple[int, ...] = (1, 1, 1)
    attention: int = 1
    embedding: int = 128
    dropout: float = 0.0
    prediction: Prediction = "v"
    log_snr_min: float = LOG_SNR_MIN
    log_snr_max: float = LOG_SNR_MAX

    def __post_init__(self) -> None:
        factor = 2 ** (len(self.channels) - 1)
        if any(side % factor for side in self.shape[1:]):
            raise ValueError(f"The image shape is {self.shape}; its sides must be multiples of {factor}.")


@dataclass(frozen=True)
class ClassifierConfig:
    """A CNN on images of ``shape`` (C, H, W): one entry of ``channels`` and ``blocks`` a resolution, finest first.

    ``whitened`` puts 2 × 2 filters before it, two for each of a patch's values, and pools after the first convolution
    of a resolution instead of before it (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds"). ``mirror`` averages the
    features over an image and its mirror image, for classes that mirroring does not change.
    """

    shape: tuple[int, int, int]
    num_classes: int
    channels: tuple[int, ...] = (24, 48, 96)
    blocks: tuple[int, ...] = (1, 2, 2)
    whitened: bool = False
    mirror: bool = False


@dataclass(frozen=True)
class ConvolutionsConfig:
    """Two 3×3 convolutions on images of ``shape`` (C, H, W), with ``width`` channels between them; they know no labels."""

    shape: tuple[int, int, int]
    width: int = 32
    num_classes: int = 0
    prediction: Prediction = "noise"
    log_snr_min: float = LOG_SNR_MIN
    log_snr_max: float = LOG_SNR_MAX


class Configured(nn.Module):
    """The base of the networks: what each was made for is its ``config``."""

    config: Any


Layer = TypeVar("Layer", bound=nn.Module)


class LogSNREmbedding(nn.Module):
    """λ of shape (B,) to (B, width) through sines and cosines, the finest of which tells apart λ that differ by 0.1."""

    frequencies: Tensor

    def __init__(self, width: int, low: float, high: float, frequencies: int = 32):
        super().__init__()
        self.low, self.high = low, high
        self.register_buffer("frequencies", torch.logspace(-1.5, 0.7, frequencies), persistent=False)
        self.mix = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, log_snr: Tensor) -> Tensor:
        phase = log_snr.clamp(self.low, self.high)[:, None] * self.frequencies
        return self.mix(torch.cat([phase.sin(), phase.cos()], 1))


def _zeroed(layer: Layer) -> Layer:
    """``layer`` with zero weights, so that what it closes starts as the identity (or as silence)."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


class _Residual(nn.Module):
    """h + W2 silu(FiLM(W1 silu(norm(h)))): the MLP's block."""

    def __init__(self, width: int, embedding: int):
        super().__init__()
        self.norm, self.enter = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.film, self.leave = nn.Linear(embedding, 4 * width), _zeroed(nn.Linear(2 * width, width))

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition).chunk(2, 1)
        return h + self.leave(F.silu(self.enter(self.norm(h)) * (1 + scale) + shift))


class MLP(Configured):
    """Residual MLP on points."""

    frequencies: Tensor

    def __init__(self, config: MLPConfig):
        super().__init__()
        self.config = config
        (dimensions,) = config.shape
        self.log_snr = LogSNREmbedding(config.embedding, config.log_snr_min, config.log_snr_max)
        self.label = nn.Embedding(config.num_classes + 1, config.embedding)
        self.register_buffer("frequencies", 2.0 ** torch.arange(4) * math.pi / 4, persistent=False)
        self.enter = nn.Linear(dimensions * (1 + 2 * len(self.frequencies)), config.width)
        self.blocks = nn.ModuleList(_Residual(config.width, config.embedding) for _ in range(config.depth))
        self.leave = _zeroed(nn.Linear(config.width, dimensions))

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
        log_snr = log_snr.clamp(self.config.log_snr_min, self.config.log_snr_max)
        unit = x / (self.config.scale**2 * log_snr.sigmoid() + (-log_snr).sigmoid()).sqrt()[:, None]
        phase = (unit[:, :, None] * self.frequencies).flatten(1)
        h = self.enter(torch.cat([unit, phase.sin(), phase.cos()], 1))
        condition = F.silu(self.log_snr(log_snr) + self.label(label))
        for block in self.blocks:
            h = block(h, condition)
        return self.leave(h)


class _ResBlock(nn.Module):
    """Two 3×3 convolutions with λ and the label as a scale and a shift (FiLM) between them."""

    def __init__(self, inside: int, outside: int, config: UNetConfig):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, inside), nn.Conv2d(inside, outside, 3, padding=1)
        self.film = nn.Linear(config.embedding, 2 * outside)
        self.norm2, self.conv2 = nn.GroupNorm(8, outside), _zeroed(nn.Conv2d(outside, outside, 3, padding=1))
        self.dropout = nn.Dropout(config.dropout)
        self.skip = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, 1)
        inner = self.norm2(self.conv1(F.silu(self.norm1(h)))) * (1 + scale) + shift
        return self.skip(h) + self.conv2(self.dropout(F.silu(inner)))


class _Attention(nn.Module):
    """Self-attention over the pixels, 32 channels a head, or as few more as divide them evenly."""

    def __init__(self, channels: int):
        super().__init__()
        self.heads = next(heads for heads in range(max(1, channels // 32), 0, -1) if channels % heads == 0)
        self.norm, self.qkv = nn.GroupNorm(8, channels), nn.Conv2d(channels, 3 * channels, 1)
        self.leave = _zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        batch, channels, height, width = h.shape
        qkv = self.qkv(self.norm(h)).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(-1, -2)
        query, key, value = qkv.unbind(1)  # not torch's fused attention: its backward pass is slow on CPUs
        weight = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        mixed = (weight @ value).transpose(-1, -2)
        return h + self.leave(mixed.reshape(batch, channels, height, width))


def _shrink(inside: int, outside: int) -> nn.Module:
    """Half the resolution, nothing lost: 2 × 2 pixels become four channels."""
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * inside, outside, 1))


def _grow(inside: int, outside: int) -> nn.Module:
    """Twice the resolution: four channels become 2 × 2 pixels."""
    return nn.Sequential(nn.Conv2d(inside, 4 * outside, 1), nn.PixelShuffle(2))


class UNet(Configured):
    """U-Net after Ho et al. 2020, appendix B, with FiLM conditioning and pixel (un)shuffling between resolutions."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        image_channels, widths = config.shape[0], config.channels
        attended = len(widths) - config.attention

        def stage(level: int, inside: list[int]) -> nn.ModuleList:
            blocks: list[nn.Module] = []
            for channels in inside:
                blocks.append(_ResBlock(channels, widths[level], config))
                if level >= attended:
                    blocks.append(_Attention(widths[level]))
            return nn.ModuleList(blocks)

        self.log_snr = LogSNREmbedding(config.embedding, config.log_snr_min, config.log_snr_max)
        self.label = nn.Embedding(config.num_classes + 1, config.embedding)
        self.enter = nn.Conv2d(image_channels, widths[0], 3, padding=1)
        self.down, self.shrink, self.up, self.grow = (nn.ModuleList() for _ in range(4))
        for level, width in enumerate(widths):
            self.shrink.append(_shrink(widths[level - 1], width) if level else nn.Identity())
            self.down.append(stage(level, [width] * config.blocks[level]))
        self.middle = stage(len(widths) - 1, [widths[-1]])
        for level, width in reversed(list(enumerate(widths))):
            coarsest = level == len(widths) - 1
            self.grow.append(nn.Identity() if coarsest else _grow(widths[level + 1], width))
            self.up.append(stage(level, [2 * width] + [width] * (config.blocks[level] - 1)))
        self.norm = nn.GroupNorm(8, widths[0])
        self.leave = _zeroed(nn.Conv2d(widths[0], image_channels, 3, padding=1))

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
        condition = F.silu(self.log_snr(log_snr) + self.label(label))
        h, kept = self.enter(x), []
        for shrink, blocks in zip(self.shrink, cast("list[nn.ModuleList]", self.down)):
            h = _through(blocks, shrink(h), condition)
            kept.append(h)
        h = _through(self.middle, h, condition)
        for grow, blocks in zip(self.grow, cast("list[nn.ModuleList]", self.up)):
            h = _through(blocks, torch.cat([grow(h), kept.pop()], 1), condition)
        return self.leave(F.silu(self.norm(h)))


def _through(blocks: nn.ModuleList, h: Tensor, condition: Tensor) -> Tensor:
    for block in blocks:
        h = block(h, condition)
    return h


class Convolutions(Configured):
    """Two convolutions, which see 5 × 5 pixels and, as one more channel of a single value, the noise level.

    What does not work: nobody can tell a digit from 5 × 5 of its pixels. The label is not looked at.
    """

    def __init__(self, config: ConvolutionsConfig):
        super().__init__()
        self.config = config
        channels = config.shape[0]
        self.enter = nn.Conv2d(channels + 1, config.width, 3, padding=1)
        self.leave = nn.Conv2d(config.width, channels, 3, padding=1)

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
        level = log_snr.clamp(self.config.log_snr_min, self.config.log_snr_max) / self.config.log_snr_max
        levels = level[:, None, None, None].expand(-1, 1, *x.shape[2:])
        return self.leave(F.relu(self.enter(torch.cat([x, levels], 1))))


class Classifier(Configured):
    """A small CNN that judges samples: images (B, C, H, W) in [−1, 1] to logits (B, num_classes).

    It is no denoiser: it sees clean images, and neither λ nor labels.
    """

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        self.body = nn.Sequential(*(_whitened_layers if config.whitened else _plain_layers)(config))
        self.leave = nn.Linear(config.channels[-1], config.num_classes)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees, (B, channels[-1]): the space in which sets of images are compared."""
        found = self.body(x).mean((2, 3))
        if self.config.mirror and not self.training:
            found = (found + self.body(x.flip(-1)).mean((2, 3))) / 2
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.features(x))


def _plain_layers(config: ClassifierConfig) -> Iterator[nn.Module]:
    inside = config.shape[0]
    for level, (width, blocks) in enumerate(zip(config.channels, config.blocks)):
        if level:
            yield nn.MaxPool2d(2)
        for _ in range(blocks):
            yield from (nn.Conv2d(inside, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            inside = width


def _whitened_layers(config: ClassifierConfig) -> Iterator[nn.Module]:
    inside = 2 * config.shape[0] * 2 * 2
    yield from (nn.Conv2d(config.shape[0], inside, 2), nn.GELU())
    for width, blocks in zip(config.channels, config.blocks):
        for block in range(blocks):
            yield nn.Conv2d(inside, width, 3, padding=1, bias=False)
            if block == 0:
                yield nn.MaxPool2d(2)
            yield from (nn.BatchNorm2d(width), nn.GELU())
            inside = width
    yield nn.AdaptiveMaxPool2d(1)


NETWORKS: dict[str, tuple[type, type[Configured]]] = {
    "mlp": (MLPConfig, MLP),
    "unet": (UNetConfig, UNet),
    "convolutions": (ConvolutionsConfig, Convolutions),
    "classifier": (ClassifierConfig, Classifier),
}
"""The kinds that a checkpoint may name: their config and their module."""
