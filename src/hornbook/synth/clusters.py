"""What organic passages are about, roughly: clusters of an embedding, each named by the words it has most of.

They are the facets of those who write from passages (phi-4's seeds): a passage has no plan to be steered by,
but it has a neighbourhood.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hornbook.curate.semantic import spherical_k_means
from hornbook.synth.coverage import Cells
from hornbook.synth.diversity import words

_EACH = 25  # passages a cluster has on average, while there are no more than _MOST clusters
_MOST = 64
_ROUNDS = 10


def cluster_names(texts: Sequence[str]) -> list[str]:
    """For each text the name of its cluster (k-means on unit vectors): its three most telling words."""
    count = min(_MOST, len(texts) // _EACH)
    if count < 2:
        return ["all"] * len(texts)
    vectors = Cells.fit(texts).embed(texts)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    owner = _k_means(vectors, count)
    bags = [set(words(text)) for text in texts]
    overall: Counter[str] = Counter()
    inside = [Counter[str]() for _ in range(count)]
    for bag, own in zip(bags, owner.tolist(), strict=True):
        overall.update(bag)
        inside[own].update(bag)
    sizes = np.bincount(owner, minlength=count)
    names = [_name(own, overall, int(size), len(texts)) for own, size in zip(inside, sizes, strict=True)]
    return [names[own] for own in owner.tolist()]


def _k_means(vectors: np.ndarray, count: int) -> np.ndarray:
    """(texts,) nearest centre. Each of the first centres is the vector farthest from those before it."""
    nearest = vectors @ vectors[0]
    centres = [vectors[0]]
    while len(centres) < count:
        centres.append(vectors[int(nearest.argmin())])
        nearest = np.maximum(nearest, vectors @ centres[-1])
    middle = spherical_k_means(vectors, np.stack(centres), rounds=_ROUNDS)
    return np.asarray((vectors @ middle.T).argmax(axis=1))


def _name(inside: Counter[str], overall: Counter[str], size: int, texts: int) -> str:
    """The words whose share inside is most above their share of all texts; the alphabet settles ties."""

    def telling(word: str) -> float:
        share = inside[word] / max(1, size)
        return share * float(np.log(share * texts / overall[word]))

    known = [word for word in inside if inside[word] > 1 and len(word) > 3] or list(inside)
    return ", ".join(sorted(known, key=lambda word: (-telling(word), word))[:3]) or "nothing"
