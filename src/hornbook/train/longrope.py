"""LongRoPE's search space and its moves (Ding et al. 2024, section 3; details of the released search).

A candidate holds one factor for each rotated pair of dimensions, on a grid of 0.01 from 1 to 1.25 times the
extension and never falling from one pair to the next, and the number of first positions left unscaled.
Factors are kept as whole grid steps, so that equal candidates are equal and no constraint depends on
rounding.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig

GRID = 100
"""Grid steps per unit: factors are 1 + step / 100."""

START_TOKENS = (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 64, 128, 256)
"""The thresholds of the paper's search space."""

Random = np.random.Generator


@dataclass(frozen=True)
class Candidate:
    """One point of the space: grid steps above 1 per pair, and how many first positions stay unscaled."""

    steps: tuple[int, ...]
    start_tokens: int = 0

    @property
    def factors(self) -> tuple[float, ...]:
        """What each pair's wavelength is multiplied by."""
        return tuple(1.0 + step / GRID for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class Space:
    """pairs: rotated pairs of dimensions. scale: target length over original length. start_tokens: the
    thresholds that may be chosen."""

    pairs: int
    scale: float
    start_tokens: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"a search space needs at least one pair, not {self.pairs}")
        if not self.scale > 1:
            raise HornbookError(
                f"the scale is {self.scale:g}; an extension needs a target longer than the original context."
            )
        if not self.start_tokens or min(self.start_tokens) < 0:
            raise HornbookError(
                f"start_tokens is {self.start_tokens}; it must hold at least one count, none below 0."
            )

    @property
    def largest(self) -> int:
        """The last grid step: factor 1.25 * scale, rounded down to the grid."""
        return math.floor((1.25 * self.scale - 1.0) * GRID + 1e-9)

    def holds(self, candidate: Candidate) -> bool:
        """Whether every constraint is met: length, range, order, threshold."""
        steps = candidate.steps
        return (
            len(steps) == self.pairs
            and steps[0] >= 0
            and steps[-1] <= self.largest
            and all(low <= high for low, high in itertools.pairwise(steps))
            and candidate.start_tokens in self.start_tokens
        )

    def snap(self, factors: Iterable[float]) -> Candidate:
        """The candidate nearest to `factors`, without unscaled positions where that is allowed."""
        steps = [min(max(round((factor - 1.0) * GRID), 0), self.largest) for factor in factors]
        rising = np.maximum.accumulate(np.array(steps, dtype=np.int64))
        return Candidate(tuple(int(step) for step in rising), min(self.start_tokens))


def interpolation(space: Space) -> Candidate:
    """Position interpolation (Chen et al. 2023): every wavelength times the scale."""
    return space.snap([space.scale] * space.pairs)


def ntk(space: Space) -> Candidate:
    """ "NTK-aware" scaling: the rotary base times s^(d / (d - 2)), which leaves the fastest pair as it is and
    multiplies the slowest wavelength by the scale."""
    last = max(1, space.pairs - 1)
    return space.snap(space.scale ** (pair / last) for pair in range(space.pairs))


def yarn(
    space: Space, config: ModelConfig, original: int, *, fast: float = 32.0, slow: float = 1.0
) -> Candidate:
    """The ramp of YaRN (Peng et al. 2023, section 3.2) as LongRoPE's search starts from it.

    Pairs that turn more than `fast` times within `original` positions keep factor 1, those that turn less
    than `slow` times get the scale, and the factor rises linearly with the pair's index between.
    """

    def pair_of(turns: float) -> float:
        """Index of the pair that turns `turns` times over the original context."""
        base = math.log(config.rope_theta)
        return config.rotary_dim * math.log(original / (turns * 2 * math.pi)) / (2 * base)

    low = max(0, math.floor(pair_of(fast)))
    high = min(space.pairs - 1, math.ceil(pair_of(slow)))
    width = max(high - low, 1e-3)
    ramp = [min(max((pair - low) / width, 0.0), 1.0) for pair in range(space.pairs)]
    return space.snap(1.0 + (space.scale - 1.0) * share for share in ramp)


def seeds(space: Space, config: ModelConfig, original: int) -> dict[str, Candidate]:
    """What the first population is bred from, by name."""
    return {
        "interpolation": interpolation(space),
        "ntk": ntk(space),
        "yarn": yarn(space, config, original),
    }


