"""A share seen by a judge, put right by the truth on some of the same items (prediction-powered inference).

Where some of the judged items have a known answer, nothing need be assumed of how the judge errs: what it
gets wrong there is taken off everywhere (Angelopoulos et al. 2023; weighted as in PPI++, 2024). Compare
`judges.correct`, which needs no truth on these items but that the judge errs here as it did elsewhere.
"""

import math
from collections.abc import Sequence

import numpy as np

from hornbook.errors import HornbookError
from hornbook.evals.judges import Corrected, Rate
from hornbook.lab.statistics import Interval, student_t_quantile

_SPREAD = np.array([(1, 1), (0, 0), (1, 0), (0, 1)], np.float64)
"""One item of each kind more, for the interval alone: none of its parts is then without noise (the idea of
Agresti and Coull's interval for a share)."""


def prediction_powered(
    labelled: Sequence[tuple[bool, bool]], others: Sequence[bool], *, confidence: float = 0.95
) -> Corrected:
    """The true share over all items, from the judge on all and the truth on some.

    value = mean(truth) + w (mean(judge on the others) - mean(judge on the labelled)), where the weight w that
    makes the noise least is cov(truth, judge) / ((1 + n / N) var(judge)), cut to [0, 1]: a judge that knows
    nothing is left out, and the value is then the plain mean of the truth.

    Args:
        labelled: (truth, verdict) of n items drawn at random from all.
        others: verdicts on the N other items.

    Raises:
        HornbookError: fewer than two labelled items.
    """
    if len(labelled) < 2:
        raise HornbookError(
            f"Of the judged items {len(labelled)} have a known answer; to measure the judge on them takes at "
            "least two."
        )
    pairs, rest = np.array(labelled, np.float64), np.array(others, np.float64)
    value, _ = _estimate(pairs, rest)
    centre, error = _estimate(np.concatenate([pairs, _SPREAD]), np.concatenate([rest, _SPREAD[:, 1]]))
    half = student_t_quantile((1 + confidence) / 2, len(pairs) + 3) * error
    seen = Rate(hits=int(pairs[:, 1].sum() + rest.sum()), trials=len(pairs) + len(rest))
    return Corrected(
        apparent=seen, value=_unit(value), interval=Interval(_unit(centre - half), _unit(centre + half))
    )


def _estimate(pairs: np.ndarray, rest: np.ndarray) -> tuple[float, float]:
    """The estimate and its standard error."""
    truth, seen = pairs[:, 0], pairs[:, 1]
    n, many = len(pairs), len(rest)
    spread = float(np.concatenate([seen, rest]).var())
    if not many or spread == 0:
        return float(truth.mean()), float(truth.std(ddof=1)) / math.sqrt(n)
    weight = float(np.cov(truth, seen)[0, 1]) / ((1 + n / many) * spread)
    weight = min(1.0, max(0.0, weight))
    value = float(truth.mean() + weight * (rest.mean() - seen.mean()))
    variance = float((truth - weight * seen).var(ddof=1)) / n + weight**2 * float(rest.var()) / many
    return value, math.sqrt(variance)


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
