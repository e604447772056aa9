"""Can skill composition be learned from examples? Data and the small student (Zhao et al. 2024, 2409.19808).

Texts that show k random skills, of some categories and some topics only, are what a student is fine-tuned on;
then it is asked for more skills at once, and for skills of the other categories. Skills are those of
`evals/skill_mix/checkable.py`, so every text is graded by programs.

The student here is a small decoder. It is asked by names ("topic, skills:") instead of the paper's
prompts, its tokens are the stretches of words between the nouns of a topic, and before each clause it notes
which skill comes, as the paper's answers explain where each skill is; notes are no part of the text. Which
nouns stand where is chance in the texts, and a greedy student of chance repeats itself ("the ridge beside the
ridge"): it learns them with the first nouns of the topic in every clause, in their order.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from hornbook.errors import HornbookError
from hornbook.evals.skill_mix.checkable import CHECKABLE, TOPIC_WORDS, compose, exact_grade
from hornbook.evals.skill_mix.protocol import Combination, Piece
from hornbook.evals.skill_mix.score import marks
from hornbook.evals.skill_mix.skills import Skill
from hornbook.theory.arithmetic.lines import Alphabet, Lines

TRAINED_CATEGORIES = ("literary", "rhetorical")
"""The paper trains on these and holds the others out."""
_NOUNS = sorted({noun for nouns in TOPIC_WORDS.values() for noun in nouns}, key=len, reverse=True)
_CUT = re.compile(rf"(\b(?:{'|'.join(_NOUNS)})(?=s?\b)|; |\.$)")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Skills by category and topics at random, in training and held out of it."""

    skills: tuple[Skill, ...]
    held_skills: tuple[Skill, ...]
    topics: tuple[str, ...]
    held_topics: tuple[str, ...]

    @property
    def all_skills(self) -> tuple[Skill, ...]:
        return (*self.skills, *self.held_skills)

    @property
    def all_topics(self) -> tuple[str, ...]:
        return (*self.topics, *self.held_topics)


def split(*, seed: int, categories: Sequence[str] = TRAINED_CATEGORIES) -> Split:
    """The checkable skills of `categories` for training and the others held out; topics half and half.

    Raises:
        HornbookError: one side would have fewer than five skills.
    """
    skills = [item.skill for item in CHECKABLE.values()]
    inside = tuple(skill for skill in skills if skill.category in categories)
    outside = tuple(skill for skill in skills if skill.category not in categories)
    if min(len(inside), len(outside)) < 5:
        raise HornbookError(
            f"The categories {', '.join(categories)} leave {len(inside)} skills in training and "
            f"{len(outside)} outside; accepted are at least five on each side."
        )
    topics = sorted(TOPIC_WORDS)
    Random(f"topics {seed}").shuffle(topics)
    half = len(topics) // 2
    return Split(
        skills=inside,
        held_skills=outside,
        topics=tuple(sorted(topics[:half])),
        held_topics=tuple(sorted(topics[half:])),
    )


def clauses(text: str, names: Sequence[str]) -> list[tuple[str, str]] | None:
    """A text cut at its semicolons into a beginning, named "", and the clauses of its skills in order.

    Each skill gets the shortest run of clauses that shows it; what is left belongs to the last. None where
    some skill is not shown in its turn: such a text cannot be noted, and is not learned from.
    """
    rows = text.split("; ")
    made, at = [("", rows[0])], 1
    for name in names:
        end = next(
            (e for e in range(at + 1, len(rows) + 1) if CHECKABLE[name].shows("; ".join(rows[at:e]))), None
        )
        if end is None:
            return None
        made.append((name, "; ".join(rows[at:end])))
        at = end
    if at < len(rows):
        made[-1] = (made[-1][0], "; ".join([made[-1][1], *rows[at:]]))
    return made


