"""Sparks of Artificial General Intelligence: early experiments with GPT-4 (Bubeck et al. 2023).

Probes with exact graders instead of impressions: does the suite tell knowing from remembering, what can a
small language model do of it, and which of the paper's findings belong to writing token by token, and so show
in models trained from nothing?
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from hornbook.evals.sparks.run import PROBES
from hornbook.evals.sparks.steps import PROGRAM, examine_sparks, values
from hornbook.lab.claim import over_seeds
from hornbook.lab.report import Bar, Picture, Sample
from hornbook.lab.run import Run
from hornbook.theory.arithmetic.steps import Pupil
from hornbook.theory.at_once import Drill
from hornbook.theory.steps_at_once import drill, share

TITLE = "Sparks: capability probes with exact graders"
PAPER = "Bubeck et al. 2023, arXiv 2303.12712"

DRAWINGS = ("animal", "restore", "layout", "letters")
DRILLS = {
    "at once": Drill(kind="sum"),
    "with steps": Drill(kind="sum", steps=True),
    "few numbers": Drill(kind="template", pairs=16),
    "all numbers": Drill(kind="template"),
}
PROGRAMS = ("reference", "noisy:0.1", "memorizer", "null")


_COMPARED = (
    (
        "subject-steps",
        "Steps help the language model as well.",
        ("sum-steps", ""),
        ("sum-direct", ""),
        "58 to 100 %",
    ),
    (
        "subject-local-global",
        "A constraint kept sentence by sentence is easier than one that needs the end first.",
        ("acrostic", ""),
        ("reversal", ""),
        "passed; failed",
    ),
    (
        "subject-patterns",
        "The model counts personal data better than patterns do.",
        ("personal-data", ""),
        ("personal-data", "patterns' count"),
        "77.4 against 40.8 % exact",
    ),
    (
        "subject-explanation",
        "Explanations fit the answer more often than they foretell the next one.",
        ("explanation", "answer explained"),
        ("explanation", "process"),
        "qualitative",
    ),
    (
        "subject-demonstration",
        "One demonstration wins the cooking game that is lost without.",
        ("cooking", "after a demonstration"),
        ("cooking", "alone"),
        "failed; solved",
    ),
)
"""Claims on the first subject: which probe's value is to be above which other's, and the paper's figures."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    subjects: tuple[str, ...] = ("smollm2",)
    """Models to examine: a checkpoint folder, a .gguf, smollm2, http://host/v1#name, program:noisy:0.3."""
    probes: tuple[str, ...] = ()
    """Names of probes; none: all of them."""
    items: int = 3
    """Of a probe and seed."""
    drawings: int = 1
    """Of a drawing probe and seed: they are long."""
    max_tokens: int = 96
    """Of a turn at most, but for drawings."""
    drawing_tokens: int = 320
    checked: int = 12
    """Items of a probe and seed in the suite's test of itself."""
    seeds: tuple[int, ...] = (0, 1, 2)

    pupil: Pupil = field(default_factory=lambda: replace(Pupil(), steps=250))
    samples: int = 20_000
    each: int = 100
    workers: int = 2
    """Processes that teach pupils side by side."""


SCALES = {
    "smoke": Settings(
        subjects=("program:noisy:0.5",),
        items=1,
        checked=2,
        seeds=(0, 1),
        pupil=replace(Pupil(), hidden_size=32, layers=1, rows=16, steps=2),
        samples=64,
        each=4,
        workers=1,
    ),
    "quick": Settings(),
    "gpu": Settings(
        items=20,
        drawings=20,
        max_tokens=512,
        drawing_tokens=1_024,
        seeds=(0, 1, 2, 3, 4),
        pupil=replace(Pupil(), hidden_size=256, layers=6, heads=4, rows=512, steps=3_000),
        samples=200_000,
    ),
    "paper": Settings(items=20, drawings=20, max_tokens=1_024, drawing_tokens=2_048, seeds=(0, 1, 2, 3, 4)),
}


