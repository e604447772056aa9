"""The theory recipes run at smoke: every step made, every claim stated, none judged, report written."""

import json
from dataclasses import replace

import pytest

from hornbook.lab.run import Run
from hornbook.papers.registry import find

ONE_SEED = {"arithmetic": {"seeds": (0,), "product_seeds": (0,)}, "depth_mup": {"seeds": (0,)}}
"""One seed has no interval over seeds, and that is no reason to lose the run at its end."""
CLAIMS = {"arithmetic": 16, "depth_mup": 11, "cntk": 6, "kernel_view": 8, "saliency": 7}


@pytest.mark.parametrize("name", CLAIMS)
def test_recipe_at_smoke(name, tmp_path):
    recipe = find(name)
    settings = replace(recipe.settings("smoke"), **ONE_SEED.get(name, {}))
    run = Run(tmp_path, recipe=name, scale="smoke", settings=settings, quiet=True)
    recipe.run(run, settings)
    report = run.finish()
    assert report is not None
    assert report.is_file()
    claims = json.loads((run.folder / "claims.json").read_text())
    claims = claims["claims"] if isinstance(claims, dict) else claims
    assert len(claims) == CLAIMS[name]
    assert {claim["verdict"] for claim in claims} <= {"not judged at this scale", "noise"}
