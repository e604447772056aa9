"""Rows of a benchmark as items: what is asked, what may be answered, what is right."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError
from jinja2.sandbox import SandboxedEnvironment

from hornbook.errors import HornbookError
from hornbook.lab.files import sha256_of

from .card import Card
from .source import Row


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question.

    questions: what stands before the answer, examples included; one for all choices, or one a choice.
    choices:   what may stand after it, delimiter included (kind "choice"); else empty.
    gold:      the right choice's number; for "generate" what the scorer compares with.
    cluster:   what it shares with others, shortened; empty: nothing.
    """

    id: str
    group: str
    questions: tuple[str, ...]
    choices: tuple[str, ...]
    gold: Any
    cluster: str = ""
    row: Row = field(repr=False)


def make_items(
    card: Card,
    rows: Sequence[Row],
    *,
    count: int | None = None,
    shots: int | None = None,
    shot_rows: Sequence[Row] = (),
    worked: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[Item]:
    """Items of a card.

    Args:
        count: a sample of so many (the same for the same seed, in the order of the file); None: all.
        shots: examples before each question, the first of `shot_rows` (of the item's own group where the
            card has groups): the same for every item, so that they are read once. None: as the card says.
        worked: worked examples as text by group, for the header.

    Raises:
        HornbookError: a template that fails on a row (the row is named), too few examples.
    """
    reader = _Reader(card)
    shots = card.shots if shots is None else shots
    kept = [(i, row) for i, row in enumerate(rows) if reader.wanted(row, i)]
    if count is not None and count < len(kept):
        chosen = sorted(Random(seed).sample(range(len(kept)), count))
        kept = [kept[i] for i in chosen]
    examples = _examples(card, reader, shot_rows, shots)
    return [reader.item(row, i, examples, worked or {}) for i, row in kept]


def _examples(card: Card, reader: "_Reader", rows: Sequence[Row], shots: int) -> Mapping[str, str]:
    """{group: its examples as text}; the group "" where the card has none."""
    if not shots:
        return {}
    grouped: dict[str, list[str]] = {}
    for i, row in enumerate(rows):
        if reader.wanted(row, i):
            own = grouped.setdefault(reader.group(row, i), [])
            if len(own) < shots:
                own.append(reader.example(row, i))
    poor = [name for name, own in grouped.items() if len(own) < shots]
    if not grouped or poor:
        where = f" of the group {poor[0]!r}" if poor and poor[0] else ""
        most = min((len(own) for own in grouped.values()), default=0)
        raise HornbookError(
            f"{card.name}: {shots} examples are asked for, and the split {card.source.shots_split!r} has "
            f"{most}{where}. Ask for fewer with --shots."
        )
    return {name: "".join(text + card.ask.between for text in own) for name, own in grouped.items()}


class _Reader:
    """The compiled templates and expressions of one card."""

    def __init__(self, card: Card) -> None:
        self.card = card
        environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
        environment.filters.update(sub=_sub, wikihow=_wikihow, last_boxed=last_boxed)
        ask = card.ask
        try:
            self._templates = {
                name: environment.from_string(getattr(ask, name)) for name in ("header", "question", "target")
            }
            self._expressions = {
                name: environment.compile_expression(getattr(ask, name), undefined_to_none=False)
                for name in ("where", "choices", "options", "gold", "group", "cluster")
                if getattr(ask, name)
            }
        except TemplateSyntaxError as error:
            raise HornbookError(
                f"The card {card.name!r} has a template that does not parse: {error}"
            ) from None

    def _fill(self, name: str, row: Row, number: int, **more: Any) -> Any:
        try:
            if name in self._templates:
                return self._templates[name].render(**{**row, "row": row, **more})
            found = self._expressions[name](**{**row, "row": row, **more})
            if isinstance(found, Undefined):
                raise UndefinedError(f"{getattr(self.card.ask, name)!r} is undefined")
            return found
        except Exception as error:
            raise HornbookError(
                f"{self.card.name}, row {number}: ask.{name} fails ({type(error).__name__}: {error}). "
                f"The row has the fields {', '.join(row)}."
            ) from None

    def wanted(self, row: Row, number: int) -> bool:
        return "where" not in self._expressions or bool(self._fill("where", row, number))

    def group(self, row: Row, number: int) -> str:
        return str(self._fill("group", row, number)) if "group" in self._expressions else ""

    def cluster(self, row: Row, number: int) -> str:
        if "cluster" not in self._expressions:
            return ""
        return sha256_of(str(self._fill("cluster", row, number)))[:12]

    def _choices(self, row: Row, number: int) -> list[str]:
        if "choices" not in self._expressions:
            return []
        found = self._fill("choices", row, number)
        if isinstance(found, str) or not isinstance(found, Sequence) or not found:
            raise HornbookError(f"{self.card.name}, row {number}: ask.choices gives {found!r}, not a list.")
        return [str(choice) for choice in found]

    def _gold(self, row: Row, number: int, choices: Sequence[str]) -> Any:
        if self.card.kind == "text":
            return None
        if self.card.kind == "pair":
            return 0
        gold = self._fill("gold", row, number)
        options = self._fill("options", row, number) if "options" in self._expressions else choices
        numbered = self.card.kind in ("choice", "true-share")
        if numbered and not (isinstance(gold, int) and 0 <= gold < len(options)):
            raise HornbookError(
                f"{self.card.name}, row {number}: ask.gold gives {gold!r}; there are {len(options)} choices."
            )
        return gold

    def example(self, row: Row, number: int) -> str:
        """A question with its right answer."""
        ask, choices = self.card.ask, self._choices(row, number)
        gold = self._gold(row, number, choices)
        if "options" in self._expressions:
            question, answer = str(self._fill("options", row, number)[gold]), choices[0]
        else:
            question = self._fill("question", row, number)
            answer = self._fill("target", row, number) if ask.target else choices[gold] if choices else gold
        return f"{question}{ask.delimiter}{answer}"

    def item(
        self, row: Row, number: int, examples: Mapping[str, str], worked: Mapping[str, str] | None = None
    ) -> Item:
        ask, group = self.card.ask, self.group(row, number)
        if examples and group not in examples:
            raise HornbookError(f"{self.card.name}, row {number}: no examples of the group {group!r}.")
        if worked and group not in worked:
            raise HornbookError(f"{self.card.name}, row {number}: no worked examples of {group!r}.")
        own = (worked or {}).get(group, "")
        before = self._fill("header", row, number, group=group, worked=own) + examples.get(group, "")
        choices = self._choices(row, number)
        if "options" in self._expressions:
            questions = tuple(before + str(option) for option in self._fill("options", row, number))
        else:
            questions = (before + self._fill("question", row, number),)
        gold = self._gold(row, number, choices)
        if self.card.kind == "last-word":
            choices = [str(gold)]
        joined = choices if self.card.kind == "pair" else [ask.delimiter + choice for choice in choices]
        return Item(
            id=sha256_of({name: value for name, value in row.items() if name != "src_index"})[:16],
            group=group,
            questions=questions,
            choices=tuple(joined),
            gold=gold,
            cluster=self.cluster(row, number),
            row=row,
        )


def _sub(text: str, pattern: str, replacement: str = "") -> str:
    """Jinja filter: every match of a regular expression replaced."""
    return re.sub(pattern, replacement, text)


def _wikihow(text: str) -> str:
    """Jinja filter: HellaSwag's text without the marks that its second source left in it."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def last_boxed(text: str) -> str:
    r"""What stands in the last \boxed{...} (braces balanced), or an empty string."""
    begin = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if begin < 0:
        return ""
    opened = text.find("{", begin)
    if opened < 0 or opened - begin > 7:
        return text[begin + 6 :].split("$")[0].strip()
    depth = 0
    for at in range(opened, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[opened + 1 : at]
    return ""
