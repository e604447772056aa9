"""What a small model can answer at once, what it can with steps, and what it merely knows by heart.

"Sparks of Artificial General Intelligence" (Bubeck et al. 2023) finds that a model which writes token by
token fails where an answer needs a computation that it has not written down (section 8), and tells
understanding from memory by changing the numbers of a question (section 4). Two tasks make both visible in
models trained from nothing in seconds:

    sum        7*4+8*8=       92            or 28+64#92
    template   2:14:37=       51            one rule a template, taught with few number pairs or with all
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hornbook.errors import HornbookError
from hornbook.theory.arithmetic.lines import Alphabet, Lines

Kind = Literal["sum", "template"]
SIGNS = Alphabet(("*", "+", "=", ":", "#"))
RULES: tuple[Callable[[int, int], int], ...] = (
    lambda a, b: a + b,
    lambda a, b: abs(a - b),
    lambda a, b: max(a, b),
    lambda a, b: min(a, b),
    lambda a, b: 2 * a,
    lambda a, b: b + 10,
)
"""Of the templates: what is done with the two numbers of a story."""

_HELD_OUT = 8
"""One in so many combinations of numbers is kept out of training, by the combination alone."""


@dataclass(frozen=True, kw_only=True)
class Drill:
    """One way to teach a task.

    steps: the answer is written behind its steps. pairs: of templates, the number pairs that each is taught
    with, 0 for all.
    """

    kind: Kind
    steps: bool = False
    pairs: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise HornbookError(f"kind is {self.kind!r}; accepted are {', '.join(get_args(Kind))}.")
        if self.steps and self.kind == "template":
            raise HornbookError("a template's answer has no steps.")
        if self.pairs < 0:
            raise HornbookError(f"pairs is {self.pairs}; accepted is 0 (all) or a count.")

    def training(self, count: int, rng: np.random.Generator) -> Lines:
        """Lines to train on."""
        rows: list[tuple[int, str, str]] = []
        while len(rows) < count:
            group, numbers = self._draw(rng)
            if self.kind == "template" and self.pairs:
                numbers = _known_pair(group, int(rng.integers(self.pairs)))
            elif held_out(numbers):
                continue
            rows.append((group, *self.write(group, numbers)))
        return _lines(rows)

    def exam(self, each: int, rng: np.random.Generator, *, known: bool = False) -> Lines:
        """`each` lines of every group, of numbers that training never held.

        known: of templates, the pairs that training did hold, for the same number of questions.
        """
        rows = []
        for group in self.groups():
            found = 0
            while found < each:
                _, numbers = self._draw(rng, group)
                if known and self.kind == "template":
                    numbers = _known_pair(group, found % max(1, self.pairs))
                elif not held_out(numbers):
                    continue
                rows.append((group, *self.write(group, numbers)))
                found += 1
        return _lines(rows)

    def groups(self) -> Sequence[int]:
        """What scores are told apart by: sums with factors up to 4 and from 5 to 9; the templates."""
        return (0, 1) if self.kind == "sum" else range(len(RULES))

    def _draw(self, rng: np.random.Generator, group: int | None = None) -> tuple[int, list[int]]:
        if self.kind == "sum":  # group 0: factors up to 4, group 1: from 5 to 9
            if group is None:
                numbers = rng.integers(0, 10, 4).tolist()
                return int(max(numbers) > 4), numbers
            return group, rng.integers(5 * group, 5 * group + 5, 4).tolist()
        if group is None:
            group = int(rng.choice(list(self.groups())))
        return group, rng.integers(10, 100, 2).tolist()

    def write(self, group: int, numbers: Sequence[int]) -> tuple[str, str]:
        """(prompt, answer) of one line."""
        if self.kind == "sum":
            a, b, c, d = numbers
            steps = f"{a * b}+{c * d}#" if self.steps else ""
            return f"{a}*{b}+{c}*{d}=", f"{steps}{a * b + c * d}"
        a, b = numbers
        return f"{group}:{a}:{b}=", str(RULES[group](a, b))


def held_out(numbers: Sequence[int]) -> bool:
    """Whether a combination of numbers is kept out of training."""
    value = 0
    for number in numbers:
        value = (value * 31 + number + 17) % 10_007
    return value % _HELD_OUT == 0


def _known_pair(group: int, place: int) -> list[int]:
    """The `place`-th pair of numbers that a template is taught with: never one of the exam's."""
    rng = np.random.default_rng([group, place])
    while True:
        numbers: list[int] = rng.integers(10, 100, 2).tolist()
        if not held_out(numbers):
            return numbers


def _lines(rows: Sequence[tuple[int, str, str]]) -> Lines:
    texts = [prompt + answer for _, prompt, answer in rows]
    width = max(map(len, texts)) + 1
    tokens: NDArray[np.uint8] = np.full((len(rows), width), SIGNS.end, np.uint8)
    for line, text in zip(tokens, texts):
        line[: len(text)] = SIGNS.encode(text)
    groups = np.array([group for group, _, _ in rows], np.uint8)
    return Lines(
        tokens=tokens,
        prompt=np.array([len(prompt) for _, prompt, _ in rows], np.int64),
        length=np.array([len(text) + 1 for text in texts], np.int64),
        cell=np.stack([groups, groups], 1),
        alphabet=SIGNS,
    )
