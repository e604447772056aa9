"""How varied a set of texts is: n-gram overlap between samples, distinct n-grams, near-duplicates.

TinyStories section 6 and the recipe's demand that 13-grams rarely recur between two samples. Words are
lower-case runs of letters, digits and apostrophes, as for decontamination.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hornbook.curate.words import mix
from hornbook.errors import HornbookError

_ODD = np.uint64(0x9E3779B97F4A7C15)
_WORD = re.compile(r"[a-z0-9']+")


def words(text: str) -> list[str]:
    """Lower-case words of a text."""
    return _WORD.findall(text.lower())


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """All word n-grams of a text, in order."""
    tokens = words(text)
    return list(zip(*(tokens[at:] for at in range(n))))


@dataclass(frozen=True, kw_only=True)
class Coded:
    """Texts as numbers: the code of every word, 64 bits drawn by the order in which words appear, and the
    place of its text. An n-gram is a 64-bit hash of its words' codes: among ten million different ones two
    fall together with a chance of three in a million."""

    codes: npt.NDArray[np.uint64]
    texts: npt.NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, sample: Sequence[str]) -> "Coded":
        known: dict[str, int] = {}
        numbers: list[int] = []
        lengths = []
        for text in sample:
            found = words(text)
            numbers.extend([known.setdefault(word, len(known)) for word in found])
            lengths.append(len(found))
        texts = np.repeat(np.arange(len(sample)), np.asarray(lengths, np.int64))
        return cls(codes=mix(np.asarray(numbers, np.uint64)), texts=texts, count=len(sample))

    def first(self, count: int) -> "Coded":
        """Of the first `count` texts."""
        end = int(np.searchsorted(self.texts, count))
        return Coded(codes=self.codes[:end], texts=self.texts[:end], count=min(count, self.count))

    def grams(self, n: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """(grams,) the n-grams in the order of the texts, and the place of the text of each."""
        size = max(0, len(self.codes) - n + 1)
        hashes = np.zeros(size, np.uint64)
        for place in range(n):
            hashes = hashes * _ODD + self.codes[place : place + size]
        first, last = self.texts[:size], self.texts[n - 1 : n - 1 + size]
        return hashes[first == last], first[first == last]


def overlap(sample: Iterable[str], other: Iterable[str], n: int = 13) -> float:
    """Share of the n-grams of `sample` (counted with repeats) that occur anywhere in `other`."""
    own = list(sample)
    grams, texts = Coded.of([*own, *other]).grams(n)
    mine = texts < len(own)
    return _mean(np.isin(grams[mine], grams[~mine]))


def distinct(sample: Iterable[str], n: int) -> float:
    """Different n-grams over all n-grams."""
    return _distinct(Coded.of(list(sample)), n)


def _distinct(coded: Coded, n: int) -> float:
    grams = np.sort(coded.grams(n)[0])  # numpy's own counting of different values hashes, which is slower
    return (1 + int(np.count_nonzero(grams[1:] != grams[:-1]))) / len(grams) if len(grams) else 0.0


def _mean(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else 0.0


def near_duplicates(sample: Sequence[str] | Coded, threshold: float = 0.5, n: int = 5) -> list[bool]:
    """For each text: has its set of word n-grams a Jaccard similarity >= `threshold` with an earlier one?

    Two sets that are so similar share a gram among the rarest of either: of k grams, the k -
    ceil(threshold k) + 1 rarest. Only those are indexed (prefix filtering, Chaudhuri et al. 2006), so the
    grams that every text of a template has cost nothing. A text of fewer than n words repeats nothing.
    """
    coded = sample if isinstance(sample, Coded) else Coded.of(sample)
    grams, texts = coded.grams(n)
    _, kinds, frequency = np.unique(grams, return_inverse=True, return_counts=True)
    order = np.lexsort((kinds, frequency[kinds], texts))  # of each text, the rarest first
    kinds, texts = kinds[order], texts[order]
    fresh = np.ones(len(kinds), bool)
    fresh[1:] = (kinds[1:] != kinds[:-1]) | (texts[1:] != texts[:-1])
    kinds, texts = kinds[fresh], texts[fresh]
    bounds = np.searchsorted(texts, np.arange(coded.count + 1)).tolist()
    alone = (frequency[kinds] == 1).tolist()  # in no other text: nothing to look for
    rarest = kinds.tolist()
    index: dict[int, list[int]] = {}
    sets: list[set[int]] = []
    found = []
    for number, (begin, end) in enumerate(pairwise(bounds)):
        own, size = set(rarest[begin:end]), end - begin
        sets.append(own)
        tried: set[int] = set()
        duplicate = False
        for at in range(begin, begin + size - math.ceil(threshold * size) + 1 if size else begin):
            if alone[at]:
                continue
            others = index.setdefault(rarest[at], [])
            for earlier in others if not duplicate else ():
                if earlier in tried:
                    continue
                tried.add(earlier)
                other = sets[earlier]
                if len(other) < threshold * size or size < threshold * len(other):
                    continue
                shared = len(own & other)
                if shared >= threshold * (size + len(other) - shared):
                    duplicate = True
                    break
            others.append(number)
        found.append(duplicate)
    return found


def near_duplicate_share(sample: Sequence[str], threshold: float = 0.5, n: int = 5) -> float:
    """Share of texts that nearly repeat an earlier one (see `near_duplicates`)."""
    return sum(near_duplicates(sample, threshold, n)) / len(sample) if sample else 0.0


def rouge_precision(text: str, reference: str, n: int = 2) -> float:
    """Rouge-n precision: share of the n-grams of `text` that occur in `reference`, clipped by count."""
    grams = ngrams(text, n)
    if not grams:
        return 0.0
    left: dict[tuple[str, ...], int] = {}
    for gram in ngrams(reference, n):
        left[gram] = left.get(gram, 0) + 1
    hits = 0
    for gram in grams:
        if left.get(gram, 0) > 0:
            left[gram] -= 1
            hits += 1
    return hits / len(grams)


def rouge_f(text: str, other: str, n: int = 2) -> float:
    """Rouge-n F: the harmonic mean of the Rouge-n precisions of two texts against each other."""
    there, back = rouge_precision(text, other, n), rouge_precision(other, text, n)
    return 2 * there * back / (there + back) if there + back else 0.0


def diversity(
    texts: Sequence[str], *, n: int = 13, coded: Coded | None = None, repeats: Sequence[bool] | None = None
) -> dict[str, float]:
    """Figures of one corpus: the sample is cut into two halves (even and odd rows) that are compared.

    Keys: `overlap_13` (share of 13-grams of the even half that occur in the odd half), `distinct_1..4`,
    `near_duplicates` (5-gram Jaccard at least 0.5 with an earlier text), `texts`, `words`.

    Args:
        coded, repeats: the texts as numbers and their `near_duplicates`, if known already.
    """
    if len(texts) < 2:
        raise HornbookError(f"diversity: {len(texts)} texts; at least two are needed to compare")
    coded = coded or Coded.of(texts)
    repeats = near_duplicates(coded) if repeats is None else repeats
    grams, places = coded.grams(n)
    even = places % 2 == 0
    return {
        f"overlap_{n}": _mean(np.isin(grams[even], grams[~even])),
        **{f"distinct_{k}": _distinct(coded, k) for k in (1, 2, 3, 4)},
        "near_duplicates": sum(repeats) / len(texts),
        "texts": float(len(texts)),
        "words": float(len(coded.codes)),
    }
