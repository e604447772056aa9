"""How much of what could be written has been written, and where the next calls should go.

phi-1 (section 2.2) and TinyStories put randomness into the prompt because a teacher left alone repeats
itself. Here what a set of texts covers is measured: word 4-grams, cells of an embedding, the facets of the
plans (topics, audiences, function names) and the facets never hit; and a sampler spends the next calls on
plans whose facets are thinly covered or have so far brought new text.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hornbook.curate.words import mix, split
from hornbook.errors import HornbookError
from hornbook.synth.diversity import near_duplicates, ngrams

Facets = Mapping[str, str]
"""What a plan is about, by kind: {"topic": "a loop", "audience": "a child"}."""

GRAM = 4
_BITS = 12  # cells of the embedding: the signs of so many directions
_FIRST = 100


@dataclass(kw_only=True)
class Coverage:
    """What texts have covered so far. `grams`: word 4-grams; `counts`: texts by (kind, value) of their plans;
    `news`: for each such facet the share of new 4-grams in its latest texts (a running mean)."""

    grams: set[tuple[str, ...]] = field(default_factory=set)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    news: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, facets: Facets, text: str) -> float:
        """Counts a text; returns the share of its 4-grams that are new (0 for a text without one)."""
        found = set(ngrams(text, GRAM))
        share = len(found - self.grams) / len(found) if found else 0.0
        self.grams |= found
        for facet in facets.items():
            self.counts[facet] += 1
            self.news[facet] = 0.5 * (self.news.get(facet, share) + share)
        return share

    def thinness(self, facets: Facets, pending: Mapping[tuple[str, str], int] | None = None) -> float:
        """How much a plan promises: for each facet the news of its last texts over one more than the texts it
        has (with `pending`, calls not answered yet); 1 for a facet never hit."""
        waiting = pending or {}
        scores = [
            self.news.get(facet, 1.0) / (1 + self.counts[facet] + waiting.get(facet, 0))
            for facet in facets.items()
        ]
        return sum(scores) / len(scores) if scores else 0.0


def steer(coverage: Coverage, plans: Sequence[Facets], calls: int) -> list[int]:
    """Which of the candidate plans to spend the next `calls` on, thinnest first; the first of equals.

    Calls of one batch count as soon as they are chosen, so a batch does not pile up on one thin place.

    Raises:
        HornbookError: fewer candidates than calls.
    """
    if calls > len(plans):
        raise HornbookError(f"steering has {len(plans)} plans to choose from for {calls} calls; draw more.")
    pending: Counter[tuple[str, str]] = Counter()
    left = dict.fromkeys(range(len(plans)))
    chosen = []
    for _ in range(calls):
        best = max(left, key=lambda number: (coverage.thinness(plans[number], pending), -number))
        del left[best]
        chosen.append(best)
        pending.update(plans[best].items())
    return chosen


def write_steered(
    plans: Sequence[Facets],
    calls: int,
    write: Callable[[Sequence[int]], Sequence[str]],
    *,
    batch: int = 64,
) -> list[int]:
    """Spends `calls` on the candidate plans, batch by batch; returns the numbers of those used, in order.

    Args:
        plans: facets of the candidates; at least `calls`, several times as many to choose well. Each batch
            chooses among the next of them, in order: what was passed over does not crowd out new ones.
        write: texts of the plans with these numbers; an empty text (a refusal) counts as nothing new.

    Raises:
        HornbookError: fewer plans than calls.
    """
    if calls > len(plans):
        raise HornbookError(f"steering has {len(plans)} plans to choose from for {calls} calls; draw more.")
    coverage, used = Coverage(), list[int]()
    begun = 0
    while len(used) < calls:
        size = min(batch, calls - len(used))
        ended = len(plans) * (len(used) + size) // calls
        picked = [begun + place for place in steer(coverage, plans[begun:ended], size)]
        begun = ended
        for number, text in zip(picked, write(picked), strict=True):
            coverage.add(plans[number], text)
        used += picked
    return used


@dataclass(frozen=True, kw_only=True)
class Cells:
    """An embedding cut into cells: words as fixed random directions, weighted by rarity in a reference sample
    and centred on it; a cell is the signs of the first twelve directions."""

    weights: dict[int, float]
    mean: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, reference: Sequence[str]) -> "Cells":
        """Weights and centre from texts that stand for everything that may be written."""
        words = split(list(reference))
        seen: Counter[int] = Counter()
        for at in range(words.documents):
            seen.update(set(words.hashes[words.offsets[at] : words.offsets[at + 1]].tolist()))
        weights = {word: float(np.log(1 + words.documents / count)) for word, count in seen.items()}
        empty = cls(weights=weights, mean=np.zeros(64))
        return cls(weights=weights, mean=empty.embed(reference).mean(axis=0))

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """(texts, 64) unit vectors, centred; words that the reference does not have weigh as the rarest."""
        words = split(list(texts))
        rarest = max(self.weights.values(), default=1.0)
        weight = np.array([self.weights.get(word, rarest) for word in words.hashes.tolist()])
        bits = mix(words.hashes)[:, None] >> np.arange(64, dtype=np.uint64)[None] & np.uint64(1)
        signs = np.where(bits == 1, 1.0, -1.0) * weight[:, None]
        total = np.zeros((words.documents, 64))
        owner = np.repeat(np.arange(words.documents), np.diff(words.offsets))
        np.add.at(total, owner, signs)
        norms = np.linalg.norm(total, axis=1, keepdims=True)
        return np.asarray(total / np.maximum(norms, 1e-12) - self.mean, np.float64)

    def of(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """(texts,) number of each text's cell."""
        inside = self.embed(texts)[:, :_BITS] > 0
        return np.asarray(inside @ (1 << np.arange(_BITS)), np.int64)


def growth(
    texts: Sequence[str], facets: Sequence[Facets] | None = None, *, cells: Cells | None = None
) -> list[dict[str, float]]:
    """Coverage as a set grows, at 100, 200, 400, ... texts and at the end.

    Keys: texts, `grams` (different 4-grams), `distinct_4` (the same over all 4-grams), `near_duplicates`
    (share that nearly repeats an earlier text), `cells` (different cells of the embedding) and for each kind
    of facet `<kind>` (values hit).
    """
    if not texts:
        return []
    repeats = np.cumsum(near_duplicates(texts))
    places = (cells or Cells.fit(texts)).of(texts)
    sizes = [size for k in range(20) if (size := _FIRST << k) < len(texts)] + [len(texts)]
    seen: set[tuple[str, ...]] = set()
    total = at = 0
    found = []
    for size in sizes:
        for text in texts[at:size]:
            grams = ngrams(text, GRAM)
            total += len(grams)
            seen.update(grams)
        at = size
        line = {
            "texts": float(size),
            "distinct_4": len(seen) / total if total else 0.0,
            "grams": float(len(seen)),
            "near_duplicates": float(repeats[size - 1]) / size,
            "cells": float(len(np.unique(places[:size]))),
        }
        for kind in facets[0] if facets else ():
            line[kind] = float(len({plan[kind] for plan in facets[:size]}))  # type: ignore[index]
        found.append(line)
    return found


def never_hit(facets: Sequence[Facets], kind: str, known: Sequence[str]) -> list[str]:
    """Values of a kind that no plan had, in the order of `known`."""
    hit = {plan.get(kind) for plan in facets}
    return [value for value in known if value not in hit]
