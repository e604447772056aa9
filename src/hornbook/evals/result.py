"""What every evaluation returns: numbers with intervals, outcomes item by item, samples for people."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hornbook.lab.statistics import Interval, bootstrap_interval, wilson_interval
from hornbook.lm.base import Failure, LanguageModel

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

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Result":
        """Back from `as_json` or a step's facts; unknown fields (of a later version) are left out."""
        fields = {name: told[name] for name in cls.__dataclass_fields__ if name in told}
        fields["scores"] = tuple(
            Score(**{**score, "interval": Interval(*score["interval"])}) for score in told["scores"]
        )
        return cls(**{**fields, "ids": tuple(fields.get("ids", ()))})


@dataclass(frozen=True, kw_only=True)
class Task:
    """One evaluation: `sentence` says what is measured, `run(model, items, seed)` measures it."""

    name: str
    sentence: str
    run: Callable[[LanguageModel, int, int], Result]


def score_of(name: str, values: Sequence[float]) -> Score:
    """The mean of one value an item; Wilson's interval where all are 0 or 1, else the bootstrap's."""
    if all(value in (0.0, 1.0) for value in values):
        interval = wilson_interval(int(sum(values)), len(values))
    else:
        interval = bootstrap_interval(values)
    return Score(name=name, value=sum(values) / len(values), interval=interval)


def not_answered(failures: Mapping[str, Failure], asked: int) -> str:
    """The sentence on items that were not answered: how many, which, and the reason of the first."""
    first = next(iter(failures.values()))
    names = ", ".join(list(failures)[:_NAMED]) + (", ..." if len(failures) > _NAMED else "")
    return (
        f"{len(failures)} of {asked} items were not answered ({names}), the first: {first.kind}: "
        f"{first.message} The same command asks for these again."
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
    lines = [f"{'task':<{wide}} {'score':<18} {'value':>7}  {'95 % interval':<18} items  seconds"]
    for result in results:
        for score in result.scores:
            shown = f"{_number(score, score.value):>7}  {_interval(score):<18}"
            lines.append(
                f"{result.task:<{wide}} {score.name:<18} {shown} {result.items:>5}  {result.seconds:>7.1f}"
            )
        if result.unfinished:
            lines.append(
                f"{result.task if not result.scores else '':<{wide}} unfinished: {result.unfinished}"
            )
    return "\n".join(lines)


def as_json(results: Sequence[Result]) -> str:
    """Everything, for other programs."""
    return json.dumps([asdict(result) for result in results], ensure_ascii=False, indent=1)
