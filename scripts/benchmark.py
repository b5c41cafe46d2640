"""Measure what an image-step costs: python scripts/benchmark.py --json costs.json.

All candidates take turns in one process and the fastest turn of each counts, so that a busy machine slows all alike.
Even so, only figures of one call compare: read the ratios. ``--peers`` measures whole DDIM runs against those of
diffusers and denoising-diffusion-pytorch with networks of as many FLOPs. ``--streaming`` measures what the page adds to
the forwards of a run: sampling, encoding, HTTP. ``--plane`` measures the lesson in the plane: a run with all that its
page shows, and the exact denoiser beside the network.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import _root  # noqa: F401
from _arguments import positive

os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}  # as the app has it
os.environ["TQDM_DISABLE"] = "1"  # denoising-diffusion-pytorch draws progress bars

import torch
from _served import ROOT, digits, messages, served
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from train import TASKS

from ddpm.checkpoint import load_network
from ddpm.denoiser import denoiser, unlabelled
from ddpm.files import write_beside
from ddpm.lessons.models import NETWORKS
from ddpm.lessons.plane.run import Plane, frames
from ddpm.networks import UNet, UNetConfig
from ddpm.process import Denoise
from ddpm.sampling import sample
from ddpm.schedule import Cosine, grid
from ddpm.serving.backend import OnnxNetwork, TorchNetwork, export, fast
from ddpm.toys import TOYS

CONFIGS = {name: TASKS[name].config for name in ("mnist", "cifar10")}
STEPS = 4
"""Of a run against the peers; what comes before the first step weighs more than in a longer run."""

PRODUCT = 1536
"""Rows and columns of the matrices whose product is the machine's limit."""

Work = Callable[[], Any]


class Cost(NamedTuple):
    """What a candidate takes for an image-step.

    ``ratio`` is how many times as fast as the first candidate it is, ``share`` its FLOP/s by the matrix product's.
    """

    network: str
    batch: int
    candidate: str
    milliseconds: float
    ratio: float
    gflop_per_second: float
    share: float


def fastest(candidates: Mapping[str, Work], turns: int) -> dict[str, float]:
    """The seconds of each candidate's fastest turn, after one that does not count."""
    seconds = {name: [] for name in candidates}
    for _ in range(turns + 1):
        for name, work in candidates.items():
            begun = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - begun)
    return {name: min(taken[1:]) for name, taken in seconds.items()}


