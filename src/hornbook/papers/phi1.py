"""phi-1: is a small model better raised on chosen and written code than on code as the web has it?

Gunasekar et al., "Textbooks Are All You Need" (arXiv 2306.11644), at the size of a laptop: a pool of which a
fifth is instructive; a rater's labels on a sample, spread by a classifier; textbook lessons; exercises to
fine-tune on. Students of equal length on each; pass@1 on exercises that chain operations as training never
does, before and after fine-tuning.

    hornbook run phi1 --scale quick
    hornbook run phi1 --scale quick --data humaneval.jsonl.gz mbpp_test.jsonl.gz
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from hornbook.curate.annotated import TRUTH, choose_educational, fit_on_ratings
from hornbook.data.steps import tokenize, train_tokenizer
from hornbook.errors import HornbookError
from hornbook.evals.functions import examine_benchmarks, examine_functions
from hornbook.lab.claim import Claim, over_seeds
from hornbook.lab.report import Bar, Sample
from hornbook.lab.run import Run
from hornbook.lab.statistics import shown_over_seeds
from hornbook.lab.step import Artifact
from hornbook.model.presets import student
from hornbook.papers.coverage_report import claim_steering, report_steering
from hornbook.synth.coverage_study import study_steering
from hornbook.synth.steps import write_exercises, write_lessons, write_python_pool
from hornbook.train.pretrain import PhasePlan
from hornbook.train.probes import train_probes
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

TITLE = "phi-1: textbooks and exercises against the web"
PAPER = "Gunasekar et al. 2023, arXiv 2306.11644"

HELD_OUT = 1
"""Seed of the test exercises."""
BASE, TUNED = "pretraining", "exercises"
"""The two stages of every student, by which its checkpoints are called."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    data: tuple[Path, ...] = ()
    """Files of HumanEval or MBPP (JSON Lines, as published): a check of the plumbing at this size."""
    rater: str = TRUTH
    """Who rates the sample: "truth" (what the pool says of itself, some labels turned) or a model."""
    turned: float = 0.1
    """Share of labels the wrong way round, for the rater "truth"."""
    pool: int = 12_000
    """Documents of the pool."""
    rated: int = 1_000
    share: float = 0.2
    """Share of the pool that is kept."""
    lessons: int = 4_000
    exercises: int = 3_000
    test: int = 300
    calls: int = 1_000
    """Texts of each writer in the comparison of steered with random plans."""
    vocab_size: int = 1024
    hidden_size: int = 64
    heads: int = 1
    layers: int = 2
    tokens: int = 400_000
    """Pretraining tokens of each student."""
    tuning_tokens: int = 150_000
    """Fine-tuning tokens, on exercises."""
    rows: int = 8
    time: int = 256
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            optimizer=OptimizerSettings(kind="muon", learning_rate=5e-3),
            processes=1,
            checkpoint_seconds=30,
            base_width=64,  # what the rate was tuned on: `--train.parametrization` scales from it
            base_depth=2,
        )
    )
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    workers: int = 2

    def __post_init__(self) -> None:
        missing = [str(path) for path in self.data if not Path(path).is_file()]
        if missing:
            raise HornbookError(f"data: there is no file {missing[0]}. Give files of HumanEval or MBPP.")

    def arms(self) -> dict[str, list[PhasePlan]]:
        """What each student reads, in two stages with a learning-rate shape each."""
        down = Schedule(kind="wsd", warmup=0.03, decay=0.4)

        def stage(name: str, mixture: Mapping[str, float], tokens: int, rate: float) -> PhasePlan:
            return PhasePlan(
                name=name,
                mixture=mixture,
                tokens=tokens,
                rows=self.rows,
                time=self.time,
                learning_rate=rate,
                schedule=down,
            )

        def student_of(mixture: Mapping[str, float], exercises: str = "exercises") -> list[PhasePlan]:
            tuning = stage(TUNED, {exercises: 1.0}, self.tuning_tokens, 0.5)
            return [stage(BASE, mixture, self.tokens, 1.0), tuning]

        both = {"filtered": 0.5, "lessons": 0.5}
        return {
            "raw": student_of({"raw": 1.0}),
            "filtered": student_of({"filtered": 1.0}),
            "textbooks": student_of(both),
            "unconstrained": student_of(both, "unconstrained"),
        }


