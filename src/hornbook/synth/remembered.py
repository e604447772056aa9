"""A model on this machine that never writes the same text twice: its answers are kept in a call store.

Endpoints keep their calls themselves; this does the same for local models, so that writing with them can be
killed at any moment and goes on where it stopped.
"""

import time
from collections.abc import Sequence

from hornbook.lm.base import Advances, Capabilities, Completion, Failure, LanguageModel, Request, Score, Usage
from hornbook.lm.ledger import Ledger, current_ledger
from hornbook.lm.store import Call, CallStore, call_key

AT_ONCE = 16
"""Requests given to the model together; what is unfinished when the process dies is asked again."""


class RememberedModel:
    """`model` with its completions kept in `store`; failures are not kept. Calls are counted in `ledger`."""

    def __init__(self, model: LanguageModel, store: CallStore, *, ledger: Ledger | None = None) -> None:
        self.model, self.store = model, store
        self.ledger = ledger if ledger is not None else current_ledger()

    @property
    def identity(self) -> str:
        return self.model.identity

    @property
    def capabilities(self) -> Capabilities:
        return self.model.capabilities

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        """One result for each request, in order; known ones cost nothing and say `cached`.

        Raises:
            BudgetExceeded: the ledger's limit is reached; what was written is kept.
        """
        keys = [self.call_key(request) for request in requests]
        results: dict[int, Completion | Failure] = {}
        for number, call in enumerate(self.store.get_many(keys)):
            if call is not None:
                results[number] = _kept(call)
                self.ledger.add(self.identity, results[number].usage, seconds=call.latency_seconds)
        missing = [number for number in range(len(requests)) if number not in results]
        if progress is not None and results:
            progress.advance(len(results))
        for at in range(0, len(missing), AT_ONCE):
            part = missing[at : at + AT_ONCE]
            if not self.ledger.room_for(self.identity, 0):
                raise self.ledger.exceeded()
            begun = time.monotonic()
            answers = self.model.complete([requests[number] for number in part], progress=progress)
            seconds = (time.monotonic() - begun) / len(part)
            for number, answer in zip(part, answers, strict=True):
                results[number] = answer
                self.ledger.add(
                    self.identity, answer.usage, failed=not isinstance(answer, Completion), seconds=seconds
                )
                if isinstance(answer, Completion):
                    self.store.put(
                        keys[number],
                        model=self.identity,
                        request=requests[number].as_json() | {"usage": _counts(answer.usage)},
                        response=answer.text,
                        latency_seconds=seconds,
                    )
        return [results[number] for number in range(len(requests))]

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """As the model itself; scores are not kept."""
        return self.model.score(pairs)

    def call_key(self, request: Request) -> str:
        """Under which key of the store the answer to `request` lies."""
        return call_key(provider="local", url="", model=self.identity, revision="", request=request.as_json())


def _counts(usage: Usage) -> list[int]:
    return [usage.prompt_tokens, usage.completion_tokens]


def _kept(call: Call) -> Completion:
    prompt, completion = call.request.get("usage", (0, 0))
    return Completion(text=call.response, usage=Usage(prompt, completion, cached=True))
