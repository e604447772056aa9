"""Decontamination against sets of tuples, and with planted contamination whose truth is known."""

import re

import numpy as np
import pytest

from hornbook.curate.decontaminate import (
    DecontaminationSettings,
    Decontaminator,
    EvaluationItem,
    without_digits,
)
from hornbook.curate.words import hash_words, split
from hornbook.errors import HornbookError

NAMES = [
    "Mara",
    "Tobin",
    "Elke",
    "Yusuf",
    "Priya",
    "Oskar",
    "Lena",
    "Hugo",
    "Ines",
    "Bruno",
    "Carla",
    "Dario",
    "Freya",
    "Goran",
    "Hanna",
    "Ivan",
]
THINGS = [
    "apples",
    "lanterns",
    "marbles",
    "kites",
    "ribbons",
    "shells",
    "stamps",
    "candles",
    "buttons",
    "acorns",
    "pebbles",
    "tickets",
]
PLACES = [
    "market",
    "harbour",
    "library",
    "orchard",
    "museum",
    "bakery",
    "station",
    "garden",
    "castle",
    "meadow",
    "workshop",
    "theatre",
]
CLAUSES = [
    "{a} bought {n} {t} at the {p} in the morning",
    "{b} borrowed {n} {t} and promised to return them by Friday",
    "a storm ruined {n} of the {t} kept under the {p} roof",
    "{a} traded {n} {t} for a wooden horse",
    "an uncle who works in the {p} sent {n} {t} by post",
    "{b} counted the {t} twice and found {n} missing",
    "every child in the {p} was handed {n} {t}",
    "{a} paid {n} coins for each box of {t}",
    "half of the {n} {t} turned out to be broken",
    "the owner of the {p} offered {n} spare {t} as a gift",
    "{b} hid {n} {t} behind the stove where nobody looks",
    "{a} packed {n} {t} into crates of equal size",
    "rain kept visitors away, so {n} {t} stayed unsold",
    "{b} arranged {n} {t} in rows along the {p} wall",
    "a goat ate {n} {t} before anyone noticed",
    "{a} and {b} shared {n} {t} without quarrelling",
]
ASKS = [
    "How many {t} does {a} have when the day is over?",
    "What is the number of {t} left on the table?",
    "How much money did {b} spend altogether?",
    "By how many {t} did the pile of {a} grow?",
    "Who owns more {t} now, and what is the difference?",
]


def question(generator):
    """(text, clauses): a word problem of three clauses out of sixteen, with names, a thing and a place."""
    a, b = generator.choice(NAMES, 2, replace=False)
    slots = {"a": a, "b": b, "t": generator.choice(THINGS), "p": generator.choice(PLACES)}
    chosen = generator.choice(len(CLAUSES), 3, replace=False)
    parts = [CLAUSES[i].format(n=generator.integers(2, 90), **slots) for i in chosen]
    ask = ASKS[generator.integers(len(ASKS))].format(**slots)
    return ". ".join(part[0].upper() + part[1:] for part in parts) + ". " + ask, frozenset(chosen.tolist())


PARAPHRASE = {
    "bought": "purchased",
    "borrowed": "took",
    "promised to return them by": "wanted to give them back on",
    "ruined": "spoiled",
    "traded": "swapped",
    "How many": "Tell us how many",
    "counted the": "went through the",
    "handed": "given",
    "turned out to be": "were",
    "spare": "extra",
    "stayed unsold": "were not sold",
    "when the day is over": "at the end",
    "What is the number of": "Find how many",
    "altogether": "in total",
}


def filler(generator, sentences):
    return " ".join(
        f"The {generator.choice(PLACES)} was quiet while {generator.choice(NAMES)} counted "
        f"{generator.choice(THINGS)} and thought about the {generator.choice(PLACES)}."
        for _ in range(sentences)
    )


@pytest.fixture(scope="module")
def planted():
    generator = np.random.default_rng(5)
    test = [question(generator) for _ in range(48)]
    items = [EvaluationItem(id=str(i), question=q, answer=str(i)) for i, (q, _) in enumerate(test)]
    documents, kinds, answers = [], [], []

    def add(kind, text, item=-1):
        before, after = (filler(generator, generator.integers(0, 6)) for _ in range(2))
        documents.append(f"{before} {text} {after}")
        kinds.append(kind)
        answers.append(item)

    for i, (q, _) in enumerate(test):
        if i % 4 == 0:
            add("exact", q, i)
        elif i % 4 == 1:
            add("numbers", re.sub(r"\d+", lambda m: str(int(m.group()) + 17), q), i)
        elif i % 4 == 2:
            add("layout", "> " + re.sub(r"\s+", "\n  ", q.upper()).replace(".", " ,"), i)
        else:
            text = q
            for old, new in PARAPHRASE.items():
                text = text.replace(old, new)
            add("paraphrase", text, i)
    # A harmless look-alike has the same people, things and places, and at most one clause of any test
    # question.
    while kinds.count("look-alike") < 200:
        other, clauses = question(generator)
        if all(len(clauses & used) < 2 for _, used in test):
            add("look-alike", other)
    for _ in range(100):
        add("clean", "")
    return items, documents, np.array(kinds), answers


