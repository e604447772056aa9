"""Which acts of which plot a story of the small world holds: what features, plots and courses are read from.

The simulated teacher tells a story act by act from templates (`synth.stories.PLOTS`). Here every template is
a pattern whose slots may hold any words, so an act is found whoever does it with whatever: whether the right
people do it is the grader's question (`evals.stories.grades`), not this one.
"""

import re
from dataclasses import dataclass
from functools import cache

from hornbook.synth.stories import PLOTS

FEATURE_ACTS = {
    "Foreshadowing": "hint",
    "Conflict": "fight",
    "Dialogue": "talk",
    "Twist": "twist",
    "BadEnding": "bad",
    "MoralValue": "moral",
}
"""The act that each feature of a prompt asks for (TinyStories section 2)."""

_SLOT = r"[^.!?\"]{1,60}?"


@dataclass(frozen=True, kw_only=True)
class Act:
    """One act of a story: what a template tells, and where in the text it begins."""

    plot: str
    name: str
    wording: int
    start: int


@cache
def _templates() -> tuple[tuple[str, str, int, str, re.Pattern[str]], ...]:
    return tuple(
        (plot, act, number, phrase.longest_literal(), re.compile(phrase.pattern(_SLOT), re.IGNORECASE))
        for plot, acts in PLOTS.items()
        for act, phrases in acts.items()
        for number, phrase in enumerate(phrases)
    )


def acts(text: str) -> list[Act]:
    """The acts that a text holds, in order of their beginnings."""
    low = text.lower()
    found = []
    for plot, name, number, literal, pattern in _templates():
        if literal in low and (match := pattern.search(text)):
            found.append(Act(plot=plot, name=name, wording=number, start=match.start()))
    return sorted(found, key=lambda act: (act.start, act.plot, act.name))


def features(found: list[Act]) -> frozenset[str]:
    """The features that the acts of a story show."""
    names = {act.name for act in found}
    return frozenset(feature for feature, act in FEATURE_ACTS.items() if act in names)


def plot_of(found: list[Act]) -> str | None:
    """The plot that most acts belong to; None where there is no act, or two plots have as many."""
    counts: dict[str, int] = {}
    for act in found:
        counts[act.plot] = counts.get(act.plot, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def course(found: list[Act]) -> tuple[tuple[str, str, int], ...]:
    """What happens, in order: two tellings with the same course differ in names and small words alone."""
    return tuple((act.plot, act.name, act.wording) for act in found)
