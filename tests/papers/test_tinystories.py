"""The recipe `tinystories`, whole, at a scale of seconds, and the arithmetic of its claims."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.papers import tinystories
from hornbook.papers.tinystories.study import Study


def test_it_runs_from_stories_to_report_and_a_second_run_makes_nothing(tmp_path: Path) -> None:
    settings = tinystories.SCALES["smoke"]
    for again in (False, True):
        made = Run(tmp_path, recipe="tinystories", scale="smoke", settings=settings, quiet=True)
        tinystories.recipe(made, settings)
        made.finish()
        assert all(done.cached for done in made.steps) or not again
    names = {claim.id for claim in made.claims}
    assert {
        "grammar-first",
        "one-layer-follows-less",
        "unseen-combination",
        "does-not-copy",
        "neurons-have-kinds",
    } <= names
    assert all(claim.holds is None for claim in made.claims)
    page = (tmp_path / "tinystories-smoke" / "report.html").read_text()
    for words in (
        "Size against quality",
        "Grades as the student grows",
        "Damage found",
        "Copying",
        "Neurons by size",
    ):
        assert words in page


def study(growth: dict[str, list[float]]) -> Study:
    """A study that knows nothing but how two grades grow over moments 1/4, 1/2 and 1."""
    settings = replace(tinystories.Settings(), ends=(0.25, 0.5), seeds=(0,))
    graded: dict[str, Any] = {
        f"{name}/0": {aspect: [values[at]] for aspect, values in growth.items()}
        for at, name in enumerate(settings.moments())
    }
    return Study(
        settings=settings,
        bits={},
        bits_of_arms={},
        graded=graded,
        choices={},
        followed={},
        copied={},
        grader={},
        neurons={},
        judged=None,
        real=None,
    )


def test_the_time_a_grade_takes_is_counted_in_doublings() -> None:
    found = study({"grammar": [0.9, 0.9, 1.0], "consistent": [0.1, 0.3, 0.5], "creative": [0.0, 0.0, 0.0]})
    assert found.reached("grammar") == [0.0]  # there at the first kept moment
    assert found.reached("consistent") == [pytest.approx(1 + (0.45 - 0.3) / 0.2)]
    assert found.reached("creative") == [2.0]  # never: not before the end


def test_stretches_add_up_and_wrong_settings_are_named() -> None:
    settings = tinystories.Settings(tokens=1_000_000, ends=(0.1, 0.5))
    assert [phase.tokens for phase in settings.growth()] == [100_000, 400_000, 500_000]
    with pytest.raises(HornbookError, match="head_size"):
        tinystories.Settings(widths=(48,))
    with pytest.raises(HornbookError, match="growing shares"):
        tinystories.Settings(ends=(0.5, 0.2))
    with pytest.raises(HornbookError, match="test is"):
        tinystories.Settings(test=3)
