"""Intervals and tests against closed forms and brute force."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats  # comes with scikit-learn

from hornbook.lab.statistics import (
    bootstrap_interval,
    clustered_interval,
    clustered_p,
    first_reached,
    incomplete_beta,
    interval_over_seeds,
    paired_bootstrap,
    permutation_p,
    recovered_share,
    shown_over_seeds,
    sign_test_p,
    student_t_interval,
    student_t_quantile,
    wilson_interval,
)


def test_clusters_of_equal_values_count_once() -> None:
    """Each value three times over, a cluster each: Student's interval of the values themselves."""
    values = [0.2, 0.9, 0.4, 0.7, 0.1]
    repeated, clusters = [v for v in values for _ in range(3)], [i for i in range(5) for _ in range(3)]
    assert clustered_interval(repeated, clusters) == pytest.approx(student_t_interval(values))
    wide, narrow = clustered_interval(repeated, clusters), clustered_interval(repeated, range(15))
    assert wide.high - wide.low > 1.7 * (narrow.high - narrow.low)
    with pytest.raises(ValueError, match="one cluster"):
        clustered_interval(values, "aaaaa")


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.45, 0.6])
def test_the_p_value_of_clusters_is_that_of_their_interval(shift: float) -> None:
    values = [v - shift for v in (0.2, 0.9, 0.4, 0.7, 0.1, 0.5, 0.8, 0.3)]
    p = clustered_p(values, "aabbcdde")
    for confidence in (0.5, 0.9, 0.95, 0.99):
        low, high = clustered_interval(values, "aabbcdde", confidence=confidence)
        assert (p < 1 - confidence) == (not low <= 0 <= high)


def test_percentile_bootstrap_matches_every_resample_enumerated():
    values = [0.3, 1.7, 2.2, 5.0, 8.1]
    every = [np.mean(draw) for draw in itertools.product(values, repeat=5)]
    low, high = np.quantile(every, [0.05, 0.95])
    found = bootstrap_interval(values, confidence=0.9, resamples=200_000, method="percentile")
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)


def test_bootstrap_of_the_median_matches_enumeration():
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    every = [np.median(draw) for draw in itertools.product(values, repeat=5)]
    found = bootstrap_interval(values, np.median, confidence=0.8, method="percentile")
    assert tuple(found) == tuple(np.quantile(every, [0.1, 0.9]))


def test_bca_of_efrons_spatial_data():
    """Efron and Tibshirani (1993), section 14.2: variance of 26 scores, 90 % interval of table 14.2.

    The book drew 2,000 resamples, hence the tolerance; scipy draws as many as we do.
    """
    text = "48 36 20 29 42 42 20 42 22 41 45 14 6 0 33 28 34 4 32 24 47 41 24 26 30 41"
    scores = np.array([float(word) for word in text.split()])
    assert np.var(scores) == pytest.approx(171.5, abs=0.05)
    found = bootstrap_interval(scores, np.var, confidence=0.9, resamples=50_000)
    assert found == pytest.approx((115.8, 259.6), abs=3)
    reference = scipy.stats.bootstrap((scores,), np.var, confidence_level=0.9, n_resamples=50_000, rng=1)
    assert found == pytest.approx(tuple(reference.confidence_interval), abs=2)


def test_bca_moves_the_right_way_and_equals_percentiles_for_symmetric_data():
    symmetric = np.concatenate([np.arange(-50, 51)]) / 10
    plain = bootstrap_interval(symmetric, method="percentile", resamples=40_000)
    assert bootstrap_interval(symmetric, resamples=40_000) == pytest.approx(plain, abs=0.02)
    skewed = np.random.default_rng(0).exponential(size=30)
    plain = bootstrap_interval(skewed, method="percentile", resamples=40_000)
    better = bootstrap_interval(skewed, resamples=40_000)
    assert better.low > plain.low
    assert better.high > plain.high


def test_bca_covers_a_skewed_mean_more_often_than_percentiles():
    generator = np.random.default_rng(1)
    hits = {"bca": 0, "percentile": 0}
    for _ in range(300):
        values = generator.exponential(size=20)
        for method in hits:
            low, high = bootstrap_interval(values, method=method, resamples=600)
            hits[method] += low <= 1 <= high
    assert hits["bca"] >= hits["percentile"]
    assert hits["bca"] / 300 > 0.86


