"""Function exercises: signature and docstring with examples, then the body (phi-1, CodeExercises).

The function name constrains the exercise, as in phi-1. A plan is a chain of one to three operations; the
examples in the docstring are computed from the plan, never guessed, and the body is one line an operation.
"""

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from hornbook.synth.phrase import pick, weighted
from hornbook.synth.primitives import ARGUMENT, BY_NAME, Composition, compositions, meaning
from hornbook.synth.stories import meta, rng_for

VERSION = "exercises-2"
SOURCE = "synth/exercises"
_LENGTHS = ((1, 0.2), (2, 0.6), (3, 0.2))
_LEADS = ("{steps}.", "Given {thing}, {steps}.", "Take {thing} and {steps}.", "Return the result: {steps}.")
_THINGS = {"numbers": "a list of numbers", "number": "a number", "words": "a list of words", "text": "a text"}
_TEXT_WORDS = tuple(
    sorted({"a", "cat", "sun", "map", "tree", "bird", "apple", "moon", "river", "stone", "garden", "lamp"})
)


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """`prompt` (signature and docstring) and `body` make the solution; `cases` are hidden tests."""

    name: str
    composition: Composition
    prompt: str
    body: str
    cases: tuple[tuple[Any, Any], ...]

    @property
    def solution(self) -> str:
        return self.prompt + self.body


def draw_value(kind: str, rng: Random) -> Any:
    """A small input of the given kind."""
    if kind == "number":
        return int(rng.random() * 30)
    if kind == "numbers":
        return [int(rng.random() * 33) - 8 for _ in range(2 + int(rng.random() * 5))]
    words = [pick(rng, _TEXT_WORDS) for _ in range(1 + int(rng.random() * 4))]
    return words if kind == "words" else " ".join(words)


def write_exercise(seed: int, index: int, *, held_out: bool = False, constrained: bool = True) -> Exercise:
    """Exercise number `index` of the sample `seed`; held-out ones chain operations as training never does.

    constrained: the function's name is drawn, as in phi-1. False: it is left to a teacher who thinks of a
    fifth of all names, and of the first of those most often.
    """
    rng = rng_for(VERSION, seed, index, held_out)
    length = weighted(rng, _LENGTHS[1:] if held_out else _LENGTHS)
    if constrained:
        return compose(draw_composition(rng, length, held_out), rng)
    favourites = _favourites(length, held_out)
    while True:
        # The logarithm of the rank is uniform: Zipf's law with exponent 1.
        composition = favourites[int(len(favourites) ** rng.random()) - 1]
        if every_step_matters(composition):
            return compose(composition, rng)


@cache
def _favourites(length: int, held_out: bool) -> tuple[Composition, ...]:
    """A fifth of the compositions, in the order of a stable hash."""
    known = compositions(length, held_out)
    ordered = sorted(known, key=lambda chain: zlib.crc32(b"favourite " + ">".join(chain).encode()))
    return tuple(ordered[: max(1, len(ordered) // 5)])


def draw_composition(rng: Random, length: int, held_out: bool) -> Composition:
    """A chain in which every operation changes some result (not: keep positive, then drop the sign)."""
    while True:
        composition = pick(rng, compositions(length, held_out))
        if every_step_matters(composition):
            return composition


@cache
def every_step_matters(composition: Composition) -> bool:
    """Whether no operation can be left out without changing some of forty results."""
    rng = Random(" ".join(composition))
    values = [draw_value(BY_NAME[composition[0]].takes, rng) for _ in range(40)]
    whole = [meaning(composition, value) for value in values]
    if all(result == whole[0] for result in whole):
        return False
    for at in range(len(composition)):
        shorter = composition[:at] + composition[at + 1 :]
        fits = all(BY_NAME[a].gives == BY_NAME[b].takes for a, b in itertools.pairwise(shorter))
        if not shorter or not fits or BY_NAME[shorter[0]].takes != BY_NAME[composition[0]].takes:
            continue
        if [meaning(shorter, value) for value in values] == whole:
            return False
    return True


def compose(composition: Composition, rng: Random, *, examples: int = 2, cases: int = 6) -> Exercise:
    """Word one composition."""
    first = BY_NAME[composition[0]]
    argument = ARGUMENT[first.takes]
    name = "_then_".join(composition)
    steps = ", then ".join(BY_NAME[step].says for step in composition)
    lead = pick(rng, _LEADS).format(steps=steps, thing=_THINGS[first.takes])
    values: list[Any] = []
    while len(values) < examples + cases:
        value = draw_value(first.takes, rng)
        if value not in values:
            values.append(value)
    shown = "".join(
        f"    >>> {name}({value!r})\n    {meaning(composition, value)!r}\n" for value in values[:examples]
    )
    prompt = f'def {name}({argument}):\n    """{lead[0].upper()}{lead[1:]}\n\n{shown}    """\n'
    lines = []
    variable = argument
    for step in composition:
        lines.append(f"    result = {BY_NAME[step].line.format(v=variable)}")
        variable = "result"
    body = "\n".join([*lines, "    return result"])
    hidden = tuple((value, meaning(composition, value)) for value in values[examples:])
    return Exercise(name=name, composition=composition, prompt=prompt, body=body, cases=hidden)


def exercise_rows(
    seed: int, rows: int, *, start: int = 0, held_out: bool = False, constrained: bool = True
) -> Iterator[dict[str, str]]:
    """Rows of a documents corpus; `text` is the whole function."""
    for index in range(start, rows):
        exercise = write_exercise(seed, index, held_out=held_out, constrained=constrained)
        yield {
            "id": f"exercise-{'test' if held_out else 'train'}-{seed}-{index}",
            "text": exercise.solution,
            "source": SOURCE,
            "meta": meta(
                VERSION,
                seed,
                index,
                name=exercise.name,
                composition="|".join(exercise.composition),
                prompt=exercise.prompt,
                cases=[list(case) for case in exercise.cases],
            ),
        }
