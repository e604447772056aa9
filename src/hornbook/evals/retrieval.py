"""Finding one sentence in a long text, by length of the text and place of the sentence.

The single- and multi-key retrieval tasks of RULER (Hsieh et al. 2024, section 3.1; the phi-3.5 report's
evidence for 128K): a key's number is stated once, among filler sentences and, where wanted, among other keys
with numbers of their own, and asked for at the end. Numbers are random, so nothing can be known beforehand.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.statistics import Interval, wilson_interval
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import Completion, LanguageModel, Request, Sampling, ask

VERSION = "retrieval-1"
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
EFFECTIVE = 0.85
"""Share of right answers up to which a length counts as read: RULER takes 85.6 %, Llama-2's at 4K."""

KEYS = (
    "lighthouse", "orchard", "harbour", "windmill", "library", "bakery", "chapel", "quarry", "meadow",
    "railway", "theatre", "vineyard", "museum", "market", "foundry", "stable", "garden", "tower",
)  # fmt: skip
_WHO = ("The old farmer", "A young teacher", "My neighbour", "The clockmaker", "Our cousin", "The ferryman")
_DID = ("walked along", "looked at", "talked about", "painted", "waited beside", "remembered")
_WHAT = ("the quiet river", "a wooden bridge", "the empty road", "some grey clouds", "the tall grass")
_WHEN = (
    "before breakfast",
    "in the afternoon",
    "when it rained",
    "on a Sunday",
    "until dusk",
    "every spring",
)
_NUMBER = re.compile(r"(?<!\d)\d{5}(?!\d)")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question. length: tokens the prompt may have; depth: where the sentence is, 0 first, 1 last."""

    id: str
    length: int
    depth: float
    prompt: str
    answer: str


def fact(key: str, number: str) -> str:
    """The sentence that states a number."""
    return f"The special number of the {key} is {number}."


def items(
    count_tokens: Callable[[str], int],
    *,
    lengths: Sequence[int],
    depths: Sequence[float] = DEPTHS,
    per_cell: int = 10,
    other_keys: int = 0,
    seed: int = 0,
    opened: bool = False,
) -> list[Item]:
    """`per_cell` questions for every length and depth, the same for the same arguments.

    Args:
        count_tokens: tokens of a text under the model's tokenizer; each prompt has at most its length and
            misses it by less than a filler sentence.
        other_keys: how many other numbers are stated at random places (RULER's multi-key task: 3).
        opened: end with the beginning of the answer, for models that only go on with a text.

    Raises:
        HornbookError: a length too short for the question, a depth outside [0, 1], too many keys.
    """
    if not 0 <= other_keys < len(KEYS):
        raise HornbookError(f"other_keys is {other_keys}; it must be 0 to {len(KEYS) - 1}.")
    if per_cell < 1 or not lengths or not depths:
        raise HornbookError("retrieval needs at least one length, one depth and one question of each.")
    for depth in depths:
        if not 0 <= depth <= 1:
            raise HornbookError(f"depth is {depth}; it must be between 0 (first) and 1 (last).")
    return [
        _item(
            count_tokens,
            length,
            depth,
            other_keys,
            Random(f"{seed} {length} {depth} {number}"),
            opened,
            number,
        )
        for length in lengths
        for depth in depths
        for number in range(per_cell)
    ]


def _item(
    count_tokens: Callable[[str], int],
    length: int,
    depth: float,
    other_keys: int,
    random: Random,
    opened: bool,
    number: int,
) -> Item:
    keys = random.sample(KEYS, other_keys + 1)
    numbers = [str(n) for n in random.sample(range(10_000, 100_000), other_keys + 1)]
    needle = fact(keys[0], numbers[0])
    question = f"What is the special number of the {keys[0]}? Answer with the number alone."
    end = f"\n\nThe special number of the {keys[0]} is" if opened else f"\n\n{question}"
    begin = "Somewhere in this text a special number is stated.\n\n"

    def whole(filler: Sequence[str]) -> str:
        sentences = list(filler)
        for place, other in zip(places, others, strict=True):
            sentences.insert(round(place * len(sentences)), other)
        sentences.insert(round(depth * len(sentences)), needle)
        return begin + " ".join(sentences) + end

    others = [fact(key, value) for key, value in zip(keys[1:], numbers[1:], strict=True)]
    places = [random.random() for _ in others]
    return Item(
        id=f"{length}-{depth:g}-{number}",
        length=length,
        depth=depth,
        prompt=whole(fill(count_tokens, length, random, whole)),
        answer=numbers[0],
    )


def fill(
    count_tokens: Callable[[str], int], length: int, random: Random, whole: Callable[[Sequence[str]], str]
) -> list[str]:
    """Filler sentences with which `whole(sentences)` has at most `length` tokens, and misses it by less than
    one.

    Raises:
        HornbookError: the question alone is longer.
    """
    room = length - count_tokens(whole([]))
    if room < 0:
        raise HornbookError(
            f"{length} tokens are too few for this question; without filler it takes {length - room}."
        )
    filler: list[str] = []
    while room > 0:
        filler.append(_filler(random))
        room -= count_tokens(" " + filler[-1])
    while filler and count_tokens(whole(filler)) > length:  # tokens join differently than they add up
        filler.pop()
    while count_tokens(whole([*filler, extra := _filler(random)])) <= length:
        filler.append(extra)
    return filler


def _filler(random: Random) -> str:
    return f"{random.choice(_WHO)} {random.choice(_DID)} {random.choice(_WHAT)} {random.choice(_WHEN)}."


def is_right(answer: str, item: Item) -> bool:
    """Whether the first five-digit number of an answer is the one that was asked for."""
    found = _NUMBER.search(answer)
    return found is not None and found.group() == item.answer


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Answers of one length and depth. asked counts what was scored; unscored calls failed."""

    length: int
    depth: float
    right: int
    asked: int
    unscored: int

    @property
    def interval(self) -> Interval:
        """95 % interval of the share of right answers."""
        return wilson_interval(self.right, self.asked) if self.asked else Interval(0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """What was found. outcomes: one value per item in order, None where the call failed."""

    cells: tuple[Cell, ...]
    outcomes: tuple[bool | None, ...]

    def by_length(self) -> Mapping[int, float]:
        """Share of right answers over all depths; lengths without an answer are left out."""
        shares = {}
        for length in dict.fromkeys(cell.length for cell in self.cells):
            here = [cell for cell in self.cells if cell.length == length]
            asked = sum(cell.asked for cell in here)
            if asked:
                shares[length] = sum(cell.right for cell in here) / asked
        return shares

    def effective_length(self, threshold: float = EFFECTIVE) -> int:
        """The longest length up to which no length falls below `threshold`; 0 where the first does."""
        longest = 0
        for length, share in sorted(self.by_length().items()):
            if share < threshold:
                break
            longest = length
        return longest


def measure(
    model: LanguageModel, questions: Sequence[Item], *, opened: bool = False, progress: Any = None
) -> Retrieval:
    """Asks every question once, greedily. A failed call is not a wrong answer: it is counted apart."""
    sampling = Sampling(temperature=0.0, max_tokens=16)
    requests = [
        Request(prompt=item.prompt, sampling=sampling) if opened else ask(item.prompt, sampling=sampling)
        for item in questions
    ]
    results = model.complete(requests, progress=progress)
    outcomes = tuple(
        is_right(result.text, item) if isinstance(result, Completion) else None
        for item, result in zip(questions, results, strict=True)
    )
    groups: dict[tuple[int, float], list[bool | None]] = {}
    for item, outcome in zip(questions, outcomes, strict=True):
        groups.setdefault((item.length, item.depth), []).append(outcome)
    cells = tuple(
        Cell(
            length=length,
            depth=depth,
            right=sum(outcome is True for outcome in group),
            asked=sum(outcome is not None for outcome in group),
            unscored=sum(outcome is None for outcome in group),
        )
        for (length, depth), group in groups.items()
    )
    return Retrieval(cells=cells, outcomes=outcomes)


@step(version="1", makes="table")
def retrieve(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    lengths: Sequence[int],
    depths: Sequence[float] = DEPTHS,
    per_cell: int = 10,
    other_keys: int = 0,
    opened: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Retrieval by length and depth of a checkpoint folder with its tokenizer; `opened` for base models.

    Facts: cells (length, depth, right, asked, unscored, interval), by_length, effective_length.
    """
    from hornbook.data.tokenizer import Tokenizer
    from hornbook.infer.open import open_model

    folder = model.path / "model" if isinstance(model, Artifact) else model
    tokenizer = Tokenizer.load(folder)
    questions = items(
        lambda text: len(tokenizer.encode(text)),
        lengths=lengths,
        depths=depths,
        per_cell=per_cell,
        other_keys=other_keys,
        seed=seed,
        opened=opened,
    )
    progress = ctx.progress(len(questions), "questions")
    found = measure(open_model(folder), questions, opened=opened, progress=progress)
    return {
        "cells": [{**vars(cell), "interval": list(cell.interval)} for cell in found.cells],
        "by_length": {str(length): share for length, share in found.by_length().items()},
        "effective_length": found.effective_length(),
    }
