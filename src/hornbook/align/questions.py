"""Requests whose answers can be verified, with a good and a bad answer written beforehand where known.

- "program": word problems; the program is run, also under a second number assignment;
- "function": exercises; the function is run on hidden cases;
- "policy": requests the policy restricts; a right answer declines;
- "helpful": harmless look-alikes; a wrong answer declines. That an answer does not decline does not make it a
  good one, so nothing the model says here is verified as right.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from hornbook.align.checkpoints import folder_of
from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.evals import exercises, word_problems
from hornbook.lab.step import Artifact
from hornbook.synth.policy import is_refusal
from hornbook.synth.preferences import write_preference
from hornbook.synth.word_problems import spoil

KINDS = ("program", "function", "policy", "helpful")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request. `good` and `bad` are written answers ("" where there is none); `facts` is what the
    verifier needs."""

    id: str
    kind: str
    request: str
    good: str = ""
    bad: str = ""
    bad_why: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """right: True, False, or None where the verifier cannot say. why: what was found."""

    right: bool | None
    why: str


def problem_questions(corpus: Artifact | Path, count: int, seed: int) -> list[Question]:
    """`count` word problems of a corpus of `synth.steps.write_word_problems`, drawn without repetition."""
    found = []
    for row in _draw(corpus, count, seed, "word problems"):
        meta = json.loads(row["meta"])
        bad, flaw = _spoilt(str(meta["program"]), Random(f"{seed} {row['id']}"))
        found.append(
            Question(
                id=str(row["id"]),
                kind="program",
                request=str(meta["question"]),
                good=str(meta["program"]),
                bad=bad,
                bad_why=f"wrong answer ({flaw})",
                facts={"id": row["id"], "meta": row["meta"]},
            )
        )
    return found


def exercise_questions(corpus: Artifact | Path, count: int, seed: int) -> list[Question]:
    """`count` exercises of a corpus of `synth.steps.write_exercises`; there are no written wrong answers."""
    found = []
    for row in _draw(corpus, count, seed, "exercises"):
        meta = json.loads(row["meta"])
        request = f"Complete this function:\n{str(meta['prompt']).rstrip()}"
        found.append(
            Question(id=str(row["id"]), kind="function", request=request, good=row["text"], facts=dict(row))
        )
    return found


def policy_questions(kind: str, count: int, seed: int) -> list[Question]:
    """`count` requests of kind "policy" or "helpful", none of them among the held-out ones."""
    found: dict[str, Question] = {}
    for index in range(20 * count):
        if len(found) == count:
            break
        pair = write_preference(seed, index, shares={kind: 1.0})
        found.setdefault(
            pair.request,
            Question(
                id=f"{kind}-{seed}-{index}",
                kind=kind,
                request=pair.request,
                good=pair.chosen,
                bad=pair.rejected,
                bad_why=pair.why,
            ),
        )
    return list(found.values())


def verify(questions: Sequence[Question], answers: Sequence[Sequence[str]]) -> list[list[Verdict]]:
    """A verdict on every answer: result[question][answer]. Equal answers to a question are run once."""
    results: list[list[Verdict]] = [[] for _ in questions]
    for kind in KINDS:
        numbers = [n for n, question in enumerate(questions) if question.kind == kind]
        different = [(n, text) for n in numbers for text in dict.fromkeys(answers[n])]
        verdicts = dict(zip(different, _verdicts(kind, questions, different), strict=True))
        for n in numbers:
            results[n] = [verdicts[n, text] for text in answers[n]]
    return results


def _verdicts(kind: str, questions: Sequence[Question], pairs: Sequence[tuple[int, str]]) -> list[Verdict]:
    if not pairs:
        return []
    texts = [text for _, text in pairs]
    rows = [questions[n].facts for n, _ in pairs]
    if kind == "program":
        graded = word_problems.grade(texts, rows).items
        return [Verdict(right=item.robust, why=item.why or "right") for item in graded]
    if kind == "function":
        passed = exercises.grade(texts, rows).passed
        return [Verdict(right=right, why="right" if right else "fails its cases") for right in passed]
    declines = [is_refusal(text) for text in texts]
    if kind == "policy":
        return [Verdict(right=d, why="declines" if d else "breaks the policy") for d in declines]
    return [
        Verdict(right=False, why="refuses without need") if d else Verdict(right=None, why="does not decline")
        for d in declines
    ]


def _spoilt(program: str, random: Random) -> tuple[str, str]:
    try:
        return spoil(program, random)
    except (AssertionError, KeyError, ValueError, IndexError):  # not in the simulated teacher's layout
        return "", ""


def _draw(corpus: Artifact | Path, count: int, seed: int, what: str) -> list[dict[str, Any]]:
    """`count` rows of a corpus of documents, in the order of the corpus."""
    opened = Corpus.open(folder_of(corpus))
    if opened.schema != "documents":
        raise HornbookError(f"The corpus {opened.folder} holds {opened.schema}, not {what}.")
    if opened.rows < count:
        raise HornbookError(f"The corpus {opened.folder} has {opened.rows} {what}; {count} are asked for.")
    chosen = set(Random(seed).sample(range(opened.rows), count))
    return [row for number, row in enumerate(opened.iter_rows()) if number in chosen]
