"""The recipe at its smallest scale: every claim is made, none judged on two seeds, drawings are shown."""

from pathlib import Path

from hornbook.lab.run import Run
from hornbook.papers import sparks


def test_the_smallest_scale_makes_every_claim_and_shows_drawings(tmp_path: Path) -> None:
    settings = sparks.SCALES["smoke"]
    run = Run(tmp_path, recipe="sparks", scale="smoke", settings=settings, quiet=True)
    sparks.recipe(run, settings)
    report = run.finish()
    assert report is not None
    assert {claim.id for claim in run.claims} == {
        "steps-rescue",
        "larger-is-harder",
        "altered-numbers",
        "known-is-not-understood",
        "answers-by-heart-fail",
        "subject-steps",
        "subject-local-global",
        "subject-patterns",
        "subject-explanation",
        "subject-demonstration",
        "subject-judge",
    }
    assert all(claim.holds is None for claim in run.claims)
    text = report.read_text()
    assert text.count("data:image/png;base64,") == 2 * len(sparks.DRAWINGS)
    assert "all checks passed" in text