def cut(text: str) -> list[str]:
    """The tokens of a text: nouns of topics, semicolons, the full stop, all between. Joined they are it."""
    return [part for part in _CUT.split(text) if part]


def _alphabet() -> Alphabet:
    pieces = {"; ", "."}
    for name, item in CHECKABLE.items():
        for clause in item.clauses:
            for a, b, c in (_NOUNS[:3], _NOUNS[3:6]):
                text = f"The {a} stood beside the {b}; {clause.format(a=a, b=b, c=c)}."
                pieces |= set(cut(text))
        pieces.add(f"<{name}>")
    return Alphabet(sorted({*pieces, *_NOUNS, *(f"#{topic}" for topic in TOPIC_WORDS), ":", "?"}))


ALPHABET = _alphabet()
"""Stretches of text, nouns, a note for each skill, a sign for each topic."""


def in_order(clause: str, topic: str) -> str:
    """A clause with its nouns replaced by the first, second, ... noun of the topic, as they first occur."""
    names: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        if found[0] not in TOPIC_WORDS[topic]:
            return found[0]
        return names.setdefault(found[0], TOPIC_WORDS[topic][len(names)])

    return _CUT.sub(name, clause)


def line(task: Combination, text: str) -> tuple[list[str], list[str]] | None:
    """(prompt, answer) in tokens; None where the text cannot be noted."""
    found = clauses(text, [skill.name for skill in task.skills])
    if found is None:
        return None
    answer = cut(in_order(found[0][1], task.topic))
    for name, clause in found[1:]:
        answer += ["; ", f"<{name}>", *cut(in_order(clause, task.topic))]
    prompt = [f"#{task.topic}", *(f"<{skill.name}>" for skill in task.skills), ":"]
    return prompt, [*answer, "\n"]


def recital(names: Sequence[str], topic: str) -> tuple[list[str], list[str]]:
    """(prompt, answer) of a list of skills said again, each behind a semicolon, and no text at all."""
    notes = [f"<{name}>" for name in names]
    return [f"#{topic}", *notes, "?"], [part for note in notes for part in ("; ", note)] + [".", "\n"]


def as_lines(rows: Sequence[tuple[list[str], list[str]]]) -> Lines:
    """Prompts and answers as lines to train on or to be answered."""
    coded = [ALPHABET.encode([*prompt, *answer]) for prompt, answer in rows]
    length = np.array([len(row) for row in coded])
    tokens = np.full((len(rows), int(length.max())), ALPHABET.end, np.uint8)
    for place, row in zip(tokens, coded, strict=True):
        place[: len(row)] = row
    return Lines(
        tokens=tokens,
        prompt=np.array([len(prompt) for prompt, _ in rows]),
        length=length,
        cell=np.zeros((len(rows), 2), np.uint8),
        alphabet=ALPHABET,
    )


def text_of(tokens: NDArray[np.uint8]) -> str:
    """What a student wrote, without its notes."""
    known = [ALPHABET.symbols[int(t)] if t < len(ALPHABET) else "\ufffd" for t in tokens]
    if "\n" in known:
        known = known[: known.index("\n")]
    return "".join(part for part in known if not (part.startswith("<") and part.endswith(">")))


def questions(tasks: Sequence[Combination]) -> Lines:
    """Combinations to be answered; the reference behind each prompt only says how long an answer may be."""
    rows = []
    for task in tasks:
        found = line(task, compose(task, Random(task.id)))
        assert found is not None
        rows.append(found)
    return as_lines(rows)


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Of one text: full marks (all skills, topic, sense and length), all skills, and the skill fraction."""

    full: float
    all_skills: float
    fraction: float


def graded(task: Combination, text: str) -> Marks:
    """A text graded by programs, as `protocol.py` grades; a skill that it names has no point."""
    points = exact_grade(Piece(task=task, generation=0, text=text)).points
    assert points is not None
    full, every, fraction = marks(points)
    return Marks(full=full, all_skills=every, fraction=fraction)
