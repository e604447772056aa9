"""A function as a language model, for tests and for teachers that plan before they write."""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hornbook.errors import HornbookError
from hornbook.lm.base import (
    Advances,
    Capabilities,
    Completion,
    Failure,
    FinishReason,
    Json,
    Request,
    Score,
    Usage,
    content_key,
)
from hornbook.lm.parse import answer_in_schema

Answer: TypeAlias = str | Completion | Failure | Mapping[str, Json]


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Faults to inject, each a share of requests in [0, 1]; latency in seconds.

    Which requests suffer is a pure function of `seed` and the request, so a
    test that fails, fails again.
    """

    latency_seconds: float = 0.0
    refusals: float = 0.0
    malformed: float = 0.0
    truncated: float = 0.0
    server_errors: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        shares = (self.refusals, self.malformed, self.truncated, self.server_errors)
        if self.latency_seconds < 0 or any(share < 0 for share in shares) or sum(shares) > 1:
            raise HornbookError(f"Faults are shares of requests in [0, 1] that sum to at most 1; got {self}.")

    def draw(self, request: Request) -> str | None:
        """The fault this request suffers, or None."""
        u = random.Random(f"{self.seed}:{content_key(request.as_json())}").random()
        for name in ("refusals", "malformed", "truncated", "server_errors"):
            share: float = getattr(self, name)
            if u < share:
                return name
            u -= share
        return None


def _count(text: str) -> int:
    # A simulated model has no tokenizer; words and marks are near enough for a ledger.
    return max(1, round(len(text) / 4)) if text else 0


def _prompt_text(request: Request) -> str:
    if request.messages is not None:
        return "\n".join(message.content for message in request.messages)
    return request.prompt if request.prompt is not None else " ".join(map(str, request.tokens or ()))


class SimulatedModel:
    """`fn(request)` answers with text, a JSON object (for schemas), a `Completion` or a `Failure`.

    `identity` must change whenever the function would answer differently: it
    is what caches and lineage see. `scorer(prompt, continuation)` makes
    `score` work. A function that raises is a defect of the caller and is not
    turned into a `Failure`.
    """

    def __init__(
        self,
        identity: str,
        fn: Callable[[Request], Answer],
        *,
        faults: Faults | None = None,
        scorer: Callable[[str, str], Score] | None = None,
    ) -> None:
        self._identity = identity
        self._fn = fn
        self._faults = faults
        self._scorer = scorer

    @property
    def identity(self) -> str:
        return f"simulated:{self._identity}"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(can_score=self._scorer is not None, supports_schema=True)

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        results: list[Completion | Failure] = []
        for request in requests:
            results.append(self._one(request))
            if progress is not None:
                progress.advance(1)
        return results

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        if self._scorer is None:
            raise HornbookError(f"The model {self.identity} cannot score text; it was made without a scorer.")
        return [self._scorer(prompt, continuation) for prompt, continuation in pairs]

    def _one(self, request: Request) -> Completion | Failure:
        fault = self._faults.draw(request) if self._faults else None
        if self._faults and self._faults.latency_seconds:
            time.sleep(self._faults.latency_seconds)
        prompt_tokens = _count(_prompt_text(request))
        if fault == "refusals":
            usage = Usage(prompt_tokens, 8)
            return Failure(kind="refusal", message="I cannot help with that.", usage=usage)
        if fault == "server_errors":
            return Failure(kind="server", message="The simulated server failed (status 500).")
        answer = self._fn(request)
        if isinstance(answer, Completion | Failure):
            return answer
        if isinstance(answer, Mapping):
            answer = json.dumps(dict(answer), ensure_ascii=False)
        if fault in ("malformed", "truncated"):
            answer = answer[: len(answer) // 2]
        finish: FinishReason = "length" if fault == "truncated" else "stop"
        usage = Usage(prompt_tokens, _count(answer))
        return answer_in_schema(request, answer, finish_reason=finish, usage=usage)
