"""Claims keep their words and their numbers."""

import json

import numpy as np
import pytest

from hornbook.lab.claim import Claim, over_seeds


@pytest.mark.parametrize(
    ("holds", "noise", "verdict"),
    [
        (True, False, "holds"),
        (False, False, "fails"),
        (None, False, "not judged at this scale"),
        (None, True, "noise"),
    ],
)
def test_verdicts(holds, noise, verdict):
    claim = Claim(id="a", sentence="s", holds=holds, noise=noise)
    assert claim.verdict == verdict
    assert claim.judged == (verdict != "not judged at this scale")


def test_there_and_back_through_json():
    claim = Claim(
        id="a",
        sentence="s",
        paper_value=1.5,
        measured=2.0,
        interval=(np.float32(1.0), np.float64(3.0)),
        rule="r",
        holds=np.bool_(True),
        why="w",
        unit="%",
    )
    data = json.loads(json.dumps(claim.to_json()))
    assert Claim.from_json({**data, "of a later version": 1}) == claim


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="low to high"):
        Claim(id="a", sentence="s", interval=(2.0, 1.0))
    with pytest.raises(ValueError, match="an id and a sentence"):
        Claim(id="", sentence="s")


@pytest.mark.parametrize(
    ("values", "threshold", "verdict"),
    [
        ([0.3, 0.31, 0.29], {"above": 0.0}, "holds"),
        ([-0.3, -0.31, -0.29], {"above": 0.0}, "fails"),
        ([0.3, -0.3, 0.1], {"above": 0.0}, "noise"),
        ([0.0, 0.0, 0.0], {"above": 0.0}, "noise"),
        ([0.1, 0.11, 0.1], {"below": 0.2}, "holds"),
        ([0.3, 0.31, 0.3], {"below": 0.2}, "fails"),
        ([0.9, 0.9], {"above": 0.0}, "not judged at this scale"),
        ([], {"above": 0.0}, "not judged at this scale"),
    ],
)
def test_a_claim_over_seeds_is_judged_by_the_whole_interval(values, threshold, verdict):
    claim = over_seeds("c", "s", values, unit="u", **threshold)
    assert claim.verdict == verdict
    assert claim.measured == (pytest.approx(sum(values) / len(values)) if values else None)


def test_a_claim_over_seeds_needs_one_threshold():
    for wrong in ({}, {"above": 0.0, "below": 1.0}):
        with pytest.raises(ValueError, match="one of above and below"):
            over_seeds("c", "s", [1.0], unit="u", **wrong)
