"""Near duplicates: MinHash signatures, banded LSH and union-find (Broder 1997; the settings of FineWeb).

A document is its set of hashed word 5-grams. 112 multiply-shift permutations give 112 minima; 14 bands of 8
pair up documents of Jaccard similarity s with probability 1 - (1 - s^8)^14: 0.92 at 0.8, 0.56 at 0.7, 0.05 at
0.5.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from hornbook.curate.words import I64, U64, Words, mix, ngram_offsets, ngrams
from hornbook.errors import HornbookError

Signatures = npt.NDArray[np.uint32]
# Shingles worked on at a time: with the two buffers this stays in a core's second-level cache.
_TILE = 1 << 15


@dataclass(frozen=True, kw_only=True)
class NearSettings:
    """Settings of near-duplicate search.

    ngram: words in a shingle. bands, rows: bands x rows hashes are computed; more rows make a match stricter,
    more bands make it more likely. verify: drop candidate pairs whose estimated Jaccard similarity is below
    this (0 accepts every LSH match, as datatrove does). seed: of the permutations.
    """

    ngram: int = 5
    bands: int = 14
    rows: int = 8
    verify: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("ngram", "bands", "rows"):
            if getattr(self, name) < 1:
                raise HornbookError(
                    f"near duplicates: {name} = {getattr(self, name)}; it must be at least 1."
                )
        if not 0 <= self.verify <= 1:
            raise HornbookError(f"near duplicates: verify = {self.verify}; it must lie between 0 and 1.")

    @property
    def hashes(self) -> int:
        return self.bands * self.rows


@lru_cache
def _permutations(hashes: int, seed: int) -> tuple[Signatures, Signatures]:
    generator = np.random.default_rng(seed)
    multiplier = generator.integers(0, 1 << 32, hashes, dtype=np.uint32) | np.uint32(1)
    return multiplier, generator.integers(0, 1 << 32, hashes, dtype=np.uint32)


def signatures(words: Words, settings: NearSettings | None = None) -> Signatures:
    """(documents, hashes) uint32 MinHash signatures of a batch.

    A document with fewer words than a shingle is one shingle of all its words; one without words gets a row
    of 2**32 - 1 and matches nothing (see `clusters`).
    """
    settings = settings or NearSettings()
    shingles, offsets = _shingles(words, settings.ngram)
    multiplier, shift = _permutations(settings.hashes, settings.seed)
    out = np.full((settings.hashes, words.documents), np.uint32(0xFFFFFFFF), np.uint32)
    filled = np.flatnonzero(offsets[1:] > offsets[:-1])
    buffer = np.empty(_TILE, np.uint32)
    k = 0
    while k < len(filled):
        low = int(offsets[filled[k]])
        # As many whole documents as fit a tile; a longer document goes tile by tile.
        last = int(np.searchsorted(offsets[filled + 1], low + _TILE, "right"))
        last = max(last, k + 1)
        high = int(offsets[filled[last - 1] + 1])
        rows = filled[k:last]
        for start in range(low, high, _TILE):
            tile = shingles[start : min(start + _TILE, high)]
            work = buffer[: len(tile)]
            starts = offsets[rows] - start if len(rows) > 1 else np.zeros(1, np.int64)
            for i in range(settings.hashes):
                np.multiply(tile, multiplier[i], out=work)
                np.add(work, shift[i], out=work)
                least = np.minimum.reduceat(work, starts)
                out[i, rows] = np.minimum(out[i, rows], least)
        k = last
    return np.ascontiguousarray(out.T)


def _shingles(words: Words, n: int) -> tuple[Signatures, I64]:
    """32-bit hashes of the shingles of every document, and their offsets."""
    hashes, _ = ngrams(words.hashes, words.offsets, n)
    offsets = ngram_offsets(words.offsets, n)
    short = np.flatnonzero((words.counts > 0) & (words.counts < n))
    if len(short):
        whole = np.array(
            [_whole(words.hashes[words.offsets[d] : words.offsets[d + 1]]) for d in short], np.uint64
        )
        hashes = np.insert(hashes, offsets[short], whole)
        counts = np.diff(offsets)
        counts[short] = 1
        offsets = np.concatenate([[0], np.cumsum(counts)])
    return (hashes >> np.uint64(32)).astype(np.uint32), offsets


def _whole(hashes: U64) -> np.uint64:
    place = mix(np.arange(len(hashes), dtype=np.uint64))
    return np.uint64(mix(hashes + place).sum(dtype=np.uint64))


def estimate(first: Signatures, second: Signatures) -> npt.NDArray[np.float64]:
    """Estimated Jaccard similarity of signatures row by row: the share of equal minima (standard error at
    most 0.5 / sqrt(hashes))."""
    return np.asarray(np.equal(first, second).mean(axis=-1), np.float64)


def band_keys(signature: Signatures, settings: NearSettings) -> U64:
    """(documents, bands) 64-bit hash of each band."""
    bands = signature.reshape(len(signature), settings.bands, settings.rows).astype(np.uint64)
    keys = np.zeros(bands.shape[:2], np.uint64)
    for row in range(settings.rows):
        keys = mix(keys * np.uint64(0x9E3779B97F4A7C15) + bands[:, :, row])
    return keys


def pairs(signature: Signatures, settings: NearSettings | None = None) -> I64:
    """(pairs, 2) candidate duplicates: neighbours in a bucket of any band, each pair once, smaller index
    first.

    A bucket of k documents gives k - 1 pairs, which is enough to connect it.
    """
    settings = settings or NearSettings()
    some = np.flatnonzero((signature != np.uint32(0xFFFFFFFF)).any(axis=1))
    keys = band_keys(signature[some], settings)
    found = [np.zeros((0, 2), np.int64)]
    for band in range(settings.bands):
        order = np.argsort(keys[:, band], kind="stable")
        key = keys[order, band]
        same = np.flatnonzero(key[1:] == key[:-1])
        if settings.verify > 0:
            # Compare with the head of the bucket: neighbours may be far apart while both are near the head.
            new = np.concatenate([[True], key[1:] != key[:-1]])
            head = np.maximum.accumulate(np.where(new, np.arange(len(key)), 0))
            left = order[head[same + 1]]
        else:
            left = order[same]
        right = order[same + 1]
        found.append(some[np.stack([left, right], axis=1)])
    matches = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    if settings.verify > 0:
        matches = matches[estimate(signature[matches[:, 0]], signature[matches[:, 1]]) >= settings.verify]
    return matches


def connect(documents: int, edges: I64) -> I64:
    """(documents,) smallest index of each document's connected component (union-find, vectorised).

    Every round hooks the larger root of each edge onto the smaller and then halves all paths; rounds grow
    with the logarithm of the longest chain.
    """
    root = np.arange(documents)
    while len(edges):
        a, b = root[edges[:, 0]], root[edges[:, 1]]
        open_edges = a != b
        if not open_edges.any():
            break
        edges, a, b = edges[open_edges], a[open_edges], b[open_edges]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while True:
            up = root[root]
            if np.array_equal(up, root):
                break
            root = up
    return root


def clusters(signature: Signatures, settings: NearSettings | None = None) -> I64:
    """(documents,) cluster of each document, named by its smallest index; a document alone is its own
    cluster.
    """
    return connect(len(signature), pairs(signature, settings))


def keep_one(cluster: I64, prefer: npt.NDArray[np.float64] | I64 | None = None) -> npt.NDArray[np.bool_]:
    """(documents,) True for the one document kept of each cluster: the first, or the one with the largest
    `prefer` (for example its length), the first among equals."""
    if prefer is None:
        return np.equal(cluster, np.arange(len(cluster)))
    order = np.lexsort((np.arange(len(cluster)), -np.asarray(prefer, np.float64), cluster))
    kept = np.zeros(len(cluster), np.bool_)
    grouped = cluster[order]
    head = np.ones(len(cluster), np.bool_)
    head[1:] = grouped[1:] != grouped[:-1]
    kept[order[head]] = True
    return kept
