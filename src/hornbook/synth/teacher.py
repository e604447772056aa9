"""Who writes the data: the simulated teacher of this package, or a language model with prompts and checks.

A real teacher gets a prompt rendered from a plan, its text is checked, and one correction turn carries the
checker's sentence back. What still fails is kept with the reason. Every answer is in the call store before
it is read, so a session that stops, for whatever reason, asks only what is missing when it goes on.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hornbook.errors import HornbookError
from hornbook.lm.base import Advances, Completion, Failure, LanguageModel, Message, Request, Sampling
from hornbook.synth.prompts import CORRECTION

SIMULATED = "simulated"
Teacher = Literal["simulated"] | LanguageModel


def open_teacher(spec: str | LanguageModel, *, calls: Path | None = None) -> Teacher:
    """`"simulated"`, a language model as it is, or what `infer.open.open_model` understands.

    With `calls`, answers of a model opened here are kept in that call store and never asked for again.
    `"embedded"` (or `"smollm2"`) is SmolLM2-135M-Instruct: fit for fluent text (stories, small talk),
    measured unfit for maths, judging and refusals; the writers of those refuse it.

    Raises:
        HornbookError: an empty specification, or one that cannot be opened.
    """
    if not isinstance(spec, str):
        return spec
    if not spec.strip():
        raise HornbookError(
            'The teacher is empty; give "simulated", "embedded", a checkpoint folder or http://host/v1#model.'
        )
    if spec == SIMULATED:
        return "simulated"
    if calls is None:
        from hornbook.infer.open import open_model

        return open_model(spec)
    from hornbook.lm.store import CallStore

    if spec.startswith(("http://", "https://")):
        from hornbook.lm.endpoint import EndpointModel

        return EndpointModel.from_spec(spec, store=CallStore(calls))
    from hornbook.infer.open import open_model
    from hornbook.synth.remembered import RememberedModel

    return RememberedModel(open_model(spec), CallStore(calls))


def is_small_embedded(teacher: LanguageModel) -> bool:
    """Whether this is SmolLM2-135M, which must not write maths, exercises or refusals."""
    return "smollm2" in teacher.identity.lower()


UNAVAILABLE = frozenset({"timeout", "connection", "server", "rate_limit", "bad_request"})
"""Failures of the service rather than of the text: the same call may well succeed later."""
UNAVAILABLE_SHARE = 0.02
"""A session with a larger share of unavailable calls has failed; what came is kept."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One text to be written: the prompt, and `check(text)` giving (row or None, what is wrong or empty).

    facets: what the text is to be about, by kind, for those who steer (see `coverage`).
    """

    id: str
    prompt: str
    check: Callable[[str], tuple[dict[str, Any] | None, str]]
    facets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Written:
    """What came of an assignment: a `row`, or the `problem` and the last `text` (empty: no answer)."""

    assignment: Assignment
    row: dict[str, Any] | None
    problem: str = ""
    text: str = ""
    corrected: bool = False


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

    Raises:
        HornbookError: the teacher did not answer a whole batch, or more than `UNAVAILABLE_SHARE` of all
            calls: it is down, too slow or wrongly named. What it answered is in the call store, if it has
            one, and the same command asks only the rest.
    """
    unavailable: Counter[str] = Counter()
    said = ""
    answered = 0
    sampling = sampling or Sampling(temperature=1.0, max_tokens=512)
    for at in range(0, len(assignments), batch):
        part = assignments[at : at + batch]
        first = [Message("user", item.prompt) for item in part]
        asked = [Request(messages=(m,), sampling=sampling, tag=i.id, salt=i.id) for m, i in zip(first, part)]
        answers = teacher.complete(asked)
        done: dict[int, Written] = {}
        again: list[tuple[int, str, str]] = []
        for number, (item, answer) in enumerate(zip(part, answers)):
            outcome = _judge(item, answer, _call(teacher, asked[number]))
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
                salt=part[number].id,
            )
            for number, text, problem in again
        ]
        corrections = teacher.complete(requests) if requests else []
        failed = [
            answer
            for answer in (*answers, *corrections)
            if isinstance(answer, Failure) and answer.kind in UNAVAILABLE
        ]
        answered += len(answers) + len(corrections) - len(failed)
        unavailable.update(answer.kind for answer in failed)
        said = failed[0].message if failed else said
        if len(failed) == len(part) + len(corrections):
            raise _down(teacher, unavailable, answered, said)
        for (number, _, _), answer, request in zip(again, corrections, requests):
            second = _judge(part[number], answer, _call(teacher, request))
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
    if unavailable.total() > UNAVAILABLE_SHARE * (answered + unavailable.total()):
        raise _down(teacher, unavailable, answered, said)


def _down(teacher: LanguageModel, kinds: Counter[str], answered: int, said: str) -> HornbookError:
    counts = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
    return HornbookError(
        f"The teacher {teacher.identity} failed on {kinds.total()} of {answered + kinds.total()} calls "
        f"({counts}; the first said: {said.rstrip('.')}). See that it runs, then give the same command: "
        f"what it answered is kept, and only the rest is asked."
    )


def _judge(item: Assignment, answer: Completion | Failure, call: str | None) -> Written:
    if isinstance(answer, Failure):
        return Written(assignment=item, row=None, problem=f"call failed: {answer.kind}")
    row, problem = item.check(answer.text)
    if row is not None and call is not None:
        row = {**row, "meta": json.dumps({**json.loads(row["meta"]), "call": call}, ensure_ascii=False)}
    return Written(assignment=item, row=row, problem=problem, text=answer.text)


def _call(teacher: LanguageModel, request: Request) -> str | None:
    """The key of the stored call that answers `request`, so that a row leads back to it."""
    key_of = getattr(teacher, "call_key", None)
    return None if key_of is None else str(key_of(request))
