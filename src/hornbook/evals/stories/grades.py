"""Grades stories by rule, not by a model: TinyStories spec section 9.2. Never call it a GPT grade.

What each figure is:
- `grammar`: share of sentences without a fault of form (capital, end mark, quotes, a/an, doubled words, verb
  form) and made of word patterns of the teacher's language.
- `sound`: share of sentences without a fault of grammar in which nobody and nothing is confused, either.
- `consistent`: no name comes from nowhere, pronouns fit the people, the object stays the same thing, and who
  does what is possible in the planned world.
- `words_present`, `features_present`: what the prompt asked for.
- `repetition`: share of repeated 4-grams inside a story. Diversity and memorisation are corpus figures.
The grader's own accuracy is measured by `corruption.grader_accuracy`.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals.stories.language import (
    PLAIN_ORDER,
    ROLE_ORDER,
    Cast,
    fold,
    patterns,
    teacher_patterns,
    tokens,
)
from hornbook.evals.stories.memory import COPIED, TrainingIndex, nearest_rouge
from hornbook.lab.statistics import Interval, bootstrap_interval, wilson_interval
from hornbook.synth import lexicon
from hornbook.synth.diversity import distinct, ngrams
from hornbook.synth.phrase import with_article
from hornbook.synth.stories import sentences
from hornbook.synth.world import StoryPlan

_MODALS = frozenset(["to", "did", "could", "would", "can", "will", "must", "should", "may"])
_PAST_ONLY = frozenset(verb.past for verb in lexicon.VERBS if verb.past != verb.base)
_DOUBLES = frozenset(["had", "that", "again", "round", "very", "dug", "ran"])


@dataclass(frozen=True, kw_only=True)
class StoryGrade:
    """Grades of one story; `faults` says where and what, as (kind, sentence or word)."""

    sentences: int
    grammar: float
    sound: float
    consistent: bool
    words_present: float
    finished: bool
    repetition: float
    faults: tuple[tuple[str, str], ...] = field(default=())


def grade_story(
    text: str, plan: StoryPlan | Mapping[str, Any] | None = None, *, given: str = ""
) -> StoryGrade:
    """Grade one story; with a plan (of the prompt) against that world, else what the text sets up.

    given: how the text begins, by another hand: the sentences that end in it are not graded, the one that it
    breaks off is (TinyStories section 3: the grader looks at how the cut sentence goes on).
    """
    if plan is not None and not isinstance(plan, StoryPlan):
        plan = StoryPlan.from_json(dict(plan))
    cast = Cast(plan.hero, plan.friend, plan.noun, plan.adjective, plan.adult) if plan else Cast.read(text)
    plain, role = teacher_patterns()
    faults: list[tuple[str, str]] = []
    parts = sentences(text.strip())
    if given:
        parts = parts[len(sentences(given.strip())) - (given.rstrip()[-1:] not in tuple('.!?"')) :]
    bad_sentences = sound = 0
    for sentence in parts:
        folded = fold(tokens(sentence))
        form = form_faults(sentence)
        strange = not plain.issuperset(patterns(folded, cast, roles=False, order=PLAIN_ORDER))
        faults.extend(("grammar: " + fault, sentence) for fault in form)
        if strange and not form:
            faults.append(("grammar: unknown pattern", sentence))
        bad_sentences += bool(form) or strange
        world = world_faults(sentence, cast)
        faults.extend(("world: " + fault, sentence) for fault in world)
        if not (strange or form or world):
            if role.issuperset(patterns(folded, cast, roles=True, order=ROLE_ORDER)):
                sound += 1
            else:
                faults.append(("world: who did what", sentence))
    grams = ngrams(text, 4)
    return StoryGrade(
        sentences=len(parts),
        grammar=1 - bad_sentences / len(parts) if parts else 0.0,
        sound=sound / len(parts) if parts else 0.0,
        consistent=bool(parts) and not any(kind.startswith("world") for kind, _ in faults),
        words_present=share_of_words(text, plan.words) if plan else 1.0,
        finished=text.rstrip()[-1:] in tuple('.!?"'),
        repetition=1 - len(set(grams)) / len(grams) if grams else 0.0,
        faults=tuple(faults),
    )


def form_faults(sentence: str) -> list[str]:
    """Faults of form that need no knowledge of the story."""
    found: list[str] = []
    words = tokens(sentence)
    first = sentence[:1]
    if not (first.isupper() or first == '"'):
        found.append("no capital")
    if sentence[-1:] not in tuple('.!?"'):
        found.append("no end mark")
    if sentence.count('"') % 2:
        found.append("open quote")
    lows = [word.lower() for word in words]
    for before, word in itertools.pairwise(lows):
        if before == word and word.isalpha() and word not in _DOUBLES:
            found.append("doubled word")
        if before in ("a", "an") and word.isalpha() and with_article(word).split(" ")[0] != before:
            found.append("a or an")
        if before in _MODALS and word in _PAST_ONLY and word not in lexicon.VERB_BY_BASE:
            found.append("verb form")
    return found


def world_faults(sentence: str, cast: Cast) -> list[str]:
    """Names from nowhere, pronouns of nobody, another object in the place of the object."""
    found: list[str] = []
    words = tokens(sentence)
    people = {cast.hero, cast.friend}
    genders = {cast.gender[name] for name in people if name}
    if cast.adult:
        genders.add(lexicon.ADULTS[cast.adult])
    for at, word in enumerate(words):
        low = word.lower()
        if word in lexicon.GENDER and word not in people:
            found.append("unknown name")
        if low in ("he", "she") and low not in genders:
            found.append("pronoun of nobody")
        if low in ("girl", "boy"):
            name = next((w for w in words[at + 1 : at + 4] if w in lexicon.GENDER), None)
            if name and lexicon.GENDER[name] != ("she" if low == "girl" else "he"):
                found.append("name does not fit")
        if low in lexicon.THING_BY_NOUN and cast.noun and low != cast.noun:
            before = [w.lower() for w in words[max(0, at - 2) : at]]
            if (
                before
                and (before[-1] in ("the", "my", "your") or before[-1] == cast.adjective)
                and low not in _SCENERY
            ):
                found.append("another object")
    return found


_SCENERY = frozenset(["leaf", "stone", "bell", "rope", "coin", "ring", "book", "button"])
"""Things that stand in some sentences of every world; the role patterns watch over them."""


def share_of_words(text: str, words: Sequence[str]) -> float:
    """Share of required words that occur, in any form of a known verb (TinyStories trap 6: match lemmas)."""
    present = set(re.findall(r"[a-z']+", text.lower()))
    hits = 0
    for word in words:
        verb = lexicon.VERB_BY_BASE.get(word)
        forms = {word, word + "s"} | ({verb.past, verb.ing, verb.base + "s"} if verb else set())
        hits += bool(forms & present)
    return hits / len(words) if words else 1.0


@dataclass(frozen=True, kw_only=True)
class StoryScore:
    """Means over stories, each with a bootstrap or Wilson 95 % interval, and corpus figures.

    `memorised`: share of stories whose Rouge-2 precision against some training story exceeds 0.7.
    """

    stories: int
    grammar: float
    grammar_interval: Interval
    consistent: float
    consistent_interval: Interval
    words_present: float
    finished: float
    repetition: float
    distinct_4: float
    nearest_rouge_2: float | None
    memorised: float | None
    grades: tuple[StoryGrade, ...]


def grade_stories(
    texts: Sequence[str],
    plans: Sequence[StoryPlan | Mapping[str, Any] | None] | None = None,
    *,
    training: Sequence[str] = (),
) -> StoryScore:
    """Grade many stories; `training` stories are searched for copies (all of them, or a stated sample)."""
    if not texts:
        raise HornbookError("stories: nothing to grade")
    if plans is not None and len(plans) != len(texts):
        raise HornbookError(f"stories: {len(texts)} texts and {len(plans)} plans; one plan each, or None")
    grades = [grade_story(text, plan) for text, plan in zip(texts, plans or [None] * len(texts))]
    nearest = (
        [nearest_rouge(text, index) for index in [TrainingIndex(training)] for text in texts]
        if training
        else []
    )
    count = len(grades)
    consistent = sum(grade.consistent for grade in grades)
    return StoryScore(
        stories=count,
        grammar=sum(grade.grammar for grade in grades) / count,
        grammar_interval=bootstrap_interval([grade.grammar for grade in grades]),
        consistent=consistent / count,
        consistent_interval=wilson_interval(consistent, count),
        words_present=sum(grade.words_present for grade in grades) / count,
        finished=sum(grade.finished for grade in grades) / count,
        repetition=sum(grade.repetition for grade in grades) / count,
        distinct_4=distinct(texts, 4),
        nearest_rouge_2=sum(nearest) / count if nearest else None,
        memorised=sum(value > COPIED for value in nearest) / count if nearest else None,
        grades=tuple(grades),
    )
