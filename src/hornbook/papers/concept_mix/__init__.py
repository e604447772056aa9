"""ConceptMix: a compositional image generation benchmark with controllable difficulty (Wu et al. 2024).

Ask for a picture with k concepts besides its object. How do full marks fall with k, what is hard, do training
captions with few concepts explain the fall, and what does a judge's error do to the score? Small painters of
our own are raised and read exactly; `--images-endpoint` and `--judge` examine any drawing model.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals.concept_mix.steps import PROGRAM, examine_artist, examine_painter, raise_painter
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.papers.concept_mix.claims import claims
from hornbook.papers.concept_mix.report import write_report
from hornbook.papers.concept_mix.settings import SCALES, Settings

TITLE = "ConceptMix: many concepts in one picture"
PAPER = "Wu, Yu, Huang, Russakovsky, Arora 2024, arXiv 2408.14339"

__all__ = ["PAPER", "SCALES", "TITLE", "Settings", "recipe"]


def recipe(run: Run, settings: Settings) -> None:
    """Painters taught few and many concepts, a smaller one, a judge beside the truth, and an endpoint."""
    s = settings
    if s.images_endpoint and not s.judge:
        raise HornbookError(
            "An endpoint's pictures are graded by a model that sees: give --judge http://host/v1#name too."
        )
    judge = s.judge or f"{PROGRAM}{s.sensitivity}:{s.specificity}"
    small = replace(s.apprentice, hidden_size=s.small_hidden_size, heads=1)
    taught = {"few": (s.few, s.apprentice), "many": (s.many, s.apprentice), "small": (s.many, small)}

    raised: dict[str, list[Artifact]] = {}
    examined: dict[str, list[Artifact]] = {}
    judged: list[Artifact] = []
    for name, (ks, apprentice) in taught.items():
        raised[name] = [run.step(raise_painter, ks=ks, apprentice=apprentice, seed=seed) for seed in s.seeds]
        examined[name] = [
            run.step(examine_painter, painter=painter / "model", ks=s.ks, count=s.pictures, seed=100 + seed)
            for painter, seed in zip(raised[name], s.seeds, strict=True)
        ]
    for painter, seed in zip(raised["many"], s.seeds, strict=True):
        judged.append(
            run.step(
                examine_painter,
                painter=painter / "model",
                ks=s.judged_ks,
                count=s.pictures,
                seed=200 + seed,
                judge=judge,
                labelled=s.labelled,
                rounds=s.rounds,
                calibration=s.calibration,
            )
        )
    artist = None
    if s.images_endpoint:
        artist = run.step(
            examine_artist,
            artist=s.images_endpoint,
            judge=s.judge,
            ks=s.ks,
            count=s.endpoint_pictures,
            seed=0,
            writer=s.writer,
            size=s.picture_size,
            rounds=s.rounds,
            calibration=s.calibration,
        )

    levels = {name: [one.facts["levels"] for one in found] for name, found in examined.items()}
    beside = [_beside(one.facts) for one in judged]
    identity = judged[0].facts["judge"]["identity"]
    for claim in claims(levels, beside, few=s.few, judge=identity):
        run.claim(claim)
    write_report(run.report, TITLE, raised, examined, judged, artist, s)


def _beside(facts: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """{k: full marks, true, as the judge saw them and as they are put right}."""
    seen = facts["judge"]["levels"]
    return {
        str(level["k"]): {
            "full": level["full"],
            "seen": seen[str(level["k"])]["full"],
            "corrected": seen[str(level["k"])]["corrected"],
        }
        for level in facts["levels"]
    }
