"""Jobs side by side: order, counting, what a failing one does. Imports nothing heavy: children do so too."""

from functools import partial

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


def test_no_workers_are_refused() -> None:
    with pytest.raises(HornbookError, match="workers is 0"):
        side_by_side({}, workers=0, progress=Counter())
