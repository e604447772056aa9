"""Answers that are the same, answers that are not, and answers meant to harm."""

import pytest

from hornbook.evals.math_answers import Comparer, expression, normal

SAME = [
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac12", r"\tfrac{2}{4}"),
    (r"\sqrt{8}", r"2\sqrt2"),
    (r"$x = 3$", "3"),
    ("1,000", "1000"),
    (r"12\text{ cm}", "12"),
    (r"90^\circ", "90"),
    (r"(1, \frac{3}{6})", r"\left(1, \frac12\right)"),
    (r"\frac{x+1}{2}", r"\frac{1}{2}x + \frac12"),
    (r"2\pi r", r"r\cdot 2\pi"),
    ("50\\%", "50"),
    (r"x^2-1", "(x-1)(x+1)"),
    (r"\text{Evelyn}", "evelyn"),
    ("[1,2)", "[1, 2)"),
    (r"y=2x+1", "y = 1+2x"),
]
OTHER = [
    ("1", "2"),
    (r"\frac{1}{2}", r"\frac{1}{3}"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", "(1,2,3)"),
    ("x+1", "x-1"),
    ("", ""),
    ("red", "blue"),
    (r"\sqrt{2}", "1.414"),
]


@pytest.fixture(scope="module")
def compare():
    with Comparer(seconds=20) as comparer:
        yield comparer


@pytest.mark.parametrize(("first", "second"), SAME)
def test_the_same(compare: Comparer, first: str, second: str) -> None:
    assert compare.same(first, second)
    assert compare.same(second, first)


@pytest.mark.parametrize(("first", "second"), OTHER)
def test_not_the_same(compare: Comparer, first: str, second: str) -> None:
    assert not compare.same(first, second)


def test_what_never_ends_is_killed_and_the_next_pair_is_compared() -> None:
    with Comparer(seconds=6) as compare:
        assert not compare.same("9^{9^{9^9}}", "9^{9^{9^8}}")
        assert compare.same("2+2", "4")
        assert compare.killed <= 1


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__",
        "x.diff",
        "open(1)",
        "lambda",
        "1 if x else 2",
        "x" * 1000,
        "a[0]",
        "exec",
    ],
)
def test_no_program_reaches_the_worker(text: str) -> None:
    told = expression(text)
    assert told is None or not any(
        word in told for word in ("_", "'", "import", "open", "lambda", "exec", "[", " if ")
    )


def test_normal_forms() -> None:
    assert normal(r"$\dfrac{1}{2}\text{ cm}$") == r"\frac{1}{2}"
    assert normal(r"\text{Yes}") == "yes"
    assert normal("12,345,678") == "12345678"
