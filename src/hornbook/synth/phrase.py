"""A small phrase language for writers: `[this|that]` chooses, `{name}` fills a slot.

Templates are parsed once at import and rendered in microseconds, so that a
simulated teacher writes thousands of rows a second. Choices may be nested.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import TypeVar

from hornbook.errors import HornbookError

_TOKEN = re.compile(r"\{[A-Za-z_]+\}|\[|\]|\||[^{}\[\]|]+")
_SLOT = re.compile(r"\{([A-Za-z_]+)\}")
_SENTENCE_START = re.compile(r"(^|[.!?] )([a-z])")

_Item = TypeVar("_Item")

# A part is literal text, a slot name, or a list of alternatives (each a sequence of parts).
_Text = tuple[str, str]
_Part = _Text | tuple[str, list["_Sequence"]]
_Sequence = list["_Part"]


class Phrase:
    """One template, ready to render."""

    __slots__ = ("_parts", "slots", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.slots = frozenset(_SLOT.findall(source))
        tokens = _TOKEN.findall(source)
        if "".join(tokens) != source:
            raise HornbookError(f"phrase {source!r}: braces hold a slot name, brackets hold choices")
        parts, rest = _parse(tokens, 0, source)
        if rest != len(tokens):
            raise HornbookError(f"phrase {source!r}: a closing bracket or bar has no opening bracket")
        self._parts = parts

    def render(self, rng: Random, slots: Mapping[str, str]) -> str:
        """Fill the slots and take one alternative at each choice; a missing slot is a KeyError."""
        out: list[str] = []
        _emit(self._parts, rng.random, slots, out)
        return "".join(out)

    def pattern(self, slot: str) -> str:
        """A regular expression of the texts that the template can make, with `slot` for whatever fills it."""
        return _pattern(self._parts, slot)

    def longest_literal(self) -> str:
        """The longest piece that every text of the template holds, in lower case: a quick first test."""
        return max(
            (v for k, v in self._parts if k == "text" and isinstance(v, str)), key=len, default=""
        ).lower()

    def count(self) -> int:
        """How many texts the template can make before its slots are filled."""
        return _count(self._parts)


class Phrases:
    """Several templates that say the same thing; `render` takes one at random."""

    __slots__ = ("items",)

    def __init__(self, sources: Iterable[str]) -> None:
        self.items = tuple(Phrase(source) for source in sources)
        if not self.items:
            raise HornbookError("phrases: at least one template is needed")

    def render(self, rng: Random, slots: Mapping[str, str]) -> str:
        return self.items[int(rng.random() * len(self.items))].render(rng, slots)

    def slots(self) -> frozenset[str]:
        return frozenset().union(*(item.slots for item in self.items))

    def __iter__(self) -> Iterator[Phrase]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def sentence_case(text: str) -> str:
    """Capital letters at the starts of sentences (not after a closing quote: `"Look!" said Mia`)."""
    return _SENTENCE_START.sub(lambda match: match.group(1) + match.group(2).upper(), text)


def with_article(words: str) -> str:
    """`apple` becomes `an apple`, `red apple` becomes `a red apple` (by sound for the words we use)."""
    first = words.split(" ", 1)[0].lower()
    vowel = first[0] in "aeiou" and not first.startswith(("uni", "use", "eu", "one"))
    return f"{'an' if vowel or first.startswith(('hour', 'honest')) else 'a'} {words}"


def join_words(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def pick(rng: Random, items: Sequence[_Item]) -> _Item:
    """`rng.choice` without its overhead: one call to `rng.random`."""
    return items[int(rng.random() * len(items))]


def weighted(rng: Random, shares: Iterable[tuple[_Item, float]]) -> _Item:
    """One item, as often as its share says; shares need not add up to 1."""
    items = tuple(shares)
    draw = rng.random() * sum(share for _, share in items)
    for item, share in items:
        draw -= share
        if draw < 0:
            return item
    return items[-1][0]


def _parse(tokens: list[str], at: int, source: str) -> tuple[_Sequence, int]:
    parts: _Sequence = []
    while at < len(tokens):
        token = tokens[at]
        if token == "[":
            choices: list[_Sequence] = []
            while True:
                sequence, at = _parse(tokens, at + 1, source)
                choices.append(sequence)
                if at >= len(tokens):
                    raise HornbookError(f"phrase {source!r}: an opening bracket is never closed")
                if tokens[at] == "]":
                    break
            parts.append(("choice", choices))
        elif token in "|]":
            return parts, at
        elif token[0] == "{":
            parts.append(("slot", token[1:-1]))
        else:
            parts.append(("text", token))
        at += 1
    return parts, at


def _emit(parts: _Sequence, draw: Callable[[], float], slots: Mapping[str, str], out: list[str]) -> None:
    for kind, value in parts:
        if isinstance(value, str):
            out.append(value if kind == "text" else slots[value])
        else:
            _emit(value[int(draw() * len(value))], draw, slots, out)


def _pattern(parts: _Sequence, slot: str) -> str:
    out = []
    for kind, value in parts:
        if isinstance(value, str):
            out.append(re.escape(value) if kind == "text" else slot)
        else:
            out.append(f"(?:{'|'.join(_pattern(sequence, slot) for sequence in value)})")
    return "".join(out)


def _count(parts: _Sequence) -> int:
    total = 1
    for _, value in parts:
        if not isinstance(value, str):
            total *= sum(_count(sequence) for sequence in value)
    return total
