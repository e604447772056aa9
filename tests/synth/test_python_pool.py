"""The pool is what it says of itself: documents are executed, and compositions are those of training."""

import ast
import json
from collections import Counter

from hornbook.sandbox import Job, run_many
from hornbook.synth.exercises import write_exercise
from hornbook.synth.primitives import BY_NAME, is_held_out, meaning
from hornbook.synth.python_pool import KINDS, lesson_rows, pool_rows, write_lesson

ROWS = list(pool_rows(3, 1500))
BY_KIND = {
    kind: [row["text"] for row in ROWS if json.loads(row["meta"])["kind"] == kind] for kind, _ in KINDS
}


def composition_of(name: str) -> tuple[str, ...] | None:
    steps = tuple(name.split("_then_"))
    return steps if all(step in BY_NAME for step in steps) else None


def test_kinds_have_their_shares_and_only_the_instructive_count_as_educational() -> None:
    counts = Counter(json.loads(row["meta"])["kind"] for row in ROWS)
    for kind, share in KINDS:
        assert abs(counts[kind] / len(ROWS) - share) < 4 * (share * (1 - share) / len(ROWS)) ** 0.5
    for row in ROWS:
        known = json.loads(row["meta"])
        assert known["educational"] == (known["kind"] == "instructive")


def test_instructive_functions_do_what_they_say_and_broken_ones_do_not() -> None:
    values = {"numbers": [5, -2, 12], "number": 7, "words": ["apple", "sun"], "text": "a cat sat"}
    right: dict[str, list[bool]] = {}
    for kind in ("instructive", "broken"):
        jobs, truths = [], []
        for text in BY_KIND[kind][:120]:
            name = text[4 : text.index("(")]
            steps = composition_of(name)
            assert steps is not None
            value = values[BY_NAME[steps[0]].takes]
            jobs.append(Job(source=text, entry=name, args=(value,)))
            truths.append(meaning(steps, value))
        right[kind] = [o.ok and o.value == t for o, t in zip(run_many(jobs), truths)]
    assert all(right["instructive"])
    assert not any(right["broken"])


def test_no_held_out_composition_is_in_the_pool_or_in_a_lesson() -> None:
    names = [text[4 : text.index("(")] for kind in ("instructive", "broken") for text in BY_KIND[kind]]
    seen = {steps for name in names if (steps := composition_of(name)) is not None}
    seen |= {write_lesson(1, index)[1] for index in range(300)}
    assert len(seen) > 100
    assert not any(is_held_out(steps) for steps in seen)


def test_topics_of_the_pool_are_skewed_and_those_of_lessons_are_not() -> None:
    def top(counts: Counter[str]) -> float:
        return sum(count for _, count in counts.most_common(5)) / counts.total()

    pool = Counter(text[4 : text.index("(")].split("_then_")[0] for text in BY_KIND["instructive"])
    lessons = Counter(json.loads(row["meta"])["composition"].split("|")[0] for row in lesson_rows(0, 300))
    assert top(pool) > 1.5 * top(lessons)


def test_lessons_hold_a_function_that_parses_and_trace_its_true_results() -> None:
    for index in range(60):
        text, steps, _ = write_lesson(2, index)
        code = text[text.index("def ") : text.index("\n\nTake ")]
        assert isinstance(ast.parse(code).body[0], ast.FunctionDef)
        shown = text[text.index("\n\nTake ") :]
        value = ast.literal_eval(shown[len("\n\nTake ") : shown.index(". ")])
        assert f"{meaning(steps, value)!r}." in shown


def test_unconstrained_exercises_keep_to_a_fifth_of_the_names() -> None:
    free = Counter(write_exercise(0, index, constrained=False).name for index in range(1500))
    drawn = Counter(write_exercise(0, index).name for index in range(1500))
    assert len(free) < len(drawn) / 2
    assert not any(is_held_out(write_exercise(0, i, constrained=False).composition) for i in range(300))