def recipe(run: Run, settings: Settings) -> None:
    """The suite against programs, the subjects against the suite, the findings in pupils of our own."""
    s = settings
    names = s.probes or tuple(PROBES)
    checks = {
        kind: run.step(
            examine_sparks, subject=PROGRAM + kind, probes=names, items=s.checked, seeds=s.seeds
        ).facts
        for kind in PROGRAMS
    }
    subjects = [_examined(run, s, subject, names) for subject in s.subjects]
    taught = run.step(
        drill,
        drills=DRILLS,
        pupil=s.pupil,
        samples=s.samples,
        each=s.each,
        seeds=s.seeds,
        workers=s.workers,
    ).facts
    _claims_of_pupils(run, taught)
    _claim_of_memory(run, checks["memorizer"])
    _claims_of_a_subject(run, subjects[0])
    run.report.title = TITLE
    _report_probes(run, checks, subjects)
    _report_drawings(run, checks["reference"], subjects)
    _report_pupils(run, taught, s)


def _examined(run: Run, s: Settings, subject: str, names: Sequence[str]) -> dict[str, Any]:
    """A subject on all probes: drawings apart, as they are longer and fewer."""
    said = run.step(
        examine_sparks,
        subject=subject,
        probes=[name for name in names if name not in DRAWINGS],
        items=s.items,
        seeds=s.seeds,
        max_tokens=s.max_tokens,
    ).facts
    drawn = run.step(
        examine_sparks,
        subject=subject,
        probes=[name for name in names if name in DRAWINGS],
        items=s.drawings,
        seeds=s.seeds,
        max_tokens=s.drawing_tokens,
    ).facts
    return {"subject": said["subject"], "probes": {**drawn["probes"], **said["probes"]}}


def _claims_of_pupils(run: Run, taught: Mapping[str, Sequence[Any]]) -> None:
    """What belongs to answering token by token: models trained from nothing, numbers they never saw."""
    at_once = [share(entry) for entry in taught["at once"]]
    steps = [share(entry) for entry in taught["with steps"]]
    run.claim(
        over_seeds(
            "steps-rescue",
            "A * B + C * D is answered right far more often when the products are written first.",
            [b - a for a, b in zip(at_once, steps, strict=True)],
            paper_value="58 % at once, 100 % with steps (factors 0 to 9); 0 and 90 % (1 to 200)",
            unit="difference of shares",
            why="Pupils trained from nothing on factors 0 to 9, asked combinations that were held out.",
            above=0.0,
        )
    )
    run.claim(
        over_seeds(
            "larger-is-harder",
            "Without steps, accuracy falls as the factors grow.",
            [share(e, groups=(0,)) - share(e, groups=(1,)) for e in taught["at once"]],
            paper_value="58, 16, 12 and 0 % for factors to 9, 19, 39 and 199",
            unit="share with factors to 4 minus share with factors 5 to 9",
            why="The same pupils; both ranges were taught, and the larger one more often.",
            above=0.0,
        )
    )
    few, every = taught["few numbers"], taught["all numbers"]
    run.claim(
        over_seeds(
            "altered-numbers",
            "Questions with altered numbers tell who has a rule from who has learned answers by heart.",
            [share(a) - share(b) for a, b in zip(every, few, strict=True)],
            paper_value="75.2 against 0.2 %",
            unit="difference of shares on altered numbers",
            why="Two pupils on the same six templates: sixteen number pairs for one, all for the other.",
            above=0.0,
        )
    )
    run.claim(
        over_seeds(
            "known-is-not-understood",
            "On the numbers it was taught the memorizing pupil looks as if it understood.",
            [share(e, exam="known") - share(e) for e in few],
            unit="share on taught numbers minus share on altered ones",
            why="Rule: more than half of all questions apart.",
            above=0.5,
        )
    )


def _claim_of_memory(run: Run, facts: Mapping[str, Any]) -> None:
    names = [name for name in facts["probes"] if name != "judging"]
    run.claim(
        over_seeds(
            "answers-by-heart-fail",
            "Answers learned by heart do not pass the probes.",
            [fmean(column) for column in zip(*(values(facts, name) for name in names), strict=True)],
            unit="mean share of probes passed with the answers to another variant",
            why="Of all probes but judging, where a coin has one half.",
            below=0.2,
        )
    )


