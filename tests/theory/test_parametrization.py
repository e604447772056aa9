"""The table of the parametrization against the published entries."""

import pytest

from hornbook.errors import HornbookError
from hornbook.train.parametrization import PARAMETRIZATIONS, Parametrization, find_parametrization


def row(name, role, m, k, rule="adam"):
    return find_parametrization(name).factors(role, m=m, k=k, rule=rule)


def test_at_the_base_size_nothing_changes():
    for name, table in PARAMETRIZATIONS.items():
        assert table.branch(1) == 1
        for role in ("input", "hidden", "output", "hidden_vector", "vector"):
            for rule in ("adam", "sgd"):
                factors = row(name, role, 1, 1, rule)
                assert vars(factors) == {
                    "init": 1,
                    "multiplier": 1,
                    "learning_rate": 1,
                    "epsilon": 1,
                    "weight_decay": 1,
                }, (name, role, rule)


def test_adam_table_of_depth_mup():
    m, k = 8.0, 16.0
    hidden = row("depth_mup", "hidden", m, k)
    assert find_parametrization("depth_mup").branch(k) == pytest.approx(1 / 4)
    assert hidden.init == pytest.approx(8**-0.5)
    assert hidden.learning_rate == pytest.approx(1 / 8 / 4)
    assert hidden.epsilon == pytest.approx(1 / 8 / 4)
    assert hidden.learning_rate * hidden.weight_decay == pytest.approx(1)
    output = row("depth_mup", "output", m, k)
    assert (output.multiplier, output.init, output.learning_rate) == pytest.approx((1 / 8, 1, 1))
    assert row("depth_mup", "input", m, k).learning_rate == 1
    assert row("depth_mup", "vector", m, k).learning_rate == 1
    assert row("depth_mup", "hidden_vector", m, k).learning_rate == pytest.approx(1 / 4)


def test_sgd_needs_no_depth_factor_under_depth_mup():
    """The branch multiplier puts k^-1/2 into the gradient already (TP VI, table 1)."""
    assert row("depth_mup", "hidden", 8, 16, "sgd").learning_rate == 1
    assert row("depth_mup", "input", 8, 16, "sgd").learning_rate == 8
    assert row("depth_mup", "output", 8, 16, "sgd").learning_rate == 8


def test_completep_keeps_adams_rate_over_depth():
    hidden = row("completep", "hidden", 4, 32)
    assert find_parametrization("completep").branch(32) == pytest.approx(1 / 32)
    assert hidden.learning_rate == pytest.approx(1 / 4)
    assert hidden.epsilon == pytest.approx(1 / 4 / 32)
    assert hidden.weight_decay == pytest.approx(4)


def test_standard_changes_only_the_initialisation():
    for role in ("input", "hidden", "output"):
        factors = row("standard", role, 4, 32)
        assert (factors.learning_rate, factors.epsilon, factors.multiplier) == (1, 1, 1)
    assert row("standard", "hidden", 4, 32).init == pytest.approx(0.5)
    assert row("standard", "output", 4, 32).init == pytest.approx(0.5)


def test_wrong_names_and_sizes_are_refused():
    with pytest.raises(HornbookError, match=r"parametrization is 'mumu'.*'depth_mup'"):
        find_parametrization("mumu")
    with pytest.raises(ValueError, match="m, the ratio"):
        Parametrization(name="x", alpha=0.5, gamma=0.5).factors("hidden", m=0, k=1)
