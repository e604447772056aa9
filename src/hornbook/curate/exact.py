"""Exact duplicates of documents, lines and paragraphs.

Two documents are the same when their text is, after Unicode NFC, lower-casing and with every run of white
space taken as one space; 128 bits of BLAKE2b stand for it.
"""

import unicodedata
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from hornbook.curate.repetition import F64, paragraphs, per_document, share
from hornbook.curate.words import I64, U64, Words

Digests = npt.NDArray[Any]
DIGEST = np.dtype([("high", np.uint64), ("low", np.uint64)])


def normalise(text: str) -> str:
    """The text as exact comparison sees it."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.lower().split())


def digests(texts: "Sequence[str] | Any") -> Digests:
    """(documents,) of `DIGEST`: 128-bit hashes of the normalised texts (strings or a pyarrow array)."""
    rows = texts.to_pylist() if hasattr(texts, "to_pylist") else texts
    raw = b"".join(
        blake2b(normalise(row or "").encode("utf-8", "replace"), digest_size=16).digest() for row in rows
    )
    return np.frombuffer(raw, DIGEST)


def first_of_equals(keys: npt.NDArray[Any]) -> I64:
    """(rows,) for every row the index of the first row with an equal key; a row that is first points to
    itself.
    """
    if not len(keys):
        return np.zeros(0, np.int64)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def line_keys(words: Words, *, unit: str = "line", shortest: int = 20) -> tuple[U64, I64, I64]:
    """(hashes, lengths, document) of the lines or paragraphs of at least `shortest` characters.

    Short lines ("else:", "Notes") repeat in every corpus and say nothing about copying.
    """
    if unit == "paragraph":
        hashes, lengths, document = paragraphs(words)
    elif unit == "line":
        hashes, lengths = words.lines.hashes, words.lines.lengths
        document = np.repeat(np.arange(words.documents), np.diff(words.lines.offsets))
    else:
        raise ValueError(f"unit is 'line' or 'paragraph', not {unit!r}")
    keep = lengths >= max(shortest, 1)
    return hashes[keep], lengths[keep], document[keep]


def repeated_share(hashes: U64, lengths: I64, document: I64, documents: int, *, copies: int = 2) -> F64:
    """(documents,) share of the characters of a document's lines (or paragraphs) that an *earlier document*
    has too, counting only those found in at least `copies` documents of the corpus.

    The first document that has a line keeps it: removing every document with a high share never loses a line.
    `document` must not decrease.
    """
    if copies < 2:
        raise ValueError(f"copies counts documents that share a line and is at least 2, not {copies}")
    order = np.lexsort((document, hashes))
    key, owner = hashes[order], document[order]
    new = np.ones(len(key), np.bool_)
    new[1:] = key[1:] != key[:-1]
    group = np.cumsum(new) - 1
    fresh = new.copy()  # first line of each (line, document) pair
    fresh[1:] |= owner[1:] != owner[:-1]
    spread = np.bincount(group, weights=fresh) if len(key) else np.zeros(0)
    first_owner = owner[np.flatnonzero(new)]
    repeated = np.zeros(len(key), np.bool_)
    if len(key):
        repeated[order] = (owner != first_owner[group]) & (spread[group] >= copies)
    bounds = np.searchsorted(document, np.arange(documents + 1))
    return share(per_document(lengths * repeated, bounds), per_document(lengths, bounds))
