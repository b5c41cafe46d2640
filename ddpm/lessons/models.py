"""The networks that the app shows: the shipped ones or somebody's own, checked to fit their lessons, ready to be asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ddpm.checkpoint import CheckpointError, load_network, load_projection
from ddpm.data import Projection
from ddpm.hub import Found, for_app
from ddpm.lessons.learning.run import Snapshots, load_snapshots
from ddpm.lessons.line.run import NETWORK
from ddpm.lessons.pictures.run import MODELS
from ddpm.lessons.plane.run import NETWORKS
from ddpm.networks import MLP, UNet
from ddpm.process import Network
from ddpm.serving.backend import fast

SNAPSHOTS = ("unet", "convolutions")
"""The networks of the Learning lesson, of which there are snapshots."""


class Models(NamedTuple):
    """Networks by name, the planes of the pictures' paths, and what visitors must be told of where they come from."""

    pictures: Mapping[str, UNet]
    clouds: Mapping[str, Projection]
    points: Mapping[str, Network]
    snapshots: Mapping[str, Snapshots]
    problem: str

    @property
    def plane(self) -> dict[str, Network]:
        """The networks of the sets in the plane."""
        return {name: self.points[name] for name in NETWORKS}

    @property
    def line(self) -> Network:
        """The network of the mixture on the line."""
        return self.points[NETWORK]


def load_models(source: str | None, shipped: Path) -> Models:
    """The networks in ``source``, a folder or a repository on the Hub, and of the ``shipped`` folder those it lacks.

    Raises HubError if the source cannot be used, CheckpointError or FileNotFoundError if a checkpoint cannot.
    """
    clouds = [f"{model}-projection" for model in MODELS]
    found = for_app(source, shipped, [*MODELS, *clouds, *NETWORKS, NETWORK])
    planes = {model: load_projection(found.paths[f"{model}-projection"]) for model in MODELS}
    return Models(
        {model: _pictures(found, model, planes[model]) for model in MODELS},
        planes,
        {name: _points(found, name) for name in (*NETWORKS, NETWORK)},
        {name: load_snapshots(shipped / "snapshots", name) for name in SNAPSHOTS},
        found.problem,
    )


def serve(networks: Mapping[str, UNet | MLP], backend: str | None) -> dict[str, Network]:
    """What carries out ``networks`` on this machine, by name. Raises BackendError if ``backend`` cannot."""
    return {name: fast(network, backend) for name, network in networks.items()}


def _pictures(found: Found, model: str, cloud: Projection) -> UNet:
    """The network of ``model``, which must fit the plane of its images."""
    path = found.paths[model]
    network = load_network(path).network
    fits = isinstance(network, UNet) and network.config.num_classes == len(MODELS[model])
    if not fits or math.prod(network.config.shape) != cloud.axes.shape[1]:
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
