"""Two models on the same items: differences with paired intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from hornbook.errors import HornbookError
from hornbook.evals.result import Result
from hornbook.lab.statistics import Interval, paired_bootstrap


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much more one model has than another on the same items, with a paired bootstrap 95 % interval."""

    task: str
    name: str
    value: float
    interval: Interval
    p: float
    items: int


def compare(first: Sequence[Result], second: Sequence[Result]) -> list[Difference]:
    """Scores of `first` minus those of `second`, on the items that both answered.

    Raises:
        HornbookError: the two have no task in common that was measured on the same items.
    """
    others = {result.task: result for result in second}
    found, elsewhere = [], []
    for ours in first:
        theirs = others.get(ours.task)
        if theirs is None:
            continue
        for name in ours.outcomes:
            pairs = on_same_items(name, ours, theirs)
            if pairs is None:
                elsewhere.append(ours.task)
            elif name in {score.name for score in ours.scores}:
                paired = paired_bootstrap(*pairs)
                found.append(
                    Difference(
                        task=ours.task,
                        name=name,
                        value=paired.difference,
                        interval=paired.interval,
                        p=paired.p,
                        items=len(pairs[0]),
                    )
                )
    if not found:
        which = f" ({', '.join(dict.fromkeys(elsewhere))})" if elsewhere else ""
        raise HornbookError(
            f"the two results have no task in common that was measured on the same items{which}. Run both "
            "with the same --items and --seed, to the end."
        )
    return found


def on_same_items(name: str, ours: Result, theirs: Result) -> tuple[list[float], list[float]] | None:
    """Outcomes of one score for the items that both answered, in the same order: by the items' ids, or, of
    tasks without ids, all of them where both answered all. None: they cannot be put side by side."""
    a, b = list(ours.outcomes.get(name, ())), list(theirs.outcomes.get(name, ()))
    if len(a) == len(ours.ids) > 0 and len(b) == len(theirs.ids) > 0:
        place = {item: i for i, item in enumerate(theirs.ids)}
        both = [(x, b[place[item]]) for x, item in zip(a, ours.ids) if item in place]
        a, b = [x for x, _ in both], [y for _, y in both]
    elif len(a) != len(b) or ours.unfinished or theirs.unfinished:
        return None
    return (a, b) if a else None


def as_text(differences: Sequence[Difference]) -> str:
    """A table for the terminal."""
    wide = max([14, *(len(one.task) for one in differences)])
    lines = [f"{'task':<{wide}} {'score':<18} {'difference':>10}  {'95 % interval':<20} {'p':>6}  items"]
    for one in differences:
        interval = f"[{one.interval[0]:+.1%}, {one.interval[1]:+.1%}]"
        shown = f"{one.value:>+10.1%}  {interval:<20} {one.p:>6.3f}  {one.items}"
        lines.append(f"{one.task:<{wide}} {one.name:<18} {shown}")
    return "\n".join(lines)
