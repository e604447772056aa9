"""Several processes, one training run: who am I, and sums over all ranks.

On a CPU two processes of one thread beat one process of two threads: threads wait for each other at every
operation, processes only once a step. `fork_ranks` makes them: the caller stays rank 0, its children are
copies that start where it stands (nothing is pickled, no port is opened), and gradients are added in shared
memory. Under torchrun the same trainer uses the initialised process group instead.
"""

import ctypes
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.lab.ranks import is_alone


@dataclass(frozen=True)
class World:
    """One process alone: rank 0 of 1. Subclasses know how to add over several."""

    rank: int = 0
    size: int = 1

    def sum(self, tensor: Tensor) -> None:
        """Adds `tensor` over all ranks, in place, the same bits on every rank."""

    def sum_all(self, tensors: Sequence[Tensor]) -> None:
        """Adds many tensors of one dtype over all ranks through one flat buffer, in place."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self.sum(flat)
        _scatter(flat, tensors)

    def barrier(self) -> None:
        """Returns when every rank has come here."""
        if self.size > 1:
            self.sum(torch.zeros(1))


class ProcessGroup(World):
    """The ranks of an initialised torch.distributed group (torchrun: gloo on CPU, NCCL on CUDA)."""

    def sum(self, tensor: Tensor) -> None:
        """All-reduce."""
        dist.all_reduce(tensor)

    def copy_from_rank_0(self, tensors: Sequence[Tensor]) -> None:
        """Gives every rank the numbers of rank 0, in place."""
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


def current_world() -> World:
    """The world this process is in: that of torch.distributed where it is initialised, else alone."""
    if is_alone():
        return World()
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return ProcessGroup(dist.get_rank(), dist.get_world_size())
    return World()


def join_torchrun() -> None:
    """Joins the process group that torchrun's environment describes; nothing where there is none.

    Gloo adds tensors on the CPU, NCCL those on CUDA; a rank takes the GPU of its local number.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or is_alone():
        return
    if not dist.is_available() or dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")


def training_device() -> torch.device:
    """The GPU of this rank where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def whole(tensor: Tensor) -> Tensor:
    """The tensor that lies in pieces over the ranks (all must ask); any other as it is."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def held(tensor: Tensor) -> tuple[Tensor, int]:
    """This rank's rows of a tensor, and the number of the first. All rows of one that is not in pieces."""
    if not hasattr(tensor, "to_local"):
        return tensor, 0
    size, rank = dist.get_world_size(), dist.get_rank()
    share = -(-tensor.shape[0] // size)  # torch.chunk's rule: all pieces but the last are equal
    own: Tensor = tensor.to_local()
    return own, min(rank * share, tensor.shape[0])


@dataclass(frozen=True)
class Forked(World):
    """Ranks that were forked from one process and share `buffers`, a (size, bytes) tensor.

    Every rank copies its numbers into its own row, adds up its share of all rows in rank order (so that the
    bits do not depend on who is fast), and reads the sums back.
    """

    buffers: Tensor = field(default_factory=lambda: torch.empty(0))
    gate: Any = None

    def sum(self, tensor: Tensor) -> None:
        """Adds through shared memory, in as many pieces as the buffers need."""
        flat = tensor.reshape(-1)
        capacity = self.buffers.shape[1] // tensor.element_size()
        rows = self.buffers.view(tensor.dtype)
        for first in range(0, flat.numel(), capacity):
            piece = flat[first : first + capacity]
            count = piece.numel()
            rows[self.rank, :count] = piece
            self._wait()
            share = -(-count // self.size)
            mine = slice(self.rank * share, min(count, (self.rank + 1) * share))
            total = rows[0, mine]
            for other in range(1, self.size):
                total += rows[other, mine]
            self._wait()
            piece.copy_(rows[0, :count])
            # Nobody may write his next numbers into row 0 before all have read these.
            self._wait()
        if flat.data_ptr() != tensor.data_ptr():
            tensor.copy_(flat.view_as(tensor))

    def _wait(self) -> None:
        try:
            self.gate.wait()
        except threading.BrokenBarrierError:
            raise RankLost from None


class RankLost(Exception):
    """Another rank ended before its time."""


def forking_works() -> bool:
    """Whether ranks can be forked here: Linux, from the main thread, and not inside a rank already."""
    return (
        sys.platform == "linux"
        and threading.current_thread() is threading.main_thread()
        and current_world().size == 1
    )


@contextmanager
def fork_ranks(size: int, bytes_to_share: int, child: Callable[[World], object]) -> Iterator[World]:
    """Runs `child(world)` in `size - 1` copies of this process while the body runs as rank 0.

    bytes_to_share: size of the exchange buffer of each rank; sums of more are done in pieces. Torch runs with
    one thread in every rank (and in the body). The children end with the body, or with this process,
    however it ends. When a child fails its traceback is printed and the body gets a HornbookError.
    """
    context = get_context("fork")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # before forking: a child must not look for the threads its parent had
    buffers = torch.zeros(size, max(64, -(-bytes_to_share // 64) * 64), dtype=torch.uint8)
    buffers.share_memory_()  # type: ignore[no-untyped-call]
    gate = context.Barrier(size)
    parent = os.getpid()
    children: list[int] = []
    done = threading.Event()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        for rank in range(1, size):
            with warnings.catch_warnings():
                # Python warns of forking beside threads. The copies touch no lock of the parent's threads.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                _be_child(parent, gate, partial(child, Forked(rank, size, buffers, gate)))
            children.append(pid)
        watcher = threading.Thread(target=_watch, args=(children, gate, done), daemon=True)
        watcher.start()
        try:
            yield Forked(0, size, buffers, gate)
        except RankLost:
            raise HornbookError(
                "A training process ended before its time (its own message stands above; out of memory ends "
                "it without one). What was saved is whole: give the same command again, with fewer "
                "`micro_rows` or `processes=1` if memory is short."
            ) from None
    finally:
        done.set()
        gate.abort()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        torch.set_num_threads(threads)


def _be_child(parent: int, gate: Any, work: Callable[[], object]) -> None:
    """The life of a forked rank; never returns."""
    code = 0
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; rank 0 decides
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _end_with_parent(parent)
        work()
    except (RankLost, HornbookError):  # rank 0 comes to the same error and tells the user
        code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with suppress(Exception):
            sys.stderr.flush()
        if code:
            with suppress(Exception):
                gate.abort()
        os._exit(code)


def _end_with_parent(parent: int) -> None:
    """Asks the kernel to end this process with its parent, even when that is killed."""
    with suppress(OSError, AttributeError):
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _watch(children: Sequence[int], gate: Any, done: threading.Event) -> None:
    """Breaks the barrier when a child is gone, so that the others do not wait for it for ever."""
    while not done.wait(0.5):
        for pid in children:
            if not _alive(pid):
                gate.abort()
                return


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _scatter(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    first = 0
    for tensor in tensors:
        tensor.copy_(flat[first : first + tensor.numel()].view_as(tensor))
        first += tensor.numel()
