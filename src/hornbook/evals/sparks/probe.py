"""What a probe is: variants without end, a grader that is a program, and a solver that shows it can be done.

The paper rules out memory by tasks that are in no data and by varying them (its section 1). So a probe draws
its variants from a seed, and answers to one variant are wrong for the others.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals.sparks.canvas import Drawing
from hornbook.lab.files import sha256_of

Turns = Sequence[str]
"""What a model said in one conversation, in order."""

_TRIES = 200
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d[\d,]*(?:\.\d+)?")
_LONGEST_NUMBER = 40


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One variant of a probe.

    openings: first words of each conversation; most probes have one, some ask the same thing twice.
    told:     what the grader and the solver know and the model does not.
    group:    such as the range of the numbers; scores are given by group too.
    """

    id: str
    openings: tuple[str, ...]
    told: Mapping[str, Any] = field(repr=False)
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What the answers to one trial are worth, by name, each in [0, 1].

    read: what was taken as the answer. note: what was wrong. picture: what was drawn, where it can be shown.
    """

    values: Mapping[str, float]
    read: str = ""
    note: str = ""
    picture: Drawing | None = None


class Probe(ABC):
    """One kind of question; one of several turns has a `reply` too.

    name: after "sparks-". section: of the paper. metric: the value that is shown first.
    version: raised when a change of the class changes scores.
    """

    name = ""
    section = ""
    sentence = ""
    metric = "solved"
    max_tokens = 96
    version = 1

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over what changes a score."""
        return sha256_of({"probe": self.name, "version": self.version, "max_tokens": self.max_tokens})[:16]

    @abstractmethod
    def draw(self, rng: Random) -> Trial:
        """A random variant; its id is set by `trials`."""

    def reply(self, trial: Trial, conversation: int, turns: Turns) -> str | None:
        """What is said to the model after its last turn; None ends the conversation."""
        return None

    @abstractmethod
    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        """Grades what was said in each conversation."""

    def mark_all(self, trials: Sequence[Trial], answers: Sequence[Sequence[Turns]]) -> list[Mark]:
        """Grades many trials; probes that start a process for it start one for all."""
        return [self.mark(trial, own) for trial, own in zip(trials, answers, strict=True)]

    @abstractmethod
    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        """What one who knows `told` says next."""


def trials(probe: Probe, count: int, seed: int) -> list[Trial]:
    """`count` different variants, the same for the same seed; fewer items are the beginning of more.

    Raises:
        HornbookError: the probe has not so many.
    """
    found: dict[tuple[str, ...], Trial] = {}
    for number in range(count):
        for attempt in range(_TRIES):
            drawn = probe.draw(Random(f"{probe.name} {seed} {number} {attempt}"))
            if drawn.openings not in found:
                # The content is part of the id: what is kept of another variant is never taken for this one.
                content = sha256_of([drawn.openings, drawn.told])[:8]
                found[drawn.openings] = replace(drawn, id=f"{seed}-{number}-{content}")
                break
        else:
            raise HornbookError(
                f"The probe {probe.name!r} has no {count} different variants; it found {number}."
            )
    return list(found.values())


def last_number(text: str) -> int | None:
    """The whole number behind the last "answer", else the last one of the text; None where there is none."""
    found = _NUMBER.findall(_behind_answer(text)) or _NUMBER.findall(text)
    if not found:
        return None
    shown = found[-1].replace(",", "").replace("−", "-")
    if len(shown) > _LONGEST_NUMBER:
        return None
    return int(shown) if "." not in shown else int(float(shown)) if float(shown).is_integer() else None


def first_number(text: str) -> int | None:
    """The first whole number of a text."""
    match = _NUMBER.search(text)
    return last_number(match.group()) if match else None


def _behind_answer(text: str) -> str:
    told = re.findall(r"(?i)\banswer\b[^\S\n]*(?:is)?[^\S\n]*[:=]?([^\n]*)", text)
    return str(told[-1]) if told else ""


def numbered(trial: Trial, text: str, truth: int) -> Mark:
    """A mark for an answer that is one whole number."""
    read = last_number(text)
    note = "" if read == truth else f"the truth is {truth}" if read is not None else "no number"
    return Mark(values={"solved": float(read == truth)}, read="" if read is None else str(read), note=note)
