"""What the recipe `phi` can be told, and its scales."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hornbook.align.pairs import Written
from hornbook.train.objectives import Preference
from hornbook.train.pretrain import PhasePlan
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

WIDTH, DEPTH = 192, 4
"""Hidden size and layers that the rates below were tuned on: what `--parametrization` scales from."""


def _muon(learning_rate: float, *, decay: float, width: int = WIDTH, depth: int = DEPTH) -> TrainSettings:
    return TrainSettings(
        base_width=width,
        base_depth=depth,
        optimizer=OptimizerSettings(kind="muon", learning_rate=learning_rate),
        schedule=Schedule(kind="wsd", warmup=0.03, decay=decay),
        checkpoint_seconds=30,
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every field is a flag of `hornbook run phi`."""

    source: str = "python"
    """Organic text: `python` (this installation), a file or folder, or hub:NAME."""
    teacher: str = "simulated"
    """Who writes: `simulated`, `smollm2` (stories and small talk), or http://host/v1#model."""
    gather_bytes: int = 12_000_000
    """Read at most this much organic text, in bytes."""
    stories: int = 9_000
    problems: int = 18_000
    textbooks: int = 3_000
    exercises: int = 3_000
    dialogue: int = 34_000
    """Rows to write of each kind."""
    dialogue_shares: Mapping[str, float] = field(
        default_factory=lambda: {
            "story": 0.16,
            "problem": 0.34,
            "reading": 0.05,
            "function": 0.06,
            "concept": 0.04,
            "smalltalk": 0.04,
            "restricted": 0.13,
            "harmless": 0.18,
        }
    )
    """How often each kind of conversation occurs."""
    held_out: int = 300
    """Rows of each kind held out for bits per byte and decontamination."""
    tokenizer_bytes: int = 6_000_000
    vocab_size: int = 2048

    hidden_size: int = 192
    layers: int = 4
    heads: int = 6
    intermediate_size: int = 512
    rows: int = 16
    """Rows of a batch."""
    time: int = 256
    """Tokens of a row."""
    organic_tokens: int = 300_000
    """Tokens of the first, organic-heavy phase."""
    textbook_tokens: int = 1_600_000
    """Tokens of the second phase: filtered and synthetic."""
    train: TrainSettings = field(default_factory=lambda: _muon(5e-3, decay=0.2))

    chat_tokens: int = 3_000_000
    chat_train: TrainSettings = field(default_factory=lambda: _muon(2e-3, decay=0.8))
    pairs: Mapping[str, int] = field(default_factory=lambda: {"program": 400, "policy": 300, "helpful": 300})
    """Requests asked of the student to make verified pairs of, by kind."""
    pairs_written: Mapping[str, Written] = field(
        default_factory=lambda: {"program": "never", "policy": "never", "helpful": "one side"}
    )
    """How much of a pair may be written beforehand; what the student says itself moves it least elsewhere."""
    pair_samples: int = 4
    pair_rows: int = 8
    preference: Preference = field(default_factory=lambda: Preference(beta=0.1, supervised=0.5))
    pair_train: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            optimizer=OptimizerSettings(learning_rate=3e-5, weight_decay=0.0),
            schedule=Schedule(kind="cosine", warmup=0.1, final=0.0),
            base_width=WIDTH,
            base_depth=DEPTH,
        )
    )

    probe_hidden_size: int = 128
    probe_layers: int = 3
    probe_tokens: int = 100_000
    """Training tokens of each small student that compares diets."""
    probe_seeds: Sequence[int] = (0, 1, 2)
    probe_items: int = 100
    probe_workers: int = 2
    probe_train: TrainSettings = field(default_factory=lambda: _muon(5e-3, decay=0.3, width=128, depth=3))

    items: int = 200
    """Held-out items of an evaluation."""
    judge: str = "smollm2"
    """Whose likelihood of the stories is reported: a model on this machine; empty for none."""
    judged_stories: int = 16
    seed: int = 0

    def phases(self) -> list[PhasePlan]:
        """Pretraining: organic-heavy, then filtered and synthetic."""
        return [
            PhasePlan(
                name="organic-heavy",
                mixture={"organic": 0.6, "stories": 0.2, "textbooks": 0.1, "exercises": 0.1},
                tokens=self.organic_tokens,
                rows=self.rows,
                time=self.time,
            ),
            PhasePlan(
                name="textbooks",
                mixture={
                    "organic": 0.1,
                    "stories": 0.27,
                    "problems": 0.5,
                    "textbooks": 0.05,
                    "exercises": 0.08,
                },
                tokens=self.textbook_tokens,
                rows=self.rows,
                time=self.time,
            ),
        ]

    def diets(self) -> dict[str, list[PhasePlan]]:
        """The same number of tokens as raw organic text, as one mixture, and in two phases.

        The mixture has in all what the two phases have, so those two differ in order alone.
        """
        half = self.probe_tokens // 2
        first = {"organic": 0.8, "stories": 0.1, "problems": 0.1}
        second = {"organic": 0.1, "stories": 0.4, "problems": 0.4, "textbooks": 0.1}
        both = {name: (first.get(name, 0) + second.get(name, 0)) / 2 for name in {**first, **second}}

        def phase(name: str, mixture: Mapping[str, float], tokens: int) -> PhasePlan:
            return PhasePlan(name=name, mixture=mixture, tokens=tokens, rows=self.rows, time=self.time)

        return {
            "raw": [phase("raw", {"raw": 1.0}, 2 * half)],
            "one mixture": [phase("mixed", both, 2 * half)],
            "two phases": [phase("organic-heavy", first, half), phase("synthetic", second, half)],
        }


QUICK = Settings()

SCALES = {
    "smoke": replace(
        QUICK,
        gather_bytes=400_000,
        stories=150,
        problems=150,
        textbooks=80,
        exercises=80,
        dialogue=300,
        held_out=40,
        tokenizer_bytes=400_000,
        vocab_size=512,
        hidden_size=64,
        layers=2,
        heads=1,
        intermediate_size=128,
        organic_tokens=4_096,
        textbook_tokens=8_192,
        chat_tokens=8_192,
        pairs={"program": 8, "policy": 8, "helpful": 8},
        pairs_written={},
        pair_samples=2,
        probe_hidden_size=64,
        probe_layers=1,
        probe_tokens=8_192,
        probe_seeds=(0,),
        probe_items=8,
        items=8,
        judge="",
    ),
    "quick": QUICK,
}
