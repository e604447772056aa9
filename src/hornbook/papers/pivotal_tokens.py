"""Pivotal tokens: the few tokens on which an answer's success turns, found cheaply and trained on alone.

Phi-4 technical report (arXiv 2412.08905), section 4.3. A small student is raised on sums answered in two
ways, carefully and at once; its own answers are searched; direct preference optimization sees single tokens,
or as many whole answers.

    hornbook run pivotal_tokens --scale quick
    hornbook run pivotal_tokens --student smollm2 --questions 6 --tests 8 --seeds 0
    hornbook run pivotal_tokens --student runs/steps/.../model --kind program   # word problems, programs run
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from hornbook.align.dpo import prefer
from hornbook.align.pivotal import SearchSettings
from hornbook.align.pivotal_steps import Kind, chance_of_success, search_pivotal_tokens
from hornbook.align.students import raise_students
from hornbook.lab.claim import Claim
from hornbook.lab.run import Run
from hornbook.lab.statistics import interval_over_seeds
from hornbook.lab.step import Artifact
from hornbook.model.presets import student
from hornbook.synth.steps import write_word_problems
from hornbook.synth.sums import write_sums
from hornbook.train.objectives import Preference
from hornbook.train.pretrain import PhasePlan
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

TITLE = "Pivotal tokens: where an answer's success is decided"
PAPER = "Phi-4 technical report, arXiv 2412.08905, section 4.3"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every field is a flag of `hornbook run pivotal_tokens`."""

    student: str = ""
    """A chat checkpoint to search, as it is: a folder, or smollm2; empty: one is raised for each seed."""
    kind: Kind = "sum"
    """What is asked: sums, or word problems whose programs are run."""
    rows: int = 6000
    """Sums to raise the student on."""
    largest: int = 20
    """Of the three numbers of a sum."""
    raise_tokens: int = 800_000
    hidden_size: int = 96
    layers: int = 3
    heads: int = 3
    batch_rows: int = 8
    time: int = 128
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            optimizer=OptimizerSettings(kind="muon", learning_rate=3e-3),
            schedule=Schedule(kind="cosine", warmup=0.05, final=0.05),
            compile="off",
            base_width=96,  # what the rate was tuned on: `--train.parametrization` scales from it
            base_depth=3,
        )
    )
    questions: int = 40
    """Questions to search (those whose chance of success is neither small nor large)."""
    search: SearchSettings = field(default_factory=SearchSettings)
    answers: int = 2
    """Answers searched for each question."""
    max_tokens: int = 64
    recheck: int = 64
    """Fresh rollouts on each side of each pivot, to see whether it is one."""
    preference: Preference = field(default_factory=lambda: Preference(beta=0.1))
    pair_steps: int = 60
    """Steps of preference training, for both kinds of pairs."""
    pair_rate: float = 1e-4
    tests: int = 120
    samples: int = 4
    """Held-out questions, and answers drawn to each."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    workers: int = 2


SCALES = {
    "smoke": Settings(
        rows=120, raise_tokens=4_000, hidden_size=64, layers=1, heads=1, questions=3, tests=4, samples=2,
        max_tokens=24, recheck=4, pair_steps=2, seeds=(0,), workers=1,
        search=SearchSettings(first=2, most=4),
    ),
    "quick": Settings(),
    "gpu": Settings(
        student="smollm2", kind="program", questions=300, tests=300, max_tokens=192, pair_rate=5e-6
    ),
    "paper": Settings(
        student="smollm2", kind="program", questions=5000, answers=4, tests=1000, max_tokens=512,
        search=SearchSettings(most=512, split_error=0.2), pair_rate=5e-6, pair_steps=2000,
    ),
}  # fmt: skip


def recipe(run: Run, settings: Settings) -> None:
    """Students; the search of their own answers; preference on single tokens and on whole answers; how often
    right."""
    questions, unseen = questions_of(run, settings)
    models = students_of(run, settings, questions)
    found, before = [], []
    searched_before: list[Any] = []  # of the seeds that came to pairs: what training is compared with
    pivotal: list[Any] = []
    whole: list[Any] = []
    for seed, model in models.items():
        searched = run.step(
            search_pivotal_tokens,
            model=model,
            questions=questions,
            kind=settings.kind,
            count=settings.questions,
            settings=settings.search,
            answers=settings.answers,
            max_tokens=settings.max_tokens,
            recheck=settings.recheck,
            seed=seed,
        )
        found.append(searched.facts)
        measure = {
            "questions": unseen,
            "kind": settings.kind,
            "count": settings.tests,
            "samples": settings.samples,
            "max_tokens": settings.max_tokens,
            "seed": seed,
        }
        before.append(run.step(chance_of_success, model=model, **measure).facts)
        if not searched.facts["pairs"]:
            run.say(f"Seed {seed}: no pivotal token was found, so there is nothing to train on.")
            continue
        searched_before.append(before[-1])
        for pairs, into in ((searched.path, pivotal), (searched / "whole", whole)):
            better = _preferred(run, settings, model, pairs, count=searched.facts["pairs"], seed=seed)
            into.append(run.step(chance_of_success, model=better / "model", **measure).facts)
            if into is pivotal:
                run.output(model=better / "model")
    _claims(run, found, searched_before, pivotal, whole)
    _report(run, settings, found, before, pivotal, whole)


def questions_of(run: Run, settings: Settings) -> tuple[Artifact, Artifact]:
    """Questions to raise on and search, and questions to test on."""
    if settings.kind == "sum":
        return (
            run.step(write_sums, rows=settings.rows, largest=settings.largest),
            run.step(
                write_sums, rows=max(settings.tests, 50), seed=1, held_out=True, largest=settings.largest
            ),
        )
    return (
        run.step(write_word_problems, rows=max(200, settings.questions)),
        run.step(write_word_problems, rows=max(200, settings.tests), seed=1, held_out=True),
    )


def students_of(run: Run, settings: Settings, sums: Artifact) -> dict[int, Path]:
    """The model to search, by seed."""
    if settings.student:
        from hornbook.infer.open import checkpoint_folder

        return dict.fromkeys(settings.seeds, checkpoint_folder(settings.student))
    students = raise_students(
        run,
        {"sums": sums},
        shape=student(
            hidden_size=settings.hidden_size,
            layers=settings.layers,
            heads=settings.heads,
            vocab_size=320,
            max_position=256,
        ),
        phases=[
            PhasePlan(
                name="sums",
                mixture={"sums": 1.0},
                tokens=settings.raise_tokens,
                rows=settings.batch_rows,
                time=settings.time,
            )
        ],
        settings=settings.train,
        seeds=settings.seeds,
        workers=settings.workers,
    )
    return dict(students.models)


def _preferred(run: Run, settings: Settings, model: Path, pairs: Path, *, count: int, seed: int) -> Artifact:
    """The model after preference training on one kind of pairs: the same steps for both."""
    a_step = 16
    return run.step(
        prefer,
        model=model,
        pairs=[pairs],
        objective=settings.preference,
        epochs=settings.pair_steps * a_step / count,
        rows=a_step,
        time=2 * settings.time,
        settings=TrainSettings(
            optimizer=OptimizerSettings(learning_rate=settings.pair_rate, weight_decay=0.0),
            schedule=Schedule(kind="cosine", warmup=0.1, final=0.1),
            compile="off",
        ),
        held_out_share=0.0,
        seed=seed,
    )


def _claims(
    run: Run, found: Sequence[Any], before: Sequence[Any], pivotal: Sequence[Any], whole: Sequence[Any]
) -> None:
    def gain(after: Sequence[Any], than: Sequence[Any]) -> list[float]:
        return [a["chance"] - b["chance"] for a, b in zip(after, than, strict=True)]

    rule = "the 95 % interval over at least three seeds lies above 0"
    for name, sentence, values, paper in (
        (
            "pivotal-pairs-help",
            "Preference training on single pivotal tokens makes more answers right.",
            gain(pivotal, before),
            "MATH 77.1 to 80.5, HumanEval 79.5 to 81.6",
        ),
        (
            "better-than-whole-answers",
            "It does so more than as many pairs of whole answers from the same rollouts.",
            gain(pivotal, whole),
            None,
        ),
    ):
        interval = interval_over_seeds(values)
        enough = interval is not None and len(values) >= 3
        run.claim(
            Claim(
                id=name,
                sentence=sentence,
                paper_value=paper,
                measured=fmean(values) if values else None,
                interval=interval,
                unit="chance that a drawn answer is right",
                rule=rule,
                holds=interval[0] > 0 if enough and interval is not None else None,
                noise=bool(enough and interval is not None and interval[0] <= 0 <= interval[1]),
            )
        )
    checked = [facts["rechecked"]["held"] for facts in found if "rechecked" in facts]
    interval = interval_over_seeds(checked)
    run.claim(
        Claim(
            id="what-is-found-is-pivotal",
            sentence="Tokens called pivotal are so again with fresh rollouts.",
            measured=fmean(checked) if checked else None,
            interval=interval,
            unit="share whose change is the gap or more, estimated anew",
            rule="the mean over at least three seeds is 0.8 or more",
            holds=fmean(checked) >= 0.8 if len(checked) >= 3 else None,
            why="The fresh estimate has noise of its own, which turns away some that lie near the gap.",
        )
    )


def _report(
    run: Run,
    settings: Settings,
    found: Sequence[Any],
    before: Sequence[Any],
    pivotal: Sequence[Any],
    whole: Sequence[Any],
) -> None:
    report = run.report
    report.title = TITLE
    report.section(
        "Answers, token by token",
        "Each answer is the model's own. A token is shaded by what it did to the chance that the answer "
        "comes out right, "
        "estimated from rollouts; unshaded ones were too likely to matter, or were tested together with the "
        "next.",
    )
    for picture in (found[0]["pictures"] if found else [])[:4]:
        report.tokens(
            f"{picture['question']}  (chance {picture['chance']:.2f}, this answer is "
            f"{'right' if picture['right'] else 'wrong'})",
            [(text, value) for text, value in picture["tokens"]],
            label="change of the chance of success",
            low=-1.0,
            high=1.0,
        )
    report.section("What the search took, and what came of it")
    report.table(
        [
            "seed",
            "questions searched",
            "pivots",
            "pairs",
            "rollouts",
            "tokens",
            "tokens a pivot",
            "held again",
        ],
        [
            [
                seed,
                facts["searched"],
                facts["pivots"],
                facts["pairs"],
                facts["rollouts"],
                facts["tokens"],
                round(facts["tokens_per_pivot"]),
                round(facts["rechecked"]["held"], 3) if "rechecked" in facts else "none",
            ]
            for seed, facts in zip(settings.seeds, found, strict=False)
        ],
        title="The search",
    )
    report.bars(
        "Chance that a drawn answer to a held-out question is right",
        [
            (name, fmean(facts["chance"] for facts in rows))
            for name, rows in (
                ("before", before),
                ("preference on pivotal tokens", pivotal),
                ("preference on whole answers, as many pairs", whole),
            )
            if rows
        ],
        note=f"Means over {len(before)} seeds, {settings.tests} questions, {settings.samples} answers each.",
    )
