"""How a recipe shows what steering is worth: the claims and the section of its report."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from hornbook.lab.claim import over_seeds
from hornbook.lab.run import Run

WRITER = "exercises"
_ASKED = (
    ("name", "function names"),
    ("grams", "different 4-grams"),
    ("cells", "cells of the embedding"),
)


def _ratios(facts: Mapping[str, Any], writer: str, what: str) -> list[float]:
    """What the steered calls cover over what as many random ones cover, one number a seed."""
    one = facts[writer]
    return [s[-1][what] / r[-1][what] for s, r in zip(one["steered"], one["random"], strict=True)]


def claim_steering(run: Run, facts: Mapping[str, Any], seeds: int) -> None:
    """More coverage a call, with Student's interval over seeds."""
    for what, words in _ASKED:
        run.claim(
            over_seeds(
                f"steering-covers-{what}",
                f"As many calls, steered to where coverage is thin, cover more {words}.",
                _ratios(facts, WRITER, what)[:seeds],
                above=1.0,
                unit="covered by steered calls over covered by random ones (exercises)",
            )
        )


def report_steering(run: Run, facts: Mapping[str, Any], calls: int) -> None:
    """Coverage as it grows, by writer, steered and not, and what was never hit."""
    run.report.section(
        "Diversity",
        f"{calls:,} calls of each writer, with plans drawn at random and chosen of four where coverage is "
        "thin. Means over seeds.",
    )
    rows = []
    for writer, one in facts.items():
        for way in ("random", "steered"):
            last = [grown[-1] for grown in one[way]]
            missed = one["never_hit"][way]
            rows.append(
                [
                    writer,
                    way,
                    *(round(_mean(last, what)) for what in ("grams", "cells")),
                    f"{_mean(last, 'near_duplicates'):.1%}",
                    ", ".join(f"{kind} {fmean(values):.0%}" for kind, values in missed.items()) or "unknown",
                ]
            )
    run.report.table(["writer", "plans", "4-grams", "embedding cells", "near duplicates", "never hit"], rows)
    run.report.curves(
        "Near duplicates as a corpus grows",
        {
            f"{writer}, {way}": [
                (line["texts"], 100 * line["near_duplicates"]) for line in facts[writer][way][0]
            ]
            for writer in facts
            for way in ("random", "steered")
        },
        x_label="texts",
        y_label="% that nearly repeat an earlier text",
        note="First seed; 5-gram Jaccard similarity of at least 0.5.",
    )


def _mean(lines: Sequence[Mapping[str, float]], what: str) -> float:
    return fmean(line[what] for line in lines)
