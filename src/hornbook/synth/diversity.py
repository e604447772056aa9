"""How varied a set of texts is: n-gram overlap between samples, distinct n-grams, near-duplicates.

TinyStories section 6 and the recipe's demand that 13-grams rarely recur between two samples. Words are
lower-case runs of letters, digits and apostrophes, as for decontamination.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from hornbook.errors import HornbookError

_WORD = re.compile(r"[a-z0-9']+")


def words(text: str) -> list[str]:
    """Lower-case words of a text."""
    return _WORD.findall(text.lower())


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """All word n-grams of a text, in order."""
    tokens = words(text)
    return list(zip(*(tokens[at:] for at in range(n))))


def overlap(sample: Iterable[str], other: Iterable[str], n: int = 13) -> float:
    """Share of the n-grams of `sample` (counted with repeats) that occur anywhere in `other`."""
    known: set[tuple[str, ...]] = set()
    for text in other:
        known.update(ngrams(text, n))
    total = found = 0
    for text in sample:
        grams = ngrams(text, n)
        total += len(grams)
        found += sum(gram in known for gram in grams)
    return found / total if total else 0.0


def distinct(sample: Iterable[str], n: int) -> float:
    """Different n-grams over all n-grams."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for text in sample:
        grams = ngrams(text, n)
        total += len(grams)
        seen.update(grams)
    return len(seen) / total if total else 0.0


def near_duplicates(sample: Sequence[str], threshold: float = 0.5, n: int = 5) -> list[bool]:
    """For each text: has its set of word n-grams a Jaccard similarity >= `threshold` with an earlier one?

    Exact. Two sets that are so similar share a gram among the rarest of either: of k grams, the k -
    ceil(threshold k) + 1 rarest. Only those are indexed (prefix filtering, Chaudhuri et al. 2006), so the
    grams that every text of a template has cost nothing. A text of fewer than n words repeats nothing.
    """
    numbers: dict[tuple[str, ...], int] = {}
    sets = [{numbers.setdefault(gram, len(numbers)) for gram in ngrams(text, n)} for text in sample]
    del numbers
    frequency: Counter[int] = Counter()
    for grams in sets:
        frequency.update(grams)
    index: dict[int, list[int]] = {}
    found = []
    for number, grams in enumerate(sets):
        size = len(grams)
        rarest = sorted(grams, key=lambda gram: (frequency[gram], gram))
        prefix = rarest[: size - math.ceil(threshold * size) + 1]
        tried: set[int] = set()
        duplicate = False
        for gram in prefix:
            if frequency[gram] == 1:
                continue
            for earlier in index.get(gram, ()):
                if earlier in tried:
                    continue
                tried.add(earlier)
                other = sets[earlier]
                if len(other) < threshold * size or size < threshold * len(other):
                    continue
                shared = len(grams & other)
                if shared >= threshold * (size + len(other) - shared):
                    duplicate = True
                    break
            if duplicate:
                break
        found.append(duplicate)
        for gram in prefix:
            if frequency[gram] > 1:
                index.setdefault(gram, []).append(number)
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


def diversity(texts: Sequence[str], *, n: int = 13) -> dict[str, float]:
    """Figures of one corpus: the sample is cut into two halves (even and odd rows) that are compared.

    Keys: `overlap_13` (share of 13-grams of the even half that occur in the odd half), `distinct_1..4`,
    `near_duplicates` (5-gram Jaccard at least 0.5 with an earlier text), `texts`, `words`.
    """
    if len(texts) < 2:
        raise HornbookError(f"diversity: {len(texts)} texts; at least two are needed to compare")
    return {
        f"overlap_{n}": overlap(texts[::2], texts[1::2], n),
        **{f"distinct_{k}": distinct(texts, k) for k in (1, 2, 3, 4)},
        "near_duplicates": near_duplicate_share(texts),
        "texts": float(len(texts)),
        "words": float(sum(len(words(text)) for text in texts)),
    }
