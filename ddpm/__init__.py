"""See how a diffusion model works: schedules, exact and learned denoisers, samplers, training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ddpm import moved

if TYPE_CHECKING:
    from torch import nn

moved.install()


def load(source: str | Path, name: str | None = None) -> nn.Module:
    """The network of a checkpoint on the Hub (USER/NAME or USER/NAME@REVISION), in a folder, or in a file.

    ``name`` chooses among several. See ``ddpm.hub.load``, which is imported only now: it needs torch.
    """
    from ddpm import hub

    return hub.load(source, name)
