"""The recipe end to end at the smoke scale: every arm is examined on both sides, judged over seeds only."""

from dataclasses import replace

from hornbook.evals.skill_mix.composition_steps import SIDES
from hornbook.lab.history import load_artifact
from hornbook.lab.run import Run
from hornbook.papers import skill_composition


def test_the_recipe_runs_and_judges_nothing_at_this_scale(tmp_path):
    settings = replace(skill_composition.SCALES["smoke"], seeds=(0,), arms=((1,), (1, 3)))
    run = Run(tmp_path, recipe="skill_composition", scale="smoke", settings=settings, quiet=True)
    skill_composition.recipe(run, settings)
    assert len(run.claims) == 8
    assert all(claim.holds is None for claim in run.claims)
    arms = [load_artifact(path) for path in (tmp_path / "steps").glob("learn-composition-*")]
    assert len(arms) == len(settings.seeds) * (len(settings.arms) + 1)
    narrow, wide, longer = sorted(arm.facts["tokens"] for arm in arms)
    assert narrow < wide  # longer texts
    assert abs(longer - wide) < wide / 2  # three steps an arm: a step more or less is a third
    for artifact in arms:
        assert list(artifact.facts["sides"]) == list(SIDES)
        assert [row["k"] for row in artifact.facts["sides"]["held out"]] == list(settings.ks)
        assert (artifact / "model" / "model.safetensors").is_file()
