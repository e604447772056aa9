"""Ways to write a multiplication or an addition down, and random problems so written (sections 2 and 3).

A problem's digits, carries and the signs stand side by side in one table; a format is a list of that table's
columns for given numbers of digits. All problems with the same numbers of digits are written in one gather.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hornbook.errors import HornbookError
from hornbook.theory.arithmetic.digits import (
    PER_LIMB,
    Limbs,
    add,
    check_digits,
    draw_numbers,
    fingerprint,
    length_of,
    multiply,
    to_digits,
)
from hornbook.theory.arithmetic.lines import SIGNS, Integers, Lines, Tokens, join

Operation = Literal["multiplication", "addition"]
Part = Literal["train", "test"]
Format = Literal["basic", "reversed", "padded", "padded_reversed", "scratchpad", "carries"]

_CHUNK_BYTES = 6_000_000  # of tables and lines made at once: what the cache of a core holds
_HELD_OUT = 16  # one pair in so many belongs to the test
_FEW_PAIRS = 1_000  # cells of at most so many pairs are tables to know: nothing of them is held out

Columns = list[int]
Plan = tuple[NDArray[np.intp], int]


@dataclass(frozen=True, kw_only=True)
class Problems:
    """n problems: operands and result as limbs, and digits of the operands, (n, 2)."""

    operation: Operation
    a: Limbs
    b: Limbs
    c: Limbs
    cell: Tokens


def draw_problems(operation: Operation, cell: NDArray[np.integer], rng: np.random.Generator) -> Problems:
    """One problem for each row of `cell` (n, 2), its operands uniform among numbers of so many digits."""
    if operation not in get_args(Operation):
        raise HornbookError(f"operation is {operation!r}; accepted are {', '.join(get_args(Operation))}.")
    a, b = draw_numbers(cell[:, 0], rng), draw_numbers(cell[:, 1], rng)
    c = multiply(a, b) if operation == "multiplication" else add(a, b)
    return Problems(operation=operation, a=a, b=b, c=c, cell=cell.astype(np.uint8))


def held_out(problems: Problems) -> NDArray[np.bool_]:
    """(n,) whether a pair belongs to the test: a fixed sixteenth of every cell with over 1,000 pairs.

    It is decided by the pair alone, so training and test never meet, whatever was drawn.
    """
    marked: NDArray[np.bool_] = (fingerprint(problems.a, problems.b) % np.uint64(_HELD_OUT)) == 0
    marked &= has_test(problems.cell)
    return marked


def has_test(cell: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(n,) whether the cells (n, 2) are large enough to hold pairs out."""
    large: NDArray[np.bool_] = cell[:, 0] + cell[:, 1] > int(np.log10(_FEW_PAIRS))
    return large


def random_cells(n: int, digits: int, rng: np.random.Generator, *, joint: bool = False) -> Tokens:
    """(n, 2) numbers of digits, independent and uniform from 1 to `digits`; the same twice with `joint`."""
    check_digits(digits)
    cell = rng.integers(1, digits + 1, (n, 2), np.uint8)
    if joint:
        cell[:, 1] = cell[:, 0]
    return cell


def all_cells(digits: Sequence[int], each: int) -> Tokens:
    """(len(digits)^2 each, 2): every pair of these numbers of digits, `each` times in a row."""
    grid = np.array([(first, second) for first in digits for second in digits], np.uint8)
    return grid.repeat(each, axis=0)


def draw_lines(
    operation: Operation,
    form: Format,
    cell: NDArray[np.integer],
    rng: np.random.Generator,
    *,
    digits: int,
    part: Part = "train",
) -> Lines:
    """Random problems of the numbers of digits `cell` (n, 2), written in `form`.

    digits: padded formats fill operands up to it. part: "train" never draws a held-out pair, "test" draws
    only those (in cells that have any).

    Raises:
        HornbookError: an unknown format, or one that cannot write these numbers.
    """
    written = []
    chunk = _CHUNK_BYTES // (8 * digits + (2 * digits**2 if form in ("scratchpad", "carries") else 0) + 32)
    for first in range(0, max(1, len(cell)), chunk):
        problems = draw_part(operation, cell[first : first + chunk], rng, part)
        written.append(write(problems, form, digits=digits))
    return join(written)


