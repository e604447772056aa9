"""The numbers of Skill-Mix: full marks, all skills, skill fraction, and the stochastic-parrot bound."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hornbook.errors import HornbookError
from hornbook.evals.judges import Calibration, Corrected, Rate, correct
from hornbook.evals.skill_mix.protocol import Grade
from hornbook.lab.statistics import Interval, bootstrap_interval, wilson_interval

FLOOR = 0.05
"""Below this the paper goes to no larger k."""


def marks(points: Sequence[int]) -> tuple[float, float, float]:
    """(full marks, all skills, skill fraction) of k + 3 points.

    Full marks: every point. All skills: every skill and at least two of topic, sense and length. Skill
    fraction: the share of skills, if the other three are all there.
    """
    skills, others = points[:-3], points[-3:]
    shown, rest = sum(skills), sum(others)
    return (
        float(shown + rest == len(points)),
        float(shown == len(skills) and rest >= 2),
        shown / len(skills) if rest == 3 else 0.0,
    )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over combinations: `error` is the sample sd over the root of their number."""

    value: float
    error: float
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class SkillMixScore:
    """One model at one k.

    combinations:  those with a scored piece, which are what the means are over.
    unscored:      combinations without one; unscored_pieces: pieces without points.
    unread:        gradings that could not be read, of `gradings`.
    named:         skill points lost because the text names the skill.
    pieces_full:   pieces with full marks, of those scored: no maximum is taken, so a judge's error can be
                   taken out of it.
    """

    k: int
    combinations: int
    unscored: int
    unscored_pieces: int
    unread: int
    gradings: int
    named: int
    full_marks: Estimate
    all_skills: Estimate
    skill_fraction: Estimate
    pieces_full: Rate


def score(grades: Sequence[Grade], *, over: Literal["max", "mean"] = "max") -> SkillMixScore:
    """The metrics of one k: for each combination the best of its generations in each metric by itself (the
    paper's leaderboard) or their mean, then the mean over combinations.

    Raises:
        HornbookError: grades of several k, or none that is scored.
    """
    ks = {grade.piece.task.k for grade in grades}
    if len(ks) != 1:
        raise HornbookError(f"A Skill-Mix score is of one k; the grades have {sorted(ks) or 'none'}.")
    scored = [grade for grade in grades if grade.points is not None]
    if not scored:
        raise HornbookError(
            f"None of the {len(grades)} Skill-Mix pieces could be scored: calls failed or no grading table "
            "could be read. Use another judge, or look at its answers."
        )
    groups: dict[str, list[tuple[float, float, float]]] = {}
    for grade in scored:
        groups.setdefault(grade.piece.task.id, []).append(marks(grade.points or ()))
    columns: list[list[float]] = [[], [], []]
    for rows in groups.values():
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column.append(max(values) if over == "max" else sum(values) / len(values))
    everything = {grade.piece.task.id for grade in grades}
    return SkillMixScore(
        k=ks.pop(),
        combinations=len(groups),
        unscored=len(everything) - len(groups),
        unscored_pieces=len(grades) - len(scored),
        unread=sum(grade.unread for grade in grades),
        gradings=sum(len(grade.rounds) for grade in grades),
        named=sum(len(grade.named) for grade in grades),
        full_marks=_estimate(columns[0]),
        all_skills=_estimate(columns[1]),
        skill_fraction=_estimate(columns[2]),
        pieces_full=Rate(hits=sum(int(marks(g.points or ())[0]) for g in scored), trials=len(scored)),
    )


def _estimate(values: Sequence[float]) -> Estimate:
    count = len(values)
    value = math.fsum(values) / count
    spread = math.sqrt(math.fsum((v - value) ** 2 for v in values) / (count - 1)) if count > 1 else 0.0
    yes_or_no = all(v in (0.0, 1.0) for v in values)
    interval = wilson_interval(int(sum(values)), count) if yes_or_no else bootstrap_interval(values)
    return Estimate(value=value, error=spread / math.sqrt(count), interval=interval)


