"""Questions of two skills need both, and a program reads every question and every flaw put into one."""

from fractions import Fraction
from math import comb, isqrt
from random import Random

import pytest
from sympy import divisor_count, solve, symbols

from hornbook.errors import HornbookError
from hornbook.evals.math_squared.questions import MATH_SKILLS, SKILL_OF, chains, pair, single, skills_named
from hornbook.evals.math_squared.teacher import FLAWS, flawed, read


def test_the_solvers_agree_with_other_ways_to_solve():
    x = symbols("x")
    for n in range(4, 13):
        for c in (2, 3, 5):
            assert SKILL_OF["divisor_counts"].solve(n, c) == divisor_count(n * c)
            assert SKILL_OF["linear_equations"].solve(n, c) == solve((x - c) / 2 - n, x)[0]
            roots = solve(x**2 - (n + c) * x + n * c, x)
            assert SKILL_OF["quadratic_equations"].solve(n, c) == max(roots)
            assert SKILL_OF["probabilities"].solve(n, c) == Fraction(n, n + c).numerator
            assert SKILL_OF["units_digits"].solve(n, c) == int(str(c**n)[-1])
            assert SKILL_OF["combinations"].solve(n, c) == comb(n, 2) + c
            assert SKILL_OF["base_conversion"].solve(n, 2) == bin(n).count("1")
            assert isqrt(SKILL_OF["areas"].solve(n, 2 * n) * 1) == n  # half of a square of side sqrt(2) n


def test_every_result_is_a_number_of_two_digits_and_every_skill_has_partners():
    for skill in MATH_SKILLS:
        results = [skill.solve(n, c) for n in skill.domain for c in skill.constants]
        assert set(results) <= set(range(100)), skill.name
        assert sum(chains(skill, other) > 0 for other in MATH_SKILLS) > 12, skill.name


def test_a_pair_hands_the_first_result_to_the_second_and_is_read_as_it_was_made():
    rng = Random(1)
    for _ in range(300):
        first, second = rng.sample(MATH_SKILLS, 2)
        made = pair(first, second, rng)
        (_, n, c, middle), (_, plugged, other, result) = made.parts
        assert (first.solve(n, c), second.solve(middle, other)) == (plugged, result)
        assert " N " in f"{made.text.split(' . ', 1)[1]} "
        found = read(made.text)
        assert found.sound
        assert found.skills == (first.name, second.name)
        assert found.answer == int(made.answer)
        for flaw in FLAWS:
            assert read(flawed(made, flaw, rng)).flaws == (flaw,)


def test_single_questions_in_every_form_have_the_answer_of_their_skill():
    rng = Random(2)
    for skill in MATH_SKILLS:
        for form in ("plain", "named", "given"):
            made = single(skill, rng, form)
            [(name, n, c, result)] = made.parts
            assert name == skill.name
            assert skill.solve(n, c) == result == int(made.answer)
            assert made.solution.endswith(f"= {result}")
        assert read(single(skill, rng).text).skills == (skill.name,)


def test_what_cannot_be_chained_or_named_says_so():
    first = SKILL_OF["perimeters"]
    assert chains(first, SKILL_OF["combinations"]) == 1  # once round is 10 at least, and 13 the largest party
    with pytest.raises(HornbookError, match="accepted are"):
        skills_named(["perimeters", "alchemy"])
