"""From token ids to text as they come: partial UTF-8 held back, stop strings found over token borders."""

from collections.abc import Sequence
from typing import Protocol


class TextTokenizer(Protocol):
    """What the engine asks of a tokenizer (`hornbook.data.tokenizer.Tokenizer` has it)."""

    vocab_size: int

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def token_bytes(self, index: int) -> bytes: ...


class Pieces:
    """The bytes of every token id, looked up once each."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, bytes] = {}

    def __getitem__(self, index: int) -> bytes:
        piece = self._known.get(index)
        if piece is None:
            inside = index < self._tokenizer.vocab_size  # a model may have more rows than its tokenizer ids
            piece = self._known[index] = self._tokenizer.token_bytes(index) if inside else b""
        return piece


class StopFinder:
    """Feeds on one answer's bytes and says when a stop string is complete."""

    def __init__(self, pieces: Pieces, stop: Sequence[str]) -> None:
        self._pieces = pieces
        self._stop = [text.encode() for text in stop]
        self._longest = max((len(s) for s in self._stop), default=1)
        self.data = bytearray()

    def feed(self, token: int) -> bool:
        """Adds a token; True when a stop string is now in the text, which is then cut before it."""
        piece = self._pieces[token]
        fresh = max(0, len(self.data) - self._longest + 1)
        self.data += piece
        places = [place for s in self._stop if (place := self.data.find(s, fresh)) >= 0]
        if not places:
            return False
        del self.data[min(places) :]
        return True

    def text(self) -> str:
        """The text so far; bytes that are not UTF-8 become U+FFFD."""
        return self.data.decode("utf-8", errors="replace")

    def settled(self) -> int:
        """How many bytes can be shown now: later tokens cannot cut or complete them."""
        end = len(self.data)
        for s in self._stop:
            for size in range(min(len(s) - 1, len(self.data)), 0, -1):
                if self.data.endswith(s[:size]):
                    end = min(end, len(self.data) - size)
                    break
        return whole_utf8(self.data, end)


def whole_utf8(data: bytes | bytearray, end: int) -> int:
    """The largest cut of at most `end` bytes that does not split a character at its end."""
    for back in range(1, min(4, end) + 1):
        byte = data[end - back]
        if byte < 0x80:
            return end
        if byte >= 0xC0:
            need = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return end if back >= need else end - back
    return end
