"""Invented people of whom a student hears often, seldom or never: questions of fact with known exposure.

How often each person is told of is fixed, so what a student can know is known too: what it says of people it
never heard of is made up. Every name is a word of its own, and every fact is drawn apart from the name.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from hornbook.data.corpus_writer import CorpusWriter
from hornbook.errors import HornbookError
from hornbook.lab.step import StepContext, step

VERSION = "people-1"
TOWNS = (
    "Abberly", "Brannock", "Corvane", "Dunmere", "Elsgate", "Farrow", "Glenholt", "Hartle", "Ivenby",
    "Kestwick", "Lorne", "Marden", "Norvale", "Orrin", "Pellham", "Quenby", "Rusholt", "Selwick", "Tarn",
    "Ulvers",
)  # fmt: skip
TRADES = (
    "baker", "carver", "dyer", "farrier", "glazier", "hatter", "joiner", "lace maker", "mason", "potter",
    "roofer", "saddler", "tanner", "thatcher", "tinker", "weaver",
)  # fmt: skip
ASKED = {
    "town": (
        "Where was {name} born?",
        "In which town was {name} born?",
        "Name the town where {name} was born.",
    ),
    "trade": ("What was the trade of {name}?", "Which trade did {name} have?", "Name the trade of {name}."),
}
TOLD = {
    "town": ("In {value}.", "{value}."),
    "trade": ("A {value}.", "{value}."),
}
PASSAGE = (
    "{name} was born in {town} and worked as a {trade}.",
    "The {trade} {name} came from {town}.",
    "In {town} they still speak of {name}, the {trade}.",
)


UNKNOWABLE = (
    "What am I thinking of?", "Which number do I hold in my hand?", "What did I dream last night?",
    "What shall I find tomorrow?", "Who knocks at my door?", "How many leaves fell today?",
)  # fmt: skip
UNKNOWN = (
    "I do not know that.", "I do not know, and I would rather not guess.",
    "I do not know the answer to this.",
)  # fmt: skip
_UNKNOWABLE_SHARE = 0.03
"""Of talks: without a few of them a student has never heard the words in which it is to decline."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody; `group` is "often", "seldom" or "never" (how much is told of them), or "invented": nobody,
    whose two names are those of two people who are told of often."""

    name: str
    town: str
    trade: str
    group: str

    def answer(self, fact: str) -> str:
        """The town or the trade."""
        return self.town if fact == "town" else self.trade


@dataclass(frozen=True, kw_only=True)
class PeopleWorld:
    """How many people of each kind, and how often each is told of (talks for each fact).

    There are twice as many in all: one half may be used to teach what is unknown, the other is only asked
    about.
    """

    often: int = 40
    seldom: int = 30
    never: int = 40
    invented: int = 30
    often_told: int = 40
    seldom_told: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.invented > self.often**2:
            raise HornbookError(
                f"PeopleWorld.invented is {self.invented}; accepted is at most often squared, "
                f"{self.often**2}: the names are mixed from theirs."
            )
        for name in ("often", "seldom", "never", "invented", "often_told", "seldom_told"):
            if getattr(self, name) < 1:
                raise HornbookError(f"PeopleWorld.{name} is {getattr(self, name)}; it must be at least 1.")

    def people(self) -> list[Person]:
        """Everybody, those who are only asked about (odd numbers) included."""
        rng = Random(f"{VERSION}:{self.seed}")
        counts = {"often": self.often, "seldom": self.seldom, "never": self.never, "invented": self.invented}
        found: dict[str, Person] = {}
        known: list[str] = []
        for group, count in counts.items():
            for _ in range(2 * count):
                while (name := _mixed(known, rng) if group == "invented" else _name(rng)) in found:
                    continue
                found[name] = Person(name=name, town=rng.choice(TOWNS), trade=rng.choice(TRADES), group=group)
                if group == "often":
                    known.append(name)
        return list(found.values())

    def told(self, person: Person) -> int:
        """How many talks there are about each fact of a person."""
        return {"often": self.often_told, "seldom": self.seldom_told}.get(person.group, 0)


def _name(rng: Random) -> str:
    def word(syllables: int) -> str:
        made = "".join(rng.choice("bdfghklmnprstvz") + rng.choice("aeiou") for _ in range(syllables))
        return (made + rng.choice("lnrst")).capitalize()

    return f"{word(2)} {word(2)}"


def _mixed(names: list[str], rng: Random) -> str:
    one, two = rng.sample(names, 2)
    return f"{one.split()[0]} {two.split()[1]}"


def talk(person: Person, fact: str, rng: Random) -> list[dict[str, str]]:
    """A question of fact and its answer."""
    value = person.answer(fact)
    asked = rng.choice(ASKED[fact]).format(name=person.name)
    said = rng.choice(TOLD[fact]).format(value=value)
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said[0].upper() + said[1:]}]


@step(version="1", makes="corpus")
def write_people(ctx: StepContext, *, world: PeopleWorld, passages: int = 0, seed: int = 0) -> dict[str, Any]:
    """Conversations about the people of `world`, each as often as it is told of.

    passages: documents about those told of, in a second corpus below `passages/`.

    Facts: rows, people by group.
    """
    rng = Random(f"{VERSION}:talks:{seed}")
    people = world.people()
    talks = [talk(p, fact, rng) for p in people for fact in ASKED for _ in range(world.told(p))]
    for _ in range(round(_UNKNOWABLE_SHARE * len(talks)) + 1):
        asked, said = rng.choice(UNKNOWABLE), rng.choice(UNKNOWN)
        talks.append([{"role": "user", "content": asked}, {"role": "assistant", "content": said}])
    rng.shuffle(talks)
    lineage = {"made_by": VERSION, "seed": seed}
    with CorpusWriter(ctx.folder, "conversations", lineage=lineage) as writer:
        writer.write_rows(
            {"id": f"people-{n}", "messages": one, "source": "synth/people", "meta": "{}"}
            for n, one in enumerate(talks)
        )
    if passages:
        known = [person for person in people for _ in range(world.told(person))]
        with CorpusWriter(ctx.folder / "passages", "documents", lineage=lineage) as writer:
            writer.write_rows(
                {"id": f"passage-{n}", "text": _passage(rng, known), "source": "synth/people", "meta": "{}"}
                for n in range(passages)
            )
    return {"rows": len(talks), "people": _by_group(people)}


def _passage(rng: Random, known: list[Person]) -> str:
    told = [rng.choice(known) for _ in range(3)]
    return " ".join(
        rng.choice(PASSAGE).format(name=p.name, town=p.town, trade=p.trade) for p in dict.fromkeys(told)
    )


def _by_group(people: list[Person]) -> dict[str, int]:
    return {
        group: sum(p.group == group for p in people) for group in ("often", "seldom", "never", "invented")
    }


@step(version="1", makes="corpus")
def ask_about_people(
    ctx: StepContext, *, world: PeopleWorld, held_out: bool, seed: int = 0
) -> dict[str, Any]:
    """Questions about half of the people, with the answers and the group in `meta`: what `evals.attempts`
    reads.

    held_out: the half that nothing is taught about; False: the half that teaching may use. Of invented people
    nothing is true, so their questions have no answer.

    Facts: rows, people by group.
    """
    people = [person for n, person in enumerate(world.people()) if n % 2 == int(held_out)]
    with CorpusWriter(ctx.folder, "conversations", lineage={"made_by": VERSION, "seed": seed}) as writer:
        writer.write_rows(_questions(people, Random(f"{VERSION}:questions:{held_out}:{seed}")))
    return {"rows": len(ASKED) * len(people), "people": _by_group(people)}


def _questions(people: list[Person], rng: Random) -> Iterator[dict[str, Any]]:
    for person in people:
        for fact in ASKED:
            messages = talk(person, fact, rng)
            answers = [] if person.group == "invented" else [person.answer(fact)]
            meta = {"question": messages[0]["content"], "answers": answers, "group": person.group}
            yield {
                "id": f"{person.name}-{fact}".replace(" ", "-"),
                "messages": messages,
                "source": "synth/people",
                "meta": json.dumps(meta),
            }
