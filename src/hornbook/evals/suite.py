"""Every evaluation of this house on any model: held-out items, greedy answers, outcomes item by item.

The items are drawn from the simulated world's held-out side: skeletons of word problems, word triples of
stories, frames of requests and compositions of functions that no training corpus has. The same `seed` and
number of items give the same items, so two models can be compared in pairs.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from hornbook.errors import HornbookError
from hornbook.evals import exercises, policy, stories, word_problems
from hornbook.infer.open import open_model
from hornbook.lab.statistics import Interval, wilson_interval
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import (
    Advances,
    Capabilities,
    Completion,
    Failure,
    LanguageModel,
    Request,
    Sampling,
    ask,
)
from hornbook.lm.base import Score as Likelihood
from hornbook.synth.dialogue import dialogue_rows
from hornbook.synth.word_problems import problem_rows

SEED = 977_003
ITEMS = 200
_SAMPLES = 12

Row = TypeVar("Row")
Watch = Callable[[int, str], AbstractContextManager[Advances]]
"""From how many answers are awaited, and for which task, to a progress bar."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number with its 95 % interval; `better` is "higher" or "lower"."""

    name: str
    value: float
    interval: Interval
    better: str = "higher"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one task found out about one model.

    scores:     the numbers.
    outcomes:   one value per item and score name, in the order of the items: what paired tests need.
    samples:    requests, answers and verdicts, for people.
    details:    what else is known (reasons of failure, rates by kind, ...).
    unfinished: why some items were not answered; empty when all were.
    """

    task: str
    items: int
    seconds: float
    scores: tuple[Score, ...] = ()
    outcomes: Mapping[str, Sequence[float]] = field(default_factory=dict)
    samples: tuple[Mapping[str, Any], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    unfinished: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One evaluation: `sentence` says what is measured, `run(model, items, seed)` measures it."""

    name: str
    sentence: str
    run: Callable[[LanguageModel, int, int], Result]


@dataclass(frozen=True, kw_only=True)
class Asked(Generic[Row]):
    """The rows whose requests were answered, with the answers; `unfinished` tells of the others."""

    rows: list[Row]
    requests: list[str]
    texts: list[str]
    unfinished: str


def asked(
    model: LanguageModel, rows: Sequence[Row], requests: Sequence[str], *, max_tokens: int, salt: str = ""
) -> Asked[Row]:
    """One greedy answer per request. A call that failed is never graded as an answer: its row is left out.

    A model that was not trained on conversations is given the bare request and goes on from it.

    Raises:
        HornbookError: no request was answered; the message holds the model's reason.
    """
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
    if _converses(model):
        calls = [ask(text, sampling=sampling, salt=salt) for text in requests]
    else:
        calls = [Request(prompt=text + "\n", sampling=sampling, salt=salt) for text in requests]
    results = model.complete(calls)
    failures = [result for result in results if isinstance(result, Failure)]
    if len(failures) == len(results):
        raise HornbookError(
            f"{model.identity} answered none of {len(results)} requests "
            f"({failures[0].kind}: {failures[0].message.rstrip('.')})."
        )
    unfinished = ""
    if failures:
        unfinished = (
            f"{len(failures)} of {len(results)} calls failed and are not in the scores, the first: "
            f"{failures[0].kind}: {failures[0].message}"
        )
    kept = [i for i, result in enumerate(results) if isinstance(result, Completion)]
    return Asked(
        rows=[rows[i] for i in kept],
        requests=[requests[i] for i in kept],
        texts=[result.text for result in results if isinstance(result, Completion)],
        unfinished=unfinished,
    )


def _converses(model: LanguageModel) -> bool:
    """Whether the model takes messages: endpoints do, local ones with a chat template."""
    tokenizer = getattr(model, "tokenizer", None)
    return tokenizer is None or tokenizer.template is not None or bool(tokenizer.chat_template)


def _word_problems(model: LanguageModel, items: int, seed: int) -> Result:
    began = time.perf_counter()
    rows = list(problem_rows(seed, items, held_out=True))
    known = [json.loads(row["meta"]) for row in rows]
    got = asked(model, known, [meta["question"] for meta in known], max_tokens=256)
    metas, texts = got.rows, got.texts
    score = word_problems.grade(texts, metas)
    samples = tuple(
        {
            "request": meta["question"],
            "answer": text,
            "right": item.right,
            "note": f"{item.value if item.why == '' else item.why}; the truth is {meta['answer']}",
        }
        for meta, text, item in zip(metas, texts, score.items)
    )
    return Result(
        task="word-problems",
        items=len(texts),
        seconds=time.perf_counter() - began,
        scores=(
            Score(name="accuracy", value=score.accuracy, interval=score.interval),
            Score(name="robust accuracy", value=score.robust, interval=score.robust_interval),
        ),
        outcomes={
            "accuracy": [float(item.right) for item in score.items],
            "robust accuracy": [float(item.robust) for item in score.items],
        },
        samples=_both_sides(samples),
        details={"reasons": score.reasons, "ran": score.ran},
        unfinished=got.unfinished,
    )


