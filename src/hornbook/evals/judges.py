"""One judge protocol: verdicts, how far a judge can be trusted, and scores corrected for its errors.

Every case is asked in both orders of what it offers, so that a judge's love of the first place is always
measured and cannot decide. What cannot be read is unscored and counted, never guessed.

    judged = judge(model, [yes_no("1", "Is 7 prime?", truth=True), ...], rounds=3)
    columns(judged)                               # consistency, position, agreement with known answers
    correct(seen, calibration(judged))            # a share, corrected, with the interval that carries it
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

from hornbook.errors import HornbookError
from hornbook.lab.statistics import Interval, bootstrap_interval, wilson_interval
from hornbook.lm.base import Advances, Completion, LanguageModel, Request, Sampling, ask
from hornbook.lm.parse import verdict as read_verdict

SAMPLING = Sampling(temperature=0.7, max_tokens=256)
"""Drawn, not greedy: of a greedy judge one cannot learn whether it agrees with itself."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to judge.

    prompts: the question as it is, and with what it offers in the other order.
    words:   for each of the two prompts, every meaning with the words that say it; the order is that of
             the offer, so that the first meaning is what stands in the first place.
    truth:   the right meaning, where it is known.
    pictures: what the question is about, as data URIs; for judges that see.
    """

    id: str
    prompts: tuple[str, str]
    words: tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]
    truth: str | None = None
    pictures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if set(self.words[0]) != set(self.words[1]) or len(self.words[0]) < 2:
            raise HornbookError(
                f"The case {self.id!r} must offer the same meanings, at least two, in both orders; "
                f"it offers {sorted(self.words[0])} and {sorted(self.words[1])}."
            )
        if self.truth is not None and self.truth not in self.words[0]:
            raise HornbookError(
                f"The case {self.id!r} has the truth {self.truth!r}, which it does not offer; "
                f"accepted is one of {sorted(self.words[0])}."
            )


def yes_no(id: str, question: str, *, truth: bool | None = None, pictures: tuple[str, ...] = ()) -> Case:
    """A question that is answered with yes or no; the two orders name the two words in turn."""
    return Case(
        id=id,
        prompts=(
            f"{question}\n\nEnd with a line that is only Yes or No.",
            f"{question}\n\nEnd with a line that is only No or Yes.",
        ),
        words=({"yes": ("yes",), "no": ("no",)}, {"no": ("no",), "yes": ("yes",)}),
        truth=None if truth is None else ("yes" if truth else "no"),
        pictures=pictures,
    )


def pair(id: str, request: str, first: str, second: str, *, truth: str | None = None) -> Case:
    """Which of two answers is better; `truth` is "first", "second", "tie" or None."""

    def prompt(one: str, two: str) -> str:
        return (
            f"Here are a request and two answers to it.\n\nRequest:\n{request}\n\nAnswer 1:\n{one}\n\n"
            f"Answer 2:\n{two}\n\nWhich answer is better? Neither length nor order is a merit. "
            "End with a line that is only 1, 2 or tie."
        )

    one, two, tie = ("answer 1", "1"), ("answer 2", "2"), ("tie",)
    return Case(
        id=id,
        prompts=(prompt(first, second), prompt(second, first)),
        words=(
            {"first": one, "second": two, "tie": tie},
            {"second": one, "first": two, "tie": tie},
        ),
        truth=truth,
    )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judge said once: `value` is the meaning, or None with `why` it is unscored."""

    value: str | None
    order: int
    text: str = ""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A case and every verdict on it."""

    case: Case
    verdicts: tuple[Verdict, ...]

    def of_order(self, order: int) -> str | None:
        """The majority among the verdicts in one order; None where there is none."""
        return majority(v.value for v in self.verdicts if v.order == order)

    @property
    def value(self) -> str | None:
        """The majority in both orders where they agree. A pair whose winner changes with the order is a
        tie; anything else that changes with the order is unscored."""
        here, there = self.of_order(0), self.of_order(1)
        if here == there or here is None or there is None:
            return here if here == there else None
        return "tie" if "tie" in self.case.words[0] else None


def majority(values: Iterable[str | None]) -> str | None:
    """The value that more verdicts have than any other; unscored verdicts do not vote; None at a draw."""
    counts = Counter(value for value in values if value is not None).most_common(2)
    if not counts or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return None
    return counts[0][0]


def judge(
    model: LanguageModel,
    cases: Sequence[Case],
    *,
    rounds: int = 3,
    sampling: Sampling = SAMPLING,
    salt: str = "",
    progress: Advances | None = None,
) -> list[Judged]:
    """Every case in both orders, `rounds` times each, in one batch of requests.

    Raises:
        HornbookError: rounds below 1.
    """
    if rounds < 1:
        raise HornbookError(f"judge: rounds is {rounds}; accepted is a count of at least 1.")
    places = [(case, order, turn) for case in cases for order in (0, 1) for turn in range(rounds)]
    requests: list[Request] = [
        ask(
            case.prompts[order],
            pictures=case.pictures,
            sampling=sampling,
            sample_index=turn,
            salt=salt,
            tag="judge",
        )
        for case, order, turn in places
    ]
    verdicts: list[Verdict] = []
    for (case, order, _), result in zip(places, model.complete(requests, progress=progress), strict=True):
        if not isinstance(result, Completion):
            why = f"the call failed ({result.kind}): {result.message}"
            verdicts.append(Verdict(value=None, order=order, why=why))
            continue
        value = read_verdict(result.text, case.words[order])
        why = "" if value is not None else "the answer names no verdict, or two"
        verdicts.append(Verdict(value=value, order=order, text=result.text, why=why))
    each = 2 * rounds
    return [
        Judged(case=case, verdicts=tuple(verdicts[i * each : (i + 1) * each])) for i, case in enumerate(cases)
    ]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """`hits` of `trials`, with the Wilson 95 % interval; no trials, no value."""

    hits: int
    trials: int

    @property
    def value(self) -> float | None:
        return self.hits / self.trials if self.trials else None

    @property
    def interval(self) -> Interval:
        return wilson_interval(self.hits, self.trials) if self.trials else Interval(0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """How far a judge can be trusted; all of it goes beside every number the judge made.

    verdicts, unscored: answers asked for, and those that could not be read or never came.
    self_consistency:   of two verdicts on one case in one order, how often they are the same (None: one
                        round), with its bootstrap interval over cases.
    position:           cases that get the same majority in both orders, of those scored in both.
    first_place:        verdicts for what stands first, of the verdicts that choose a place; an unbiased
                        judge has one half, as every case is asked in both orders.
    agreement:          cases with a known answer that got it, of those scored.
    kappa:              agreement beyond chance (Cohen 1960); None where it is not defined.
    unscored_cases:     cases without a final verdict.
    """

    cases: int
    verdicts: int
    unscored: int
    unscored_cases: int
    self_consistency: float | None
    self_consistency_interval: Interval | None
    position: Rate
    first_place: Rate
    agreement: Rate
    kappa: float | None


def columns(judged: Sequence[Judged]) -> Columns:
    """The columns of a judge over what it judged."""
    verdicts = [v for item in judged for v in item.verdicts]
    same = [share for item in judged if (share := _same_share(item)) is not None]
    both = [(a, b) for item in judged if (a := item.of_order(0)) and (b := item.of_order(1))]
    placed = [
        list(item.case.words[v.order]).index(v.value) == 0
        for item in judged
        for v in item.verdicts
        if v.value is not None and v.value != "tie"
    ]
    known = [(item.case.truth, item.value) for item in judged if item.case.truth and item.value]
    return Columns(
        cases=len(judged),
        verdicts=len(verdicts),
        unscored=sum(v.value is None for v in verdicts),
        unscored_cases=sum(item.value is None for item in judged),
        self_consistency=sum(same) / len(same) if same else None,
        self_consistency_interval=bootstrap_interval(same) if same else None,
        position=Rate(hits=sum(a == b for a, b in both), trials=len(both)),
        first_place=Rate(hits=sum(placed), trials=len(placed)),
        agreement=Rate(hits=sum(a == b for a, b in known), trials=len(known)),
        kappa=cohen_kappa(known),
    )


def _same_share(item: Judged) -> float | None:
    values = [[v.value for v in item.verdicts if v.order == order and v.value] for order in (0, 1)]
    pairs = [a == b for same_order in values for a, b in combinations(same_order, 2)]
    return sum(pairs) / len(pairs) if pairs else None


def cohen_kappa(pairs: Sequence[tuple[str | None, str | None]]) -> float | None:
    """(agreement - agreement by chance) / (1 - agreement by chance); None without pairs or spread."""
    if not pairs:
        return None
    count = len(pairs)
    left, right = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(left[name] * right[name] for name in left) / count**2
    if chance == 1:
        return None
    return (sum(a == b for a, b in pairs) / count - chance) / (1 - chance)


def krippendorff_alpha(units: Sequence[Sequence[str]]) -> float | None:
    """Agreement of any number of raters beyond chance, for nominal labels (Krippendorff 2004, chapter 11).

    Args:
        units: the labels that each item got, from as many raters as judged it; items with fewer than two
            say nothing.

    Returns:
        1 - observed / expected disagreement; None without pairs, or where all labels are one and the same.
    """
    rated = [unit for unit in units if len(unit) > 1]
    totals = Counter(label for unit in rated for label in unit)
    count = totals.total()
    expected = count**2 - sum(n * n for n in totals.values())
    if not rated or expected == 0:
        return None
    observed = sum(
        (len(unit) ** 2 - sum(n * n for n in Counter(unit).values())) / (len(unit) - 1) for unit in rated
    )
    return 1 - (count - 1) * observed / expected


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A judge against known answers: how often it sees what is there, and denies what is not.

    `sensitivity` is the rate of yes where the truth is yes, `specificity` the rate of no where it is no.
    """

    sensitivity: Rate
    specificity: Rate

    @classmethod
    def of(cls, pairs: Iterable[tuple[bool, bool | None]]) -> "Calibration":
        """From (truth, verdict) pairs; unscored verdicts (None) are left out."""
        scored = [(truth, said) for truth, said in pairs if said is not None]
        yes = [said for truth, said in scored if truth]
        no = [said for truth, said in scored if not truth]
        return cls(
            sensitivity=Rate(hits=sum(yes), trials=len(yes)),
            specificity=Rate(hits=len(no) - sum(no), trials=len(no)),
        )