QUICK = Settings()
SCALES = {
    "smoke": replace(
        QUICK,
        pool=400,
        rated=200,
        lessons=60,
        exercises=60,
        test=6,
        calls=120,
        vocab_size=320,
        hidden_size=16,
        layers=1,
        tokens=8_192,
        tuning_tokens=4_096,
        seeds=(0,),
        workers=1,
    ),
    "quick": QUICK,
    "gpu": replace(
        QUICK,
        pool=400_000,
        rated=20_000,
        lessons=150_000,
        exercises=100_000,
        test=1_000,
        vocab_size=4096,
        hidden_size=512,
        heads=8,
        layers=12,
        tokens=60_000_000,
        tuning_tokens=20_000_000,
        rows=64,
        workers=1,
    ),
}


def recipe(run: Run, settings: Settings) -> None:
    """The pool and its filter, textbooks, exercises; students; pass@1 at both stages; the claims."""
    s = settings
    # 1. The pool, rated in part, filtered as a whole.
    raw = run.step(write_python_pool, rows=s.pool)
    classifier = run.step(fit_on_ratings, corpus=raw, count=s.rated, rater=s.rater, turned=s.turned)
    filtered = run.step(choose_educational, corpus=raw, educational=classifier, share=s.share)

    # 2. What a teacher writes.
    corpora = {
        "raw": raw,
        "filtered": filtered,
        "lessons": run.step(write_lessons, rows=s.lessons),
        "exercises": run.step(write_exercises, rows=s.exercises),
        "unconstrained": run.step(write_exercises, rows=s.exercises, constrained=False),
    }
    test = run.step(write_exercises, rows=s.test, seed=HELD_OUT, held_out=True)

    # 3. Students of equal length.
    tokenizer = run.step(
        train_tokenizer,
        corpora=[corpora[name] for name in ("raw", "lessons", "exercises")],
        vocab_size=s.vocab_size,
    )
    tokens = {
        name: run.step(tokenize, corpus=corpus, tokenizer=tokenizer) for name, corpus in corpora.items()
    }
    arms = s.arms()
    raised = run.step(
        train_probes,
        model=student(
            hidden_size=s.hidden_size,
            layers=s.layers,
            heads=s.heads,
            vocab_size=s.vocab_size,
            max_position=2 * s.time,
        ),
        tokens=tokens,
        arms=arms,
        seeds=s.seeds,
        settings=s.train,
        tokenizer=tokenizer,
        validation={},
        workers=s.workers,
        keep_phases=True,
    )

    # What steering the next calls to where coverage is thin is worth.
    steering = run.step(study_steering, calls=s.calls, seeds=s.seeds)

    # 4. pass@1 on held-out compositions.
    examined = run.step(
        examine_functions,
        students={
            f"{arm}/{stage}/{seed}": raised / f"{arm}-{seed}" / "after" / stage
            for arm in arms
            for stage in (BASE, TUNED)
            for seed in s.seeds
        },
        corpus=test,
        workers=s.workers,
    )
    best = raised / f"textbooks-{s.seeds[0]}" / "after" / TUNED
    run.output(model=best)
    plumbing = run.step(examine_benchmarks, student=best, files=s.data) if s.data else None
    _claims(run, s, examined, filtered)
    claim_steering(run, steering.facts, len(s.seeds))
    _report(run, s, examined, classifier, filtered, plumbing, corpora)
    report_steering(run, steering.facts, s.calls)


def _passed(examined: Artifact, arm: str, stage: str, seeds: Sequence[int]) -> list[float]:
    return [fmean(examined.facts[f"{arm}/{stage}/{seed}"]["passed"]) for seed in seeds]


