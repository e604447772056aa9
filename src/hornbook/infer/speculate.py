"""Drafts without a second model: what followed the last time the same tokens were seen (prompt lookup
decoding)."""

from collections.abc import Sequence

_SIZES = (4, 3, 2)
"""Tokens that must agree: as many as possible are looked for first."""


class Lookup:
    """One sequence's drafts. It remembers where each short run of tokens was last seen."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._text = list(prompt)
        self._prompt = len(prompt)
        self._indexed = 0
        self._behind: dict[tuple[int, ...], int] = {}

    def guess(self, tokens: Sequence[int], most: int) -> list[int]:
        """At most `most` tokens that may come next behind the prompt and `tokens` (which only ever grow).

        Empty where the end of the text has not been seen before. A wrong draft costs the wider pass, nothing
        else.
        """
        text = self._text
        drawn = len(tokens) - (len(text) - self._prompt)
        if drawn > 0:
            text += tokens[-drawn:]
        for end in range(self._indexed, len(text)):
            for size in _SIZES:
                if end >= size:
                    self._behind[tuple(text[end - size : end])] = end
        self._indexed = len(text)
        if most > 0:
            for size in _SIZES:
                place = self._behind.get(tuple(text[-size:]))
                if place is not None:
                    return text[place : place + most]
        return []
