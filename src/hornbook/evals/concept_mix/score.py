"""ConceptMix scored: full marks and fractions by k, categories, and what independence would predict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hornbook.errors import HornbookError
from hornbook.evals.concept_mix.protocol import CATEGORIES, Plan
from hornbook.evals.judges import Calibration, Rate
from hornbook.lab.statistics import Interval, bootstrap_interval


@dataclass(frozen=True, kw_only=True)
class Marked:
    """One picture: its plan and an answer for each property; None where there is no answer."""

    plan: Plan
    answers: tuple[bool | None, ...]

    def __post_init__(self) -> None:
        if len(self.answers) != len(self.plan.properties):
            raise HornbookError(
                f"A picture has {len(self.answers)} answers to {len(self.plan.properties)} questions."
            )

    @property
    def full(self) -> bool | None:
        """All answers are yes. One no decides; without one, a missing answer leaves it open."""
        if any(answer is False for answer in self.answers):
            return False
        return None if None in self.answers else True


@dataclass(frozen=True, kw_only=True)
class ConceptMixScore:
    """One k.

    full:         pictures with all k + 1 properties, of those decided (Wilson's interval).
    fraction:     properties shown, of those answered; its interval draws whole pictures.
    categories:   the same for each category that was asked about.
    expected:     the full marks that independent properties would have: the mean over pictures of the
                  product of their categories' rates; None where one of these is not known.
    undecided:    pictures without full-mark verdict; unanswered: questions without answer.
    """

    k: int
    pictures: int
    full: Rate
    fraction: float
    fraction_interval: Interval
    categories: Mapping[str, Rate]
    expected: float | None
    undecided: int
    unanswered: int


def score(marked: Sequence[Marked]) -> ConceptMixScore:
    """The scores of the pictures of one k.

    Raises:
        HornbookError: pictures of several k, none, or not one answer.
    """
    ks = {mark.plan.k for mark in marked}
    if len(ks) != 1:
        raise HornbookError(f"ConceptMix is scored for one k at a time; these pictures have {sorted(ks)}.")
    rates = category_rates(marked)
    shares = [answered for mark in marked if (answered := _share(mark)) is not None]
    if not rates or not shares:
        raise HornbookError("No question about these pictures was answered.")
    hits, trials = sum(rate.hits for rate in rates.values()), sum(rate.trials for rate in rates.values())
    decided = [mark.full for mark in marked if mark.full is not None]
    return ConceptMixScore(
        k=ks.pop(),
        pictures=len(marked),
        full=Rate(hits=sum(decided), trials=len(decided)),
        fraction=hits / trials,
        fraction_interval=bootstrap_interval(shares),
        categories=rates,
        expected=expected_full([mark.plan for mark in marked], rates),
        undecided=len(marked) - len(decided),
        unanswered=sum(answer is None for mark in marked for answer in mark.answers),
    )


def _share(mark: Marked) -> float | None:
    known = [answer for answer in mark.answers if answer is not None]
    return sum(known) / len(known) if known else None


def category_rates(marked: Sequence[Marked]) -> dict[str, Rate]:
    """Yes answers of all answers, for each category that was asked about."""
    found: dict[str, list[bool]] = {}
    for mark in marked:
        for asked, answer in zip(mark.plan.properties, mark.answers, strict=True):
            if answer is not None:
                found.setdefault(asked.category, []).append(answer)
    return {
        category: Rate(hits=sum(found[category]), trials=len(found[category]))
        for category in CATEGORIES
        if category in found
    }


def expected_full(plans: Sequence[Plan], rates: Mapping[str, Rate]) -> float | None:
    """Full marks if each property were shown by itself with its category's rate: the mean of the products.

    With the rates of k = 1, this is what scores on one concept at a time predict of many. None where a
    category of the plans has no rate.
    """
    products = []
    for plan in plans:
        product = 1.0
        for asked in plan.properties:
            rate = rates.get(asked.category)
            if rate is None or rate.value is None:
                return None
            product *= rate.value
        products.append(product)
    return math.fsum(products) / len(products) if products else None


@dataclass(frozen=True, kw_only=True)
class JudgeErrors:
    """A judge against known answers: on each category's questions, and on full marks at each k."""

    categories: Mapping[str, Calibration]
    full: Mapping[int, Calibration]


def judge_errors(judged: Sequence[Marked], truth: Sequence[Marked]) -> JudgeErrors:
    """From the judge's and the true answers on the same pictures, in the same order.

    Raises:
        HornbookError: the two are about other pictures.
    """
    if [mark.plan for mark in judged] != [mark.plan for mark in truth]:
        raise HornbookError("A judge is measured on the pictures whose truth is known, in the same order.")
    by_category: dict[str, list[tuple[bool, bool | None]]] = {}
    by_k: dict[int, list[tuple[bool, bool | None]]] = {}
    for seen, right in zip(judged, truth, strict=True):
        for asked, said, known in zip(seen.plan.properties, seen.answers, right.answers, strict=True):
            if known is not None:
                by_category.setdefault(asked.category, []).append((known, said))
        if right.full is not None:
            by_k.setdefault(seen.plan.k, []).append((right.full, seen.full))
    return JudgeErrors(
        categories={c: Calibration.of(pairs) for c, pairs in by_category.items()},
        full={k: Calibration.of(pairs) for k, pairs in by_k.items()},
    )
