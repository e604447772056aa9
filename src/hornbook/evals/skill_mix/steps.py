"""Skill-Mix as steps: a student examined, a judge's noise measured, a corpus searched."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from hornbook.errors import HornbookError
from hornbook.evals.annotation import Item
from hornbook.evals.skill_mix.checkable import CHECKABLE, exact_grade, mechanical_judge, mechanical_student
from hornbook.evals.skill_mix.corpus import occurrences
from hornbook.evals.skill_mix.protocol import SAMPLING, Combination, Grade, combinations, grade, settle, write
from hornbook.evals.skill_mix.run import Level, checkable, evaluate
from hornbook.evals.skill_mix.score import expected_occurrences, marks, score
from hornbook.evals.skill_mix.skills import Skill, our_skills
from hornbook.infer.open import open_model
from hornbook.lab.files import write_atomic
from hornbook.lab.step import StepContext, step
from hornbook.lm.base import LanguageModel

PIECES = "pieces.jsonl"
PROGRAM = "program:"
"""A student `program:0.7` is a program that shows each skill with probability 0.7."""


def open_student(spec: str, seed: int) -> LanguageModel:
    """A model by the words of `open_model`, or `program:SUCCESS`.

    Raises:
        HornbookError: a success that is no probability, or a model that cannot be opened.
    """
    if not spec.startswith(PROGRAM):
        return open_model(spec)
    try:
        success = float(spec.removeprefix(PROGRAM))
    except ValueError:
        success = -1.0
    if not 0 <= success <= 1:
        raise HornbookError(f"The student {spec!r} is no program: write program:0.7, a probability.")
    return mechanical_student(success=success, seed=seed)


@step(version="1", makes="table")
def examine_skill_mix(
    ctx: StepContext,
    *,
    student: str,
    judge: str = "",
    ks: Sequence[int],
    count: int,
    generations: int = 3,
    rounds: int = 3,
    max_tokens: int = SAMPLING.max_tokens,
    seed: int = 10,
) -> dict[str, Any]:
    """Skill-Mix of one student. `pieces.jsonl` holds every text with its replies and points.

    Args:
        student, judge: as `open_student` and `open_model` read them; no judge: exact programs.

    Facts: `student`, `judge`, `levels`: for each k the scores with intervals, full marks of single pieces,
    what the names of skills in the texts cost, the judge's error where there is one; `examples`.
    """
    progress = ctx.progress(len(ks), "levels")

    def done(sentence: str) -> None:
        progress.advance()
        ctx.say(sentence)

    found = evaluate(
        open_student(student, seed),
        open_model(judge) if judge else None,
        ks=ks,
        count=count,
        generations=generations,
        rounds=rounds,
        sampling=replace(SAMPLING, max_tokens=max_tokens, seed=seed),
        seed=seed,
        say=done,
    )
    rows = [_piece(g) for level in found.levels for g in level.grades]
    write_atomic(ctx.folder / PIECES, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    return {
        "student": found.student,
        "judge": found.judge,
        "levels": [_level(level) for level in found.levels],
        "examples": [row for row in rows if row["text"]][:: max(1, len(rows) // 8)][:8],
    }


def _piece(found: Grade) -> dict[str, Any]:
    piece = found.piece
    return {
        "task": piece.task.id,
        "k": piece.task.k,
        "skills": [skill.name for skill in piece.task.skills],
        "topic": piece.task.topic,
        "generation": piece.generation,
        "text": piece.text,
        "why": piece.why,
        "replies": list(piece.replies),
        "points": found.points,
        "rounds": found.rounds,
        "named": found.named,
    }


def _level(level: Level) -> dict[str, Any]:
    """The numbers of one k, as JSON."""
    result = level.score
    undeducted = score([_without_deduction(g) for g in level.grades])
    told: dict[str, Any] = {
        "k": result.k,
        "combinations": result.combinations,
        "unscored": result.unscored_pieces,
        "unread": result.unread,
        "pieces_full": result.pieces_full.value,
        "pieces_full_interval": list(result.pieces_full.interval),
        "pieces_full_with_names": undeducted.pieces_full.value,
        "named": result.named,
    }
    for name in ("full_marks", "all_skills", "skill_fraction"):
        estimate = getattr(result, name)
        told[name] = estimate.value
        told[f"{name}_interval"] = list(estimate.interval)
    fractions = [marks(g.points)[2] for g in level.grades if g.points is not None]
    told["pieces_fraction"] = float(np.mean(fractions))
    if level.corrected is not None:
        told["corrected"] = level.corrected.value
        told["corrected_interval"] = list(level.corrected.interval)
    return told


def _without_deduction(found: Grade) -> Grade:
    """The same grade with the points of skills that the text names."""
    if found.points is None or not found.named:
        return found
    if found.rounds:
        return settle(found.piece, found.rounds, deduct_names=False)
    return exact_grade(found.piece, deduct_names=False)


@dataclass(frozen=True, kw_only=True)
class SpotChecks:
    """Graded texts for people: the items, the labels, and the grader's verdict on each."""

    items: list[Item]
    labels: tuple[str, str]
    verdicts: list[str]


