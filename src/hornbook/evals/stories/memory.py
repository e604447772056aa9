"""Does a storyteller copy? Rouge and k-grams against the training stories (TinyStories section 4).

The paper tells three kinds of copying apart: word for word, the same story with other names, the same plot in
the abstract. Four measurements see the first two: a story's end against the true end, the ends against one
another, how many k-grams no training story has, and the nearest training story. None means much alone: the
teacher's own held-out stories stand beside the student's, and a model that was made to memorise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from hornbook.curate.words import ngrams, split
from hornbook.errors import HornbookError
from hornbook.synth.diversity import rouge_f, rouge_precision

KS = (1, 2, 3, 4, 5, 6)
COPIED = 0.7
"""Rouge-2 precision against one training story above which a text counts as copied."""
_VOTE = 4
"""Training stories are shortlisted by the 4-grams they share with a text, then measured exactly."""


class TrainingIndex:
    """Training texts by their k-grams, to find the nearest and to see what is new.

    Memory: about 60 bytes a training word.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        if not texts:
            raise HornbookError("story memory: there is no training text to compare with.")
        self.texts = texts
        words = split(texts)
        self._known = {k: np.unique(ngrams(words.hashes, words.offsets, k)[0]) for k in KS}
        grams, first = ngrams(words.hashes, words.offsets, _VOTE)
        order = np.argsort(grams, kind="stable")
        self._grams, self._texts = grams[order], words.document[first][order]

    def shortlist(self, text: str, size: int = 20) -> list[int]:
        """The training texts that share most different 4-grams with a text, most first."""
        words = split([text])
        grams = np.unique(ngrams(words.hashes, words.offsets, _VOTE)[0])
        begin = np.searchsorted(self._grams, grams, "left")
        end = np.searchsorted(self._grams, grams, "right")
        spans = [np.unique(self._texts[a:b]) for a, b in zip(begin, end, strict=True) if b > a]
        if not spans:
            return []
        votes = np.bincount(np.concatenate(spans))
        best = np.argsort(-votes, kind="stable")[:size]
        return [int(number) for number in best if votes[number]]

    def nearest(self, text: str) -> tuple[float, int | None]:
        """The highest Rouge-2 precision of a text against a training text, and which; (0, None): none."""
        ranked = [(rouge_precision(text, self.texts[n], 2), -n) for n in self.shortlist(text)]
        if not ranked:
            return 0.0, None
        value, number = max(ranked)
        return value, -number

    def unseen(self, text: str) -> dict[int, float]:
        """By k, the share of a text's k-grams that no training text has; 0 for one without k words."""
        words = split([text])
        shares = {}
        for k, known in self._known.items():
            grams = ngrams(words.hashes, words.offsets, k)[0]
            place = np.minimum(np.searchsorted(known, grams), len(known) - 1) if len(known) else grams[:0]
            shares[k] = float(np.mean(known[place] != grams)) if len(place) else float(bool(len(grams)))
        return shares


def nearest_rouge(text: str, index: TrainingIndex) -> float:
    """Highest Rouge-2 precision of a text against the training texts that share most 4-grams with it."""
    return index.nearest(text)[0]


@dataclass(frozen=True, kw_only=True)
class Copying:
    """One generated ending. `nearest` is Rouge-2 precision against training text number `nearest_text`;
    `to_truth` against the true ending; `alike` the highest Rouge-2 F with another ending; `unseen` by k."""

    nearest: float
    nearest_text: int | None
    to_truth: float
    alike: float
    unseen: Mapping[int, float]


def copying(endings: Sequence[str], truths: Sequence[str], index: TrainingIndex) -> list[Copying]:
    """Each ending measured; one generated ending for each true one.

    Raises:
        HornbookError: not as many endings as truths.
    """
    if len(endings) != len(truths):
        raise HornbookError(f"story memory: {len(endings)} endings and {len(truths)} true ones; one each.")
    alike = [0.0] * len(endings)
    for at, one in enumerate(endings):
        for other in range(at):
            value = rouge_f(one, endings[other], 2)
            alike[at], alike[other] = max(alike[at], value), max(alike[other], value)
    found = []
    for ending, truth, most in zip(endings, truths, alike, strict=True):
        nearest, number = index.nearest(ending)
        found.append(
            Copying(
                nearest=nearest,
                nearest_text=number,
                to_truth=rouge_precision(ending, truth, 2),
                alike=most,
                unseen=index.unseen(ending),
            )
        )
    return found


def summary(found: Sequence[Copying]) -> dict[str, Any]:
    """Means over endings: `nearest`, `copied` (share above `COPIED`), `to_truth`, `alike`, `unseen` by k."""
    return {
        "nearest": fmean(one.nearest for one in found),
        "copied": fmean(one.nearest > COPIED for one in found),
        "to_truth": fmean(one.to_truth for one in found),
        "alike": fmean(one.alike for one in found),
        "unseen": {str(k): fmean(one.unseen[k] for one in found) for k in KS},
    }
