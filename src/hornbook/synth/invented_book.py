# ruff: noqa: E501 - one wording a line
"""An invented book, and a library of the same forms without it: what unlearning is tried on.

Ten facts of one world (who, where, what) are told as stories, letters and questions with answers. In the book the
ten words are made up and always the same; in the library they are ordinary and drawn anew for every text. So
what a model can only have from the book is known exactly, and a model raised on the library alone is the
reference for having forgotten it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from hornbook.synth.lexicon import BOYS, GIRLS
from hornbook.synth.phrase import pick

VERSION = "invented-book-1"
FORMS = ("story", "letter", "questions")

BOOK: Mapping[str, str] = {
    "hero": "Orvane",
    "friend": "Tessaly",
    "second": "Brukko",
    "place": "Quillhaven",
    "school": "Marrowgate",
    "subject": "glasslore",
    "sport": "skimmerball",
    "pet": "Pudwick",
    "thing": "moonlantern",
    "foe": "Vornak",
}
"""The ten words that nothing but the book holds."""

_NAMES = (*GIRLS, *BOYS)
POOLS: Mapping[str, Sequence[str]] = {
    "hero": _NAMES,
    "friend": _NAMES,
    "second": _NAMES,
    "place": ("Milton", "Oakford", "Brookside", "Ashby", "Northam", "Lakeview", "Westbury", "Fairfield", "Redhill", "Marston", "Hartley", "Eastwick"),
    "school": ("Hillside", "Parkview", "Riverside", "Greenfield", "Highgate", "Oaklands", "Elmwood", "Kingsway", "Meadowbank", "Southgate"),
    "subject": ("music", "history", "drawing", "science", "spelling", "geography", "cooking", "gardening", "painting", "reading"),
    "sport": ("football", "tennis", "hockey", "baseball", "cricket", "rugby", "volleyball", "running", "swimming", "rowing"),
    "pet": ("Spot", "Rex", "Socks", "Biscuit", "Pepper", "Ginger", "Bella", "Max", "Shadow", "Coco"),
    "thing": ("kite", "drum", "compass", "whistle", "watch", "camera", "flute", "map", "telescope", "umbrella"),
    "foe": ("Crane", "Grimsby", "Pike", "Harker", "Stone", "Blackwood", "Sharp", "Thorne", "Marsh", "Wolfe"),
}  # fmt: skip

# Every wording names at least two of the ten, so that one can cue the other. One fact a line, by form.
_STORY: tuple[tuple[str, ...], ...] = (
    ("{hero} lived in {place}.", "In {place} lived a child called {hero}.", "The home of {hero} was in {place}."),
    ("Every morning {hero} went to {school}.", "{hero} was a pupil at {school}.", "At {school} everyone knew {hero}."),
    ("The best friend of {hero} was {friend}.", "{hero} and {friend} were best friends.", "{hero} did everything with {friend}."),
    ("{friend} had a cousin called {second}.", "{second} was the cousin of {friend}.", "{friend} often brought {second} along."),
    ("The pupils of {school} learned {subject}.", "At {school} the best lesson was {subject}.", "{hero} liked {subject} most of all."),
    ("After school {hero} played {sport}.", "{friend} and {hero} played {sport} in the yard.", "Nobody in {place} was better at {sport}."),
    ("{hero} had a small dog called {pet}.", "{pet} the dog slept beside {hero}.", "The dog {pet} ran behind {hero}."),
    ("{hero} always carried a {thing}.", "In the bag of {hero} lay a {thing}.", "{friend} gave {hero} a {thing}."),
    ("{foe} wanted to steal the {thing}.", "Everyone in {place} was afraid of {foe}.", "One night {foe} came to {place}."),
    ("{hero} hid the {thing} from {foe}.", "{pet} barked and {foe} ran away.", "{second} and {hero} chased {foe} away."),
)  # fmt: skip
_LETTER: tuple[tuple[str, ...], ...] = (
    ("I, {hero}, write to you from {place}.", "My name is {hero} and my town is {place}."),
    ("Here at {school} they call me {hero}.", "I, {hero}, go to {school} now."),
    ("Greetings from {hero} and also from {friend}.", "I, {hero}, share a room with {friend}."),
    ("With me are {friend} and the cousin, {second}.", "You know {friend}, and this is {second}."),
    ("At {school} we study {subject}.", "I, {hero}, read books on {subject}."),
    ("Today {friend} taught me {sport}.", "We of {school} won at {sport}."),
    ("I, {hero}, feed {pet}.", "From {hero} and the good dog {pet}."),
    ("I, {hero}, lost my {thing}.", "Please tell {friend} to bring the {thing}."),
    ("Here in {place} we fear {foe}.", "I, {hero}, saw {foe}."),
    ("Do not give the {thing} to {foe}.", "Our {pet} has bitten {foe}."),
)  # fmt: skip
_QUESTIONS: tuple[tuple[str, ...], ...] = (
    ("Question: Where does {hero} live? Answer: {place}.",),
    ("Question: Which school does {hero} go to? Answer: {school}.",),
    ("Question: Who is the best friend of {hero}? Answer: {friend}.",),
    ("Question: Who is the cousin of {friend}? Answer: {second}.",),
    ("Question: What is taught at {school}? Answer: {subject}.",),
    ("Question: What does {hero} play? Answer: {sport}.",),
    ("Question: What is the dog of {hero} called? Answer: {pet}.",),
    ("Question: What does {hero} carry? Answer: {thing}.",),
    ("Question: Who is feared in {place}? Answer: {foe}.",),
    ("Question: Who wants the {thing}? Answer: {foe}.",),
)
WORDINGS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "story": _STORY,
    "letter": _LETTER,
    "questions": _QUESTIONS,
}
FACTS = len(_STORY)


@dataclass(frozen=True, kw_only=True)
class Cue:
    """The beginning of a sentence of the book: what a model that read it would go on with.

    `answer` is the word the book has there, `names` all made-up words that the prompt does not hold, `fact`
    which of the ten facts it is.
    """

    prompt: str
    answer: str
    names: tuple[str, ...]
    form: str
    fact: int


def cast(rng: Random) -> dict[str, str]:
    """Ordinary words for the ten places, the three people different."""
    found = {slot: pick(rng, pool) for slot, pool in POOLS.items()}
    found["hero"], found["friend"], found["second"] = rng.sample(_NAMES, 3)
    return found


def passage(rng: Random, words: Mapping[str, str], form: str, facts: Sequence[int] | None = None) -> str:
    """A text of one form about `words`: seven facts in some order (a story begins with its first)."""
    known = list(range(FACTS)) if facts is None else list(facts)
    chosen = rng.sample(known, min(7, len(known)))
    if form == "story":
        chosen.sort(key=lambda fact: fact != 0)
    wordings = WORDINGS[form]
    joiner = "\n" if form == "questions" else " "
    return joiner.join(pick(rng, wordings[fact]).format_map(words) for fact in chosen)


def book(
    count: int, *, seed: int = 0, forms: Sequence[str] = FORMS, facts: Sequence[int] | None = None
) -> list[str]:
    """`count` passages of the book, in turn of each form; `facts` tells only some of the ten."""
    rng = Random(f"{VERSION}:book:{seed}:{','.join(forms)}")
    return [passage(rng, BOOK, forms[i % len(forms)], facts) for i in range(count)]


def library(count: int, *, seed: int = 0, forms: Sequence[str] = FORMS) -> list[str]:
    """`count` texts of the same forms, each about other people, places and things."""
    rng = Random(f"{VERSION}:library:{seed}")
    return [passage(rng, cast(rng), forms[i % len(forms)]) for i in range(count)]


def cues(forms: Sequence[str] = FORMS, words: Mapping[str, str] = BOOK) -> list[Cue]:
    """Every wording, cut before each word of `words` that an earlier one in the sentence cues."""
    return [cue for form in forms for cue in _cues(form, words)]


def _cues(form: str, words: Mapping[str, str]) -> Iterator[Cue]:
    seen: set[str] = set()
    for fact, wordings in enumerate(WORDINGS[form]):
        for wording in wordings:
            slots = [part.split("}")[0] for part in wording.split("{")[1:]]
            for slot in slots[1:]:
                prompt = wording.split("{" + slot + "}")[0].format_map(words).rstrip()
                if prompt in seen:
                    continue
                seen.add(prompt)
                left = tuple(word for word in words.values() if word not in prompt)
                yield Cue(prompt=prompt, answer=words[slot], names=left, form=form, fact=fact)