def spot_checks(folder: Path, *, items: int, seed: int) -> SpotChecks:
    """Texts that `examine_skill_mix` graded, drawn for a queue of `evals/annotation.py`; half of them with
    full marks as far as there are so many. The grader's verdict is apart: people do not see it.

    Raises:
        HornbookError: nothing there was graded.
    """
    rows = [json.loads(line) for line in (folder / PIECES).read_text(encoding="utf-8").splitlines()]
    graded = [row for row in rows if row["text"] and row["points"] is not None]
    rng = Random(f"spot checks {seed}")
    full = [row for row in graded if all(row["points"])]
    rest = [row for row in graded if not all(row["points"])]
    fulls = min(len(full), max(items // 2, items - len(rest)))
    chosen = [*rng.sample(full, fulls), *rng.sample(rest, min(len(rest), items - fulls))]
    if not chosen:
        raise HornbookError(f"Nothing in {folder / PIECES} was graded, so there is nothing to check.")
    rng.shuffle(chosen)
    known = {skill.name: skill for skill in (*our_skills(), *(item.skill for item in CHECKABLE.values()))}
    labels = ("full marks", "not")
    return SpotChecks(
        items=[
            Item(content=_asked_for(row, known), provenance={"step": folder.name, **row}) for row in chosen
        ],
        labels=labels,
        verdicts=[labels[0] if all(row["points"]) else labels[1] for row in chosen],
    )


def _asked_for(row: Mapping[str, Any], known: Mapping[str, Skill]) -> dict[str, str]:
    skills = tuple(
        known.get(name, Skill(name=name, category="", definition="", example="")) for name in row["skills"]
    )
    task = Combination(id=row["task"], skills=skills, topic=row["topic"])
    told = "\n".join(f"{skill.name}: {skill.definition}" for skill in skills)
    return {
        "asked for": f"At most {task.limit_in_words} in the context of {task.topic}, with\n{told}",
        "text": row["text"],
    }


@step(version="1", makes="table")
def judge_noise(
    ctx: StepContext,
    *,
    sensitivity: float,
    specificity: float,
    unreadable: float,
    k: int,
    count: int,
    seeds: Sequence[int],
    gradings: Sequence[int] = (1, 3),
) -> dict[str, Any]:
    """How often a judge of known error gives a text the wrong verdict, by the number of its gradings.

    Facts: `wrong` {gradings: [share of texts whose full marks are wrong or unread, one per seed]}.
    """
    skills, topics = checkable()
    progress = ctx.progress(len(seeds), "seeds")
    wrong: dict[str, list[float]] = {str(rounds): [] for rounds in gradings}
    for seed in seeds:
        tasks = combinations(skills, topics, k=k, count=count, seed=seed)
        pieces = write(mechanical_student(success=0.5 ** (1 / k), seed=seed), tasks, generations=1)
        truth = [marks(exact_grade(piece).points or (0,) * (k + 3))[0] for piece in pieces]
        judge = mechanical_judge(
            sensitivity=sensitivity, specificity=specificity, unreadable=unreadable, seed=seed
        )
        for rounds in gradings:
            seen = [
                None if g.points is None else marks(g.points)[0] for g in grade(judge, pieces, rounds=rounds)
            ]
            wrong[str(rounds)].append(float(np.mean([a != b for a, b in zip(seen, truth, strict=True)])))
        progress.advance()
    return {"wrong": wrong}


@step(version="1", makes="table")
def search_corpus(
    ctx: StepContext,
    *,
    ks: Sequence[int],
    pieces: int,
    skills: int,
    topics: int,
    skill_rate: float,
    draws: int,
    togetherness: float,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Random combinations counted in corpora of known rates, with independent skills and with such that come
    together.

    Facts: `expected` [one per k]; `independent` and `together`: [[mean occurrences, one per seed] per k];
    `seen`: the share of combinations that occur at all, independent skills, [one per k].
    """
    progress = ctx.progress(len(ks) * len(seeds), "corpora")
    expected = [
        expected_occurrences(k=k, skill_rate=skill_rate, topic_rate=1 / topics, pieces=pieces) for k in ks
    ]
    means: dict[str, list[list[float]]] = {"independent": [], "together": []}
    seen = []
    for k in ks:
        own: dict[str, list[float]] = {name: [] for name in means}
        present = []
        for seed in seeds:
            for name, c in (("independent", 0.0), ("together", togetherness)):
                counts = occurrences(
                    k=k,
                    pieces=pieces,
                    skills=skills,
                    topics=topics,
                    skill_rate=skill_rate,
                    draws=draws,
                    togetherness=c,
                    seed=seed,
                )
                own[name].append(float(counts.mean()))
                if name == "independent":
                    present.append(float((counts > 0).mean()))
            progress.advance()
        for name, values in own.items():
            means[name].append(values)
        seen.append(float(np.mean(present)))
    return {"expected": expected, "seen": seen, **means}
