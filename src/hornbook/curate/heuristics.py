"""Rule-of-thumb quality filters, measured for a whole batch at once.

Each rule bounds one measured number for some kinds of text and names its source. Thresholds are the published
ones for prose; `code` and `docs` (prose interleaved with code, such as reference pages) have their own,
because a rule written for web pages would throw away most good programs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hornbook.curate.repetition import F64, measure_repetition, per_document, share
from hornbook.curate.words import I64, U64, Bool, HashSet, Words, hash_words
from hornbook.errors import HornbookError

KINDS = ("prose", "docs", "code")
GOPHER = "Gopher, Rae et al. 2021, appendix A1"
C4 = "C4, Raffel et al. 2020, section 2.2"
FINEWEB = "FineWeb, Penedo et al. 2024, section 3.5"
CODEX = "Codex, Chen et al. 2021, section 3.1"
STARCODER = "StarCoder, Li et al. 2023, section 3"
ADAPTED = "Hornbook: the rule above, loosened for this kind of text"
# Gopher asks for two of these eight.
STOP_WORDS = "the be to of and that have with"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One bound on one measure.

    name: the reason written beside a removed document. measure: a key of `measure`. at_least, at_most:
    inclusive bounds, None for no bound. kinds: to which kinds of text it applies. source: where the number
    comes from.
    """

    name: str
    measure: str
    at_least: float | None = None
    at_most: float | None = None
    kinds: tuple[str, ...] = ("prose",)
    source: str = GOPHER

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise HornbookError(
                f"rule {self.name!r}: there is no measure {self.measure!r}; there are {', '.join(MEASURES)}."
            )
        if self.at_least is None and self.at_most is None:
            raise HornbookError(f"rule {self.name!r} has no bound: give at_least, at_most or both.")
        unknown = set(self.kinds) - set(KINDS)
        if unknown:
            raise HornbookError(
                f"rule {self.name!r}: unknown kind {sorted(unknown)[0]!r}; kinds are {', '.join(KINDS)}."
            )

    def breaks(self, values: F64) -> Bool:
        """(documents,) which values lie outside the bounds."""
        outside = np.zeros(len(values), np.bool_)
        if self.at_least is not None:
            outside |= values < self.at_least
        if self.at_most is not None:
            outside |= values > self.at_most
        return outside


MEASURES = (
    "characters",
    "words",
    "mean_word_length",
    "hash_ratio",
    "ellipsis_ratio",
    "bullet_lines",
    "ellipsis_lines",
    "alphabetic_words",
    "stop_words",
    "sentences",
    "curly_brackets",
    "lorem_ipsum",
    "terminal_punctuation",
    "short_lines",
    "line_breaks_per_word",
    "mean_line_length",
    "longest_line",
    "alphanumeric",
    "letters",
    "control_characters",
    "duplicate_lines",
    "duplicate_line_characters",
    "duplicate_paragraphs",
    "duplicate_paragraph_characters",
    "top_2gram",
    "top_3gram",
    "top_4gram",
    "duplicate_5gram",
    "duplicate_6gram",
    "duplicate_7gram",
    "duplicate_8gram",
    "duplicate_9gram",
    "duplicate_10gram",
)


