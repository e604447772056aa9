"""Pivotal tokens (phi-4 technical report, arXiv 2412.08905, section 4.3): the search, on any policy.

An answer's prefix has a chance of success p: that of the policy going on from it. A token is pivotal if it
moves p by `gap` or more. The paper subdivides an answer at the midpoint of its cumulative log-probability
wherever p moves that much from end to end. Four things make it cheap here without making it another search:

- Strata. Let a segment be followed with probability P, which the model tells. By total probability p before
  it is P p(behind) + (1 - P) p(elsewhere), so p moves by (1 - P) (p(behind) - p(elsewhere)). Of rollouts
  drawn
  before the segment those that follow it count for the one and those that leave it for the other: two
  independent samples from one set of draws, whose difference has to reach gap / (1 - P).
- A bound that needs no rollout: where 1 - P < gap that difference cannot be reached, so that likely tokens
  are never tested, nor segments that hold only such.
- Rollouts count for every prefix they pass, wherever they were drawn.
- Sequential tests. Draws double from look to look until the interval of the difference clears the threshold
or excludes it.

What an answer came to is known: the chance behind its last token is 0 or 1.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hornbook.errors import HornbookError

Verdict = Literal["moves", "stays", "open"]
_GRID = np.linspace(0.0, 1.0, 65)


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What counts as pivotal, and how sure the search is.

    gap:         least change of the chance of success.
    error:       of a token called pivotal: the chance at most that its change is below `gap`, over all looks.
    split_error: of the tests that only say where to look on: that a segment moves, that a token does not.
    first, most: rollouts drawn before the first look, and for one test in all; draws double in between. What
                 is open then is not called pivotal.
    midpoint:    where a segment is cut: "probability" (the paper's) or "length".
    """

    gap: float = 0.2
    error: float = 0.05
    split_error: float = 0.5
    first: int = 8
    most: int = 64
    midpoint: Literal["probability", "length"] = "probability"

    def __post_init__(self) -> None:
        for name in ("gap", "error", "split_error"):
            if not 0 < getattr(self, name) < 1:
                raise HornbookError(
                    f"SearchSettings.{name} is {getattr(self, name)}; accepted is a number between 0 and 1."
                )
        if not 1 <= self.first <= self.most:
            raise HornbookError(
                f"SearchSettings.first is {self.first} and most {self.most}; accepted is 1 <= first <= most."
            )
        if self.midpoint not in ("probability", "length"):
            raise HornbookError(
                f"SearchSettings.midpoint is {self.midpoint!r}; accepted: probability, length."
            )

    @property
    def looks(self) -> int:
        """How often a test is looked at, at most: the error is shared among the looks."""
        return 1 + math.ceil(math.log2(self.most / self.first))


@dataclass(frozen=True, slots=True)
class Tally:
    """Successes among draws; `known` where the chance is not a matter of draws."""

    right: int = 0
    total: int = 0
    known: float | None = None

    @property
    def chance(self) -> float:
        """The share, or what is known."""
        return self.known if self.known is not None else self.right / max(1, self.total)


@cache
def _deviation(error: float) -> float:
    """Standard deviations that a one-sided test of this error needs."""
    return NormalDist().inv_cdf(1 - error)


def certainty(a: Tally, b: Tally, gap: float) -> float:
    """How surely the chance of `b` is `gap` or more from that of `a`, in standard deviations; negative: how
    surely it is not.

    The signed root of the likelihood ratio between the best pair of chances and the best one at a difference
    of `gap`, with a success and a failure added to each sample (Agresti and Caffo 2000), which keeps small
    samples from boasting.
    """
    a, b = _padded(a), _padded(b)
    moved = b.chance - a.chance
    best = _at(a, a.chance) + _at(b, b.chance)
    if abs(moved) >= gap:
        return _root(best - _highest(a, b, math.copysign(gap, moved)))
    return -_root(best - max(_highest(a, b, gap), _highest(a, b, -gap)))


def _padded(tally: Tally) -> Tally:
    return tally if tally.known is not None else Tally(tally.right + 1, tally.total + 2)


