"""Phi-4: data first, a longer context in the middle, and post-training on the tokens and questions that
matter.

Phi-4 technical report (arXiv 2412.08905). Small students go through its stages: a mixture that is mostly
synthetic, mid-training with longer rows and another rotary base, fine-tuning, preference training on pivotal
tokens and then on pairs that a judge chose, and "I do not know" taught where they do not know.

    hornbook run phi4 --scale quick
    hornbook run phi4 --scale quick --judge http://host/v1#model      # a model chooses the judged pairs
    hornbook run phi4 --scale gpu --model smollm2                     # post-training of a model of others
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from hornbook.align.dpo import prefer
from hornbook.align.judged import judged_pairs
from hornbook.align.knowledge import counted, estimate_knowledge, teach_unknown
from hornbook.align.pivotal import SearchSettings
from hornbook.align.pivotal_steps import chance_of_success, search_pivotal_tokens
from hornbook.align.sft import finetune
from hornbook.align.students import Students, raise_students
from hornbook.data.lengths import band_names, by_length
from hornbook.data.steps import as_source, gather, split, tokenize
from hornbook.evals.attempts import attempt_questions
from hornbook.lab.claim import over_seeds
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.model.presets import student
from hornbook.synth.people import PeopleWorld, ask_about_people, write_people
from hornbook.synth.phi4 import steps as write
from hornbook.synth.sums import write_sums
from hornbook.train.midtrain import Longer, mid_train, read_by_length
from hornbook.train.objectives import Preference
from hornbook.train.pretrain import PhasePlan
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

TITLE = "Phi-4 in small: mixture, longer context, pivotal tokens, and what it does not know"
PAPER = "Phi-4 technical report, arXiv 2412.08905"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every field is a flag of `hornbook run phi4`."""

    model: str = ""
    """A checkpoint to begin post-training with (a folder, or smollm2); empty: students are raised."""
    source: str = "python"
    """Naturally long documents: `python` (this installation), a file or folder, or hub:NAME."""
    gather_bytes: int = 1_200_000
    """Read at most this much of them, in bytes."""
    people: PeopleWorld = field(default_factory=PeopleWorld)
    """Whom the student hears of, and how often."""
    passages: int = 1500
    sums: int = 6000
    """Documents about the people, and sums, to raise the student on."""
    teacher: str = "simulated"
    """Who writes the rest: "simulated", or http://host/v1#model."""
    rewrites: int = 800
    reversed: int = 500
    conversations: int = 400
    """Passages rewritten as exercises, code with instructions for it, conversations of two agents."""
    hidden_size: int = 96
    layers: int = 3
    heads: int = 3
    vocab_size: int = 512
    rows: int = 24
    time: int = 128
    """Of a batch: rows, and the context before mid-training in tokens."""
    raise_tokens: int = 1_200_000
    train: TrainSettings = field(default_factory=lambda: _plain(5e-3, final=0.05))
    long_time: int = 512
    """Context after mid-training."""
    rope_theta: float = 250_000.0
    """Base of the rotary angles from mid-training on (before: 10,000)."""
    middle_tokens: int = 200_000
    middle_train: TrainSettings = field(default_factory=lambda: _plain(1e-3))
    tune_tokens: int = 150_000
    tune_train: TrainSettings = field(default_factory=lambda: _plain(1e-3))
    unknown_share: float = 0.25
    """Of the rows of fine-tuning: what the student does not know, and what it does."""
    draws: int = 8
    """Answers to each question about people, to estimate how often the student is right."""
    questions: int = 30
    """Sums searched for pivotal tokens, of those that go well by chance."""
    search: SearchSettings = field(default_factory=SearchSettings)
    judge: str = ""
    """Who scores answers for the second round: a model (see docs), or empty for the rule with the known
    truth."""
    judged: int = 60
    """Sums whose answers are judged."""
    preference: Preference = field(default_factory=lambda: Preference(beta=0.1, supervised=0.1))
    pair_epochs: float = 4.0
    """How often each round of preference training sees its pairs."""
    pair_rate: float = 1e-4
    tests: int = 120
    samples: int = 4
    """Held-out sums, and answers drawn to each."""
    read_rows: int = 8
    """Long documents on which reading is measured."""
    max_tokens: int = 64
    seeds: tuple[int, ...] = (0, 1, 2)
    workers: int = 2

    def mixture(self) -> dict[str, float]:
        """The kinds of the report's table 5: web and its rewrites (here of passages), synthetic, code."""
        return {
            "passages": 0.1,
            "rewrites": 0.05,
            "people": 0.33,
            "sums": 0.32,
            "conversations": 0.05,
            "reversed": 0.05,
            "code": 0.1,
        }


