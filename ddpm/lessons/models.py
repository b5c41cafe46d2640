"""The networks that the app shows: the shipped ones or somebody's own, checked to fit their lessons, ready to be asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from ddpm.checkpoint import CheckpointError, load_network, load_projection
from ddpm.files import read_json
from ddpm.hub import Found, for_app
from ddpm.networks import MLP, Configured, UNet
from ddpm.process import Network
from ddpm.projection import Projection
from ddpm.serving.backend import TorchNetwork, fast
from ddpm.toys import TOYS

MODELS: dict[str, tuple[str, ...]] = {
    "mnist": tuple("0123456789"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
"""The image models that the app offers, with their classes."""

STUDENTS = {"mnist": "mnist-student"}
"""The networks that draw in few steps, which scripts/distil.py makes of the image models, by these."""

KEPT = (0, 100, 500, 2500, 10_000)
"""After how many steps the networks are kept, beside the end."""

SNAPSHOTS = (*map(str, KEPT), "end")


NETWORKS = tuple(name for name in TOYS if name != "mixture1d")
"""The data sets of the plane, each with a trained network."""

NETWORK = "mixture1d"
"""The checkpoint of the line: it was trained on the exercise's mixture, wherever the visitor puts the modes."""

RECORDED = ("unet", "convolutions")
"""The networks of the Learning lesson, of which there are snapshots."""


class Snapshots(NamedTuple):
    """A network as it was after each of SNAPSHOTS, and its losses on the way, as scripts/snapshots.py writes them."""

    networks: tuple[Configured, ...]
    steps: tuple[int, ...]
    curves: dict[str, list]


def load_snapshots(folder: Path, name: str) -> Snapshots:
    """The snapshots of the network ``name``. Raises FileNotFoundError if one is missing, CheckpointError or ValueError if it is broken."""
    paths = sorted(folder.glob(f"{name}-*.safetensors"))
    if len(paths) != len(SNAPSHOTS):
        raise FileNotFoundError(f"{folder} holds {len(paths)} snapshots of {name}; the lesson needs {len(SNAPSHOTS)}.")
    loaded = [load_network(path) for path in paths]
    curves = read_json(folder / f"{name}.json")
    return Snapshots(tuple(network for network, _ in loaded), tuple(about["steps"] for _, about in loaded), curves)


N = TypeVar("N", bound=Network)


@dataclass(frozen=True)
class Models(Generic[N]):
    """Networks by name, the planes of the pictures' paths, and what visitors must be told of where they come from."""

    pictures: Mapping[str, N]
    clouds: Mapping[str, Projection]
    points: Mapping[str, N]
    snapshots: Mapping[str, Snapshots]
    problem: str

    @cached_property
    def networks(self) -> dict[str, N]:
        """Those of pictures and of points."""
        return {**self.pictures, **self.points}

    @cached_property
    def samplers(self) -> tuple[Network, ...]:
        """Those that draw the Learning lesson's samples."""
        return samplers(self.snapshots)

    @property
    def plane(self) -> dict[str, N]:
        """The networks of the sets in the plane."""
        return {name: self.points[name] for name in NETWORKS}

    @property
    def line(self) -> N:
        """The network of the mixture on the line."""
        return self.points[NETWORK]


def load_models(source: str | None, shipped: Path) -> Models[Configured]:
    """The networks in ``source``, a folder or a repository on the Hub, and of the ``shipped`` folder those it lacks.

    Raises HubError if the source cannot be used, CheckpointError or FileNotFoundError if a checkpoint cannot.
    """
    clouds = [f"{model}-projection" for model in MODELS]
    found = for_app(source, shipped, [*MODELS, *STUDENTS.values(), *clouds, *NETWORKS, NETWORK])
    planes = {model: load_projection(found.paths[f"{model}-projection"]) for model in MODELS}
    return Models(
        {
            name: _pictures(found, name, model, planes[model])
            for model in MODELS
            for name in (model, *([STUDENTS[model]] if model in STUDENTS else []))
        },
        planes,
        {name: _points(found, name) for name in (*NETWORKS, NETWORK)},
        {name: load_snapshots(shipped / "snapshots", name) for name in RECORDED},
        found.problem,
    )


def serve(networks: Mapping[str, Configured], backend: str | None) -> dict[str, Network]:
    """What carries out ``networks`` on this machine, by name. Raises BackendError if ``backend`` cannot."""
    return {name: fast(network, backend) for name, network in networks.items()}


def _pictures(found: Found, name: str, model: str, cloud: Projection) -> UNet:
    """The network ``name`` for the images of ``model``, which must fit their plane."""
    path = found.paths[name]
    network = load_network(path).network
    if (
        not isinstance(network, UNet)
        or network.config.num_classes != len(MODELS[model])
        or math.prod(network.config.shape) != cloud.axes.shape[1]
    ):
        raise CheckpointError(
            f"{path} is no network for the lesson on {model}: it must be a U-Net for pictures of "
            f"{cloud.axes.shape[1]} values in {len(MODELS[model])} classes."
        )
    return network


def _points(found: Found, name: str) -> MLP:
    """The network of the toy ``name``."""
    path, dimensions = found.paths[name], 1 if name == NETWORK else 2
    network = load_network(path).network
    if not isinstance(network, MLP) or network.config.shape != (dimensions,) or network.config.num_classes:
        raise CheckpointError(
            f"{path} is no network for {name}: it must be an MLP on points of {dimensions} dimensions."
        )
    return network


def samplers(trained: Mapping[str, Snapshots]) -> tuple[Network, ...]:
    """Who makes the samples, in the order of the rows: every snapshot of the first network, the others' ends."""
    first, *others = trained.values()
    return tuple(TorchNetwork(network) for network in (*first.networks, *(other.networks[-1] for other in others)))
