"""Who writes the data: the simulated teacher of this package, or a language model with prompts and checks.

A real teacher gets a prompt rendered from a plan, its text is checked, and one correction turn carries the
checker's sentence back. What still fails is kept with the reason.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hornbook.errors import HornbookError
from hornbook.lm.base import Advances, Completion, Failure, LanguageModel, Message, Request, Sampling
from hornbook.synth.prompts import CORRECTION

SIMULATED = "simulated"
Teacher = Literal["simulated"] | LanguageModel


def open_teacher(spec: str | LanguageModel) -> Teacher:
    """`"simulated"`, a language model as it is, or what `infer.open.open_model` understands.

    `"smollm2"` is the embedded SmolLM2-135M-Instruct: fit for fluent text (stories, small talk), measured
    unfit for maths, judging and refusals; the writers of those refuse it.

    Raises:
        HornbookError: an empty specification, or one that cannot be opened.
    """
    if not isinstance(spec, str):
        return spec
    if not spec.strip():
        raise HornbookError(
            'The teacher is empty; give "simulated", "smollm2", a checkpoint folder or http://host/v1#model.'
        )
    if spec == SIMULATED:
        return "simulated"
    try:
        from importlib import import_module

        opener = import_module("hornbook.infer.open")
    except ModuleNotFoundError as error:
        raise HornbookError(
            f"The teacher {spec!r} needs hornbook.infer.open, which is not installed: {error}"
        ) from None
    model: LanguageModel = opener.open_model(spec)
    return model


def is_small_embedded(teacher: LanguageModel) -> bool:
    """Whether this is SmolLM2-135M, which must not write maths, exercises or refusals."""
    return "smollm2" in teacher.identity.lower()


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One text to be written: the prompt, and `check(text)` giving (row or None, what is wrong or empty)."""

    id: str
    prompt: str
    check: Callable[[str], tuple[dict[str, Any] | None, str]]


@dataclass(frozen=True, kw_only=True)
class Written:
    """What came of an assignment: a `row`, or the `problem` and the last `text` (empty: no answer)."""

    assignment: Assignment
    row: dict[str, Any] | None
    problem: str = ""
    text: str = ""
    corrected: bool = False


@dataclass(kw_only=True)
class Tally:
    """Counts of a writing session, for the facts of a step."""

    kept: int = 0
    corrected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


def write_taught(
    teacher: LanguageModel,
    assignments: Sequence[Assignment],
    *,
    sampling: Sampling | None = None,
    batch: int = 64,
    progress: Advances | None = None,
) -> Iterator[Written]:
    """Have a teacher do the assignments, in batches, with one correction turn for a text that fails.

    A call that fails (refusal, timeout...) is reported as such and never checked as if it were a text.
    """
    sampling = sampling or Sampling(temperature=1.0, max_tokens=512)
    for at in range(0, len(assignments), batch):
        part = assignments[at : at + batch]
        first = [Message("user", item.prompt) for item in part]
        answers = teacher.complete(
            [Request(messages=(m,), sampling=sampling, tag=i.id) for m, i in zip(first, part)]
        )
        done: dict[int, Written] = {}
        again: list[tuple[int, str, str]] = []
        for number, (item, answer) in enumerate(zip(part, answers)):
            outcome = _judge(item, answer)
            if outcome.row is None and isinstance(answer, Completion):
                again.append((number, answer.text, outcome.problem))
            done[number] = outcome
        requests = [
            Request(
                messages=(
                    first[number],
                    Message("assistant", text or "(nothing)"),
                    Message("user", CORRECTION.format(problem=problem)),
                ),
                sampling=sampling,
                tag=part[number].id,
            )
            for number, text, problem in again
        ]
        for (number, _, _), answer in zip(again, teacher.complete(requests) if requests else []):
            second = _judge(part[number], answer)
            if second.row is not None or isinstance(answer, Completion):
                done[number] = Written(
                    assignment=second.assignment,
                    row=second.row,
                    problem=second.problem,
                    text=second.text,
                    corrected=second.row is not None,
                )
        for number in range(len(part)):
            if progress is not None:
                progress.advance()
            yield done[number]


def _judge(item: Assignment, answer: Completion | Failure) -> Written:
    if isinstance(answer, Failure):
        return Written(assignment=item, row=None, problem=f"call failed: {answer.kind}")
    row, problem = item.check(answer.text)
    return Written(assignment=item, row=row, problem=problem, text=answer.text)
