"""The recipe at its smallest scale: every claim is made, nothing is judged on three combinations."""

from pathlib import Path

from hornbook.lab.run import Run
from hornbook.papers import skill_mix


def test_the_smallest_scale_makes_every_claim(tmp_path: Path) -> None:
    settings = skill_mix.SCALES["smoke"]
    run = Run(tmp_path, recipe="skill_mix", scale="smoke", settings=settings, quiet=True)
    skill_mix.recipe(run, settings)
    report = run.finish()
    assert report is not None
    assert {claim.id for claim in run.claims} == {
        "full-marks-fall-faster",
        "gaps-widen",
        "best-of-three-inflates",
        "three-gradings-help",
        "parrot-independent",
        "parrot-together",
        "novelty-of-gpt-4",
        "naming-costs",
    }
    assert "Students of known skill" in report.read_text()
