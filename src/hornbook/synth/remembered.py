"""A model on this machine that never writes the same text twice: its answers are kept in a call store.

Endpoints keep their calls themselves; this does the same for local models, so that writing with them can be
killed at any moment and goes on where it stopped.
"""

from collections.abc import Sequence

from hornbook.lm.base import Advances, Capabilities, Completion, Failure, LanguageModel, Request, Score, Usage
from hornbook.lm.store import CallStore, call_key

AT_ONCE = 16
"""Requests given to the model together; what is unfinished when the process dies is asked again."""


class RememberedModel:
    """`model` with its completions kept in `store`; failures are not kept."""

    def __init__(self, model: LanguageModel, store: CallStore) -> None:
        self.model, self.store = model, store

    @property
    def identity(self) -> str:
        return self.model.identity

    @property
    def capabilities(self) -> Capabilities:
        return self.model.capabilities

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        """One result for each request, in order; known ones cost nothing and say `cached`."""
        keys = [self.call_key(request) for request in requests]
        results: dict[int, Completion | Failure] = {}
        for number, call in enumerate(self.store.get_many(keys)):
            if call is not None:
                results[number] = Completion(text=call.response, usage=Usage(cached=True))
        missing = [number for number in range(len(requests)) if number not in results]
        if progress is not None and results:
            progress.advance(len(results))
        for at in range(0, len(missing), AT_ONCE):
            part = missing[at : at + AT_ONCE]
            answers = self.model.complete([requests[number] for number in part], progress=progress)
            for number, answer in zip(part, answers, strict=True):
                results[number] = answer
                if isinstance(answer, Completion):
                    self.store.put(
                        keys[number],
                        model=self.identity,
                        request=requests[number].as_json(),
                        response=answer.text,
                    )
        return [results[number] for number in range(len(requests))]

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """As the model itself; scores are not kept."""
        return self.model.score(pairs)

    def call_key(self, request: Request) -> str:
        """Under which key of the store the answer to `request` lies."""
        return call_key(provider="local", url="", model=self.identity, revision="", request=request.as_json())
