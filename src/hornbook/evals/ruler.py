"""RULER-like tests by length: several numbers of one key, several keys, chains of variables, the commonest
words.

After Hsieh et al. 2024 (arXiv 2404.06654), the phi-3.5 report's evidence for 128K. Finding one sentence is
what models do best in a long text (`evals.retrieval`); these ask for all of several, for what follows over
hops, and for what no single sentence says. Everything is drawn anew, so nothing can be known beforehand. The
score of an answer is the share of the wanted texts that stand in it, as RULER counts.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals import retrieval
from hornbook.evals.result import Result, score_of
from hornbook.evals.retrieval import EFFECTIVE, KEYS, fact, fill
from hornbook.lab.statistics import Interval, bootstrap_interval
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import Completion, LanguageModel, Request, Sampling, ask

VERSION = "ruler-1"
TASKS = ("single", "multi-key", "multi-value", "multi-query", "variables", "common-words")
HOPS, CHAINS, COMMON = 4, 2, 5
MAX_TOKENS = 96

_WORDS = (
    "anchor", "basket", "candle", "dragon", "engine", "feather", "guitar", "hammer", "island", "jacket",
    "kettle", "ladder", "mirror", "needle", "orange", "pencil", "quiver", "ribbon", "saddle", "ticket",
    "urchin", "velvet", "walnut", "yellow", "zipper", "acorn", "button", "copper", "dagger", "ember",
    "falcon", "garlic", "harvest", "insect", "jigsaw", "kernel", "lantern", "magnet", "nettle",
    "oyster", "pepper", "quartz", "rocket", "spider", "thistle", "umbra", "violet", "window", "yonder",
    "zebra",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Question:
    """length: tokens that the prompt may have. answers: texts that an answer should hold, all of them."""

    id: str
    task: str
    length: int
    prompt: str
    answers: tuple[str, ...]


def questions(
    count_tokens: Callable[[str], int],
    *,
    lengths: Sequence[int],
    tasks: Sequence[str] = TASKS,
    per_cell: int = 10,
    seed: int = 0,
) -> list[Question]:
    """`per_cell` questions for every task and length, the same for the same arguments.

    count_tokens: tokens of a text under the model's tokenizer; each prompt has at most its length, and misses
        it by less than a sentence (of words: than a round of them).

    Raises:
        HornbookError: an unknown task, a length too short for a task.
    """
    unknown = sorted(set(tasks) - set(TASKS))
    if unknown:
        raise HornbookError(f"There is no task {unknown[0]!r}; accepted: {', '.join(TASKS)}.")
    if per_cell < 1 or not lengths:
        raise HornbookError("RULER's tests need at least one length and one question of each.")
    return [
        _question(count_tokens, task, length, Random(f"{VERSION} {seed} {task} {length} {number}"), number)
        for task in tasks
        for length in lengths
        for number in range(per_cell)
    ]


def _question(
    count_tokens: Callable[[str], int], task: str, length: int, random: Random, number: int
) -> Question:
    id = f"{task}-{length}-{number}"
    if task in ("single", "multi-key"):
        [item] = retrieval.items(
            count_tokens,
            lengths=[length],
            depths=[random.random()],
            per_cell=1,
            other_keys=3 if task == "multi-key" else 0,
            seed=random.randrange(2**31),
        )
        return Question(id=id, task=task, length=length, prompt=item.prompt, answers=(item.answer,))
    if task == "common-words":
        prompt, answers = _common_words(count_tokens, length, random)
    else:
        write = {"multi-value": _values, "multi-query": _queries, "variables": _variables}[task]
        stated, end, answers = write(random)
        places = [random.random() for _ in stated]

        def whole(filler: Sequence[str]) -> str:
            sentences = list(filler)
            # From the last to the first, so that what is stated in order stays in order.
            for place, one in sorted(zip(sorted(places), stated, strict=True), reverse=True):
                sentences.insert(round(place * len(filler)), one)
            return f"Read this text.\n\n{' '.join(sentences)}\n\n{end}"

        prompt = whole(fill(count_tokens, length, random, whole))
    return Question(id=id, task=task, length=length, prompt=prompt, answers=answers)


Stated = tuple[list[str], str, tuple[str, ...]]


def _numbers(random: Random, count: int) -> list[str]:
    return [str(n) for n in random.sample(range(10_000, 100_000), count)]


def _values(random: Random) -> Stated:
    key, other = random.sample(KEYS, 2)
    numbers = _numbers(random, 6)
    stated = [f"One of the special numbers of the {key} is {n}." for n in numbers[:4]]
    stated += [f"One of the special numbers of the {other} is {n}." for n in numbers[4:]]
    random.shuffle(stated)
    return (
        stated,
        f"What are all four special numbers of the {key}? Answer with the numbers alone.",
        tuple(numbers[:4]),
    )


def _queries(random: Random) -> Stated:
    keys, numbers = random.sample(KEYS, 6), _numbers(random, 6)
    stated = [fact(key, n) for key, n in zip(keys, numbers, strict=True)]
    random.shuffle(stated)
    asked = ", ".join(f"the {key}" for key in keys[:4])
    return (
        stated,
        f"What are the special numbers of {asked}? Answer with the numbers alone.",
        tuple(numbers[:4]),
    )


def _variables(random: Random) -> Stated:
    letters = "BCDFGHJKLMNPQRSTVWXZ"
    names: list[str] = []
    while len(names) < CHAINS * (HOPS + 1):
        name = "".join(random.sample(letters, 5))
        if name not in names:
            names.append(name)
    chains = [names[n * (HOPS + 1) : (n + 1) * (HOPS + 1)] for n in range(CHAINS)]
    values = _numbers(random, CHAINS)
    lines = [
        [f"VAR {chain[0]} = {value}."] + [f"VAR {new} = VAR {old}." for old, new in pairwise(chain)]
        for chain, value in zip(chains, values, strict=True)
    ]
    stated = []
    while any(lines):  # the chains interleave, each in its own order
        stated.append(random.choice([line for line in lines if line]).pop(0))
    end = (
        f"Which variables have the value {values[0]}, directly or through other variables? There are "
        f"{HOPS + 1}. Answer with their names alone."
    )
    return stated, end, tuple(chains[0])


def _common_words(
    count_tokens: Callable[[str], int], length: int, random: Random
) -> tuple[str, tuple[str, ...]]:
    words = random.sample(_WORDS, len(_WORDS))
    common, others = words[:COMMON], words[COMMON:]
    end = f"\n\nWhich {COMMON} words are the commonest in this list? Answer with the words alone."

    def whole(rounds: int) -> str:
        # Each round names every common word once and as many of the others in turn: a tenth as often.
        drawn = common * rounds + [others[n % len(others)] for n in range(COMMON * rounds)]
        Random(f"{words[0]} {rounds}").shuffle(drawn)
        return "A list of words:\n" + " ".join(f"{n}. {word}" for n, word in enumerate(drawn, 1)) + end

    # The others must not come up as often as the common ones: at least two rounds.
    if count_tokens(whole(2)) > length:
        raise HornbookError(
            f"{length} tokens are too few for common-words; it takes {count_tokens(whole(2))}."
        )
    low, high = 2, 4
    while count_tokens(whole(high)) <= length:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count_tokens(whole(middle)) <= length else (low, middle)
    return whole(low), tuple(common)


def score(answer: str, question: Question) -> float:
    """The share of the wanted texts that stand in the answer, as whole words."""
    said = set(re.findall(r"\w+", answer.lower()))
    return fmean(float(text.lower() in said) for text in question.answers)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One task at one length. scores: of the answers that came; unscored calls failed."""

    task: str
    length: int
    scores: tuple[float, ...]
    unscored: int

    @property
    def mean(self) -> float | None:
        return fmean(self.scores) if self.scores else None

    @property
    def interval(self) -> Interval:
        """95 %, bootstrap."""
        return bootstrap_interval(self.scores) if self.scores else Interval(0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Ruler:
    """All cells; `outcomes`: one score for each question, None where the call failed."""

    cells: tuple[Cell, ...]
    outcomes: tuple[float | None, ...]

    def by_length(self) -> Mapping[int, float]:
        """Mean over tasks of each length (as the phi-3.5 report's table); lengths without an answer are left
        out."""
        found: dict[int, list[float]] = {}
        for cell in self.cells:
            if cell.mean is not None:
                found.setdefault(cell.length, []).append(cell.mean)
        return {length: fmean(means) for length, means in sorted(found.items())}

    def effective_length(self, threshold: float = EFFECTIVE) -> int:
        """The longest length up to which no length falls below `threshold`; 0 where the first does."""
        longest = 0
        for length, mean in self.by_length().items():
            if mean < threshold:
                break
            longest = length
        return longest

    def as_json(self) -> dict[str, Any]:
        """Cells with intervals, means by length, the effective length."""
        return {
            "cells": [
                {
                    "task": cell.task,
                    "length": cell.length,
                    "score": cell.mean,
                    "interval": list(cell.interval),
                    "asked": len(cell.scores),
                    "unscored": cell.unscored,
                }
                for cell in self.cells
            ],
            "by_length": {str(length): mean for length, mean in self.by_length().items()},
            "effective_length": self.effective_length(),
        }


def measure(model: LanguageModel, asked: Sequence[Question], *, progress: Any = None) -> Ruler:
    """Asks every question once, greedily. A failed call is not a wrong answer: it is counted apart."""
    from hornbook.evals.asking import converses

    sampling = Sampling(temperature=0.0, max_tokens=MAX_TOKENS)
    talks = converses(model)
    results = model.complete(
        [
            ask(q.prompt, sampling=sampling) if talks else Request(prompt=q.prompt + "\n", sampling=sampling)
            for q in asked
        ],
        progress=progress,
    )
    outcomes = tuple(
        score(result.text, question) if isinstance(result, Completion) else None
        for question, result in zip(asked, results, strict=True)
    )
    groups: dict[tuple[str, int], list[float | None]] = {}
    for question, outcome in zip(asked, outcomes, strict=True):
        groups.setdefault((question.task, question.length), []).append(outcome)
    cells = tuple(
        Cell(
            task=task,
            length=length,
            scores=tuple(one for one in own if one is not None),
            unscored=sum(one is None for one in own),
        )
        for (task, length), own in groups.items()
    )
    return Ruler(cells=cells, outcomes=outcomes)


LONGEST = 4096
"""Tokens of the longest prompts of `hornbook eval`; the step `ruler` goes as far as it is told."""


def as_result(model: LanguageModel, items: int, seed: int) -> Result:
    """`measure` for `hornbook eval`: about `items` questions over all tasks and lengths, doubling from 256
    tokens up to the model's context or `LONGEST`. Of an endpoint, tokens are taken as four letters each."""
    began = time.perf_counter()
    engine, tokenizer = getattr(model, "engine", None), getattr(model, "tokenizer", None)
    room = engine.config.max_position - MAX_TOKENS - 32 if engine is not None else LONGEST
    lengths = [length for length in (256, 512, 1024, 2048, LONGEST) if length <= room]
    if not lengths:
        raise HornbookError(
            f"A context of {room + MAX_TOKENS + 32} tokens is too short for RULER's questions."
        )
    count = (
        (lambda text: len(tokenizer.encode(text))) if tokenizer is not None else (lambda text: len(text) // 4)
    )
    asked = questions(
        count, lengths=lengths, per_cell=max(1, items // (len(TASKS) * len(lengths))), seed=seed
    )
    found = measure(model, asked)
    scored = [(q, value) for q, value in zip(asked, found.outcomes, strict=True) if value is not None]
    if not scored:
        raise HornbookError(f"{model.identity} answered none of {len(asked)} questions.")
    by_length = {n: [value for q, value in scored if q.length == n] for n in lengths}
    missing = len(asked) - len(scored)
    return Result(
        task="ruler",
        items=len(scored),
        seconds=time.perf_counter() - began,
        scores=tuple(score_of(f"{n} tokens", values) for n, values in by_length.items() if values),
        outcomes={"score": [value for _, value in scored]},
        details=found.as_json(),
        unfinished=f"{missing} of {len(asked)} calls failed and are not in the scores" if missing else "",
        ids=tuple(q.id for q, _ in scored),
    )


@step(version="1", makes="table")
def ruler(
    ctx: StepContext,
    *,
    model: Artifact | Path | str,
    lengths: Sequence[int],
    tasks: Sequence[str] = TASKS,
    per_cell: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """RULER-like scores by task and length of a model on this machine (a folder, a .gguf, smollm2).

    Facts: cells (task, length, score, interval, asked, unscored), by_length, effective_length.
    """
    from hornbook.infer.open import open_local

    where = model.path / "model" if isinstance(model, Artifact) else model
    opened = open_local(where)
    asked = questions(
        lambda text: len(opened.tokenizer.encode(text)),
        lengths=lengths,
        tasks=tasks,
        per_cell=per_cell,
        seed=seed,
    )
    return measure(opened, asked, progress=ctx.progress(len(asked), "questions")).as_json()
