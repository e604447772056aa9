"""Questions of mathematics whose skills are known: the world in which MATH^2 is measured against truth.

Sixteen skills, each a phrase with a number to plug in, a small constant and an exact solver. A question of
two skills hands the result of the first to the second, so that neither can be left out. Questions are in
plain words (for a teacher, an annotator, a language model); `students.py` teaches small decoders
to answer them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb, gcd, lcm
from random import Random
from typing import Literal

from hornbook.errors import HornbookError

LARGEST = 99
"""No result is larger, so that every number can be one token."""
MOST_TRIES = 1_000


@dataclass(frozen=True, kw_only=True)
class MathSkill:
    """One skill.

    Attributes:
        phrases: what is asked for, as a noun phrase with {n} (the number plugged in) and {c}.
        brief: the operation as a worked solution writes it, one word.
        domain: numbers that may be plugged in; constants: choices for {c}.
        solve: (n, c) -> the result.
    """

    name: str
    subject: str
    phrases: tuple[str, ...]
    brief: str
    domain: range
    constants: tuple[int, ...]
    solve: Callable[[int, int], int]

    def phrase(self, number: int | str, constant: int, which: int = 0) -> str:
        """The noun phrase with its numbers; `number` may be a name such as N."""
        return self.phrases[which % len(self.phrases)].format(n=number, c=constant)

    def line(self, number: int, constant: int) -> str:
        """One line of a worked solution: `gcd 12 18 = 6`."""
        return f"{self.brief} {number} {constant} = {self.solve(number, constant)}"


def _digit_sum(n: int, base: int) -> int:
    total = 0
    while n:
        total += n % base
        n //= base
    return total


def _divisors(n: int) -> int:
    return sum(n % k == 0 for k in range(1, n + 1))


def _skill(
    name: str,
    subject: str,
    brief: str,
    solve: Callable[[int, int], int],
    constants: tuple[int, ...],
    *phrases: str,
    domain: range = range(2, 31),
) -> MathSkill:
    return MathSkill(
        name=name,
        subject=subject,
        brief=brief,
        solve=solve,
        constants=constants,
        phrases=phrases,
        domain=domain,
    )


MATH_SKILLS = (
    _skill(
        "greatest_common_divisors",
        "number theory",
        "gcd",
        gcd,
        (12, 18, 20),
        "the greatest common divisor of {n} and {c}",
        "the largest number that divides both {n} and {c}",
    ),
    _skill(
        "remainders",
        "number theory",
        "rem",
        lambda n, c: n % c,
        (5, 7, 9),
        "the remainder when {n} is divided by {c}",
        "what is left over when {n} is divided by {c}",
    ),
    _skill(
        "base_conversion",
        "number theory",
        "base",
        _digit_sum,
        (2, 3, 5),
        "the sum of the digits of {n} written in base {c}",
        "the digit sum of {n} in base {c}",
    ),
    _skill(
        "units_digits",
        "number theory",
        "units",
        lambda n, c: pow(c, n, 10),
        (2, 3, 7),
        "the units digit of {c} to the power {n}",
        "the last digit of {c} to the power {n}",
    ),
    _skill(
        "least_common_multiples",
        "number theory",
        "lcm",
        lambda n, c: lcm(n, c),
        (2, 3),
        "the least common multiple of {n} and {c}",
        "the smallest number that both {n} and {c} divide",
    ),
    _skill(
        "divisor_counts",
        "number theory",
        "tau",
        lambda n, c: _divisors(n * c),
        (2, 3, 5),
        "the number of positive divisors of {c} times {n}",
        "how many positive divisors the product of {c} and {n} has",
    ),
    _skill(
        "arithmetic_sequences",
        "algebra",
        "seq",
        lambda n, c: c + 2 * (n - 1),
        (1, 4, 7),
        "term number {n} of the arithmetic sequence with first term {c} and difference two",
        "term {n} of the sequence that begins at {c} and grows by two",
    ),
    _skill(
        "linear_equations",
        "algebra",
        "lin",
        lambda n, c: 2 * n + c,
        (1, 5, 8),
        "the x for which half of x - {c} equals {n}",
        "the solution x of the equation x - {c} = twice {n}",
    ),
    _skill(
        "quadratic_equations",
        "algebra",
        "quad",
        max,
        (6, 11, 17),
        "the larger root of x ^ 2 - ( {n} + {c} ) x + {n} * {c} = 0",
        "the larger zero of the quadratic ( x - {n} ) ( x - {c} )",
    ),
    _skill(
        "function_composition",
        "algebra",
        "fog",
        lambda n, c: 3 * (n - c) + 1,
        (1, 2, 3),
        "f ( g ( {n} ) ) where f triples and adds one and g subtracts {c}",
        "the value at {n} of f after g where g subtracts {c} and f triples and adds one",
        domain=range(4, 31),
    ),
    _skill(
        "percentages",
        "prealgebra",
        "pct",
        lambda n, c: n * c // 10,
        (10, 20, 30),
        "{c} percent of ten times {n}",
        "the discount of {c} percent on ten tickets at {n} dollars each",
    ),
    _skill(
        "distances",
        "prealgebra",
        "dist",
        lambda n, c: abs(n - c),
        (15, 20, 25),
        "the distance between {n} and {c} on the number line",
        "how far apart {n} and {c} lie on the number line",
    ),
    _skill(
        "perimeters",
        "geometry",
        "peri",
        lambda n, c: 4 * n + 2 * c,
        (1, 3, 5),
        "the perimeter of a rectangle with width {n} and length {c} more",
        "the way once around a rectangle {n} wide and {c} longer than wide",
        domain=range(2, 21),
    ),
    _skill(
        "areas",
        "geometry",
        "area",
        lambda n, c: n * c // 2,
        (2, 4, 6),
        "the area of a right triangle with legs {n} and {c}",
        "the area enclosed by a right triangle whose legs measure {n} and {c}",
    ),
    _skill(
        "combinations",
        "counting and probability",
        "choose",
        lambda n, c: comb(n, 2) + c,
        (1, 2, 3),
        "the number of ways to choose two of {n} people plus {c}",
        "the count of handshakes among {n} people plus {c}",
        domain=range(2, 14),
    ),
    _skill(
        "probabilities",
        "counting and probability",
        "prob",
        lambda n, c: n // gcd(n, n + c),
        (4, 6, 10),
        "the numerator in lowest terms of the probability of red with {n} red and {c} blue balls",
        "the numerator of the reduced probability that a ball is red among {n} red and {c} blue ones",
    ),
)
SKILL_OF = {skill.name: skill for skill in MATH_SKILLS}


@dataclass(frozen=True, kw_only=True)
class MathQuestion:
    """A question, its answer and a worked solution.

    parts: (skill, number, constant, result) in order, the number of the second the result of the first.
    """

    text: str
    answer: str
    solution: str
    skills: tuple[str, ...]
    parts: tuple[tuple[str, int, int, int], ...]


Form = Literal["plain", "named", "given"]
"""How a question of one skill is put: "What is gcd(12, 18)?", "Let N be gcd(12, 18). What is N?", "Let N be
12. What is gcd(N, 18)?"; the last two are worded as the halves of a question of two skills are."""