def _default_rules() -> tuple[Rule, ...]:
    every = KINDS
    text = ("prose", "docs")
    return (
        Rule(name="binary", measure="control_characters", at_most=0.001, kinds=every, source="Hornbook"),
        Rule(name="too_few_words", measure="words", at_least=50, kinds=text),
        Rule(name="too_few_words", measure="words", at_least=20, kinds=("code",), source=ADAPTED),
        Rule(name="too_many_words", measure="words", at_most=100_000, kinds=every),
        Rule(name="word_length", measure="mean_word_length", at_least=3, at_most=10, kinds=text),
        Rule(name="hash_symbols", measure="hash_ratio", at_most=0.1),
        Rule(name="ellipses", measure="ellipsis_ratio", at_most=0.1, kinds=text),
        Rule(name="bullet_lines", measure="bullet_lines", at_most=0.9),
        Rule(name="ellipsis_lines", measure="ellipsis_lines", at_most=0.3, kinds=text),
        Rule(name="words_without_letters", measure="alphabetic_words", at_least=0.8),
        Rule(
            name="words_without_letters",
            measure="alphabetic_words",
            at_least=0.6,
            kinds=("docs",),
            source=ADAPTED,
        ),
        Rule(
            name="words_without_letters",
            measure="alphabetic_words",
            at_least=0.4,
            kinds=("code",),
            source=ADAPTED,
        ),
        Rule(name="stop_words", measure="stop_words", at_least=2, kinds=text),
        Rule(name="duplicate_lines", measure="duplicate_lines", at_most=0.3),
        Rule(
            name="duplicate_lines",
            measure="duplicate_lines",
            at_most=0.5,
            kinds=("docs", "code"),
            source=ADAPTED,
        ),
        Rule(name="duplicate_paragraphs", measure="duplicate_paragraphs", at_most=0.3, kinds=every),
        Rule(name="duplicate_line_characters", measure="duplicate_line_characters", at_most=0.2),
        Rule(
            name="duplicate_line_characters",
            measure="duplicate_line_characters",
            at_most=0.35,
            kinds=("docs", "code"),
            source=ADAPTED,
        ),
        Rule(
            name="duplicate_paragraph_characters",
            measure="duplicate_paragraph_characters",
            at_most=0.2,
            kinds=every,
        ),
        *(
            Rule(name=f"top_{n}gram", measure=f"top_{n}gram", at_most=limit, kinds=text)
            for n, limit in ((2, 0.20), (3, 0.18), (4, 0.16))
        ),
        *(
            Rule(name=f"duplicate_{n}gram", measure=f"duplicate_{n}gram", at_most=limit)
            for n, limit in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
        ),
        Rule(
            name="duplicate_10gram",
            measure="duplicate_10gram",
            at_most=0.4,
            kinds=("docs", "code"),
            source=ADAPTED,
        ),
        Rule(
            name="too_few_sentences",
            measure="sentences",
            at_least=3,
            source=f"{C4}: pages of fewer than 3 sentences",
        ),
        Rule(name="lorem_ipsum", measure="lorem_ipsum", at_most=0, kinds=text, source=C4),
        Rule(name="curly_brackets", measure="curly_brackets", at_most=0, source=C4),
        Rule(name="no_terminal_punctuation", measure="terminal_punctuation", at_least=0.12, source=FINEWEB),
        Rule(name="short_lines", measure="short_lines", at_most=0.67, source=FINEWEB),
        Rule(name="line_breaks", measure="line_breaks_per_word", at_most=0.3, source=FINEWEB),
        Rule(name="long_lines", measure="mean_line_length", at_most=100, kinds=("code",), source=CODEX),
        Rule(name="longest_line", measure="longest_line", at_most=1000, kinds=("code",), source=CODEX),
        Rule(
            name="few_alphanumerics",
            measure="alphanumeric",
            at_least=0.25,
            kinds=("code", "docs"),
            source=CODEX,
        ),
        Rule(name="few_letters", measure="letters", at_least=0.25, kinds=("code",), source=STARCODER),
    )


DEFAULT_RULES = _default_rules()


def measure(words: Words) -> dict[str, F64]:
    """All numbers the rules look at: {name: (documents,) float64}, keys as in `MEASURES`.

    Shares are of words, lines that are not blank, or characters, as the rule's source has it; `alphanumeric`
    and `letters` are shares of the characters that are not white space.
    """
    counts = words.counts
    characters = np.diff(words.characters)
    lines = words.lines
    full = ~lines.blank
    line_count = per_document(full, lines.offsets)
    solid = characters - words.spaces
    codes = words.codes
    dots = _ellipses(codes)
    found: dict[str, npt.NDArray[Any]] = {
        "characters": characters,
        "words": counts,
        "mean_word_length": share(per_document(words.lengths, words.offsets), counts),
        "hash_ratio": share(_in_documents(np.flatnonzero(codes == ord("#")), words), counts),
        "ellipsis_ratio": share(_in_documents(dots, words), counts),
        "alphabetic_words": share(per_document(words.alphabetic, words.offsets), counts),
        "stop_words": distinct_hits(words, _hashed(STOP_WORDS)),
        "sentences": _sentences(words),
        "curly_brackets": _in_documents(np.flatnonzero(codes == ord("{")), words),
        "lorem_ipsum": _phrase(words, "lorem ipsum"),
        "line_breaks_per_word": share(_in_documents(np.flatnonzero(codes == 10), words), counts),
        "mean_line_length": share(per_document(lines.lengths, lines.offsets), line_count),
        "longest_line": _longest(lines.lengths, lines.offsets),
        "alphanumeric": share(words.letters + words.digits, solid),
        "letters": share(words.letters, solid),
        "control_characters": share(
            _in_documents(np.flatnonzero(_CONTROL.take(codes, mode="clip")), words), characters
        ),
    }
    ends = lines.ends[full]
    starts = lines.starts[full]
    final = codes[ends - 1]
    line_offsets = np.concatenate([[0], np.cumsum(full)])[lines.offsets]
    lengths = lines.lengths[full]
    three_dots = (final == ord(".")) & (lengths >= 3)
    three_dots[three_dots] = (codes[ends[three_dots] - 2] == ord(".")) & (
        codes[ends[three_dots] - 3] == ord(".")
    )
    per_line = {
        "bullet_lines": _BULLETS.take(codes[starts], mode="clip"),
        "ellipsis_lines": three_dots | (final == 0x2026),
        "terminal_punctuation": _TERMINAL.take(final, mode="clip"),
        "short_lines": lengths <= 30,
    }
    for name, mask in per_line.items():
        found[name] = share(per_document(mask, line_offsets), line_count)
    return {name: values.astype(np.float64) for name, values in (found | measure_repetition(words)).items()}


