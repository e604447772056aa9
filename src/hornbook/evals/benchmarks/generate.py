"""Greedy answers to a card's questions, graded as they come: no endpoint waits for a grader."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from hornbook.lm.base import (
    Advances,
    Completion,
    Failure,
    LanguageModel,
    Message,
    Request,
    Sampling,
    Streaming,
)

from .card import Card
from .items import Item
from .scorers import scorer

AT_ONCE = 256
"""Items asked, graded and kept together: what a stopped run of a local model loses at most."""
Found = dict[str, dict[str, Any]]
Keep = Callable[[Mapping[str, Mapping[str, Any]]], object]
_T = TypeVar("_T")


def generate(
    card: Card,
    model: LanguageModel,
    items: Sequence[Item],
    *,
    chat: bool,
    keep: Keep,
    progress: Advances | None = None,
) -> dict[str, Failure]:
    """Asks every item and gives what was found to `keep`, part by part. Returns the failures by item.

    A failed call is no answer; what cannot be graded is kept and not scored. Of an endpoint all items are
    asked at once, and a thread grades what has come; of a local model part after part.
    """
    requests = [_request(card, item, chat) for item in items]
    if isinstance(model, Streaming):
        with _Grader(card, chat, keep) as grader:
            results = model.complete_each(
                requests, lambda place, result: grader.add(items[place], result), progress=progress
            )
        return _failures(items, results)
    failures: dict[str, Failure] = {}
    for part in parts(range(len(items)), AT_ONCE):
        results = model.complete([requests[i] for i in part], progress=progress)
        own = [items[i] for i in part]
        keep(grade(card, own, results, chat))
        failures |= _failures(own, results)
    return failures


def _failures(items: Sequence[Item], results: Sequence[Completion | Failure]) -> dict[str, Failure]:
    return {item.id: result for item, result in zip(items, results) if isinstance(result, Failure)}


def _request(card: Card, item: Item, chat: bool) -> Request:
    told = card.generate
    sampling = Sampling(temperature=0.0, max_tokens=told.max_tokens, stop=() if chat else told.stop)
    if not chat:
        return Request(prompt=item.questions[0], sampling=sampling, tag=card.name)
    system = (Message("system", card.ask.system),) if card.ask.system else ()
    turns = (*system, Message("user", item.questions[0]))
    return Request(messages=turns, sampling=sampling, tag=card.name)


def grade(card: Card, items: Sequence[Item], results: Sequence[Completion | Failure], chat: bool) -> Found:
    """{item: text, values, what was read and why} of those that were answered."""
    answered = [(item, result.text) for item, result in zip(items, results) if isinstance(result, Completion)]
    texts = [cut(text, card.generate.stop) if chat else text for _, text in answered]
    graded = scorer(card.generate.scorer)(texts, [item.gold for item, _ in answered])
    return {
        item.id: {"values": dict(grade.values), "text": text, "read": grade.read, "note": grade.note}
        for (item, text), grade in zip(answered, graded)
    }


def cut(text: str, stop: Sequence[str]) -> str:
    """The text before its first stop string that has something before it."""
    for mark in stop:
        at = text.find(mark)
        if at > 0 and mark.strip():
            text = text[:at]
    return text


def parts(values: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """`values` in runs of at most `size`."""
    for begin in range(0, len(values), size):
        yield values[begin : begin + size]


class _Grader:
    """A thread that grades and keeps what has come, whatever the number, while more is under way.

    Leaving the block waits for the last of them, also when the run is broken off: what was paid is kept.
    """

    def __init__(self, card: Card, chat: bool, keep: Keep) -> None:
        self._card, self._chat, self._keep = card, chat, keep
        self._come: queue.SimpleQueue[tuple[Item, Completion | Failure] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="hornbook-grader", daemon=True)

    def add(self, item: Item, result: Completion | Failure) -> None:
        """One result; returns at once."""
        self._come.put((item, result))

    def __enter__(self) -> "_Grader":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._come.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _work(self) -> None:
        more = True
        while more:
            batch = [self._come.get()]
            while len(batch) < AT_ONCE and not self._come.empty():
                batch.append(self._come.get())
            more = None not in batch
            there = [one for one in batch if one is not None]
            if self._error is None and there:
                try:
                    items, results = [item for item, _ in there], [result for _, result in there]
                    self._keep(grade(self._card, items, results, self._chat))
                except BaseException as error:
                    self._error = error
