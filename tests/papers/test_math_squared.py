"""The recipe end to end at the smoke scale: skills, questions, students, and the published table judged."""

from dataclasses import replace

from hornbook.data.corpus import Corpus
from hornbook.lab.history import load_artifact
from hornbook.lab.run import Run
from hornbook.papers import math_squared


def test_the_recipe_runs_and_its_questions_wait_for_people(tmp_path):
    settings = replace(math_squared.SCALES["smoke"], seeds=(0,), checkpoints=(0.5, 1.0))
    run = Run(tmp_path, recipe="math_squared", scale="smoke", settings=settings, quiet=True)
    math_squared.recipe(run, settings)
    claims = {claim.id: claim for claim in run.claims}
    low, high = claims["published-square"].interval
    assert 1.7 < low < 2 < high < 2.3
    assert claims["skills-are-found"].holds is None
    steps = tmp_path / "steps"
    [student] = [load_artifact(path) for path in steps.glob("teach-mathematics-*")]
    assert [point["step"] for point in student.facts["points"]] == [2, 4]
    for point in student.facts["points"]:
        assert all(0 <= value <= 1 for name, value in point.items() if name != "step")
        assert point["both"] <= point["x"]
    written = [load_artifact(path) for path in steps.glob("write-math-squared-*")]
    assert len(written) == 2  # with the sceptic's attempt, and without
    for artifact in written:
        assert sum(artifact.facts["funnel"].values()) == settings.candidates
        assert Corpus.open(artifact.path).rows == artifact.facts["funnel"]["accepted"]
        assert len((artifact / "candidates.jsonl").read_text().splitlines()) == settings.candidates
