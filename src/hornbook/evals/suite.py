"""Every evaluation of this house on any model: held-out items, greedy answers, outcomes item by item.

The items are drawn from the simulated world's held-out side: skeletons of word problems, word triples of
stories, frames of requests and compositions of functions that no training corpus has. The same `seed` and
number of items give the same items, so two models can be compared in pairs.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals import exercises, policy, stories, word_problems
from hornbook.infer.open import open_model
from hornbook.lab.statistics import Interval, wilson_interval
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import Completion, LanguageModel, Sampling, ask
from hornbook.synth.dialogue import dialogue_rows
from hornbook.synth.word_problems import problem_rows

SEED = 977_003
ITEMS = 200
_SAMPLES = 12


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


def answers(
    model: LanguageModel, requests: Sequence[str], *, max_tokens: int, salt: str = ""
) -> tuple[list[str], list[str]]:
    """One greedy answer per request, and the messages of calls that failed (their answer is empty)."""
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
    texts, failures = [], []
    for result in model.complete([ask(text, sampling=sampling, salt=salt) for text in requests]):
        if isinstance(result, Completion):
            texts.append(result.text)
        else:
            texts.append("")
            failures.append(f"{result.kind}: {result.message}")
    return texts, failures


def _unfinished(failures: Sequence[str], items: int) -> str:
    return f"{len(failures)} of {items} calls failed, the first: {failures[0]}" if failures else ""


def _word_problems(model: LanguageModel, items: int, seed: int) -> Result:
    began = time.perf_counter()
    rows = list(problem_rows(seed, items, held_out=True))
    metas = [json.loads(row["meta"]) for row in rows]
    texts, failures = answers(model, [meta["question"] for meta in metas], max_tokens=256)
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
        items=items,
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
        unfinished=_unfinished(failures, items),
    )


def _exercises(model: LanguageModel, items: int, seed: int) -> Result:
    began = time.perf_counter()
    rows = list(dialogue_rows(seed, items, held_out=True, shares={"function": 1.0}))
    metas = [json.loads(row["meta"]) for row in rows]
    requests = [row["messages"][0]["content"] for row in rows]
    texts, failures = answers(model, requests, max_tokens=200)
    score = exercises.grade(texts, metas)
    samples = tuple(
        {"request": request, "answer": text, "right": passed, "note": ""}
        for request, text, passed in zip(requests, texts, score.passed)
    )
    return Result(
        task="exercises",
        items=items,
        seconds=time.perf_counter() - began,
        scores=(Score(name="pass@1", value=score.pass_at_1, interval=score.interval),),
        outcomes={"pass@1": [float(ok) for ok in score.passed]},
        samples=_both_sides(samples),
        details={"reasons": score.reasons},
        unfinished=_unfinished(failures, items),
    )


def _policy(model: LanguageModel, items: int, seed: int) -> Result:
    began = time.perf_counter()
    rows = policy.policy_items(items, items, seed)
    texts, failures = answers(model, [row.request for row in rows], max_tokens=80)
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
        items=2 * items,
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
        samples=_both_sides(samples[:items]) + _both_sides(samples[items:]),
        details={"refusal_by_kind": score.by_kind},
        unfinished=_unfinished(failures, 2 * items),
    )


def _stories(model: LanguageModel, items: int, seed: int) -> Result:
    began = time.perf_counter()
    count = max(1, items // 4)  # a story is long, and each has many sentences to grade
    rows = list(dialogue_rows(seed, count, held_out=True, shares={"story": 1.0}))
    requests = [row["messages"][0]["content"] for row in rows]
    plans = [json.loads(row["meta"])["plan"] for row in rows]
    texts, failures = answers(model, requests, max_tokens=320)
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
        items=count,
        seconds=time.perf_counter() - began,
        scores=(
            Score(name="grammar", value=score.grammar, interval=score.grammar_interval),
            Score(name="consistent", value=score.consistent, interval=score.consistent_interval),
            Score(
                name="finished",
                value=score.finished,
                interval=wilson_interval(int(sum(finished)), count),
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
        unfinished=_unfinished(failures, count),
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
) -> list[Result]:
    """Runs tasks on one model.

    Args:
        model: what `open_model` understands, or a language model.
        tasks: names out of `TASKS`; empty: all of them.
        items: items a task (stories: a quarter of it, policy: that many of each side).
        say: told about each task when it is done.

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
        result = TASKS[name].run(opened, items, seed)
        say(f"{name}: {_line(result)}")
        results.append(result)
    return results


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
