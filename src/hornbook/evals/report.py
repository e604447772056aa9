"""What was measured as one HTML page: scores with intervals, groups, differences, drawings, answers."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hornbook.evals.comparison import Difference
from hornbook.evals.result import Result
from hornbook.lab.report import Bar, Picture, Report, Sample

_SAMPLES = 6
_LONGEST = 4_000


def write_report(
    measured: Mapping[str, Sequence[Result]], folder: Path, differences: Sequence[Difference] = ()
) -> Path:
    """`report.html` and `report.json` in `folder`; returns the path of the page.

    Args:
        measured: results by the model's name.
        differences: of the first model and the second, on the items that both answered.
    """
    report = Report("Evaluation", ", ".join(measured))
    report.section("Scores", "With 95 % intervals: Wilson's for rates, the bootstrap's for means.")
    for model, results in measured.items():
        report.table(
            ["task", "score", "value", "low", "high", "better", "items", "seconds"],
            [
                [result.task, score.name, score.value, *score.interval, score.better, result.items,
                 round(result.seconds, 1)]
                for result in results
                for score in result.scores
            ],
            title=model,
        )  # fmt: skip
        lost = [f"- **{result.task}**: {result.unfinished}" for result in results if result.unfinished]
        if lost:
            report.text("Not everything was answered:\n\n" + "\n".join(lost))
    if differences:
        report.section("Differences", f"{' minus '.join(measured)}, in pairs on the items both answered.")
        report.table(
            ["task", "score", "difference", "low", "high", "p", "items"],
            [[one.task, one.name, one.value, *one.interval, one.p, one.items] for one in differences],
        )
    for model, results in measured.items():
        for result in results:
            _task(report, model if len(measured) > 1 else "", result)
    return report.write(folder)


def _task(report: Report, model: str, result: Result) -> None:
    """One task of one model: its first scores as bars, groups, drawings, samples."""
    if not result.scores:
        return
    told = {key: result.details[key] for key in ("card", "shots", "chat", "judge", "unscored", "worked")
            if key in result.details}  # fmt: skip
    about = ", ".join(f"{key}: {value}" for key, value in told.items())
    lead = " ".join(filter(None, [str(result.details.get("sentence", "")), f"({about})" if about else ""]))
    report.section(f"{result.task}{f', {model}' if model else ''}", lead)
    shares = [score for score in result.scores if 0 <= score.value <= 1]
    if shares:
        bars = [Bar(label=s.name, value=s.value, interval=(s.interval[0], s.interval[1])) for s in shares]
        report.bars("Scores", bars)
    groups: Mapping[str, float] = result.details.get("groups") or {}
    if groups:
        report.table(["group", result.scores[0].name], list(groups.items()), title="Groups")
    pictures: Sequence[Mapping[str, Any]] = result.details.get("pictures") or []
    if pictures:
        row = [
            Picture(pixels=base64.b64decode(p["png"]), caption=p["note"] or "all checks passed")
            for p in pictures
        ]
        report.pictures("Drawings", [str(p["item"]) for p in pictures], [("", row)])
    report.samples(
        "Asked and answered",
        [
            Sample(
                text=f"{sample['request']}\n\n>>> {sample['answer']}"[-_LONGEST:],
                label="right" if sample.get("right") else "wrong",
                note=str(sample.get("note", ""))[:_LONGEST],
            )
            for sample in result.samples[:_SAMPLES]
        ],
    )
