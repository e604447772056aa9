"""Jobs side by side: order, counting, what a failing one does. Imports nothing heavy: children do so too."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.lab.workers import side_by_side


def count(amount: int, fail: bool = False, *, progress: object) -> int:
    for _ in range(amount):
        progress.advance()  # type: ignore[attr-defined]
    if fail:
        raise ValueError("this job cannot be done")
    return amount * amount


class Counter:
    def __init__(self) -> None:
        self.done = 0.0

    def advance(self, n: float = 1, /) -> None:
        self.done += n


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_side_by_side_keep_their_order_and_count_together(workers: int) -> None:
    counter, ended = Counter(), list[str]()
    jobs = {name: partial(count, size) for name, size in (("a", 5), ("b", 2), ("c", 3))}
    results = side_by_side(
        jobs, workers=workers, progress=counter, finished=lambda name, result: ended.append(f"{name}{result}")
    )
    assert list(results.items()) == [("a", 25), ("b", 4), ("c", 9)]
    assert counter.done == 10
    assert sorted(ended) == ["a25", "b4", "c9"]
    with pytest.raises(ValueError, match="cannot be done"):
        side_by_side({"a": partial(count, 1, True)}, workers=workers, progress=counter)


def stay(folder: Path, *, progress: object) -> int:
    (folder / str(os.getpid())).touch()
    time.sleep(600)
    return 0


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from functools import partial\nfrom pathlib import Path\n"
        "from test_workers import Counter, stay\n"
        "from hornbook.lab.workers import side_by_side\n"
        f"jobs = {{name: partial(stay, Path({str(tmp_path)!r})) for name in 'ab'}}\n"
        "if __name__ == '__main__':\n    side_by_side(jobs, workers=2, progress=Counter())\n"
    )
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "run.py").write_text(program)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "main" / "run.py")])
    workers = waited(lambda: [int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()], 2)
    parent.kill()
    parent.wait()
    assert waited(lambda: [pid for pid in workers if not alive(pid)], 2)


def waited(found: Callable[[], list[int]], count: int) -> list[int]:
    for _ in range(1200):
        if len(found()) >= count:
            return found()
        time.sleep(0.1)
    raise AssertionError(f"{count} processes were awaited; {found()} came")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_no_workers_are_refused() -> None:
    with pytest.raises(HornbookError, match="workers is 0"):
        side_by_side({}, workers=0, progress=Counter())
