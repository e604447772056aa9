"""Answers that satisfy a JSON Schema: which tokens may come next, by `llguidance` (the extra
`hornbook[schema]`)."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from hornbook.errors import HornbookError
from hornbook.infer.text import TextTokenizer

_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As `json.dumps` writes: a small model that may choose its blanks loses itself in them."""

_KEPT = 64
"""Compiled schemas that are kept."""


def schemas_are_there() -> bool:
    """Whether the package is installed."""
    return find_spec("llguidance") is not None


class Vocabulary:
    """A tokenizer as the library wants it, and the schemas compiled for it."""

    def __init__(self, tokenizer: TextTokenizer, vocab_size: int) -> None:
        try:
            import llguidance
        except ImportError as error:
            raise HornbookError(
                "Answers by a JSON Schema need the package llguidance: pip install 'hornbook[schema]'."
            ) from error
        self._library: Any = llguidance
        self.vocab_size = vocab_size
        inside = min(vocab_size, tokenizer.vocab_size)
        special = set(getattr(tokenizer, "specials", {}).values())
        pieces = [tokenizer.token_bytes(index) for index in range(inside)]
        self._described = _Described(tokenizer, pieces, special, vocab_size)
        self._tokens: dict[int, Any] = {}
        self._known: dict[str, Any] = {}

    def grammar(self, schema: Mapping[str, Any], stops: frozenset[int]) -> "SchemaGrammar":
        """What one answer is narrowed by.

        Raises:
            HornbookError: a schema that is none, uses what is not supported, or that nothing satisfies.
        """
        ends = sorted(stop for stop in stops if stop < self.vocab_size)
        if not ends:
            raise HornbookError("Answers by a JSON Schema need a stop token to end with; give stop_tokens.")
        text = json.dumps(schema, sort_keys=True)
        key = f"{ends[0]} {text}"
        matcher = self._known.get(key)
        if matcher is None:
            matcher = self._compile(text, ends[0])
            while len(self._known) >= _KEPT:
                del self._known[next(iter(self._known))]
            self._known[key] = matcher
        return SchemaGrammar(matcher.deep_copy(), self.vocab_size, ends)

    def _compile(self, text: str, end: int) -> Any:
        library = self._library
        if end not in self._tokens:
            self._described.eos_token_id = end
            self._tokens[end] = library.LLTokenizer(
                library.TokenizerWrapper(self._described), n_vocab=self.vocab_size
            )
        try:
            matcher = library.LLMatcher(
                self._tokens[end],
                library.LLMatcher.grammar_from_json_schema(text, overrides=_STYLE),
                log_level=0,
            )
        except ValueError as error:
            raise HornbookError(f"This JSON Schema cannot be used: {_first_line(str(error))}") from error
        if matcher.is_error():
            raise HornbookError(f"This JSON Schema cannot be used: {_first_line(matcher.get_error())}")
        mask = np.zeros((1, (self.vocab_size + 31) // 32), dtype=np.int32)
        _fill(matcher, mask)
        if matcher.is_error() or not mask.any():
            raise HornbookError(f"Nothing satisfies this JSON Schema: {text[:200]}")
        return matcher


class _Described:
    """The face of a tokenizer that the library asks for."""

    def __init__(
        self, tokenizer: TextTokenizer, pieces: list[bytes], special: set[int], vocab_size: int
    ) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = 0
        self.bos_token_id = None
        # Rows of the model without a token, and special tokens, cannot be text; both get a name no text
        # spells.
        self.tokens = [
            b"\xff[%d]" % i if i in special or not piece else piece for i, piece in enumerate(pieces)
        ]
        self.tokens += [b"\xff[%d]" % i for i in range(len(pieces), vocab_size)]
        self.special_token_ids = [
            i for i, piece in enumerate(self.tokens) if piece[:1] == b"\xff" and len(piece) > 2
        ]

    def __call__(self, text: str | bytes) -> list[int]:
        return self._tokenizer.encode(
            text if isinstance(text, str) else text.decode("utf-8", errors="replace")
        )


class SchemaGrammar:
    """One answer's state."""

    def __init__(self, matcher: Any, vocab_size: int, ends: list[int]) -> None:
        self._matcher, self._size, self._ends = matcher, vocab_size, ends
        self._bits = np.zeros((1, (vocab_size + 31) // 32), dtype=np.int32)

    def mask(self) -> np.ndarray:
        """Which tokens may come next: bool (vocab_size,). Once the value is whole, the stop tokens alone."""
        if self._matcher.is_stopped():
            allowed = np.zeros(self._size, dtype=bool)
            allowed[self._ends] = True
            return allowed
        _fill(self._matcher, self._bits)
        allowed = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._size].astype(bool)
        if allowed[self._ends[0]]:
            allowed[self._ends] = True
        return allowed

    def take(self, token: int) -> None:
        """Counts a drawn token."""
        if not self._matcher.is_stopped():
            self._matcher.consume_token(self._ends[0] if token in self._ends else token)


def _fill(matcher: Any, bits: np.ndarray) -> None:
    matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "it was refused without a reason"
