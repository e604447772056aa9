"""The drills as a step: every drill taught to one small model a seed, side by side."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hornbook.lab.files import write_json
from hornbook.lab.step import Estimate, StepContext, step
from hornbook.lab.workers import side_by_side
from hornbook.theory.arithmetic.steps import Lesson, Pupil
from hornbook.theory.at_once import SIGNS, Drill

_SPARE = 4
_SHOWN = 4
_LESSON = Lesson(
    task="addition", positions="rotary"
)  # of a lesson a pupil's config reads the positions alone


def _estimate(
    *,
    drills: Mapping[str, Drill],
    pupil: Pupil,
    samples: int,
    each: int,
    seeds: Sequence[int],
    workers: int = 1,
) -> Estimate:
    trained = 6.0 * 12 * pupil.layers * pupil.hidden_size**2 * pupil.steps * pupil.rows * 24
    seconds = len(drills) * len(seeds) * (2 + trained / 3e10) / max(1, workers)
    return Estimate(seconds=seconds, memory_bytes=5e8 * max(1, workers), disk_bytes=1e6)


@step(version="1", makes="table", estimate=_estimate)
def drill(
    ctx: StepContext,
    *,
    drills: Mapping[str, Drill],
    pupil: Pupil,
    samples: int,
    each: int,
    seeds: Sequence[int],
    workers: int = 1,
) -> dict[str, Any]:
    """Teaches every drill to one model a seed, and asks `each` questions of every group.

    Facts: by drill a list, one entry a seed: `groups` (group, right, asked) of numbers that training never
    held, `known` (the same of a template's own numbers), `loss`, `parameters`, `shown`.
    """
    jobs = {
        f"{name}-{seed}": partial(
            _teach, ctx.folder / f"{name}-{seed}".replace(" ", "-"), drills[name], pupil, samples, each, seed
        )
        for name in drills
        for seed in seeds
    }
    progress = ctx.progress(len(jobs) * pupil.steps, "updates")
    found = side_by_side(jobs, workers=workers, progress=progress)
    return {name: [found[f"{name}-{seed}"] for seed in seeds] for name in drills}


def _teach(
    folder: Path, told: Drill, pupil: Pupil, samples: int, each: int, seed: int, *, progress: Any
) -> dict[str, Any]:
    """One model; a finished one is read from its file."""
    kept = folder.with_suffix(".json")
    if kept.is_file():
        progress.advance(pupil.steps)
        done: dict[str, Any] = json.loads(kept.read_text())
        return done
    import shutil
    from dataclasses import replace

    import torch

    from hornbook.model.decoder import Decoder
    from hornbook.theory.arithmetic.exam import answers, by_cell, mark
    from hornbook.theory.arithmetic.lines import LineLoader
    from hornbook.train.objectives import next_token
    from hornbook.train.settings import Phase
    from hornbook.train.trainer import Trainer

    torch.set_num_threads(1)
    lines = told.training(samples, np.random.default_rng([seed, 0]))
    exams = {"groups": told.exam(each, np.random.default_rng([seed, 1]))}
    if told.kind == "template":
        exams["known"] = told.exam(each, np.random.default_rng([seed, 2]), known=True)
    length = max(lines.width, *(exam.width for exam in exams.values())) + _SPARE
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Decoder(pupil.config(_LESSON, len(SIGNS), length)).to(device)
    trainer = Trainer(
        model,
        next_token,
        Phase(name="drill", loader=LineLoader(lines, pupil.rows, seed), steps=pupil.steps),
        replace(pupil.training, seed=seed),
        folder,
        save_model=_nothing,
    )
    result = trainer.run()
    progress.advance(pupil.steps)
    found: dict[str, Any] = {"loss": result.loss, "parameters": model.config.parameters(), "shown": []}
    for name, exam in exams.items():
        given = answers(model, exam, seed=seed, spare=_SPARE)
        marks = mark(exam, given)
        found[name] = [[group, *score] for (group, _), score in by_cell(exam, marks).items()]
        for row in np.linspace(0, len(exam) - 1, _SHOWN).astype(int).tolist():
            prompt, wanted = exam.text(row)
            said = SIGNS.decode(given[row]).split("\n")[0]
            found["shown"].append([prompt, wanted, said, bool(marks.right[row])])
    write_json(kept, found)
    shutil.rmtree(folder, ignore_errors=True)
    return found


def _nothing(model: Any, folder: Path) -> None:
    """These models are asked once and not kept."""
    folder.mkdir(parents=True, exist_ok=True)


def share(entry: Mapping[str, Any], *, groups: Sequence[int] = (), exam: str = "groups") -> float:
    """The share of right answers in some groups of one model's exam; no groups: in all of them."""
    found = [(right, asked) for group, right, asked in entry[exam] if not groups or group in groups]
    return float(sum(right for right, _ in found) / sum(asked for _, asked in found))
