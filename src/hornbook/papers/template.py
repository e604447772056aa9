"""A recipe to start from: a small model raised on text of your own.

Run it:  hornbook run ./my_recipe.py --scale smoke
Every field of `Settings` is a flag:  hornbook run ./my_recipe.py --source ~/notes --tokens 500000
"""

from dataclasses import dataclass, field

from hornbook.data.steps import as_source, gather, split, tokenize, train_tokenizer
from hornbook.lab.claim import Claim
from hornbook.lab.run import Run
from hornbook.model.presets import student
from hornbook.train.pretrain import PhasePlan, pretrain
from hornbook.train.settings import OptimizerSettings, TrainSettings

TITLE = "A model of my own"
PAPER = "mine"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    source: str = "python"
    """`python` (this installation), a file or folder, or hub:NAME."""
    limit_bytes: int = 4_000_000
    """Read at most this much text, in bytes."""
    vocab_size: int = 2048
    hidden_size: int = 128
    layers: int = 3
    tokens: int = 400_000
    """Training tokens."""
    rows: int = 16
    """Rows of a batch."""
    time: int = 256
    """Tokens of a row."""
    seed: int = 0
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            optimizer=OptimizerSettings(kind="muon", learning_rate=5e-3), base_width=128, base_depth=3
        )
    )


SCALES = {"smoke": Settings(limit_bytes=500_000, tokens=20_000), "quick": Settings()}


def recipe(run: Run, settings: Settings) -> None:
    """Steps first; what a finished step made is never made again. Then the claims."""
    text = run.step(gather, source=as_source(settings.source), limit_bytes=settings.limit_bytes)
    parts = run.step(split, corpus=text, share=0.05)
    tokenizer = run.step(train_tokenizer, corpora=[parts / "train"], vocab_size=settings.vocab_size)
    tokens = run.step(tokenize, corpus=parts / "train", tokenizer=tokenizer)
    held_out = run.step(tokenize, corpus=parts / "validation", tokenizer=tokenizer)
    model = run.step(
        pretrain,
        model=student(
            hidden_size=settings.hidden_size, layers=settings.layers, vocab_size=settings.vocab_size
        ),
        tokens={"text": tokens},
        phases=[
            PhasePlan(
                name="all",
                mixture={"text": 1.0},
                tokens=settings.tokens,
                rows=settings.rows,
                time=settings.time,
            )
        ],
        settings=settings.train,
        tokenizer=tokenizer,
        validation={"held out": held_out},
        seed=settings.seed,
    )
    run.output(model=model / "model")

    bits = model.facts["bits_per_byte"]["all"]
    run.report.title = TITLE
    run.report.section("Training").curves(
        "Loss", {"training": [(line["step"], line["loss"]) for line in model.metrics()]}
    )
    run.claim(
        Claim(
            id="learns",
            sentence="The model predicts held-out text better than two bits a byte.",
            measured=bits,
            unit="bits per byte",
            rule="below 2.0",
            holds=bits < 2.0,
        )
    )
