"""Jobs of one step in processes of one thread each: two of those do more on two cores than one of two
threads.

What a job returns is kept beside the step as JSON, so that an interrupted step runs only what is not done.
"""

import json
import multiprocessing
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hornbook.lab.files import write_json
from hornbook.lab.workers import side_by_side

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
    side_by_side(
        {name: partial(_call, function, jobs[name]) for name in missing},
        workers=max(1, min(workers, len(missing))),
        progress=_Nobody(),
        finished=lambda name, result: take(name, result, new=True),
    )
    return {name: found[name] for name in jobs}


class _Nobody:
    def advance(self, n: float = 1, /) -> None: ...


def _call(function: Callable[..., Mapping[str, Any]], job: Job, *, progress: object) -> Mapping[str, Any]:
    if multiprocessing.parent_process() is not None:
        import torch

        torch.set_num_threads(1)
    return function(**job)
