"""Phi-4: data first, a longer context in the middle, post-training on the tokens and questions that matter.

Phi-4 technical report (arXiv 2412.08905). Small students go through its stages: a mixture that is mostly
synthetic, mid-training with longer rows and another rotary base, fine-tuning, preference training on pivotal
tokens and then on pairs that a judge chose, and "I do not know" taught where they do not know.

    hornbook run phi4 --scale quick
    hornbook run phi4 --scale quick --judge http://host/v1#model      # a model chooses the judged pairs
    hornbook run phi4 --scale gpu --model smollm2                     # post-training of a model of others
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hornbook.align.dpo import prefer
from hornbook.align.judged import judged_pairs
from hornbook.align.knowledge import estimate_knowledge, teach_unknown
from hornbook.align.pivotal_steps import chance_of_success, search_pivotal_tokens
from hornbook.align.sft import finetune
from hornbook.align.students import Students, raise_students
from hornbook.data.lengths import band_names, by_length
from hornbook.data.steps import as_source, gather, split, tokenize
from hornbook.evals.attempts import attempt_questions
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.model.presets import student
from hornbook.papers.phi4.report import Stages, judge_claims, write_report
from hornbook.papers.phi4.settings import SCALES, Settings
from hornbook.synth.people import ask_about_people, write_people
from hornbook.synth.phi4 import steps as write
from hornbook.synth.sums import write_sums
from hornbook.train.midtrain import Longer, mid_train, read_by_length
from hornbook.train.pretrain import PhasePlan
from hornbook.train.settings import without_decay

TITLE = "Phi-4 in small: mixture, longer context, pivotal tokens, and what it does not know"
PAPER = "Phi-4 technical report, arXiv 2412.08905"

__all__ = ["PAPER", "SCALES", "TITLE", "Settings", "recipe"]


def recipe(run: Run, settings: Settings) -> None:
    """Data, students, a longer context, then each seed through post-training; measures at every stage."""
    people = run.step(write_people, world=settings.people, passages=settings.passages)
    sums = run.step(write_sums, rows=settings.sums, largest=settings.largest)
    if settings.model:
        from hornbook.infer.open import checkpoint_folder

        folder = checkpoint_folder(settings.model)
        # It never heard of these people; what it is to know it is told first.
        begun = {
            seed: _tuned(run, settings, folder, {"people": (people, 0.5), "sums": (sums, 0.5)}, seed)
            for seed in settings.seeds
        }
        read: dict[int, Mapping[str, Any]] = {}
    else:
        begun, read = _pretrained(run, settings, people, sums)
    asked = {side: run.step(ask_about_people, world=settings.people, held_out=side) for side in (False, True)}
    unseen_sums = run.step(
        write_sums, rows=max(settings.tests, 50), seed=1, held_out=True, largest=settings.largest
    )
    found: list[dict[str, Any]] = []
    for seed, model in begun.items():
        stages = _post_training(run, settings, model, people, sums, asked[False], seed)
        measured = _measured(run, settings, stages, asked[True], unseen_sums, seed)
        found.append({"read": read.get(seed, {}), "stages": stages, **measured})
        if seed == settings.seeds[0]:
            run.output(model=stages.models["both rounds"])
    judge_claims(run, settings, found)
    run.report.title = TITLE
    write_report(run, settings, found)


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
    taught = run.step(teach_unknown, estimates=estimates, model=model, balance=True, seed=seed)
    rest = (1 - settings.unknown_share) / 2
    mixture: dict[str, tuple[Artifact | Path, float]] = {
        "unknown": (taught / "sft", settings.unknown_share),
        "people": (people, rest),
        "sums": (sums, rest),
    }
    tuned = _tuned(run, settings, model, mixture, seed)
    searched = run.step(
        search_pivotal_tokens,
        model=tuned,
        questions=sums,
        count=settings.questions,
        settings=settings.search,
        max_tokens=settings.max_tokens,
        seed=seed,
    )
    first = _preferred(run, settings, tuned, [searched, taught / "dpo"], seed, searched.facts["pairs"])
    judged = run.step(
        judged_pairs,
        models={"fine-tuned": tuned, "first round": first / "model"},
        questions=sums,
        count=settings.judged,
        judge=settings.judge,
        max_tokens=settings.max_tokens,
        seed=seed,
    )
    second = _preferred(run, settings, first / "model", [judged, taught / "dpo"], seed, judged.facts["rows"])
    models = {
        "mid-trained": model,
        "fine-tuned": tuned,
        "pivotal tokens": first / "model",
        "both rounds": second / "model",
    }
    return Stages(models=models, estimates=estimates, taught=taught, searched=searched, judged=judged)


def _tuned(
    run: Run, settings: Settings, model: Path, mixture: Mapping[str, tuple[Artifact | Path, float]], seed: int
) -> Path:
    """A checkpoint after fine-tuning on sources with their shares of rows."""
    made = run.step(
        finetune,
        model=model,
        sources={name: source for name, (source, _) in mixture.items()},
        phases=[
            PhasePlan(
                name="chat",
                mixture={name: share for name, (_, share) in mixture.items()},
                tokens=settings.tune_tokens,
                rows=max(2, settings.rows * 2 // 3),
                time=settings.time,
            )
        ],
        settings=settings.tune_train,
        seed=seed,
    )
    return made / "model"


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
        settings=without_decay(settings.pair_rate),
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
