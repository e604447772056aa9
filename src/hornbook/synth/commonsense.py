"""Common sense for a small student: textbooks that explain it, a web in which it is scattered, items that
ask for it.

phi-1.5 at the size of a laptop. The world (`commonsense_words`) has things and deeds in classes; what
becomes of a thing, or how a deed makes people feel, follows from its class. Textbooks say which class a
thing has, what the rule is, and show it; the web tells of single events among chatter, of the same few
things most of the time, and is sometimes wrong. One pair of member and question in five occurs in neither:
items ask for those.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random

from hornbook.synth.commonsense_words import CHATTER, DOMAINS, Domain
from hornbook.synth.lexicon import BOYS, GIRLS
from hornbook.synth.phrase import pick
from hornbook.synth.stories import meta, rng_for

VERSION = "commonsense-1"
TEXTBOOKS, WEB = "synth/commonsense/textbooks", "synth/commonsense/web"
HELD_OUT_EVERY = 5
NAMES = (*GIRLS[:12], *BOYS[:12])
SCENES = ("at school", "at home", "in the village", "on the farm", "in the city", "by the sea")
AUDIENCES = ("child", "pupil", "reader")
_OPENINGS = {
    "child": ("Let us find something out {s}.", "Look around {s}.", "Do you know this?"),
    "pupil": ("Today's lesson happens {s}.", "This lesson is about {c}.", "We study one rule {s}."),
    "reader": ("This page explains {c}.", "Consider a case {s}.", "One rule explains much {s}."),
}
INSTRUCTIVE = 0.2
"""Share of the web that explains something."""
WRONG = 0.08
"""Share of the web's events that end as they would not."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One pair of a member and a question, with the class and the outcome that follows."""

    domain: Domain
    cls: str
    member: str
    question: str

    @property
    def outcome(self) -> str:
        return self.domain.outcomes[self.question][self.cls]

    @property
    def held_out(self) -> bool:
        """Whether no text may tell of it: one in five, by a stable hash."""
        return zlib.crc32(f"{VERSION}/{self.member}/{self.question}".encode()) % HELD_OUT_EVERY == 0


@dataclass(frozen=True, kw_only=True)
class Item:
    """A common-sense item: after `prompt` comes `right` and not `wrong`."""

    kind: str
    prompt: str
    right: str
    wrong: str


@cache
def facts(domain: str, held_out: bool) -> tuple[Fact, ...]:
    """All facts of a domain on one side of the split."""
    (found,) = (one for one in DOMAINS if one.name == domain)
    return tuple(
        fact
        for cls, members in found.members.items()
        for member in members
        for question in found.events
        if (fact := Fact(domain=found, cls=cls, member=member, question=question)).held_out is held_out
    )


def _people(rng: Random) -> dict[str, str]:
    first, second = rng.sample(NAMES, 2)
    return {"n": first, "k": second}


def _slots(fact: Fact, people: dict[str, str]) -> dict[str, str]:
    return {**people, "c": fact.cls, "o": fact.outcome, "m": fact.member.format_map(people)}


def tell(fact: Fact, rng: Random, people: dict[str, str], outcome: str | None = None) -> str:
    """The event and how it ends, in two sentences."""
    slots = _slots(fact, people)
    event = pick(rng, fact.domain.events[fact.question]).format_map(slots)
    subject = fact.domain.subjects[fact.question].format_map(slots)
    return f"{event} {subject} {outcome or fact.outcome}."


def _belongs(fact: Fact, rng: Random, people: dict[str, str]) -> str:
    return pick(rng, fact.domain.belongs).format_map(_slots(fact, people))


def _rule(fact: Fact, rng: Random) -> str:
    said = pick(rng, fact.domain.rules[fact.question])
    return said.format_map({"c": fact.cls, "o": fact.outcome})


Topic = tuple[str, str, str, str, str]
"""Domain, class, question, scene, audience: what a passage is about."""


@cache
def topics(domain: str | None = None) -> tuple[Topic, ...]:
    """Every topic of the world's textbooks."""
    return tuple(
        (one.name, cls, question, scene, audience)
        for one in DOMAINS
        if domain in (None, one.name)
        for cls in one.members
        for question in one.events
        for scene in SCENES
        for audience in AUDIENCES
    )


@cache
def _of_class(domain: str, cls: str, question: str, held_out: bool) -> tuple[Fact, ...]:
    return tuple(f for f in facts(domain, held_out) if f.cls == cls and f.question == question)