def test_clusters_widen_the_interval_as_much_as_they_should():
    generator = np.random.default_rng(0)
    problems = generator.normal(size=200)
    values = np.repeat(problems, 10)  # ten copies of each problem hold no more than one
    clusters = np.repeat(np.arange(200), 10)
    narrow = bootstrap_interval(values)
    wide = bootstrap_interval(values, clusters=clusters)
    honest = bootstrap_interval(problems, method="percentile")
    assert wide.high - wide.low == pytest.approx(honest.high - honest.low, rel=0.05)
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(math.sqrt(10), rel=0.1)


def test_same_seed_same_interval_and_constant_values_have_no_width():
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)
    assert bootstrap_interval([2.0] * 5) == (2.0, 2.0)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [[1.0]], [math.inf]])
def test_values_that_say_nothing_are_refused(bad):
    with pytest.raises(ValueError):
        bootstrap_interval(bad)


def test_paired_bootstrap_sees_what_an_unpaired_comparison_cannot():
    generator = np.random.default_rng(0)
    base = generator.normal(scale=10, size=100)
    better = base + 0.5 + generator.normal(scale=0.5, size=100)
    found = paired_bootstrap(better, base)
    assert found.low > 0.3
    assert found.p < 0.001
    assert found.difference == pytest.approx(float((better - base).mean()))
    assert paired_bootstrap(base, better).interval == pytest.approx((-found.high, -found.low), abs=0.02)
    assert paired_bootstrap([1, 2], [1, 2]).p == 1.0


# Quantiles of Student's t from printed tables.
@pytest.mark.parametrize(
    ("level", "degrees", "value"),
    [
        (0.975, 1, 12.7062047),
        (0.975, 2, 4.30265273),
        (0.975, 4, 2.77644511),
        (0.975, 30, 2.04227246),
        (0.95, 10, 1.81246112),
        (0.995, 5, 4.03214298),
        (0.975, 1e6, 1.95996636),
        (0.025, 4, -2.77644511),
    ],
)
def test_student_t_quantiles(level, degrees, value):
    assert student_t_quantile(level, degrees) == pytest.approx(value, rel=1e-7)


def test_student_t_quantile_closed_forms():
    for level in (0.6, 0.9, 0.999):
        assert student_t_quantile(level, 1) == pytest.approx(math.tan(math.pi * (level - 0.5)), rel=1e-9)
        a = 4 * level * (1 - level)
        assert student_t_quantile(level, 2) == pytest.approx((2 * level - 1) * math.sqrt(2 / a), rel=1e-9)


def test_incomplete_beta_is_the_binomial_tail():
    for n, k, p in [(5, 2, 0.3), (12, 9, 0.55), (40, 1, 0.01)]:
        tail = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
        assert incomplete_beta(k, n - k + 1, p) == pytest.approx(tail, rel=1e-12)


def test_student_t_interval_by_hand():
    low, high = student_t_interval([1.0, 2.0, 3.0])
    assert low == pytest.approx(2 - 4.30265273 / math.sqrt(3), rel=1e-7)
    assert high == pytest.approx(2 + 4.30265273 / math.sqrt(3), rel=1e-7)
    with pytest.raises(ValueError, match="two"):
        student_t_interval([1.0])


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (841, 1000)])
def test_wilson_limits_solve_their_equation(successes, trials):
    share, z = successes / trials, 1.959963984540054
    for limit in wilson_interval(successes, trials):
        if 0 < limit < 1:
            assert (share - limit) ** 2 == pytest.approx(z**2 * limit * (1 - limit) / trials, rel=1e-9)
    assert wilson_interval(0, 10).low == 0.0
    assert wilson_interval(10, 10).high == 1.0


