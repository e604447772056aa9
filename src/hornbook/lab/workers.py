"""Jobs side by side: each in a process of its own, their progress counted together.

Two processes of one thread do more work on two cores than one process of two threads, when there are several
like jobs: probes, checkpoints to be examined, verifiers to be trained.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from typing import Any, Protocol, TypeVar

from hornbook.errors import HornbookError

Result = TypeVar("Result")

_POLL_SECONDS = 0.5
_counter: Any = None


class Advances(Protocol):
    """The part of a progress display that is needed here."""

    def advance(self, n: float = 1, /) -> None: ...


class SharedProgress:
    """Inside a job: what it advances reaches the display of the process that started it."""

    def advance(self, n: float = 1, /) -> None:
        with _counter.get_lock():
            _counter.value += n

    def set(self, **numbers: object) -> None:
        """Numbers beside the count belong to one job and are not shown."""


def side_by_side(
    jobs: Mapping[str, "partial[Result]"],
    *,
    workers: int,
    progress: Advances,
    finished: Callable[[str, Result], None] | None = None,
) -> dict[str, Result]:
    """Results of the jobs, by name, in the order of `jobs`.

    Args:
        jobs: each is called with one more argument, `progress`, to be advanced as its work is done. Function
            and arguments must be picklable; what a job must not lose it keeps in files itself.
        workers: processes at most; with 1 the jobs run in this process, one after the other.
        progress: receives what all jobs advance.
        finished: called with name and result as jobs end.

    Raises:
        HornbookError: workers below 1. Otherwise what the first failing job raised; jobs that have not begun
            are not begun then.
    """
    if workers < 1:
        raise HornbookError(f"workers is {workers}; it must be at least 1.")
    if workers == 1:
        return _one_by_one(jobs, progress, finished)
    results: dict[str, Result] = {}
    context = multiprocessing.get_context("spawn")  # a forked torch process may hang in its thread pools
    counter = context.Value("d", 0.0)
    shown = 0.0
    pool = ProcessPoolExecutor(
        min(workers, max(1, len(jobs))), mp_context=context, initializer=_begin, initargs=(counter,)
    )
    with pool:
        waiting: dict[Future[Result], str] = {pool.submit(_call, job): name for name, job in jobs.items()}
        try:
            while waiting:
                done, _ = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                reached = float(counter.value)
                if reached > shown:
                    progress.advance(reached - shown)
                    shown = reached
                for future in done:
                    name = waiting.pop(future)
                    results[name] = future.result()
                    if finished is not None:
                        finished(name, results[name])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if float(counter.value) > shown:
        progress.advance(float(counter.value) - shown)
    return {name: results[name] for name in jobs}


def _one_by_one(
    jobs: Mapping[str, "partial[Result]"], progress: Advances, finished: Callable[[str, Result], None] | None
) -> dict[str, Result]:
    import torch

    threads = torch.get_num_threads()  # jobs take one thread each; the caller keeps its own
    results = {}
    try:
        for name, job in jobs.items():
            results[name] = job(progress=_Quiet(progress))
            if finished is not None:
                finished(name, results[name])
    finally:
        torch.set_num_threads(threads)
    return results


class _Quiet:
    """Passes on what is advanced; numbers beside the count belong to one job and are not shown."""

    def __init__(self, progress: Advances) -> None:
        self.advance = progress.advance

    def set(self, **numbers: object) -> None: ...


def _begin(counter: Any) -> None:
    global _counter
    _counter = counter
    follow_parent(os.getppid())


def follow_parent(parent: int) -> None:
    """Has this process end when its parent is gone: a killed run leaves nobody at work behind it."""

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _call(job: "partial[Result]") -> Result:
    return job(progress=SharedProgress())