def _claims_of_a_subject(run: Run, facts: Mapping[str, Any]) -> None:
    """The paper's comparisons on the first subject; mostly out of reach of a small model, and shown so."""
    about = f"{facts['subject']}; the interval is over seeds of few items each."
    for name, sentence, first, second, paper in _COMPARED:
        ours, theirs = values(facts, *first), values(facts, *second)
        run.claim(
            over_seeds(
                name,
                sentence,
                [a - b for a, b in zip(ours, theirs, strict=True)],
                paper_value=paper,
                unit="difference of shares",
                why=about,
                above=0.0,
            )
        )
    run.claim(
        over_seeds(
            "subject-judge",
            "As a judge the model agrees with known answers only partly.",
            values(facts, "judging"),
            paper_value="47.6 % free, 89.8 % forced, against people",
            unit="share of pairs, both orders asked",
            why=f"{about} The truth is planted; people are asked with sparks-judge-people.",
            below=0.9,
        )
    )


def _report_probes(run: Run, checks: Mapping[str, Any], subjects: Sequence[Mapping[str, Any]]) -> None:
    report = run.report
    report.section(
        "The probes",
        "Each against programs (who knows, who slips in one of ten, who knows one variant by heart, who "
        "knows "
        "nothing) and against the subjects. Mean over all items; subjects with Wilson's 95 % interval.",
    )
    rows = []
    for name, told in checks["reference"]["probes"].items():
        own = [subject["probes"].get(name) for subject in subjects]
        reached = ["–" if one is None else _interval(one["scores"][one["metric"]]) for one in own]
        checked = [round(fmean(values(checks[kind], name)), 2) for kind in PROGRAMS]
        rows.append([f"{told['section']}  {name}", told["sentence"], *checked, *reached])
    report.table(["probe", "what", *PROGRAMS, *(s["subject"] for s in subjects)], rows, title="Probes")
    for subject in subjects:
        shown = [
            Sample(
                text=f"{sample['request'][-600:]}\n\n>>> {sample['answer'][:600]}",
                label=name,
                note=str(sample["note"])[:200],
            )
            for name, told in subject["probes"].items()
            for sample in told["samples"][:1]
        ]
        report.samples(f"What {subject['subject']} said", shown)


def _interval(score: Sequence[float]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*score)


def _report_drawings(run: Run, reference: Mapping[str, Any], subjects: Sequence[Mapping[str, Any]]) -> None:
    """The solver's drawing beside the subjects', rendered from the shapes that were read."""
    run.report.section(
        "Drawings", "Read into shapes and drawn by our own rasteriser; what cannot be read is an empty field."
    )
    blank = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAGqGgYwAAAABJRU5ErkJggg=="
    )
    columns = ["solver", *(subject["subject"] for subject in subjects)]
    rows = []
    for name in DRAWINGS:
        pictures = []
        for facts in (reference, *subjects):
            drawn = facts["probes"].get(name, {}).get("pictures", [])
            pictures.append(
                Picture(
                    pixels=base64.b64decode(drawn[0]["png"]), caption=drawn[0]["note"] or "all checks passed"
                )
                if drawn
                else Picture(pixels=blank, caption="unreadable")
            )
        rows.append((name, pictures))
    run.report.pictures("One of each", columns, rows)


def _report_pupils(run: Run, taught: Mapping[str, Sequence[Any]], s: Settings) -> None:
    report = run.report
    report.section(
        "Pupils of our own",
        f"Decoders of {taught['at once'][0]['parameters']:,} parameters, {s.pupil.steps} steps each, "
        f"{len(s.seeds)} seeds; numbers that training never held.",
    )
    bars = []
    for label, shares in (
        ("A * B + C * D, at once", [share(e) for e in taught["at once"]]),
        ("A * B + C * D, with steps", [share(e) for e in taught["with steps"]]),
        ("templates, 16 number pairs, those pairs", [share(e, exam="known") for e in taught["few numbers"]]),
        ("templates, 16 number pairs, altered", [share(e) for e in taught["few numbers"]]),
        ("templates, all numbers, altered", [share(e) for e in taught["all numbers"]]),
    ):
        bars.append(Bar.over_seeds(label, shares))
    report.bars("Right answers", bars, unit="share")
    report.table(
        ["drill", "prompt", "wanted", "given", "right"],
        [[name, *row] for name, entries in taught.items() for row in entries[0]["shown"][:3]],
    )