def judge_errors(judged: Sequence[Grade], truth: Sequence[Grade]) -> dict[str, Calibration]:
    """A judge against exact grades of the same pieces, for each kind of point and for full marks.

    Keys: "skills", "topic", "sense" and "full marks". The length is counted by a program in both.

    Raises:
        HornbookError: the two are not about the same pieces in the same order.
    """
    if [g.piece for g in judged] != [g.piece for g in truth]:
        raise HornbookError("judge_errors: the grades and the truth must be of the same pieces, in order.")
    pairs: dict[str, list[tuple[bool, bool | None]]] = {
        name: [] for name in ("skills", "topic", "sense", "full marks")
    }
    for said, true in zip(judged, truth, strict=True):
        if true.points is None or said.points is None:
            continue
        k = said.piece.task.k
        for i, (right, given) in enumerate(zip(true.points[:-1], said.points[:-1], strict=True)):
            name = "skills" if i < k else ("topic", "sense")[i - k]
            pairs[name].append((bool(right), bool(given)))
        pairs["full marks"].append((bool(marks(true.points)[0]), bool(marks(said.points)[0])))
    return {name: Calibration.of(found) for name, found in pairs.items()}


def corrected_full_marks(result: SkillMixScore, errors: Mapping[str, Calibration]) -> Corrected:
    """The share of pieces with full marks, the judge's measured errors taken out (Rogan-Gladen).

    Of pieces and not of combinations: a maximum over generations of noisy grades is not such a share.
    """
    return correct(result.pieces_full, errors["full marks"])


# The stochastic parrot (section 6)


def expected_occurrences(*, k: int, skill_rate: float, topic_rate: float, pieces: float) -> float:
    """E_k = p_s^k p_t L: texts of a corpus that show k random skills on a random topic.

    Args:
        skill_rate, topic_rate: how often a random skill or topic occurs in a text piece, on average; where
            skills differ this is an upper bound for random sets (Maclaurin's inequality).
        pieces: texts in the corpus.

    Raises:
        HornbookError: a rate outside [0, 1], k below 1 or a negative number of pieces.
    """
    if k < 1 or pieces < 0 or not (0 <= skill_rate <= 1 and 0 <= topic_rate <= 1):
        raise HornbookError(
            f"expected_occurrences: k {k}, rates {skill_rate} and {topic_rate}, {pieces} pieces; wanted: "
            "k of at least 1, rates in [0, 1] and a number of pieces of at least 0."
        )
    return float(skill_rate**k * topic_rate * pieces)


def implied_skill_rate(*, expected: float, k: int, topic_rate: float, pieces: float) -> float:
    """The p_s at which E_k is `expected`."""
    if min(expected, topic_rate, pieces) <= 0 or k < 1:
        raise HornbookError(
            "implied_skill_rate: expected, topic_rate and pieces must be above 0, k at least 1."
        )
    return float((expected / (topic_rate * pieces)) ** (1 / k))


@dataclass(frozen=True, kw_only=True)
class Novelty:
    """At least `share` of a model's full marks are on combinations that the corpus does not have.

    `low` is the same with the lower end of the score's interval: what sampling noise leaves of the claim.
    """

    share: float
    low: float


def novel_share(full_marks: float, expected: float, *, low: float | None = None) -> Novelty:
    """(alpha_k - E_k) / alpha_k, at least 0: even a model that solves every combination it has seen.

    Args:
        full_marks: alpha_k, the share of random combinations with full marks.
        expected: E_k; by Markov's inequality it bounds the share of combinations that were seen.
        low: the lower end of the interval of `full_marks`.
    """

    def share(alpha: float) -> float:
        return max(0.0, (alpha - expected) / alpha) if alpha > 0 else 0.0

    return Novelty(share=share(full_marks), low=share(full_marks if low is None else low))
