"""phi-1.5: do textbooks alone teach a small model more common sense than the web does, and do both together?

Li et al., "Textbooks Are All You Need II: phi-1.5 technical report" (arXiv 2309.05463), at the size of a
laptop: a world of things and deeds, told of by textbooks on evenly drawn topics and by a web full of
chatter; students of equal length on the web, the filtered web, textbooks, textbooks whose pages end in
exercises, both, and textbooks on few topics; items that ask for what no text tells of.

    hornbook run phi1_5 --scale quick
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from hornbook.curate.annotated import choose_educational, fit_on_ratings
from hornbook.data.steps import tokenize, train_tokenizer
from hornbook.errors import HornbookError
from hornbook.evals.commonsense import examine_commonsense
from hornbook.lab.claim import over_seeds
from hornbook.lab.report import Bar, Sample
from hornbook.lab.run import Run
from hornbook.lab.statistics import shown_over_seeds
from hornbook.lab.step import Artifact
from hornbook.model.presets import student
from hornbook.synth.steps import write_commonsense, write_commonsense_web
from hornbook.train.pretrain import PhasePlan
from hornbook.train.probes import train_probes
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

TITLE = "phi-1.5: common sense from textbooks, from the web, from both"
PAPER = "Li et al. 2023, arXiv 2309.05463"

ARMS: Mapping[str, Mapping[str, float]] = {
    "web": {"web": 1.0},
    "filtered web": {"filtered": 1.0},
    "textbooks": {"textbooks": 1.0},
    "textbooks with exercises": {"exercised": 1.0},
    "both": {"textbooks": 0.5, "filtered": 0.5},
    "few topics": {"few": 1.0},
}
"""What each student reads."""
TESTED = 1
"""Seed of the items."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    textbooks: int = 6_000
    """Textbook passages, on all topics; and as many on few."""
    topics: int = 60
    """Topics of the arm "few topics", of 1,116."""
    exercises: int = 3
    """Cases of other lessons at the foot of a page, of the arm "textbooks with exercises"."""
    web: int = 30_000
    """Posts of the web."""
    rated: int = 1_000
    share: float = 0.2
    """Share of the web that the filter keeps."""
    items: int = 400
    vocab_size: int = 1024
    hidden_size: int = 64
    heads: int = 1
    layers: int = 2
    tokens: int = 1_000_000
    """Training tokens of each student."""
    rows: int = 8
    time: int = 256
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            optimizer=OptimizerSettings(kind="muon", learning_rate=5e-3),
            schedule=Schedule(kind="wsd", warmup=0.03, decay=0.4),
            processes=1,
            checkpoint_seconds=30,
        )
    )
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    workers: int = 2

    def __post_init__(self) -> None:
        if self.items < 2 or self.topics < 1:
            raise HornbookError(
                f"items is {self.items} and topics {self.topics}; at least 2 and 1 are needed."
            )

    def arms(self) -> dict[str, list[PhasePlan]]:
        """One phase each, of equal length."""
        return {
            name: [PhasePlan(name="all", mixture=mixture, tokens=self.tokens, rows=self.rows, time=self.time)]
            for name, mixture in ARMS.items()
        }


QUICK = Settings()
SCALES = {
    "smoke": replace(
        QUICK, textbooks=80, topics=5, web=400, rated=200, items=8, vocab_size=320, hidden_size=16, layers=1,
        tokens=8_192, seeds=(0,), workers=1,
    ),
    "quick": QUICK,
    "gpu": replace(
        QUICK, textbooks=200_000, web=1_000_000, rated=20_000, items=4_000, vocab_size=4096, hidden_size=512,
        heads=8, layers=12, tokens=60_000_000, rows=64, workers=1,
    ),
}  # fmt: skip


