"""ConceptMix: what a picture is asked to show, drawn at random with a dial for how much (Wu et al. 2024).

A *plan* asks for one object and k further concepts out of eight categories, k + 1 properties in all, each of
which is asked about by one question. The draw follows the released code; where its check for a second style
never fires, the intended rule is kept by default.

    plan = draw_plan(5, PAPER, Random(0))
    caption(plan), [p.question for p in plan.properties]      # words
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from hornbook.errors import HornbookError

CATEGORIES = ("object", "colour", "number", "shape", "size", "texture", "spatial", "style")
OF_OBJECTS = ("colour", "number", "shape", "size", "texture")
"""Categories that say something of one object."""
MOST = 7
"""The largest k: one object takes one of each other category and no more."""
OBJECT_SHARE = 0.25
"""Of the k further concepts, each is an object with this probability."""

_OPPOSITE = {"left": "right", "above": "below", "top": "bottom", "inside": "outside", "in front of": "behind"}


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The concepts of each category. say: {relation: how a sentence says it}, between two objects."""

    name: str
    values: Mapping[str, tuple[str, ...]]
    say: Mapping[str, str]

    def __post_init__(self) -> None:
        if set(self.values) != set(CATEGORIES) or not all(self.values.values()):
            raise HornbookError(
                f"The vocabulary {self.name!r} must have concepts in each of {', '.join(CATEGORIES)}."
            )
        missing = [name for name in self.values["spatial"] if name not in self.say]
        if missing:
            raise HornbookError(f"The vocabulary {self.name!r} does not say how to say {missing[0]!r}.")


def _names(words: str) -> tuple[str, ...]:
    return tuple(words.split(", "))


NUMBERS = {"2": "two", "3": "three", "4": "four"}

PAPER = Vocabulary(
    name="paper",
    values={
        "object": _names(
            "man, woman, oak tree, pine tree, car, truck, house, skyscraper, chair, table, pizza, "
            "sushi, hammer, screwdriver, doll, teddy bear, novel, textbook, cactus, highway, dirt road, "
            "volcano, hill, robot, fork, spoon, rose, sunflower, ring, necklace, smartphone, laptop, "
            "apple, orange, carrot, broccoli, cat, dog, lion, elephant, giraffe, zebra, horse, cow, "
            "sheep, pig, chicken, duck, butterfly, spider, bee, corgi"
        ),
        "colour": _names("red, blue, yellow, green, purple, orange, pink, brown, black, white, gray"),
        "number": tuple(NUMBERS),
        "shape": ("circle", "square", "rectangle", "triangle", "heart"),
        "size": ("tiny", "huge"),
        "texture": ("glass", "metallic", "fluffy"),
        "spatial": (
            "top",
            "bottom",
            "above",
            "below",
            "left",
            "right",
            "behind",
            "in front of",
            "inside",
            "outside",
        ),
        "style": _names(
            "cartoon, abstract, impressionism, surrealism, expressionism, pop art, photorealism, "
            "cubism, graffiti, manga, pixel art, watercolor, sketch, oil painting, ink"
        ),
    },
    say={
        "top": "on top of and touching",
        "bottom": "underneath and touching",
        "above": "above, without touching,",
        "below": "below, without touching,",
        "left": "to the left of",
        "right": "to the right of",
        "behind": "behind",
        "in front of": "in front of",
        "inside": "inside",
        "outside": "outside of",
    },
)
"""The concepts of the paper's release."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object. values: {category: concept} of `OF_OBJECTS`. added: a relation needs it, nobody asked."""

    name: str
    values: Mapping[str, str] = field(default_factory=dict)
    added: bool = False


@dataclass(frozen=True, kw_only=True)
class Relation:
    """`first` stands `name` `second`; both are places in `Plan.things`, -1 while open."""

    name: str
    first: int = -1
    second: int = -1


