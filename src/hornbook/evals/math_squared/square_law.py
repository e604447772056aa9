"""Is Y = X^2? The relation between accuracy on single skills and on pairs of them (2407.21009, section 5).

If a question needs two independent skills, Y is the mean of s_i s_j, which is X^2 plus their covariance.
Fitted over models by least squares in Y, so that a model with no right answer at all counts as well (on a
logarithmic scale it could not); intervals are from models, or groups of them, drawn anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hornbook.errors import HornbookError
from hornbook.lab.statistics import Interval

_EXPONENTS = np.arange(0.2, 6.001, 0.005)


@dataclass(frozen=True, kw_only=True)
class SquareLaw:
    """The fits.

    exponent: b of Y = X^b. factor: a of Y = a X^2, with the share of Y's variance that it explains.
    deviation: mean |Y - X^2|; below, for comparison, the same for Y = X and Y = X^3.
    """

    models: int
    exponent: float
    exponent_interval: Interval
    factor: float
    factor_interval: Interval
    explained: float
    deviation: float
    deviation_interval: Interval
    deviation_from_x: float
    deviation_from_cube: float


def fit_square_law(
    x: Sequence[float],
    y: Sequence[float],
    *,
    groups: Sequence[object] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> SquareLaw:
    """Fits both relations to (x, y), one pair a model.

    Args:
        x, y: accuracies in [0, 1].
        groups: what is drawn anew together (checkpoints of one model are not independent); None: each alone.

    Raises:
        HornbookError: fewer than three models or groups, accuracies out of range, or none between 0 and 1.
    """
    a, b = np.asarray(x, float), np.asarray(y, float)
    names = np.unique(
        np.arange(len(a)) if groups is None else np.array([str(g) for g in groups]), return_inverse=True
    )[1]
    count = int(names.max(initial=-1)) + 1
    if len(a) != len(b) or len(names) != len(a) or count < 3:
        raise HornbookError(
            f"The square law takes pairs of at least three models; there are {len(a)} and {len(b)} "
            f"accuracies of {count} models."
        )
    if not ((a >= 0) & (a <= 1) & (b >= 0) & (b <= 1)).all() or not ((a > 0) & (a < 1)).any():
        raise HornbookError("The square law takes accuracies in [0, 1], some of them neither 0 nor 1.")
    member = np.zeros((count, len(a)))
    member[names, np.arange(len(a))] = 1
    powers = a[:, None] ** _EXPONENTS
    errors = member @ (b[:, None] - powers) ** 2  # (groups, exponents)
    top, bottom = member @ (b * a**2), member @ a**4
    away = np.stack([member @ np.abs(b - a**2), member.sum(1)])
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)
    tails = [50 * (1 - confidence), 100 - 50 * (1 - confidence)]

    def interval(values: np.ndarray) -> Interval:
        low, high = np.percentile(values[np.isfinite(values)], tails)
        return Interval(float(low), float(high))

    with np.errstate(divide="ignore", invalid="ignore"):
        factors = (draws @ top) / (draws @ bottom)
    rest = float(((b - top.sum() / bottom.sum() * a**2) ** 2).sum())
    spread = float(((b - b.mean()) ** 2).sum())
    return SquareLaw(
        models=count,
        exponent=float(_EXPONENTS[errors.sum(0).argmin()]),
        exponent_interval=interval(_EXPONENTS[(draws @ errors).argmin(1)]),
        factor=float(top.sum() / bottom.sum()),
        factor_interval=interval(factors),
        explained=1 - rest / spread if spread else 0.0,
        deviation=float(np.abs(b - a**2).mean()),
        deviation_interval=interval((draws @ away[0]) / (draws @ away[1])),
        deviation_from_x=float(np.abs(b - a).mean()),
        deviation_from_cube=float(np.abs(b - a**3).mean()),
    )


PUBLISHED = (
    ("o1-preview", 76.19, 85.5),
    ("GPT-4o", 60.29, 77.54),
    ("Claude 3.5 Sonnet", 42.38, 69.89),
    ("GPT-4 Turbo", 49.52, 71.95),
    ("Gemini 1.5 Pro", 64.76, 81.93),
    ("Claude 3 Opus", 35.24, 61.20),
    ("Llama-3.1-70B", 39.52, 62.10),
    ("Llama-3-70B", 16.19, 41.62),
    ("MetaMath-70B", 2.39, 22.86),
    ("MAmmoTH-70B", 2.87, 15.89),
    ("R1-distill Qwen-32B", 71.08, 81.16),
    ("Mixtral-8x7B", 7.62, 27.18),
    ("R1-distill Qwen-14B", 69.23, 82.64),
    ("MetaMath-13B", 0.48, 17.98),
    ("MAmmoTH-13B", 0.48, 8.39),
    ("R1-distill Llama-8B", 63.41, 72.73),
    ("Llama-3.1-8B", 19.05, 45.79),
    ("Llama-3-8B", 5.24, 22.67),
    ("R1-distill Qwen-7B", 56.80, 75.56),
    ("DeepSeekMath-7B", 14.76, 40.95),
    ("Gemma-1.1-7B", 3.33, 19.29),
    ("MetaMath-7B", 0.48, 15.85),
    ("MAmmoTH-7B", 0.48, 5.89),
    ("Phi-3-mini", 17.22, 39.94),
    ("Gemma-1.1-2B", 0.96, 3.79),
)
"""The paper's table: model, percent on MATH^2 (Y), percent on MATH (X)."""
