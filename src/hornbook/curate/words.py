"""Words, lines and character counts of a whole batch of documents, found once and shared by every stage.

Splitting words is the whole cost of curation on a CPU, so it happens once, over the batch as one array of
characters: table look-ups classify and lower-case, one running sum gives the polynomial hash of any span, and
words and lines leave as arrays with offsets. No Python object is made per word.

A word is a maximal run of Unicode letters, digits, marks and underscores, lower-cased. Scripts written
without spaces (Han, Kana, Thai, Lao, Khmer, Burmese) give one word a character.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

# Characters hashed with one table of powers; also keeps four 16-bit counters in one 64-bit running sum exact.
BLOCK = 65_535
_MULTIPLIER = 0x9E3779B97F4A7C15
_WORD = 0x80  # set in the value of ASCII word characters, so that value >= 128 is the test for a word
# Counters packed in 64 bits, 16 bits each: letters, digits, white space, upper case.
_LETTER, _DIGIT, _SPACE, _UPPER = (1 << (16 * i) for i in range(4))
# (first, last) code points of scripts written without spaces between words.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3005, 0x3007),
    (0x3041, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The lines of a batch, white space at both ends left out.

    hashes: (lines,) 64-bit hash of the lower-cased line; 0 for a blank line.
    starts, ends: (lines,) positions in `Words.codes`.
    offsets: (documents + 1,): lines of document d are offsets[d]:offsets[d + 1].
    """

    hashes: U64
    starts: I64
    ends: I64
    offsets: I64

    @property
    def lengths(self) -> I64:
        return self.ends - self.starts

    @property
    def blank(self) -> Bool:
        return np.equal(self.ends, self.starts)


