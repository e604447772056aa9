"""Recipes of post-training and red-teaming, whole, at a scale of seconds: nothing is judged, all is kept."""

import html
import importlib
import re
from pathlib import Path

import pytest

from hornbook.lab.history import latest_run
from hornbook.lab.report_markdown import run_markdown
from hornbook.lab.run import Run

CLAIMS = {
    "break_fix": "rounds-lower-harm",
    "phi3": "grounded-after-tuning",
    "phi4": "fewer-wrong-answers",
    "pivotal_tokens": "what-is-found-is-pivotal",
    "ptst": "ptst-keeps-more",
}


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_it_runs_from_data_to_report_and_a_second_run_makes_nothing(name: str, tmp_path: Path) -> None:
    module = importlib.import_module(f"hornbook.papers.{name}")
    settings = module.SCALES["smoke"]
    for attempt in range(2):
        made = Run(tmp_path, recipe=name, scale="smoke", settings=settings, quiet=True)
        module.recipe(made, settings)
        made.finish()
        assert CLAIMS[name] in {claim.id for claim in made.claims}
        assert all(claim.verdict == "not judged at this scale" for claim in made.claims)
        assert all(done.cached for done in made.steps) is bool(attempt)
    page = (Path(__file__).parents[2] / "docs" / "papers" / f"{name}.md").read_text(encoding="utf-8")
    wanted = re.findall(rf"<!-- run {name}-quick: (.+?) -->", page)
    told = run_markdown(latest_run(tmp_path, name, "smoke"))  # type: ignore[arg-type]
    assert "claims" in wanted
    assert all(what == "claims" or f"### {what}\n" in told for what in wanted)  # the page can be filled
    assert html.escape(module.TITLE) in (tmp_path / f"{name}-smoke" / "report.html").read_text()
