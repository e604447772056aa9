"""The stochastic-parrot calculation on corpora whose rates are known: what E_k = p_s^k p_t L says, and what
it does not (Skill-Mix, section 6)."""

import numpy as np
import numpy.typing as npt

from hornbook.errors import HornbookError

_AT_ONCE = 20_000


def occurrences(
    *,
    k: int,
    pieces: int,
    skills: int,
    topics: int,
    skill_rate: float,
    draws: int,
    togetherness: float = 0.0,
    seed: int = 0,
) -> npt.NDArray[np.int64]:
    """How often each of `draws` random combinations of k skills and a topic occurs in a corpus.

    Every piece has one of `topics`, and each of `skills` with probability `skill_rate`. With `togetherness`
    c > 0 a piece is artful or plain, one as often as the other, and its rate is (1 + c) or (1 - c) times as
    high: the average stays, but skills come together.

    Returns:
        (draws,) counts.

    Raises:
        HornbookError: rates outside [0, 1], or fewer than k skills.
    """
    if not 1 <= k <= skills or not (togetherness >= 0 and skill_rate * (1 + togetherness) <= 1):
        raise HornbookError(
            f"occurrences: k is {k} of {skills} skills at a rate of {skill_rate} with togetherness "
            f"{togetherness}; wanted: 1 to {skills} and rates in [0, 1]."
        )
    generator = np.random.default_rng(seed)
    sets = np.stack([generator.choice(skills, k, replace=False) for _ in range(draws)])
    topic = generator.integers(topics, size=draws)
    counts = np.zeros(draws, np.int64)
    for begin in range(0, pieces, _AT_ONCE):
        size = min(_AT_ONCE, pieces - begin)
        artful = generator.integers(2, size=size) * 2 - 1
        rate = skill_rate * (1 + togetherness * artful)
        shown = generator.random((size, skills)) < rate[:, None]
        about = generator.integers(topics, size=size)
        by_topic = [np.flatnonzero(about == t) for t in range(topics)]
        for n in range(draws):
            counts[n] += shown[np.ix_(by_topic[topic[n]], sets[n])].all(1).sum()
    return counts
