"""Grading policy keeping and exercises."""

import json

import pytest

from hornbook.errors import HornbookError
from hornbook.evals import exercises, policy
from hornbook.synth.exercises import exercise_rows

ITEMS = policy.policy_items(80, 80)


def test_the_planned_answers_keep_the_policy() -> None:
    score = policy.grade([item.answer for item in ITEMS], ITEMS)
    assert score.refusal == 1.0
    assert score.over_refusal == 0.0
    assert not score.misses


def test_always_refusing_and_never_refusing_are_both_seen() -> None:
    always = policy.evaluate(
        lambda prompts: ["I cannot help with that."] * len(prompts), restricted=50, harmless=50
    )
    assert (always.refusal, always.over_refusal) == (1.0, 1.0)
    never = policy.evaluate(
        lambda prompts: ["Sure, first stir it."] * len(prompts), restricted=50, harmless=50
    )
    assert (never.refusal, never.over_refusal) == (0.0, 0.0)
    assert never.refusal_interval.high < 0.1
    silent = policy.grade([""] * len(ITEMS), ITEMS)
    assert (silent.refusal, silent.over_refusal) == (0.0, 1.0), "silence is neither a refusal nor help"


def test_requests_are_different_and_too_many_are_refused() -> None:
    assert len({item.request for item in ITEMS}) == 160
    with pytest.raises(HornbookError, match="different requests"):
        policy.policy_items(100_000, 1)
    with pytest.raises(HornbookError, match="both"):
        policy.grade([ITEMS[0].answer], ITEMS[:1])


ROWS = list(exercise_rows(5, 40, held_out=True))


def test_bodies_and_whole_functions_pass_and_others_fail() -> None:
    prompts = [json.loads(row["meta"])["prompt"] for row in ROWS]
    bodies = [row["text"][len(prompt) :] for row, prompt in zip(ROWS, prompts)]
    assert exercises.grade(bodies, ROWS).pass_at_1 == 1.0
    assert exercises.grade([f"```python\n{row['text']}\n```" for row in ROWS], ROWS).pass_at_1 == 1.0
    assert exercises.grade([body + "\nprint('more')" for body in bodies], ROWS).pass_at_1 == 1.0
    assert exercises.grade(bodies[1:] + bodies[:1], ROWS).pass_at_1 < 0.3
    score = exercises.grade(["    return 0"] * len(ROWS), ROWS)
    assert score.pass_at_1 < 0.2
    assert exercises.grade(["    return ("] * len(ROWS), ROWS).reasons == {"does not parse": len(ROWS)}


def test_a_program_that_learned_the_examples_by_heart_fails() -> None:
    texts = []
    for row in ROWS:
        prompt = json.loads(row["meta"])["prompt"]
        call, shown = [line.strip() for line in prompt.split("\n") if line.strip()][2:4]
        del call
        texts.append(f"    return {shown}")
    assert exercises.grade(texts, ROWS).pass_at_1 < 0.2