def single(skill: MathSkill, rng: Random, form: Form = "plain") -> MathQuestion:
    """A question of one skill, number, constant and wording drawn."""
    return asked_of(skill, rng.choice(skill.domain), rng.choice(skill.constants), rng, form)


def asked_of(skill: MathSkill, number: int, constant: int, rng: Random, form: Form = "plain") -> MathQuestion:
    """A question of one skill with these numbers."""
    phrase = skill.phrase("N" if form == "given" else number, constant, rng.randrange(len(skill.phrases)))
    result = skill.solve(number, constant)
    texts = {
        "plain": _begun(rng, phrase),
        "named": f"Let N be {phrase} . {_begun(rng, 'N')}",
        "given": f"Let N be {number} . {_begun(rng, phrase)}",
    }
    return MathQuestion(
        text=texts[form],
        answer=str(result),
        solution=skill.line(number, constant),
        skills=(skill.name,),
        parts=((skill.name, number, constant, result),),
    )


def pair(first: MathSkill, second: MathSkill, rng: Random) -> MathQuestion:
    """A question that needs both skills: the result N of the first is plugged into the second.

    Raises:
        HornbookError: no result of the first lies in the domain of the second.
    """
    for _ in range(MOST_TRIES):
        number, constant = rng.choice(first.domain), rng.choice(first.constants)
        middle = first.solve(number, constant)
        if middle in second.domain:
            break
    else:
        raise HornbookError(f"No result of {first.name} can be plugged into {second.name}.")
    other = rng.choice(second.constants)
    result = second.solve(middle, other)
    opening = first.phrase(number, constant, rng.randrange(len(first.phrases)))
    closing = second.phrase("N", other, rng.randrange(len(second.phrases)))
    return MathQuestion(
        text=f"Let N be {opening} . {_begun(rng, closing)}",
        answer=str(result),
        solution=f"{first.line(number, constant)} ; {second.line(middle, other)}",
        skills=(first.name, second.name),
        parts=((first.name, number, constant, middle), (second.name, middle, other, result)),
    )


def _begun(rng: Random, phrase: str) -> str:
    begin, end = (
        ("Say", ".")
        if phrase.startswith(("how ", "what "))
        else rng.choice((("Find", "."), ("What is", "?")))
    )
    return f"{begin} {phrase} {end}"


def chains(first: MathSkill, second: MathSkill) -> int:
    """How many (number, constant) of the first have a result that can be plugged into the second."""
    return sum(first.solve(n, c) in second.domain for n in first.domain for c in first.constants)


def skills_named(names: Sequence[str]) -> tuple[MathSkill, ...]:
    """Skills by name.

    Raises:
        HornbookError: a name that is none of them.
    """
    unknown = [name for name in names if name not in SKILL_OF]
    if unknown:
        raise HornbookError(f"There is no skill {unknown[0]!r}; accepted are {', '.join(SKILL_OF)}.")
    return tuple(SKILL_OF[name] for name in names)
