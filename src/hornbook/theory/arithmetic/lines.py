"""What every task comes to: lines of tokens with a prompt and an answer, and a loader that trains on them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hornbook.errors import HornbookError

Tokens = NDArray[np.uint8]
Integers = NDArray[np.int64]

LARGEST_ALPHABET = 255
GAP = 255  # in a wide array of tokens: nothing stands here
IGNORE = -100


class Alphabet:
    """The symbols of a task, numbered in order: characters, or whole words for dialogues.

    The digits are tokens 0 to 9, so that a digit is its own id, and "\\n" ends a line.
    """

    def __init__(self, more: Sequence[str] = ()) -> None:
        symbols = [*"0123456789", "\n", *more]
        if len(set(symbols)) != len(symbols):
            raise ValueError("an alphabet names each symbol once")
        if len(symbols) > LARGEST_ALPHABET:
            raise HornbookError(f"an alphabet has at most {LARGEST_ALPHABET} symbols, not {len(symbols)}.")
        self.symbols = tuple(symbols)
        self.ids = {symbol: number for number, symbol in enumerate(symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def end(self) -> int:
        """The token that ends a line."""
        return self.ids["\n"]

    def encode(self, symbols: Sequence[str]) -> Tokens:
        """Ids of symbols; a text is taken character by character.

        Raises:
            HornbookError: a symbol that the alphabet lacks.
        """
        unknown = [symbol for symbol in symbols if symbol not in self.ids]
        if unknown:
            raise HornbookError(f"the alphabet of this task has no symbol {unknown[0]!r}.")
        return np.array([self.ids[symbol] for symbol in symbols], np.uint8)

    def decode(self, tokens: Sequence[int] | Tokens, between: str = "") -> str:
        """Symbols of ids, joined; an id of a larger alphabet is shown as \ufffd."""
        known = len(self.symbols)
        return between.join(self.symbols[int(t)] if t < known else "\ufffd" for t in tokens)


SIGNS = Alphabet(("*", "+", "=", ";", ":", "C", "#", " "))
"""The alphabet of bare arithmetic."""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """n lines: a prompt that is given and an answer that is wanted.

    tokens: (n, width) uint8, each line from the left, the end token behind it. prompt: (n,) tokens before the
    answer. length: (n,) tokens in all, the end token included. cell: (n, 2) digits of the first and
    second operand, or twice the length of a string. number: how the answer's number is written. fixed:
    all answers are equally long, so that their end says nothing.
    """

    tokens: Tokens
    prompt: Integers
    length: Integers
    cell: Tokens
    alphabet: Alphabet
    number: Literal["forward", "reversed"] = "forward"
    fixed: bool = False

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def width(self) -> int:
        """Tokens of the longest line."""
        return int(self.tokens.shape[1])

    def take(self, rows: NDArray[np.integer] | slice) -> "Lines":
        """Some of the lines."""
        return replace(
            self,
            tokens=self.tokens[rows],
            prompt=self.prompt[rows],
            length=self.length[rows],
            cell=self.cell[rows],
        )

    def text(self, row: int, between: str = "") -> tuple[str, str]:
        """(prompt, answer without the end) of one line."""
        line, start, end = self.tokens[row], int(self.prompt[row]), int(self.length[row]) - 1
        return self.alphabet.decode(line[:start], between), self.alphabet.decode(line[start:end], between)


def join(parts: Sequence[Lines]) -> Lines:
    """All lines of several sets that share an alphabet and a direction of numbers."""
    if len(parts) == 1:
        return parts[0]
    first, width = parts[0], max(part.width for part in parts)
    if any(part.alphabet.symbols != first.alphabet.symbols or part.number != first.number for part in parts):
        raise ValueError("only lines of one alphabet and one direction of numbers can be joined")
    padded = [
        np.pad(part.tokens, ((0, 0), (0, width - part.width)), constant_values=first.alphabet.end)
        for part in parts
    ]
    return replace(
        first,
        tokens=np.concatenate(padded),
        prompt=np.concatenate([part.prompt for part in parts]),
        length=np.concatenate([part.length for part in parts]),
        cell=np.concatenate([part.cell for part in parts]),
    )


def compact(wide: Tokens, end: int) -> tuple[Tokens, Integers]:
    """Pushes the tokens of every row to the left over its gaps: (tokens (n, longest), lengths (n,))."""
    real = wide != GAP
    length = real.sum(1, dtype=np.int64)
    out = np.full((len(wide), int(length.max(initial=1))), end, np.uint8)
    out[np.arange(out.shape[1]) < length[:, None]] = wide[real]
    return out, length


_SPREAD_ROWS = 32_768  # lines spread at once: what the cache of a core holds


def spread(lines: Lines, rng: np.random.Generator, *, most: int = 3) -> Lines:
    """Random spaces behind every token of the prompt: k with probability 2^-(k+1), the rest of it at `most`.

    Then a digit's place in the line says nothing about its significance (section 4.1; the paper does not give
    the distribution). Answers are left as they are.
    """
    if not 1 <= most <= 8:
        raise HornbookError(f"random spaces are at most {most} in a row; accepted are 1 to 8.")
    if len(lines) > _SPREAD_ROWS:
        firsts = range(0, len(lines), _SPREAD_ROWS)
        return join([spread(lines.take(slice(i, i + _SPREAD_ROWS)), rng, most=most) for i in firsts])
    if not len(lines):
        return lines
    column = np.arange(lines.width, dtype=np.int16)
    real = column < lines.length[:, None]
    flat = lines.tokens[real]  # all lines behind each other
    step = np.frombuffer(rng.bytes(len(flat)), np.uint8)
    step = _ONES.clip(max=most).take(step) * (column < lines.prompt[:, None])[real] + np.uint8(1)
    stop = np.cumsum(step, dtype=np.int32)
    ends = stop[np.cumsum(lines.length) - 1].astype(np.int64)
    length = np.diff(ends, prepend=0)
    spaced = np.full(int(ends[-1]), lines.alphabet.ids[" "], np.uint8)
    spaced[stop - step] = flat
    out = np.full((len(lines), int(length.max())), lines.alphabet.end, np.uint8)
    out[np.arange(out.shape[1], dtype=np.int16) < length[:, None]] = spaced
    return replace(lines, tokens=out, prompt=lines.prompt + length - lines.length, length=length)


_ONES = np.array([(byte ^ (byte + 1)).bit_length() - 1 for byte in range(256)], np.uint8)
"""Lowest bits of a byte that are 1, one after the other: 0 with probability 1/2, 1 with 1/4, ..."""


@dataclass(frozen=True, kw_only=True)
class LineBatch:
    """inputs, targets: (rows, time) int64; targets are -100 where no loss. position: (rows, time) or None."""

    inputs: Integers
    targets: Integers
    position: Integers | None = None


class LineLoader:
    """Batches of lines in a new random order every epoch; a pure function of (seed, step).

    Args:
        lines: what to train on.
        rows: of a batch, over all ranks.
        shift: each row's first position is drawn from 0 to this, so that learned vectors of later
            positions are trained too; 0 counts from 0.
        whole: train on every token instead of on answers alone.
        buckets: so many batches in a row share their lines out by length and are cut to their longest; one
            step that accumulates over them sees the same lines as ever, and less padding.
    """

    def __init__(
        self,
        lines: Lines,
        rows: int,
        seed: int,
        *,
        shift: int = 0,
        whole: bool = False,
        buckets: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if rows < 1 or buckets < 1 or len(lines) < rows * buckets:
            raise HornbookError(
                f"{buckets} batches of {rows} rows cannot be drawn from {len(lines)} lines; take fewer rows."
            )
        self.lines, self.rows, self.seed, self.shift, self.whole = lines, rows, seed, shift, whole
        self.buckets, self.rank, self.world = buckets, rank, world
        self._order: tuple[int, Integers] = (-1, np.zeros(0, np.int64))
        data = hashlib.sha256(lines.tokens.tobytes())
        data.update(lines.prompt.tobytes() + lines.length.tobytes())
        data.update(repr((rows, seed, shift, whole, buckets)).encode())
        self.fingerprint = data.hexdigest()

    def batch(self, step: int) -> LineBatch:
        """This rank's rows of step `step`."""
        per_epoch = len(self.lines) // (self.rows * self.buckets) * self.buckets
        epoch, number = divmod(step, per_epoch)
        group = number // self.buckets * self.buckets * self.rows
        rows = self._epoch(epoch)[group : group + self.buckets * self.rows]
        first, width = number % self.buckets * self.rows, self.lines.width
        if self.buckets > 1:
            rows = rows[np.argsort(self.lines.length[rows], kind="stable")]
            width = int(self.lines.length[rows[first : first + self.rows]].max())
        # Every rank takes its turn, so that none gets the long lines of the batch.
        mine = rows[first + self.rank : first + self.rows : self.world]
        tokens = self.lines.tokens[mine, :width].astype(np.int64)
        column = np.arange(1, tokens.shape[1])
        trained = column < self.lines.length[mine, None]
        if not self.whole:
            trained &= column >= self.lines.prompt[mine, None]
        position = None
        if self.shift:
            rng = np.random.default_rng([self.seed, 1, step])
            starts = rng.integers(0, self.shift + 1, self.rows)[self.rank :: self.world]
            position = starts[:, None] + np.arange(tokens.shape[1] - 1)
        targets = np.where(trained, tokens[:, 1:], IGNORE)
        return LineBatch(inputs=tokens[:, :-1], targets=targets, position=position)

    def _epoch(self, epoch: int) -> Integers:
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.lines))
            self._order = (epoch, order)
        return self._order[1]