def draw_part(
    operation: Operation, cell: NDArray[np.integer], rng: np.random.Generator, part: Part
) -> Problems:
    """Problems of which none is on the wrong side: those that are get drawn anew."""
    problems = draw_problems(operation, cell, rng)
    wanted = part == "test"
    wrong = np.flatnonzero((held_out(problems) != wanted) & has_test(cell))
    while len(wrong):
        again = draw_problems(operation, cell[wrong], rng)
        good = np.flatnonzero(held_out(again) == wanted)
        places = wrong[good]
        for old, new in ((problems.a, again.a), (problems.b, again.b), (problems.c, again.c)):
            for limb, redrawn in zip(old, new, strict=False):
                limb[places] = redrawn[good]
            for limb in old[len(new) :]:
                limb[places] = 0
        wrong = np.delete(wrong, good)
    return problems


class Table:
    """Where things stand in the table of digits: columns of a, b and c, the least significant first, of the
    carry out of each digit, and of the signs.

    starts: the first column of each of these five.
    """

    def __init__(self, starts: tuple[int, ...]) -> None:
        self.starts = starts

    def a(self, places: range) -> Columns:
        """Digits of the first operand at these places (0 is the units)."""
        return [self.starts[0] + place for place in places]

    def b(self, places: range) -> Columns:
        """Digits of the second operand."""
        return [self.starts[1] + place for place in places]

    def c(self, places: range) -> Columns:
        """Digits of the result."""
        return [self.starts[2] + place for place in places]

    def carry(self, place: int) -> Columns:
        """What is carried out of the digit at `place`."""
        return [self.starts[3] + place]

    def sign(self, symbols: str) -> Columns:
        """Fixed symbols."""
        return [self.starts[4] + SIGNS.ids[symbol] for symbol in symbols]


def forward(digits: int) -> range:
    """Places from the most significant of `digits` digits down to the units."""
    return range(digits - 1, -1, -1)


def plain_columns(
    table: Table, sign: str, sizes: tuple[int, int, int], *, reverse: bool
) -> tuple[Columns, Columns]:
    """a*b=c, or with the digits of c from the units upwards."""
    first, second, result = sizes
    prompt = [
        *table.a(forward(first)),
        *table.sign(sign),
        *table.b(forward(second)),
        *table.sign("="),
    ]
    return prompt, table.c(range(result) if reverse else forward(result))


def scratchpad_columns(
    table: Table,
    sizes: tuple[int, int, int],
    *,
    show_carry: bool = True,
    reversed_operands: bool = True,
    restate: bool = True,
) -> tuple[Columns, Columns]:
    """The recursive scratchpad of additions: each line finds one digit and writes down what is left to add.

    239+821= then ;32+28C1:0 ;2+8C0:60 ;C1:060 and #1060 (without the breaks). Only the fragment 239 + 821
    to 32 + 28 of the paper's grammar is known to us; the rest is our reading. show_carry: the carry after C.
    reversed_operands: what is left is written from the units upwards. restate: without it a line holds the
    carry and the digits so far alone.
    """
    first, second, result = sizes
    prompt, _ = plain_columns(table, "+", sizes, reverse=False)
    out: Columns = []
    for done in range(1, max(first, second) + 1):
        out += table.sign(";")
        if restate and done < max(first, second):
            left, right = range(done, first), range(done, second)
            if not reversed_operands:
                left, right = left[::-1], right[::-1]
            out += [*table.a(left), *table.sign("+"), *table.b(right)]
        if show_carry:
            out += [*table.sign("C"), *table.carry(done - 1)]
        out += [*table.sign(":"), *table.c(forward(done))]
    return prompt, [*out, *table.sign(";#"), *table.c(forward(result))]


@lru_cache(maxsize=65_536)
def _plan(operation: Operation, form: Format, starts: tuple[int, ...], sizes: tuple[int, int, int]) -> Plan:
    """The columns of a whole line for these numbers of digits, and how many of them are its prompt."""
    table = Table(starts)
    if form in ("scratchpad", "carries"):
        prompt, answer = scratchpad_columns(table, sizes, restate=form == "scratchpad")
    else:
        sign = "*" if operation == "multiplication" else "+"
        prompt, answer = plain_columns(table, sign, sizes, reverse=form.endswith("reversed"))
    return np.array([*prompt, *answer, *table.sign("\n")], np.intp), len(prompt)


