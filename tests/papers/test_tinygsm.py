"""The recipe `tinygsm`, whole, at a scale of seconds."""

from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.papers import tinygsm


def test_it_runs_from_problems_to_report_and_a_second_run_makes_nothing(tmp_path: Path) -> None:
    settings = tinygsm.SCALES["smoke"]
    for again in (False, True):
        made = Run(tmp_path, recipe="tinygsm", scale="smoke", settings=settings, quiet=True)
        tinygsm.recipe(made, settings)
        made.finish()
        assert all(done.cached for done in made.steps) or not again
    names = {claim.id for claim in made.claims}
    assert {"token-level", "checkpoint-mix", "verifier-size", "data-scaling", "decontamination"} <= names
    assert made.outputs["model"].name == "late"
    page = (tmp_path / "tinygsm-smoke" / "report.html").read_text()
    for words in ("Choosing among answers", "Planted contamination", "large verifier chose"):
        assert words in page


def test_the_checkpoints_of_one_training_share_its_data_and_its_length() -> None:
    phases = tinygsm.Settings(tokens=1_000_000, checkpoints=(0.25, 0.5)).main_phases()
    assert [phase.tokens for phase in phases] == [250_000, 250_000, 500_000]
    assert {tuple(phase.mixture.items()) for phase in phases} == {(("problems", 1.0),)}
    with pytest.raises(HornbookError, match="draws is 7"):
        tinygsm.Settings(draws=7)
    with pytest.raises(HornbookError, match="growing shares"):
        tinygsm.Settings(checkpoints=(0.6, 0.3))
