"""Depth-muP (Yang, Yu, Zhu, Hayou 2023, Tensor Programs VI): what to check and what to measure.

`coordinate_check` is the acceptance test of a parametrization: no coordinate of the network may move faster
or slower in a bigger network. `transfer` is its promise: the learning rate tuned on a small network is the
right one for a big network. `diversity_exponent` measures how different neighbouring layers are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hornbook.theory.residual import (
    ReplicaOptimizer,
    ResidualReplicas,
    ResidualSettings,
    check_data,
    replica_losses,
    train_replicas,
)


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """What `coordinate_check` saw at one size; all means over seeds, batch and coordinates.

    size:     the width or depth.
    initial:  mean |x^L| before training.
    change:   mean |x^L_t - x^L_0| after t = 1, 2, ... steps.
    logits:   mean |f_t - f_0| after t = 1, 2, ... steps.
    weights:  mean over layers of ||W_t - W_0|| / ||W_0|| (Frobenius) after t = 1, 2, ... steps.
    """

    size: int
    initial: float
    change: tuple[float, ...]
    logits: tuple[float, ...]
    weights: tuple[float, ...]


def coordinate_check(
    settings: ResidualSettings,
    x: Tensor,
    y: Tensor,
    *,
    over: Literal["width", "depth"],
    sizes: Sequence[int],
    learning_rate: float,
    steps: int = 4,
    batch: int = 64,
    seeds: Sequence[int] = (0, 1),
) -> list[Coordinates]:
    """Trains a few steps at every size, on the same batch, and reports how far coordinates moved.

    Under a right parametrization `initial`, `change` and `logits` do not depend on the size (log-log slope
    below 0.1 in absolute value, section 10.1 of TP VI and `slope`), and `weights` falls as k^-gamma.
    """
    check_data(settings, x, y)
    found = []
    for size in sizes:
        sized = replace(settings, width=size) if over == "width" else replace(settings, depth=size)
        network = ResidualReplicas(sized, seeds)
        optimizer = ReplicaOptimizer(network, torch.full((len(seeds),), learning_rate))
        start = network.hidden.detach().clone()
        xi, targets = x[:batch], y[:batch].expand(len(seeds), -1)
        first: list[Tensor] = []
        with torch.no_grad():
            f0 = network(xi, first)
        x0 = first[-1]
        change, logits, weights = [], [], []
        for _ in range(steps):
            torch.autograd.backward(replica_losses(network(xi), targets).sum())
            optimizer.step()
            with torch.no_grad():
                trace: list[Tensor] = []
                f = network(xi, trace)
                change.append(float((trace[-1] - x0).abs().mean()))
                logits.append(float((f - f0).abs().mean()))
                moved = (network.hidden - start).flatten(2).norm(dim=2) / start.flatten(2).norm(dim=2)
                weights.append(float(moved.mean()))
        found.append(
            Coordinates(
                size=size,
                initial=float(x0.abs().mean()),
                change=tuple(change),
                logits=tuple(logits),
                weights=tuple(weights),
            )
        )
    return found


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent b of the least-squares fit values = c sizes^b; inf where a value is not finite."""
    if len(sizes) != len(values) or len(sizes) < 2:
        raise ValueError("a slope needs at least two sizes and one value for each")
    if not all(math.isfinite(value) for value in values):
        return math.inf
    horizontal = torch.tensor(sizes, dtype=torch.float64).log()
    vertical = torch.tensor(values, dtype=torch.float64).log()
    horizontal = horizontal - horizontal.mean()
    return float((horizontal * vertical).sum() / horizontal.square().sum())


@dataclass(frozen=True, kw_only=True)
class DepthCurve:
    """Training loss against learning rate at one depth.

    depth; learning_rates (ascending); log_loss: (seeds, rates) natural log of the mean loss over the last
    `tail` share of the steps, inf where the replica diverged or ended above its first loss.
    """

    depth: int
    learning_rates: tuple[float, ...]
    log_loss: tuple[tuple[float, ...], ...]

    def mean(self) -> list[float]:
        """Log loss of each rate, averaged over seeds."""
        return torch.tensor(self.log_loss, dtype=torch.float64).mean(0).tolist()


