"""From growing answers to the API's JSON: text in whole characters, log-probabilities, chunks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hornbook.infer.scheduler import Job
from hornbook.infer.service import Ticket
from hornbook.infer.text import Pieces, StopFinder


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """A token as the API shows it: its bytes, its log-probability and the likeliest alternatives."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


class Choice:
    """Follows one answer: what of its text can be shown, and what was shown already."""

    def __init__(self, index: int, answer: Job, ticket: Ticket, pieces: Pieces) -> None:
        self.index, self.answer, self.pieces = index, answer, pieces
        self._logprobs = ticket.sampling.logprobs
        self._finder = StopFinder(pieces, ticket.sampling.stop)
        self._read = self._shown = 0
        self._cut = False
        self.finish_reason: str | None = None

    @property
    def tokens(self) -> int:
        """How many tokens were drawn and read here."""
        return self._read

    def news(self) -> tuple[str, list[Drawn]]:
        """The text that can be shown now and was not, and the tokens read with it.

        Bytes of an unfinished character, and text that may yet become a stop string, wait. After the last
        news `finish_reason` is set.
        """
        answer = self.answer
        reason = answer.reason  # first: once it is there, the tokens are all there
        end = len(answer.tokens)
        if self._logprobs is not None:
            end = min(end, len(answer.logprobs))
            if self._logprobs:
                end = min(end, len(answer.top))
        drawn: list[Drawn] = []
        for place in range(self._read, end):
            token, before = answer.tokens[place], len(self._finder.data)
            if self._cut:
                continue
            self._cut = self._finder.feed(token)
            if self._logprobs is not None and not (self._cut and len(self._finder.data) <= before):
                top = answer.top[place] if self._logprobs else []
                drawn.append(Drawn(token=token, logprob=answer.logprobs[place], top=top))
        self._read = end
        data = self._finder.data
        until = len(data) if reason is not None or self._cut else self._finder.settled()
        text = ""
        if until > self._shown:
            text = data[self._shown : until].decode("utf-8", errors="replace")
            self._shown = until
        if reason is not None:
            self.finish_reason = "stop" if self._cut or reason == "cancelled" else reason
        return text, drawn

    # -- log-probabilities ----------------------------------------------------------------------

    def _shape(self, token: int, logprob: float) -> dict[str, Any]:
        piece = self.pieces[token]
        return {"token": piece.decode("utf-8", errors="replace"), "logprob": logprob, "bytes": list(piece)}

    def chat_logprobs(self, drawn: Sequence[Drawn]) -> dict[str, Any] | None:
        """As `chat.completion` has them."""
        if self._logprobs is None:
            return None
        content = [
            {**self._shape(d.token, d.logprob), "top_logprobs": [self._shape(t, value) for t, value in d.top]}
            for d in drawn
        ]
        return {"content": content, "refusal": None}

    def text_logprobs(self, drawn: Sequence[Drawn], offset: int) -> dict[str, Any] | None:
        """As `text_completion` has them. offset: characters shown before."""
        if self._logprobs is None:
            return None
        names, offsets = [], []
        for d in drawn:
            names.append(self._shape(d.token, d.logprob)["token"])
            offsets.append(offset)
            offset += len(names[-1])
        tops = [{self._shape(t, v)["token"]: v for t, v in d.top} for d in drawn]
        return {
            "tokens": names,
            "token_logprobs": [d.logprob for d in drawn],
            "top_logprobs": tops if self._logprobs else None,
            "text_offset": offsets,
        }


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How answers of one endpoint look. `name`: the model's. `id`: of this answer."""

    chat: bool
    id: str
    name: str
    created: int

    @classmethod
    def fresh(cls, chat: bool, name: str) -> "Shape":
        import secrets

        prefix = "chatcmpl" if chat else "cmpl"
        return cls(chat=chat, id=f"{prefix}-{secrets.token_hex(12)}", name=name, created=int(time.time()))

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.name}

    def whole(self, choices: Sequence[Choice], prompt_tokens: int) -> dict[str, Any]:
        """The answer of a request that does not stream."""
        shown: list[dict[str, Any]] = []
        for choice in choices:
            text, drawn = choice.news()
            entry: dict[str, Any] = {"index": choice.index, "finish_reason": choice.finish_reason}
            if self.chat:
                entry["message"] = {"role": "assistant", "content": text, "refusal": None}
                entry["logprobs"] = choice.chat_logprobs(drawn)
            else:
                entry["text"] = text
                entry["logprobs"] = choice.text_logprobs(drawn, 0)
            shown.append(entry)
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": shown, "usage": usage_of(prompt_tokens, choices)}

    def opening(self, choice: Choice) -> dict[str, Any]:
        """The first chunk of a streamed chat choice: who speaks."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        entry = {"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**self._head("chat.completion.chunk"), "choices": [entry]}

    def chunk(self, choice: Choice, text: str, drawn: Sequence[Drawn], offset: int) -> dict[str, Any]:
        """One piece of a streamed choice; the last carries the finish reason."""
        entry: dict[str, Any] = {"index": choice.index, "finish_reason": choice.finish_reason}
        if self.chat:
            entry["delta"] = {"content": text} if text else {}
            entry["logprobs"] = choice.chat_logprobs(drawn) if drawn else None
        else:
            entry["text"] = text
            entry["logprobs"] = choice.text_logprobs(drawn, offset) if drawn else None
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self._head(kind), "choices": [entry]}

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """The chunk after the last, where the client asked for it."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self._head(kind), "choices": [], "usage": usage}


def usage_of(prompt_tokens: int, choices: Sequence[Choice]) -> dict[str, int]:
    """Token counts of a whole request."""
    drawn = sum(choice.tokens for choice in choices)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": drawn,
        "total_tokens": prompt_tokens + drawn,
    }
