"""Small decoders that are taught single skills and asked for two at once: the square law on trained students.

A student learns questions of one skill of all kinds, and questions of two skills of which one at least is
among the `known` skills. Two `tested` skills it never sees together. What it makes of pairs of them, against
what it makes of their halves asked singly, is the relation Y = X^2 of MATH^2 (2407.21009, section 5).
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hornbook.errors import HornbookError
from hornbook.evals.math_squared.questions import (
    LARGEST,
    MATH_SKILLS,
    Form,
    MathQuestion,
    MathSkill,
    asked_of,
    chains,
    pair,
    single,
    skills_named,
)
from hornbook.lab.files import write_json
from hornbook.lab.step import Estimate, StepContext, step
from hornbook.model.config import ModelConfig
from hornbook.theory.arithmetic.lines import Alphabet, LineLoader, Lines
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

_CUT = re.compile(r"(\d+|\bN\b|\.|\?|;|=|\bLet\b|\bbe\b|\bFind\b|\bWhat is\b|\bSay\b)")
_FORMS: tuple[Form, ...] = ("plain", "named", "given")
_SHOWN = 8


def cut(text: str) -> list[str]:
    """A text as tokens: numbers, signs, and whole stretches of words between them, as a tokenizer that was
    trained on these questions would have them."""
    return [part.strip() for part in _CUT.split(text) if part.strip()]


def _alphabet() -> Alphabet:
    words = {"Let", "be", "N", "Find", "What is", "Say", ".", "?", ";", "=", ":"}
    for skill in MATH_SKILLS:
        words |= {skill.brief}
        for which in range(len(skill.phrases)):
            words |= {word for word in cut(skill.phrase("N", 1, which)) if not word.isdigit()}
    return Alphabet([*map(str, range(10, LARGEST + 1)), *sorted(words)])


ALPHABET = _alphabet()


def training(learning_rate: float = 3e-3) -> TrainSettings:
    """How small students are trained; other sizes scale from 64 by 3 under `--parametrization`."""
    return TrainSettings(
        optimizer=OptimizerSettings(kind="adamw", learning_rate=learning_rate, weight_decay=0.0),
        schedule=Schedule(kind="wsd", warmup=30, decay=0.3),
        spike_guard=False,
        base_width=64,
        base_depth=3,
    )


@dataclass(frozen=True, kw_only=True)
class MathStudent:
    """A student and its training. questions: drawn for training; tested: the share of them that has one of
    the tested skills alone; pairs: the share that has two skills; mixed: the share of the pairs in which one
    of the two is tested and the other known (the rest are known ones both)."""

    hidden_size: int = 64
    layers: int = 3
    heads: int = 2
    steps: int = 600
    rows: int = 96
    training: TrainSettings = field(default_factory=training)
    questions: int = 30_000
    pairs: float = 0.5
    tested: float = 0.3
    mixed: float = 0.5

    def __post_init__(self) -> None:
        if not (self.pairs > 0 and self.tested > 0 and self.pairs + self.tested <= 1):
            raise HornbookError(
                f"pairs is {self.pairs} and tested {self.tested}; accepted are shares above 0 that sum to at "
                "most 1."
            )
        if not 0 <= self.mixed <= 1:
            raise HornbookError(f"mixed is {self.mixed}; accepted is a share in [0, 1].")


def curriculum(
    known: Sequence[MathSkill], tested: Sequence[MathSkill], student: MathStudent, rng: Random
) -> list[MathQuestion]:
    """Questions to learn from: tested skills singly, the first most often, or beside a known one."""
    often = [1 / (1 + place / 2) for place in range(len(tested))]
    made = []
    for _ in range(student.questions):
        draw = rng.random()
        if draw < student.tested:
            made.append(single(rng.choices(tested, often)[0], rng, rng.choice(_FORMS)))
        elif draw < student.tested + student.pairs:
            mixed = rng.random() < student.mixed
            made.append(_mixed(known, tested, rng) if mixed else _pair_of(known, rng))
        else:
            made.append(single(rng.choice(known), rng, rng.choice(_FORMS)))
    return made


def _mixed(known: Sequence[MathSkill], tested: Sequence[MathSkill], rng: Random) -> MathQuestion:
    while True:
        two = [rng.choice(known), rng.choice(tested)]
        rng.shuffle(two)
        if chains(two[0], two[1]):
            return pair(two[0], two[1], rng)


def _pair_of(skills: Sequence[MathSkill], rng: Random) -> MathQuestion:
    while True:
        first, second = rng.sample(list(skills), 2)
        if chains(first, second):
            return pair(first, second, rng)


def halves(question: MathQuestion, rng: Random) -> list[MathQuestion]:
    """The parts of a question, each asked singly."""
    parts = zip(skills_named(question.skills), question.parts, strict=True)
    return [asked_of(skill, number, constant, rng) for skill, (_, number, constant, _) in parts]


def as_lines(questions: Sequence[MathQuestion]) -> Lines:
    """Questions as prompts and worked solutions as answers."""
    prompts = [ALPHABET.encode([*cut(q.text), ":"]) for q in questions]
    rows = [
        np.concatenate([prompt, ALPHABET.encode([*q.solution.split(), "\n"])])
        for prompt, q in zip(prompts, questions, strict=True)
    ]
    length = np.array([len(row) for row in rows])
    tokens = np.full((len(rows), int(length.max())), ALPHABET.end, np.uint8)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = row
    return Lines(
        tokens=tokens,
        prompt=np.array([len(prompt) for prompt in prompts]),
        length=length,
        cell=np.zeros((len(rows), 2), np.uint8),
        alphabet=ALPHABET,
    )


def right_answers(questions: Sequence[MathQuestion], given: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether each answer ends with the right number behind its last "="; how it got there does not count."""
    texts = (ALPHABET.decode(row, " ").split("\n")[0].split("=") for row in given)
    return np.array(
        [len(text) > 1 and text[-1].strip() == q.answer for text, q in zip(texts, questions, strict=True)]
    )