@dataclass(frozen=True, kw_only=True)
class Property:
    """One thing that is graded: a category, its concept, and the things it is about (none for a style)."""

    category: str
    value: str
    things: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one picture is to show."""

    k: int
    things: tuple[Thing, ...]
    relations: tuple[Relation, ...] = ()
    style: str = ""

    @property
    def properties(self) -> tuple[Property, ...]:
        """What is graded: objects with their own concepts, then relations, then the style. Added objects are
        not graded."""
        found = []
        for i, thing in enumerate(self.things):
            if not thing.added:
                found.append(Property(category="object", value=thing.name, things=(i,)))
                found += [
                    Property(category=category, value=value, things=(i,))
                    for category, value in thing.values.items()
                ]
        found += [
            Property(category="spatial", value=r.name, things=(r.first, r.second)) for r in self.relations
        ]
        if self.style:
            found.append(Property(category="style", value=self.style, things=()))
        return tuple(found)


def draw_categories(k: int, random: Random, *, released: bool = False) -> tuple[int, list[str]]:
    """(number of objects, the categories of all other concepts), by the rules of the release.

    Objects: 1 + Binomial(k, 0.25). The other k + 1 - objects categories are drawn evenly with replacement,
    all anew while one occurs more often than there are objects, or style more than once (`released` lets
    styles through, as the release does by mistake).

    Raises:
        HornbookError: k outside 1 to 7.
    """
    if not 1 <= k <= MOST:
        raise HornbookError(f"ConceptMix: k is {k}; accepted is a number of concepts from 1 to {MOST}.")
    objects = 1 + sum(random.random() < OBJECT_SHARE for _ in range(k))
    others = CATEGORIES[1:]
    while True:
        drawn = [random.choice(others) for _ in range(k + 1 - objects)]
        if all(drawn.count(category) <= objects for category in set(drawn)) and (
            released or drawn.count("style") <= 1
        ):
            return objects, drawn


def draw_plan(k: int, vocabulary: Vocabulary, random: Random, *, released: bool = False) -> Plan:
    """One plan with its relations still open (`fill` closes them).

    Args:
        released: let a second style through, which then takes the place of the first: such a plan has fewer
            than k + 1 properties.
    """
    objects, drawn = draw_categories(k, random, released=released)
    names = random.sample(vocabulary.values["object"], objects)
    values: list[dict[str, str]] = [{} for _ in names]
    relations = []
    style = ""
    for category in drawn:
        value = random.choice(vocabulary.values[category])
        if category == "style":
            style = value
        elif category == "spatial":
            relations.append(Relation(name=value))
        else:
            random.choice([own for own in values if category not in own])[category] = value
    things = tuple(Thing(name=name, values=own) for name, own in zip(names, values, strict=True))
    return Plan(k=k, things=things, relations=tuple(relations), style=style)


def fill(plan: Plan, vocabulary: Vocabulary, random: Random) -> Plan:
    """The plan with every relation closed: between objects that are there, pairs that have none yet first;
    only a plan with a single object gets another one, which is not graded."""
    things = list(plan.things)
    if plan.relations and len(things) == 1:
        other = random.choice([name for name in vocabulary.values["object"] if name != things[0].name])
        things.append(Thing(name=other, added=True))
    pairs = [(a, b) for a in range(len(things)) for b in range(len(things)) if a != b]
    random.shuffle(pairs)
    closed: list[Relation] = []
    for relation in plan.relations:
        met = [{r.first, r.second} for r in closed]
        first, second = next((p for p in pairs if set(p) not in met), pairs[0])
        pairs.remove((first, second))
        closed.append(replace(relation, first=first, second=second))
    return replace(plan, things=tuple(things), relations=tuple(closed))


def contradicts(plan: Plan) -> bool:
    """Whether relations of one pair of opposites go round in a circle, so that no picture can show them."""
    for name, other in _OPPOSITE.items():
        edges = {(r.first, r.second) for r in plan.relations if r.name == name}
        edges |= {(r.second, r.first) for r in plan.relations if r.name == other}
        left = set(range(len(plan.things)))
        while left:  # whoever has nothing before it is taken away; what stays is a circle
            free = {node for node in left if not any(a in left and b == node for a, b in edges)}
            if not free:
                return True
            left -= free
    return False


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Accepted plans, and how many were thrown away for them: easy sets of concepts survive more often."""

    plans: tuple[Plan, ...]
    rejected: int

    @property
    def rejection_rate(self) -> float:
        """Of all plans drawn."""
        return self.rejected / max(1, self.rejected + len(self.plans))


def draw_plans(k: int, count: int, vocabulary: Vocabulary, *, seed: int, released: bool = False) -> Drawn:
    """`count` filled plans without contradictions, the same for the same seed."""
    random = Random(f"concept mix {seed} {k}")
    plans: list[Plan] = []
    rejected = 0
    while len(plans) < count:
        plan = fill(draw_plan(k, vocabulary, random, released=released), vocabulary, random)
        if contradicts(plan):
            rejected += 1
        else:
            plans.append(plan)
    return Drawn(plans=tuple(plans), rejected=rejected)


def categories_of(plans: Sequence[Plan]) -> list[int]:
    """For each plan the number of different categories that its properties have: the paper's audit of
    captions counts these."""
    return [len({p.category for p in plan.properties}) for plan in plans]
