"""What carries out a network's forwards: ONNX Runtime on a CPU, PyTorch on a GPU, both called as the network is.

For the CPU the network is exported to an ONNX graph, once: a cache keeps it. No graph is believed, from the cache or
not: it serves only if its answers are PyTorch's.
"""

from __future__ import annotations

import copy
import hashlib
import io
import logging
import math
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ddpm import machine
from ddpm.files import write_beside
from ddpm.networks import Configured
from ddpm.process import Network, seeded

log = logging.getLogger(__name__)

os.environ["ORT_DISABLE_TELEMETRY"] = (
    "1"  # read when ONNX Runtime is imported, which else reports each start to its makers
)

BACKENDS = ("onnx", "torch")
TOLERANCE = 1e-4
"""How far a graph's answers may lie from PyTorch's, in units of x."""

OPSET = 20
SIZES = (4, 8, 16)
"""The most rows of a forward pass, of which one is chosen: in fewer a row is never cheaper, in more hardly on two cores."""

INPUTS, OUTPUT = ("x", "log_snr", "label"), "prediction"


class BackendError(ValueError):
    """A backend that is not known or cannot serve here; the message is the reason."""


class TorchNetwork:
    """``network`` in PyTorch, on the GPU if there is one; the answers lie where x lies."""

    def __init__(self, network: Configured):
        self.config = network.config
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = copy.deepcopy(network).eval().to(self._device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, x: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
        return self._network(*(value.to(self._device) for value in (x, log_snr, label))).to(x.device)


class OnnxNetwork:
    """``network``'s ``graph`` on ONNX Runtime: float32, on ``threads`` threads of the CPU.

    All rows may share one level and label, which are then worked out once. Threads spin only for as long as the next
    part of a forward pass may take to come, so that the page's thread finds a core. Raises ImportError without ONNX
    Runtime, and BackendError if the graph is broken or its answers are not those of ``network``.
    """

    def __init__(self, network: Configured, graph: bytes, threads: int):
        import onnxruntime

        self.config = network.config
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            difference = _difference(self, network)
        except Exception as error:  # ONNX Runtime's errors share no class of their own
            raise BackendError(f"ONNX Runtime refuses the graph ({error}).") from error
        if not difference <= TOLERANCE:
            raise BackendError(f"The graph's answers are {difference:.2g} from PyTorch's; allowed is {TOLERANCE:g}.")

    def __call__(self, x: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
        feed = {name: value.contiguous().numpy() for name, value in zip(INPUTS, (x, log_snr, label))}
        return torch.from_numpy(self._session.run([OUTPUT], feed)[0])


def fast(
    network: Configured, backend: str | None = None, threads: int | None = None, cache: Path | None = None
) -> Network:
    """``network`` on ``backend``: "onnx", "torch", or by default the faster, which is PyTorch if there is a GPU.

    ``threads`` is for ONNX Runtime (default: as many as may be used), ``cache`` the folder of graphs (default: the user's).
    Where ONNX Runtime cannot serve, PyTorch does and the log says why, unless ``backend`` asks for ONNX Runtime.
    Raises BackendError for a backend that is not known, and for one asked for that cannot serve.
    """
    if backend not in (None, *BACKENDS):
        raise BackendError(f"The backend is {backend!r}; allowed are {' and '.join(BACKENDS)}.")
    if backend == "torch" or (backend is None and torch.cuda.is_available()):
        return TorchNetwork(network)
    try:
        return _on_onnx(network, threads or machine.threads(), cache or default_cache())
    except (BackendError, ImportError, torch.onnx.OnnxExporterError) as reason:
        if backend:
            raise BackendError(f"The backend onnx cannot serve here: {reason}") from reason
        log.warning("PyTorch serves in place of ONNX Runtime: %s", reason)
        return TorchNetwork(network)


def export(network: Configured) -> bytes:
    """The ONNX graph of ``network`` (on the CPU) for any batch size.

    By the exporter that traces: for these networks it takes 1 s, the newer one some 8 s, and two
    packages more. Raises OnnxExporterError.
    """
    graph, rows = io.BytesIO(), dict(zip((*INPUTS, OUTPUT), ("rows", "levels", "labels", "rows")))
    axes = {name: {0: axis} for name, axis in rows.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of this exporter
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of GroupNorm, which looks whether it has one value
        torch.onnx.export(
            network,
            _example(network),
            graph,  # type: ignore[arg-type]  # this exporter writes to a buffer, too
            dynamo=False,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes=axes,
        )
    return graph.getvalue()


def fastest_batch(network: Network, seconds: float = 0.4) -> int:
    """The rows of a forward pass at which ``network`` takes least time a row, measured in about ``seconds``."""
    cost, begun, turn = dict.fromkeys(SIZES, math.inf), time.perf_counter(), 0
    while turn < 3 or time.perf_counter() < begun + seconds:
        for size in SIZES:
            given, start = _example(network, size), time.perf_counter()
            network(*given)
            if turn:  # the first forward of a size allocates
                cost[size] = min(cost[size], (time.perf_counter() - start) / size)
        turn += 1
    size = smallest_near_best(cost)
    told = ", ".join(f"{1e3 * taken:.1f} ms in {rows}" for rows, taken in cost.items())
    log.info("A row of a forward pass takes %s: at most %d rows share one", told, size)
    return size


def smallest_near_best(cost: Mapping[int, float]) -> int:
    """The smallest size whose ``cost`` a row is at most 5 % above the least: the next visitor waits less for it."""
    return min(size for size, taken in cost.items() if taken <= 1.05 * min(cost.values()))


def default_cache() -> Path | None:
    """Where graphs are kept: a folder in the user's cache, None for a user who has no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ddpm"
    except RuntimeError:
        return None


def _on_onnx(network: Configured, threads: int, cache: Path | None) -> OnnxNetwork:
    """``network`` by its graph in ``cache``, which is exported if it is not there or cannot be used."""
    if cache is None:
        log.warning("There is no folder to keep graphs in, so each start exports them: set XDG_CACHE_HOME to one.")
        return OnnxNetwork(network, export(network), threads)
    path = cache / f"{_key(network)}.onnx"
    try:
        return OnnxNetwork(network, path.read_bytes(), threads)
    except FileNotFoundError:
        log.info("Exporting a network to %s", path)
    except (OSError, BackendError) as error:
        log.warning("Exporting a network to %s again: %s", path, error)
    graph = export(network)
    served = OnnxNetwork(network, graph, threads)
    try:
        write_beside(path, graph)
    except OSError as error:
        log.warning("The graph is not kept, so the next start exports it again: %s", error)
    return served


def _key(network: Configured) -> str:
    """Names ``network``'s graph: a digest of its config and weights and of the exporter's version."""
    digest = hashlib.sha256(f"{network.config} {torch.__version__} {OPSET}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _example(network: Network, rows: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs that span what ``network`` is called with: noise levels within its range and beyond, labels and none."""
    config = network.config
    x = torch.randn(rows, *config.shape, generator=seeded(0))
    log_snr = torch.linspace(config.log_snr_min - 2, config.log_snr_max + 2, rows)
    return x, log_snr, torch.linspace(0, config.num_classes, rows).long()


@torch.no_grad()
def _difference(one: Network, other: Network) -> float:
    """The largest distance between the answers of two networks of one config."""
    inputs = _example(one)
    return float((one(*inputs) - other(*inputs)).abs().max())
