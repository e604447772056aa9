"""One conversation with an engine: what two prompts have in common is read once."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.infer.cache import RowCache
from hornbook.infer.engine import Engine
from hornbook.infer.sampling import RowSettings, row_key
from hornbook.infer.scheduler import Reason, read_prompts
from hornbook.infer.text import StopFinder
from hornbook.lm.base import Sampling

_LEAST_SLOTS = 512
_CHUNK = 512
"""Tokens read in one pass behind a kept prefix."""


@dataclass(kw_only=True)
class Turn:
    """What one answer took; it grows while the answer does.

    `read` of `prompt_tokens` were read, the others were still in the cache. Seconds count from the call.
    """

    prompt_tokens: int
    read: int
    tokens: list[int] = field(default_factory=list)
    finish_reason: Reason = "cancelled"
    first_token_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Rate after the first token; 0.0 for answers of fewer than two tokens."""
        rest = self.seconds - self.first_token_seconds
        return (len(self.tokens) - 1) / rest if len(self.tokens) > 1 and rest > 0 else 0.0


class Session:
    """Answers prompts one after another, keeping keys and values of the last one and its answer.

    A prompt that begins like what is kept (a conversation with one more turn) is read from where it
    differs. With fp32 weights the text is that of `Engine.generate` for the same prompt and sampling.
    """

    def __init__(self, engine: Engine) -> None:
        if engine.pieces is None:
            raise HornbookError("A session needs a tokenizer: give Engine(model, tokenizer).")
        self.engine, self._pieces = engine, engine.pieces
        self._settings = RowSettings(1, engine.config.vocab_size, engine.device)
        self._cache = self._new_cache(_LEAST_SLOTS)
        self._kept: list[int] = []
        self._long = False

    def stream_text(
        self, prompt: Sequence[int], sampling: Sampling | None = None
    ) -> tuple[Iterator[str], Turn]:
        """The answer's text in pieces, and the record that grows with it.

        Closing the iterator, or an exception thrown in while it works (Ctrl-C), ends the answer; the
        session stays good.

        Raises:
            HornbookError: an empty prompt, ids of another vocabulary, or no room left in the context.
        """
        sampling = self.engine.check(prompt, sampling or Sampling())
        turn = Turn(prompt_tokens=len(prompt), read=0)
        return self._pieces_of(list(prompt), sampling, turn), turn

    def _pieces_of(self, prompt: list[int], sampling: Sampling, turn: Turn) -> Iterator[str]:
        finder = StopFinder(self._pieces, sampling.stop)
        shown = 0
        for token in self._tokens(prompt, sampling, turn):
            if finder.feed(token):
                turn.finish_reason = "stop"
                break
            end = finder.settled()
            if end > shown:
                yield finder.data[shown:end].decode("utf-8", errors="replace")
                shown = end
        if len(finder.data) > shown:
            yield finder.data[shown:].decode("utf-8", errors="replace")

    def _tokens(self, prompt: list[int], sampling: Sampling, turn: Turn) -> Iterator[int]:
        began = time.perf_counter()
        row = np.zeros(1, dtype=np.int64)
        with self.engine.lock, torch.inference_mode():
            logits = self._read(prompt, len(prompt) + sampling.max_tokens, turn)
            self._settings.place(0, sampling, row_key(sampling.seed, prompt, 0), prompt)
        while True:
            with self.engine.lock, torch.inference_mode():
                token = int(self._settings.draw(logits, row)[0])
            turn.seconds = time.perf_counter() - began
            turn.first_token_seconds = turn.first_token_seconds or turn.seconds
            if token in self.engine.stop_tokens:
                turn.finish_reason = "stop"
                return
            turn.tokens.append(token)
            yield token
            if len(turn.tokens) >= sampling.max_tokens:
                turn.finish_reason = "length"
                return
            with self.engine.lock, torch.inference_mode():
                logits = self._forward([token])

    def _read(self, prompt: list[int], longest: int, turn: Turn) -> Tensor:
        """Brings the cache to the whole prompt; logits of its last token, (1, vocab_size)."""
        engine = self.engine
        rope = engine.config.long_rope
        long = rope is not None and longest > rope.original_max_position
        if long != self._long:  # LongRoPE turns every key by other factors beyond the original context
            self._kept, self._long = [], long
        same = 0
        for old, new in zip(self._kept, prompt[:-1]):
            if old != new:
                break
            same += 1
        del self._kept[same:]
        self._grow(longest)
        self._cache.rope_length = longest
        turn.read = len(prompt) - same
        if same == 0:
            source, last = read_prompts(
                engine.model, [prompt], dtype=engine.cache_dtype, device=engine.device, rope_length=longest
            )
            self._cache.slot = len(prompt)
            self._cache.take_prompt(source, 0, len(prompt), 0)
            self._kept = list(prompt)
            return engine.model.logits(last)
        self._cache.slot = same
        logits = None
        for begin in range(same, len(prompt), _CHUNK):
            logits = self._forward(prompt[begin : begin + _CHUNK])
        assert logits is not None
        return logits

    def _forward(self, tokens: list[int]) -> Tensor:
        ids = torch.tensor([tokens], device=self.engine.device)
        hidden = self.engine.model(ids, self._cache)
        self._kept += tokens
        return self.engine.model.logits(hidden[:, -1])

    def _grow(self, slots: int) -> None:
        """Room for `slots` tokens; what is kept stays."""
        old = self._cache
        if slots <= old.slots:
            return
        self._cache = self._new_cache(max(slots, min(2 * old.slots, self.engine.config.max_position)))
        kept = len(self._kept)
        self._cache.keys[:, :, :, :kept] = old.keys[:, :, :, :kept]
        self._cache.values[:, :, :, :kept] = old.values[:, :, :, :kept]

    def _new_cache(self, slots: int) -> RowCache:
        engine = self.engine
        return RowCache(
            engine.config,
            rows=1,
            slots=slots,
            dtype=engine.cache_dtype,
            device=engine.device,
            rope_length=slots,
        )
