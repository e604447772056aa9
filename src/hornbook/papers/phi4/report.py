"""The claims of the recipe `phi4`, each with the rule that was fixed before the run, and its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from hornbook.align.knowledge import counted
from hornbook.lab.claim import over_seeds
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.papers.phi4.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Stages:
    """One seed's checkpoints by stage, in order, and what was found on the way."""

    models: Mapping[str, Path]
    estimates: Artifact
    taught: Artifact
    searched: Artifact
    judged: Artifact


def judge_claims(run: Run, settings: Settings, found: Sequence[Mapping[str, Any]]) -> None:
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


def write_report(run: Run, settings: Settings, found: Sequence[Mapping[str, Any]]) -> None:
    report = run.report
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
            title="Loss by length, nats a token",
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
