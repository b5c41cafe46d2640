"""A visitor’s own network: what the training makes, the plane uses, and a file holds."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddpm.checkpoint import CheckpointError, load_network, load_tensors, save_network
from ddpm.denoiser import unlabelled
from ddpm.lessons.points import FIELD, PointData
from ddpm.networks import Configured
from ddpm.process import Denoise
from ddpm.scaling import AS_IT_IS, Scaling
from ddpm.settings import Number, Setting

LEVELS = torch.tensor([-3.0, 0.0, 3.0])
"""The log-SNRs at which the field is shown: much noise, as much as signal, little."""

LARGEST_FILE = 4 * 2**20
"""Bytes of a network that a visitor may load."""


# --- a network and what it makes ------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A network in evaluation mode, the scaling of its coordinates, and a run in the plane with the data it has seen."""

    network: Configured
    scaling: Scaling
    plane: PointData
    batches: int

    @property
    def denoise(self) -> Denoise:
        """The denoiser in the network's own coordinates."""
        return unlabelled(self.network)

    def has_seen(self, plane: PointData) -> bool:
        """Whether it was trained on the data of ``plane``."""
        return self.plane == plane.alone


@torch.no_grad()
def field(trained: Trained) -> Tensor:
    """x̂0 in the data's coordinates at LEVELS and FIELD, (3, 400, 2)."""
    denoise = trained.scaling.around(trained.denoise)
    return torch.stack([denoise(FIELD, level) for level in LEVELS])


# --- as a file ------------------------------------------------------------------------------------------------------


def to_file(trained: Trained) -> bytes:
    """The safetensors file of a network: its config, its data and its scaling inside."""
    about = {"data": trained.plane.data, "points": trained.plane.points, "names": [], "batches": trained.batches}
    about["scaling"] = asdict(trained.scaling)
    with tempfile.TemporaryDirectory() as folder:
        save_network(path := Path(folder) / "mine", trained.network, about)
        return path.read_bytes()


MOST_WORDS = 300
"""Characters of a sentence about a visitor's file, which may quote what the file holds."""

CONFIG: dict[str, Setting] = {
    "width": Number(8, 256, whole=True),
    "depth": Number(1, 8, whole=True),
    "embedding": Number(8, 256, whole=True),
    "num_classes": Number(0, 0, whole=True),
    "scale": Number(0.01, 100),
    "log_snr_min": Number(-40, -1),
    "log_snr_max": Number(1, 40),
}
"""What the numbers of a visitor's network may be."""


def from_file(path: Path) -> Trained:
    """A network that somebody has brought: what ``to_file`` wrote, or a shipped one of the plane.

    Nothing of the file is executed, and nothing is built before its numbers are known to be small. Raises
    CheckpointError, in one sentence that does not name ``path``, for anything else.
    """
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise CheckpointError(f"The file has {size / 2**20:.1f} MB; it may have at most {LARGEST_FILE / 2**20:.0f}.")
    try:
        tensors, header = load_tensors(path)
        _check(tensors, header)
        network, about = load_network(path)
    except CheckpointError as error:
        sentence = str(error).replace(str(path), "The file")
        raise CheckpointError(re.sub(r"(not a ddpm checkpoint) .*", r"\1.", sentence)[:MOST_WORDS]) from error
    try:
        plane = PointData(about["data"], about.get("points", "")).alone
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"The file does not say which data in the plane it was trained on ({error}).") from error
    trained = Trained(network, _scaling(about.get("scaling")), plane, _whole(about.get("batches", about.get("steps"))))
    if not field(trained).isfinite().all():
        raise CheckpointError("The network's answers are not finite numbers.")
    return trained


def _check(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    config, about = header.get("config"), header.get("about")
    if header.get("kind") != "mlp" or not isinstance(config, dict) or not isinstance(about, dict):
        raise CheckpointError("The file does not hold a network of points with its config.")
    if config.get("shape") != [2]:
        raise CheckpointError(
            f"The network's points have the shape {config.get('shape')!r:.40}; it must be [2]: the plane."
        )
    for name, setting in CONFIG.items():
        if name in config and (problem := setting.problem(config[name])):
            raise CheckpointError(f"The network's {name} is {config[name]!r:.40}; it {problem}.")
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float16, torch.float32) or not tensor.isfinite().all():
            raise CheckpointError(f"The tensor {name[:40]} must hold finite numbers of 16 or 32 bits.")


def _scaling(given: Any) -> Scaling:
    if given is None:
        return AS_IT_IS
    known, problem = Number(-1000, 1000), "The file's scaling must be a shift of two numbers and a scale above 0."
    if not isinstance(given, dict) or given.keys() != {"shift", "scale"} or not isinstance(given["shift"], list):
        raise CheckpointError(problem)
    if len(given["shift"]) != 2 or any(known.problem(value) for value in given["shift"]):
        raise CheckpointError(problem)
    if Number(1e-3, 1000).problem(given["scale"]):
        raise CheckpointError(problem)
    return Scaling(tuple(given["shift"]), given["scale"])


def _whole(value: Any) -> int:
    if problem := Number(0, 2**31, whole=True).problem(value):
        raise CheckpointError(f"The file's number of batches is {value!r:.40}; it {problem}.")
    return value
