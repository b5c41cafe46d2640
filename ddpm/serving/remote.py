"""Networks that replicas carry out: processes of a Ray Serve deployment on this machine, which are asked by batches.

Plain arrays go there and come back, so nothing here depends on where a replica stands.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm import machine
from ddpm.networks import Configured
from ddpm.process import Network
from ddpm.serving.backend import BackendError, fast

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray starts: nothing is told to its makers

PATIENCE = 60.0
"""Seconds after which a batch that no replica has answered is given up."""

_ROOT = Path(__file__).parents[2]


class RemoteNetwork:
    """The network ``name`` of a deployment, called as the network is; ``handle`` is the deployment's.

    A call waits for a replica. Raises Ray's error if the one that has the batch dies, and TimeoutError if none answers.
    """

    def __init__(self, name: str, config: Any, handle: Any):
        self.config, self._name, self._handle = config, name, handle

    def __call__(self, x: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
        arrays = (value.contiguous().numpy() for value in (x, log_snr, label))
        return torch.tensor(self._handle.remote(self._name, *arrays).result(timeout_s=PATIENCE))


class Replica:
    """The networks of one process, by name, each on ``backend`` with ``threads`` threads."""

    def __init__(self, networks: Mapping[str, Configured], backend: str | None, threads: int):
        torch.set_num_threads(threads)
        self._networks: dict[str, Network] = {name: fast(net, backend, threads) for name, net in networks.items()}

    def __call__(self, name: str, *arrays: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self._networks[name](*map(torch.tensor, arrays)).numpy()  # a copy: Ray's arrays are read-only


@contextmanager
def replicated(
    networks: Mapping[str, Configured], replicas: int, backend: str | None = None
) -> Iterator[dict[str, RemoteNetwork]]:
    """``networks`` by name, on as many ``replicas``, which share this machine's cores and end with the context.

    A replica that dies is replaced. Raises ImportError without Ray Serve, BackendError if it cannot start.
    """
    import ray
    from ray import serve

    cores = machine.cores()
    deployment = serve.deployment(
        Replica,
        num_replicas=replicas,
        max_ongoing_requests=1,  # a replica that dies takes one batch along
        ray_actor_options={"num_cpus": cores / replicas},
    )
    with tempfile.TemporaryDirectory(prefix="ddpm-", ignore_cleanup_errors=True) as folder, ExitStack() as until_end:
        until_end.callback(ray.shutdown)
        try:
            ray.init(
                "local",
                num_cpus=cores,
                include_dashboard=False,
                object_store_memory=100 * 2**20,
                log_to_driver=False,
                logging_level="warning",
                runtime_env={"env_vars": {"PYTHONPATH": str(_ROOT)}},
                _temp_dir=folder,
            )
            serve.start("Disabled", logging_config={"log_level": "WARNING"})
            bound = deployment.bind(dict(networks), backend, max(1, cores // replicas))
            handle = serve.run(bound, route_prefix=None)
        except Exception as error:  # Ray's errors have nothing in common
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise BackendError(f"Ray cannot start {replicas} replicas here: {reason}") from error
        yield {name: RemoteNetwork(name, network.config, handle) for name, network in networks.items()}
