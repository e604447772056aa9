"""One conversation with an engine: what two prompts have in common is read once."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine, Ticket
from hornbook.infer.scheduler import Reason
from hornbook.infer.text import StopFinder
from hornbook.lm.base import Sampling


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
    """Answers prompts one after another, and says what each took.

    The engine's cache keeps the last prompts and answers; one that begins like them (a conversation with one
    more turn) is read from where it differs. The text is that of `Engine.generate`.
    """

    def __init__(self, engine: Engine) -> None:
        if engine.pieces is None:
            raise HornbookError("A session needs a tokenizer: give Engine(model, tokenizer).")
        self.engine, self._pieces = engine, engine.pieces

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
        began = time.perf_counter()
        ticket = self.engine.submit(prompt, sampling)
        try:
            for token in ticket:
                turn.seconds = time.perf_counter() - began
                turn.first_token_seconds = turn.first_token_seconds or turn.seconds
                turn.tokens.append(token)
                if finder.feed(token):
                    break
                end = finder.settled()
                if end > shown:
                    yield finder.data[shown:end].decode("utf-8", errors="replace")
                    shown = end
            self._settle(turn, ticket, began)
            if len(finder.data) > shown:
                yield finder.data[shown:].decode("utf-8", errors="replace")
        finally:
            ticket.cancel()

    def _settle(self, turn: Turn, ticket: Ticket, began: float) -> None:
        turn.read = turn.prompt_tokens - ticket.reused
        turn.finish_reason = ticket.result().finish_reason
        turn.seconds = time.perf_counter() - began