def mutate(space: Space, parent: Candidate, probability: float, random: Random) -> Candidate:
    """Redraws each factor with `probability`, uniformly on the grid between its neighbours, so that the order
    holds; and the threshold with the same probability."""
    steps = list(parent.steps)
    for pair in range(space.pairs):
        if random.random() < probability:
            low = steps[pair - 1] if pair else 0
            high = steps[pair + 1] if pair + 1 < space.pairs else space.largest
            steps[pair] = int(random.integers(low, high + 1))
    start = parent.start_tokens
    if len(space.start_tokens) > 1 and random.random() < probability:
        start = int(random.choice(space.start_tokens))
    return Candidate(tuple(steps), start)


def cross(first: Candidate, second: Candidate, probability: float, random: Random) -> Candidate:
    """`first` with each value taken from `second` with `probability`. The order may be broken."""
    taken = random.random(len(first.steps) + 1) < probability
    pairs = zip(first.steps, second.steps, taken, strict=False)
    return Candidate(
        tuple(other if take else own for own, other, take in pairs),
        second.start_tokens if taken[-1] else first.start_tokens,
    )


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The evolution (section 3.3): each round adds `mutations` and `crossovers` of the `parents` best.

    mutation_probability, crossover_probability: per factor. retries: attempts at a child that is new and in
    order before its place stays empty.
    """

    population: int = 64
    parents: int = 32
    mutations: int = 16
    crossovers: int = 16
    mutation_probability: float = 0.3
    crossover_probability: float = 0.15
    iterations: int = 40
    retries: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("population", 1),
            ("parents", 1),
            ("mutations", 0),
            ("crossovers", 0),
            ("iterations", 0),
            ("retries", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < least:
                raise HornbookError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        for name in ("mutation_probability", "crossover_probability"):
            if not 0 < getattr(self, name) <= 1:
                raise HornbookError(f"{name} is {getattr(self, name)}; it must be above 0, at most 1.")
        if self.parents > self.population:
            raise HornbookError(
                f"parents is {self.parents}; it must be at most the population of {self.population}."
            )

    @property
    def evaluations(self) -> int:
        """The most candidates that a whole search looks at."""
        return self.population + self.iterations * (self.mutations + self.crossovers)


Fitness = Callable[[Candidate], float]
Ranked = list[tuple[float, Candidate]]


def evolve(
    space: Space,
    first: Iterable[Candidate],
    settings: SearchSettings,
    fitness: Fitness,
    after_round: Callable[[int, Ranked], None] | None = None,
) -> Ranked:
    """Every candidate looked at, with its fitness (the lower the better), best first.

    A pure function of its arguments: round r draws from a generator seeded with (seed, r), so a search that
    is begun again with the same answers of `fitness` takes the same way. No candidate is looked at twice.
    """
    seen: dict[Candidate, float] = {}

    def look(candidate: Candidate) -> None:
        if candidate not in seen:
            seen[candidate] = fitness(candidate)

    def ranked() -> Ranked:
        # Equal fitness: the candidate found first stays in front.
        return sorted(((value, candidate) for candidate, value in seen.items()), key=lambda pair: pair[0])

    def child(make: Callable[[], Candidate]) -> None:
        for _ in range(settings.retries):
            candidate = make()
            if candidate not in seen and space.holds(candidate):
                look(candidate)
                return

    def breed(number: int, parents: list[Candidate], mutants: int, crossed: int) -> None:
        random = np.random.default_rng([settings.seed, number])

        def pick() -> Candidate:
            return parents[int(random.integers(len(parents)))]

        for _ in range(mutants):
            child(lambda: mutate(space, pick(), settings.mutation_probability, random))
        for _ in range(crossed):
            child(lambda: cross(pick(), pick(), settings.crossover_probability, random))
        if after_round is not None:
            after_round(number, ranked())

    founders = list(dict.fromkeys(first))
    for founder in founders:
        look(founder)
    breed(0, founders, settings.population - len(founders), 0)
    for number in range(1, settings.iterations + 1):
        best = [candidate for _, candidate in ranked()[: settings.parents]]
        breed(number, best, settings.mutations, settings.crossovers)
    return ranked()
