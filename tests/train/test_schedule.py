"""Schedules against their closed forms."""

import math

import pytest

from hornbook.errors import HornbookError
from hornbook.train.schedule import Schedule


def test_wsd_rises_stays_and_falls_linearly() -> None:
    shape = Schedule(kind="wsd", warmup=4, decay=0.5, final=0.1)
    factors = [shape.factor(step, 20) for step in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4:10] == [1.0] * 6
    assert factors[10:] == pytest.approx([1.0 - 0.09 * k for k in range(10)])
    assert shape.factor(20, 20) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("form", "law"),
    [("sqrt", lambda t: 1 - math.sqrt(t)), ("cosine", lambda t: (1 + math.cos(math.pi * t)) / 2)],
)
def test_wsd_decay_forms(form: str, law) -> None:
    shape = Schedule(kind="wsd", warmup=0, decay=1.0, decay_form=form)  # type: ignore[arg-type]
    assert [shape.factor(s, 10) for s in range(10)] == pytest.approx([law(s / 10) for s in range(10)])


def test_cosine_and_linear_after_a_share_of_warmup() -> None:
    cosine, linear = (Schedule(kind=k, warmup=0.2) for k in ("cosine", "linear"))  # type: ignore[arg-type]
    for step in range(20, 100):
        t = (step - 20) / 80
        assert cosine.factor(step, 100) == pytest.approx(0.5 * (1 + math.cos(math.pi * t)))
        assert linear.factor(step, 100) == pytest.approx(1 - t)
    assert cosine.factor(9, 100) == 0.5


def test_constant_and_a_run_shorter_than_its_warmup() -> None:
    assert {Schedule(kind="constant", warmup=0).factor(s, 5) for s in range(5)} == {1.0}
    assert [Schedule(warmup=10).factor(s, 4) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    "wrong", [{"kind": "step"}, {"warmup": -1}, {"decay": 1.5}, {"final": 2}, {"decay_form": "x"}]
)
def test_wrong_settings_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(HornbookError, match=next(iter(wrong))):
        Schedule(**wrong)  # type: ignore[arg-type]
