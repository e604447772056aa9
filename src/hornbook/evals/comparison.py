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
        HornbookError: the two have no task in common, or one task has other items.
    """
    others = {result.task: result for result in second}
    found = []
    for ours in first:
        theirs = others.get(ours.task)
        if theirs is None:
            continue
        shared = _shared(ours, theirs)
        for score in ours.scores:
            if score.name in ours.outcomes and score.name in theirs.outcomes:
                a, b = (
                    [one.outcomes[score.name][i] for i in own] for one, own in zip((ours, theirs), shared)
                )
                if a:
                    paired = paired_bootstrap(a, b)
                    found.append(
                        Difference(
                            task=ours.task,
                            name=score.name,
                            value=paired.difference,
                            interval=paired.interval,
                            p=paired.p,
                            items=len(a),
                        )
                    )
    if not found:
        raise HornbookError("the two results have no task in common that was measured item by item")
    return found


def _shared(ours: Result, theirs: Result) -> tuple[list[int], list[int]]:
    """Places of the items both answered: by their ids, or all of them where both answered all."""
    if ours.ids and theirs.ids:
        place = {name: i for i, name in enumerate(theirs.ids)}
        both = [(i, place[name]) for i, name in enumerate(ours.ids) if name in place]
        return [i for i, _ in both], [j for _, j in both]
    if ours.items != theirs.items or ours.unfinished or theirs.unfinished:
        raise HornbookError(
            f"{ours.task}: {ours.items} and {theirs.items} items were answered; a paired comparison needs "
            "the same ones. Run both with the same --items and --seed, to the end."
        )
    return list(range(ours.items)), list(range(ours.items))


def as_text(differences: Sequence[Difference]) -> str:
    """A table for the terminal."""
    wide = max([14, *(len(one.task) for one in differences)])
    lines = [f"{'task':<{wide}} {'score':<18} {'difference':>10}  {'95 % interval':<20} {'p':>6}  items"]
    for one in differences:
        interval = f"[{one.interval[0]:+.1%}, {one.interval[1]:+.1%}]"
        shown = f"{one.value:>+10.1%}  {interval:<20} {one.p:>6.3f}  {one.items}"
        lines.append(f"{one.task:<{wide}} {one.name:<18} {shown}")
    return "\n".join(lines)
