"""Programs against hidden tests (section 3.1) and word problems whose numbers are changed (section 4.2)."""

import json
import re
from collections.abc import Sequence
from random import Random

from hornbook.evals import exercises
from hornbook.evals.sparks.probe import Mark, Probe, Trial, Turns, last_number
from hornbook.evals.suite_items import exercise_rows, word_problem_metas


class Code(Probe):
    """A function nobody has asked for before, run on hidden cases in the sandbox."""

    name = "code"
    section = "3.1"
    sentence = "A Python function made of two steps drawn at random, run on hidden cases in the sandbox."
    max_tokens = 200

    def draw(self, rng: Random) -> Trial:
        [row] = exercise_rows(1, rng.randrange(10**9))
        meta = json.loads(row["meta"])
        opening = f"Complete this Python function. Give only code.\n\n{meta['prompt']}"
        told = {
            "name": meta["name"],
            "prompt": meta["prompt"],
            "cases": meta["cases"],
            "solution": row["messages"][-1]["content"],
        }
        return Trial(id="", openings=(opening,), told=told)

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        return self.mark_all([trial], [answers])[0]

    def mark_all(self, trials: Sequence[Trial], answers: Sequence[Sequence[Turns]]) -> list[Mark]:
        if not trials:
            return []
        score = exercises.grade([own[0][-1] for own in answers], [trial.told for trial in trials])
        return [
            Mark(values={"solved": float(good)}, note="" if good else "fails its hidden tests")
            for good in score.passed
        ]

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        return str(trial.told["solution"])


class Altered(Probe):
    """The same story with other numbers: who knows the answer by heart is wrong then."""

    name = "altered-numbers"
    section = "4.2"
    sentence = "A word problem, and the same one with other numbers."
    metric = "both"
    max_tokens = 160

    def draw(self, rng: Random) -> Trial:
        while True:
            [meta] = word_problem_metas(1, rng.randrange(10**9))
            truths = meta["answer"], meta["second_answer"]
            whole = all(float(t).is_integer() for t in truths)
            other = _altered(meta["question"], meta["numbers"], meta["second_numbers"])
            if other and truths[0] != truths[1] and whole:
                break
        asked = "Work it out, and end with a line that says Answer: and the number."
        return Trial(
            id="",
            openings=(f"{meta['question']} {asked}", f"{other} {asked}"),
            told={"truth": [int(t) for t in truths]},
        )

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        read = [last_number(turns[-1]) for turns in answers]
        good = [given == truth for given, truth in zip(read, trial.told["truth"])]
        return Mark(
            values={"both": float(all(good)), "as told": float(good[0]), "altered": float(good[1])},
            read=f"{read[0]}; {read[1]}",
            note="" if all(good) else "the truth is {}; {}".format(*trial.told["truth"]),
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        return f"Answer: {trial.told['truth'][conversation]}"


def _altered(question: str, numbers: Sequence[int], others: Sequence[int]) -> str:
    """The question with other numbers; empty where they cannot be told apart in it."""
    shown = re.findall(r"\d+", question)
    if len(set(numbers)) < len(numbers) or sorted(shown) != sorted(map(str, numbers)):
        return ""
    table = {str(number): str(other) for number, other in zip(numbers, others, strict=True)}
    return re.sub(r"\d+", lambda match: table[match.group()], question)
