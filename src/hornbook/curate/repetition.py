"""How much a document repeats itself: lines, paragraphs and word n-grams (Gopher, Rae et al. 2021, table A1).

The n-grams are searched in a cascade: an n-gram can only repeat where the (n - 1)-gram did, so after the
first pass over all pairs of words only a few positions remain.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from hornbook.curate.words import I64, U64, Words, mix

F64 = npt.NDArray[np.float64]
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
TOP_NGRAMS = (2, 3, 4)
DUPLICATE_NGRAMS = (5, 6, 7, 8, 9, 10)


def per_document(values: npt.NDArray[Any], offsets: I64) -> npt.NDArray[Any]:
    """(documents,) sums of `values` between consecutive offsets; an empty document gives 0."""
    running = np.cumsum(values)
    total = np.zeros(len(running) + 1, running.dtype)
    total[1:] = running
    return total[offsets[1:]] - total[offsets[:-1]]


def share(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> F64:
    """part / whole, and 0 where whole is 0."""
    result = np.zeros(len(part), np.float64)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def candidates(keys: U64) -> I64:
    """Positions whose key may occur more than once: a superset, found without sorting.

    Counts keys in four times as many slots as there are keys; a slot that was hit once holds a unique key.
    """
    if not len(keys):
        return np.zeros(0, np.int64)
    bits = max(int(len(keys) * 4 - 1).bit_length(), 4)
    slots = (keys >> np.uint64(64 - bits)).astype(np.int64)
    return np.flatnonzero(np.bincount(slots, minlength=1 << bits)[slots] > 1)


def groups(keys: U64) -> tuple[I64, I64, I64]:
    """Positions whose key occurs at least twice, in order of (key, position).

    Returns (positions, group, rank): group numbers the keys, rank counts the occurrences of a key from 0.
    """
    positions = candidates(keys)
    kept = keys[positions]
    order = _ordered(kept)
    positions, kept = positions[order], kept[order]
    starts, count = _runs(kept)
    several = count > 1
    count = count[several]
    inside = np.repeat(starts[several] - np.cumsum(count) + count, count) + np.arange(count.sum())
    rank = inside - np.repeat(starts[several], count)
    return positions[inside], np.repeat(np.arange(len(count)), count), rank


def _ordered(keys: U64) -> I64:
    """What `argsort(keys, kind="stable")` gives, several times faster: the upper bits of each key and its
    place are sorted as one number; where two keys differ in their lower bits alone it is done again."""
    bits = np.uint64(max(len(keys) - 1, 1).bit_length())
    together = (keys >> bits << bits) | np.arange(len(keys), dtype=np.uint64)
    together.sort()
    order = (together & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    found = keys[order]
    return np.argsort(keys, kind="stable") if (found[1:] < found[:-1]).any() else order


def _runs(ordered: npt.NDArray[Any]) -> tuple[I64, I64]:
    """(where it begins, how long it is) of every run of equal values."""
    new = np.ones(len(ordered), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(new)
    return starts, np.diff(starts, append=len(ordered))


def measure_repetition(words: Words) -> dict[str, F64]:
    """Shares of lines, paragraphs and characters that repeat something earlier in the same document.

    Returns arrays of shape (documents,): `duplicate_lines`, `duplicate_line_characters`,
    `duplicate_paragraphs`, `duplicate_paragraph_characters`, `top_{2,3,4}gram`, `duplicate_{5..10}gram`.
    Characters are counted against the characters of the document. `top_n` is the length of the most frequent
    n-gram (words joined by one space) times its count, 0 if nothing repeats; `duplicate_n` counts the
    characters of words inside any n-gram that occurred before, each once.
    """
    characters = np.diff(words.characters).astype(np.float64)
    lines = words.lines
    salt = mix(np.arange(words.documents, dtype=np.uint64) + np.uint64(1))
    full = ~lines.blank
    line_document = np.repeat(np.arange(words.documents), np.diff(lines.offsets))
    result = _units("line", lines.hashes[full], lines.lengths[full], line_document[full], salt, characters)
    hashes, lengths, document = paragraphs(words)
    result |= _units("paragraph", hashes, lengths, document, salt, characters)
    result |= _ngrams(words, salt, characters)
    return result


def paragraphs(words: Words) -> tuple[U64, I64, I64]:
    """(hashes, lengths, document) of the paragraphs: runs of lines that are not blank."""
    lines = words.lines
    full = ~lines.blank
    new = full.copy()
    new[1:] &= lines.blank[:-1]
    new[lines.offsets[:-1][lines.offsets[:-1] < len(full)]] = full[
        lines.offsets[:-1][lines.offsets[:-1] < len(full)]
    ]
    starts = np.flatnonzero(new)
    number = np.cumsum(new)[full] - 1
    # Lines of a paragraph count by their place in it, so that their order matters.
    place = np.flatnonzero(full) - starts[number] if len(starts) else np.zeros(0, np.int64)
    terms = mix(lines.hashes[full] + mix(place.astype(np.uint64)))
    bounds = np.searchsorted(number, np.arange(len(starts) + 1))
    hashes = per_document(terms, bounds)
    lengths = per_document(lines.lengths[full], bounds).astype(np.int64)
    document = np.searchsorted(lines.offsets, starts, "right") - 1
    return hashes, lengths, document.astype(np.int64)


def _units(name: str, hashes: U64, lengths: I64, document: I64, salt: U64, characters: F64) -> dict[str, F64]:
    documents = len(salt)
    positions, _, rank = groups(hashes + salt[document])
    again = positions[rank > 0]
    count = np.bincount(document, minlength=documents)
    repeated = np.bincount(document[again], minlength=documents)
    repeated_characters = np.bincount(document[again], weights=lengths[again], minlength=documents)
    return {
        f"duplicate_{name}s": share(repeated, count),
        f"duplicate_{name}_characters": share(repeated_characters, characters),
    }


def _ngrams(words: Words, salt: U64, characters: F64) -> dict[str, F64]:
    documents = words.documents
    result: dict[str, F64] = {}
    document = words.document
    ends_left = words.offsets[1:][document] if len(document) else np.zeros(0, np.int64)
    running = np.concatenate([[0], np.cumsum(words.lengths)])
    first = np.arange(len(words.hashes))
    rolled = words.hashes + salt[document]
    for n in range(2, DUPLICATE_NGRAMS[-1] + 1):
        fits = first + n <= ends_left[first]
        first, rolled = first[fits], rolled[fits]
        rolled = rolled * _MULTIPLIER + words.hashes[first + n - 1]
        positions, group, rank = groups(mix(rolled))
        where = first[positions]
        if n in TOP_NGRAMS:
            result[f"top_{n}gram"] = share(_top(where, group, n, document, running, documents), characters)
        if n in DUPLICATE_NGRAMS:
            covered = _covered(where[rank > 0], n, document, running, documents)
            result[f"duplicate_{n}gram"] = share(covered, characters)
        back = np.sort(positions)
        first, rolled = first[back], rolled[back]
    return result


def _top(where: I64, group: I64, n: int, document: I64, running: I64, documents: int) -> I64:
    """(documents,) characters of the most frequent n-gram; among equally frequent ones the longest."""
    top = np.zeros(documents, np.int64)
    if not len(where):
        return top
    one, count = _runs(group)
    head = where[one]
    length = running[head + n] - running[head] + n - 1
    best = np.zeros(documents, np.int64)
    np.maximum.at(best, document[head], count)
    most = count == best[document[head]]
    np.maximum.at(top, document[head][most], (length * count)[most])
    return top


def _covered(where: I64, n: int, document: I64, running: I64, documents: int) -> F64:
    """(documents,) characters of the words that lie in any run of n words beginning at `where`."""
    starts = np.sort(where)
    ends = starts + n
    begin = starts.copy()
    begin[1:] = np.maximum(starts[1:], ends[:-1])  # what the run before covers counts once
    covered = np.bincount(document[starts], weights=running[ends] - running[begin], minlength=documents)
    return np.asarray(covered, np.float64)
