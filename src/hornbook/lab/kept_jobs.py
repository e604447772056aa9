"""Jobs of one step in processes of one thread each: two of those do more on two cores than one of two
threads.

What a job returns is kept beside the step as JSON, so that an interrupted step runs only what is not done.
"""

import json
import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from hornbook.lab.files import write_json

Job = Mapping[str, Any]
"""Named arguments of one call; they and the result cross a process border, so they must pickle."""


def run_jobs(
    function: Callable[..., Mapping[str, Any]],
    jobs: Mapping[str, Job],
    *,
    kept: Path,
    workers: int,
    on_done: Callable[[str, Mapping[str, Any]], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """`function(**jobs[name])` for each name, in `workers` processes (1: in this one); results by name.

    Args:
        function: a module's own function (not a closure), which returns what JSON can hold.
        kept: folder of the results, `<name>.json`; a job whose file is there is not run again.
        on_done: told of each result as it comes, and of those kept, first.
    """
    kept.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}

    def take(name: str, result: Mapping[str, Any], *, new: bool) -> None:
        if new:
            write_json(kept / f"{name}.json", result)
        found[name] = json.loads((kept / f"{name}.json").read_text(encoding="utf-8"))
        if on_done is not None:
            on_done(name, found[name])

    for name in jobs:
        if (kept / f"{name}.json").is_file():
            take(name, {}, new=False)
    missing = [name for name in jobs if name not in found]
    if workers <= 1 or len(missing) <= 1:
        for name in missing:
            take(name, function(**jobs[name]), new=True)
        return {name: found[name] for name in jobs}
    # spawn: a forked torch process may hang in its thread pools
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_one_thread) as pool:
        waiting: dict[Future[Mapping[str, Any]], str] = {
            pool.submit(function, **jobs[name]): name for name in missing
        }
        try:
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    take(waiting.pop(future), future.result(), new=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {name: found[name] for name in jobs}


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
