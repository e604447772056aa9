"""A policy whose chance of success is known exactly after every prefix: what searches for pivots are held
against.

Answers have a fixed length. Each token moves a hidden level by a stated amount; the answer is right if the
level ends at 0 or above. Most places are nearly certain, with rare slips that cost much; some are open
choices. The chance of success after any prefix follows by going backwards from the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hornbook.align.pivotal_search import Draw, Rollout

TOKENS = 4
STOP = TOKENS


@dataclass(frozen=True, kw_only=True)
class KnownPolicy:
    """probabilities (length, TOKENS) of each token at each place; shifts (length, TOKENS) of the level.

    values (length + 1, levels) is the chance of success at each place and level; level 0 is column `middle`.
    """

    probabilities: NDArray[np.float64]
    shifts: NDArray[np.int64]
    values: NDArray[np.float64]
    middle: int

    @classmethod
    def draw(cls, seed: int, *, length: int = 60, choices: float = 0.2, reach: int = 12) -> "KnownPolicy":
        """A policy at random: a share of open choices, the rest nearly certain."""
        rng = np.random.default_rng(seed)
        probabilities = np.empty((length, TOKENS))
        shifts = np.zeros((length, TOKENS), np.int64)
        for place in range(length):
            if rng.random() < choices:
                probabilities[place] = rng.dirichlet(np.full(TOKENS, 1.5))
                shifts[place] = rng.integers(-2, 3, TOKENS)
            else:
                main = int(rng.integers(TOKENS))
                slips = rng.dirichlet(np.ones(TOKENS - 1)) * rng.choice([0.002, 0.01, 0.05])
                probabilities[place] = np.insert(slips, main, 1 - slips.sum())
                shifts[place] = -rng.integers(0, 5, TOKENS)
                shifts[place, main] = 0
        levels = np.arange(-reach, reach + 1)
        values = np.zeros((length + 1, len(levels)))
        values[length] = levels >= 0
        for place in range(length - 1, -1, -1):
            for token in range(TOKENS):
                after = np.clip(levels + shifts[place, token], -reach, reach) + reach
                values[place] += probabilities[place, token] * values[place + 1, after]
        return cls(probabilities=probabilities, shifts=shifts, values=values, middle=reach)

    def chances(self, tokens: Sequence[int]) -> list[float]:
        """The chance of success after 0, 1, ... tokens (a stop token changes nothing)."""
        level, found = 0, [float(self.values[0, self.middle])]
        for place, token in enumerate(tokens):
            if token != STOP:
                level = int(np.clip(level + self.shifts[place, token], -self.middle, self.middle))
            found.append(float(self.values[min(place + 1, len(self.shifts)), level + self.middle]))
        return found

    def logprobs(self, tokens: Sequence[int]) -> list[float]:
        """Natural logarithms of each token's probability."""
        return [
            float(np.log(self.probabilities[place, token])) if token != STOP else 0.0
            for place, token in enumerate(tokens)
        ]


class KnownRoller:
    """Draws from several known policies, one a question."""

    def __init__(self, policies: Sequence[KnownPolicy], seed: int = 0) -> None:
        self.policies, self.seed = policies, seed

    def __call__(self, draws: Sequence[Draw]) -> list[list[Rollout]]:
        """Rollouts as a function of (seed, question, prefix, number) alone."""
        return [self._rolls(draw) for draw in draws]

    def _rolls(self, draw: Draw) -> list[Rollout]:
        policy = self.policies[draw.question]
        length = len(policy.shifts)
        start = len(draw.prefix)
        if start > length:
            right = policy.chances(draw.prefix)[-1] > 0.5
            return [Rollout(start, draw.prefix, right)] * draw.count
        rng = np.random.default_rng([self.seed, draw.question, draw.first, start, *draw.prefix])
        noise = rng.random((draw.count, length - start, 1))
        edges = policy.probabilities[start:].cumsum(1)[None]
        chosen = np.minimum((noise > edges).sum(-1), TOKENS - 1)
        level = 0
        for place, token in enumerate(draw.prefix):
            level = int(np.clip(level + policy.shifts[place, token], -policy.middle, policy.middle))
        levels = np.full(draw.count, level)
        for at in range(length - start):
            levels = np.clip(levels + policy.shifts[start + at, chosen[:, at]], -policy.middle, policy.middle)
        return [
            Rollout(start, (*draw.prefix, *(int(t) for t in row), STOP), bool(end >= 0))
            for row, end in zip(chosen, levels, strict=True)
        ]
