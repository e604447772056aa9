"""Claims keep their words and their numbers."""

import json

import numpy as np
import pytest

from hornbook.lab.claim import Claim


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
