"""One model taught one lesson and examined in every cell: the step that the recipe repeats."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hornbook.errors import HornbookError
from hornbook.lab.step import Estimate, StepContext, step
from hornbook.model.config import ModelConfig, Positions
from hornbook.theory.arithmetic.dialogue import ALPHABET, converse
from hornbook.theory.arithmetic.exam import answers, by_cell, by_digit, mark
from hornbook.theory.arithmetic.formats import (
    Format,
    Part,
    draw_lines,
    draw_part,
)
from hornbook.theory.arithmetic.lines import LineLoader, Lines, join, spread
from hornbook.theory.arithmetic.strings import draw_strings
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, Phase, TrainSettings

Task = Literal["multiplication", "addition", "dialogue", "copy", "reverse"]

_SHOWN = 12
_SPARE = 4


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is taught, how it is written, and how its order is told.

    digits: operands (or strings) have up to so many digits in training. second_digits: the second operand, 0
    for as many. asked: up to so many in the exam, 0 for as many. joint: both operands have equally many.
    positions: of the decoder. spaces: random spaces in prompts, in training and in the exam. shift: training
    starts to count positions anywhere up to it. bare_digits: half of a dialogue's lesson are additions
    outside dialogues, of up to so many digits. small_talk: sentences before a question, at most.
    repeats_of: strings are drawn from so many letters, with repeats; 0 for letters that differ. samples:
    lines drawn for training, bare additions included.
    """

    task: Task
    format: Format = "basic"
    positions: Positions = "learned"
    spaces: bool = False
    shift: int = 0
    digits: int = 3
    second_digits: int = 0
    asked: int = 0
    joint: bool = False
    bare_digits: int = 0
    small_talk: int = 3
    repeats_of: int = 0
    samples: int = 60_000

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise HornbookError(f"task is {self.task!r}; accepted are {', '.join(get_args(Task))}.")
        for name, least in (("digits", 1), ("samples", 1), ("asked", 0), ("second_digits", 0), ("shift", 0)):
            if getattr(self, name) < least:
                raise HornbookError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        if self.format.startswith("padded") and self.longest > self.digits:
            raise HornbookError(
                f"asked is {self.asked}, but the format {self.format!r} fixes the longest number at digits = "
                f"{self.digits}. Ask no more than that, or take a format without padding."
            )
        if self.bare_digits and self.task != "dialogue":
            raise HornbookError(f"bare_digits is {self.bare_digits}; only the task 'dialogue' mixes them in.")
        if self.task == "dialogue" and self.format not in ("basic", "reversed"):
            raise HornbookError(f"format is {self.format!r}; a dialogue says its sum 'basic' or 'reversed'.")

    @property
    def buckets(self) -> int:
        """Batches that share lines out by length: two where lines differ much in it."""
        return 2 if self.bare_digits or self.format in ("scratchpad", "carries") else 1

    @property
    def longest(self) -> int:
        """Digits of the longest operand in the exam."""
        return max(self.digits, self.asked)

    def cells(self) -> list[tuple[int, int]]:
        """The cells of the exam: equal numbers of digits for additions and strings, all for products."""
        if self.task == "multiplication":
            second = range(1, (self.second_digits or self.longest) + 1)
            return [(a, b) for a in range(1, self.longest + 1) for b in second]
        return [(n, n) for n in range(1, self.longest + 1)]

    def draw(self, cell: NDArray[np.integer], rng: np.random.Generator, part: Part) -> Lines:
        """Lines of this task for the cells (n, 2)."""
        if self.task in ("copy", "reverse"):
            return draw_strings(self.task, cell[:, 0], rng, repeats_of=self.repeats_of)
        if self.task == "dialogue":
            return converse(
                draw_part("addition", cell, rng, part),
                rng,
                part=part,
                small_talk=self.small_talk,
                reverse=self.format == "reversed",
            )
        operation: Literal["multiplication", "addition"] = (
            "multiplication" if self.task == "multiplication" else "addition"
        )
        lines = draw_lines(operation, self.format, cell, rng, digits=self.longest, part=part)
        return spread(lines, rng) if self.spaces else lines

    def training(self, rng: np.random.Generator) -> Lines:
        """The lines to train on."""
        bare = self.samples // 2 if self.bare_digits else 0
        drawn = self.draw(self._random_cells(self.samples - bare, self.digits, rng), rng, "train")
        if not bare:
            return drawn
        cell = self._random_cells(bare, self.bare_digits, rng)
        sums = draw_lines("addition", self.format, cell, rng, digits=self.bare_digits)
        sums = spread(sums, rng) if self.spaces else sums
        return join([drawn, replace(sums, alphabet=ALPHABET)])

    def exam(self, each: int, rng: np.random.Generator) -> Lines:
        """`each` lines of every cell, of pairs that training never holds (in cells large enough)."""
        cell = np.array(self.cells(), np.uint8).repeat(each, axis=0)
        return self.draw(cell, rng, "test")

    def _random_cells(self, n: int, digits: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        first = rng.integers(1, digits + 1, n, np.uint8)
        if self.joint or self.task in ("copy", "reverse"):
            return np.stack([first, first], 1)
        return np.stack([first, rng.integers(1, (self.second_digits or digits) + 1, n, np.uint8)], 1)


def training(optimizer: OptimizerSettings | None = None) -> TrainSettings:
    """How a pupil of the size below is trained; other sizes scale from it under `--parametrization`."""
    return TrainSettings(
        optimizer=optimizer or OptimizerSettings(kind="muon", learning_rate=1e-2),
        schedule=Schedule(kind="cosine", warmup=0.03),
        spike_guard=False,
        base_width=64,
        base_depth=3,
    )


@dataclass(frozen=True, kw_only=True)
class Pupil:
    """The model and its training. tag_size: random numbers a token, for lessons with positions "tags"."""

    hidden_size: int = 64
    layers: int = 3
    heads: int = 2
    tag_size: int = 16
    steps: int = 300
    rows: int = 128
    training: TrainSettings = field(default_factory=training)

    def config(self, lesson: Lesson, symbols: int, length: int) -> ModelConfig:
        """The decoder for a lesson of so many symbols and lines of up to `length` tokens."""
        return ModelConfig(
            vocab_size=symbols,
            hidden_size=self.hidden_size,
            layers=self.layers,
            heads=self.heads,
            intermediate_size=max(16, 8 * self.hidden_size // 3 // 16 * 16),
            positions=lesson.positions,
            tag_size=self.tag_size if lesson.positions == "tags" else 0,
            max_position=length,
        )


def _estimate(*, lesson: Lesson, pupil: Pupil, each: int, seed: int) -> Estimate:
    tokens = {"dialogue": 60, "copy": 2 * lesson.digits + 2, "reverse": 2 * lesson.digits + 2}.get(
        lesson.task, 4 * lesson.digits + 3
    )
    if lesson.format == "scratchpad":
        tokens += 2 * lesson.digits * (lesson.digits + 3)
    parameters = 12 * pupil.layers * pupil.hidden_size**2
    trained = 6.0 * parameters * pupil.steps * pupil.rows * tokens
    return Estimate(
        seconds=2 + trained / 8e10, memory_bytes=6e8 + 16 * parameters, disk_bytes=4 * parameters + 1e5
    )


@step(version="1", makes="checkpoint", estimate=_estimate)
def teach(ctx: StepContext, *, lesson: Lesson, pupil: Pupil, each: int, seed: int) -> dict[str, Any]:
    """Trains a new model on a lesson and asks `each` questions of every cell. `artifact / "model"` is kept.

    Facts: cells (digits of both operands, right, asked), digits (right, asked; units first), shown (prompt,
    wanted, given, right), loss, parameters, seconds and tokens_per_second of training, exam_seconds.

    Raises:
        HornbookError: settings that do not fit together; a loss that is not finite step after step.
    """
    import time

    import torch

    from hornbook.model.decoder import Decoder
    from hornbook.model.plain import save_plain
    from hornbook.train.objectives import next_token
    from hornbook.train.trainer import Trainer

    lines = lesson.training(np.random.default_rng([seed, 0]))
    questions = lesson.exam(each, np.random.default_rng([seed, 1]))
    # The longest prompt may meet the steps of another line's longer answer in one batch of the exam.
    longest = int(questions.prompt.max() + (questions.length - questions.prompt).max())
    length = max(lines.width + lesson.shift, longest + _SPARE)
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Decoder(pupil.config(lesson, len(lines.alphabet), length)).to(device)
    trainer = Trainer(
        model,
        next_token,
        Phase(
            name="lesson",
            loader=LineLoader(
                lines, pupil.rows // lesson.buckets, seed, shift=lesson.shift, buckets=lesson.buckets
            ),
            steps=pupil.steps,
        ),
        replace(pupil.training, accumulate=lesson.buckets, seed=seed),
        ctx.folder / "model",
        save_model=_save,
    )
    progress = ctx.progress(pupil.steps * pupil.rows * (lines.width - 1), "tokens", _label(lesson, seed))
    result = trainer.run(progress=progress, log=ctx.log, say=ctx.say)
    started = time.perf_counter()
    given = answers(model, questions, seed=seed, spare=_SPARE)
    exam_seconds = time.perf_counter() - started
    marks = mark(questions, given)
    save_plain(model, ctx.folder / "model")
    shutil.rmtree(ctx.folder / "model" / "training", ignore_errors=True)
    return {
        "lesson": asdict(lesson),
        "cells": [[*cell, *score] for cell, score in by_cell(questions, marks).items()],
        "digits": by_digit(marks),
        "shown": _shown(questions, given, marks.right),
        "loss": result.loss,
        "parameters": model.config.parameters(),
        "seconds": result.seconds,
        "tokens_per_second": result.tokens_per_second,
        "exam_seconds": exam_seconds,
    }


@step(version="1")
def examine(ctx: StepContext, *, model: Path, lesson: Lesson, each: int, seed: int) -> dict[str, Any]:
    """What a pupil of another lesson (a model that `teach` kept) can do in this one. Facts: cells, shown."""
    from hornbook.model.plain import load_plain

    questions = lesson.exam(each, np.random.default_rng([seed, 1]))
    given = answers(load_plain(model), questions, seed=seed, spare=_SPARE)
    marks = mark(questions, given)
    return {
        "cells": [[*cell, *score] for cell, score in by_cell(questions, marks).items()],
        "shown": _shown(questions, given, marks.right),
    }


def _save(model: Any, folder: Path) -> None:
    from hornbook.model.plain import save_plain

    save_plain(model, folder)


def _label(lesson: Lesson, seed: int) -> str:
    return f"{lesson.task} {lesson.format} {lesson.positions} seed {seed}"


def _shown(lines: Lines, given: NDArray[np.uint8], right: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """A few lines spread over the exam, as people read them."""
    between = " " if lines.alphabet is ALPHABET else ""
    out = []
    for row in np.linspace(0, len(lines) - 1, min(_SHOWN, len(lines))).astype(int).tolist():
        prompt, wanted = lines.text(row, between)
        answer = lines.alphabet.decode(given[row], between).split("\n")[0].strip()
        out.append({"prompt": prompt, "wanted": wanted, "given": answer, "right": bool(right[row])})
    return out


def accuracy(facts: Mapping[str, Any], cells: Sequence[tuple[int, int]]) -> float:
    """The share of right answers over some cells of a `teach` step."""
    chosen = {tuple(cell) for cell in cells}
    found = [(right, asked) for a, b, right, asked in facts["cells"] if (a, b) in chosen]
    if not found:
        raise ValueError(f"none of the cells {sorted(chosen)} was asked")
    return float(sum(right for right, _ in found) / sum(asked for _, asked in found))
