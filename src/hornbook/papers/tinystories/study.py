"""The facts of the recipe `tinystories`, one number a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from statistics import fmean
from typing import Any

from hornbook.lab.statistics import first_reached
from hornbook.papers.tinystories.settings import Settings

TRACKING = ("swap name", "swap pronoun", "change object", "strange name")
GRAMMAR = ("delete word", "shuffle words")
"""Faults that only who knows who and what the story is about can see, and faults of form."""
LABELS = ("Words", "Features", "Summary", "Random sentence")

Cell = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What the steps found; see the steps of `evals.stories.exam` for the facts."""

    settings: Settings
    bits: Mapping[Cell, Sequence[float]]
    bits_of_arms: Mapping[str, Sequence[float]]
    graded: Mapping[str, Any]
    choices: Mapping[str, Any]
    followed: Mapping[str, Any]
    copied: Mapping[str, Mapping[str, Any]]
    grader: Mapping[str, Any]
    neurons: Mapping[str, Any]
    judged: Mapping[str, Any] | None
    real: Mapping[str, Any] | None

    def grade(self, name: str, aspect: str) -> list[float]:
        """A grade of a cell ("64x4"), an arm or a moment of the growth."""
        return [fmean(self.graded[f"{name}/{seed}"][aspect]) for seed in self.settings.seeds]

    def control(self, name: str, aspect: str) -> float:
        """The same of a control, which has no seeds."""
        return fmean(self.graded[name][aspect])

    def told_apart(self, name: str, faults: Sequence[str]) -> list[float]:
        """Share of stories with one of these faults that are found less likely than the sound one."""
        return [
            fmean(right for fault in faults for right in self.choices[f"{name}/{seed}"].get(fault, ()))
            for seed in self.settings.seeds
        ]

    def follows(self, name: str, *keys: str) -> list[float]:
        """How far instructions are followed, by the keys of `follow_instructions`."""
        return [
            fmean(fmean(self.followed[f"{name}/{seed}"][key]) for key in keys) for seed in self.settings.seeds
        ]

    def copies(self, beginnings: str, who: str, what: str = "nearest") -> list[float]:
        """A figure of `check_copying` for "student" or "memoriser"."""
        return [self.copied[beginnings][f"{who}/{seed}"][what] for seed in self.settings.seeds]

    def neuron(self, name: str, *keys: str) -> list[float]:
        """A figure of `read_neurons`, such as "purity", or "named", "cost"."""
        found = []
        for seed in self.settings.seeds:
            value = self.neurons[f"{name}/{seed}"]
            for key in keys:
                value = value[key]
            found.append(value)
        return found

    def reached(self, aspect: str, share: float = 0.9) -> list[float]:
        """When the largest student first had this share of its final grade, in doublings of the training
        from its first kept moment; straight lines between moments. The first moment itself counts as 0; a
        grade that stays at nothing was not reached before the end."""
        moments = self.settings.moments()
        times = [log2(done) for done in moments.values()]
        found = []
        for at in range(len(self.settings.seeds)):
            values = [self.grade(name, aspect)[at] for name in moments]
            target = share * values[-1]
            found.append((first_reached(times, values, target) if target else times[-1]) - times[0])
        return found


def name_of(cell: Cell) -> str:
    """Width x depth, as the grid calls its cells."""
    return f"{cell[0]}x{cell[1]}"
