"""The fit finds the exponent and factor that made the data, and the paper's own figures in its table."""

import numpy as np
import pytest

from hornbook.errors import HornbookError
from hornbook.evals.math_squared.square_law import PUBLISHED, fit_square_law


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0])
def test_the_exponent_that_made_the_data_is_found(exponent):
    x = np.linspace(0.05, 0.95, 12)
    law = fit_square_law(x, x**exponent)
    assert law.exponent == pytest.approx(exponent, abs=0.006)
    low, high = law.exponent_interval
    assert low - 0.006 <= exponent <= high + 0.006
    nearest = min((law.deviation_from_x, 1), (law.deviation, 2), (law.deviation_from_cube, 3))[1]
    assert nearest == exponent


def test_the_published_table_gives_the_published_law():
    law = fit_square_law([x / 100 for _, _, x in PUBLISHED], [y / 100 for _, y, _ in PUBLISHED])
    assert law.models == 25
    assert law.factor == pytest.approx(1.012, abs=5e-4)
    assert law.explained == pytest.approx(0.987, abs=5e-4)
    assert law.deviation == pytest.approx(0.020, abs=5e-4)
    assert law.exponent_interval.low < 2 < law.exponent_interval.high


def test_checkpoints_of_one_model_do_not_make_the_interval_narrower():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.9, 8)
    y = np.clip(x**2 + rng.normal(0, 0.05, 8), 0, 1)
    once = fit_square_law(x, y)
    often = fit_square_law(np.repeat(x, 20), np.repeat(y, 20), groups=np.repeat(np.arange(8), 20))
    alone = fit_square_law(np.repeat(x, 20), np.repeat(y, 20))
    assert often.factor_interval == pytest.approx(once.factor_interval, rel=1e-9)
    width = [i.high - i.low for i in (alone.factor_interval, often.factor_interval)]
    assert width[0] < width[1] / 2


def test_models_without_a_right_answer_count_and_nothing_to_fit_is_refused():
    law = fit_square_law([0.1, 0.5, 0.9], [0.0, 0.25, 0.81])
    assert 1.9 < law.exponent < 2.1
    with pytest.raises(HornbookError, match="at least three models"):
        fit_square_law([0.1, 0.2], [0.1, 0.2])
    with pytest.raises(HornbookError, match="neither 0 nor 1"):
        fit_square_law([1.0, 1.0, 0.0], [1.0, 1.0, 0.0])
