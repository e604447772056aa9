"""Find documents that give away an evaluation set.

Two rules look at every document:

- **13-gram** (TinyGSM, section 2; Brown et al. 2020, appendix C): the document shares a run of 13 words with
a
  question, after lower-casing and removal of digits and punctuation, so that a copy with other numbers still
  counts.
- **scored**: a window of the document holds most of the *informative* words and word pairs of one question.
Words
  weigh by inverse document frequency; a short question must match almost entirely, a long one less; a
  question that almost matches counts when its answer follows. Paraphrases that keep no run of 13 words are
  found this way, and a passage that an item merely quotes (an encyclopaedia article) is not counted against
  its source.

Programs are also compared by their syntax: see `ast_distance`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hornbook.curate.ast_distance import CodeIndex
from hornbook.curate.features import arrays_key
from hornbook.curate.repetition import F64
from hornbook.curate.words import I64, U64, HashSet, Words, hash_words, ngrams, split
from hornbook.errors import HornbookError
from hornbook.lab.files import sha256_of


@dataclass(frozen=True, kw_only=True)
class EvaluationItem:
    """One question of an evaluation set.

    id: unique in its set. question: what is asked, without the passage. answer: the reference answer, may be
    empty. passage: text the question is about, may be empty. code: a reference program, compared by syntax;
    may be empty.
    """

    id: str
    question: str
    answer: str = ""
    passage: str = ""
    code: str = ""


EvaluationSets = Mapping[str, Sequence[EvaluationItem]]


@dataclass(frozen=True, kw_only=True)
class DecontaminationSettings:
    """ngram: words in the shared run (13 in the paper); 0 switches the rule off.
    long, short: least score at which a question of at least 40 words (at most 8) counts as given away;
    between them the threshold falls linearly; 0 for `long` switches the scored rule off. answer_bonus: what
    the threshold falls by when the answer stands behind the question. shortest: questions of fewer words are
    not looked for by score. similar_code: least syntax similarity of a program (see `ast_distance`); 0
    switches that rule off."""

    ngram: int = 13
    long: float = 0.6
    short: float = 0.9
    answer_bonus: float = 0.1
    shortest: int = 6
    similar_code: float = 0.95

    def __post_init__(self) -> None:
        if self.ngram < 0:
            raise HornbookError(f"decontamination: ngram = {self.ngram}; it is 0 (off) or a number of words.")
        for name in ("long", "short", "answer_bonus", "similar_code"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise HornbookError(f"decontamination: {name} = {value}; it must lie between 0 and 1.")
        if self.short < self.long:
            raise HornbookError(
                f"decontamination: short = {self.short} is below long = {self.long}; "
                "short questions need the higher one."
            )

    def threshold(self, words: npt.NDArray[Any]) -> F64:
        """Least score for questions of these lengths (in words without digits)."""
        return np.asarray(np.interp(words, [8, 40], [self.short, self.long]), np.float64)


@dataclass(frozen=True, kw_only=True)
class Match:
    """A document that gives an item away. rule: "13-gram" (with the number set), "scored" or "syntax"; score:
    shared n-grams, weighted share or syntax similarity; text: the place in the document, lower-cased as
    compared or raw."""

    document: int
    evaluation_set: str
    item: str
    rule: str
    score: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Letters:
    """A batch of words with digits removed: hashes, the index of each in the `Words`, document offsets."""

    hashes: U64
    word: I64
    offsets: I64


_DIGITS = re.compile(r"\d+")


def without_digits(words: Words) -> Letters:
    """Drop numbers, and digits inside words ("x2" becomes "x")."""
    keep = words.alphabetic | ~words.numeric
    hashes = words.hashes
    mixed = np.flatnonzero(words.alphabetic & words.numeric)
    if len(mixed):
        unique, one, inverse = np.unique(hashes[mixed], return_index=True, return_inverse=True)
        # Digits leave first, then all are hashed in one split; a word that keeps no letter cannot occur here.
        stripped = [_DIGITS.sub("", words.text(words.starts[i], words.ends[i])) for i in mixed[one]]
        pieces = split(stripped)
        plain = pieces.counts == 1
        new = unique.copy()
        new[plain] = pieces.hashes[pieces.offsets[:-1][plain]]
        hashes = hashes.copy()
        hashes[mixed] = new[inverse]
    kept = np.flatnonzero(keep)
    before = np.concatenate([[0], np.cumsum(keep)])
    return Letters(hashes=hashes[kept], word=kept, offsets=before[words.offsets])


class Decontaminator:
    """An index of evaluation sets that batches of documents are held against.

    Args:
        sets: {name: items}. background: a sample of the corpus, whose word frequencies say which words
        inform;
            without it the questions themselves are the sample.
    """

    def __init__(
        self,
        sets: EvaluationSets,
        settings: DecontaminationSettings | None = None,
        background: Sequence[str] = (),
    ) -> None:
        self.settings = settings or DecontaminationSettings()
        self.labels = [(name, item.id) for name, items in sets.items() for item in items]
        items = [item for group in sets.values() for item in group]
        self.items = items
        self._words = split([item.question for item in items])
        self._questions = without_digits(self._words)
        self._answers = without_digits(split([item.answer for item in items]))
        self._index_ngrams()
        self._index_words(background)
        programs = [item.code for item in items] if self.settings.similar_code else []
        self._programs = CodeIndex(programs)
        self._def = hash_words("def")[0]

    @property
    def key(self) -> str:
        """Names the questions and the word frequencies they are weighed by: equal keys, equal matches."""
        weights = arrays_key({"words": self._vocabulary.sorted, "idf": self._idf})
        return sha256_of([self.labels, [asdict(item) for item in self.items], weights])

    def _index_ngrams(self) -> None:
        n = self.settings.ngram
        none = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        hashes, first = ngrams(self._questions.hashes, self._questions.offsets, n) if n else none
        self._ngrams = HashSet(hashes)
        # The first question with each n-gram answers for it.
        owner = np.searchsorted(self._questions.offsets, first, "right") - 1
        _, one = np.unique(hashes, return_index=True)
        self._ngram_owner = owner[one]

    def _index_words(self, background: Sequence[str]) -> None:
        """Inverse document frequencies, and for every informative word the questions that have it."""
        questions = self._questions
        document = np.repeat(np.arange(len(self.items)), np.diff(questions.offsets))
        self._vocabulary = HashSet(questions.hashes)
        _, index = self._vocabulary.find(questions.hashes)
        pairs = np.unique(np.stack([index, document]), axis=1)
        in_questions = np.bincount(pairs[0], minlength=len(self._vocabulary))
        frequency = in_questions.astype(np.float64)
        sample = max(len(self.items), 1)
        if background:
            other = without_digits(split(background))
            where, word = self._vocabulary.find(other.hashes)
            owner = np.searchsorted(other.offsets, where, "right") - 1
            found = np.unique(np.stack([word, owner]), axis=1)
            frequency += np.bincount(found[0], minlength=len(self._vocabulary))
            sample += len(background)
        self._idf = np.log((1 + sample) / (0.5 + frequency))
        self._question_words = [
            np.unique(index[a:b]) for a, b in zip(questions.offsets[:-1], questions.offsets[1:])
        ]
        self._question_length = np.diff(questions.offsets)
        self._question_weight = np.array([self._idf[w].sum() for w in self._question_words])
        self._question_sequence = [index[a:b] for a, b in zip(questions.offsets[:-1], questions.offsets[1:])]
        # Postings only of words in few questions: they are what makes a candidate.
        rare = in_questions <= max(32, len(self.items) // 50)
        kept = rare[pairs[0]] & (self._question_length[pairs[1]] >= self.settings.shortest)
        self._posting_item = pairs[1][kept]
        self._posting_offsets = np.searchsorted(pairs[0][kept], np.arange(len(self._vocabulary) + 1))
        self._rare_weight = np.bincount(
            self._posting_item, weights=self._idf[pairs[0][kept]], minlength=len(self.items)
        )

    def ngram_matches(self, words: Words) -> list[Match]:
        """The 13-gram rule: at most one match a document, with the question it shares most n-grams with."""
        n = self.settings.ngram
        if not n or not len(self._ngrams):
            return []
        text = without_digits(words)
        hashes, first = ngrams(text.hashes, text.offsets, n)
        where, index = self._ngrams.find(hashes)
        if not len(where):
            return []
        document = np.searchsorted(text.offsets, first[where], "right") - 1
        owner = self._ngram_owner[index]
        found = []
        for d in np.unique(document).tolist():
            mine = np.flatnonzero(document == d)
            names, count = np.unique(owner[mine], return_counts=True)
            item = int(names[np.argmax(count)])
            at = int(first[where[mine[np.argmax(owner[mine] == item)]]])
            span = words.starts[text.word[at]], words.ends[text.word[at + n - 1]]
            found.append(self._match(d, item, f"{n}-gram", float(count.max()), words.text(*span)))
        return found

    def scored_matches(self, words: Words) -> list[Match]:
        """The scored rule: at most one match a document, the best one."""
        if not self.settings.long or not len(self.items):
            return []
        text = without_digits(words)
        where, vocabulary = self._vocabulary.find(text.hashes)
        document = np.searchsorted(text.offsets, where, "right") - 1
        best: dict[int, Match] = {}
        for d, item in self._candidates(document, vocabulary):
            low, high = np.searchsorted(document, (d, d + 1))
            score, start, end = self._score(item, where[low:high], vocabulary[low:high])
            threshold = float(self.settings.threshold(self._question_length[item]))
            if score < threshold and score >= threshold - self.settings.answer_bonus:
                behind = text.hashes[start : min(end + 60, int(text.offsets[d + 1]))]
                if self._answer_in(item, behind):
                    threshold -= self.settings.answer_bonus
            if score >= threshold and (d not in best or score > best[d].score):
                span = words.starts[text.word[start]], words.ends[text.word[end - 1]]
                best[d] = self._match(d, item, "scored", score, words.text(*span))
        return [best[d] for d in sorted(best)]

    def syntax_matches(self, words: Words) -> list[Match]:
        """The syntax rule: documents with a function whose syntax tree is that of a reference program."""
        if not len(self._programs):
            return []
        found = []
        defined = np.searchsorted(words.offsets, np.flatnonzero(words.hashes == self._def), "right") - 1
        for d in np.unique(defined).tolist():
            text = words.text(words.characters[d], words.characters[d + 1])
            best = self._programs.best(text, self.settings.similar_code)
            if best is not None:
                found.append(self._match(d, best[0], "syntax", best[1], f"def {best[2]}"))
        return found

    def _candidates(self, document: I64, vocabulary: I64) -> Iterable[tuple[int, int]]:
        """(document, item) pairs that share at least half the weight of the item's rare words."""
        pairs = np.unique(document * len(self._vocabulary) + vocabulary)
        owner, word = pairs // max(len(self._vocabulary), 1), pairs % max(len(self._vocabulary), 1)
        start, end = self._posting_offsets[word], self._posting_offsets[word + 1]
        count = end - start
        # Every shared rare word votes with its weight for the questions that have it.
        total = int(count.sum())
        step = np.arange(total) - np.repeat(np.cumsum(count) - count, count)
        item = self._posting_item[np.repeat(start, count) + step]
        key = np.repeat(owner, count) * len(self.items) + item
        keys, inverse = np.unique(key, return_inverse=True)
        votes = np.bincount(inverse, weights=np.repeat(self._idf[word], count), minlength=len(keys))
        passed = keys[votes >= 0.5 * self._rare_weight[keys % len(self.items)]]
        return [(int(k) // len(self.items), int(k) % len(self.items)) for k in passed]

    def _score(self, item: int, where: I64, vocabulary: I64) -> tuple[float, int, int]:
        """Best window of a document for one item: (score, first word, one past the last).

        Score: 0.6 times the weighted share of the question's words that the window has, plus 0.4 times the
        weighted share of its pairs of adjacent words.
        """
        mine = np.isin(vocabulary, self._question_words[item])
        place, word = where[mine], vocabulary[mine]
        sequence = self._question_sequence[item]
        width = int(1.5 * len(sequence)) + 5
        ends = np.searchsorted(place, place + width)
        running = np.concatenate([[0.0], np.cumsum(self._idf[word])])
        # Windows are tried from the heaviest on; repeated words make a window look heavier than it is.
        order = np.argsort(-(running[ends] - running[np.arange(len(place))]), kind="stable")[:8]
        pairs = set(zip(sequence[:-1].tolist(), sequence[1:].tolist()))
        weigh = {pair: float(self._idf[pair[0]] + self._idf[pair[1]]) for pair in pairs}
        weight = sum(weigh.values())
        best = (0.0, 0, 1)
        for i in order.tolist():
            inside, at = word[i : ends[i]], place[i : ends[i]]
            contained = self._idf[np.unique(inside)].sum() / max(self._question_weight[item], 1e-9)
            adjacent = np.flatnonzero(np.diff(at) == 1)
            shared = pairs & set(zip(inside[adjacent].tolist(), inside[adjacent + 1].tolist()))
            ordered = sum(weigh[p] for p in shared) / weight if weight > 0 else contained
            score = float(0.6 * contained + 0.4 * ordered)
            if score > best[0]:
                best = (score, int(at[0]), int(at[-1]) + 1)
        return best

    def _answer_in(self, item: int, hashes: U64) -> bool:
        """All words of the answer stand in `hashes`; an answer without letters says nothing."""
        answer = self._answers.hashes[self._answers.offsets[item] : self._answers.offsets[item + 1]]
        return len(answer) > 0 and bool(np.isin(answer, hashes).all())

    def _match(self, document: int, item: int, rule: str, score: float, text: str) -> Match:
        name, identity = self.labels[item]
        return Match(
            document=document, evaluation_set=name, item=identity, rule=rule, score=round(score, 4), text=text
        )

    def matches(self, words: Words) -> list[Match]:
        """At most one match a document: by n-gram if there is one, else by score, else by syntax."""
        found = {m.document: m for m in self.syntax_matches(words)}
        found |= {m.document: m for m in self.scored_matches(words)}
        found |= {m.document: m for m in self.ngram_matches(words)}
        return [found[d] for d in sorted(found)]
