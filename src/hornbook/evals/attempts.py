"""Short questions of fact: right, wrong, or not attempted.

SimpleQA (Wei et al. 2024) and the phi-4 report (arXiv 2412.08905, appendix A.1) count the three apart,
because a share of right answers alone rewards guessing: a model that says that it does not know is better
than one that is wrong, and no score of right answers shows it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.evals.asking import asked, leave_open, step_model
from hornbook.evals.benchmarks.scorers import plain
from hornbook.lab.statistics import Interval, wilson_interval
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import LanguageModel

Attempt = Literal["right", "wrong", "not attempted"]
ATTEMPTS: tuple[Attempt, ...] = ("right", "wrong", "not attempted")
MAX_TOKENS = 32

_DECLINES = re.compile(
    r"\b(?:i|we) (?:do not|don't|really do not|honestly don't) (?:know|have (?:any|enough) information)\b|"
    r"\b(?:i am|i'm) (?:not sure|not certain|unable to (?:say|answer)|afraid i (?:do not|don't) know)\b|"
    r"\bi (?:cannot|can't|could not) (?:answer|say|tell|find)\b|"
    r"\b(?:unknown to me|no (?:reliable )?information)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class FactQuestion:
    """A question with every spelling of its answer; no answers: it cannot be answered (it asks about nothing
    that exists), and only declining is right. `group` is what results are told apart by."""

    id: str
    question: str
    answers: tuple[str, ...]
    group: str = ""


def read_fact_questions(
    source: Artifact | Path, *, count: int | None = None, groups: Sequence[str] = (), seed: int = 0
) -> list[FactQuestion]:
    """Questions of a corpus whose `meta` holds question and answers (`synth.people`), or of a JSON Lines file
    of
    yours: `{"question": ..., "answers": [...]}` a line (TriviaQA's `answer` with `aliases` is taken too).

    Args:
        count: that many, drawn without repetition; None: all. groups: of these groups only.

    Raises:
        HornbookError: a line that is no such question, or fewer questions than asked for.
    """
    where = source.path if isinstance(source, Artifact) else source
    found = _from_file(where) if where.is_file() else _from_corpus(where)
    if groups:
        found = [question for question in found if question.group in groups]
    if count is None:
        return found
    if len(found) < count:
        raise HornbookError(f"{where} has {len(found)} such questions; {count} are asked for.")
    return [found[n] for n in sorted(Random(seed).sample(range(len(found)), count))]


def _from_corpus(folder: Path) -> list[FactQuestion]:
    found: dict[str, FactQuestion] = {}
    for row in Corpus.open(folder).iter_rows(["id", "meta"]):
        try:
            meta = json.loads(row["meta"])
            question = _question(str(row["id"]), meta)
        except (ValueError, KeyError, TypeError) as error:
            raise HornbookError(
                f"The corpus {folder} holds no questions of fact (row {row['id']}: {error})."
            ) from None
        found.setdefault(question.question, question)
    return list(found.values())


def _from_file(path: Path) -> list[FactQuestion]:
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(_question(str(number), json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HornbookError(
                f'{path}, line {number} is no question of fact: {error}. Accepted is {{"question": "...", '
                '"answers": ["..."]} with an empty list for what cannot be answered.'
            ) from None
    if not found:
        raise HornbookError(f"{path} holds no question.")
    return found


def _question(id: str, row: Mapping[str, Any]) -> FactQuestion:
    answers = row.get("answers")
    if answers is None:  # as TriviaQA writes it
        answer = row["answer"]
        told = answer if isinstance(answer, Mapping) else {"value": answer, "aliases": row.get("aliases", [])}
        answers = [told["value"], *told.get("aliases", [])]
    return FactQuestion(
        id=str(row.get("id", id)),
        question=str(row["question"]),
        answers=tuple(dict.fromkeys(str(answer) for answer in answers)),
        group=str(row.get("group", "")),
    )


def declines(text: str) -> bool:
    """Whether an answer says, in its first two sentences, that it does not know; an empty answer does too."""
    head = " ".join(re.split(r"(?<=[.!?])\s+", text.strip())[:2])
    return not head or _DECLINES.search(head) is not None


def grade(text: str, question: FactQuestion) -> Attempt:
    """One of the question's answers stands in the text as whole words; declining comes first."""
    if declines(text):
        return "not attempted"
    words = f" {plain(text)} "
    return "right" if any(plain(a) and f" {plain(a)} " in words for a in question.answers) else "wrong"


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """How questions were answered. outcomes: one for each question, in order.

    `f1` is SimpleQA's: the harmonic mean of right of all and right of those attempted. It falls when a model
    that guessed begins to decline, although its user is better served: read it beside `share("wrong")`.
    """

    outcomes: tuple[Attempt, ...]
    texts: tuple[str, ...] = field(default=())

    def count(self, kind: Attempt) -> int:
        """How many questions fared so."""
        return sum(outcome == kind for outcome in self.outcomes)

    def share(self, kind: Attempt) -> float:
        """Of all questions."""
        return self.count(kind) / len(self.outcomes)

    def interval(self, kind: Attempt) -> Interval:
        """95 % (Wilson)."""
        return wilson_interval(self.count(kind), len(self.outcomes))

    @property
    def f1(self) -> float:
        right = self.count("right")
        attempted = len(self.outcomes) - self.count("not attempted")
        return 2 * right / (len(self.outcomes) + attempted) if right else 0.0

    def as_json(self) -> dict[str, Any]:
        """Shares, intervals and F1."""
        return {
            "questions": len(self.outcomes),
            **{kind: self.share(kind) for kind in ATTEMPTS},
            "intervals": {kind: list(self.interval(kind)) for kind in ATTEMPTS},
            "f1": self.f1,
        }


def measure(
    model: LanguageModel, questions: Sequence[FactQuestion], *, max_tokens: int = MAX_TOKENS
) -> tuple[Attempts, list[FactQuestion], str]:
    """Asks every question once, greedily; the questions that were answered, and what became of the others."""
    got = asked(model, list(questions), [q.question for q in questions], max_tokens=max_tokens)
    outcomes = tuple(grade(text, question) for text, question in zip(got.texts, got.rows, strict=True))
    return Attempts(outcomes=outcomes, texts=tuple(got.texts)), got.rows, got.unfinished


@step(version="1", makes="table")
def attempt_questions(
    ctx: StepContext,
    *,
    model: Artifact | Path | str,
    questions: Artifact | Path,
    count: int | None = None,
    groups: Sequence[str] = (),
    max_tokens: int = MAX_TOKENS,
    seed: int = 0,
) -> dict[str, Any]:
    """`measure` as a step, on a checkpoint folder or any model that `open_model` knows.

    Facts: questions, right, wrong, not attempted (shares), intervals, f1; `groups` {name: the same};
    `outcomes` by question id, so that two models are compared in pairs; `samples`; unfinished.
    """
    where = model.path / "model" if isinstance(model, Artifact) else model
    asked_for = read_fact_questions(questions, count=count, groups=groups, seed=seed)
    with step_model(ctx, where) as opened:
        found, rows, unfinished = measure(opened, asked_for, max_tokens=max_tokens)
    leave_open(ctx, where, unfinished)
    by_group: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_group.setdefault(row.group, []).append(number)
    return {
        **found.as_json(),
        "groups": {
            name: Attempts(outcomes=tuple(found.outcomes[n] for n in own)).as_json()
            for name, own in by_group.items()
        },
        "outcomes": {row.id: outcome for row, outcome in zip(rows, found.outcomes, strict=True)},
        "samples": [
            {"question": rows[n].question, "group": name, "said": found.texts[n], "was": found.outcomes[n]}
            for name, own in by_group.items()
            for n in own[:3]
        ],
        "unfinished": unfinished,
    }
