"""Questions to a model, one greedy answer each; a call that failed is never graded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from hornbook.errors import HornbookError
from hornbook.lab.step import StepContext
from hornbook.lm.base import Completion, Failure, LanguageModel, Request, Sampling, ask
from hornbook.lm.line import Streaming

Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class Asked(Generic[Row]):
    """The rows whose requests were answered, with the answers; `unfinished` tells of the others."""

    rows: list[Row]
    requests: list[str]
    texts: list[str]
    unfinished: str


def asked(
    model: LanguageModel, rows: Sequence[Row], requests: Sequence[str], *, max_tokens: int, salt: str = ""
) -> Asked[Row]:
    """One greedy answer per request. A call that failed is never graded as an answer: its row is left out.

    A model that was not trained on conversations is given the bare request and goes on from it.

    Raises:
        HornbookError: no request was answered; the message holds the model's reason.
    """
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
    if converses(model):
        calls = [ask(text, sampling=sampling, salt=salt) for text in requests]
    else:
        calls = [Request(prompt=text + "\n", sampling=sampling, salt=salt) for text in requests]
    results = model.complete(calls)
    failures = [result for result in results if isinstance(result, Failure)]
    if len(failures) == len(results):
        raise HornbookError(
            f"{model.identity} answered none of {len(results)} requests "
            f"({failures[0].kind}: {failures[0].message.rstrip('.')})."
        )
    unfinished = ""
    if failures:
        unfinished = (
            f"{len(failures)} of {len(results)} calls failed and are not in the scores, the first: "
            f"{failures[0].kind}: {failures[0].message}"
        )
    kept = [i for i, result in enumerate(results) if isinstance(result, Completion)]
    return Asked(
        rows=[rows[i] for i in kept],
        requests=[requests[i] for i in kept],
        texts=[result.text for result in results if isinstance(result, Completion)],
        unfinished=unfinished,
    )


@contextmanager
def step_model(ctx: StepContext, spec: str | Path) -> Iterator[LanguageModel]:
    """The model that a step asks, as `open_model` reads it.

    What an endpoint answers is kept in the step's folder: a step that was stopped, or whose endpoint left
    something out (see `leave_open`), asks only the rest.
    """
    from hornbook.infer.open import open_model

    if not _far(spec):
        yield open_model(spec)
        return
    from hornbook.lm.store import CallStore

    with CallStore(ctx.folder / "calls.sqlite") as calls:
        yield open_model(spec, calls=calls)


def leave_open(ctx: StepContext, spec: str | Path, unfinished: str) -> None:
    """The next run asks again what an endpoint did not answer; what this machine cannot answer it never
    will."""
    if unfinished and _far(spec):
        ctx.unfinished(unfinished)


def _far(spec: str | Path) -> bool:
    return "://" in str(spec)


KEPT_TOGETHER = 16
"""Items of several answers each that a local model is asked and whose grades are then kept: what a stopped
run loses at most."""


def kept_together(model: LanguageModel, items: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The items in the parts after which what was found is kept: all at once for an endpoint, whose answers
    lie in its call store one by one and which should never wait for us."""
    return parts(items, max(1, len(items)) if isinstance(model, Streaming) else KEPT_TOGETHER)


def parts(values: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """`values` in runs of at most `size`."""
    for begin in range(0, len(values), size):
        yield values[begin : begin + size]


def converses(model: LanguageModel) -> bool:
    """Whether the model takes messages: endpoints do, local ones with a chat template."""
    tokenizer = getattr(model, "tokenizer", None)
    return tokenizer is None or tokenizer.template is not None or bool(tokenizer.chat_template)
