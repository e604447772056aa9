"""Greedy answers to a card's questions, graded as they come: no endpoint waits for a grader."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from hornbook.evals.asking import parts
from hornbook.lm.base import (
    Advances,
    Completion,
    Failure,
    LanguageModel,
    Message,
    Request,
    Sampling,
)
from hornbook.lm.line import open_line

from .card import Card
from .items import Item
from .scorers import scorer

AT_ONCE = 256
"""Items scored, graded and kept together: what a stopped run of a local model loses at most."""
_TOGETHER = 64
"""Answers of an endpoint, each of which its call store has already, that are graded and kept in one go."""
Found = dict[str, dict[str, Any]]
Keep = Callable[[Mapping[str, Mapping[str, Any]]], object]


def generate(
    card: Card,
    model: LanguageModel,
    items: Sequence[Item],
    *,
    chat: bool,
    keep: Keep,
    progress: Advances | None = None,
) -> dict[str, Failure]:
    """Asks every item and gives what was found to `keep`, as it comes. Returns the failures by item.

    A failed call is no answer; what cannot be graded is kept and not scored. An endpoint always has enough to
    do while what has come is graded; a local model gets `AT_ONCE` items at a time.
    """
    failures: dict[str, Failure] = {}
    asked: list[Item] = []
    held: list[tuple[Item, Completion | Failure]] = []
    waiting = iter(items)
    done = 0

    def settle() -> None:
        for part in parts(held, AT_ONCE):
            own, results = [item for item, _ in part], [result for _, result in part]
            keep(grade(card, own, results, chat))
            failures.update({item.id: r for item, r in part if isinstance(r, Failure)})
        held.clear()

    with open_line(model, progress=progress) as line:
        try:
            while True:
                for item in islice(waiting, line.at_once - (len(asked) - done)):
                    asked.append(item)
                    line.ask(_request(card, item, chat))
                answers = line.answers()
                if not answers:
                    break
                done += len(answers)
                held += [(asked[number], result) for number, result in answers]
                if len(held) >= _TOGETHER:
                    settle()
        finally:  # what came before a line broke is kept, too
            settle()
    return failures


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