def calibration(judged: Sequence[Judged]) -> Calibration:
    """Sensitivity and specificity of a judge on yes-or-no cases with known answers."""
    return Calibration.of(
        (item.case.truth == "yes", None if item.value is None else item.value == "yes")
        for item in judged
        if item.case.truth is not None
    )


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """A share that a judge saw, and what it says about the true share.

    value, interval: None and (0, 1) where the judge is no better than chance; `why` then says so.
    """

    apparent: Rate
    value: float | None
    interval: Interval
    why: str = ""


def correct(apparent: Rate, judge: Calibration, *, confidence: float = 0.95) -> Corrected:
    """The true share behind an apparent one (Rogan and Gladen 1978). Where some of the very items have a
    known answer, `prediction_powered` assumes less.

    value = (apparent + specificity - 1) / (sensitivity + specificity - 1), cut to [0, 1]. The interval is
    that of Lang and Reiczigel (2014), which carries the noise of the score *and* of both error rates.

    Args:
        apparent: yes verdicts of all scored ones. They should be independent: a share over many draws of
            one question has fewer independent trials than draws.
        judge: measured on other items than these, or on a random part of them.

    Raises:
        HornbookError: nothing was scored, or the judge was not measured on both kinds of truth.
    """
    yes, no = judge.sensitivity, judge.specificity
    if not (apparent.trials and yes.trials and no.trials):
        raise HornbookError(
            "A score cannot be corrected without scored items and known answers of both kinds; there are "
            f"{apparent.trials} scored items, {yes.trials} known to be yes and {no.trials} known to be no."
        )
    youden = yes.hits / yes.trials + no.hits / no.trials - 1
    if youden <= 0:
        why = (
            f"The judge is no better than chance (sensitivity {yes.hits / yes.trials:.2f}, specificity "
            f"{no.hits / no.trials:.2f}), so its score says nothing about the truth."
        )
        return Corrected(apparent=apparent, value=None, interval=Interval(0.0, 1.0), why=why)
    value = (apparent.hits / apparent.trials + no.hits / no.trials - 1) / youden

    z = NormalDist().inv_cdf((1 + confidence) / 2)
    trials = apparent.trials + z * z
    share = (apparent.hits + z * z / 2) / trials
    n_yes, n_no = yes.trials + 2, no.trials + 2
    sensitivity, specificity = (yes.hits + 1) / n_yes, (no.hits + 1) / n_no
    slope = sensitivity + specificity - 1
    if slope <= 0:  # better than chance by so little that the adjusted rates are not
        return Corrected(apparent=apparent, value=_unit(value), interval=Interval(0.0, 1.0))
    centre = (share + specificity - 1) / slope
    noise_yes = sensitivity * (1 - sensitivity) / n_yes
    noise_no = specificity * (1 - specificity) / n_no
    shift = 2 * z * z * (centre * noise_yes - (1 - centre) * noise_no)
    variance = share * (1 - share) / trials + centre**2 * noise_yes + (1 - centre) ** 2 * noise_no
    half = z * math.sqrt(variance) / slope
    low, high = centre + shift - half, centre + shift + half
    return Corrected(apparent=apparent, value=_unit(value), interval=Interval(_unit(low), _unit(high)))


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
