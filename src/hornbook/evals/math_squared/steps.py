"""MATH^2 as steps: skills extracted, questions written, a language model examined on singles and pairs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from hornbook.data.corpus import CorpusWriter
from hornbook.errors import HornbookError
from hornbook.evals.asking import asked, leave_open, step_model
from hornbook.evals.benchmarks.card import find_card
from hornbook.evals.benchmarks.items import last_boxed
from hornbook.evals.benchmarks.source import read_rows
from hornbook.evals.math_answers import Comparer
from hornbook.evals.math_squared import prompts
from hornbook.evals.math_squared.lexical import lexical_model
from hornbook.evals.math_squared.pipeline import Candidate, Pipeline, funnel, propose
from hornbook.evals.math_squared.questions import MATH_SKILLS, MathQuestion, chains, pair, single
from hornbook.evals.math_squared.skills import Clustering, Exemplar, against, extract
from hornbook.evals.math_squared.students import halves
from hornbook.evals.math_squared.teacher import program_teacher, read
from hornbook.lab.files import write_atomic, write_json
from hornbook.lab.statistics import wilson_interval
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import LanguageModel
from hornbook.synth.teacher import SIMULATED, open_teacher

REPOSITORY = "repository.json"
CANDIDATES = "candidates.jsonl"
_SHOWN = 6


@step(version="1", makes="table")
def extract_skills(
    ctx: StepContext,
    *,
    data: Path | None,
    split: str = "test",
    model: str = SIMULATED,
    count: int,
    seed: int,
) -> dict[str, Any]:
    """The skills of a set of questions. `artifact / "repository.json"` has exemplars by skill.

    Args:
        data: a folder with the MATH data set; None: questions of `evals/math_squared/questions.py`.
        model: who names and clusters; "simulated": words alone (`evals/math_squared/lexical.py`).
        count: questions, drawn by the seed.

    Facts: questions, skills [[name, questions]], dropped, nearest, unlabelled, `truth` (what the clusters are
    held against: the known skills, or MATH's `type`), v_measure, homogeneity, completeness, purity, and as
    `chance` the same of the labels dealt out at random.
    """
    exemplars, truth = _questions(data, split, count, seed)
    texts = [e.question for e in exemplars]
    teacher = _extractor(model, texts, ctx.folder)
    progress = ctx.progress(2 * len(texts), "questions")
    found = extract(teacher, exemplars, progress=progress)
    scored = against(found.coarse, truth)
    mixed = list(found.coarse)
    Random(f"chance {seed}").shuffle(mixed)
    write_json(
        ctx.folder / REPOSITORY,
        {name: [asdict(e) for e in group] for name, group in found.repository.items()},
    )
    return {
        "model": teacher.identity,
        "questions": len(texts),
        "fine": len({name for name in found.fine if name}),
        "skills": [[name, len(group)] for name, group in found.repository.items()],
        "dropped": list(found.dropped),
        "nearest": found.nearest,
        "unlabelled": sum(name is None for name in found.coarse),
        "truth": "type" if data is not None else "known skills",
        **_clustering(scored),
        "chance": _clustering(against(mixed, truth)),
    }


def _clustering(scored: Clustering) -> dict[str, float]:
    return {name: getattr(scored, name) for name in ("v_measure", "homogeneity", "completeness", "purity")}


def _extractor(spec: str, texts: Sequence[str], folder: Path) -> LanguageModel:
    if spec == SIMULATED:
        return lexical_model(texts)
    opened = open_teacher(spec, calls=folder / "calls.sqlite")
    assert not isinstance(opened, str)
    return opened


def _questions(data: Path | None, split: str, count: int, seed: int) -> tuple[list[Exemplar], list[str]]:
    """Questions with their known skill or type."""
    rng = Random(f"questions {seed}")
    if data is None:
        made = [single(rng.choice(MATH_SKILLS), rng) for _ in range(count)]
        return [Exemplar(question=q.text, answer=q.answer, solution=q.solution) for q in made], [
            q.skills[0] for q in made
        ]
    rows = [dict(row) for row in read_rows(find_card("math"), split, data=data)]
    missing = {"problem", "solution"} - set(rows[0] if rows else ())
    if missing:
        raise HornbookError(f"The questions below {data} lack {', '.join(sorted(missing))}; MATH has both.")
    rows = rng.sample(rows, min(count, len(rows)))
    return [
        Exemplar(
            question=str(row["problem"]),
            answer=last_boxed(str(row["solution"])),
            solution=str(row["solution"]),
        )
        for row in rows
    ], [str(row.get("type") or row.get("subject") or "") for row in rows]


@step(version="1", makes="corpus")
def write_math_squared(
    ctx: StepContext,
    *,
    repository: Artifact | Path,
    teacher: str = SIMULATED,
    count: int,
    pipeline: Pipeline,
    seed: int,
) -> dict[str, Any]:
    """MATH^2's questions: a corpus of what the five steps accepted, ready for the annotators' queue.

    Args:
        repository: of `extract_skills`.
        teacher: a model as `open_teacher` reads it; "simulated": a program of known error.

    `candidates.jsonl` has every candidate with all that was said, rejected ones with the reason.

    Facts: funnel {stage: candidates}; shown; where a program can read all the questions also generated,
    flawed (of those generated), accepted, accepted_flawed, flaws_caught (share of flawed ones rejected at
    validation), sound_rejected, first_wrong and voted_wrong (sound and accepted questions whose first
    solution, and whose final answer, is wrong).
    """
    folder = repository.path if isinstance(repository, Artifact) else repository
    known = json.loads((folder / REPOSITORY).read_text(encoding="utf-8"))
    exemplars = {name: [Exemplar(**row) for row in rows] for name, rows in known.items()}
    model: LanguageModel
    if teacher == SIMULATED:
        model = program_teacher(seed=seed)
    else:
        opened = open_teacher(teacher, calls=ctx.folder / "calls.sqlite")
        assert not isinstance(opened, str)
        model = opened
    progress = ctx.progress(count, "candidates")
    found = propose(
        model, exemplars, count=count, seed=seed, pipeline=pipeline, salt=str(seed), progress=progress
    )
    lines = "".join(json.dumps(asdict(candidate), ensure_ascii=False) + "\n" for candidate in found)
    write_atomic(ctx.folder / CANDIDATES, lines)
    lineage = {
        "made_by": "write_math_squared",
        "teacher": model.identity,
        "prompts": prompts.VERSION,
        "pipeline": asdict(pipeline),
        "seed": seed,
    }
    accepted = [candidate for candidate in found if candidate.accepted]
    with CorpusWriter(ctx.folder, "documents", lineage) as writer:
        writer.write_rows([_row(c, exemplars, model.identity) for c in accepted])
    return {
        "teacher": model.identity,
        "funnel": funnel(found),
        "shown": [
            {
                "skills": list(c.skills),
                "question": c.question,
                "stage": c.stage,
                "why": c.why,
                "answer": c.answer,
            }
            for c in found[:_SHOWN]
        ],
        **(_measured(found) if teacher == SIMULATED else {}),
    }


def _row(candidate: Candidate, exemplars: dict[str, list[Exemplar]], model: str) -> dict[str, Any]:
    meta = {
        "kind": "math_squared",
        "skills": list(candidate.skills),
        "question": candidate.question,
        "solution": candidate.solution,
        "answer": candidate.answer,
        "agreeing": candidate.agreeing,
        "solutions": len(candidate.replies),
        "votes": list(candidate.votes),
        "attempt": candidate.attempt,
        "exemplars": {name: [asdict(e) for e in exemplars[name][:2]] for name in candidate.skills},
        "model": model,
        "prompts": prompts.VERSION,
    }
    return {
        "id": candidate.id,
        "text": candidate.question,
        "source": "math_squared",
        "meta": json.dumps(meta, ensure_ascii=False),
    }


def _measured(found: Sequence[Candidate]) -> dict[str, Any]:
    """What a program that reads the questions says of the steps; None where there is nothing to count."""
    written = [(c, read(c.question)) for c in found if c.question]
    flawed = [c for c, reading in written if not reading.sound]
    sound = [(c, reading) for c, reading in written if reading.sound]
    accepted = [c for c, _ in written if c.accepted]
    kept = [(c, str(reading.answer)) for c, reading in sound if c.accepted]

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return {
        "generated": len(written),
        "flawed": share(len(flawed), len(written)),
        "accepted_flawed": share(sum(c.accepted for c in flawed), len(accepted)),
        "flaws_caught": share(sum(c.stage == "validation" and bool(c.why) for c in flawed), len(flawed)),
        "sound_rejected": share(sum(c.stage == "validation" and bool(c.why) for c, _ in sound), len(sound)),
        "first_wrong": share(sum(c.answers[0] != answer for c, answer in kept), len(kept)),
        "voted_wrong": share(sum(c.answer != answer for c, answer in kept), len(kept)),
    }


@step(version="1", makes="table")
def examine_squares(
    ctx: StepContext, *, model: str, count: int, shots: int = 4, max_tokens: int = 300, seed: int
) -> dict[str, Any]:
    """A language model on questions of two skills and, in the same words, on their halves asked singly.

    Args:
        model: as `open_model` reads it. shots: solved examples in the prompt, the same for both sets, of
            single skills.

    Facts: model, x, y, both (pairs whose halves were both right), each with its Wilson interval beside it,
    x_asked and y_asked, shown.
    """
    rng = Random(f"squares {seed}")
    pairs: list[MathQuestion] = []
    while len(pairs) < count:
        first, second = rng.sample(list(MATH_SKILLS), 2)
        if chains(first, second):
            pairs.append(pair(first, second, rng))
    parts = [half for question in pairs for half in halves(question, rng)]
    solved = [single(rng.choice(MATH_SKILLS), rng) for _ in range(shots)]
    examples = "\n\n".join(f"Question: {q.text}\n{q.solution} \\boxed{{{q.answer}}}" for q in solved)
    rows = [*enumerate(parts), *enumerate(pairs, len(parts))]
    with step_model(ctx, model) as opened:
        got = asked(
            opened,
            rows,
            [prompts.SOLVE.format(examples=examples, question=q.text) for _, q in rows],
            max_tokens=max_tokens,
        )
    leave_open(ctx, model, got.unfinished)
    right: dict[int, bool] = {}
    with Comparer() as compare:
        for (number, question), text in zip(got.rows, got.texts, strict=True):
            right[number] = compare.same(last_boxed(text), question.answer)
    singles = [right[i] for i in range(len(parts)) if i in right]
    twos = [right[i] for i in range(len(parts), len(rows)) if i in right]
    both = [
        right[2 * i] and right[2 * i + 1] for i in range(len(pairs)) if 2 * i in right and 2 * i + 1 in right
    ]
    told: dict[str, Any] = {"model": model, "unfinished": got.unfinished}
    for name, values in (("x", singles), ("y", twos), ("both", both)):
        told[name] = float(np.mean(values)) if values else None
        told[f"{name}_interval"] = list(wilson_interval(sum(values), len(values))) if values else None
        told[f"{name}_asked"] = len(values)
    told["shown"] = [
        {"question": q.text, "wanted": q.answer, "given": text, "right": right[number]}
        for (number, q), text in list(zip(got.rows, got.texts, strict=True))[-_SHOWN:]
    ]
    return told
