"""The recipe `phi1`, whole, at a scale of seconds."""

from dataclasses import replace
from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.papers import phi1


def test_it_runs_from_pool_to_report(tmp_path: Path) -> None:
    settings = replace(phi1.SCALES["smoke"], tokens=4096, tuning_tokens=2048)
    made = Run(tmp_path, recipe="phi1", scale="smoke", settings=settings, quiet=True)
    phi1.recipe(made, settings)
    made.finish()
    assert {claim.id for claim in made.claims} == {
        "filtering",
        "textbooks",
        "filtering-base",
        "textbooks-base",
        "exercises",
        "names",
        "filter-finds",
        "steering-covers-name",
        "steering-covers-grams",
        "steering-covers-cells",
    }
    page = (tmp_path / "phi1-smoke" / "report.html").read_text()
    for words in ("The filter", "Diversity", "Held-out exercises", "pass@1 after exercises"):
        assert words in page


def test_students_read_equally_much_and_differ_in_what() -> None:
    arms = phi1.QUICK.arms()
    assert len({tuple((phase.tokens, phase.rows, phase.time) for phase in arm) for arm in arms.values()}) == 1
    assert len({str([phase.mixture for phase in arm]) for arm in arms.values()}) == len(arms)
    with pytest.raises(HornbookError, match=r"there is no file nowhere.jsonl"):
        phi1.Settings(data=(Path("nowhere.jsonl"),))
