"""The processes that train one network together, started by torchrun; a process alone is the first and only one.

Each holds the whole network and takes its share of every batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Joins the processes that torchrun started, if it did, and gives this one's device: "cuda" is a GPU for each.

    Raises ValueError if the machine has fewer GPUs than processes.
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    if device == "cuda":
        place, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if place >= gpus:
            raise ValueError(f"Process {place + 1} finds no GPU; torchrun's --nproc-per-node must be at most {gpus}.")
        device = f"cuda:{place}"
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def together(network: nn.Module) -> nn.Module:
    """``network``, giving each process the mean of all processes' gradients, from the same weights."""
    return DistributedDataParallel(network, forward_sync_buffers=False) if dist.is_initialized() else network


def share(batch: Tensor) -> Tensor:
    """This process's rows of ``batch`` (B, …), which all processes hold: (B / size, …)."""
    return batch.chunk(size())[rank()]


def mean(value: Tensor) -> Tensor:
    """The mean of ``value`` over the processes."""
    if dist.is_initialized():
        dist.all_reduce(value)
    return value / size()


def anywhere(flag: bool) -> bool:
    """Whether ``flag`` is set in any of the processes, the same answer in all of them; waits for them."""
    if not dist.is_initialized():
        return flag
    found = torch.tensor(int(flag))
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)
