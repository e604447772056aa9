"""Several processes, one training run: who am I, and sums over all."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """One process alone: rank 0 of 1. Subclasses know how to add over several."""

    rank: int = 0
    size: int = 1

    def sum(self, tensor: Tensor) -> None:
        """Adds `tensor` over all ranks, in place, the same bits on every rank."""

    def sum_all(self, tensors: Sequence[Tensor]) -> None:
        """Adds many tensors over all ranks through one flat buffer, in place."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        self.sum(flat)
        first = 0
        for tensor in tensors:
            tensor.copy_(flat[first : first + tensor.numel()].view_as(tensor))
            first += tensor.numel()


class ProcessGroup(World):
    """The ranks of an initialised torch.distributed group (torchrun: gloo on CPU, NCCL on CUDA)."""

    def sum(self, tensor: Tensor) -> None:
        """All-reduce."""
        dist.all_reduce(tensor)


def current_world() -> World:
    """The world this process is in: that of torch.distributed where it is initialised, else alone."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return ProcessGroup(dist.get_rank(), dist.get_world_size())
    return World()
