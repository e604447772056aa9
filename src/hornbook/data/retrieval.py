"""Finding the passages of a user's documents that a question is about, so that a small model can read them.

A small model has no room for many facts; the authors of phi-3 suggest a search beside it (arXiv 2404.14219,
on the model's weaknesses). Passages are ranked by BM25 (Robertson and Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009), which needs no model, no index on disk and no network.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hornbook.errors import HornbookError

_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n{2,}")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A stretch of a document: which, where its first character stands in it, and the text."""

    source: str
    start: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """A passage with its score; higher is closer to the question."""

    passage: Passage
    score: float


def passages_of(source: str, text: str, *, words: int = 120) -> list[Passage]:
    """`text` cut at sentence ends and blank lines into passages of at most about `words` words.

    A sentence longer than that is cut between words. Nothing but white space is lost.
    """
    if words < 1:
        raise HornbookError(f"words is {words}; a passage has at least 1 word.")
    found: list[Passage] = []
    begin = end = held = 0
    for left, right in _pieces(text, words):
        size = len(_WORD.findall(text, left, right))
        if held and held + size > words:
            found.append(Passage(source=source, start=begin, text=text[begin:end]))
            held = 0
        if not held:
            begin = left
        held, end = held + max(size, 1), right
    if held:
        found.append(Passage(source=source, start=begin, text=text[begin:end]))
    return found


def _pieces(text: str, words: int) -> Iterable[tuple[int, int]]:
    """Spans of sentences, without the white space around them; long ones in parts of `words` words."""
    edges = [0, *(edge for match in _SENTENCE_END.finditer(text) for edge in match.span()), len(text)]
    for left, right in zip(edges[::2], edges[1::2]):
        while left < right and text[left].isspace():
            left += 1
        while right > left and text[right - 1].isspace():
            right -= 1
        if left == right:
            continue
        starts = [match.start() for match in _WORD.finditer(text, left, right)]
        cuts = [left, *starts[words::words], right]
        for begin, end in pairwise(cuts):
            while text[end - 1].isspace():
                end -= 1
            yield begin, end


class PassageIndex:
    """Passages ready to be searched.

    Args:
        k1: how soon a repeated word stops counting more.
        b: how much long passages are held back, 0 to 1.
    """

    def __init__(self, passages: Sequence[Passage], *, k1: float = 1.2, b: float = 0.75) -> None:
        if k1 < 0 or not 0 <= b <= 1:
            raise HornbookError(f"k1 is {k1} and b {b}; accepted are k1 of at least 0 and b in [0, 1].")
        self.passages = list(passages)
        places: dict[str, list[int]] = {}
        counts: dict[str, list[int]] = {}
        lengths = np.zeros(len(self.passages))
        for i, passage in enumerate(self.passages):
            bag = Counter(words_of(passage.text))
            lengths[i] = sum(bag.values())
            for word, count in bag.items():
                places.setdefault(word, []).append(i)
                counts.setdefault(word, []).append(count)
        mean = float(lengths.mean()) if self.passages else 1.0
        held_back = k1 * (1 - b + b * lengths / max(mean, 1e-9))
        self._weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for word, where in places.items():
            index, times = np.asarray(where), np.asarray(counts[word], dtype=np.float64)
            rare = math.log(1 + (len(self.passages) - len(where) + 0.5) / (len(where) + 0.5))
            self._weights[word] = index, rare * times * (k1 + 1) / (times + held_back[index])

    def search(self, question: str, *, most: int = 3) -> list[Found]:
        """The `most` best passages, best first; none that shares no word with the question."""
        scores = np.zeros(len(self.passages))
        for word in set(words_of(question)):
            if word in self._weights:
                where, weight = self._weights[word]
                scores[where] += weight
        order = np.argsort(-scores, kind="stable")[:most]
        return [Found(passage=self.passages[i], score=float(scores[i])) for i in order if scores[i] > 0]


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared: any letters and digits, case folded."""
    return _WORD.findall(text.casefold())


def with_passages(question: str, found: Sequence[Found]) -> str:
    """What a model is asked when it may read: the passages, numbered, then the question."""
    if not found:
        return question
    shown = "\n\n".join(f"[{i}] {one.passage.text}" for i, one in enumerate(found, 1))
    return f"Answer from these passages.\n\n{shown}\n\nQuestion: {question}"
