"""Keepers live on from one call to the next."""

import threading

from hornbook.sandbox import Job, run_many

JOBS = [Job(source=f"def solution():\n    return {n}", entry="solution") for n in range(2)]


def test_call_after_call_gives_the_same_answers() -> None:
    for _ in range(6):
        assert [outcome.value for outcome in run_many(JOBS)] == [0, 1]


def test_a_thread_that_ends_does_not_take_the_keepers_along() -> None:
    thread = threading.Thread(target=run_many, args=(JOBS,))
    thread.start()
    thread.join()
    assert [outcome.value for outcome in run_many(JOBS)] == [0, 1]