def recipe(run: Run, settings: Settings) -> None:
    """The web and its filter, the textbooks, students, items, claims."""
    s = settings
    # 1. The web, and what a classifier keeps of it after a rater has seen a sample.
    web = run.step(write_commonsense_web, rows=s.web)
    classifier = run.step(fit_on_ratings, corpus=web, count=s.rated)
    filtered = run.step(choose_educational, corpus=web, educational=classifier, share=s.share)

    # 2. Textbooks, with and without exercises, on all topics and on few.
    corpora = {
        "web": web,
        "filtered": filtered,
        "textbooks": run.step(write_commonsense, rows=s.textbooks),
        "exercised": run.step(write_commonsense, rows=s.textbooks, exercises=s.exercises),
        "few": run.step(write_commonsense, rows=s.textbooks, topics=s.topics),
    }

    # 3. Students of equal length.
    tokenizer = run.step(
        train_tokenizer, corpora=[corpora["web"], corpora["textbooks"]], vocab_size=s.vocab_size
    )
    raised = run.step(
        train_probes,
        model=student(
            hidden_size=s.hidden_size,
            layers=s.layers,
            heads=s.heads,
            vocab_size=s.vocab_size,
            max_position=2 * s.time,
        ),
        tokens={name: run.step(tokenize, corpus=one, tokenizer=tokenizer) for name, one in corpora.items()},
        arms=s.arms(),
        seeds=s.seeds,
        settings=s.train,
        tokenizer=tokenizer,
        validation={},
        workers=s.workers,
    )
    run.output(model=raised / f"both-{s.seeds[0]}")

    # 4. Items on pairs that no text tells of.
    examined = run.step(
        examine_commonsense,
        students={f"{arm}/{seed}": raised / f"{arm}-{seed}" for arm in ARMS for seed in s.seeds},
        count=s.items,
        seed=TESTED,
    )
    _claims(run, s, examined)
    _report(run, s, examined, corpora, filtered)


def _accuracy(examined: Artifact, arm: str, seeds: Sequence[int], kind: str = "") -> list[float]:
    found = [examined.facts[f"{arm}/{seed}"] for seed in seeds]
    return [one["kinds"][kind] if kind else one["accuracy"] for one in found]


def _claims(run: Run, s: Settings, examined: Artifact) -> None:
    """Differences of accuracy, one number a seed, with Student's interval over seeds."""
    for name, sentence, better, worse, paper in (
        (
            "textbooks-beat-web",
            "At equal length, textbooks alone teach more common sense than the filtered web alone.",
            "textbooks",
            "filtered web",
            "WinoGrande .734 against .604, ARC-easy .756 against .666",
        ),
        (
            "web-adds",
            "Textbooks with filtered web teach more than textbooks alone.",
            "both",
            "textbooks",
            "WinoGrande .740 against .734, ARC-easy .761 against .756",
        ),
        (
            "exercises-teach",
            "Textbooks teach more when their pages end in exercises on other lessons.",
            "textbooks with exercises",
            "textbooks",
            None,
        ),
        (
            "exercised-beat-web",
            "At equal length, textbooks with exercises teach more than the filtered web.",
            "textbooks with exercises",
            "filtered web",
            None,
        ),
        ("filtering", "The filtered web teaches more than all of it.", "filtered web", "web", None),
        (
            "topics",
            "Textbooks on all topics teach more than as many pages on few.",
            "textbooks",
            "few topics",
            "20,000 topics were chosen for coverage; no number",
        ),
    ):
        first, second = _accuracy(examined, better, s.seeds), _accuracy(examined, worse, s.seeds)
        run.claim(
            over_seeds(
                name,
                sentence,
                [a - b for a, b in zip(first, second, strict=True)],
                above=0.0,
                paper_value=paper,
                unit="difference of accuracy",
                why=f"{fmean(first):.3f} against {fmean(second):.3f}; chance is 0.5.",
            )
        )


def _report(
    run: Run, s: Settings, examined: Artifact, corpora: Mapping[str, Artifact], filtered: Artifact
) -> None:
    report = run.report
    report.title = TITLE
    report.section(
        "Students",
        f"{s.tokens:,} tokens each; {s.items} items on pairs of thing and question that no text tells of.",
    )
    kinds = list(examined.facts[f"web/{s.seeds[0]}"]["kinds"])
    rows, bars = [], []
    for arm in ARMS:
        values = _accuracy(examined, arm, s.seeds)
        rows.append(
            [
                arm,
                shown_over_seeds(values),
                *[shown_over_seeds(_accuracy(examined, arm, s.seeds, kind)) for kind in kinds],
            ]
        )
        bars.append(Bar.over_seeds(arm, values, scale=100))
    report.table(["read", "accuracy", *kinds], rows, title="Accuracy by what was read")
    report.bars("Right ends, chance is 50 %", bars, unit="%")
    report.table(
        ["corpus", "documents", "words"],
        [[name, one.facts["rows"], one.facts.get("words", "")] for name, one in corpora.items()],
        note="Every student reads the same number of tokens; a smaller corpus is read more often.",
    )
    if "precision" in filtered.facts:
        report.figures(
            [(name, f"{filtered.facts[name][0]:.1%}", "of the filter") for name in ("precision", "recall")]
        )
    report.samples(
        "Items",
        [Sample(text=f"{one['prompt']} ->{one['right']} / {one['wrong']}", label=one["kind"])
         for one in examined.facts["samples"]],
        shown=3,
    )  # fmt: skip