def _root(difference: float) -> float:
    return math.sqrt(2 * max(0.0, difference)) if math.isfinite(difference) else math.inf


def _at(tally: Tally, p: float) -> float:
    return 0.0 if tally.known is not None else float(_likelihood(tally, np.array([p]))[0])


def _likelihood(tally: Tally, p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probability of the draws at each p; -inf where they cannot be."""
    with np.errstate(divide="ignore"):
        return np.asarray(tally.right * np.log(p) + (tally.total - tally.right) * np.log1p(-p))


def _highest(a: Tally, b: Tally, shift: float) -> float:
    """Highest log-likelihood over pairs with chance(b) = chance(a) + shift; -inf where there are none.

    Concave along the line, so a grid and one refinement of it find it.
    """
    if a.known is not None and b.known is not None:
        return 0.0 if math.isclose(b.known - a.known, shift) else -math.inf
    if a.known is not None or b.known is not None:
        free, value = (b, a.known + shift) if a.known is not None else (a, (b.known or 0.0) - shift)
        return float(_likelihood(free, np.array([value]))[0]) if 0 < value < 1 else -math.inf
    low, high = max(0.0, -shift), min(1.0, 1.0 - shift)
    if low >= high:
        return -math.inf
    best = -math.inf
    for _ in range(2):
        p = low + (high - low) * _GRID
        values = _likelihood(a, p) + _likelihood(b, np.clip(p + shift, 0.0, 1.0))
        values[np.isnan(values)] = -math.inf
        at = int(values.argmax())
        best = max(best, float(values[at]))
        low, high = float(p[max(at - 1, 0)]), float(p[min(at + 1, len(p) - 1)])
    return best


@dataclass(frozen=True, kw_only=True, slots=True)
class Pivot:
    """A pivotal token: its place in the answer, its id, the chances before and behind it, and how many
    rollouts passed it and left the answer there."""

    position: int
    token: int
    before: float
    after: float
    draws_after: int
    draws_elsewhere: int

    @property
    def change(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A stretch of the answer that was not cut further. change: of the chance over it; None where the bound
    made testing needless."""

    start: int
    end: int
    change: float | None
    verdict: Verdict


@dataclass(kw_only=True)
class Walk:
    """The search through one answer.

    tokens: the answer with its stop token. logprobs: natural logarithm of each under the distribution that
    rollouts are drawn from. right: what the answer came to; None where it was cut off, and its end is as open
    as any prefix.
    """

    tokens: tuple[int, ...]
    logprobs: Sequence[float]
    right: bool | None
    settings: SearchSettings = field(default_factory=SearchSettings)
    pivots: list[Pivot] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.tokens)
        if count == 0 or len(self.logprobs) != count:
            raise HornbookError(
                f"An answer of {count} tokens with {len(self.logprobs)} log-probabilities cannot be searched."
            )
        self._rollouts: list[tuple[int, int, bool]] = []  # drawn at, the same as the answer up to, right
        self._sums = np.concatenate([[0.0], np.cumsum(np.asarray(self.logprobs, np.float64))])
        certain = math.log1p(-self.settings.gap)
        self._candidates = [i for i, logprob in enumerate(self.logprobs) if logprob <= certain]

    def add(self, start: int, rollout: Sequence[int], right: bool) -> None:
        """Counts a rollout drawn at a prefix of `start` tokens; `rollout` is the whole answer it came to."""
        same = 0
        for own, other in zip(self.tokens, rollout):
            if own != other:
                break
            same += 1
        if same >= start:  # else it was drawn on another way
            self._rollouts.append((start, same, right))

    def behind(self, place: int) -> Tally:
        """Rollouts that passed the first `place` tokens, wherever they were drawn before."""
        if place == len(self.tokens) and self.right is not None:
            return Tally(known=float(self.right))
        found = [right for start, same, right in self._rollouts if start <= place <= same]
        return Tally(sum(found), len(found))

    def elsewhere(self, start: int, end: int) -> Tally:
        """Rollouts that passed the first `start` tokens and left the answer before the `end`-th."""
        found = [right for drawn, same, right in self._rollouts if drawn <= start <= same < end]
        return Tally(sum(found), len(found))

    def followed(self, start: int, end: int) -> float:
        """The probability of the tokens from `start` to `end`, given those before."""
        return math.exp(min(0.0, float(self._sums[end] - self._sums[start])))

    def change(self, start: int, end: int) -> float:
        """Estimate of what the tokens from `start` to `end` do to the chance of success."""
        left = 1 - self.followed(start, end)
        return left * (self.behind(end).chance - self.elsewhere(start, end).chance)

    def search(self) -> Generator[list[tuple[int, int]], None, None]:
        """Yields (place, rollouts wanted there); go on when they are `add`ed."""
        stack = [(0, len(self.tokens))]
        while stack:
            start, end = stack.pop()
            inside = [i for i in self._candidates if start <= i < end]
            if not inside:
                self._skip(start, end)
                continue
            first, last = inside[0], inside[-1] + 1
            self._skip(start, first)
            verdict = yield from self._test(first, last)
            change = self.change(first, last)
            single = last - first == 1
            if not single and (
                verdict == "moves" or (verdict == "open" and abs(change) >= self.settings.gap)
            ):
                cut = self._cut(first, last)
                stack += [(cut, last), (first, cut)]
            else:
                self.segments.append(Segment(start=first, end=last, change=change, verdict=verdict))
                if single and verdict == "moves":
                    self._emit(first, change)
            self._skip(last, end)
        self.pivots.sort(key=lambda pivot: pivot.position)
        self.segments.sort(key=lambda segment: segment.start)

    def _skip(self, start: int, end: int) -> None:
        if end > start:
            self.segments.append(Segment(start=start, end=end, change=None, verdict="stays"))

    def _test(self, start: int, end: int) -> Generator[list[tuple[int, int]], None, Verdict]:
        """Draws until the difference of the strata is shown to reach the threshold, or not to."""
        settings = self.settings
        followed = self.followed(start, end)
        needed = settings.gap / (1 - followed)
        clears = settings.error if end - start == 1 else settings.split_error
        drawn = 0
        while True:
            a, b = self.elsewhere(start, end), self.behind(end)
            if min(a.total, b.total if b.known is None else a.total) >= 2:
                sure = certainty(a, b, needed)
                if sure >= _deviation(clears / settings.looks):
                    return "moves"
                if -sure >= _deviation(settings.split_error / settings.looks):
                    return "stays"
            if drawn >= settings.most:
                return "open"
            count = min(max(settings.first, drawn), settings.most - drawn)
            drawn += count
            yield [(self._where(start, end, a, b, followed), count)]

    def _where(self, start: int, end: int, a: Tally, b: Tally, followed: float) -> int:
        """The place whose next draw takes most from the variance of the difference."""
        if b.known is not None:
            return start
        from_a, from_b = _gain(a), _gain(b)
        return start if (1 - followed) * from_a + followed * from_b >= from_b else end

    def _cut(self, start: int, end: int) -> int:
        """Where the segment is cut: strictly inside."""
        if self.settings.midpoint == "length":
            return (start + end) // 2
        sums = self._sums[start + 1 : end] - self._sums[start]
        # The cut that leaves the left part closest to half of the total.
        return start + 1 + int(np.abs(sums - (self._sums[end] - self._sums[start]) / 2).argmin())

    def _emit(self, place: int, change: float) -> None:
        after, other = self.behind(place + 1), self.elsewhere(place, place + 1)
        self.pivots.append(
            Pivot(
                position=place,
                token=self.tokens[place],
                before=after.chance - change,
                after=after.chance,
                draws_after=after.total,
                draws_elsewhere=other.total,
            )
        )


def _gain(tally: Tally) -> float:
    """What one more draw takes off the variance of a share, with a success and a failure added."""
    p = (tally.right + 1) / (tally.total + 2)
    return p * (1 - p) / ((tally.total + 1) * (tally.total + 2))
