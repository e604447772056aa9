"""Documents as vectors without a model: counts of hashed words and word pairs, weighted and reduced.

Latent semantic analysis (Deerwester et al. 1990): inverse document frequencies and a truncated SVD, both
fitted on a sample. The educational classifier and the search for semantic duplicates stand on it.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hornbook.curate.repetition import F64
from hornbook.curate.words import I64, Words, mix

BITS = 14
BUCKETS = 1 << BITS
# Only the first words are looked at, as an encoder with a bounded context would look; a licence header is
# short beside them.
FIRST_WORDS = 1500
Arrays = dict[str, npt.NDArray[Any]]


def arrays_key(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """SHA-256 over names, types and contents: equal for equal arrays."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def counts(words: Words) -> tuple[I64, I64, F64]:
    """Sublinear counts of hashed words and adjacent pairs: (document, bucket, 1 + log count), by document."""
    n = len(words.hashes)
    index = np.arange(n)
    document = words.document
    within = index - words.offsets[:-1][document] < FIRST_WORDS if n else np.zeros(0, np.bool_)
    # A word that is a number says only that there is a number.
    hashes = np.where(words.alphabetic, words.hashes, np.uint64(7))
    pairs = mix(hashes[:-1] * np.uint64(0x9E3779B97F4A7C15) + hashes[1:])
    inside = (document[:-1] == document[1:]) & within[1:]
    slots = np.concatenate([hashes[within], pairs[inside]]) >> np.uint64(64 - BITS)
    owner = np.concatenate([document[within], document[:-1][inside]])
    key, count = np.unique(owner * BUCKETS + slots.astype(np.int64), return_counts=True)
    return key // BUCKETS, key % BUCKETS, 1 + np.log(count)


def fit_embedding(words: Words, train: I64, dimensions: int, seed: int) -> Arrays:
    """idf (buckets,) and components (buckets, dimensions), from the documents `train` of a batch."""
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped,unused-ignore]
    from sklearn.decomposition import TruncatedSVD

    document, bucket, value = counts(words)
    chosen = np.isin(document, train)
    frequency = np.bincount(bucket[chosen], minlength=BUCKETS)
    idf = np.log((1 + len(train)) / (1 + frequency))
    weighted = value * idf[bucket]
    norm = np.sqrt(np.bincount(document, weights=weighted**2, minlength=words.documents))
    matrix = csr_matrix(
        (weighted / np.maximum(norm[document], 1e-12), (document, bucket)), shape=(words.documents, BUCKETS)
    )[train]
    reduced = TruncatedSVD(min(dimensions, len(train) - 1), random_state=seed).fit(matrix)
    return {
        "idf": idf.astype(np.float32),
        "components": np.ascontiguousarray(reduced.components_.T).astype(np.float32),
    }


def embed(words: Words, arrays: Arrays) -> F64:
    """(documents, dimensions) of a batch; a document without words is zero."""
    document, bucket, value = counts(words)
    weighted = value * arrays["idf"][bucket]
    norm = np.sqrt(np.bincount(document, weights=weighted**2, minlength=words.documents))
    weighted = weighted / np.maximum(norm[document], 1e-12)
    components = arrays["components"]
    embedded = np.zeros((words.documents, components.shape[1]))
    bounds = np.searchsorted(document, np.arange(words.documents + 1))
    for d in range(words.documents):
        a, b = bounds[d], bounds[d + 1]
        embedded[d] = weighted[a:b] @ components[bucket[a:b]]
    return embedded