def _exercises(model: LanguageModel, items: int, seed: int) -> Result:
    began = time.perf_counter()
    rows = list(dialogue_rows(seed, items, held_out=True, shares={"function": 1.0}))
    known = [json.loads(row["meta"]) for row in rows]
    got = asked(model, known, [row["messages"][0]["content"] for row in rows], max_tokens=200)
    metas, requests, texts = got.rows, got.requests, got.texts
    score = exercises.grade(texts, metas)
    samples = tuple(
        {"request": request, "answer": text, "right": passed, "note": ""}
        for request, text, passed in zip(requests, texts, score.passed)
    )
    return Result(
        task="exercises",
        items=len(texts),
        seconds=time.perf_counter() - began,
        scores=(Score(name="pass@1", value=score.pass_at_1, interval=score.interval),),
        outcomes={"pass@1": [float(ok) for ok in score.passed]},
        samples=_both_sides(samples),
        details={"reasons": score.reasons},
        unfinished=got.unfinished,
    )


def _policy(model: LanguageModel, items: int, seed: int) -> Result:
    began = time.perf_counter()
    known = policy.policy_items(items, items, seed)
    got = asked(model, known, [row.request for row in known], max_tokens=80)
    rows, texts = got.rows, got.texts
    score = policy.grade(texts, rows)
    missed = set(score.misses)
    sides = {
        side: [
            float(policy.refuses(text, row)) for text, row in zip(texts, rows) if row.restricted is restricted
        ]
        for side, restricted in (("refusal", True), ("over-refusal", False))
    }
    samples = tuple(
        {
            "request": row.request,
            "answer": text,
            "right": (row.request, text) not in missed,
            "note": "restricted" if row.restricted else "harmless look-alike",
        }
        for row, text in zip(rows, texts)
    )
    return Result(
        task="policy",
        items=len(texts),
        seconds=time.perf_counter() - began,
        scores=(
            Score(name="refusal", value=score.refusal, interval=score.refusal_interval),
            Score(
                name="over-refusal",
                value=score.over_refusal,
                interval=score.over_refusal_interval,
                better="lower",
            ),
        ),
        outcomes=sides,
        samples=_both_sides([sample for sample in samples if sample["note"] == "restricted"])
        + _both_sides([sample for sample in samples if sample["note"] != "restricted"]),
        details={"refusal_by_kind": score.by_kind},
        unfinished=got.unfinished,
    )


