"""What the suite asks, so that no training text gives it away: the rows of each task, and evaluation sets.

The suite draws its items from these functions and from nowhere else, so what decontamination is shown is what
students are asked.
"""

import json
from typing import Any

from hornbook.curate.decontaminate import EvaluationItem
from hornbook.evals import policy
from hornbook.synth.dialogue import dialogue_rows
from hornbook.synth.policy import PolicyRow
from hornbook.synth.word_problems import problem_rows

SEED = 977_003
ITEMS = 200


def word_problem_metas(items: int, seed: int) -> list[dict[str, Any]]:
    """Held-out word problems: the `meta` of their rows."""
    return [json.loads(row["meta"]) for row in problem_rows(seed, items, held_out=True)]


def exercise_rows(items: int, seed: int) -> list[dict[str, Any]]:
    """Held-out function exercises, as conversations."""
    return list(dialogue_rows(seed, items, held_out=True, shares={"function": 1.0}))


def story_rows(items: int, seed: int) -> list[dict[str, Any]]:
    """Held-out story requests; a quarter as many, for a story is long and each sentence is graded."""
    return list(dialogue_rows(seed, max(1, items // 4), held_out=True, shares={"story": 1.0}))


def policy_rows(items: int, seed: int) -> list[PolicyRow]:
    """Held-out restricted requests, and as many look-alikes."""
    return policy.policy_items(items, items, seed)


def evaluation_sets(items: int = ITEMS, seed: int = SEED) -> dict[str, list[EvaluationItem]]:
    """The very items of a suite of this size and seed, by task, for `hornbook.curate.steps.curate`.

    Questions with the reference answer where there is one; programs are compared as text, not by syntax (the
    functions asked for are so short that their syntax is that of many others).
    """
    sets = {
        "suite: word-problems": [
            EvaluationItem(id=str(at), question=meta["question"], answer=meta["program"])
            for at, meta in enumerate(word_problem_metas(items, seed))
        ],
        "suite: policy": [
            EvaluationItem(id=str(at), question=row.request)
            for at, row in enumerate(policy_rows(items, seed))
        ],
    }
    for name, rows in (("exercises", exercise_rows(items, seed)), ("stories", story_rows(items, seed))):
        sets[f"suite: {name}"] = [
            EvaluationItem(
                id=str(at), question=row["messages"][0]["content"], answer=row["messages"][-1]["content"]
            )
            for at, row in enumerate(rows)
        ]
    return sets