def write(problems: Problems, form: Format, *, digits: int) -> Lines:
    """The problems as lines, each ended by the end token.

    "basic" a*b=c; "reversed" with c from the units upwards; "padded" with zeros to `digits` digits an operand
    and to the longest result; "padded_reversed"; for additions "scratchpad" (recursive) and "carries" (the
    same without restating what is left). Only padded formats show leading zeros.
    """
    check_digits(digits)
    if form not in get_args(Format):
        raise HornbookError(f"format is {form!r}; accepted are {', '.join(get_args(Format))}.")
    if form in ("scratchpad", "carries") and problems.operation != "addition":
        raise HornbookError(f"the format {form!r} is for additions; {problems.operation} has no such.")
    padded = form.startswith("padded")
    longest = int(problems.cell.max(initial=1))
    if padded and longest > digits:
        raise HornbookError(
            f"operands of {longest} digits do not fit the padded format of {digits}: it fixes the longest "
            "number. Raise digits, or take a format without padding."
        )
    widest = digits if padded else longest
    sheet, table = _sheet(problems, widest)
    if padded:
        result = 2 * digits if problems.operation == "multiplication" else digits + 1
        columns, given = _plan(problems.operation, form, table.starts, (digits, digits, result))
        tokens = sheet.take(columns, axis=1)
        prompt = np.full(len(tokens), given)
        length = np.full(len(tokens), len(columns))
    else:
        tokens, prompt, length = _ragged(problems, form, sheet, table, widest)
    return Lines(
        tokens=tokens,
        prompt=prompt,
        length=length,
        cell=problems.cell,
        alphabet=SIGNS,
        number="reversed" if form.endswith("reversed") else "forward",
        fixed=padded,
    )


def _ragged(
    problems: Problems, form: Format, sheet: NDArray[np.uint8], table: Table, longest: int
) -> tuple[Tokens, Integers, Integers]:
    """Tokens, prompt lengths and lengths; all problems of equal numbers of digits are written at once."""
    top = 2 * longest + 2
    kind = np.uint16 if (longest + 1) ** 2 * top < 2**16 else np.int64  # of 16 bits the sort is a radix sort
    key: NDArray[Any] = problems.cell[:, 0].astype(kind)
    for more, radix in ((problems.cell[:, 1], longest + 1), (length_of(problems.c), top)):
        key *= kind(radix)
        key += more
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=kind(0) if not len(key) else key[0] + kind(1)))
    counts = np.diff(starts, append=len(key))
    groups = key[starts].astype(np.int64)
    plans = [
        _plan(
            problems.operation,
            form,
            table.starts,
            (group // (top * (longest + 1)), group // top % (longest + 1), group % top),
        )
        for group in groups.tolist()
    ]
    lengths = np.array([len(columns) for columns, _ in plans], np.int64)
    sheet = sheet.take(order, axis=0)
    block = np.full((len(key), int(lengths.max(initial=1))), SIGNS.end, np.uint8)
    for (columns, _), start, count in zip(plans, starts.tolist(), counts.tolist(), strict=True):
        block[start : start + count, : len(columns)] = sheet[start : start + count].take(columns, axis=1)
    tokens = np.empty_like(block)
    tokens[order] = block
    prompt, length = np.empty((2, len(key)), np.int64)
    prompt[order] = np.repeat([given for _, given in plans], counts)
    length[order] = np.repeat(lengths, counts)
    return tokens, prompt, length


def _sheet(problems: Problems, digits: int) -> tuple[NDArray[np.uint8], Table]:
    """The table of digits (n, columns), wide enough for operands of `digits` digits, and its layout."""
    operand = PER_LIMB * -(-digits // PER_LIMB)
    addition = problems.operation == "addition"
    result = operand + PER_LIMB if addition else 2 * operand
    carries = operand if addition else 0
    signs = PER_LIMB * -(-len(SIGNS) // PER_LIMB)
    table = Table(tuple(np.cumsum([0, operand, operand, result, carries]).tolist()))
    sheet = np.zeros((len(problems.cell), table.starts[-1] + signs), np.uint8)
    for number, start in zip((problems.a, problems.b, problems.c), table.starts, strict=False):
        to_digits(number, sheet[:, start:])
    if carries:
        a, b, c = (sheet[:, start : start + carries] for start in table.starts[:3])
        # A digit of the sum is a + b + what was carried into it, modulo 10, so it tells what was carried.
        into = c - a - b  # of bytes: 0 or 1, or those plus 246
        out = sheet[:, table.starts[3] : table.starts[3] + carries]
        out[:, :-1] = (into & 1)[:, 1:]
        out[:, -1] = sheet[:, table.starts[2] + carries]
    sheet[:, table.starts[-1] :] = np.arange(signs, dtype=np.uint8)
    return sheet, table