def runs(text, n):
    words = [w for w in (re.sub(r"\d", "", w) for w in re.findall(r"\w+", text.lower())) if w]
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


@pytest.mark.parametrize("n", [8, 13])
def test_ngram_rule_equals_sets(planted, n):
    items, documents, _, _ = planted
    evaluation = set().union(*(runs(item.question, n) for item in items))
    expected = {d: len(runs(text, n) & evaluation) for d, text in enumerate(documents)}
    found = Decontaminator({"test": items}, DecontaminationSettings(ngram=n)).ngram_matches(split(documents))
    assert {m.document for m in found} == {d for d, hits in expected.items() if hits}
    for match in found:
        assert runs(match.text, n) & evaluation


def test_planted_contamination(planted):
    """Recall by kind of copy and precision; the 13-gram rule alone misses the paraphrases."""
    items, documents, kinds, answers = planted
    decontaminator = Decontaminator({"test": items})
    words = split(documents)
    found = {m.document: m for m in decontaminator.matches(words)}
    caught = np.array([d in found for d in range(len(documents))])
    for kind in ("exact", "numbers", "layout"):
        assert caught[kinds == kind].mean() == 1.0, kind
    assert caught[kinds == "paraphrase"].mean() >= 0.8
    scored = {m.document: m for m in decontaminator.scored_matches(words)}
    hit = np.array([d in scored for d in range(len(documents))])
    planted_rows = np.array([a >= 0 for a in answers])
    precision = (hit & planted_rows).sum() / hit.sum()
    assert precision >= 0.95
    assert not caught[kinds == "clean"].any()
    assert caught[kinds == "look-alike"].mean() <= 0.05
    assert np.mean([scored[d].item == str(answers[d]) for d in np.flatnonzero(hit & planted_rows)]) >= 0.95
    by_run = {m.document for m in decontaminator.ngram_matches(words)}
    assert np.mean([d in by_run for d in np.flatnonzero(kinds == "paraphrase")]) <= 0.7


def test_short_questions_need_almost_everything_or_the_answer():
    capital = "What is the capital city of Mongolia?"
    items = [EvaluationItem(id="capital", question=capital, answer="Ulaanbaatar")]
    for i, (thing, place) in enumerate(zip(THINGS, PLACES)):
        items.append(EvaluationItem(id=f"f{i}", question=f"What is the {thing} of {place}?"))
    decontaminator = Decontaminator({"trivia": items})
    texts = [
        "Quiz: What is the capital city of Mongolia? Ulaanbaatar.",
        "Mongolia is a country with a capital and many a city.",
        "The capital city of France is Paris. What is it like?",
        "Mongolia has a capital. Ulaanbaatar is what it is called, and the city is cold.",
    ]
    found = decontaminator.scored_matches(split(texts))
    assert [m.document for m in found] == [0]


def test_a_quoted_passage_is_not_contamination():
    passage = filler(np.random.default_rng(2), 12)
    item = EvaluationItem(id="1", question="Who counted the candles on the bridge of sighs?", passage=passage)
    assert not Decontaminator({"reading": [item]}).matches(split([passage]))


def test_boilerplate_is_no_contamination_by_score():
    """A question that quotes a part of a common licence must not be found in every copy of it."""
    licence = "Permission is hereby granted free of charge to any person obtaining a copy of this work"
    question = f"{licence}. Write a function that returns the median of three numbers."
    texts = [f"{licence} and so on. {filler(np.random.default_rng(i), 5)}" for i in range(20)]
    decontaminator = Decontaminator({"code": [EvaluationItem(id="1", question=question)]}, background=texts)
    assert not decontaminator.scored_matches(split(texts))


def test_digits_leave_and_letters_stay():
    got = without_digits(split(["x2 12 y3z 7 é9 _ 4", "", "1 2 3", "plain"]))
    assert got.hashes.tolist() == hash_words("x yz é _ plain").tolist()
    assert got.offsets.tolist() == [0, 4, 4, 4, 5]


def test_results_do_not_depend_on_the_batch(planted):
    items, documents, _, _ = planted
    decontaminator = Decontaminator({"test": items})
    whole = [(m.item, m.score, m.text) for m in decontaminator.matches(split(documents[:60]))]
    single = [(m.item, m.score, m.text) for d in documents[:60] for m in decontaminator.matches(split([d]))]
    assert whole == single


def test_nothing_to_compare_with():
    assert Decontaminator({}).matches(split(["some text"])) == []
    for question in ("?", "what is this"):
        decontaminator = Decontaminator({"a": [EvaluationItem(id="1", question=question)]})
        assert decontaminator.matches(split(["some text", ""])) == []
        assert decontaminator.matches(split([])) == []


def test_wrong_settings_are_refused():
    with pytest.raises(HornbookError, match="ngram = -1"):
        DecontaminationSettings(ngram=-1)
    with pytest.raises(HornbookError, match=r"short = 0\.2 is below long"):
        DecontaminationSettings(short=0.2)