def _plain(rate: float, *, final: float = 0.1) -> TrainSettings:
    return TrainSettings(
        optimizer=OptimizerSettings(learning_rate=rate, weight_decay=0.0),
        schedule=Schedule(kind="cosine", warmup=0.05, final=final),
        compile="off",
    )


SCALES = {
    "smoke": Settings(
        gather_bytes=200_000,
        people=PeopleWorld(often=4, seldom=3, never=3, invented=3, often_told=6, seldom_told=1),
        passages=20,
        sums=80,
        rewrites=15,
        reversed=10,
        conversations=10,
        hidden_size=64,
        layers=1,
        heads=1,
        vocab_size=384,
        rows=4,
        time=64,
        raise_tokens=4_000,
        long_time=128,
        middle_tokens=2_000,
        tune_tokens=2_000,
        draws=2,
        questions=3,
        search=SearchSettings(first=2, most=4),
        judged=4,
        pair_epochs=0.5,
        tests=4,
        samples=2,
        read_rows=1,
        max_tokens=16,
        seeds=(0,),
        workers=1,
    ),
    "quick": Settings(),
    "gpu": Settings(
        gather_bytes=60_000_000,
        people=PeopleWorld(often=400, seldom=300, never=400, invented=300),
        passages=20_000,
        sums=60_000,
        rewrites=10_000,
        reversed=5000,
        conversations=5000,
        hidden_size=256,
        layers=6,
        heads=4,
        vocab_size=4096,
        time=512,
        raise_tokens=60_000_000,
        long_time=4096,
        middle_tokens=10_000_000,
        tune_tokens=4_000_000,
        questions=300,
        judged=600,
        tests=500,
        read_rows=32,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Stages:
    """One seed's checkpoints by stage, in order, and what was found on the way."""

    models: Mapping[str, Path]
    estimates: Artifact
    taught: Artifact
    searched: Artifact
    judged: Artifact


def recipe(run: Run, settings: Settings) -> None:
    """Data, students, a longer context, then each seed through post-training; measures at every stage."""
    people = run.step(write_people, world=settings.people, passages=settings.passages)
    sums = run.step(write_sums, rows=settings.sums)
    if settings.model:
        from hornbook.infer.open import checkpoint_folder

        begun = dict.fromkeys(settings.seeds, checkpoint_folder(settings.model))
        read: dict[int, Mapping[str, Any]] = {}
    else:
        begun, read = _pretrained(run, settings, people, sums)
    asked = {side: run.step(ask_about_people, world=settings.people, held_out=side) for side in (False, True)}
    unseen_sums = run.step(write_sums, rows=max(settings.tests, 50), seed=1, held_out=True)
    found: list[dict[str, Any]] = []
    for seed, model in begun.items():
        stages = _post_training(run, settings, model, people, sums, asked[False], seed)
        measured = _measured(run, settings, stages, asked[True], unseen_sums, seed)
        found.append({"read": read.get(seed, {}), "stages": stages, **measured})
        if seed == settings.seeds[0]:
            run.output(model=stages.models["both rounds"])
    _claims(run, settings, found)
    _report(run, settings, found)


def _pretrained(
    run: Run, settings: Settings, people: Artifact, sums: Artifact
) -> tuple[dict[int, Path], dict[int, Mapping[str, Any]]]:
    """Students after pretraining and mid-training, by seed, and how they read documents by length."""
    gathered = run.step(gather, source=as_source(settings.source), limit_bytes=settings.gather_bytes)
    code = run.step(split, corpus=gathered, share=0.25)
    teacher = settings.teacher
    students = raise_students(
        run,
        {
            "people": people,
            "sums": sums,
            "passages": people / "passages",
            "rewrites": run.step(
                write.write_rewrites, seeds=people / "passages", rows=settings.rewrites, teacher=teacher
            ),
            "reversed": run.step(write.write_reversed, rows=settings.reversed, teacher=teacher),
            "conversations": run.step(
                write.write_conversations, rows=settings.conversations, teacher=teacher
            ),
            "code": code / "train",
        },
        shape=student(
            hidden_size=settings.hidden_size,
            layers=settings.layers,
            heads=settings.heads,
            vocab_size=settings.vocab_size,
            max_position=settings.time,
        ),
        phases=[
            PhasePlan(
                name="pretraining",
                mixture=settings.mixture(),
                tokens=settings.raise_tokens,
                rows=settings.rows,
                time=settings.time,
            )
        ],
        settings=settings.train,
        seeds=settings.seeds,
        workers=settings.workers,
        validation=False,
    )
    unseen = run.step(tokenize, corpus=code / "validation", tokenizer=students.tokenizer)
    models: dict[int, Path] = {}
    read: dict[int, Mapping[str, Any]] = {}
    for seed in settings.seeds:
        middle, recalled = _middle(run, settings, students, seed)
        models[seed] = middle / "model"
        read[seed] = run.step(
            read_by_length,
            models={"before": students.models[seed], "recall alone": recalled, "mid-trained": middle},
            test=unseen,
            lengths=[settings.time, settings.long_time],
            rows=settings.read_rows,
        ).facts
    return models, read


def _middle(run: Run, settings: Settings, students: Students, seed: int) -> tuple[Artifact, Artifact]:
    """The student with the longer context (section 3.3), and as many tokens of recall alone for
    comparison."""
    edges = [settings.time, settings.long_time]
    bands = run.step(by_length, tokens=students.tokens["code"], edges=edges)
    tokens = {**students.tokens, "long": bands / band_names(edges)[-1]}
    arms = {
        # 30 % newly chosen long documents, 70 % recall.
        "longer": (
            Longer(max_position=settings.long_time, rope_theta=settings.rope_theta),
            {"long": 0.3, **{name: 0.7 * share for name, share in settings.mixture().items()}},
            settings.long_time,
        ),
        "recall": (Longer(max_position=settings.long_time), settings.mixture(), settings.time),
    }
    made = [
        run.step(
            mid_train,
            model=students.models[seed],
            longer=longer,
            tokens=tokens,
            phases=[
                PhasePlan(
                    name=name,
                    mixture=mixture,
                    tokens=settings.middle_tokens,
                    rows=max(2, settings.rows * settings.time // time),
                    time=time,
                )
            ],
            settings=settings.middle_train,
            seed=seed,
        )
        for name, (longer, mixture, time) in arms.items()
    ]
    return made[0], made[1]


def _post_training(
    run: Run, settings: Settings, model: Path, people: Artifact, sums: Artifact, asked: Artifact, seed: int
) -> Stages:
    """Section 4: fine-tuning, two rounds of preferences; refusals of the unknown are in all of them (A.1)."""
    estimates = run.step(
        estimate_knowledge, model=model, questions=asked, samples=settings.draws, max_tokens=16, seed=seed
    )
    taught = run.step(teach_unknown, estimates=estimates, model=model, seed=seed)
    rest = 1 - settings.unknown_share
    tuned = run.step(
        finetune,
        model=model,
        sources={"people": people, "sums": sums, "unknown": taught / "sft"},
        phases=[
            PhasePlan(
                name="chat",
                mixture={"unknown": settings.unknown_share, "people": rest / 2, "sums": rest / 2},
                tokens=settings.tune_tokens,
                rows=max(2, settings.rows * 2 // 3),
                time=settings.time,
            )
        ],
        settings=settings.tune_train,
        seed=seed,
    )
    searched = run.step(
        search_pivotal_tokens,
        model=tuned / "model",
        questions=sums,
        count=settings.questions,
        settings=settings.search,
        max_tokens=settings.max_tokens,
        seed=seed,
    )
    first = _preferred(
        run, settings, tuned / "model", [searched, taught / "dpo"], seed, searched.facts["pairs"]
    )
    judged = run.step(
        judged_pairs,
        models={"fine-tuned": tuned / "model", "first round": first / "model"},
        questions=sums,
        count=settings.judged,
        judge=settings.judge,
        max_tokens=settings.max_tokens,
        seed=seed,
    )
    second = _preferred(run, settings, first / "model", [judged, taught / "dpo"], seed, judged.facts["rows"])
    models = {
        "mid-trained": model,
        "fine-tuned": tuned / "model",
        "pivotal tokens": first / "model",
        "both rounds": second / "model",
    }
    return Stages(models=models, estimates=estimates, taught=taught, searched=searched, judged=judged)


def _preferred(
    run: Run, settings: Settings, model: Path, pairs: Sequence[Artifact | Path], seed: int, own: int
) -> Artifact:
    """A round of preference training; a corpus without a pair is left out."""
    used = list(pairs if own else pairs[1:])
    return run.step(
        prefer,
        model=model,
        pairs=used,
        objective=settings.preference,
        epochs=settings.pair_epochs,
        rows=8,
        time=2 * settings.time,
        settings=_plain(settings.pair_rate),
        held_out_share=0.0,
        seed=seed,
    )


def _measured(
    run: Run, settings: Settings, stages: Stages, people: Artifact, sums: Artifact, seed: int
) -> dict[str, Any]:
    """Sums that come out right and questions about people, at every stage."""
    return {
        "sums": {
            name: run.step(
                chance_of_success,
                model=model,
                questions=sums,
                count=settings.tests,
                samples=settings.samples,
                max_tokens=settings.max_tokens,
                seed=seed,
            ).facts["chance"]
            for name, model in stages.models.items()
        },
        "people": {
            name: run.step(attempt_questions, model=model, questions=people, max_tokens=16).facts
            for name, model in stages.models.items()
        },
    }


def _claims(run: Run, settings: Settings, found: Sequence[Mapping[str, Any]]) -> None:
    last, far = "both rounds", str(settings.long_time)

    def people(one: Mapping[str, Any], stage: str, kind: str, *groups: str) -> float:
        told = one["people"][stage]["groups"]
        return fmean(told[group][kind] for group in groups)

    unknown = ("never", "invented")
    for name, sentence, values, bound, unit, paper in (
        (
            "longer-context-is-read",
            "After mid-training with longer rows and a new rotary base, long documents are read better than "
            "after as many tokens of recall alone.",
            [
                one["read"]["recall alone"][far] - one["read"]["mid-trained"][far]
                for one in found
                if one["read"]
            ],
            {"above": 0.0},
            f"nats a token less, second half of {far} tokens",
            None,
        ),
        (
            "short-context-is-kept",
            "What was read well in short documents still is.",
            [
                one["read"]["mid-trained"][str(settings.time)] - one["read"]["before"][str(settings.time)]
                for one in found
                if one["read"]
            ],
            {"below": 0.1},
            f"nats a token more, second half of {settings.time} tokens",
            "differences to the 4K model within about 1 point on most benchmarks",
        ),
        (
            "pivotal-tokens-help",
            "The first round, on pivotal tokens, makes more answers right than fine-tuning did.",
            [one["sums"]["pivotal tokens"] - one["sums"]["fine-tuned"] for one in found],
            {"above": 0.0},
            "chance that a drawn sum is right, more",
            "MATH 77.1 to 80.5, HumanEval 79.5 to 81.6",
        ),
        (
            "judged-pairs-help-further",
            "The second round, on pairs that a judge chose, makes still more answers right.",
            [one["sums"][last] - one["sums"]["pivotal tokens"] for one in found],
            {"above": 0.0},
            "chance that a drawn sum is right, more",
            "GPQA 53.6 to 56.1, Arena-Hard 66.5 to 75.4; MATH 80.5 to 80.4",
        ),
        (
            "fewer-wrong-answers",
            "Taught what it does not know, the model gives fewer wrong answers about people it never heard "
            "of.",
            [
                people(one, "mid-trained", "wrong", *unknown) - people(one, last, "wrong", *unknown)
                for one in found
            ],
            {"above": 0.3},
            "share of questions answered wrongly, less",
            "in the worked example 94 % wrong become 3 %",
        ),
        (
            "what-it-knows-it-says",
            "It still answers about people it often heard of.",
            [
                people(one, "mid-trained", "right", "often") - people(one, last, "right", "often")
                for one in found
            ],
            {"below": 0.2},
            "share of questions answered rightly, less",
            None,
        ),
    ):
        run.claim(over_seeds(name, sentence, values, unit=unit, paper_value=paper, **bound))  # type: ignore[arg-type]


def _report(run: Run, settings: Settings, found: Sequence[Mapping[str, Any]]) -> None:
    report = run.report
    report.title = TITLE
    names = list(found[0]["stages"].models)
    report.section(
        "Stage by stage", f"Means over {len(found)} seeds; the same held-out questions at every stage."
    )
    groups = list(found[0]["people"][names[0]]["groups"])
    report.table(
        [
            "stage",
            "sums right",
            *(f"{group}: {kind}" for group in groups for kind in ("right", "wrong")),
            "F1",
        ],
        [
            [
                name,
                round(fmean(one["sums"][name] for one in found), 3),
                *(
                    round(fmean(one["people"][name]["groups"][group][kind] for one in found), 3)
                    for group in groups
                    for kind in ("right", "wrong")
                ),
                round(fmean(one["people"][name]["f1"] for one in found), 3),
            ]
            for name in names
        ],
        title="Sums, and questions about people often, seldom and never heard of, and about nobody",
        note="What is neither right nor wrong was not attempted. F1 is SimpleQA's, which rewards guessing.",
    )
    kinds = ("right", "wrong", "not attempted")
    report.bars(
        "Questions about people never heard of, and about nobody",
        [
            (
                f"{name}: {kind}",
                fmean(one["people"][name]["groups"][g][kind] for one in found for g in ("never", "invented")),
            )
            for name in (names[0], names[-1])
            for kind in kinds
        ],
    )
    report.samples(
        "What it says before and after (first seed)",
        [
            f"{one['question']} [{one['group']}]\nbefore: {one['said']}\nafter: {two['said']}"
            for one, two in zip(
                found[0]["people"][names[0]]["samples"],
                found[0]["people"][names[-1]]["samples"],
                strict=False,
            )
        ],
        shown=8,
    )
    if found[0]["read"]:
        report.section(
            "A longer context",
            "Nats a token over the second half of documents of each length; less is better.",
        )
        lengths = [str(settings.time), str(settings.long_time)]
        report.table(
            ["student", *(f"{length} tokens" for length in lengths)],
            [
                [name, *(round(fmean(one["read"][name][length] for one in found), 4) for length in lengths)]
                for name in found[0]["read"]
            ],
        )
    report.section("What it was taught from")
    for seed, one in zip(settings.seeds, found, strict=True):
        stages = one["stages"]
        estimates, searched, judged = stages.estimates.facts, stages.searched.facts, stages.judged.facts
        report.text(
            f"Seed {seed}: usually right on {estimates['usually_right']:.0%} of the questions that have an "
            f"answer. {counted(stages.taught.facts)}. {searched['pivots']} pivotal tokens in "
            f"{searched['searched']} sums made {searched['pairs']} pairs; the judge made {judged['rows']} of "
            f"{settings.judged} sums."
        )