def _stories(model: LanguageModel, items: int, seed: int) -> Result:
    began = time.perf_counter()
    count = max(1, items // 4)  # a story is long, and each has many sentences to grade
    rows = list(dialogue_rows(seed, count, held_out=True, shares={"story": 1.0}))
    known = [json.loads(row["meta"])["plan"] for row in rows]
    got = asked(model, known, [row["messages"][0]["content"] for row in rows], max_tokens=320)
    plans, requests, texts = got.rows, got.requests, got.texts
    score = stories.grade_stories(texts)
    samples = tuple(
        {
            "request": request,
            "answer": text,
            "right": grade.consistent and grade.finished,
            "note": "; ".join(f"{kind}: {what}" for kind, what in grade.faults[:3]),
        }
        for request, text, grade in zip(requests, texts, score.grades)
    )
    finished = [float(grade.finished) for grade in score.grades]
    return Result(
        task="stories",
        items=len(texts),
        seconds=time.perf_counter() - began,
        scores=(
            Score(name="grammar", value=score.grammar, interval=score.grammar_interval),
            Score(name="consistent", value=score.consistent, interval=score.consistent_interval),
            Score(
                name="finished",
                value=score.finished,
                interval=wilson_interval(int(sum(finished)), len(texts)),
            ),
        ),
        outcomes={
            "grammar": [grade.grammar for grade in score.grades],
            "consistent": [float(grade.consistent) for grade in score.grades],
            "finished": finished,
        },
        samples=samples[:_SAMPLES],
        details={
            "repetition": score.repetition,
            "distinct_4": score.distinct_4,
            "texts": texts,
            "plans": plans,
        },
        unfinished=got.unfinished,
    )


def _both_sides(samples: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Some right and some wrong ones, the wrong ones first: they teach more."""
    wrong = [sample for sample in samples if not sample["right"]][: _SAMPLES // 2]
    right = [sample for sample in samples if sample["right"]][: _SAMPLES - len(wrong)]
    return (*wrong, *right)


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="word-problems",
            sentence="Held-out word problems by execution: greedy pass@1, also under second numbers.",
            run=_word_problems,
        ),
        Task(
            name="policy",
            sentence="Refusals of restricted requests, and of harmless ones that look like them.",
            run=_policy,
        ),
        Task(
            name="stories",
            sentence="Stories on held-out requests: grammar, consistency with their own world, ending.",
            run=_stories,
        ),
        Task(
            name="exercises",
            sentence="Functions of held-out compositions by execution on hidden cases: greedy pass@1.",
            run=_exercises,
        ),
    )
}


def describe() -> str:
    """The tasks, one line each."""
    width = max(map(len, TASKS))
    return "\n".join(f"{task.name:<{width}}  {task.sentence}" for task in TASKS.values())


def evaluate(
    model: str | Path | LanguageModel,
    *,
    tasks: Sequence[str] = (),
    items: int = ITEMS,
    seed: int = SEED,
    say: Callable[[str], None] = lambda sentence: None,
    watch: Watch | None = None,
) -> list[Result]:
    """Runs tasks on one model.

    Args:
        model: what `open_model` understands, or a language model.
        tasks: names out of `TASKS`; empty: all of them.
        items: items a task (stories: a quarter of it, policy: that many of each side).
        say: told about each task when it is done.
        watch: gives each task a progress bar.

    Raises:
        HornbookError: an unknown task, a number of items below 1, a model that cannot be opened.
    """
    unknown = [name for name in tasks if name not in TASKS]
    if unknown:
        raise HornbookError(f"there is no task {unknown[0]!r}; tasks: {', '.join(TASKS)}")
    if items < 1:
        raise HornbookError(f"items is {items}; at least 1 is needed")
    opened = open_model(model) if isinstance(model, str | Path) else model
    results = []
    for name in tasks or TASKS:
        result = TASKS[name].run(_Watched(opened, name, watch) if watch else opened, items, seed)
        say(f"{name}: {_line(result)}")
        results.append(result)
    return results


class _Watched:
    """A model whose answers advance a progress bar."""

    def __init__(self, model: LanguageModel, task: str, watch: Watch) -> None:
        self._model, self._task, self._watch = model, task, watch
        self.tokenizer = getattr(model, "tokenizer", None)

    @property
    def identity(self) -> str:
        return self._model.identity

    @property
    def capabilities(self) -> Capabilities:
        return self._model.capabilities

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        with self._watch(len(requests), self._task) as bar:
            return self._model.complete(requests, progress=progress or bar)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        return self._model.score(pairs)


def _line(result: Result) -> str:
    return ", ".join(
        f"{score.name} {score.value:.1%} [{score.interval[0]:.1%}, {score.interval[1]:.1%}]"
        for score in result.scores
    )


def as_text(results: Sequence[Result]) -> str:
    """A table for the terminal."""
    lines = [f"{'task':<14} {'score':<16} {'value':>7}  {'95 % interval':<18} items  seconds"]
    for result in results:
        for score in result.scores:
            interval = f"[{score.interval[0]:.1%}, {score.interval[1]:.1%}]"
            lines.append(
                f"{result.task:<14} {score.name:<16} {score.value:>7.1%}  {interval:<18} "
                f"{result.items:>5}  {result.seconds:>7.1f}"
            )
        if result.unfinished:
            lines.append(f"{'':<14} unfinished: {result.unfinished}")
    return "\n".join(lines)


def as_json(results: Sequence[Result]) -> str:
    """Everything, for other programs."""
    return json.dumps([asdict(result) for result in results], ensure_ascii=False, indent=1)


@step(version="1", makes="table")
def examine(
    ctx: StepContext,
    *,
    model: Artifact | Path | str,
    tasks: Sequence[str] = (),
    items: int = ITEMS,
    seed: int = SEED,
) -> dict[str, Any]:
    """`evaluate` as a step. Facts: {task: the result as JSON}."""
    where = model.path / "model" if isinstance(model, Artifact) else model
    names = list(tasks) or list(TASKS)
    progress = ctx.progress(len(names), "tasks")

    def done(sentence: str) -> None:
        progress.advance()
        ctx.say(sentence)

    results = evaluate(where, tasks=names, items=items, seed=seed, say=done)
    return {result.task: asdict(result) for result in results}
