# ruff: noqa: E501 - one operation a line
"""Operations that exercises are composed of: words, program line and meaning of each. Data and lookups only."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

HELD_OUT_EVERY = 5
"""One composition of two or three operations in five is for testing only."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`takes` and `gives` are numbers (list of ints), number, words (list of str) or text.

    `name` goes into function names, `says` into docstrings, `line` computes it from `{v}`; `apply` is what
    it means, written apart from `line` so that one checks the other.
    """

    name: str
    takes: str
    gives: str
    says: str
    line: str
    apply: Callable[[Any], Any]


def _op(name: str, types: str, says: str, line: str, apply: Callable[[Any], Any]) -> Operation:
    takes, gives = types.split(">")
    return Operation(name=name, takes=takes, gives=gives, says=says, line=line, apply=apply)


def _running(values: list[int]) -> list[int]:
    out: list[int] = []
    for value in values:
        out.append(value + (out[-1] if out else 0))
    return out


def _unique(values: list[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


OPERATIONS = (
    _op(
        "double",
        "numbers>numbers",
        "double each number",
        "[2 * n for n in {v}]",
        lambda v: [n + n for n in v],
    ),
    _op(
        "square", "numbers>numbers", "square each number", "[n * n for n in {v}]", lambda v: [n**2 for n in v]
    ),
    _op(
        "add_one",
        "numbers>numbers",
        "add 1 to each number",
        "[n + 1 for n in {v}]",
        lambda v: [1 + n for n in v],
    ),
    _op(
        "negate",
        "numbers>numbers",
        "change the sign of each number",
        "[-n for n in {v}]",
        lambda v: [0 - n for n in v],
    ),
    _op(
        "keep_even",
        "numbers>numbers",
        "keep the even numbers",
        "[n for n in {v} if n % 2 == 0]",
        lambda v: [n for n in v if not n & 1],
    ),
    _op(
        "keep_odd",
        "numbers>numbers",
        "keep the odd numbers",
        "[n for n in {v} if n % 2 == 1]",
        lambda v: [n for n in v if n & 1],
    ),
    _op(
        "keep_positive",
        "numbers>numbers",
        "keep the numbers above 0",
        "[n for n in {v} if n > 0]",
        lambda v: [n for n in v if not n <= 0],
    ),
    _op(
        "keep_big",
        "numbers>numbers",
        "keep the numbers above 10",
        "[n for n in {v} if n > 10]",
        lambda v: [n for n in v if n >= 11],
    ),
    _op(
        "clamp",
        "numbers>numbers",
        "replace numbers above 9 by 9",
        "[min(n, 9) for n in {v}]",
        lambda v: [9 if n > 9 else n for n in v],
    ),
    _op(
        "absolute",
        "numbers>numbers",
        "drop the sign of each number",
        "[abs(n) for n in {v}]",
        lambda v: [-n if n < 0 else n for n in v],
    ),
    _op(
        "sort", "numbers>numbers", "sort the numbers", "sorted({v})", lambda v: sorted(v, reverse=True)[::-1]
    ),
    _op("reverse", "numbers>numbers", "reverse the list", "{v}[::-1]", lambda v: list(reversed(v))),
    _op("unique", "numbers>numbers", "drop repeated numbers", "list(dict.fromkeys({v}))", _unique),
    _op(
        "running_total",
        "numbers>numbers",
        "take running totals",
        "[sum({v}[:i + 1]) for i in range(len({v}))]",
        _running,
    ),
    _op(
        "first_three",
        "numbers>numbers",
        "keep the first three",
        "{v}[:3]",
        lambda v: [n for i, n in enumerate(v) if i < 3],
    ),
    _op(
        "drop_first",
        "numbers>numbers",
        "drop the first one",
        "{v}[1:]",
        lambda v: [n for i, n in enumerate(v) if i],
    ),
    _op("add_up", "numbers>number", "add them up", "sum({v})", lambda v: _running([0, *v])[-1]),
    _op("count", "numbers>number", "count them", "len({v})", lambda v: len(v)),
    _op(
        "largest",
        "numbers>number",
        "take the largest, or 0",
        "max({v}, default=0)",
        lambda v: sorted(v)[-1] if v else 0,
    ),
    _op(
        "smallest",
        "numbers>number",
        "take the smallest, or 0",
        "min({v}, default=0)",
        lambda v: sorted(v)[0] if v else 0,
    ),
    _op(
        "count_even",
        "numbers>number",
        "count the even numbers",
        "sum(n % 2 == 0 for n in {v})",
        lambda v: len([n for n in v if not n & 1]),
    ),
    _op(
        "spread",
        "numbers>number",
        "subtract the smallest from the largest, or give 0",
        "max({v}, default=0) - min({v}, default=0)",
        lambda v: sorted(v)[-1] - sorted(v)[0] if v else 0,
    ),
    _op("twice", "number>number", "multiply by 2", "{v} * 2", lambda v: v + v),
    _op("plus_five", "number>number", "add 5", "{v} + 5", lambda v: 5 + v),
    _op("last_digit", "number>number", "take the last digit", "abs({v}) % 10", lambda v: int(str(v)[-1])),
    _op(
        "up_to",
        "number>numbers",
        "list the numbers from 1 up to it",
        "list(range(1, {v} + 1))",
        lambda v: [n + 1 for n in range(max(v, 0))],
    ),
    _op(
        "digits",
        "number>numbers",
        "list its digits",
        "[int(d) for d in str(abs({v}))]",
        lambda v: [ord(d) - 48 for d in str(v) if d != "-"],
    ),
    _op(
        "split", "text>words", "split it into words", "{v}.split()", lambda v: [w for w in v.split(" ") if w]
    ),
    _op("upper", "text>text", "write it in capitals", "{v}.upper()", lambda v: "".join(c.upper() for c in v)),
    _op("reverse_text", "text>text", "write it backwards", "{v}[::-1]", lambda v: "".join(reversed(v))),
    _op(
        "drop_vowels",
        "text>text",
        "drop the vowels",
        "''.join(c for c in {v} if c not in 'aeiou')",
        lambda v: "".join(c for c in v if c not in set("aeiou")),
    ),
    _op("length", "text>number", "count its letters and spaces", "len({v})", lambda v: sum(1 for _ in v)),
    _op(
        "count_a",
        "text>number",
        "count the letter a",
        "{v}.count('a')",
        lambda v: len([c for c in v if c == "a"]),
    ),
    _op(
        "lengths",
        "words>numbers",
        "take the length of each word",
        "[len(w) for w in {v}]",
        lambda v: [sum(1 for _ in w) for w in v],
    ),
    _op(
        "keep_long",
        "words>words",
        "keep the words of more than 3 letters",
        "[w for w in {v} if len(w) > 3]",
        lambda v: [w for w in v if not len(w) <= 3],
    ),
    _op(
        "sort_words", "words>words", "sort the words", "sorted({v})", lambda v: sorted(v, reverse=True)[::-1]
    ),
    _op(
        "join",
        "words>text",
        "join the words with dashes",
        "'-'.join({v})",
        lambda v: "".join(f"-{w}" for w in v)[1:],
    ),
    _op("count_words", "words>number", "count the words", "len({v})", lambda v: len(v)),
    _op(
        "initials",
        "words>text",
        "take the first letter of each word",
        "''.join(w[0] for w in {v})",
        lambda v: "".join(w[:1] for w in v),
    ),
)
BY_NAME = {operation.name: operation for operation in OPERATIONS}
ARGUMENT = {"numbers": "numbers", "number": "number", "words": "words", "text": "text"}
Composition = tuple[str, ...]


def is_held_out(composition: Composition) -> bool:
    """Whether a composition is for testing only. Single operations always stay in training."""
    return len(composition) > 1 and zlib.crc32(">".join(composition).encode()) % HELD_OUT_EVERY == 0


@cache
def compositions(length: int, held_out: bool) -> tuple[Composition, ...]:
    """All chains of `length` different operations whose types fit, on one side of the split."""
    chains: list[Composition] = [(operation.name,) for operation in OPERATIONS]
    for _ in range(length - 1):
        chains = [
            (*chain, operation.name)
            for chain in chains
            for operation in OPERATIONS
            if operation.takes == BY_NAME[chain[-1]].gives and operation.name not in chain
        ]
    return tuple(chain for chain in chains if is_held_out(chain) == held_out)


def meaning(composition: Composition, value: Any) -> Any:
    """What the composition gives for a value, by the operations' own meaning."""
    for name in composition:
        value = BY_NAME[name].apply(value)
    return value
