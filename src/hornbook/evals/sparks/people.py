"""What others believe (section 6.1), whether explanations hold (6.2), personal data in a text (7.1)."""

import re
from collections.abc import Sequence
from random import Random

from hornbook.curate.pii import find
from hornbook.evals.sparks.probe import Mark, Probe, Trial, Turns, last_number

_PEOPLE = [
    "Anders",
    "Bettina",
    "Chidi",
    "Dolores",
    "Emeka",
    "Farida",
    "Goran",
    "Halima",
    "Ines",
    "Jonas",
    "Keiko",
    "Lucia",
    "Mateo",
    "Noor",
    "Oskar",
]
_FILES = ("the budget", "the seating plan", "the draft contract", "the travel photos", "the recipe list")
_PLACES = (
    "the blue folder",
    "the shared drive",
    "the archive",
    "the old laptop",
    "the notes app",
    "the inbox",
)


class FalseBelief(Probe):
    """Something is moved while somebody is away, or while she watches: the control that a habit fails."""

    name = "false-belief"
    section = "6.1"
    sentence = "Something is moved, seen or unseen: where will somebody look, where is it, where was it?"
    metric = "all three"
    max_tokens = 40

    def draw(self, rng: Random) -> Trial:
        a, b = rng.sample(_PEOPLE, 2)
        thing = rng.choice(_FILES)
        old, new, other = rng.sample(_PLACES, 3)
        saw = rng.random() < 0.5
        away = rng.choice(["out for lunch", "on a call", "asleep", "on the train without a connection"])
        moved = (
            f"While {a} looks on, {b} moves {thing} to {new}."
            if saw
            else f"While {a} is {away}, {b} moves {thing} to {new} and tells nobody."
        )
        where = [old, new, other]
        rng.shuffle(where)
        story = (
            f"{a} and {b} work together. They use {where[0]}, {where[1]} and {where[2]}. {a} puts {thing} "
            f"in {old}. "
            f"{moved} The next day {a} wants {thing}."
        )
        asked = "Answer with the name of the place alone."
        questions = (
            f"Where does {a} look first for {thing}?",
            f"Where is {thing} in fact?",
            f"Where did {a} put {thing} at the beginning?",
        )
        return Trial(
            id="",
            openings=tuple(f"{story}\n\n{question} {asked}" for question in questions),
            told={"places": where, "truth": [new if saw else old, new, old]},
            group="seen" if saw else "unseen",
        )

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        read = [_named(turns[-1], trial.told["places"]) for turns in answers]
        good = [given == truth for given, truth in zip(read, trial.told["truth"])]
        names = ("belief", "reality", "memory")
        return Mark(
            values={"all three": float(all(good)), **{n: float(g) for n, g in zip(names, good)}},
            read="; ".join(str(place) for place in read),
            note=", ".join(name for name, right in zip(names, good) if not right),
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        return str(trial.told["truth"][conversation])


def _named(text: str, places: Sequence[str]) -> str | None:
    """The one place an answer names; None for none or several."""
    found = [place for place in places if place.removeprefix("the ") in text.lower()]
    return found[0] if len(found) == 1 else None


class Explanation(Probe):
    """Does the explanation end in the answer, and does it say what the model does on a changed question?

    "answer explained" is the paper's output consistency, "process" its process consistency: the answer that
    the model announces for a changed order, against what it says when asked for that order afresh.
    """

    name = "explanation"
    section = "6.2"
    sentence = (
        "A price by rules: is the answer right, does its explanation end in it, and foretell the next one?"
    )
    max_tokens = 200

    def draw(self, rng: Random) -> Trial:
        price, fee, limit = rng.randint(2, 9), rng.randint(3, 20), rng.randint(4, 9)
        thing = rng.choice(["bricks", "melons", "planks", "tiles", "jars", "sacks"])
        rule = (
            f"A shop sells {thing} at {price} coins each. Orders of {limit} or more pay {fee} coins for "
            "transport; smaller orders pay nothing for it."
        )
        first, second = rng.randint(limit, limit + 6), rng.randint(1, limit - 1)
        if rng.random() < 0.5:
            first, second = second, first
        return Trial(
            id="",
            openings=(
                f"{rule} What do {first} {thing} cost? Begin with the number, then explain it in one "
                "sentence.",
                f"{rule} What do {second} {thing} cost? Begin with the number, then explain it in one "
                "sentence.",
            ),
            told={
                "truth": [_price(n, price, fee, limit) for n in (first, second)],
                "second": second,
                "thing": thing,
            },
        )

    def reply(self, trial: Trial, conversation: int, turns: Turns) -> str | None:
        if conversation == 0 and len(turns) == 1:
            told = trial.told
            return f"By the same rule, what do {told['second']} {told['thing']} cost? The number alone."
        return None

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        first, foretold = answers[0][0], answers[0][-1] if len(answers[0]) > 1 else ""
        stated, explained = _leading(first), last_number(first)
        announced, fresh = last_number(foretold), _leading(answers[1][0])
        right = stated == trial.told["truth"][0]
        return Mark(
            values={
                "solved": float(right),
                "answer explained": float(stated is not None and stated == explained and _explains(first)),
                "process": float(announced is not None and announced == fresh),
            },
            read=f"{stated}; explained {explained}; foretold {announced}, then {fresh}",
            note="" if right else f"the truth is {trial.told['truth'][0]}",
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        one, other = trial.told["truth"]
        value = one if conversation == 0 and not turns else other
        return str(value) if turns else f"{value}. The pieces and the transport come to {value}."


def _price(count: int, price: int, fee: int, limit: int) -> int:
    return count * price + (fee if count >= limit else 0)


def _leading(text: str) -> int | None:
    match = re.search(r"\d[\d,]*", text)
    return last_number(match.group()) if match else None


def _explains(text: str) -> bool:
    return len(re.findall(r"\d[\d,]*", text)) >= 2


_LAST = [
    "Okoro", "Lindqvist", "Farrow", "Castellano", "Nakamura", "Petrov", "Haddad", "Mbeki", "Silva",
    "Bianchi", "Novak", "Iversen",
]  # fmt: skip
_TOWNS = ["Tilburg", "Aarhus", "Porto", "Leeds", "Gdansk", "Nantes", "Bergen", "Turin", "Malaga", "Galway"]
_DOMAINS = ("mail.nl", "post.dk", "correo.es", "work.io", "uni.se")


class PersonalData(Probe):
    """Personal data to be found in a sentence with labels, beside what patterns find."""

    name = "personal-data"
    section = "7.1"
    sentence = (
        "Names, places, dates, mail addresses, telephone and card numbers in a report: listed and counted."
    )
    metric = "exact count"
    max_tokens = 160

    def draw(self, rng: Random) -> Trial:
        first, last = rng.choice(_PEOPLE), rng.choice(_LAST)
        name = f"{first} {last}"
        offers = {
            "mail": f"{first.lower()}.{last.lower()}@{rng.choice(_DOMAINS)}",
            "phone": f"+{rng.choice([31, 44, 45, 351])} {rng.randint(10, 99)} {rng.randint(100, 999)} "
            "{rng.randint(1000, 9999)}",
            "town": rng.choice(_TOWNS),
            "date": f"{rng.randint(1, 28)} {rng.choice(['March', 'June', 'October'])} "
            "{rng.randint(1950, 2004)}",
            "number": f"{rng.choice('KLMNP')}{rng.randint(1_000_000, 9_999_999)}",
        }  # fmt: skip
        kinds = rng.sample(list(offers), rng.randint(0, len(offers)))
        said = {
            "mail": "can be written to at {}",
            "phone": "answers the telephone {}",
            "town": "lives in {}",
            "date": "was born on {}",
            "number": "travels with passport {}",
        }
        parts = [said[kind].format(offers[kind]) for kind in kinds]
        named = rng.random() < 0.8
        items = ([name] if named else []) + [offers[kind] for kind in kinds]
        who = name if named else rng.choice(["The witness", "The patient", "The applicant"])
        noise = rng.choice(["The meeting took 45 minutes.", "Form 12 was used.", "The room has 30 chairs."])
        report = f"{who} {', '.join(parts) if parts else 'said nothing further'}. {noise}"
        opening = (
            "Find the personal data in this report: names of persons, towns, dates of birth, mail addresses, "
            f"telephone numbers and passport numbers.\n\n{report}\n\nList each on a line of its own, as it "
            "is "
            "written there. End with a line that says Answer: and how many they are."
        )
        return Trial(
            id="",
            openings=(opening,),
            told={"items": items, "patterns": len(find(report))},
            group=f"{len(items)} items",
        )

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        items, text = trial.told["items"], answers[0][-1]
        counted = last_number(_last_answer(text))
        found = sum(item.lower() in text.lower() for item in items)
        listed = [line for line in text.splitlines() if line.strip() and "answer" not in line.lower()]
        sound = sum(any(item.lower() in line.lower() for item in items) for line in listed)
        return Mark(
            values={
                "exact count": float(counted == len(items)),
                "found": found / len(items) if items else float(not listed),
                "of lines sound": sound / len(listed) if listed else float(not items),
                "patterns' count": float(trial.told["patterns"] == len(items)),
            },
            read=str(counted),
            note=f"there are {len(items)}; patterns find {trial.told['patterns']}",
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        return "\n".join([*trial.told["items"], f"Answer: {len(trial.told['items'])}"])


def _last_answer(text: str) -> str:
    """The line with the answer alone: numbers of the list are no count."""
    lines = [line for line in text.splitlines() if "answer" in line.lower()]
    return lines[-1] if lines else ""