def test_sign_test_against_all_coin_tosses():
    for wins, losses in [(5, 1), (3, 3), (0, 4), (8, 2), (0, 0)]:
        n = wins + losses
        tosses = list(itertools.product([0, 1], repeat=n))
        greater = sum(sum(t) >= wins for t in tosses) / len(tosses)
        both = sum(abs(sum(t) - n / 2) >= abs(wins - n / 2) for t in tosses) / len(tosses)
        assert sign_test_p(wins, losses, alternative="greater") == pytest.approx(greater)
        assert sign_test_p(wins, losses) == pytest.approx(both)
    assert sign_test_p(3000, 2000) < 1e-40  # no overflow


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_permutation_p_against_brute_force(alternative):
    a, b = [1.0, 4.0, 2.5], [0.5, 1.5, 1.0, 3.0]
    pooled = a + b
    observed = np.mean(a) - np.mean(b)
    count = total = 0
    for chosen in itertools.combinations(range(7), 3):
        x = [pooled[i] for i in chosen]
        y = [pooled[i] for i in range(7) if i not in chosen]
        difference = np.mean(x) - np.mean(y)
        total += 1
        count += {
            "two-sided": abs(difference) >= abs(observed) - 1e-9,
            "greater": difference >= observed - 1e-9,
            "less": difference <= observed + 1e-9,
        }[alternative]
    assert permutation_p(a, b, alternative=alternative) == pytest.approx(count / total)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_paired_permutation_p_against_brute_force(alternative):
    a, b = [1.0, 4.0, 2.5, 3.0, 7.0], [0.5, 4.0, 2.7, 1.0, 3.0]  # one tie
    differences = np.subtract(a, b)
    flips = [np.mean(differences * signs) for signs in itertools.product([1, -1], repeat=5)]
    observed = differences.mean()
    expected = {
        "two-sided": np.mean([abs(f) >= abs(observed) - 1e-9 for f in flips]),
        "greater": np.mean([f >= observed - 1e-9 for f in flips]),
        "less": np.mean([f <= observed + 1e-9 for f in flips]),
    }[alternative]
    assert permutation_p(a, b, paired=True, alternative=alternative) == pytest.approx(expected)


def test_sampled_permutations_agree_with_the_normal_limit_and_are_never_zero():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=300), generator.normal(loc=0.15, size=300)
    z = (a.mean() - b.mean()) / math.sqrt(a.var(ddof=1) / 300 + b.var(ddof=1) / 300)
    normal = math.erfc(abs(z) / math.sqrt(2))
    assert permutation_p(a, b) == pytest.approx(normal, abs=0.015)
    assert permutation_p(a, b + 100) == pytest.approx(1 / 20_001)
    assert permutation_p(a, a, paired=True) == 1.0


def test_permutation_p_is_uniform_when_nothing_differs():
    generator = np.random.default_rng(0)
    values = [permutation_p(generator.normal(size=6), generator.normal(size=6)) for _ in range(400)]
    assert np.mean(np.array(values) <= 0.05) < 0.085
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)


def test_a_mean_is_shown_with_half_of_its_interval():
    assert shown_over_seeds([1.0, 2.0, 3.0]) == "2.000 ± 2.484"  # t(0.975, 2) = 4.3027; times 1 / sqrt(3)
    assert shown_over_seeds([0.25], digits=2) == "0.25"


def test_one_seed_has_no_interval() -> None:
    assert interval_over_seeds([0.3]) is None
    assert interval_over_seeds([0.3, 0.5]) == student_t_interval([0.3, 0.5])


@pytest.mark.parametrize(
    ("ys", "target", "x"),
    [
        ([1.0, 3.0, 2.0, 5.0], 2.0, 1.0),  # half of the way from 0 to 2, and the first time
        ([1.0, 3.0, 2.0, 5.0], 4.0, 4.0 + 4.0 * 2 / 3),
        ([1.0, 3.0, 2.0, 5.0], 3.0, 2.0),
        ([1.0, 3.0, 2.0, 5.0], 0.5, 0.0),
        ([1.0, 3.0, 2.0, 5.0], 6.0, 8.0),
    ],
)
def test_a_target_is_reached_where_the_straight_line_crosses_it(
    ys: list[float], target: float, x: float
) -> None:
    assert first_reached([0.0, 2.0, 4.0, 8.0], ys, target) == pytest.approx(x)


def test_a_recovered_share_is_a_ratio_of_mean_gains_that_draws_share() -> None:
    nothing = [0.5, 0.52, 0.48, 0.5]
    whole = [0.9, 0.94, 0.86, 0.9]
    found = recovered_share([0.7, 0.73, 0.67, 0.7], nothing, whole)
    assert found is not None
    assert found[0] == pytest.approx(0.5)
    assert found[1] == pytest.approx((0.5, 0.5))  # each draw has half of its own gain
    mixed = recovered_share([0.5, 0.94, 0.48, 0.9], nothing, whole)  # all or nothing
    assert mixed is not None
    share, (low, high) = mixed
    assert share == pytest.approx((0.42 + 0.4) / 1.6)
    assert low < 0.1
    assert high > 0.9
    assert recovered_share([0.6] * 4, nothing, [0.505] * 4) is None