def flops(work: Work) -> int:
    """Two for each product that is added, as torch counts."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops()


def inputs(config: UNetConfig, batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(batch, *config.shape), torch.linspace(-10, 10, batch), torch.arange(batch) % config.num_classes


def forwards(network: nn.Module, batch: int, threads: int) -> dict[str, Work]:
    """A forward of each backend, and of PyTorch as it comes, to which the others are compared."""
    given = inputs(network.config, batch)
    eager = torch.inference_mode()(network.forward)
    served = {"eager": eager, "channels-last": TorchNetwork(network), "onnx": on_onnx(network, threads)}
    return {name: partial(serve, *given) for name, serve in served.items()}


def on_onnx(network: nn.Module, threads: int) -> OnnxNetwork:
    """``network`` without the cache, in which graphs of random weights have no place."""
    return OnnxNetwork(network, export(network), threads)


# --- the peers ------------------------------------------------------------------------------------------------------


def runs(network: nn.Module, batch: int, threads: int) -> dict[str, Work]:
    """A DDIM run of ``STEPS`` steps by each peer and by us, on networks of as many FLOPs."""
    config, goal = network.config, flops(lambda: network(*inputs(network.config, 1)))
    noise, _, labels = inputs(config, batch)
    denoise = denoiser(on_onnx(network, threads), labels, clip=True)

    def ours() -> None:
        list(sample(denoise, grid(Cosine(), STEPS), noise, eta=0))

    peers = {"diffusers": _diffusers, "denoising-diffusion-pytorch": _denoising_diffusion_pytorch}
    return {name: peer(config, goal, batch) for name, peer in peers.items()} | {"ours": ours}


def matched(make: Callable[[float], nn.Module], config: UNetConfig, goal: int) -> nn.Module:
    """A network of the width whose FLOPs are nearest to ``goal``, by bisection. Raises ValueError if not within 5 %."""

    def counted(scale: float) -> int:
        with torch.device("meta"):
            network = make(scale)
            return flops(lambda: network(torch.zeros(1, *config.shape), torch.zeros(1, dtype=torch.long)))

    low, high, found = 0.2, 2.0, {}
    for _ in range(9):
        middle = (low + high) / 2
        found[middle] = counted(middle) / goal
        low, high = (middle, high) if found[middle] < 1 else (low, middle)
    best = min(found, key=lambda scale: abs(found[scale] - 1))
    if abs(found[best] - 1) > 0.05:
        raise ValueError(f"The nearest peer has {found[best]:.2f} times the FLOPs; allowed are 0.95 to 1.05.")
    return make(best).eval().requires_grad_(False)


def _diffusers(config: UNetConfig, goal: int, batch: int) -> Work:
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    kinds = [""] * (len(config.channels) - config.attention) + ["Attn"] * config.attention

    def make(scale: float) -> nn.Module:
        return UNet2DModel(
            sample_size=config.shape[1:],
            in_channels=config.shape[0],
            out_channels=config.shape[0],
            block_out_channels=tuple(8 * max(1, round(scale * width / 8)) for width in config.channels),
            layers_per_block=1,
            down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
            up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
            norm_num_groups=8,
        )

    pipeline = DDIMPipeline(matched(make, config, goal), DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return lambda: pipeline(batch_size=batch, num_inference_steps=STEPS, output_type="np")


def _denoising_diffusion_pytorch(config: UNetConfig, goal: int, batch: int) -> Work:
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    attention = (False,) * (len(config.channels) - config.attention) + (True,) * config.attention

    def make(scale: float) -> nn.Module:
        width = scale * config.channels[0]
        multiples = tuple(round(channels / config.channels[0]) for channels in config.channels)
        return Unet(
            dim=2 * int(width / 2),
            init_dim=round(width),
            dim_mults=multiples,
            channels=config.shape[0],
            full_attn=attention,
        )

    network = matched(make, config, goal)
    diffusion = GaussianDiffusion(network, image_size=config.shape[1:], timesteps=1000, sampling_timesteps=STEPS)
    return lambda: diffusion.sample(batch_size=batch)


# --- the page -------------------------------------------------------------------------------------------------------


class Streaming(NamedTuple):
    """Seconds of a run's forwards alone and of the run through the page, each the median of its turns."""

    bare: float
    streamed: float
    ratio: float


def streaming(turns: int) -> Streaming:
    """What streaming adds to the forwards of four digits in 50 steps, which take turns with whole runs."""
    count, steps = 4, 50
    network = fast(load_network(ROOT / "checkpoints" / "mnist.safetensors").network)
    given = inputs(network.config, count)

    def forwards_alone() -> None:
        for _ in range(steps):
            network(*given)

    seconds: dict[str, list[float]] = {"bare": [], "streamed": []}
    with served({}) as server:
        work = {"bare": forwards_alone, "streamed": lambda: list(messages(server.url, digits(count, steps, 0)))}
        for turn in range(turns + 1):
            for name, do in work.items():
                begun = time.perf_counter()
                do()
                if turn:  # the first does not count
                    seconds[name].append(time.perf_counter() - begun)
    bare, streamed = (statistics.median(taken) for taken in seconds.values())
    return Streaming(bare, streamed, streamed / bare)


class InThePlane(NamedTuple):
    """Seconds of a run with the field, the density and the distances of its shown steps, of the learned and of the exact
    denoiser for its particles at three levels of noise, and the exact one's by the learned one's.
    """

    data: str
    run: float
    learned: float
    exact: float
    ratio: float


