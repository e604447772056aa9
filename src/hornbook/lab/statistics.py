"""Intervals and exact tests: every number beside its noise. NumPy alone, seeded, vectorised."""

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Values = Sequence[float] | npt.NDArray[Any]
Alternative = Literal["two-sided", "greater", "less"]
_CHUNK = 4_000_000  # numbers held at once while resampling: 32 MB
_EXACT = 200_000  # arrangements enumerated before sampling them instead


class Interval(NamedTuple):
    """A confidence interval; unpacks as `low, high`."""

    low: float
    high: float


class PairedDifference(NamedTuple):
    """Mean of a - b over pairs, its interval, and the two-sided bootstrap p-value of "no difference"."""

    difference: float
    low: float
    high: float
    p: float

    @property
    def interval(self) -> Interval:
        """(low, high) around `difference`."""
        return Interval(self.low, self.high)


def mean(values: Floats, axis: int = -1) -> Floats:
    """The default statistic: the mean along `axis`."""
    return np.asarray(values.mean(axis=axis))


def bootstrap_interval(
    values: Values,
    statistic: Callable[..., Any] = mean,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    clusters: Sequence[object] | npt.NDArray[Any] | None = None,
    method: Literal["bca", "percentile"] = "bca",
) -> Interval:
    """Bootstrap confidence interval of `statistic(values)`.

    Args:
        values: (n,) observations, n >= 1; one observation gives a zero-width interval.
        statistic: called as `statistic(array, axis=-1)` on (resamples, n) arrays; `np.median` fits.
        clusters: (n,) labels; whole clusters are drawn (several samples of one problem are not
            independent). The statistic must then be the mean.
        method: bias-corrected and accelerated (Efron 1987), or plain percentiles.

    Raises:
        ValueError: no values, values that are not finite, or a confidence outside (0, 1).
    """
    data = _values(values, confidence)
    generator = np.random.default_rng(seed)
    if clusters is not None:
        if statistic is not mean:
            raise ValueError("clusters are resampled for the mean only")
        return _cluster_interval(data, clusters, confidence, resamples, generator)
    if len(data) == 1 or bool(np.all(data == data[0])):
        point = float(statistic(data, axis=-1))
        return Interval(point, point)
    draws = _resample(data, statistic, resamples, generator)
    tail = (1 - confidence) / 2
    levels = (tail, 1 - tail)
    if method == "bca":
        levels = _bca_levels(data, statistic, draws, levels)
    low, high = np.quantile(draws, levels)
    return Interval(float(low), float(high))


def _values(values: Values, confidence: float) -> Floats:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size == 0:
        raise ValueError(f"expected a list of at least one number, got shape {data.shape}")
    if not np.isfinite(data).all():
        raise ValueError("the values hold NaN or infinity: leave failed measurements out and say how many")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    return data


