"""One safetensors file a network, with its config inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ddpm.files import parse_json, write_beside
from ddpm.networks import NETWORKS, Configured
from ddpm.process import Prediction
from ddpm.projection import Projection

FORMAT = 1

POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that Git LFS leaves in place of a large one."""


class CheckpointError(ValueError):
    """A file that is not a checkpoint that this version can read; the message names the file and the reason."""


class Loaded(NamedTuple):
    """A network in evaluation mode, and what its checkpoint says of it (data set, class names, how it was trained)."""

    network: Configured
    about: dict[str, Any]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Tensors and a JSON header in one safetensors file. Raises CheckpointError, and writes nothing, if one is not finite."""
    if name := _not_finite(tensors):
        raise CheckpointError(f"{path} is not written: the numbers of the tensor {name} are not all finite.")
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_beside(path, save(whole, metadata={"ddpm": json.dumps(header)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``save_tensors`` wrote. Raises CheckpointError for anything else, FileNotFoundError if there is no file."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise CheckpointError(f"{path} is a pointer of Git LFS in place of the file, which `git lfs pull` fetches.")
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()  # the file itself cannot be iterated
            return {name: file.get_tensor(name) for name in names}, dict(parse_json(file.metadata()["ddpm"]))
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or not a ddpm checkpoint ({error}).") from error


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first tensor that holds infinity or no number, or nothing."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), "")


def save_network(path: Path, network: Configured, about: Mapping[str, Any], half: bool = False) -> None:
    """Writes ``network``'s weights (float16 if ``half``), its config and ``about`` to ``path``.

    Raises CheckpointError, and leaves what is there, if a weight is not finite, or would not be in float16.
    """
    kind = next(name for name, (_, module) in NETWORKS.items() if isinstance(network, module))
    weights = {k: v.half() if half and v.is_floating_point() else v for k, v in network.state_dict().items()}
    header = {"format": FORMAT, "kind": kind, "config": asdict(network.config), "about": dict(about)}
    save_tensors(path, weights, header)


def load_network(path: Path) -> Loaded:
    """The network of ``path`` in float32 and evaluation mode.

    Raises FileNotFoundError, or CheckpointError for a file that is none or has weights that are not finite.
    """
    weights, header = load_tensors(path)
    network = _build(path, header)
    expected = network.state_dict()
    for name in sorted(expected.keys() ^ weights.keys()):
        problem = "lacks the tensor" if name in expected else "holds the unknown tensor"
        raise CheckpointError(f"{path} {problem} {name}.")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
            raise CheckpointError(f"{path}: the tensor {name} has the shape {shapes}.")
    if name := _not_finite(weights):
        raise CheckpointError(f"{path}: the numbers of the tensor {name} are not all finite.")
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return Loaded(network.eval().requires_grad_(False), header.get("about", {}))


def _build(path: Path, header: Mapping[str, Any]) -> Configured:
    version, kind = header.get("format"), header.get("kind")
    if version != FORMAT:
        raise CheckpointError(f"{path} has the format version {version}; this program reads version {FORMAT}.")
    if not isinstance(kind, str) or kind not in NETWORKS:
        raise CheckpointError(f"{path} holds a network of the kind {kind!r}; known are {', '.join(NETWORKS)}.")
    config_class, module = NETWORKS[kind]
    given, known = header.get("config", {}), {field.name for field in fields(config_class)}
    if not isinstance(given, dict):
        raise CheckpointError(f"{path}: the {kind} config is {given!r:.40}; it must be an object.")
    if unknown := sorted(given.keys() - known):
        raise CheckpointError(f"{path}: the {kind} config has the unknown key {unknown[0]!r}.")
    prediction = given.get("prediction", "v")
    if prediction not in get_args(Prediction):
        allowed = ", ".join(get_args(Prediction))
        raise CheckpointError(f"{path}: the network predicts {prediction!r}; this program knows {allowed}.")
    try:
        config = config_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
        with torch.random.fork_rng():
            return module(config)
    except (TypeError, ValueError, RuntimeError, LookupError) as error:
        raise CheckpointError(f"{path}: the {kind} config is not valid ({error}).") from error


def save_projection(path: Path, projection: Projection) -> None:
    """Writes ``projection`` to one safetensors file."""
    tensors = {name: torch.from_numpy(value) for name, value in projection._asdict().items() if name != "names"}
    save_tensors(path, tensors, {"format": FORMAT, "kind": "projection", "names": projection.names})


def load_projection(path: Path) -> Projection:
    """What ``save_projection`` wrote. Raises CheckpointError or FileNotFoundError."""
    tensors, header = load_tensors(path)
    if header.get("kind") != "projection" or tensors.keys() != set(Projection._fields) - {"names"}:
        raise CheckpointError(f"{path} is not a projection.")
    return Projection(**{name: value.numpy() for name, value in tensors.items()}, names=tuple(header["names"]))
