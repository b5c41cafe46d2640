"""From a network to x̂0: prediction type and classifier-free guidance end here, so samplers never branch on them."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm.process import Denoise, x0_from


def denoiser(network: torch.nn.Module, label: Tensor, guidance: float = 0.0, clip: bool = False) -> Denoise:
    """The denoiser of ``network`` for the labels (B,) int64 of a batch, or (1,) for one that all rows have.

    With one label and one λ the network works out its condition once: for points, half of the work.
    Guidance w is (1 + w) ε̂(x, label) − w ε̂(x, no label) (Ho & Salimans 2022, eq. 6), computed in one batch of
    2 B rows; w = 0 costs nothing. It is applied to x̂0, which is the same: at a given x, ε̂ is affine in x̂0 and the
    weights sum to 1. ``clip`` limits x̂0 to [−1, 1], the range of images (Ho et al. 2020, section 3.2).
    """
    to_x0 = x0_from(network.config.prediction)
    no_label = torch.full_like(label, network.config.num_classes)

    def predict(x: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
        return to_x0(x, network(x, log_snr.to(x).expand(len(label)), label), log_snr)

    def denoise(x: Tensor, log_snr: Tensor) -> Tensor:
        if guidance == 0 or bool((label == no_label).all()):
            x0 = predict(x, log_snr, label)
        else:
            both = predict(torch.cat([x, x]), log_snr.expand(len(x)).repeat(2), torch.cat([label, no_label]))
            conditional, free = both.chunk(2)
            x0 = torch.lerp(free, conditional, 1 + guidance)
        return x0.clamp(-1, 1) if clip else x0

    return denoise
