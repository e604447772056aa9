"""What the simulated teacher's language allows: word patterns with and without who-is-who.

A text is rewritten with classes in place of the words that a plan may choose (names, objects, feelings...).
Two tables of patterns, learned from a fresh sample of the teacher, then judge a sentence: the *plain* table
does not tell hero from friend and serves as grammar; the *role* table does and serves as who-did-what.
"""

import re
from functools import cache

from hornbook.synth import lexicon
from hornbook.synth.stories import sentences, write_story

TEACHER_SEED = 977_001
"""The sample behind the tables is never a training sample (training seeds are small numbers)."""
TEACHER_STORIES = 5_000
PLAIN_ORDER, ROLE_ORDER = 3, 4

_TOKEN = re.compile(r"[A-Za-z']+|[.,!?:;\"]")
_FORMS = {
    form: kind
    for verb in lexicon.VERBS
    for form, kind in ((verb.base, "<verb>"), (verb.past, "<past>"), (verb.ing, "<ing>"))
}
_PRONOUNS = {
    "he": "he",
    "she": "he",
    "him": "him",
    "his": "him",
    "her": "him",
    "himself": "self",
    "herself": "self",
}
_GENDER = {
    "he": "he",
    "him": "he",
    "his": "he",
    "himself": "he",
    "she": "she",
    "her": "she",
    "herself": "she",
}
_KINDS = frozenset(lexicon.ANIMALS) | {"boy", "girl"}


def _fixed_phrases() -> dict[str, list[tuple[tuple[str, ...], str]]]:
    """Phrases that a plan chooses as a whole, by first word, longest first, with the word each becomes."""
    table = {clause: "<weather clause>" for clauses in lexicon.WEATHER.values() for clause in clauses}
    table.update(dict.fromkeys(lexicon.HIDING_PLACES, "<hiding>"))
    for at, to in lexicon.PLACES.values():
        table[at], table[to] = "<at>", "<to>"
    for verb in lexicon.VERBS:
        for after in verb.after:
            table.update({f"{verb.base} {after}": "<do>", f"{verb.past} {after}": "<did>"})
            table[f"{verb.ing} {after}"] = "<doing>"
    by_first: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for phrase in sorted(table, key=lambda phrase: -phrase.count(" ")):
        words = tuple(phrase.split(" "))
        by_first.setdefault(words[0], []).append((words, table[phrase]))
    return by_first


_FIXED = _fixed_phrases()


def fold(words: list[str]) -> list[str]:
    """The words with each phrase that a plan chooses as a whole (doing, place, weather) as one class."""
    lows = tuple(word.lower() for word in words)
    out: list[str] = []
    at = 0
    while at < len(words):
        for phrase, name in _FIXED.get(lows[at], ()):
            if lows[at : at + len(phrase)] == phrase:
                out.append(name)
                at += len(phrase)
                break
        else:
            out.append(words[at])
            at += 1
    return out


def tokens(sentence: str) -> list[str]:
    """Words and punctuation marks; `Aunt May` and `Uncle Joe` count as one word."""
    found = _TOKEN.findall(sentence)
    out: list[str] = []
    for token in found:
        if token in ("May", "Joe") and out and out[-1] in ("Aunt", "Uncle"):
            out[-1] += " " + token
        else:
            out.append(token)
    return out


class Cast:
    """Who and what a story is about, as far as the grader knows: from a plan, or read off the text."""

    def __init__(self, hero: str, friend: str, noun: str, adjective: str, adult: str = "") -> None:
        self.hero, self.friend, self.noun, self.adjective, self.adult = hero, friend, noun, adjective, adult
        self.gender = {name: lexicon.GENDER.get(name, "") for name in (hero, friend)}

    @classmethod
    def read(cls, text: str) -> "Cast":
        """Hero and friend are the first two names; the object is the first thing with an adjective."""
        words = [word for sentence in sentences(text) for word in tokens(sentence)]
        names = list(dict.fromkeys(word for word in words if word in lexicon.GENDER))
        adult = next((word for word in words if word in lexicon.ADULTS), "")
        noun = adjective = ""
        for at in range(1, len(words)):
            if words[at] in lexicon.THING_BY_NOUN and words[at - 1] in lexicon.ADJECTIVES:
                adjective, noun = words[at - 1], words[at]
                break
        names += ["", ""]
        return cls(names[0], names[1], noun, adjective, adult)

    def label(self, word: str, *, roles: bool) -> str:
        """The class of a word, or the word itself in lower case."""
        if word in lexicon.GENDER:
            if not roles:
                return "<name>"
            return "<hero>" if word == self.hero else "<friend>" if word == self.friend else "<nobody>"
        if word in lexicon.ADULTS:
            return "<adult>"
        low = word.lower()
        if low in _PRONOUNS:
            return f"<{self._whose(_GENDER[low])}{_PRONOUNS[low]}>" if roles else f"<{_PRONOUNS[low]}>"
        if roles and low == self.noun:
            return "<object>"
        if not roles and low in lexicon.THING_BY_NOUN:
            return "<thing>"
        if low == self.adjective or (not roles and low in lexicon.ADJECTIVES):
            return "<adjective>"
        if low in _KINDS:
            return "<kind>"
        return _CLASSES.get(low, low)

    def _whose(self, gender: str) -> str:
        hero, friend = self.gender[self.hero], self.gender[self.friend]
        if hero == friend:
            return "" if gender == hero else "no "
        return "hero " if gender == hero else "friend " if gender == friend else "no "


def _class_words() -> dict[str, str]:
    table = dict.fromkeys(lexicon.SMALL_ANIMALS, "<small>")
    table.update(dict.fromkeys(lexicon.TRAITS, "<trait>"))
    table.update(dict.fromkeys(lexicon.DAY_PARTS, "<part>"))
    table.update(dict.fromkeys(lexicon.WEATHER, "<weather>"))
    table.update(dict.fromkeys(lexicon.PLACES, "<place>"))
    table.update(dict.fromkeys((*lexicon.GLAD, *lexicon.SAD), "<feeling>"))
    table.update(_FORMS)
    return table


_CLASSES = _class_words()


def patterns(folded: list[str], cast: Cast, *, roles: bool, order: int) -> list[tuple[str, ...]]:
    """The n-grams of a folded sentence in classes, with its two ends marked; a and an count as one word."""
    labels = ["<begin>", *(cast.label(word, roles=roles) for word in folded), "<end>"]
    labels = ["a" if label == "an" else label for label in labels]
    if len(labels) < order:
        return [tuple(labels)]
    return list(zip(*(labels[at:] for at in range(order))))


@cache
def teacher_patterns() -> tuple[frozenset[tuple[str, ...]], frozenset[tuple[str, ...]]]:
    """(plain, role) patterns of the teacher; built once in about three seconds."""
    plain: set[tuple[str, ...]] = set()
    role: set[tuple[str, ...]] = set()
    for index in range(TEACHER_STORIES):
        story = write_story(TEACHER_SEED, index)
        plan = story.plan
        cast = Cast(plan.hero, plan.friend, plan.noun, plan.adjective, plan.adult)
        for sentence in sentences(story.text):
            folded = fold(tokens(sentence))
            plain.update(patterns(folded, cast, roles=False, order=PLAIN_ORDER))
            role.update(patterns(folded, cast, roles=True, order=ROLE_ORDER))
    return frozenset(plain), frozenset(role)
