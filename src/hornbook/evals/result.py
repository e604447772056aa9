"""What every evaluation returns: numbers with intervals, outcomes item by item, samples for people."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hornbook.lab.statistics import Interval, bootstrap_interval, clustered_interval, wilson_interval
from hornbook.lm.base import Failure, LanguageModel

BITS_PER_BYTE = "bits per byte"
FEW = 10
"""Below so many independent values intervals are Student's, not the bootstrap's."""
_SAMPLES = 12
_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number with its 95 % interval; `better` is "higher" or "lower"."""

    name: str
    value: float
    interval: Interval
    better: str = "higher"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one task found out about one model.

    scores:     the numbers.
    outcomes:   one value per item and score name, in the order of the items: what paired tests need.
    samples:    requests, answers and verdicts, for people.
    details:    what else is known (reasons of failure, rates by kind, ...).
    unfinished: why some items were not answered; empty when all were.
    ids:        of the items, where they have names that outlast a run.
    clusters:   of the items, where some share something (a passage): intervals draw these, not items.
    """

    task: str
    items: int
    seconds: float
    scores: tuple[Score, ...] = ()
    outcomes: Mapping[str, Sequence[float]] = field(default_factory=dict)
    samples: tuple[Mapping[str, Any], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    unfinished: str = ""
    ids: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Result":
        """Back from `as_json` or a step's facts; unknown fields (of a later version) are left out."""
        fields = {name: told[name] for name in cls.__dataclass_fields__ if name in told}
        fields["scores"] = tuple(
            Score(**{**score, "interval": Interval(*score["interval"])}) for score in told["scores"]
        )
        named = {name: tuple(fields.get(name, ())) for name in ("ids", "clusters")}
        return cls(**{**fields, **named})


@dataclass(frozen=True, kw_only=True)
class Task:
    """One evaluation: `sentence` says what is measured, `run(model, items, seed)` measures it."""

    name: str
    sentence: str
    run: Callable[[LanguageModel, int, int], Result]


def score_of(
    name: str,
    values: Sequence[float],
    *,
    clusters: Sequence[str] = (),
    scale: tuple[float, float] = (0.0, 1.0),
) -> Score:
    """The mean of one value an item, with its 95 % interval.

    Wilson's where all are one end of the scale or the other, else the bootstrap's (of fewer than ten,
    Student's: the bootstrap cannot leave what it has seen). Values that are all
    equal (a single one, say) tell nothing of their spread: they get Wilson's interval of a rate with that
    mean, which has the greatest variance there can be on the scale.

    Args:
        clusters: one a value, where some values belong together: Student's t over clusters; where these are
            all alike, Wilson's with as many trials as there are clusters.
        scale: the least and the greatest value there can be.
    """
    low, high = scale
    mean = sum(values) / len(values)
    groups = len(set(clusters)) if clusters else len(values)
    if len(set(values)) == 1 or groups == 1 or (groups == len(values) and set(values) <= {low, high}):
        share = (mean - low) / (high - low)
        ends = wilson_interval(share * groups, groups)
        interval = Interval(*(low + (high - low) * end for end in ends))
    elif groups < len(values) or groups < FEW:
        interval = clustered_interval(values, clusters or range(len(values)))
        interval = Interval(max(low, interval.low), min(high, interval.high))
    else:
        interval = bootstrap_interval(values)
    return Score(name=name, value=mean, interval=interval)


def not_answered(failures: Mapping[str, Failure], asked: int) -> str:
    """The sentence on items that were not answered: how many, which, the reason of the first, what to do."""
    first = next(iter(failures.values()))
    names = ", ".join(list(failures)[:_NAMED]) + (", ..." if len(failures) > _NAMED else "")
    again = "The same command asks for these again."
    if all(failure.kind == "bad_request" for failure in failures.values()):
        again = "Asked again they would fail again; fewer examples (--shots) make questions shorter."
    return (
        f"{len(failures)} of {asked} items were not answered ({names}), the first: {first.kind}: "
        f"{first.message} {again}"
    )


def both_sides(samples: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Some right and some wrong ones, the wrong ones first: they teach more."""
    wrong = [sample for sample in samples if not sample["right"]][: _SAMPLES // 2]
    right = [sample for sample in samples if sample["right"]][: _SAMPLES - len(wrong)]
    return (*wrong, *right)


def one_line(result: Result) -> str:
    return ", ".join(
        f"{score.name} {_number(score, score.value)} {_interval(score)}" for score in result.scores
    )


def _number(score: Score, value: float) -> str:
    """A share as percent; bits and grades as they are."""
    if score.name.startswith("bits"):
        return f"{value:.3f}"
    return f"{value:.2f}" if score.name.startswith("grade") else f"{value:.1%}"


def _interval(score: Score) -> str:
    return f"[{_number(score, score.interval[0])}, {_number(score, score.interval[1])}]"


def as_text(results: Sequence[Result]) -> str:
    """A table for the terminal."""
    wide = max([14, *(len(result.task) for result in results)])
    long = max([18, *(len(score.name) for result in results for score in result.scores)])
    lines = [f"{'task':<{wide}} {'score':<{long}} {'value':>7}  {'95 % interval':<18} items  seconds"]
    for result in results:
        for score in result.scores:
            shown = f"{score.name:<{long}} {_number(score, score.value):>7}  {_interval(score):<18}"
            lines.append(f"{result.task:<{wide}} {shown} {result.items:>5}  {result.seconds:>7.1f}")
        lines += [f"{'':<{wide}} {sentence}" for sentence in remarks(result)]
        if result.unfinished:
            lines.append(
                f"{result.task if not result.scores else '':<{wide}} unfinished: {result.unfinished}"
            )
    return "\n".join(lines)


def remarks(result: Result) -> list[str]:
    """What a reader of the scores has to know: answers that were not graded, questions that were cut."""
    unscored, cut = result.details.get("unscored", 0), result.details.get("cut", 0)
    told = []
    if unscored:
        told.append(f"unscored: {unscored} of {result.items + unscored} answers could not be graded")
    if cut:
        told.append(
            f"cut: {cut} of {result.items} questions are longer than the model's context; their beginning "
            "was left out (--shots)"
        )
    return told


def as_json(results: Sequence[Result]) -> str:
    """Everything, for other programs."""
    return json.dumps([asdict(result) for result in results], ensure_ascii=False, indent=1)
