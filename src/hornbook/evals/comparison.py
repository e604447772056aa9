"""Two models on the same items: differences with paired intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from hornbook.errors import HornbookError
from hornbook.evals.result import BITS_PER_BYTE, FEW, Result
from hornbook.lab.statistics import (
    Interval,
    PairedDifference,
    clustered_interval,
    clustered_p,
    paired_bootstrap,
    wilson_interval,
)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much more one model has than another on the same items, with a paired 95 % interval."""

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
        for name in (score.name for score in ours.scores):
            paired, items = difference(name, ours, theirs)
            if paired is None:
                elsewhere.append(ours.task)
            else:
                found.append(
                    Difference(
                        task=ours.task,
                        name=name,
                        value=paired.difference,
                        interval=paired.interval,
                        p=paired.p,
                        items=items,
                    )
                )
    if not found:
        which = f" ({', '.join(dict.fromkeys(elsewhere))})" if elsewhere else ""
        raise HornbookError(
            f"the two results have no task in common that was measured on the same items{which}. Run both "
            "with the same --items and --seed, to the end."
        )
    return found


def difference(name: str, ours: Result, theirs: Result) -> tuple[PairedDifference | None, int]:
    """One score of `ours` minus that of `theirs`, on how many items that both answered; None where there are
    none, or where the score is not a mean over items."""
    if name == BITS_PER_BYTE:
        return _of_bits(ours, theirs)
    pairs = on_same_items(name, ours, theirs)
    if pairs is None:
        return None, 0
    return _paired(*pairs, clusters=_clusters(name, ours, theirs)), len(pairs[0])


def _of_bits(ours: Result, theirs: Result) -> tuple[PairedDifference | None, int]:
    """Bits of all texts over their bytes: a ratio, whose noise is that of its linear part."""
    bits, sizes = on_same_items("bits", ours, theirs), on_same_items("bytes", ours, theirs)
    if bits is None or sizes is None:
        return None, 0
    more = [x - y for x, y in zip(*bits)]
    ratio, mean = sum(more) / sum(sizes[0]), sum(sizes[0]) / len(more)
    linear = [ratio + (one - ratio * size) / mean for one, size in zip(more, sizes[0])]
    return paired_bootstrap(linear, [0.0] * len(linear)), len(linear)


def _paired(a: list[float], b: list[float], *, clusters: Sequence[str]) -> PairedDifference:
    """The mean of a - b: bootstrap; of clusters and of few items, Student's t. Differences that are all alike
    tell nothing of their spread: of shares, as many may deviate as Wilson's interval of none of so many."""
    differences = [x - y for x, y in zip(a, b)]
    groups = len(set(clusters)) if clusters else len(a)
    if len(set(differences)) == 1 and all(0 <= value <= 1 for value in (*a, *b)):
        value, strays = differences[0], wilson_interval(0, groups).high
        half = strays * (1 + abs(value))
        p = 1.0 if value == 0 else min(1.0, 2 * 0.5**groups)
        return PairedDifference(value, max(-1.0, value - half), min(1.0, value + half), p)
    if 1 < groups < max(len(a), FEW):
        labels = clusters or range(len(a))
        low, high = clustered_interval(differences, labels)
        return PairedDifference(sum(differences) / len(a), low, high, clustered_p(differences, labels))
    return paired_bootstrap(a, b)


def _clusters(name: str, ours: Result, theirs: Result) -> list[str]:
    """The clusters of the items that both answered, in the order of `on_same_items`; none: none are known."""
    if not ours.clusters or len(ours.clusters) != len(ours.outcomes.get(name, ())):
        return []
    both = set(theirs.ids)
    return [cluster for cluster, item in zip(ours.clusters, ours.ids) if item in both]


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
        form = "+.3f" if one.name.startswith(("bits", "grade")) else "+.1%"
        interval = f"[{one.interval[0]:{form}}, {one.interval[1]:{form}}]"
        shown = f"{format(one.value, form):>10}  {interval:<20} {one.p:>6.3f}  {one.items}"
        lines.append(f"{one.task:<{wide}} {one.name:<18} {shown}")
    return "\n".join(lines)