def passage(topic: Topic, rng: Random, *, exercises: int = 0) -> str:
    """A page of the textbook: the rule, which things it is about, cases of it, a contrast, a question
    answered.

    exercises: cases of other lessons at its foot, of which the page says nothing: who reads them has to
        remember.
    """
    domain, cls, question, scene, audience = topic
    people = _people(rng)
    own = _of_class(domain, cls, question, False)
    cases = rng.sample(own, min(3, len(own)))
    hidden = _of_class(domain, cls, question, True)
    others = [f for f in facts(domain, False) if f.question == question and f.outcome != cases[0].outcome]
    contrast = pick(rng, others)
    lines = [pick(rng, _OPENINGS[audience]).format(s=scene, c=cls), _rule(cases[0], rng)]
    # Which members belong to the class is said of all, held-out pairs included: the rule does the rest.
    lines += [_belongs(fact, rng, people) for fact in rng.sample([*own, *hidden], 2)]
    for fact in cases[:2]:
        lines += [_belongs(fact, rng, people), tell(fact, rng, _people(rng))]
    lines += [f"But {_lower(_belongs(contrast, rng, people))}", tell(contrast, rng, people)]
    if len(cases) > 2:
        lines.append(f"One more case: {tell(cases[2], rng, _people(rng))}")
    if exercises:
        asked = [pick(rng, facts(pick(rng, DOMAINS).name, False)) for _ in range(exercises)]
        lines += ["Exercises.", *[tell(fact, rng, _people(rng)) for fact in asked]]
    return " ".join(lines)


def _lower(text: str) -> str:
    return text if text.split(" ", 1)[0].rstrip(":") in NAMES else text[:1].lower() + text[1:]


def textbook_rows(
    seed: int, rows: int, *, topics_used: int | None = None, exercises: int = 0
) -> Iterator[dict[str, str]]:
    """Rows of a documents corpus: passages on topics drawn evenly; `topics_used`: on so many of them only;
    `exercises` at the foot of each (see `passage`)."""
    known = topics()
    if topics_used is not None:
        known = tuple(Random(f"{VERSION}/topics/{seed}").sample(known, min(topics_used, len(known))))
    for index in range(rows):
        rng = rng_for(f"{VERSION}/textbook", seed, index, False)
        topic = pick(rng, known)
        yield {
            "id": f"commonsense-textbook-{seed}-{index}",
            "text": passage(topic, rng, exercises=exercises),
            "source": TEXTBOOKS,
            "meta": meta(VERSION, seed, index, topic=list(topic)),
        }


def web_rows(seed: int, rows: int) -> Iterator[dict[str, str]]:
    """Rows of a documents corpus: posts as the web has them; `meta.educational` says which fifth explains."""
    ranked = {d.name: sorted(facts(d.name, False), key=_popularity) for d in DOMAINS}
    for index in range(rows):
        rng = rng_for(f"{VERSION}/web", seed, index, False)
        instructive = rng.random() < INSTRUCTIVE
        found = ranked[pick(rng, DOMAINS).name]
        lines: list[str] = []
        for _ in range(1 + int(rng.random() < 0.5)):
            # The logarithm of the rank is uniform (Zipf): the same few things, most of the time.
            fact = found[int(len(found) ** rng.random()) - 1]
            people = _people(rng)
            wrong = rng.random() < WRONG
            ends = [
                o for o in dict.fromkeys(fact.domain.outcomes[fact.question].values()) if o != fact.outcome
            ]
            lines.append(tell(fact, rng, people, pick(rng, ends) if wrong else None))
            if instructive:
                lines.append(_belongs(fact, rng, people))
                if rng.random() < 0.5 and not wrong:
                    lines.append(_rule(fact, rng))
        chatter = rng.sample(CHATTER, 2 if instructive else 5)
        for line in chatter:
            lines.insert(int(rng.random() * (len(lines) + 1)), line)
        yield {
            "id": f"commonsense-web-{seed}-{index}",
            "text": " ".join(lines),
            "source": WEB,
            "meta": meta(
                VERSION, seed, index, educational=instructive, kind="explains" if instructive else "chatter"
            ),
        }


def _popularity(fact: Fact) -> int:
    return zlib.crc32(f"popular {fact.member} {fact.question}".encode())


def items(count: int, seed: int) -> list[Item]:
    """Items on pairs that no text tells of, as many of each domain; the wrong end is right for another
    class."""
    made: list[Item] = []
    for number in range(count):
        rng = rng_for(f"{VERSION}/item", seed, number, True)
        domain = DOMAINS[number % len(DOMAINS)]
        fact = pick(rng, facts(domain.name, True))
        people = _people(rng)
        told = tell(fact, rng, people)
        ends = [o for o in dict.fromkeys(domain.outcomes[fact.question].values()) if o != fact.outcome]
        prompt = told[: -len(f" {fact.outcome}.")]
        made.append(
            Item(kind=domain.name, prompt=prompt, right=f" {fact.outcome}.", wrong=f" {pick(rng, ends)}.")
        )
    return made
