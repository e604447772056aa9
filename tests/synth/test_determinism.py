"""The same seed gives the same rows in another process, with another hash seed, on another machine."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hornbook.synth import dialogue, exercises, preferences, stories, textbooks, word_problems

WRITERS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "stories": stories.story_rows,
    "textbooks": textbooks.textbook_rows,
    "word_problems": word_problems.problem_rows,
    "exercises": exercises.exercise_rows,
    "dialogue": dialogue.dialogue_rows,
    "preferences": preferences.preference_rows,
}
_PROGRAM = """
import hashlib, json
from hornbook.synth import dialogue, exercises, preferences, stories, textbooks, word_problems
writers = {"stories": stories.story_rows, "textbooks": textbooks.textbook_rows,
    "word_problems": word_problems.problem_rows, "exercises": exercises.exercise_rows,
    "dialogue": dialogue.dialogue_rows, "preferences": preferences.preference_rows}
print(json.dumps({name: hashlib.sha256(json.dumps(list(write(17, 60))).encode()).hexdigest()
    for name, write in writers.items()}))
"""


def digest(rows: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def test_rows_do_not_depend_on_the_process_or_its_hash_seed() -> None:
    here = {name: digest(list(write(17, 60))) for name, write in WRITERS.items()}
    for hash_seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": hash_seed}
        other = subprocess.run(
            [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, check=True
        )
        assert json.loads(other.stdout) == here


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_seeds_differ_and_order_of_asking_does_not_matter(name: str) -> None:
    write = WRITERS[name]
    rows = list(write(17, 40))
    assert digest(list(write(18, 40))) != digest(rows)
    assert list(write(17, 40, start=25)) == rows[25:]


@pytest.mark.parametrize("name", ["stories", "textbooks", "word_problems", "exercises", "dialogue"])
def test_no_held_out_text_is_a_training_text(name: str) -> None:
    write = WRITERS[name]

    def texts(held_out: bool, rows: int) -> set[str]:
        out = set()
        for row in write(3, rows, held_out=held_out):
            if "text" in row:
                out.add(row["text"])
            elif row["source"].rsplit("/", 1)[1] not in ("smalltalk", "restricted", "harmless"):
                # small talk has no held-out side; the policy's split is of requests (test_policy)
                out.add(json.dumps(row["messages"]))
        return out

    assert not texts(True, 300) & texts(False, 1500)
