"""Skill composition as steps: texts written and sifted, a base raised, arms fine-tuned, all examined."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from math import comb
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.errors import HornbookError
from hornbook.evals.math_squared.students import expected_tokens, training
from hornbook.evals.skill_mix.checkable import compose, exact_grade, mechanical_student
from hornbook.evals.skill_mix.composition import (
    ALPHABET,
    TRAINED_CATEGORIES,
    Split,
    as_lines,
    graded,
    line,
    questions,
    recital,
    split,
    text_of,
)
from hornbook.evals.skill_mix.protocol import (
    SAMPLING,
    Combination,
    combinations,
    first_prompt,
    second_prompt,
    write,
)
from hornbook.evals.skill_mix.score import marks
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.lm.base import LanguageModel
from hornbook.model.config import Positions
from hornbook.synth.teacher import SIMULATED, open_teacher
from hornbook.train.settings import Phase, TrainSettings

SIDES = ("trained", "held out")
_SHOWN = 3
_ROUND = 1.15
"""How many more texts are asked for than are still missing, a round."""
_ROUNDS = 6
_SPARE = 12


@step(version="1", makes="corpus")
def write_compositions(
    ctx: StepContext,
    *,
    teacher: str = SIMULATED,
    ks: Sequence[int],
    each: int,
    categories: Sequence[str] = TRAINED_CATEGORIES,
    max_tokens: int = SAMPLING.max_tokens,
    seed: int,
) -> dict[str, Any]:
    """Texts that show k training skills on a training topic, those with full marks alone (section 3).

    `artifact / "k2"` is the corpus of conversations for k = 2: both prompts of Skill-Mix, both answers.

    Args:
        teacher: a model as `open_teacher` reads it; "simulated": a program that fails one skill in twenty.
        each: texts for each k.

    Facts: `by_k` {k: {asked, kept}}; `shown`.

    Raises:
        HornbookError: a teacher that has full marks so seldom that the texts cannot be had.
    """
    model: LanguageModel
    if teacher == SIMULATED:
        model = mechanical_student(success=0.95, seed=seed)
    else:
        opened = open_teacher(teacher, calls=ctx.folder / "calls.sqlite")
        assert not isinstance(opened, str)
        model = opened
    sides = split(seed=seed, categories=categories)
    progress = ctx.progress(each * len(ks), "texts")
    told, shown = {}, []
    for k in ks:
        kept: list[dict[str, Any]] = []
        asked = 0
        for turn in range(_ROUNDS):
            rng = Random(f"{seed} {k} {turn}")
            missing = each - len(kept)
            tasks = [
                Combination(
                    id=f"k{k}-{turn}-{i}",
                    skills=tuple(rng.sample(sides.skills, k)),
                    topic=rng.choice(sides.topics),
                )
                for i in range(int(missing * _ROUND) + 8)
            ]
            asked += len(tasks)
            pieces = write(
                model,
                tasks,
                generations=1,
                sampling=replace(SAMPLING, max_tokens=max_tokens),
                salt=f"composition {seed} {turn}",
            )
            good = [p for p in pieces if p.text and marks(exact_grade(p).points or (0,))[0] == 1]
            new = [_row(p.task, p.text or "", p.replies) for p in good[:missing]]
            kept += new
            progress.advance(len(new))
            if len(kept) == each:
                break
        if len(kept) < each:
            raise HornbookError(
                f"{model.identity} had full marks on {len(kept)} of {asked} texts at k = {k}, and {each} are "
                "wanted; name a better teacher, or ask for fewer texts."
            )
        with CorpusWriter(
            ctx.folder / f"k{k}",
            "conversations",
            {"made_by": "write_compositions", "teacher": model.identity, "k": k, "seed": seed},
        ) as writer:
            writer.write_rows(kept)
        told[str(k)] = {"asked": asked, "kept": len(kept)}
        shown += [json.loads(row["meta"]) for row in kept[:_SHOWN]]
    return {"teacher": model.identity, "by_k": told, "shown": shown}


def _row(task: Combination, text: str, replies: Sequence[str]) -> dict[str, Any]:
    turns = (first_prompt(task), replies[0], second_prompt(task), replies[1])
    roles = ("user", "assistant", "user", "assistant")
    meta = {"k": task.k, "skills": [s.name for s in task.skills], "topic": task.topic, "text": text}
    return {
        "id": task.id,
        "messages": [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)],
        "source": "skill composition",
        "meta": json.dumps(meta, ensure_ascii=False),
    }


@dataclass(frozen=True, kw_only=True)
class Composer:
    """The student and its training.

    base_steps, base_training, steps, training: of the base, and of one arm. texts: drawn for the base, and
    for an arm.
    natural: the share of the base's texts that show two skills, of all categories, as texts in the wild do.
    lists: the share of the base's lines that are no texts, but lists of up to `longest_list` skills said
    again: a pretrained model can do that much.
    replay: the share of an arm's texts that come from the base's mixture, lest the held-out skills be
    forgotten.
    """

    hidden_size: int = 64
    layers: int = 3
    heads: int = 2
    positions: Positions = "none"
    rows: int = 64
    base_steps: int = 600
    steps: int = 350
    base_training: TrainSettings = field(default_factory=training)
    training: TrainSettings = field(default_factory=lambda: training(1e-3))
    texts: int = 20_000
    natural: float = 0.05
    lists: float = 0.3
    longest_list: int = 6
    replay: float = 0.4

    def __post_init__(self) -> None:
        for name in ("natural", "lists", "replay"):
            if not 0 <= getattr(self, name) < 1:
                raise HornbookError(
                    f"Composer.{name} is {getattr(self, name)}; accepted is a share in [0, 1)."
                )


def _estimate(*, composer: Composer, **other: Any) -> Estimate:
    parameters = 12 * composer.layers * composer.hidden_size**2
    steps = composer.steps + composer.base_steps * ("base" not in other)
    return Estimate(
        seconds=8 + 6.0 * parameters * steps * composer.rows * 26 / 3.5e10,
        memory_bytes=5e8,
        disk_bytes=4.0 * parameters,
    )


@step(version="1", makes="checkpoint", estimate=_estimate)
def raise_composer(
    ctx: StepContext,
    *,
    composer: Composer,
    categories: Sequence[str] = TRAINED_CATEGORIES,
    exam: int,
    ks: Sequence[int],
    seed: int,
) -> dict[str, Any]:
    """The base: texts of one skill, and a few of two, of every category and topic. Facts as
    `learn_composition`."""
    import torch

    from hornbook.model.config import ModelConfig
    from hornbook.model.decoder import Decoder

    rows = _mixture(composer, composer.texts, f"{seed} base", seed, categories)
    torch.manual_seed(seed)
    model = Decoder(
        ModelConfig(
            vocab_size=len(ALPHABET),
            hidden_size=composer.hidden_size,
            layers=composer.layers,
            heads=composer.heads,
            intermediate_size=max(16, 8 * composer.hidden_size // 3 // 16 * 16),
            positions=composer.positions,
            max_position=256,
        )
    ).to("cuda" if torch.cuda.is_available() else "cpu")
    trained = _train(ctx, model, rows, composer, composer.base_steps, composer.base_training, seed)
    return {**trained, "sides": examine(model, exam=exam, ks=ks, seed=seed, categories=categories)}


@step(version="1", makes="checkpoint", estimate=_estimate)
def learn_composition(
    ctx: StepContext,
    *,
    base: Artifact | Path,
    texts: Artifact | Path,
    learned: Sequence[int],
    as_long_as: Artifact | None = None,
    composer: Composer,
    categories: Sequence[str] = TRAINED_CATEGORIES,
    exam: int,
    ks: Sequence[int],
    seed: int,
) -> dict[str, Any]:
    """One arm: the base fine-tuned on texts with k in `learned`, as many of each, and examined.

    All arms see the same number of texts (`steps` times `rows`), so the arms with larger k see more tokens:
    the fact `tokens` says how many.

    Args:
        base: of `raise_composer`. texts: of `write_compositions`.
        as_long_as: another arm, whose number of tokens this one is to see, in whole steps.
        exam: combinations for each k and side.

    Facts: `sides` {"trained", "held out": [{k, full, all_skills, fraction}]}: skills of the trained and of
    the held-out categories, both on held-out topics, greedy answers; `shown`; loss, tokens, dropped (texts
    whose clauses could not be told apart).
    """
    import torch

    from hornbook.model.plain import load_plain

    folder = texts.path if isinstance(texts, Artifact) else texts
    origin = (base.path if isinstance(base, Artifact) else base) / "model"
    model = load_plain(origin, device="cuda" if torch.cuda.is_available() else "cpu")
    model.train()
    count = round(composer.texts * (1 - composer.replay)) // len(learned)
    rows: list[tuple[list[str], list[str]]] = []
    dropped = 0
    for k in learned:
        drawn = list(islice(Corpus.open(folder / f"k{k}").iter_rows(["meta"]), count))
        found = [_line_of(json.loads(row["meta"])) for row in drawn]
        dropped += sum(row is None for row in found)
        own = [row for row in found if row is not None]
        rows += [own[i % len(own)] for i in range(count)]
    replayed = composer.texts - len(rows)
    rows += _mixture(composer, replayed, f"{seed} replay", seed, categories) if composer.replay else []
    tokens = as_long_as.facts["tokens"] if as_long_as else 0
    trained = _train(ctx, model, rows, composer, composer.steps, composer.training, seed, tokens)
    sides = examine(model, exam=exam, ks=ks, seed=seed, categories=categories)
    return {**trained, "dropped": dropped, "sides": sides}


def _line_of(meta: Mapping[str, Any]) -> tuple[list[str], list[str]] | None:
    from hornbook.evals.skill_mix.checkable import CHECKABLE

    skills = tuple(CHECKABLE[name].skill for name in meta["skills"])
    return line(Combination(id="", skills=skills, topic=meta["topic"]), meta["text"])


def _mixture(
    composer: Composer, count: int, name: str, seed: int, categories: Sequence[str]
) -> list[tuple[list[str], list[str]]]:
    """Lines of the base: texts of one skill, of two with probability `natural`, and lists of skills; every
    category and topic."""
    sides, rng = split(seed=seed, categories=categories), Random(name)
    rows: list[tuple[list[str], list[str]]] = []
    while len(rows) < count:
        if rng.random() < composer.lists:
            named = rng.sample(sides.all_skills, rng.randint(1, composer.longest_list))
            rows.append(recital([skill.name for skill in named], rng.choice(sides.all_topics)))
            continue
        k = 2 if rng.random() < composer.natural else 1
        task = Combination(
            id="", skills=tuple(rng.sample(sides.all_skills, k)), topic=rng.choice(sides.all_topics)
        )
        found = line(task, compose(task, rng))
        if found is not None:
            rows.append(found)
    return rows


def _train(
    ctx: StepContext,
    model: Any,
    rows: Sequence[tuple[list[str], list[str]]],
    composer: Composer,
    steps: int,
    training: TrainSettings,
    seed: int,
    tokens: int = 0,
) -> dict[str, Any]:
    """Trains for `steps`, or for as many as have about `tokens` tokens."""
    from hornbook.model.plain import save_plain
    from hornbook.theory.arithmetic.lines import LineLoader
    from hornbook.theory.threads import one_thread
    from hornbook.train.objectives import next_token
    from hornbook.train.trainer import Trainer

    loader = LineLoader(as_lines(rows), composer.rows // 2, seed, buckets=2)
    if tokens:
        steps = max(1, round(steps * tokens / expected_tokens(loader, steps)))
    with one_thread():
        trainer = Trainer(
            model,
            next_token,
            Phase(name="texts", loader=loader, steps=steps),
            replace(training, accumulate=2, seed=seed),
            ctx.folder / "model",
            save_model=_save,
        )
        progress = ctx.progress(expected_tokens(loader, steps), "tokens", f"seed {seed}")
        result = trainer.run(progress=progress, log=ctx.log, say=ctx.say)
    save_plain(model, ctx.folder / "model")
    shutil.rmtree(ctx.folder / "model" / "training", ignore_errors=True)
    return {
        "composer": asdict(composer),
        "parameters": model.config.parameters(),
        "loss": result.loss,
        "tokens": result.tokens,
        "seconds": result.seconds,
    }


def _save(model: Any, folder: Path) -> None:
    from hornbook.model.plain import save_plain

    save_plain(model, folder)


@step(version="1", makes="table")
def examine_composition(
    ctx: StepContext,
    *,
    model: Artifact | Path | str,
    categories: Sequence[str] = TRAINED_CATEGORIES,
    exam: int,
    ks: Sequence[int],
    max_tokens: int = SAMPLING.max_tokens,
    seed: int,
) -> dict[str, Any]:
    """A language model on the same exam, asked with both prompts of Skill-Mix (one text for each).

    Args:
        model: a checkpoint, or what `open_model` reads.

    Facts: `sides` as `learn_composition`; `unfinished`: texts that were never written, which count as
    without marks.
    """
    from hornbook.infer.open import open_model

    opened = open_model(str(model.path if isinstance(model, Artifact) else model))
    sampling = replace(SAMPLING, max_tokens=max_tokens, temperature=0.0)
    sides: dict[str, list[dict[str, Any]]] = {}
    unfinished = 0
    progress = ctx.progress(len(ks) * len(SIDES), "levels")
    for side, k, tasks in _exam(split(seed=seed, categories=categories), exam, ks, seed):
        pieces = write(opened, tasks, generations=1, sampling=sampling)
        unfinished += sum(piece.text is None for piece in pieces)
        texts = [piece.text or "" for piece in pieces]
        sides.setdefault(side, []).append(_level(k, tasks, texts))
        progress.advance()
    return {"model": opened.identity, "sides": sides, "unfinished": unfinished}


def _exam(
    sides: Split, exam: int, ks: Sequence[int], seed: int
) -> Iterator[tuple[str, int, list[Combination]]]:
    """(side, k, combinations): skills of each side, all on held-out topics."""
    for side, skills in zip(SIDES, (sides.skills, sides.held_skills), strict=True):
        for k in ks:
            most = comb(len(skills), k) * len(sides.held_topics)
            yield side, k, combinations(skills, sides.held_topics, k=k, count=min(exam, most), seed=seed)


def _level(k: int, tasks: Sequence[Combination], texts: Sequence[str]) -> dict[str, Any]:
    scored = [graded(task, text) for task, text in zip(tasks, texts, strict=True)]
    names = ("full", "all_skills", "fraction")
    return {
        "k": k,
        **{name: fmean(getattr(mark, name) for mark in scored) for name in names},
        "shown": [
            {
                "skills": [skill.name for skill in task.skills],
                "topic": task.topic,
                "text": text,
                "full": mark.full,
            }
            for task, text, mark in list(zip(tasks, texts, scored, strict=True))[:2]
        ],
    }


def examine(
    model: Any,
    *,
    exam: int,
    ks: Sequence[int],
    seed: int,
    categories: Sequence[str] = TRAINED_CATEGORIES,
) -> dict[str, list[dict[str, Any]]]:
    """Greedy answers to the same `exam` combinations for each k, of trained and of held-out skills, on
    held-out topics, graded by programs."""
    from hornbook.theory.arithmetic.exam import answers
    from hornbook.theory.threads import one_thread

    found: dict[str, list[dict[str, Any]]] = {}
    for side, k, tasks in _exam(split(seed=seed, categories=categories), exam, ks, seed):
        with one_thread():
            given = answers(model, questions(tasks), spare=_SPARE)
        found.setdefault(side, []).append(_level(k, tasks, [text_of(row) for row in given]))
    return found