def _table(characters: str) -> Bool:
    """True at these code points; the last place, for all that lie beyond, is False."""
    found = np.zeros(max(map(ord, characters)) + 2, np.bool_)
    found[[ord(c) for c in characters]] = True
    return found


_BULLETS = _table("-*•‣▶◦●■□–")
_TERMINAL = _table(".!?\"'”’»。！？…")
_CONTROL = np.array([(c < 32 and c not in (9, 10, 11, 12, 13, 27)) or c == 127 for c in range(129)])


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the rules say about a batch.

    reason: (documents,) index into `rules` of the first broken rule, -1 where none is. score: the number that
    broke it, NaN where none is. broken: (documents, rules) which rules are broken.
    """

    rules: tuple[Rule, ...]
    reason: I64
    score: F64
    broken: Bool

    @property
    def names(self) -> list[str | None]:
        """(documents,) the reason of each removed document, None for a kept one."""
        return [None if r < 0 else self.rules[r].name for r in self.reason.tolist()]


def judge(
    measures: dict[str, F64], kinds: Sequence[str] | npt.NDArray[Any], rules: tuple[Rule, ...]
) -> Verdict:
    """Hold the measures of a batch against the rules.

    Args:
        kinds: (documents,) each "prose", "docs" or "code".
        rules: in order of precedence: the first broken one is the reason.
    """
    kind = np.asarray(kinds)
    documents = len(kind)
    applies = {which: np.isin(kind, which) for which in {rule.kinds for rule in rules}}
    broken = np.zeros((documents, len(rules)), np.bool_)
    values = np.zeros((documents, len(rules)))
    for i, rule in enumerate(rules):
        values[:, i] = measures[rule.measure]
        broken[:, i] = rule.breaks(values[:, i]) & applies[rule.kinds]
    any_broken = broken.any(axis=1)
    reason = np.where(any_broken, broken.argmax(axis=1) if len(rules) else 0, -1)
    score = np.full(documents, np.nan)
    rows = np.flatnonzero(any_broken)
    score[rows] = values[rows, reason[rows]]
    return Verdict(rules=rules, reason=reason.astype(np.int64), score=score, broken=broken)


def distinct_hits(words: Words, vocabulary: U64) -> I64:
    """(documents,) how many different words of `vocabulary` (hashes) a document has."""
    where, index = HashSet(vocabulary).find(words.hashes)
    pairs = np.unique(words.document[where] * len(vocabulary) + index)
    return np.bincount(pairs // max(len(vocabulary), 1), minlength=words.documents).astype(np.int64)


def _in_documents(positions: I64, words: Words) -> I64:
    """(documents,) how many of the sorted character positions fall in each document."""
    return np.diff(np.searchsorted(positions, words.characters))


def _ellipses(codes: npt.NDArray[Any]) -> I64:
    """Positions where an ellipsis begins: three dots (not overlapping) or the one character."""
    dots = np.flatnonzero(codes == ord("."))
    new = np.ones(len(dots), np.bool_)
    new[1:] = np.diff(dots) != 1
    run_start = np.flatnonzero(new)
    run = np.diff(np.concatenate([run_start, [len(dots)]]))
    starts = np.repeat(dots[run_start], run // 3)
    if codes.dtype != np.uint8:
        starts = np.sort(np.concatenate([starts, np.flatnonzero(codes == 0x2026)]))
    return starts


def _sentences(words: Words) -> I64:
    """(documents,) ends of sentences: a full stop, exclamation or question mark before white space or the
    end.
    """
    codes = words.codes
    mark = (codes == ord(".")) | (codes == ord("!")) | (codes == ord("?"))
    if codes.dtype != np.uint8:
        mark |= np.isin(codes, np.array([0x3002, 0xFF01, 0xFF1F]))
    where = np.flatnonzero(mark)
    if not len(where):
        return np.zeros(words.documents, np.int64)
    after = codes[np.minimum(where + 1, len(codes) - 1)]
    last = np.zeros(len(codes) + 1, np.bool_)
    last[words.characters] = True
    wide = codes[where] > 0x3000
    ends = (after <= 32) | last[where + 1] | wide | np.isin(after, np.array([ord(c) for c in "\"')”’"]))
    return _in_documents(where[ends], words)


@cache
def _hashed(text: str) -> U64:
    return hash_words(text)


def _phrase(words: Words, phrase: str) -> I64:
    target = _hashed(phrase)
    n = len(target)
    first = np.flatnonzero(words.hashes == target[0])
    document = np.searchsorted(words.offsets, first, "right") - 1
    inside = first + n <= words.offsets[document + 1]
    first, document = first[inside], document[inside]
    hit = np.ones(len(first), np.bool_)
    for i in range(n):
        hit &= words.hashes[first + i] == target[i]
    return np.bincount(document[hit], minlength=words.documents).astype(np.int64)


def _longest(lengths: I64, offsets: I64) -> I64:
    longest = np.zeros(len(offsets) - 1, np.int64)
    filled = np.flatnonzero(offsets[1:] > offsets[:-1])
    if len(filled):
        longest[filled] = np.maximum.reduceat(lengths, offsets[filled])
    return longest
