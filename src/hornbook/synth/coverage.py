"""How much of what could be written has been written, and where the next calls should go.

phi-1 (section 2.2) and TinyStories put randomness into the prompt because a teacher left alone repeats
itself. Here what a set of texts covers is measured: word 4-grams, cells of an embedding, the facets of the
plans (topics, audiences, function names) and the facets never hit; and a sampler spends the next calls on
plans whose facets are thinly covered or have so far brought new text.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from hornbook.curate.words import mix, split
from hornbook.errors import HornbookError
from hornbook.synth.diversity import Coded, near_duplicates, ngrams

Facets = Mapping[str, str]
"""What a plan is about, by kind: {"topic": "a loop", "audience": "a child"}. Several values of one kind are
numbered: {"skill 1": "irony", "skill 2": "antithesis"}."""
Facet = tuple[str, str]

GRAM = 4
_BITS = 12  # cells of the embedding: the signs of so many directions
_FIRST = 100
_AT_ONCE = 256  # texts embedded together


def facets_in(plan: Facets) -> list[Facet]:
    """(kind, value) pairs of a plan, the numbers of several values of a kind taken off."""
    return [(kind.rstrip(" 0123456789"), value) for kind, value in plan.items()]


@dataclass(kw_only=True)
class Coverage:
    """What texts have covered so far. `grams`: word 4-grams; `counts`: texts by (kind, value) of their plans;
    `news`: for each such facet the share of new 4-grams in its latest texts (a running mean)."""

    grams: set[tuple[str, ...]] = field(default_factory=set)
    counts: Counter[Facet] = field(default_factory=Counter)
    news: dict[Facet, float] = field(default_factory=dict)

    def add(self, facets: Facets, text: str) -> float:
        """Counts a text; returns the share of its 4-grams that are new (0 for a text without one)."""
        found = set(ngrams(text, GRAM))
        share = len(found - self.grams) / len(found) if found else 0.0
        self.grams |= found
        for facet in facets_in(facets):
            self.counts[facet] += 1
            self.news[facet] = 0.5 * (self.news.get(facet, share) + share)
        return share

    def thinness(self, facets: Facets, pending: Mapping[Facet, int] | None = None) -> float:
        """How much a plan promises: for each facet the news of its last texts over one more than the texts it
        has (with `pending`, calls not answered yet); 1 for a facet never hit."""
        waiting = pending or {}
        scores = [
            self.news.get(facet, 1.0) / (1 + self.counts[facet] + waiting.get(facet, 0))
            for facet in facets_in(facets)
        ]
        return sum(scores) / len(scores) if scores else 0.0


def steer(
    coverage: Coverage, plans: Sequence[Facets], calls: int, chosen_already: Iterable[Facets] = ()
) -> list[int]:
    """Which of the candidate plans to spend the next `calls` on, thinnest first; the first of equals.

    Calls of one batch count as soon as they are chosen, so a batch does not pile up on one thin place.
    `chosen_already`: plans of the same batch.

    Raises:
        HornbookError: fewer candidates than calls.
    """
    if calls > len(plans):
        raise HornbookError(f"steering has {len(plans)} plans to choose from for {calls} calls; draw more.")
    pending = Counter(chain.from_iterable(map(facets_in, chosen_already)))
    # What is pending only ever lowers a score, so the top of the heap is the thinnest once it is up to date.
    heap = [(-coverage.thinness(plan, pending), number) for number, plan in enumerate(plans)]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < calls:
        said, number = heap[0]
        score = -coverage.thinness(plans[number], pending)
        if score > said:
            heapq.heapreplace(heap, (score, number))
            continue
        heapq.heappop(heap)
        chosen.append(number)
        pending.update(facets_in(plans[number]))
    return chosen


def choose_steered(
    plans: Sequence[Facets],
    calls: int,
    texts: Sequence[str],
    *,
    batch: int | Iterable[int] = 64,
    width: int | None = None,
    remembered: Sequence[int] = (),
    remember: Callable[[Sequence[int]], None] = lambda numbers: None,
    ahead: int = 0,
) -> Iterator[list[int] | None]:
    """The candidate plans to spend `calls` on, by number, batch by batch.

    Fewer calls of the same plans choose the first of what more calls choose.

    Args:
        plans: facets of the candidates; at least `calls`, several times as many to choose well. Each batch
            chooses among the next `width` times its size of them, in order: what was passed over does not
            crowd out new ones, and comes back when there are no new ones.
        texts: what was written of the plans so far, in the order in which they were chosen: it grows between
            two batches. An empty text (a refusal) counts as nothing new.
        batch: calls between two looks at the coverage, or the size of each batch in turn.
        width: candidates for each call (None: as many as there are plans for one).
        remembered: numbers that an earlier session chose, which come first in their order. What a call that
            fails today brings tomorrow must not send the calls after it elsewhere: their answers are paid.
        remember: is told the numbers that were chosen anew, before they are written.
        ahead: so many batches may be unwritten when the next is chosen, so that nobody waits for the last
            answers of one; their plans count as taken. None comes instead of a batch until the others are
            written: whatever order answers come in, the choice is the same.

    Raises:
        HornbookError: fewer plans than calls.
    """
    if calls > len(plans):
        raise HornbookError(f"steering has {len(plans)} plans to choose from for {calls} calls; draw more.")
    width = width or max(1, len(plans) // max(1, calls))
    coverage, used = Coverage(), list[int]()
    chosen = list(dict.fromkeys(number for number in remembered if 0 <= number < len(plans)))
    taken = set(chosen)
    ends = [0] * (1 + ahead)  # of the batches that a choice may look at, and of those it may not yet
    begun = read = 0
    for size in repeat(batch) if isinstance(batch, int) else batch:
        now = min(size, calls - len(used))
        if now <= 0:
            break
        while len(texts) < ends[0]:
            yield None
        for number, text in zip(used[read : ends[0]], texts[read : ends[0]], strict=True):
            coverage.add(plans[number], text)
        read = ends.pop(0)
        ended = min(len(plans), begun + width * size)
        picked = chosen[len(used) : len(used) + now]
        if len(picked) < now:
            fresh = [number for number in range(begun, ended) if number not in taken]
            if len(fresh) < size:
                fresh = [number for number in range(ended) if number not in taken]
            under_way = [plans[number] for number in (*used[read:], *picked)]
            places = steer(coverage, [plans[n] for n in fresh], now - len(picked), under_way)
            more = [fresh[place] for place in places]
            remember(more)
            chosen += more
            taken.update(more)
            picked += more
        begun = ended
        used += picked
        ends.append(len(used))
        yield picked


def write_steered(
    plans: Sequence[Facets],
    calls: int,
    write: Callable[[Sequence[int]], Sequence[str]],
    **how: Any,
) -> list[int]:
    """Spends `calls` on the candidate plans, batch by batch; returns the numbers of those used, in order.

    Args:
        plans, how: as in `choose_steered`.
        write: texts of the plans with these numbers.

    Raises:
        HornbookError: fewer plans than calls.
    """
    texts, used = list[str](), list[int]()
    for picked in choose_steered(plans, calls, texts, **how):
        if picked is not None:
            written = write(picked)
            if len(written) != len(picked):
                raise ValueError(f"{len(picked)} plans were to be written, {len(written)} texts came")
            texts += written
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
        return cls._fitted(reference)[0]

    @classmethod
    def _fitted(cls, reference: Sequence[str]) -> tuple["Cells", npt.NDArray[np.float64]]:
        """And the vectors of the reference, before they are centred."""
        words = split(list(reference))
        seen: Counter[int] = Counter()
        for at in range(words.documents):
            seen.update(set(words.hashes[words.offsets[at] : words.offsets[at + 1]].tolist()))
        weights = {word: float(np.log(1 + words.documents / count)) for word, count in seen.items()}
        empty = cls(weights=weights, mean=np.zeros(64))
        vectors = empty.embed(reference)
        return cls(weights=weights, mean=vectors.mean(axis=0)), vectors

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """(texts, 64) unit vectors, centred; words that the reference does not have weigh as the rarest."""
        parts = [self._embed(texts[at : at + _AT_ONCE]) for at in range(0, len(texts), _AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros((0, 64))

    def _embed(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        words = split(list(texts))
        rarest = max(self.weights.values(), default=1.0)
        kinds, place = np.unique(words.hashes, return_inverse=True)
        weight = np.array([self.weights.get(word, rarest) for word in kinds.tolist()])
        bits = mix(kinds)[:, None] >> np.arange(64, dtype=np.uint64)[None] & np.uint64(1)
        signs = np.where(bits == 1, 1.0, -1.0) * weight[:, None]
        total = np.zeros((words.documents, 64))
        full = np.diff(words.offsets) > 0
        if full.any():
            total[full] = np.add.reduceat(signs[place], words.offsets[:-1][full], axis=0)
        norms = np.linalg.norm(total, axis=1, keepdims=True)
        return np.asarray(total / np.maximum(norms, 1e-12) - self.mean, np.float64)

    def of(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """(texts,) number of each text's cell."""
        return _numbers(self.embed(texts))

    @classmethod
    def of_own(cls, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """As `fit(texts).of(texts)`, embedding them once."""
        cells, vectors = cls._fitted(texts)
        return _numbers(vectors - cells.mean)


def _numbers(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.asarray((vectors[:, :_BITS] > 0) @ (1 << np.arange(_BITS)), np.int64)


def growth(
    texts: Sequence[str],
    facets: Sequence[Facets] | None = None,
    *,
    cells: Cells | None = None,
    coded: Coded | None = None,
    repeats: Sequence[bool] | None = None,
) -> list[dict[str, float]]:
    """Coverage as a set grows, at 100, 200, 400, ... texts and at the end.

    Keys: texts, `grams` (different 4-grams), `distinct_4` (the same over all 4-grams), `near_duplicates`
    (share that nearly repeats an earlier text), `cells` (different cells of the embedding) and for each kind
    of facet `<kind>` (values hit).

    Args:
        coded, repeats: the texts as numbers and their `near_duplicates`, if known already.
    """
    if not texts:
        return []
    coded = coded or Coded.of(texts)
    so_far = np.cumsum(near_duplicates(coded) if repeats is None else repeats)
    places = Cells.of_own(texts) if cells is None else cells.of(texts)
    sizes = [size for k in range(20) if (size := _FIRST << k) < len(texts)] + [len(texts)]
    grams, owners = coded.grams(GRAM)
    _, firsts = np.unique(grams, return_index=True)  # where each gram comes up first
    news = np.sort(owners[firsts])
    hit: dict[str, set[str]] = {}
    at = 0
    found = []
    for size in sizes:
        total, seen = np.searchsorted(owners, size), np.searchsorted(news, size)
        for plan in facets[at:size] if facets else ():
            for kind, value in facets_in(plan):
                hit.setdefault(kind, set()).add(value)
        at = size
        line = {
            "texts": float(size),
            "distinct_4": float(seen / total) if total else 0.0,
            "grams": float(seen),
            "near_duplicates": float(so_far[size - 1]) / size,
            "cells": float(len(np.unique(places[:size]))),
        }
        found.append(line | {kind: float(len(values)) for kind, values in hit.items()})
    return found


def never_hit(facets: Sequence[Facets], kind: str, known: Sequence[str]) -> list[str]:
    """Values of a kind that no plan had, in the order of `known`."""
    hit = {value for plan in facets for own, value in facets_in(plan) if own == kind}
    return [value for value in known if value not in hit]
