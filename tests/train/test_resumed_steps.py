"""Every step that trains gives the same facts whether it was stopped on the way or not.

Two ways to die: as by Ctrl-C inside a training, and behind one, when its last checkpoint is written, and
neither the model nor what the step found.
"""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from hornbook.align.dpo import prefer
from hornbook.align.ptst import World, template_matrix
from hornbook.align.unlearning import Unlearning, unlearn
from hornbook.align.verifier import VerifierPlan, train_verifiers
from hornbook.data.corpus_writer import CorpusWriter
from hornbook.data.tokenizer import Tokenizer
from hornbook.evals.concept_mix.steps import Apprentice, raise_painter
from hornbook.evals.skill_mix.composition_steps import Composer, raise_composer
from hornbook.lab.run import Run
from hornbook.lab.step import Step
from hornbook.model.decoder import Decoder
from hornbook.model.hf import save_checkpoint
from hornbook.model.presets import student
from hornbook.synth.invented_book import book, library
from hornbook.train.settings import TrainSettings
from hornbook.train.trainer import Trainer

Arguments = Mapping[str, Any]
TIMES = ("seconds", "tokens_per_second")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained student of a few thousand numbers."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = Tokenizer.train([*library(40), *book(20)], 360)
    torch.manual_seed(0)
    shape = student(hidden_size=32, layers=1, heads=1, vocab_size=tokenizer.vocab_size, max_position=256)
    save_checkpoint(Decoder(shape), folder)
    tokenizer.save(folder)
    return folder


def corpus(folder: Path, schema: str, rows: list[dict[str, Any]]) -> Path:
    with CorpusWriter(folder, schema, lineage={}) as writer:
        writer.write_rows({"id": str(n), "source": "test", "meta": "{}", **row} for n, row in enumerate(rows))
    return folder


def composer(folder: Path, model: Path) -> tuple[Step, Arguments]:
    small = Composer(hidden_size=16, layers=1, heads=1, rows=8, base_steps=4, texts=40)
    return raise_composer, {"composer": small, "exam": 2, "ks": (1, 2), "seed": 0}


def painter(folder: Path, model: Path) -> tuple[Step, Arguments]:
    small = Apprentice(hidden_size=16, layers=1, heads=1, pictures=30, steps=4, rows=8)
    return raise_painter, {"ks": (1, 2), "apprentice": small, "seed": 0}


def templates(folder: Path, model: Path) -> tuple[Step, Arguments]:
    """One training that keeps the policy, one watched fine-tuning behind it."""
    return template_matrix, {
        "model": model, "tokenizer": model, "train_templates": ["chat"], "test_templates": ["chat", "text"],
        "world": World(restricted=2, allowed=2, taught=2), "align_steps": 4, "tune_steps": 4, "every": 2,
        "rows": 2, "time": 48, "seeds": (0,), "workers": 1,
    }  # fmt: skip


def unlearning(folder: Path, model: Path) -> tuple[Step, Arguments]:
    """Rows to forget, weighed against the model as it came, and rows to keep."""
    shelf = {
        name: corpus(folder / name, "documents", [{"text": text} for text in texts])
        for name, texts in (("book", book(12, forms=("story",))), ("library", library(30)))
    }
    how = Unlearning(method="npo", steps=4, rows=2, keep_rows=1, time=48)
    return unlearn, {"model": model, "forget": shelf["book"], "retain": shelf["library"], "how": how}


def verifier(folder: Path, model: Path) -> tuple[Step, Arguments]:
    tokenizer = Tokenizer.load(model)
    solved = [
        {"question": f"How many are {n}?", "tokens": tokenizer.encode(f"return {n}"), "right": n % 2 == 0}
        for n in range(40)
    ]
    made = corpus(folder / "solved", "documents", [{"text": "", "meta": json.dumps(one)} for one in solved])
    plan = VerifierPlan(start=model, solutions=made)
    return train_verifiers, {
        "verifiers": {"v": plan}, "tokens": 512, "rows": 2, "time": 64,
        "settings": TrainSettings(compile="off"),
    }  # fmt: skip


def preferences(folder: Path, model: Path) -> tuple[Step, Arguments]:
    rows = [
        {"messages": [{"role": "user", "content": f"{n}?"}], "chosen": f"yes {n}", "rejected": "no"}
        for n in range(12)
    ]
    return prefer, {
        "model": model, "pairs": [corpus(folder / "pairs", "preferences", rows)], "epochs": 1.0, "rows": 2,
        "time": 64, "held_out_share": 0.3,
    }  # fmt: skip


class Killed(BaseException):
    """Nothing that a step might catch."""


def told(run: Run, step: Step, arguments: Arguments) -> tuple[dict[str, Any], dict[str, str]]:
    """What a step says, without what a clock says; and the weights that it leaves, by file."""
    made = run.step(step, **arguments)
    left = {
        str(file.relative_to(made.path)): sha256(file.read_bytes()).hexdigest()
        for file in sorted(made.path.rglob("*.safetensors"))
    }
    assert left
    return {name: value for name, value in made.facts.items() if name not in TIMES}, left


@pytest.mark.parametrize("case", [composer, painter, templates, unlearning, verifier, preferences])
def test_a_step_that_dies_in_and_behind_each_training_says_what_one_says_that_did_not(
    case: Callable[[Path, Path], tuple[Step, Arguments]],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step, arguments = case(tmp_path, checkpoint)
    save, take_step = Trainer._save, Trainer._step
    deaths: set[tuple[str, Path]] = set()
    dying = False

    def dies(how: str, where: Path) -> bool:
        """Once in its way in each training."""
        new = dying and (how, where) not in deaths
        if new:
            deaths.add((how, where))
        return new

    def save_one(self: Trainer) -> None:
        save(self)
        if self.position.step == self.steps and dies("behind", self.folder):
            raise Killed

    def step_one(self: Trainer) -> Any:
        found = take_step(self)
        if self.position.step == 2 and dies("in", self.folder):
            self._stop = True  # as Ctrl-C does
        return found

    monkeypatch.setattr(Trainer, "_save", save_one)
    monkeypatch.setattr(Trainer, "_step", step_one)

    def new(name: str) -> Run:
        return Run(tmp_path / name, recipe="t", scale="smoke", settings={}, quiet=True)

    whole = told(new("whole"), step, arguments)
    found: object = None
    dying, attempts = True, 0
    while found is None:
        attempts += 1
        try:
            found = told(new("broken"), step, arguments)
        except (KeyboardInterrupt, Killed):
            continue
    assert found == whole
    assert attempts == 1 + len(deaths) >= 3
