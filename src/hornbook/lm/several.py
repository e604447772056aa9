"""Several models as one: each request goes to one of them, as often as its weight says, and always the same.

Which one is a matter of the request alone (weighted rendezvous hashing): a second run finds every stored
answer, a conversation stays with its model, and another model beside them moves only its share of requests.
"""

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hornbook.errors import HornbookError
from hornbook.lm.base import (
    Advances,
    Capabilities,
    Completion,
    Failure,
    LanguageModel,
    Request,
    Score,
    canonical_json,
)
from hornbook.lm.line import Line, Waves


class SeveralModels:
    """`models` as one, each with its weight (shares of the requests, in any unit)."""

    def __init__(self, models: Sequence[tuple[LanguageModel, float]]) -> None:
        if not models:
            raise HornbookError("Several models as one need at least one model.")
        for model, weight in models:
            if not (math.isfinite(weight) and weight > 0):
                raise HornbookError(f"The weight of {model.identity} is {weight:g}; it must be above 0.")
        names = [model.identity for model, _ in models]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise HornbookError(f"{twice} is named twice; give it once, with the weights added up.")
        self.models = tuple(models)

    @property
    def identity(self) -> str:
        return " + ".join(f"{weight:g}*{model.identity}" for model, weight in self.models)

    @property
    def capabilities(self) -> Capabilities:
        """What all of them can do; scores are asked of one model, not of several."""
        each = [model.capabilities for model, _ in self.models]
        return Capabilities(
            can_score=False,
            can_edit_history=all(c.can_edit_history for c in each),
            supports_schema=all(c.supports_schema for c in each),
            logprobs=all(c.logprobs for c in each),
        )

    def model_of(self, request: Request) -> LanguageModel:
        """The model that this request goes to."""
        whole = request.as_json()
        if request.messages is not None:  # later turns of a conversation do not change who holds it
            first = next((i for i, m in enumerate(request.messages) if m.role == "user"), 0)
            whole["messages"] = whole["messages"][: first + 1]
        text = canonical_json(whole)

        def place(pair: tuple[LanguageModel, float]) -> tuple[float, str]:
            digest = hashlib.sha256(text + b"\x00" + pair[0].identity.encode()).digest()
            u = (int.from_bytes(digest[:8], "big") + 0.5) / 2**64
            return -math.log(u) / pair[1], pair[0].identity

        return min(self.models, key=place)[0]

    def call_key(self, request: Request) -> str | None:
        """As its model's; None for a model that stores nothing."""
        key_of = getattr(self.model_of(request), "call_key", None)
        return None if key_of is None else key_of(request)

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        """One result for each request, in order; all models work at once.

        Raises what a model raises, after the others have done their part: what they answered is stored, and
        the same command asks only the rest.
        """
        places: dict[str, list[int]] = {model.identity: [] for model, _ in self.models}
        for i, request in enumerate(requests):
            places[self.model_of(request).identity].append(i)
        results: dict[int, Completion | Failure] = {}
        with ThreadPoolExecutor(len(self.models)) as pool:
            running = [
                (places[model.identity], pool.submit(model.complete, chosen, progress=progress))
                for model, _ in self.models
                if (chosen := [requests[i] for i in places[model.identity]])
            ]
        errors = [future.exception() for _, future in running]
        for error in errors:
            if error is not None:
                raise error
        for chosen_places, future in running:
            results.update(zip(chosen_places, future.result(), strict=True))
        return [results[i] for i in range(len(requests))]

    def line(self, *, progress: Advances | None = None) -> Line:
        """One for all, if all are endpoints; where one takes lists (a provider's batches), waves."""
        from hornbook.lm.dispatch import EndpointLine
        from hornbook.lm.endpoint import EndpointModel

        endpoints = [model for model, _ in self.models if isinstance(model, EndpointModel)]
        if len(endpoints) < len(self.models):
            return Waves(self, progress=progress)
        by_name = {model.identity: model for model in endpoints}
        return EndpointLine(endpoints, lambda r: by_name[self.model_of(r).identity], progress=progress)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """Never: a likelihood belongs to one model."""
        raise HornbookError("Several models as one cannot score text; name one of them.")


def parse_several(spec: str) -> list[tuple[str, float]] | None:
    """[(specification, weight)] of `3*http://a/v1#m, http://b/v1#n`; None where it names a single model
    without a weight.

    Raises:
        HornbookError: a weight that is not a number above 0.
    """
    parts = [part.strip() for part in spec.split(",")]
    if len(parts) == 1 and "*" not in spec.partition("://")[0]:
        return None
    found = []
    for part in parts:
        before, star, rest = part.partition("*")
        if not star or "/" in before:
            before, rest = "1", part
        try:
            weight = float(before)
        except ValueError:
            weight = math.nan
        if not (math.isfinite(weight) and weight > 0) or not rest.strip():
            raise HornbookError(
                f"{part!r} is no model with a weight; write several as 3*http://a/v1#m, http://b/v1#n."
            )
        found.append((rest.strip(), weight))
    return found
