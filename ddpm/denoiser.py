"""From a network to x̂0: prediction type and classifier-free guidance end here, so samplers never branch on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ddpm.process import Denoise, Network, x0_from


@dataclass(frozen=True)
class Guided:
    """What a network of ``config`` must be asked, and how x̂0 follows from its answer, for the labels (B,) of a batch.

    Guidance w is (1 + w) ε̂(x, label) − w ε̂(x, no label) (Ho & Salimans 2022, eq. 6), computed in one batch of
    2 B rows; w = 0 costs nothing. It is applied to x̂0, which is the same: at a given x, ε̂ is affine in x̂0 and the
    weights sum to 1. ``clip`` limits x̂0 to [−1, 1], the range of images (Ho et al. 2020, section 3.3).
    """

    config: Any
    label: Tensor
    guidance: float = 0.0
    clip: bool = False

    @cached_property
    def no_label(self) -> Tensor:
        return torch.full_like(self.label, self.config.num_classes)

    @cached_property
    def doubled(self) -> bool:
        """Whether the network is asked about every row twice, with its label and without."""
        return self.guidance != 0 and not torch.equal(self.label, self.no_label)

    def rows(self, x: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The network's arguments for x (B, *D) at log_snr (B,) or (): x, log_snr and label of B or 2 B rows."""
        log_snr = log_snr.to(x).expand(len(x))
        if not self.doubled:
            return x, log_snr, self.label.expand(len(x))
        return torch.cat([x, x]), log_snr.repeat(2), torch.cat([self.label, self.no_label])

    def x0(self, x: Tensor, log_snr: Tensor, output: Tensor) -> Tensor:
        """x̂0 (B, *D) from what the network answered to ``rows``."""
        to_x0 = x0_from(self.config.prediction)
        if self.doubled:
            conditional, free = (to_x0(x, part, log_snr) for part in output.chunk(2))
            x0 = torch.lerp(free, conditional, 1 + self.guidance)
        else:
            x0 = to_x0(x, output, log_snr)
        return x0.clamp(-1, 1) if self.clip else x0

    def denoiser(self, network: Network) -> Denoise:
        """x (B, *D) and log_snr (B,) or () to x̂0 (B, *D), by asking ``network``."""
        return lambda x, log_snr: self.x0(x, log_snr, network(*self.rows(x, log_snr)))


def denoiser(network: Network, label: Tensor, guidance: float = 0.0, clip: bool = False) -> Denoise:
    """The denoiser of ``network``, called as ``Guided`` says, for the labels (B,) int64 of a batch."""
    return Guided(network.config, label, guidance, clip).denoiser(network)


def unlabelled(network: Network) -> Denoise:
    """The denoiser of ``network`` without a label, asked at one level for all rows: it works out its condition once, half of its work."""
    to_x0, label = x0_from(network.config.prediction), torch.tensor([network.config.num_classes])
    return lambda x, log_snr: to_x0(x, network(x, log_snr.to(x)[None], label), log_snr)