def in_the_plane(data: str, turns: int) -> InThePlane:
    """What 2,000 particles on their way to ``data`` cost in 200 steps."""
    network = fast(load_network(ROOT / "checkpoints" / f"{data}.safetensors").network)
    plane, x, levels = Plane(data, count=2000, steps=200), torch.randn(2000, 2), torch.tensor([-5.0, 0.0, 5.0])

    def each_level(denoise: Denoise) -> None:
        with torch.inference_mode():
            for log_snr in levels:
                denoise(x, log_snr)

    denoisers = {"learned": unlabelled(network), "exact": TOYS[data].exact}
    work = {name: partial(each_level, denoise) for name, denoise in denoisers.items()}
    seconds = fastest({"run": lambda: list(frames(plane, network)), **work}, turns)
    return InThePlane(data, **seconds, ratio=seconds["exact"] / seconds["learned"])


# --- the table ------------------------------------------------------------------------------------------------------


def costs(name: str, network: nn.Module, batch: int, options: argparse.Namespace) -> list[Cost]:
    """The candidates' costs an image-step, as ratios to the first of them and FLOP/s to the product's."""
    candidates, steps = (runs, STEPS) if options.peers else (forwards, 1)
    matrix = torch.randn(PRODUCT, PRODUCT)
    work = candidates(network, batch, options.threads) | {"product": lambda: matrix @ matrix}
    seconds, operations = fastest(work, options.turns), flops(lambda: network(*inputs(network.config, 1)))
    limit = 2 * PRODUCT**3 / seconds.pop("product")
    each = {candidate: taken / (batch * steps) for candidate, taken in seconds.items()}
    first = next(iter(each.values()))
    return [
        Cost(name, batch, candidate, 1e3 * taken, first / taken, operations / taken / 1e9, operations / taken / limit)
        for candidate, taken in each.items()
    ]


def compare(options: argparse.Namespace) -> Iterator[Cost]:
    """The costs of all candidates, printed as they are found."""
    print(
        f"{'network':9}{'batch':>5}  {'candidate':28}{'ms an image-step':>17}{'ratio':>7}{'GFLOP/s':>9}{'of limit':>9}"
    )
    for name in options.networks:
        network = UNet(CONFIGS[name]).eval().requires_grad_(False)
        for batch in options.batches:
            for cost in costs(name, network, batch, options):
                print("{:9}{:5}  {:28}{:17.2f}{:7.2f}{:9.1f}{:9.0%}".format(*cost), flush=True)
                yield cost


def compare_streaming(options: argparse.Namespace) -> Iterator[Streaming]:
    found = streaming(options.turns)
    print("forwards alone {:.3f} s, through the page {:.3f} s: {:.2f} times".format(*found))
    yield found


def compare_in_the_plane(options: argparse.Namespace) -> Iterator[InThePlane]:
    print(f"{'data':14}{'run s':>7}{'learned ms':>12}{'exact ms':>10}{'exact / learned':>17}")
    for data in NETWORKS:
        found = in_the_plane(data, options.turns)
        times = f"{found.run:7.2f}{1e3 * found.learned:12.1f}{1e3 * found.exact:10.1f}{found.ratio:17.2f}"
        print(f"{data:14}{times}", flush=True)
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=CONFIGS, default=list(CONFIGS), help="which shapes (all)")
    parser.add_argument(
        "--batches", nargs="+", type=positive, default=[1, 4, 16, 64], metavar="B", help="rows a forward"
    )
    parser.add_argument("--turns", type=positive, default=10, help="turns a candidate takes (default: 10)")
    parser.add_argument(
        "--threads", type=positive, default=torch.get_num_threads(), help="CPU threads (torch's number)"
    )
    parser.add_argument("--peers", action="store_true", help="whole runs, against other libraries")
    parser.add_argument("--streaming", action="store_true", help="whole runs through the page, against forwards alone")
    parser.add_argument("--plane", action="store_true", help="runs in the plane, and the exact denoiser by the network")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    measure = compare_streaming if options.streaming else compare_in_the_plane if options.plane else compare
    measured = [row._asdict() for row in measure(options)]
    if options.json:
        rows = {"threads": options.threads, "torch": torch.__version__, "costs": measured}
        write_beside(options.json, json.dumps(rows, indent=1).encode())


if __name__ == "__main__":
    try:
        main()
    except (ImportError, ValueError, OSError) as error:
        raise SystemExit(f"benchmark.py: {error}") from error
