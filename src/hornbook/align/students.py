"""Small students for recipes: raised from nothing on what was written for them, one a seed.

A recipe that shows what post-training does needs a model to do it to, and at `--scale quick` one of a hundred
thousand parameters that knows its little world. Several recipes raise theirs by these three steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hornbook.data.steps import tokenize, train_tokenizer
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.model.config import ModelConfig
from hornbook.train.pretrain import PhasePlan
from hornbook.train.probes import train_probes
from hornbook.train.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Students:
    """models: checkpoint folders by seed. tokens: what they were raised on, by name."""

    models: Mapping[int, Path]
    tokenizer: Artifact
    tokens: Mapping[str, Artifact]


def raise_students(
    run: Run,
    corpora: Mapping[str, Artifact],
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
