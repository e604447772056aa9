"""The claims of ConceptMix, each with the rule that was fixed before the run."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from hornbook.lab.claim import Claim, over_seeds

Levels = Sequence[Mapping[str, Any]]
"""One painter's levels, by k."""


def full(levels: Levels, ks: Sequence[int]) -> float:
    """Mean share of full marks over some k."""
    return fmean(level["full"] for level in levels if level["k"] in ks)


def rate(levels: Levels, categories: Sequence[str], ks: Sequence[int] | None = None) -> float:
    """Mean over categories of the share of right answers, all pictures of some k together (None: all)."""
    return fmean(_rate(levels, category, ks) for category in categories)


def _rate(levels: Levels, category: str, ks: Sequence[int] | None) -> float:
    counts = [
        level["categories"][category]
        for level in levels
        if category in level["categories"] and (ks is None or level["k"] in ks)
    ]
    return float(sum(hits for hits, _ in counts) / max(1, sum(trials for _, trials in counts)))


def claims(
    painters: Mapping[str, Sequence[Levels]],
    judges: Sequence[Mapping[str, Any]],
    *,
    few: Sequence[int],
    judge: str,
) -> list[Claim]:
    """All claims.

    Args:
        painters: {"few" | "many" | "small": the levels of each seed}.
        judges: for each seed the full marks of the painter "few" by k: `full` (true), `seen`, `corrected`.
        few: the k that the painter "few" has learned from.

    A claim about k that were not examined stays without a measurement.
    """
    ks = [level["k"] for level in painters["few"][0]]
    inside, beyond = [k for k in ks if k in few], [k for k in ks if k > max(few)]
    ends = ks[:2], ks[-2:]
    return [
        over_seeds(
            "full-marks-fall",
            "Full marks fall with k, for every model.",
            [
                min(full(own[seed], ends[0]) - full(own[seed], ends[1]) for own in painters.values())
                for seed in range(len(painters["few"]))
            ],
            paper_value="DALL-E 3: .83 at k = 1, .08 at 7; SD 2.1: .52, 0",
            unit=f"share at k = {_listed(ends[0])} minus share at {_listed(ends[1])}, least of the painters",
            above=0.0,
        ),
        over_seeds(
            "few-fall-beyond",
            "A generator whose training captions hold few concepts falls where there are more.",
            [
                (full(many, beyond) - full(many, inside)) - (full(own, beyond) - full(own, inside))
                for own, many in zip(painters["few"], painters["many"], strict=True)
                if inside and beyond
            ],
            paper_value="LAION captions hold 3 categories mostly, rarely more than 4 (no experiment)",
            unit=f"fall from k up to {max(few)} to beyond it, minus that of the painter taught all k",
            why="The paper infers it from captions; here the captions are changed and nothing else.",
            above=0.0,
        ),
        over_seeds(
            "more-than-single-concepts-predict",
            "Concepts together are harder than each by itself predicts.",
            [
                fmean(level["expected_singly"] for level in own if level["k"] in beyond) - full(own, beyond)
                for own in painters["many"]
                if beyond and all(level["expected_singly"] is not None for level in own)
            ],
            unit=f"full marks predicted from k = 1 minus full marks, k above {max(few)}, taught all k",
            why="Predicted: the product over a plan's properties of its categories' rates at k = 1.",
            above=0.0,
        ),
        over_seeds(
            "colour-and-style-are-easiest",
            "Colour and style are easier than number and spatial relation.",
            [rate(own, ("colour", "style")) - rate(own, ("number", "spatial")) for own in painters["many"]],
            paper_value="all eight models",
            unit="difference of shares of right answers, painter taught all k",
            above=0.0,
        ),
        over_seeds(
            "models-spread",
            "The more concepts, the wider the ratio between a weak model and the best.",
            [
                _ratio(small, best, ks[:2]) - _ratio(small, best, ks[2:5])
                for small, best in zip(painters["small"], painters["many"], strict=True)
                if len(ks) > 2
            ],
            paper_value="SD 2.1 over DALL-E 3: .63 at k = 1, .18 at k = 5",
            unit=f"ratio at k = {_listed(ks[:2])} minus ratio at k = {_listed(ks[2:5])}",
            above=0.0,
        ),
        over_seeds(
            "judge-put-right",
            "A judge's errors hide full marks; with its measured error taken out the score is truer.",
            [
                fmean(abs(k["seen"] - k["full"]) - abs(k["corrected"] - k["full"]) for k in own.values())
                for own in judges
                if all(k["corrected"] is not None for k in own.values())
            ],
            unit="distance from the truth as seen, minus as corrected; mean over k",
            why=f"Judge: {judge}. Its error was measured on other pictures than these.",
            above=0.0,
        ),
    ]


def _ratio(weak: Levels, best: Levels, ks: Sequence[int]) -> float:
    """With half a picture added to both, so that none is infinite."""
    half = 0.5 / (best[0]["pictures"] * len(ks))
    return float((full(weak, ks) + half) / (full(best, ks) + half))


def _listed(ks: Sequence[int]) -> str:
    return " and ".join(str(k) for k in ks) if len(ks) < 3 else f"{ks[0]} to {ks[-1]}"
