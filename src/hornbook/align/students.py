"""Small students for recipes: raised from nothing on what was written for them, one a seed.

A recipe that shows what post-training does needs a model to do it to, and at `--scale quick` one of a hundred
thousand parameters that knows its little world. Several recipes raise theirs by these three steps; a student
that the user names is taught the same by fine-tuning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hornbook.align.checkpoints import taught_form
from hornbook.align.sft import finetune
from hornbook.data.steps import tokenize, train_tokenizer
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.model.config import ModelConfig
from hornbook.train.pretrain import PhasePlan
from hornbook.train.probes import train_probes
from hornbook.train.settings import TrainSettings, without_decay


@dataclass(frozen=True, kw_only=True)
class Students:
    """models: checkpoint folders by seed. tokens: what they were raised on, by name."""

    models: Mapping[int, Path]
    tokenizer: Artifact
    tokens: Mapping[str, Artifact]


def raise_students(
    run: Run,
    corpora: Mapping[str, Artifact | Path],
    *,
    shape: ModelConfig,
    phases: Sequence[PhasePlan],
    settings: TrainSettings,
    seeds: Sequence[int],
    workers: int = 2,
    validation: bool = True,
) -> Students:
    """A tokenizer of `shape.vocab_size`, token files, and one student a seed, as steps of `run`.

    corpora: documents or conversations by the names that the mixtures of `phases` use.
    validation: measure bits per byte of what was trained on, when a phase ends.
    """
    tokenizer = run.step(train_tokenizer, corpora=list(corpora.values()), vocab_size=shape.vocab_size)
    tokens = {
        name: run.step(tokenize, corpus=corpus, tokenizer=tokenizer) for name, corpus in corpora.items()
    }
    raised = run.step(
        train_probes,
        model=shape,
        tokens=tokens,
        arms={"student": list(phases)},
        seeds=seeds,
        settings=settings,
        tokenizer=tokenizer,
        validation=tokens if validation else {},
        workers=workers,
    )
    return Students(
        models={seed: raised / f"student-{seed}" for seed in seeds}, tokenizer=tokenizer, tokens=tokens
    )


@dataclass(frozen=True, kw_only=True)
class Teach:
    """Fine-tuning of a named student, in place of raising one.

    tokens, rows, time: how much of what is to be known it reads, and the shape of a batch.
    learning_rate: of that. tuning_rate: of what the recipe does to it afterwards.
    """

    tokens: int = 40_000
    rows: int = 8
    time: int = 128
    learning_rate: float = 1e-4
    tuning_rate: float = 5e-5

    def __post_init__(self) -> None:
        for name in ("tokens", "rows", "time", "learning_rate", "tuning_rate"):
            if getattr(self, name) <= 0:
                raise HornbookError(f"Teach.{name} is {getattr(self, name)}; it must be above 0.")

    def phases(self, mixture: Mapping[str, float]) -> list[PhasePlan]:
        """One phase on the sources of `mixture`, by share of rows."""
        return [PhasePlan(name="teach", mixture=mixture, tokens=self.tokens, rows=self.rows, time=self.time)]

    def settings(self) -> TrainSettings:
        """Without decay of weights: what it knew is to stay."""
        return without_decay(self.learning_rate)


def teach_student(
    run: Run,
    named: str,
    corpora: Mapping[str, Artifact],
    teach: Teach,
    seeds: Sequence[int],
    *,
    mixture: Mapping[str, float] | None = None,
) -> dict[int, Path]:
    """The student that `named` names (a checkpoint folder, smollm2), fine-tuned on `corpora` once a seed.

    corpora: conversations, or token files of the student's own tokenizer. mixture: shares of rows by name;
        without it, all alike.

    Raises:
        HornbookError: `named` has no weights to train, such as an endpoint.
    """
    from hornbook.infer.open import checkpoint_folder

    origin = checkpoint_folder(named)
    taught = {
        seed: run.step(
            finetune,
            model=origin,
            sources=corpora,
            phases=teach.phases(mixture or {name: 1 / len(corpora) for name in corpora}),
            settings=teach.settings(),
            template=taught_form(Tokenizer.load(origin)).name,
            seed=seed,
        )
        for seed in seeds
    }
    return {seed: made / "model" for seed, made in taught.items()}
