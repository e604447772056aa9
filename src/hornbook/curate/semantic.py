"""Semantic duplicates: documents that say the same in other words (SemDeDup, Abbas et al. 2023).

Each document is a vector; k-means gathers what is alike, and within a group any two documents with a cosine
above the threshold are duplicates. The paper embeds with a pre-trained encoder. Here the vectors are latent
semantic ones fitted on the corpus itself: they need no model and no network, follow topic and wording, and do
not see through a paraphrase that shares no word. What they find is measured in `docs/curation.md`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hornbook.curate.features import Arrays, arrays_key, embed, fit_embedding
from hornbook.curate.near import connect
from hornbook.curate.words import I64, Words, split
from hornbook.errors import HornbookError

F16 = npt.NDArray[np.float16]
F32 = npt.NDArray[np.float32]
_BLOCK = 2048  # documents compared with each other at a time
_GROUP = 4096  # documents a group of k-means holds on average
_ROUNDS = 8
_FEW = 20
_LONG = 20_000  # characters of a document that count when the bulk of the text is looked for


@dataclass(frozen=True, kw_only=True)
class SemanticSettings:
    """threshold: least cosine of two documents that say the same. dimensions: of the vectors. seed: of the
    SVD and of k-means."""

    threshold: float = 0.9
    dimensions: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise HornbookError(
                f"semantic duplicates: threshold = {self.threshold}; it must be above 0 and at most 1."
            )
        if self.dimensions < 2:
            raise HornbookError(
                f"semantic duplicates: dimensions = {self.dimensions}; it must be at least 2."
            )


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """Vectors of documents, fitted on a sample of the corpus."""

    arrays: Arrays
    settings: SemanticSettings

    @classmethod
    def fit(cls, sample: Sequence[str], settings: SemanticSettings) -> "Embedder":
        """Raises HornbookError when the sample is too small to say which words go together."""
        if len(sample) < _FEW:
            raise HornbookError(
                "Semantic duplicates are looked for with vectors fitted on the corpus; "
                f"{len(sample)} documents are too few (at least {_FEW}). Set semantic to None."
            )
        words = split(_bulk(sample))
        train = np.arange(words.documents)
        return cls(arrays=fit_embedding(words, train, settings.dimensions, settings.seed), settings=settings)

    @property
    def key(self) -> str:
        """Names the vectors: equal keys, equal embeddings."""
        return arrays_key(self.arrays)

    def embed(self, words: Words) -> F16:
        """(documents, dimensions) of length 1 (0 for a document without words)."""
        vectors = embed(words, self.arrays)
        length = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        return np.asarray(vectors / np.maximum(length, 1e-12), np.float16)


def _bulk(sample: Sequence[str]) -> list[str]:
    """Documents that most of the text lies in: those with at least a twentieth of the characters that the
    document of a random character has. Vectors fitted on thousands of one-liners find all articles alike."""
    lengths = np.minimum([len(text) for text in sample], _LONG).astype(np.float64)
    least = (lengths**2).sum() / max(lengths.sum(), 1.0) / 20
    kept = [text for text, length in zip(sample, lengths, strict=True) if length >= least]
    return kept if len(kept) >= _FEW else list(sample)


def clusters(vectors: F16, settings: SemanticSettings) -> I64:
    """(documents,) cluster of each document, named by its smallest index; a document alone is its own."""
    edges = [np.zeros((0, 2), np.int64)]
    for rows in _groups(vectors, settings.seed):
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK]
            left = vectors[part].astype(np.float32)
            for other in range(0, start + 1, _BLOCK):
                against = rows[other : other + _BLOCK]
                near = left @ vectors[against].astype(np.float32).T >= settings.threshold
                a, b = np.nonzero(near)
                below = against[b] < part[a]
                edges.append(np.stack([against[b[below]], part[a[below]]], axis=1))
    return connect(len(vectors), np.concatenate(edges))


def cosines(vectors: F16, first: I64, second: I64) -> npt.NDArray[np.float64]:
    """(pairs,) cosine of each pair of rows."""
    a, b = vectors[first].astype(np.float64), vectors[second].astype(np.float64)
    return np.asarray((a * b).sum(axis=1), np.float64)


def spherical_k_means(points: F32, centres: F32, *, rounds: int) -> F32:
    """(groups, dimensions) centres after at most so many of Lloyd's rounds, by cosine.

    Args:
        points: (points, dimensions) unit vectors. centres: unit vectors to begin with; one that nobody is
            nearest to stays where it is.
    """
    before: npt.NDArray[Any] | None = None
    for _ in range(rounds):
        owner = (points @ centres.T).argmax(axis=1)
        if before is not None and (owner == before).all():
            break
        before = owner
        sums = np.zeros_like(centres)
        np.add.at(sums, owner, points)
        length = np.sqrt((sums**2).sum(axis=1, keepdims=True))
        centres = np.where(length > 0, sums / np.maximum(length, 1e-12), centres)
    return centres


def _groups(vectors: F16, seed: int) -> list[I64]:
    """Rows of alike documents: all together while they are few, else the groups of k-means on the sphere."""
    size = len(vectors)
    count = -(-size // _GROUP)
    if count <= 2:
        return [np.arange(size)]
    generator = np.random.default_rng(seed)
    sample = np.sort(generator.choice(size, min(size, 64 * count), replace=False))
    points = vectors[sample].astype(np.float32)
    centres: F32 = points[np.sort(generator.choice(len(points), count, replace=False))]
    centres = spherical_k_means(points, centres, rounds=_ROUNDS)
    # Each document goes with its two nearest centres: copies on either side of a border still meet.
    nearest: npt.NDArray[Any] = np.concatenate(
        [
            np.argpartition(vectors[start : start + _BLOCK].astype(np.float32) @ -centres.T, 1, axis=1)[:, :2]
            for start in range(0, size, _BLOCK)
        ]
    )
    rows, owners = np.repeat(np.arange(size), 2), nearest.ravel()
    order = np.lexsort((rows, owners))
    bounds = np.searchsorted(owners[order], np.arange(count + 1))
    return [rows[order[a:b]] for a, b in itertools.pairwise(bounds) if b > a]
