"""Anchors: the expressions that only one text has, and the generic ones to put in their place.

Eldan and Russinovich (arXiv 2310.02238), the dictionary of anchor terms. The paper asks a strong language
model for it; here it is found by counting. An anchor is a word or a pair of words that stands far more often
in the target text than in generic text (log-odds with an informative Dirichlet prior, Monroe et al. 2008).
Its replacement is the generic word whose neighbours are most alike, no two anchors sharing one. The
dictionary is a JSON file that a person may edit.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hornbook.errors import HornbookError
from hornbook.lab.files import write_json

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_Z = 3.0
"""Standard deviations of the log-odds from which a word counts as the target's own."""


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """An expression of the target text, its generic counterpart, and how often the target has it."""

    anchor: str
    generic: str
    count: int = 0

    def __post_init__(self) -> None:
        for name in ("anchor", "generic"):
            if not getattr(self, name).strip():
                raise HornbookError(f"An anchor has an empty {name} ({self}); fill it in or take it out.")


@dataclass(frozen=True)
class Span:
    """A stretch of the original text and of the translated one, as character offsets."""

    start: int
    end: int
    new_start: int
    new_end: int
    anchor: Anchor | None


class Dictionary:
    """Anchors by their expression. Longest expressions are replaced first, whole words only."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        self.anchors = list(anchors)
        self._known = {entry.anchor.lower(): entry for entry in self.anchors}
        if len(self._known) < len(self.anchors):
            raise HornbookError("Two anchors are the same expression; keep one of them.")
        again = [entry.generic for entry in self.anchors if entry.generic.lower() in self._known]
        if again:
            raise HornbookError(
                f"The replacement {again[0]!r} is itself an anchor: replacing would bring the target back."
            )
        longest = sorted((re.escape(entry.anchor) for entry in self.anchors), key=len, reverse=True)
        self._pattern = (
            re.compile(rf"(?<!\w)(?:{'|'.join(longest)})(?!\w)", re.IGNORECASE) if longest else None
        )

    def translate(self, text: str) -> tuple[str, list[Span]]:
        """The text with its anchors replaced (capitals kept), and which stretch became which."""
        new, spans, at = "", [], 0
        for match in self._pattern.finditer(text) if self._pattern else ():
            if match.start() > at:
                spans.append(Span(at, match.start(), len(new), len(new) + match.start() - at, None))
                new += text[at : match.start()]
            anchor = self._known[match.group().lower()]
            put = _cased(anchor.generic, match.group())
            spans.append(Span(match.start(), match.end(), len(new), len(new) + len(put), anchor))
            new, at = new + put, match.end()
        if at < len(text):
            spans.append(Span(at, len(text), len(new), len(new) + len(text) - at, None))
            new += text[at:]
        return new, spans

    def write(self, path: Path) -> None:
        """Writes the dictionary for review: a list of {anchor, generic, count}."""
        write_json(path, [{"anchor": a.anchor, "generic": a.generic, "count": a.count} for a in self.anchors])

    @classmethod
    def read(cls, path: Path) -> "Dictionary":
        """A dictionary that `write` or a person made.

        Raises:
            HornbookError: the file is not such a list.
        """
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                Anchor(anchor=row["anchor"], generic=row["generic"], count=int(row.get("count", 0)))
                for row in rows
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise HornbookError(
                f"{path} is not a dictionary of anchors, a JSON list of {{anchor, generic}}: {error}"
            ) from error


def _cased(word: str, like: str) -> str:
    if like[:1].isupper():
        return word[:1].upper() + word[1:]
    return word


def find_anchors(
    target: Sequence[str], generic: Sequence[str], *, least: int = 5, most: int = 1500, z: float = _Z
) -> Dictionary:
    """The target's own expressions with generic ones in their place.

    Args:
        target, generic: texts of the same kind of writing, or forms of speech count as anchors too.
        least: how often the target must have an expression.
        most: anchors kept, the surest first.
        z: standard deviations of the log-odds from which an expression is the target's own.

    Raises:
        HornbookError: nothing in the target is its own, or generic text has no words to put in place.
    """
    own, common = _counts(target), _counts(generic)
    scores = log_odds(own, common)
    # An expression that generic text also has at a similar place is not idiosyncratic, however frequent.
    words = {
        word: score
        for word, score in scores.items()
        if score >= z and own[word] >= least and common[word] * 20 < own[word]
    }
    if not words:
        raise HornbookError(
            f"No expression occurs {least} times or more in the target and hardly ever in the generic text: "
            "there is nothing to replace. Give more of the target, or a dictionary of yours."
        )
    chosen = sorted(words, key=lambda word: -words[word])[:most]
    replacements = _replacements(chosen, target, generic, own, common)
    cased = _usual_case(target)
    return Dictionary(
        Anchor(anchor=cased.get(word, word), generic=replacements[word], count=own[word])
        for word in chosen
        if word in replacements
    )


def log_odds(own: Mapping[str, int], common: Mapping[str, int]) -> dict[str, float]:
    """z-scores of the log-odds of each word in `own` against `common`; the prior is both together.

    Monroe, Colaresi, Quinn 2008, equations 16, 19, 20 and 22, with a prior worth 1 % of the words.
    """
    total = Counter(own)
    total.update(common)
    size_own, size_common, size = sum(own.values()), sum(common.values()), sum(total.values())
    strength = max(1.0, 0.01 * size)
    found = {}
    for word, count in own.items():
        prior = strength * total[word] / size
        other = common.get(word, 0)
        mine = math.log((count + prior) / (size_own + strength - count - prior))
        theirs = math.log((other + prior) / (size_common + strength - other - prior))
        found[word] = (mine - theirs) / math.sqrt(1 / (count + prior) + 1 / (other + prior))
    return found


def _counts(texts: Iterable[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for text in texts:
        found.update(word.lower() for word in _WORD.findall(text))
    return found


def _usual_case(texts: Iterable[str]) -> dict[str, str]:
    """How each word is written most often."""
    forms: dict[str, Counter[str]] = {}
    for text in texts:
        for word in _WORD.findall(text):
            forms.setdefault(word.lower(), Counter())[word] += 1
    return {word: counts.most_common(1)[0][0] for word, counts in forms.items()}


def _replacements(
    anchors: Sequence[str],
    target: Sequence[str],
    generic: Sequence[str],
    own: Mapping[str, int],
    common: Mapping[str, int],
) -> dict[str, str]:
    """For each anchor the frequent generic word whose neighbours are most alike, no word twice."""
    marked = {word: f"<{word}>" for word in anchors}
    mine = _contexts(target, set(anchors), marked)
    frequent = [word for word, count in common.items() if count >= 5 and word not in marked]
    if len(frequent) < len(anchors):
        raise HornbookError(
            f"There are {len(anchors)} anchors and only {len(frequent)} frequent words in the generic text "
            f"to "
            "put in their place. Give more generic text."
        )
    theirs = _contexts(generic, set(frequent), {})
    # Words that both texts share in equal measure are the frame of the language, not fillers of its places.
    names, cased = _usual_case(target), _usual_case(generic)
    pairs = []
    for anchor in anchors:
        for word in frequent:
            if (
                names[anchor][:1].isupper() != cased[word][:1].isupper()
                or own.get(word, 0) * 5 > common[word]
            ):
                continue
            pairs.append((_cosine(mine[anchor], theirs[word]), common[word], anchor, word))
    pairs.sort(reverse=True)
    found: dict[str, str] = {}
    used: set[str] = set()
    for _, _, anchor, word in pairs:
        if anchor not in found and word not in used:
            found[anchor] = cased[word]
            used.add(word)
    return found


def _contexts(
    texts: Iterable[str], wanted: set[str], marked: Mapping[str, str]
) -> dict[str, Counter[tuple[int, str]]]:
    """Which words stand one and two places to the left and right; anchors as neighbours do not count."""
    found: dict[str, Counter[tuple[int, str]]] = {word: Counter() for word in wanted}
    for text in texts:
        words = ["<start>"] * 2 + [w.lower() for w in re.findall(r"[^\W\d_]+|[.!?:]", text)] + ["<end>"] * 2
        for place in range(2, len(words) - 2):
            if words[place] not in wanted:
                continue
            for offset in (-2, -1, 1, 2):
                if words[place + offset] not in marked:
                    found[words[place]][offset, words[place + offset]] += 1
    return found


def _cosine(a: Counter[tuple[int, str]], b: Counter[tuple[int, str]]) -> float:
    """Alikeness of two sets of neighbours, counts damped by their root."""
    dot = sum(math.sqrt(count * b[key]) for key, count in a.items() if key in b)
    size = math.sqrt(sum(a.values()) * sum(b.values()))
    return dot / size if size else 0.0