def _resample(
    data: Floats, statistic: Callable[..., Any], resamples: int, generator: np.random.Generator
) -> Floats:
    draws = np.empty(resamples)
    rows = max(1, _CHUNK // len(data))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        picks = generator.integers(0, len(data), size=(count, len(data)))
        draws[start : start + count] = statistic(data[picks], axis=-1)
    return draws


def _bca_levels(
    data: Floats, statistic: Callable[..., Any], draws: Floats, levels: tuple[float, float]
) -> tuple[float, float]:
    """Efron's adjusted quantile levels; the plain ones where the correction is undefined."""
    point = float(statistic(data, axis=-1))
    below = float(np.mean(draws < point) + np.mean(draws == point) / 2)
    if not 0 < below < 1:
        return levels
    normal = NormalDist()
    bias = normal.inv_cdf(below)
    left_out = _jackknife(data, statistic)
    spread = left_out.mean() - left_out
    square = float((spread**2).sum())
    acceleration = float((spread**3).sum()) / (6 * square**1.5) if square > 0 else 0.0
    adjusted = []
    for level in levels:
        z = bias + normal.inv_cdf(level)
        adjusted.append(normal.cdf(bias + z / (1 - acceleration * z)))
    return adjusted[0], adjusted[1]


def _jackknife(data: Floats, statistic: Callable[..., Any]) -> Floats:
    count = len(data)
    if statistic is mean:
        return np.asarray((data.sum() - data) / (count - 1))
    if count > 2_000:  # a random subset of deletions estimates the skewness well enough
        skip = np.random.default_rng(0).choice(count, 2_000, replace=False)
    else:
        skip = np.arange(count)
    return np.array([float(statistic(np.delete(data, i), axis=-1)) for i in skip])


def _cluster_interval(
    data: Floats,
    clusters: Sequence[object] | npt.NDArray[Any],
    confidence: float,
    resamples: int,
    generator: np.random.Generator,
) -> Interval:
    labels = np.unique(np.asarray(clusters), return_inverse=True)[1]
    if len(labels) != len(data):
        raise ValueError(f"{len(data)} values but {len(labels)} cluster labels")
    sums = np.bincount(labels, weights=data)
    sizes = np.bincount(labels).astype(np.float64)
    draws = np.empty(resamples)
    rows = max(1, _CHUNK // len(sums))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        picks = generator.integers(0, len(sums), size=(count, len(sums)))
        draws[start : start + count] = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    return Interval(float(low), float(high))


def paired_bootstrap(
    a: Values, b: Values, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> PairedDifference:
    """Mean of a - b over the same items, with a percentile interval and a two-sided p-value.

    The p-value is that of the bootstrap of the centred differences, with one added above and below so
    that it is never zero.
    """
    first, second = _values(a, confidence), _values(b, confidence)
    if len(first) != len(second):
        raise ValueError(f"pairs need equal lengths, not {len(first)} and {len(second)}")
    differences = first - second
    point = float(differences.mean())
    draws = _resample(differences, mean, resamples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    slack = 1e-12 * max(1.0, float(np.abs(differences).max()))
    extreme = int((np.abs(draws - point) >= abs(point) - slack).sum())
    return PairedDifference(point, float(low), float(high), (extreme + 1) / (resamples + 1))


def student_t_interval(values: Values, *, confidence: float = 0.95) -> Interval:
    """Interval for the mean of n >= 2 roughly normal values (seeds): mean -+ t * s / sqrt(n)."""
    data = _values(values, confidence)
    if len(data) < 2:
        raise ValueError("an interval over seeds needs at least two of them")
    half = student_t_quantile((1 + confidence) / 2, len(data) - 1)
    half *= float(data.std(ddof=1)) / math.sqrt(len(data))
    centre = float(data.mean())
    return Interval(centre - half, centre + half)


def interval_over_seeds(values: Sequence[float]) -> Interval | None:
    """Student's 95 % interval for one number a seed; None where there are fewer than two, which have none."""
    return student_t_interval(values) if len(values) > 1 else None


def first_reached(xs: Sequence[float], ys: Sequence[float], target: float) -> float:
    """Where the line through the points first comes up to `target`, straight between them.

    The first point counts where it lies there already; a line that never gets there ends at its last x.

    Args:
        xs: ascending. ys: as many.
    """
    place = next((number for number, y in enumerate(ys) if y >= target), None)
    if place is None:
        return xs[-1]
    if place == 0:
        return xs[0]
    low, high = ys[place - 1], ys[place]
    return xs[place - 1] + (target - low) / (high - low) * (xs[place] - xs[place - 1])


def recovered_share(part: Values, nothing: Values, whole: Values) -> tuple[float, Interval] | None:
    """How much of a gain is had, (mean part - mean nothing) / (mean whole - mean nothing), with a percentile
    bootstrap interval over draws, of which each has one of the three. None where there is next to nothing to
    be gained (0.01); resampled gains between -0.001 and 0.001 count as 0.001.
    """
    table = np.array([part, nothing, whole], dtype=float)

    def share(draws: Floats, axis: int = -1) -> Floats:
        means = table[:, draws.astype(int)].mean(axis)
        gain = means[2] - means[1]
        found: Floats = (means[0] - means[1]) / np.where(np.abs(gain) > 1e-3, gain, 1e-3)
        return found

    if table[2].mean() - table[1].mean() < 0.01:
        return None
    draws = np.arange(table.shape[1], dtype=float)
    return float(share(draws)), bootstrap_interval(draws, share, method="percentile")


def clustered_interval(values: Values, clusters: Sequence[object], *, confidence: float = 0.95) -> Interval:
    """Student-t interval of the mean of values that come in clusters (questions on one passage, say).

    The variance of the mean is that of the clusters' summed deviations (Liang and Zeger 1986), times
    C / (C - 1); Student's t has one degree of freedom less than there are clusters.

    Raises:
        ValueError: fewer than two clusters, labels of another number, values that are not finite.
    """
    centre, error, degrees = _clustered(_values(values, confidence), clusters)
    half = student_t_quantile((1 + confidence) / 2, degrees) * error
    return Interval(centre - half, centre + half)


def clustered_p(differences: Values, clusters: Sequence[object]) -> float:
    """Two-sided p-value of "the mean is zero", by the statistic of `clustered_interval`."""
    centre, error, degrees = _clustered(_values(differences, 0.95), clusters)
    if error == 0:
        return float(centre == 0)
    return min(1.0, 2 * (1 - _student_t_cdf(abs(centre / error), degrees)))


def _clustered(data: Floats, clusters: Sequence[object]) -> tuple[float, float, int]:
    """Mean, its standard error, degrees of freedom."""
    labels = np.unique(np.asarray([str(one) for one in clusters]), return_inverse=True)[1]
    if len(labels) != len(data):
        raise ValueError(f"{len(data)} values but {len(labels)} cluster labels")
    sums = np.bincount(labels, weights=data - data.mean())
    count = len(sums)
    if count < 2:
        raise ValueError("one cluster tells nothing of the spread between clusters")
    error = math.sqrt(float((sums**2).sum()) * count / (count - 1)) / len(data)
    return float(data.mean()), error, count - 1


def shown_over_seeds(values: Sequence[float], digits: int = 3) -> str:
    """The mean and half of Student's 95 % interval, for a table: "0.412 ± 0.031"; one value alone is bare."""
    middle = sum(values) / len(values)
    if len(values) < 2:
        return f"{middle:.{digits}f}"
    low, high = student_t_interval(values)
    return f"{middle:.{digits}f} ± {(high - low) / 2:.{digits}f}"


def student_t_quantile(level: float, degrees: float) -> float:
    """The value below which a Student t variable with `degrees` of freedom lies with probability `level`."""
    if not 0 < level < 1 or degrees <= 0:
        raise ValueError(f"level must lie between 0 and 1 and degrees above 0, not {level}, {degrees}")
    if level < 0.5:
        return -student_t_quantile(1 - level, degrees)
    low, high = 0.0, 1.0
    while _student_t_cdf(high, degrees) < level:
        low, high = high, high * 2
    for _ in range(200):  # bisection to the last bit
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _student_t_cdf(middle, degrees) < level else (low, middle)
    return (low + high) / 2


def _student_t_cdf(t: float, degrees: float) -> float:
    """For t >= 0."""
    return 1 - incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t)) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b), by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny = 1e-300
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            d = 1 / (1 + term * d or tiny)
            c = 1 + term / c or tiny
            change = c * d
            fraction *= change
        if abs(change - 1) < 1e-15:
            break
    return math.exp(front) * fraction / a


def wilson_interval(successes: float, trials: int, *, confidence: float = 0.95) -> Interval:
    """Interval for a proportion (Wilson 1927): right near 0 and 1, where the normal one is not."""
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(
            f"successes must lie between 0 and trials, and trials be above 0: {successes}/{trials}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, square = successes / trials, z * z
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = z * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / (1 + square / trials)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(low, high)


def sign_test_p(wins: int, losses: int, *, alternative: Alternative = "two-sided") -> float:
    """Exact sign test: p-value of `wins` against `losses` (ties left out) if each were a fair coin's."""
    if wins < 0 or losses < 0:
        raise ValueError(f"wins and losses must not be negative: {wins}, {losses}")
    count = wins + losses

    def at_least(k: int) -> float:
        return float(sum(math.comb(count, i) for i in range(k, count + 1)) / 2**count)

    if alternative == "greater":
        return at_least(wins)
    if alternative == "less":
        return at_least(losses)
    return min(1.0, 2 * at_least(max(wins, losses)))


def permutation_p(
    a: Values,
    b: Values,
    *,
    paired: bool = False,
    alternative: Alternative = "two-sided",
    resamples: int = 20_000,
    seed: int = 0,
) -> float:
    """Permutation test of "a and b come from one distribution" on the difference of means.

    `paired` swaps within pairs (sign flips); otherwise values are dealt anew between the groups. Exact
    where there are at most 200,000 arrangements, else over `resamples` random ones (one added above
    and below, so that the p-value is valid and never zero). "greater" means a above b.
    """
    first, second = _values(a, 0.5), _values(b, 0.5)
    if alternative == "less":
        first, second = second, first
    generator = np.random.default_rng(seed)
    if paired:
        if len(first) != len(second):
            raise ValueError(f"pairs need equal lengths, not {len(first)} and {len(second)}")
        draws, exact = _sign_flips(first - second, resamples, generator)
        observed = float((first - second).mean())
    else:
        draws, exact = _deals(first, second, resamples, generator)
        observed = float(first.mean() - second.mean())
    slack = 1e-10 * max(1.0, float(np.abs(first).max()), float(np.abs(second).max()))
    if alternative == "two-sided":
        extreme = int((np.abs(draws) >= abs(observed) - slack).sum())
    else:
        extreme = int((draws >= observed - slack).sum())
    return extreme / len(draws) if exact else (extreme + 1) / (len(draws) + 1)


def _sign_flips(differences: Floats, resamples: int, generator: np.random.Generator) -> tuple[Floats, bool]:
    """(arrangements,) means under every (or many random) choices of signs."""
    pairs = len(differences)
    differences = differences[differences != 0]  # flipping a tie changes nothing
    count = len(differences)
    if 2**count <= _EXACT:
        totals = np.zeros(1)
        for value in differences:
            totals = np.concatenate([totals + value, totals - value])
        return totals / pairs, True
    draws = np.empty(resamples)
    rows = max(1, _CHUNK // count)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        signs = generator.integers(0, 2, size=(size, count), dtype=np.int8) * 2 - 1
        draws[start : start + size] = signs @ differences / pairs
    return draws, False


def _deals(
    first: Floats, second: Floats, resamples: int, generator: np.random.Generator
) -> tuple[Floats, bool]:
    """(arrangements,) differences of means under every (or many random) splits of the pooled values."""
    pooled = np.concatenate([first, second])
    m, n = len(first), len(second)
    if math.comb(m + n, m) <= _EXACT:
        chosen = np.array(list(combinations(range(m + n), m)))
        sums = pooled[chosen].sum(axis=1)
        return sums / m - (pooled.sum() - sums) / n, True
    draws = np.empty(resamples)
    rows = max(1, _CHUNK // (m + n))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        dealt = generator.permuted(np.broadcast_to(pooled, (size, m + n)), axis=1)
        sums = dealt[:, :m].sum(axis=1)
        draws[start : start + size] = sums / m - (pooled.sum() - sums) / n
    return draws, False
