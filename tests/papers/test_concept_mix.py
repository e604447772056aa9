"""The recipe at its smallest scale, and with endpoints: a report with pictures, exit status, going on."""

import base64
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mock_images import MockStudio

from hornbook.errors import HornbookError
from hornbook.evals.concept_mix import steps
from hornbook.evals.concept_mix.steps import Apprentice
from hornbook.evals.concept_mix.words import caption
from hornbook.lab.png import png, read_png
from hornbook.lab.run import Run
from hornbook.lm.endpoint_settings import EndpointSettings
from hornbook.papers import concept_mix
from hornbook.synth.scenes import PICTURE

TINY = replace(
    concept_mix.SCALES["smoke"],
    seeds=(0,),
    pictures=6,
    ks=(1, 3),
    few=(1, 2),
    many=(1, 3),
    calibration=4,
    labelled=3,
    judged_ks=(1,),
    apprentice=Apprentice(hidden_size=32, layers=1, heads=1, pictures=64, steps=2, rows=16),
    small_hidden_size=16,
)


def run_of(home: Path, settings: concept_mix.Settings) -> Run:
    run = Run(home, recipe="concept_mix", scale="smoke", settings=settings, quiet=True)
    concept_mix.recipe(run, settings)
    run.finish()
    return run


def test_the_smallest_scale_makes_every_claim_and_shows_pictures(tmp_path: Path) -> None:
    run = run_of(tmp_path, TINY)
    assert [claim.id for claim in run.claims] == [
        "full-marks-fall",
        "few-fall-beyond",
        "more-than-single-concepts-predict",
        "colour-and-style-are-easiest",
        "models-spread",
        "judge-put-right",
    ]
    assert not any(claim.judged for claim in run.claims)
    text = (run.folder / "report.html").read_text()
    shown = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(shown) == 4  # two painters, at k = 1 and 3
    assert all(read_png(base64.b64decode(data)).shape == (PICTURE, PICTURE, 3) for data in shown)


def test_endpoints_are_examined_and_a_run_that_lacks_a_picture_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(steps, "PATIENCE", EndpointSettings(max_attempts=1, backoff_seconds=0.0))

    def draw(prompt: str) -> bytes:
        return png(np.full((4, 4, 3), len(prompt), np.uint8))

    with MockStudio(draw, lambda shown, question: "Yes") as studio:
        settings = replace(
            TINY,
            seeds=(0,),
            images_endpoint=f"{studio.url}#<b>painter</b>",
            judge=f"{studio.url}#seer",
            endpoint_pictures=2,
        )
        plan = steps.draw_plans(3, 2, steps.PAPER, seed=0).plans[0]
        studio.fails = {caption(plan, steps.PAPER)}
        first = run_of(tmp_path, settings)
        assert "1 of 4 pictures were not drawn" in first.unfinished[0]
        page = (first.folder / "report.html").read_text()
        assert "were not drawn" in page
        assert "The endpoint&#x27;s pictures" in page or "The endpoint's pictures" in page
        assert "<b>painter" not in page  # a name is shown, not obeyed
        studio.fails = set()
        asked = studio.answered.copy()
        assert not run_of(tmp_path, settings).unfinished
        more = studio.answered - asked
        assert sum(more.values()) == 1 + 2 * 4  # the picture, and its four questions in both orders


def test_pictures_without_a_judge_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    settings = replace(TINY, images_endpoint="http://127.0.0.1:1/v1#painter")
    with pytest.raises(HornbookError, match="--judge"):
        run_of(tmp_path, settings)
