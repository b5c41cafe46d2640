"""The optimizers: AdamW, and Muon for the matrices in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ddpm.training.recipe import Recipe


def _optimizers(network: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for all, or, with a ``matrix_lr``, Muon (Jordan et al. 2024) for the hidden matrices and AdamW for the rest."""
    named = dict(network.named_parameters())
    matrices = [p for name, p in named.items() if recipe.matrix_lr and _is_hidden_matrix(name, p)]
    rest = [p for p in named.values() if not any(p is matrix for matrix in matrices)]
    adam = torch.optim.AdamW(rest, recipe.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    optimizers: list[torch.optim.Optimizer] = [adam]
    if matrices:
        optimizers.append(ConvMuon(matrices, recipe.matrix_lr, weight_decay=recipe.matrix_decay))
    for optimizer in optimizers:
        optimizer.param_groups[0]["initial_lr"] = optimizer.param_groups[0]["lr"]
    return optimizers


def _is_hidden_matrix(name: str, value: Tensor) -> bool:
    return value.ndim >= 2 and not name.startswith(("enter", "leave", "label"))


class ConvMuon(torch.optim.Muon):
    """torch's Muon, which takes matrices, on convolutions (out, in, h, w) too: seen as (out, h · w · in), sharing memory."""

    def __init__(self, weights: Sequence[Tensor], lr: float, adjust_lr_fn: str = "match_rms_adamw", **options: Any):
        self.pairs = [(nn.Parameter(_as_matrix(weight.detach())), weight) for weight in weights]
        matrices = [matrix for matrix, _ in self.pairs]
        super().__init__(matrices, lr, adjust_lr_fn=adjust_lr_fn, **options)

    def step(self) -> None:  # type: ignore[override]  # a closure would make gradients too late to be seen as matrices
        for matrix, weight in self.pairs:
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad)
        super().step()


def _as_matrix(weight: Tensor) -> Tensor:
    return weight.permute(0, 2, 3, 1).flatten(1) if weight.ndim == 4 else weight