def _estimate(*, student: MathStudent, **other: Any) -> Estimate:
    parameters = 12 * student.layers * student.hidden_size**2
    return Estimate(
        seconds=8 + 6.0 * parameters * student.steps * student.rows * 26 / 3.5e10,
        memory_bytes=5e8,
        disk_bytes=4.0 * parameters,
    )


@step(version="1", makes="checkpoint", estimate=_estimate)
def teach_mathematics(
    ctx: StepContext,
    *,
    student: MathStudent,
    known: Sequence[str],
    tested: Sequence[str],
    exam: int,
    checkpoints: Sequence[float],
    seed: int,
) -> dict[str, Any]:
    """Teaches one student, and examines it on the way.

    Args:
        known, tested: skills by name; no pair that is learned has two tested ones.
        exam: questions of two tested skills, and as many with one tested skill twice.
        checkpoints: shares of the training after which the exam is held; 1 is the end.

    Facts: `points`, for each checkpoint step, x (halves right when asked singly), y (pairs right), both
    (pairs whose halves are both right singly: what independence would give), same_x, same_y, same_both (the
    same for one skill twice), known_y (pairs of known skills, seen in training); `by_skill` at the end;
    `shown`; parameters; seconds.
    """
    import torch

    from hornbook.model.decoder import Decoder
    from hornbook.model.plain import save_plain
    from hornbook.theory.arithmetic.exam import answers
    from hornbook.theory.threads import one_thread
    from hornbook.train.objectives import next_token
    from hornbook.train.settings import Phase
    from hornbook.train.trainer import Trainer

    old, new = skills_named(known), skills_named(tested)
    lines = as_lines(curriculum(old, new, student, Random(f"{seed} training")))
    rng = Random(f"{seed} exam")
    sets = {
        "": [_pair_of(new, rng) for _ in range(exam)],
        "same_": [_twice(new, rng) for _ in range(exam)],
        "known_": [_pair_of(old, rng) for _ in range(exam // 2)],
    }
    asked = {name: (q, as_lines(q)) for name, q in sets.items()}
    for name in ("", "same_"):
        parts = [half for question in sets[name] for half in halves(question, rng)]
        asked[f"{name}halves"] = (parts, as_lines(parts))

    torch.manual_seed(seed)
    model = Decoder(
        ModelConfig(
            vocab_size=len(ALPHABET),
            hidden_size=student.hidden_size,
            layers=student.layers,
            heads=student.heads,
            intermediate_size=max(16, 8 * student.hidden_size // 3 // 16 * 16),
            max_position=2 * lines.width,
        )
    ).to("cuda" if torch.cuda.is_available() else "cpu")
    marks = sorted({max(1, round(share * student.steps)) for share in checkpoints})
    # Kept beside the student: one that was stopped goes on behind the exams it has taken.
    kept = ctx.folder / "points.json"
    points: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.is_file() else {}

    def examine(done: int) -> None:
        right = {name: right_answers(q, answers(model, told)) for name, (q, told) in asked.items()}
        point: dict[str, float] = {"step": done, "known_y": float(right["known_"].mean())}
        for name in ("", "same_"):
            parts = right[f"{name}halves"].reshape(-1, 2)
            point[f"{name}x"] = float(parts.mean())
            point[f"{name}y"] = float(right[name].mean())
            point[f"{name}both"] = float(parts.all(1).mean())
        points[str(done)] = point
        write_json(kept, points)

    def log(step: int, **numbers: Any) -> None:
        ctx.log(step=step, **numbers)
        if step + 1 in marks:
            examine(step + 1)

    loader = LineLoader(lines, student.rows // 2, seed, buckets=2)
    with one_thread():
        trainer = Trainer(
            model,
            next_token,
            Phase(
                name="mathematics",
                loader=loader,
                steps=student.steps,
            ),
            replace(student.training, accumulate=2, seed=seed),
            ctx.folder / "model",
            save_model=_save,
        )
        progress = ctx.progress(
            expected_tokens(loader, student.steps),
            "tokens",
            f"{student.hidden_size} wide, seed {seed}",
        )
        result = trainer.run(progress=progress, log=log, say=ctx.say)
        shown = sets[""][:_SHOWN]
        given = answers(model, as_lines(shown))
        parts, told = asked["halves"]
        solved = right_answers(parts, answers(model, told))
    save_plain(model, ctx.folder / "model")
    shutil.rmtree(ctx.folder / "model" / "training", ignore_errors=True)
    return {
        "student": asdict(student),
        "points": [points[str(mark)] for mark in marks],
        "by_skill": {
            name: float(
                np.mean([ok for ok, q in zip(solved, parts, strict=True) if q.skills == (name,)] or [0.0])
            )
            for name in tested
        },
        "shown": [
            {
                "question": q.text,
                "wanted": q.solution,
                "given": ALPHABET.decode(row, " ").split("\n")[0].strip(),
            }
            for q, row in zip(shown, given, strict=True)
        ],
        "parameters": model.config.parameters(),
        "seconds": result.seconds,
    }


def expected_tokens(loader: LineLoader, steps: int, of: int = 8) -> int:
    """What a progress bar should expect of `steps` steps of two batches each."""
    return round(sum(loader.batch(i).inputs.size for i in range(2 * of)) / of * steps)


def _save(model: Any, folder: Path) -> None:
    from hornbook.model.plain import save_plain

    save_plain(model, folder)


def _twice(skills: Sequence[MathSkill], rng: Random) -> MathQuestion:
    while True:
        skill = rng.choice(list(skills))
        if chains(skill, skill):
            return pair(skill, skill, rng)
