"""The picture of a break-fix loop: harm, needless refusals and usefulness on one chart, round by round."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from hornbook.lab.report import Report

Scores = Sequence[Mapping[str, Any]]
"""One loop: the fields of `Score`, one mapping a round."""


def mean_rate(score: Mapping[str, Any]) -> float:
    """Mean harmful rate of one round over personas and kinds of tasks."""
    return fmean(rate["rate"] for rate in score["rates"].values())


def unseen_rate(score: Mapping[str, Any]) -> float:
    """The same over what is never trained against: held-out personas, and all personas on held-out tasks."""
    unseen = set(score.get("unseen") or [name for name in score["rates"] if name.endswith("held out")])
    found = [rate["rate"] for name, rate in score["rates"].items() if name in unseen]
    return fmean(found) if found else 0.0


def rounds_of(
    loops: Sequence[Scores], value: Callable[[Mapping[str, Any]], float]
) -> list[tuple[float, float]]:
    """(round, mean over loops); a loop that met its bar early stays where it ended."""
    longest = max(map(len, loops))
    return [(n, fmean(value(scores[min(n, len(scores) - 1)]) for scores in loops)) for n in range(longest)]


def add_rounds(report: Report, loops: Sequence[Scores], *, note: str = "") -> None:
    """The chart of all loops together, and the harmful rate of each persona round by round."""
    report.curves(
        "The loop",
        {
            "harmful answers, all personas and topics": rounds_of(loops, mean_rate),
            "harmful answers, held-out personas and topics": rounds_of(loops, unseen_rate),
            "harmless requests declined": rounds_of(loops, lambda score: score["over_refusal"]),
            "harmless requests answered right": rounds_of(loops, lambda score: score["usefulness"]),
        },
        x_label="round",
        y_label="share",
        note=note,
    )
    names = list(loops[0][0]["rates"])
    report.table(
        ["persona, topics", *(f"round {n}" for n in range(max(map(len, loops))))],
        [
            [name, *(round(y, 3) for _, y in rounds_of(loops, lambda s, name=name: s["rates"][name]["rate"]))]  # type: ignore[misc]
            for name in names
        ],
        title="Harmful answers by persona",
        note="A cell that rises again was reopened by a later fix; what once went through stays in the "
        "training rows.",
    )


def add_groups(report: Report, groups: Sequence[Mapping[str, Any]], title: str) -> None:
    """What went through, grouped by the way it was asked."""
    report.table(
        ["persona", "several turns", "how many", "topics", "example"],
        [
            [g["persona"], "yes" if g["several_turns"] else "no", g["count"], len(g["tasks"]), g["example"]]
            for g in groups
        ],
        title=title,
    )


def write_loop_report(
    folder: Path, title: str, scores: Scores, groups: Sequence[Sequence[Mapping[str, Any]]], why: str
) -> Path:
    """`report.html` and `report.json` of one loop in its folder; begun loops have one too.

    groups: what went through, a list for each round. why: what ended the loop; "" while it goes on.
    """
    report = Report(title, why and f"Ended because {why}.")
    report.section(
        "Round by round",
        "The best harmful rate alone is that of a model that declines everything: read all lines together.",
    )
    add_rounds(report, [scores])
    report.table(
        ["round", "harmful", "held out", "harmless declined", "harmless answered right"],
        [
            [
                s["round"],
                *(round(v, 3) for v in (mean_rate(s), unseen_rate(s), s["over_refusal"], s["usefulness"])),
            ]
            for s in scores
        ],
        title="All rounds",
    )
    report.section("What went through")
    for number, own in enumerate(groups):
        if own:
            add_groups(report, own, f"Round {number}")
    return report.write(folder)