@dataclass(frozen=True, kw_only=True)
class Words:
    """One batch, split.

    hashes: (words,) 64-bit hash of the lower-cased word.
    starts, ends: (words,) positions in `codes`.
    alphabetic, numeric: (words,) the word holds at least one letter; one digit.
    offsets: (documents + 1,): words of document d are offsets[d]:offsets[d + 1].
    codes: (characters,) code points of the batch, uint8 when all are ASCII, else uint32.
    characters: (documents + 1,) document d is codes[characters[d]:characters[d + 1]].
    letters, digits, spaces, uppers: (documents,) counts of characters.
    """

    hashes: U64
    starts: I64
    ends: I64
    alphabetic: Bool
    numeric: Bool
    offsets: I64
    codes: npt.NDArray[Any]
    characters: I64
    letters: I64
    digits: I64
    spaces: I64
    uppers: I64
    lines: Lines

    @property
    def documents(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> I64:
        """(documents,) words in each document."""
        return np.diff(self.offsets)

    @property
    def lengths(self) -> I64:
        """(words,) characters in each word."""
        return self.ends - self.starts

    @property
    def document(self) -> I64:
        """(words,) the document of each word."""
        return np.repeat(np.arange(self.documents), self.counts)

    def text(self, start: int, end: int) -> str:
        """The characters between two positions of `codes`."""
        return self.codes[start:end].astype("<u4").tobytes().decode("utf-32-le")


def mix(x: U64) -> U64:
    """A bijection of 64-bit integers whose every output bit depends on every input bit (two multiply-xorshift
    rounds).
    """
    x = x ^ (x >> np.uint64(32))
    x *= np.uint64(0xD6E8FEB86659FD93)
    x ^= x >> np.uint64(32)
    x *= np.uint64(0xD6E8FEB86659FD93)
    x ^= x >> np.uint64(32)
    return x


def ngrams(hashes: U64, offsets: I64, n: int) -> tuple[U64, I64]:
    """Hash every run of `n` consecutive words inside a document.

    Returns (hashes, first) where first[k] is the index of the first word of n-gram k; n-grams come in order,
    and document d has max(0, words - n + 1) of them.
    """
    if len(hashes) < n:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    span = len(hashes) - n + 1
    rolled = hashes[:span].copy()
    for i in range(1, n):
        rolled *= np.uint64(_MULTIPLIER)
        rolled += hashes[i : i + span]
    ends_left = np.repeat(offsets[1:], np.diff(offsets))[:span]
    first = np.flatnonzero(np.arange(span) + n <= ends_left)
    return mix(rolled[first]), first


class HashSet:
    """A fixed set of 64-bit hashes with fast look-up of many at once.

    A table over the leading bits turns most strangers away before the binary search.
    """

    def __init__(self, hashes: U64) -> None:
        self.sorted: U64 = np.unique(hashes)
        bits = min(max(16, (len(self.sorted) * 16).bit_length()), 26)
        self._shift = np.uint64(64 - bits)
        self._gate = np.zeros(1 << bits, np.bool_)
        self._gate[(self.sorted >> self._shift).astype(np.int64)] = True

    def __len__(self) -> int:
        return len(self.sorted)

    def find(self, hashes: U64) -> tuple[I64, I64]:
        """Positions in `hashes` whose value is in the set, and the index of each in `sorted`."""
        if not len(self.sorted) or not len(hashes):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        maybe = np.flatnonzero(self._gate[(hashes >> self._shift).astype(np.int64)])
        index = np.minimum(np.searchsorted(self.sorted, hashes[maybe]), len(self.sorted) - 1)
        right = self.sorted[index] == hashes[maybe]
        return maybe[right], index[right]


def ngram_offsets(offsets: I64, n: int) -> I64:
    """(documents + 1,) offsets of the n-grams that `ngrams` returns."""
    counts = np.maximum(np.diff(offsets) - n + 1, 0)
    return np.concatenate([[0], np.cumsum(counts)])


def hash_words(text: str) -> U64:
    """Hashes of the words of one text: what `split` gives for it."""
    return split([text]).hashes


def split(texts: "Sequence[str] | Any") -> Words:
    """Split a batch of documents into words and lines.

    Args:
        texts: strings, or a pyarrow array or chunked array of strings; null counts as the empty document.

    Memory: about 60 bytes a character of the batch for the largest block and 8 to 40 bytes a word; a document
    longer than `BLOCK` characters is hashed in pieces cut at a line end or a space where there is one.
    """
    codes, characters = _characters(texts)
    ascii_tables = _ascii_tables()
    tables = ascii_tables if codes.dtype == np.uint8 else _wide_tables(codes)
    space = tables[4]
    documents = len(characters) - 1
    hashes: list[U64] = []
    starts: list[I64] = []
    ends: list[I64] = []
    alphabetic: list[Bool] = []
    numeric: list[Bool] = []
    counts = np.zeros((4, documents), np.int64)
    lines = _line_spans(codes, characters, space)
    line_hashes = np.zeros(len(lines[0]), np.uint64)
    power, inverse = _powers()
    for low, high in _blocks(codes, characters, space):
        block = codes[low:high]
        size = high - low
        value, word, single, counter, _ = tables
        if word is not None and block.max() < 128:  # the narrow tables give the same values, faster
            block = block.astype(np.uint8)
            value, word, single, counter, _ = ascii_tables
        folded = value.take(block)
        inside = folded >= _WORD if word is None else word.take(block)
        edges = (
            characters[np.searchsorted(characters, low) : np.searchsorted(characters, high, "right")] - low
        )
        start, end = _word_edges(inside, None if single is None else single.take(block), edges)
        running = np.zeros(size + 1, np.uint64)
        np.cumsum(np.multiply(folded, power[:size], dtype=np.uint64), out=running[1:])
        hashes.append(mix((running[end] - running[start]) * inverse[start]))
        starts.append(start + low)
        ends.append(end + low)
        tally = np.zeros(size + 1, np.uint64)
        np.cumsum(counter.take(block), out=tally[1:])
        inner = tally[end] - tally[start]
        alphabetic.append((inner & np.uint64(0xFFFF)) > 0)
        numeric.append(((inner >> np.uint64(16)) & np.uint64(0xFFFF)) > 0)
        # A line is hashed in the block where it starts; only lines longer than a block are cut.
        a, b = np.searchsorted(lines[0], (low, high))
        if b > a:
            s = lines[0][a:b] - low
            e = np.minimum(lines[1][a:b] - low, size)
            line_hashes[a:b] = np.where(
                e > s, mix((running[e] - running[s]) * inverse[s]) | np.uint64(1), np.uint64(0)
            )
        first = int(np.searchsorted(characters, low, "right")) - 1
        last = int(np.searchsorted(characters, high, "left"))
        bounds = np.clip(characters[first : last + 1] - low, 0, size)
        piece = np.diff(tally[bounds])
        for i in range(4):
            counts[i, first:last] += ((piece >> np.uint64(16 * i)) & np.uint64(0xFFFF)).astype(np.int64)
    all_starts = _join(starts, np.int64)
    return Words(
        hashes=_join(hashes, np.uint64),
        starts=all_starts,
        ends=_join(ends, np.int64),
        alphabetic=_join(alphabetic, np.bool_),
        numeric=_join(numeric, np.bool_),
        offsets=np.searchsorted(all_starts, characters).astype(np.int64),
        codes=codes,
        characters=characters,
        letters=counts[0],
        digits=counts[1],
        spaces=counts[2],
        uppers=counts[3],
        lines=Lines(hashes=line_hashes, starts=lines[0], ends=lines[1], offsets=lines[2]),
    )


def _join(parts: list[Any], dtype: Any) -> Any:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _characters(texts: Any) -> tuple[npt.NDArray[Any], I64]:
    """Code points of all documents one after another, and the offsets of the documents."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
        if isinstance(texts, pa.ChunkedArray):  # nothing in it
            texts = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], pa.large_string())
    if not isinstance(texts, pa.Array):
        texts = pa.array(list(texts), pa.large_string())
    if texts.null_count:
        texts = pc.fill_null(texts, "")
    texts = texts.cast(pa.large_string())
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = texts.buffers()[2]
    raw = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    raw = raw[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    if not len(raw) or raw.max() < 128:
        return raw, offsets
    codes = np.frombuffer(raw.tobytes().decode("utf-8").encode("utf-32-le"), np.uint32)
    # Characters before a byte offset are the bytes before it that do not continue a character.
    heads = np.concatenate([[0], np.cumsum((raw & 0xC0) != 0x80)])
    return codes, heads[offsets]


@cache
def _powers() -> tuple[U64, U64]:
    power = np.full(BLOCK + 1, _MULTIPLIER, np.uint64)
    inverse = np.full(BLOCK + 1, pow(_MULTIPLIER, -1, 1 << 64), np.uint64)
    power[0] = inverse[0] = 1
    return np.multiply.accumulate(power), np.multiply.accumulate(inverse)


def _describe(character: str) -> tuple[int, bool, bool, int, bool]:
    """(value to hash, part of a word, a word by itself, packed counters, white space) of one character."""
    code = ord(character)
    mark = unicodedata.category(character).startswith("M")
    word = character.isalnum() or character == "_" or mark
    space = character.isspace() or code == 0
    counters = (
        (_LETTER if character.isalpha() or mark else 0)
        + (_DIGIT if character.isdigit() else 0)
        + (_SPACE if space else 0)
        + (_UPPER if character.isupper() else 0)
    )
    if space:
        return 0, False, False, counters, True
    # Only two letters lower-case to more than one character; their first is enough for a hash.
    lower = ord(character.lower()[0]) if word else code
    if code < 128:
        return (lower | _WORD if word else code), word, False, counters, False
    single = word and any(first <= code <= last for first, last in _UNSPACED)
    # A wide letter may lower-case into ASCII (the Kelvin sign): it then hashes as that letter.
    value = (lower | _WORD) if word and lower < 128 else 256 + 2 * lower + word
    return value, word, single, counters, False


@cache
def _ascii_tables() -> tuple[Any, None, None, U64, Bool]:
    rows = [_describe(chr(c)) for c in range(128)]
    value = np.array([r[0] for r in rows] * 2, np.uint8)
    return (
        value,
        None,
        None,
        np.array([r[3] for r in rows] * 2, np.uint64),
        np.array([r[4] for r in rows] * 2),
    )


class _Wide:
    """Tables over all code points, filled for the characters that were met."""

    def __init__(self) -> None:
        size = 0x110000
        self.known = np.zeros(size, np.bool_)
        self.value = np.zeros(size, np.uint32)
        self.word = np.zeros(size, np.bool_)
        self.single = np.zeros(size, np.bool_)
        self.counter = np.zeros(size, np.uint64)
        self.space = np.zeros(size, np.bool_)

    def learn(self, codes: npt.NDArray[Any]) -> bool:
        """Fill the tables; returns whether any character of `codes` is a word by itself."""
        met = codes[codes >= 128]
        for code in np.unique(met[~self.known[met]]).tolist() + ([] if self.known[0] else list(range(128))):
            value, word, single, counter, space = _describe(chr(code))
            self.value[code], self.word[code], self.single[code] = value, word, single
            self.counter[code], self.space[code] = counter, space
            self.known[code] = True
        return bool(self.single[met].any())


@cache
def _wide() -> _Wide:
    return _Wide()


def _wide_tables(codes: npt.NDArray[Any]) -> tuple[Any, Bool, Bool | None, U64, Bool]:
    wide = _wide()
    singles = wide.learn(codes)
    return wide.value, wide.word, wide.single if singles else None, wide.counter, wide.space


def _word_edges(inside: Bool, single: Bool | None, edges: I64) -> tuple[I64, I64]:
    """Starts and ends of the words of a block; `edges` are positions that no word may cross."""
    before = np.empty_like(inside)
    before[:1] = False
    before[1:] = inside[:-1]
    after = np.empty_like(inside)
    after[-1:] = False
    after[:-1] = inside[1:]
    before[edges[edges < len(inside)]] = False
    after[edges[edges > 0] - 1] = False
    if single is not None:
        before &= ~single
        before[1:] &= ~single[:-1]
        after &= ~single
        after[:-1] &= ~single[1:]
    return np.flatnonzero(inside & ~before), np.flatnonzero(inside & ~after) + 1


def _blocks(codes: npt.NDArray[Any], characters: I64, space: Bool) -> list[tuple[int, int]]:
    """Cut the batch in pieces of at most BLOCK characters: between documents, else at a line end, else at a
    space.
    """
    blocks = []
    low, total = 0, len(codes)
    while low < total:
        high = min(low + BLOCK, total)
        if high < total:
            document = int(characters[np.searchsorted(characters, high, "right") - 1])
            if document > low:
                high = document
            else:
                piece = codes[low:high]
                cuts = np.flatnonzero(piece == 10)
                if not len(cuts):
                    cuts = np.flatnonzero(space.take(piece))
                if len(cuts):
                    high = low + int(cuts[-1]) + 1
        blocks.append((low, high))
        low = high
    return blocks


def _line_spans(codes: npt.NDArray[Any], characters: I64, space: Bool) -> tuple[I64, I64, I64]:
    """Starts and ends of all lines, stripped of white space, and the offsets of the documents."""
    nonempty = characters[1:] > characters[:-1]
    breaks = np.flatnonzero(codes == 10)
    # A document's last line ends with the document, unless its last character is the line break itself.
    last = characters[1:][nonempty] - 1
    open_ends = last[codes[last] != 10] + 1
    # At equal positions the open end comes first: it ends where the next document starts, with a line break.
    end = np.concatenate([open_ends, breaks])
    order = np.argsort(end, kind="stable")
    end = end[order]
    start = np.zeros_like(end)
    start[1:] = end[:-1] + (order[:-1] >= len(open_ends))
    offsets = np.searchsorted(start, characters).astype(np.int64)
    _strip(codes, space, start, end)
    return start, end, offsets


def _strip(codes: npt.NDArray[Any], space: Bool, start: I64, end: I64) -> None:
    """Move starts forward and ends backward over white space, in place."""
    for edge, step in ((start, 1), (end, -1)):
        moving = np.arange(len(start))
        for _ in range(64):
            moving = moving[start[moving] < end[moving]]
            moving = moving[space.take(codes[edge[moving] - (step < 0)])]
            edge[moving] += step
        for line in moving.tolist():  # more than 64 spaces at one end: rare, and possibly millions of them
            while start[line] < end[line]:
                if step > 0:
                    piece = space.take(codes[start[line] : min(start[line] + (1 << 20), end[line])])
                else:
                    piece = space.take(codes[max(end[line] - (1 << 20), start[line]) : end[line]])[::-1]
                run = len(piece) if piece.all() else int(np.argmin(piece))
                edge[line] += step * run
                if run < len(piece):
                    break
