"""Peak memory, CPU time and wall time of one stretch of work, children included."""

import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SAMPLE_SECONDS = 0.25
BEAT_SECONDS = 5.0


class Meter:
    """Context manager; afterwards `seconds`, `cpu_seconds`, `peak_bytes` and `peak_gpu_bytes` are set.

    On Linux the process's own high-water mark is reset at the start, so the peak is exact for this
    process; with child processes alive, proportional memory of the whole family is sampled four times
    a second. Elsewhere the peak is the process's since it began.

    Args:
        beat: called with the meter every five seconds, from the sampling thread.
    """

    def __init__(self, beat: Callable[["Meter"], None] | None = None) -> None:
        self._beat = beat
        self._end = threading.Event()
        self.peak_bytes = 0
        self.peak_gpu_bytes = 0
        self.cpu_seconds = 0.0
        self._start = time.monotonic()
        self._stopped: float | None = None

    @property
    def seconds(self) -> float:
        """Wall-clock seconds so far, or in all once the block has ended."""
        return (self._stopped if self._stopped is not None else time.monotonic()) - self._start

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._cpu = _cpu_seconds()
        self._exact = _reset_high_water()
        if (cuda := _cuda()) is not None:
            cuda.reset_peak_memory_stats()
        self._thread = threading.Thread(target=self._watch, name="hornbook-meter", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = time.monotonic()
        self._end.set()
        self._thread.join()
        self.cpu_seconds = _cpu_seconds() - self._cpu
        self._look()
        if (cuda := _cuda()) is not None:
            self.peak_gpu_bytes = int(cuda.max_memory_allocated())

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._end.wait(SAMPLE_SECONDS):
            self._look()
            if self._beat is not None and time.monotonic() - last >= BEAT_SECONDS:
                last = time.monotonic()
                self._beat(self)

    def _look(self) -> None:
        children = descendants(os.getpid())
        if children:
            family = sum(_proportional_bytes(pid) for pid in [os.getpid(), *children])
            self.peak_bytes = max(self.peak_bytes, family)
        self.peak_bytes = max(self.peak_bytes, _high_water() if self._exact else _lifetime_peak())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed.

    Python, numpy and pyarrow raise a MemoryError, CUDA an error of its own, torch on the CPU a RuntimeError.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "bad_alloc" in text)


def _cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _lifetime_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _reset_high_water() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return _high_water() > 0


def _high_water() -> int:
    return _status_bytes("self", "VmHWM")


def _status_bytes(pid: int | str, name: str) -> int:
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def _proportional_bytes(pid: int) -> int:
    """Memory of a process with shared pages divided among those who share them."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return _status_bytes(pid, "VmRSS")


def descendants(pid: int) -> list[int]:
    """Process ids of the children of `pid`, their children, and so on (Linux; empty elsewhere)."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        try:
            threads = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                with open(f"/proc/{parent}/task/{thread}/children") as file:
                    children = [int(word) for word in file.read().split()]
            except (OSError, ValueError):
                continue
            found += children
            waiting += children
    return found


def _cuda() -> Any:
    """`torch.cuda` where it is in use already; None otherwise (a meter never starts a GPU)."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    try:
        return torch.cuda if torch.cuda.is_initialized() else None
    except AttributeError:  # torch is just being imported
        return None