def depth_sweep(
    settings: ResidualSettings,
    x: Tensor,
    y: Tensor,
    *,
    depths: Sequence[int],
    learning_rates: Sequence[float],
    seeds: Sequence[int] = (0, 1),
    steps: int = 200,
    batch: int = 64,
    noise: float = 0.0,
    tail: float = 0.25,
) -> list[DepthCurve]:
    """One `DepthCurve` per depth: the experiment of TP VI, figure 10."""
    if list(learning_rates) != sorted(set(learning_rates)):
        raise ValueError("learning_rates must be ascending and distinct")
    curves = []
    for depth in depths:
        losses = train_replicas(
            replace(settings, depth=depth),
            x,
            y,
            learning_rates=learning_rates,
            seeds=seeds,
            steps=steps,
            batch=batch,
            noise=noise,
        )
        last = losses[-max(1, round(tail * steps)) :].double().mean(0).log()
        last[~torch.isfinite(last) | (last > losses[0].log())] = math.inf
        curves.append(
            DepthCurve(
                depth=depth,
                learning_rates=tuple(learning_rates),
                log_loss=tuple(tuple(row) for row in last.tolist()),
            )
        )
    return curves


def best_rate(learning_rates: Sequence[float], log_loss: Sequence[float]) -> float:
    """log2 of the best learning rate: the vertex of the parabola through the best point and its neighbours.

    At an end of the range, or where a neighbour diverged, the best grid point itself.
    """
    best = min(range(len(log_loss)), key=lambda i: log_loss[i])
    if not math.isfinite(log_loss[best]):
        return math.nan
    at = [math.log2(rate) for rate in learning_rates]
    if best in (0, len(at) - 1):
        return at[best]
    left, middle, right = (log_loss[best + d] for d in (-1, 0, 1))
    if not (math.isfinite(left) and math.isfinite(right)):
        return at[best]
    before, after = at[best] - at[best - 1], at[best + 1] - at[best]
    rise, fall = (right - middle) / after, (middle - left) / before
    bend = (rise - fall) / (before + after)
    if bend <= 0:
        return at[best]
    # Newton's step from the slope at the best point, which is the vertex of the interpolating parabola.
    gradient = (rise * before + fall * after) / (before + after)
    return at[best] - gradient / (2 * bend)


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How a learning rate tuned at the shallowest depth serves the deepest, one number per seed.

    shift:   log2 of the deepest network's best rate over the shallowest one's (0 is perfect transfer).
    penalty: log loss of the deepest network at the transferred rate minus that at its own best rate; inf if
             it diverges. Both rates are those of the curves averaged over seeds: a single seed's best rate is
             partly luck, and would cost the transferred rate something under any parametrization.
    gain:    log loss of the shallowest minus the deepest, both at the transferred rate.
    """

    shift: tuple[float, ...]
    penalty: tuple[float, ...]
    gain: tuple[float, ...]


def transfer(curves: Sequence[DepthCurve]) -> Transfer:
    """`Transfer` between the first and last curve (ascending depths, same rates and seeds)."""
    small, big = curves[0], curves[-1]
    tuned, own = (min(range(len(mean)), key=mean.__getitem__) for mean in (small.mean(), big.mean()))
    shift, penalty, gain = [], [], []
    for shallow, deep in zip(small.log_loss, big.log_loss, strict=True):
        shift.append(best_rate(big.learning_rates, deep) - best_rate(small.learning_rates, shallow))
        penalty.append(deep[tuned] - deep[own] if math.isfinite(deep[own]) else math.inf)
        gain.append(shallow[tuned] - deep[tuned])
    return Transfer(shift=tuple(shift), penalty=tuple(penalty), gain=tuple(gain))


def diversity_curve(trace: Sequence[Tensor], gaps: Sequence[int]) -> list[float]:
    """d(gap) = mean over layers, batch and replicas of ||x^{l+gap} - x^l|| / sqrt(n) (TP VI, section 6).

    trace: x^0 ... x^L, each (..., n), as `ResidualReplicas` fills it.
    """
    states = torch.stack(list(trace))
    if not all(0 < gap < len(states) for gap in gaps):
        raise ValueError(f"gaps must lie between 1 and {len(states) - 1}, not {list(gaps)}")
    width = states.shape[-1]
    return [float((states[gap:] - states[:-gap]).norm(dim=-1).mean() / width**0.5) for gap in gaps]


def diversity_exponent(trace: Sequence[Tensor], gaps: Sequence[int]) -> float:
    """kappa of d(gap) ~ gap^(1 - kappa): 1/2 for independent layers, 0 for a smooth flow over depth."""
    return 1 - slope([float(gap) for gap in gaps], diversity_curve(trace, gaps))