def _claims(run: Run, s: Settings, examined: Artifact, filtered: Artifact) -> None:
    """Differences of pass@1, one number a seed, with Student's interval over seeds."""

    def passed(arm: str, stage: str = TUNED) -> list[float]:
        return _passed(examined, arm, stage, s.seeds)

    for name, sentence, better, worse, paper in (
        (
            "filtering",
            "After fine-tuning, pretraining on the filtered pool beats pretraining on all of it.",
            passed("filtered"),
            passed("raw"),
            "12.2 to 17.7 (before fine-tuning)",
        ),
        (
            "textbooks",
            "Adding textbooks to the filtered pool helps further.",
            passed("textbooks"),
            passed("filtered"),
            "17.7 to 20.1 (before fine-tuning)",
        ),
        (
            "filtering-base",
            "Before fine-tuning, too, the filtered pool beats the whole.",
            passed("filtered", BASE),
            passed("raw", BASE),
            "12.2 to 17.7",
        ),
        (
            "textbooks-base",
            "Before fine-tuning, too, textbooks help.",
            passed("textbooks", BASE),
            passed("filtered", BASE),
            "17.7 to 20.1",
        ),
        (
            "exercises",
            "Fine-tuning on exercises gives the largest jump.",
            [
                tuned - base - (base - raw)
                for tuned, base, raw in zip(
                    passed("textbooks"), passed("textbooks", BASE), passed("raw", BASE), strict=True
                )
            ],
            [0.0] * len(s.seeds),
            "29 to 50.6 against 12.2 to 20.1",
        ),
        (
            "names",
            "Exercises whose function names are drawn beat those a teacher names as it likes.",
            passed("textbooks"),
            passed("unconstrained"),
            None,
        ),
    ):
        gains = [a - b for a, b in zip(better, worse, strict=True)]
        jump = name == "exercises"
        run.claim(
            over_seeds(
                name,
                sentence,
                gains,
                above=0.0,
                paper_value=paper,
                unit="jump beyond that of the data" if jump else "difference of pass@1",
                why="" if jump else f"{fmean(better):.3f} against {fmean(worse):.3f}.",
            )
        )
    if "precision" in filtered.facts:
        precision, low, high = filtered.facts["precision"]
        run.claim(
            Claim(
                id="filter-finds",
                sentence="From a rated sample the classifier finds the instructive documents of the pool.",
                measured=precision,
                interval=(low, high),
                unit="share of kept documents that are instructive",
                rule="the 95 % interval lies above 0.6, three times the pool's own share",
                holds=low > 0.6,
                why=f"Recall {filtered.facts['recall'][0]:.3f}.",
            )
        )


def _report(
    run: Run,
    s: Settings,
    examined: Artifact,
    classifier: Artifact,
    filtered: Artifact,
    plumbing: Artifact | None,
    corpora: Mapping[str, Artifact],
) -> None:
    report = run.report
    report.title = TITLE
    report.section("The filter", f"Labels: {classifier.facts['labels_by']}.")
    card = classifier.facts
    report.table(
        ["rated", "high", "held-out AUC", "kept", "precision", "recall"],
        [
            [
                card["rated"],
                f"{card['high']:.1%}",
                _number(card.get("auc")),
                filtered.facts["rows"],
                *[_number(filtered.facts.get(name, [None])[0]) for name in ("precision", "recall")],
            ]
        ],
    )
    report.bars("Kept share, by what a document is", {k: 100 * v for k, v in filtered.facts["kinds"].items()})
    report.section(
        "Students",
        f"{s.tokens:,} tokens each, then {s.tuning_tokens:,} of exercises; pass@1 on {s.test} held-out "
        "exercises whose compositions no training row has.",
    )
    rows, bars = [], []
    for arm in s.arms():
        values = {stage: _passed(examined, arm, stage, s.seeds) for stage in (BASE, TUNED)}
        rows.append([arm, *[shown_over_seeds(values[stage]) for stage in (BASE, TUNED)]])
        bars.append(Bar.over_seeds(arm, values[TUNED], scale=100))
    report.table(["pretrained on", "pass@1", "pass@1 after exercises"], rows, title="pass@1 by what was read")
    report.bars("pass@1 after exercises", bars, unit="%")
    report.table(
        ["corpus", "documents"], [[name, corpus.facts["rows"]] for name, corpus in corpora.items()],
        note="Students read the same number of tokens; the filtered pool is a fifth, and is read more often.",
    )  # fmt: skip
    if plumbing is not None:
        report.table(
            ["file", "tasks", "pass@1", "reference solutions that pass"],
            [
                [name, one["items"], f"{one['pass_at_1'][0]:.1%}", f"{one['references']:.1%}"]
                for name, one in plumbing.facts.items()
            ],
            title="HumanEval and MBPP",
            note="A check of the plumbing: at this size nothing is expected to pass.",
        )
    shown = examined.facts[f"textbooks/{TUNED}/{s.seeds[0]}"]["samples"]
    report.samples(
        "Held-out exercises",
        [
            Sample(
                text=f"{one['prompt'].rstrip()}{one['text']}",
                label="passes" if one["passed"] else "fails",
                code=True,
            )
            for one in shown
        ],
        shown=2,
    )


def _number(value: Any) -> str:
    return "unknown" if value is None else f"{value:.3f}"
