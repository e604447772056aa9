"""The small world: who, what, where of one story, drawn before a word is written.

A plan is what the simulated teacher knows and what the graders check against
(TinyStories, section 2: a word triple of verb, noun and adjective and a random
subset of features are drawn independently, so that the prompt brings the variety).
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Protocol, TypeVar

from hornbook.errors import HornbookError
from hornbook.synth import lexicon
from hornbook.synth.phrase import pick, weighted, with_article

_Item = TypeVar("_Item")


class Choose(Protocol):
    """Takes one of several items with a random state."""

    def __call__(self, rng: Random, items: Sequence[_Item], /) -> _Item: ...


HELD_OUT_EVERY = 12
"""One word triple in twelve never occurs in a training story."""

FEATURE_SHARE = 0.25
MAX_FEATURES = 2
"""Two at most (TinyStories does not say): three would make stories longer than 130 words."""

PLOT_NEEDS = {
    "make": "make",
    "mend": "break",
    "rescue": "warm",
    **dict.fromkeys(("lost", "brave", "treasure", "gift", "lonely"), "keep"),
}
"""Uses that a plot asks of its object; other plots take any object."""

PLOT_NAMES = (
    "lost",
    "rescue",
    "brave",
    "warning",
    "treasure",
    "race",
    "share",
    "make",
    "sorry",
    "gift",
    "lonely",
    "mend",
)


@dataclass(frozen=True, kw_only=True)
class StoryPlan:
    """Everything a story is about. `verb`, `noun`, `adjective` are the required words, in base form."""

    plot: str
    verb: str
    noun: str
    adjective: str
    features: tuple[str, ...]
    hero: str
    hero_kind: str
    friend: str
    friend_kind: str
    adult: str
    place: str
    weather: str
    part: str
    trait: str
    hiding: str
    small_animal: str
    glad: str
    sad: str

    @property
    def words(self) -> tuple[str, str, str]:
        return self.verb, self.noun, self.adjective

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any] | str) -> "StoryPlan":
        fields = json.loads(value) if isinstance(value, str) else dict(value)
        fields["features"] = tuple(fields["features"])
        return cls(**fields)


def triple_is_held_out(verb: str, noun: str, adjective: str) -> bool:
    """Whether this word triple belongs to the test set, a stable property of the words."""
    return zlib.crc32(f"{verb}/{noun}/{adjective}".encode()) % HELD_OUT_EVERY == 0


def draw_features(rng: Random) -> tuple[str, ...]:
    """Each feature with probability 0.25, at most two, in a fixed order; a happy surprise and a bad ending
    would contradict each other."""
    chosen = [feature for feature in lexicon.FEATURES if rng.random() < FEATURE_SHARE]
    if {"Twist", "BadEnding"} <= set(chosen):
        chosen.remove("Twist" if rng.random() < 0.5 else "BadEnding")
    while len(chosen) > MAX_FEATURES:
        chosen.pop(int(rng.random() * len(chosen)))
    return tuple(chosen)


def pick_favourite(rng: Random, items: Sequence[_Item]) -> _Item:
    """One item by its place in the list: the n-th 1 / n^2 as likely as the first, so the first every other
    time (TinyStories section 2: asked plainly, a teacher sends everybody to the same park)."""
    return weighted(rng, ((item, (place + 1.0) ** -2) for place, item in enumerate(items)))


def draw_character(
    rng: Random, animal_share: float, taken: tuple[str, ...] = (), choose: Choose = pick
) -> tuple[str, str]:
    """A name and what it is: `("Mia", "girl")` or `("Otto", "badger")`."""
    while True:
        names = lexicon.GIRLS if rng.random() < 0.5 else lexicon.BOYS
        name = choose(rng, names)
        if name not in taken:
            break
    if rng.random() < animal_share:
        return name, choose(rng, lexicon.ANIMALS)
    return name, "girl" if lexicon.GENDER[name] == "she" else "boy"


def plan_story(
    rng: Random,
    *,
    held_out: bool = False,
    verb: str | None = None,
    noun: str | None = None,
    adjective: str | None = None,
    plot: str | None = None,
    plots: Sequence[str] = PLOT_NAMES,
    features: tuple[str, ...] | None = None,
    choose: Choose = pick,
) -> StoryPlan:
    """Draw a plan; whatever is given is kept. A triple with a free word lies on the asked side.

    plots: one of these is drawn where `plot` is not given.
    choose: takes one of several with a random state; `pick` takes each as often.
    """
    for field, value, known in (
        ("verb", verb, lexicon.VERB_BY_BASE),
        ("noun", noun, lexicon.THING_BY_NOUN),
        ("adjective", adjective, lexicon.ADJECTIVES),
        ("plot", plot, PLOT_NAMES),
    ):
        if value is not None and value not in known:
            raise HornbookError(f"story plan: {field} {value!r} is not in the lexicon of this world")
    if all(name in PLOT_NEEDS for name in plots):
        raise HornbookError(f"plots is {list(plots)}; at least one must take any object, such as share.")
    free = verb is None or noun is None or adjective is None
    while True:
        words = (
            verb or choose(rng, lexicon.VERBS).base,
            noun or choose(rng, lexicon.THINGS).noun,
            adjective or choose(rng, lexicon.ADJECTIVES),
        )
        if not free or triple_is_held_out(*words) == held_out:
            break
    uses = lexicon.THING_BY_NOUN[words[1]].uses
    while True:
        chosen_plot = plot or choose(rng, plots)
        if plot is not None or PLOT_NEEDS.get(chosen_plot) in (None, *uses):
            break
    hero, hero_kind = draw_character(rng, 0.35, (), choose)
    friend, friend_kind = draw_character(rng, 0.6 if hero_kind in lexicon.ANIMALS else 0.15, (hero,), choose)
    return StoryPlan(
        plot=chosen_plot,
        verb=words[0],
        noun=words[1],
        adjective=words[2],
        features=draw_features(rng) if features is None else features,
        hero=hero,
        hero_kind=hero_kind,
        friend=friend,
        friend_kind=friend_kind,
        adult=choose(rng, tuple(lexicon.ADULTS)),
        place=choose(rng, tuple(lexicon.PLACES)),
        weather=choose(rng, tuple(lexicon.WEATHER)),
        part=choose(rng, lexicon.DAY_PARTS),
        trait=choose(rng, lexicon.TRAITS),
        hiding=choose(rng, lexicon.HIDING_PLACES),
        small_animal=choose(rng, lexicon.SMALL_ANIMALS),
        glad=choose(rng, lexicon.GLAD),
        sad=choose(rng, lexicon.SAD),
    )


def slots(plan: StoryPlan, rng: Random) -> dict[str, str]:
    """The slot table of a plan for `phrase.Phrase.render`.

    H and F are the names of hero and friend with their pronouns (he, him, his, He, His; fhe, fhim, fhis,
    FHe); A the adult; o, ao, adj the object; V, Ved, Ving the doing; at, to_place, u places; W weather.
    """
    verb = lexicon.VERB_BY_BASE[plan.verb]
    at, to_place = lexicon.PLACES[plan.place]
    own = lexicon.PRONOUNS[lexicon.GENDER[plan.hero]]
    friends = lexicon.PRONOUNS[lexicon.GENDER[plan.friend]]
    return {
        "H": plan.hero,
        "kind": plan.hero_kind,
        "he": own["he"],
        "him": own["him"],
        "his": own["his"],
        "He": own["He"],
        "His": own["His"],
        "F": plan.friend,
        "fkind": plan.friend_kind,
        "a_fkind": with_article(plan.friend_kind),
        "fhe": friends["he"],
        "fhim": friends["him"],
        "fhis": friends["his"],
        "FHe": friends["He"],
        "A": plan.adult,
        "o": plan.noun,
        "a_o": with_article(plan.noun),
        "adj": plan.adjective,
        "ao": with_article(f"{plan.adjective} {plan.noun}"),
        "V": f"{verb.base} {pick(rng, verb.after)}",
        "Ved": f"{verb.past} {pick(rng, verb.after)}",
        "Ving": f"{verb.ing} {pick(rng, verb.after)}",
        "place": plan.place,
        "at": at,
        "to_place": to_place,
        "u": plan.hiding,
        "W": pick(rng, lexicon.WEATHER[plan.weather]),
        "Day_part": f"One {plan.weather} {plan.part}",
        "day_part": f"one {plan.weather} {plan.part}",
        "part": plan.part,
        "m": plan.small_animal,
        "trait": plan.trait,
        "a_trait": with_article(plan.trait),
        "a_little": pick(rng, ("a little", "a young", "a small")),
        "glad": plan.glad,
        "sad": plan.sad,
    }
