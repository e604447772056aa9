# ruff: noqa: E501 - one wording a line
"""Scenes and wordings of the word problems. Data only.

A statement type has several wordings and always the same program line. `x` is the counted thing; H, F, G, A
are people (`he`, `him` as in the stories); n and k are numbers; `box` and `boxes` a container. G is met in
the question alone, so that nothing said of others before contradicts it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where things are counted: what they are, and how each statement type is worded there.

    `words` come before the common wordings of `WORDINGS`. In a `public` scene nobody owns the things.
    """

    name: str
    things: tuple[str, ...]
    words: dict[str, tuple[str, ...]]
    public: bool = False


_OWN = {
    "now": ("How many {x} does {H} have [now|in the end]?", "How many {x} does {he} have [now|in the end]?"),
    "half": (
        "{He} gives half of the {x} to {F}.",
        "Then {he} gives away half of {his} {x}.",
        "Half of the {x} go to {F}.",
    ),
    "percent": (
        "Then {n} percent of the {x} get lost.",
        "{He} gives {n} percent of the {x} to {F}.",
    ),
    "need": ("{H} wants {n} {x}. How many more {x} does {he} need?",),
    "more_than": ("{G} has {n} {x}. How many more {x} does {H} have than {G}?",),
}
_PUBLIC = {"now": ("How many {x} are there [now|in the end]?",)}

SCENES = (
    Scene(
        name="toys",
        things=("marbles", "stickers", "cards", "buttons", "stamps", "beads", "shells", "feathers", "blocks"),
        words={
            **_OWN,
            "have": (
                "{H} has {n} {x}[| in a box| in a bag| at home].",
                "There are {n} {x} in {H}'s bag.",
                "{H} starts the game with {n} {x}.",
            ),
            "gain": (
                "{He} [finds|gets|buys|wins] {n} more {x}.",
                "{A} gives {him} {n} more {x}.",
                "Then {he} [wins|finds] another {n} {x}.",
            ),
            "lose": (
                "{He} gives {n} {x} to {F}.",
                "{He} loses {n} {x}[| on the way home| in the park].",
                "Then {he} [sells|gives away] {n} {x}.",
                "{F} takes {n} of the {x}.",
            ),
        },
    ),
    Scene(
        name="food",
        things=("apples", "cookies", "plums", "pears", "cherries", "buns", "nuts", "carrots", "eggs"),
        words={
            **_OWN,
            "have": (
                "{H} has {n} {x}[| in a basket| in the kitchen].",
                "{H} [buys|brings] {n} {x}.",
                "There are {n} {x} in {H}'s basket.",
            ),
            "gain": (
                "{He} [buys|gets|brings] {n} more {x}.",
                "{A} gives {him} {n} more {x}.",
                "Then {he} buys another {n} {x}.",
            ),
            "lose": (
                "{He} [eats|uses] {n} {x}.",
                "{He} gives {n} {x} to {F}.",
                "{F} eats {n} of the {x}.",
                "Then {he} [sells|gives away] {n} {x}.",
            ),
            "percent": (
                "Then {n} percent of the {x} go bad.",
                "{He} gives {n} percent of the {x} to {F}.",
            ),
        },
    ),
    Scene(
        name="coins",
        things=("coins",),
        words={
            **_OWN,
            "have": (
                "{H} has {n} {x}[| in a jar| in a purse].",
                "{H} [saves|gets] {n} {x}.",
                "There are {n} {x} in {H}'s purse.",
            ),
            "gain": (
                "{He} [earns|finds|gets] {n} more {x}.",
                "{A} gives {him} {n} more {x}.",
                "Then {he} earns another {n} {x}.",
            ),
            "lose": (
                "{He} [spends|pays|loses] {n} {x}.",
                "{He} gives {n} {x} to {F}.",
                "Then {he} [spends|loses] {n} {x}.",
            ),
            "half": ("{He} spends half of the {x}.", "Then {he} gives away half of {his} {x}."),
            "percent": (
                "{He} spends {n} percent of the {x}.",
                "{He} gives {n} percent of the {x} to {F}.",
            ),
        },
    ),
    Scene(
        name="pond",
        things=("ducks", "frogs", "birds", "geese", "swans"),
        public=True,
        words={
            **_PUBLIC,
            "have": (
                "There are {n} {x} [on|by] the lake.",
                "{H} sees {n} {x} by the lake.",
                "In the morning, {n} {x} sit by the lake.",
            ),
            "gain": ("{n} more {x} [come|arrive].", "Then another {n} {x} [come|arrive]."),
            "lose": (
                "{n} {x} [leave|go away].",
                "Then {n} of the {x} [leave|go away].",
                "A dog scares {n} of the {x} away.",
            ),
            "half": ("Half of the {x} [leave|go away].", "Then half of the {x} leave."),
            "percent": ("Then {n} percent of the {x} leave.", "{n} percent of the {x} go away."),
            "need": ("There should be {n} {x}. How many {x} are missing?",),
            "more_than": ("At the next lake, there are {n} {x}. How many more {x} are there here?",),
        },
    ),
    Scene(
        name="bus",
        things=("people", "children", "women", "men"),
        public=True,
        words={
            **_PUBLIC,
            "have": ("There are {n} {x} on the bus.", "{H} drives a bus with {n} {x}."),
            "gain": ("At the next stop, {n} {x} get on.", "{n} more {x} get on."),
            "lose": ("At the next stop, {n} {x} get off.", "Then {n} of the {x} get off."),
            "half": ("Half of the {x} get off.", "At the next stop, half of the {x} get off."),
            "percent": ("Then {n} percent of the {x} get off.",),
            "need": ("There is room for {n} {x}. How many more {x} can get on?",),
            "more_than": ("On the next bus, there are {n} {x}. How many more {x} are there here?",),
        },
    ),
    Scene(
        name="shop",
        things=("hats", "lamps", "books", "cups", "pens", "chairs", "scarves"),
        public=True,
        words={
            **_PUBLIC,
            "have": (
                "A shop has {n} {x}.",
                "There are {n} {x} in {H}'s shop.",
                "{H} has a shop with {n} {x}.",
            ),
            "gain": ("A truck brings {n} more {x}.", "The shop gets another {n} {x}."),
            "lose": ("The shop sells {n} {x}.", "{F} buys {n} of the {x}."),
            "half": ("The shop sells half of the {x}.",),
            "percent": ("The shop sells {n} percent of the {x}.",),
            "need": ("The shop should have {n} {x}. How many {x} are missing?",),
            "more_than": ("The next shop has {n} {x}. How many more {x} are there here?",),
        },
    ),
    Scene(
        name="garden",
        things=("flowers", "roses", "tomatoes", "tulips", "trees", "pumpkins"),
        words={
            **_OWN,
            "have": (
                "{H} has {n} {x} in the garden.",
                "There are {n} {x} in {H}'s garden.",
                "{H} plants {n} {x}.",
            ),
            "gain": ("{He} plants {n} more {x}.", "{A} plants {n} more {x}."),
            "lose": (
                "{He} gives {n} {x} to {F}.",
                "A goat eats {n} of the {x}.",
                "A storm breaks {n} of the {x}.",
            ),
            "half": ("{He} gives half of the {x} to {F}.", "A storm breaks half of the {x}."),
            "percent": ("A storm breaks {n} percent of the {x}.", "{He} sells {n} percent of the {x}."),
        },
    ),
)

CONTAINERS = (("box", "boxes"), ("bag", "bags"), ("basket", "baskets"), ("jar", "jars"))

WORDINGS: dict[str, tuple[str, ...]] = {
    # one counted thing; what is not here comes from the scene
    "groups": (
        "{H} has {n} {boxes}. Each {box} holds {k} {x}.",
        "{H} has {n} {boxes}. There are {k} {x} in each {box}.",
        "{H} fills {n} {boxes}. {He} puts {k} {x} in each {box}.",
    ),
    "rate": (
        "{H} gets {n} {x} every day for {k} days.",
        "Every week, {H} gets {n} {x}. This goes on for {k} weeks.",
        "{H} collects {n} {x} a day. {He} does this for {k} days.",
    ),
    "double": ("Then the number of {x} doubles.", "The next day, there are twice as many {x}."),
    "triple": ("Then the number of {x} triples.", "The next day, there are three times as many {x}."),
    "gain_groups": (
        "{A} brings {n} {boxes} with {k} {x} in each.",
        "{H} gets {n} more {boxes} with {k} {x} in each.",
    ),
    "lose_groups": (
        "Then {n} friends take {k} {x} each.",
        "{n} friends of {H} take {k} {x} each.",
    ),
    "share": (
        "{H} shares the {x} equally among {n} friends. How many {x} does each friend get?",
        "The {x} are put into {n} equal groups. How many {x} are in one group?",
    ),
    "bags": (
        "The {x} are put into groups of {n}. How many groups are there?",
        "The {x} are put into rows of {n}. How many rows are there?",
    ),
    "left_over": (
        "The {x} are put into groups of {n}. How many {x} are left over?",
        "The {x} are put into rows of {n}. How many {x} are left over?",
    ),
    "price": (
        "Each of the {x} costs {n} coins. How many coins do they cost [in all|together]?",
        "One of the {x} costs {n} coins. How many coins do all of them cost?",
    ),
    "part_percent": (
        "{n} percent of the {x} are [old|small|big]. How many {x} is that?",
        "Of the {x}, {n} percent are [old|small|big]. How many {x} is that?",
    ),
    # two people
    "both": (
        "{H} has {n} {x}. {F} has {k} {x}.",
        "{H} has {n} {x}, and {F} has {k} {x}.",
        "{H} [finds|buys] {n} {x}, and {F} [finds|buys] {k} {x}.",
    ),
    "more": (
        "{H} has {n} {x}. {F} has {k} more {x} than {H}.",
        "{H} has {n} {x}, and {F} has {k} more than {H}.",
    ),
    "fewer": (
        "{H} has {n} {x}. {F} has {k} fewer {x} than {H}.",
        "{H} has {n} {x}, and {F} has {k} fewer than {H}.",
    ),
    "twice": (
        "{H} has {n} {x}. {F} has twice as many {x} as {H}.",
        "{H} has {n} {x}, and {F} has twice as many.",
    ),
    "thrice": (
        "{H} has {n} {x}. {F} has three times as many {x} as {H}.",
        "{H} has {n} {x}, and {F} has three times as many.",
    ),
    "a_gain": ("{H} [finds|gets|buys] {n} more {x}.", "{A} gives {n} {x} to {H}."),
    "b_gain": ("{F} [finds|gets|buys] {n} more {x}.", "{A} gives {n} {x} to {F}."),
    "a_lose": ("{H} [loses|sells] {n} {x}.", "Then {H} gives {n} {x} to {A}."),
    "b_lose": ("{F} [loses|sells] {n} {x}.", "Then {F} gives {n} {x} to {A}."),
    "a_to_b": ("{H} gives {n} {x} to {F}.", "Then {F} gets {n} {x} from {H}."),
    "b_to_a": ("{F} gives {n} {x} to {H}.", "Then {H} gets {n} {x} from {F}."),
    "together": (
        "How many {x} do they have together?",
        "How many {x} do {H} and {F} have [in all|together]?",
    ),
    "a_than_b": (
        "How many more {x} does {H} have than {F}?",
        "How many fewer {x} does {F} have than {H}?",
    ),
    "b_than_a": (
        "How many more {x} does {F} have than {H}?",
        "How many fewer {x} does {H} have than {F}?",
    ),
    "a_now": ("How many {x} does {H} have [now|in the end]?",),
    "b_now": ("How many {x} does {F} have [now|in the end]?",),
    "share_all": (
        "They put all the {x} together and make {n} equal groups. How many {x} are in one group?",
        "They share all the {x} equally among {n} friends. How many {x} does each friend get?",
    ),
    # two things of one person
    "two": ("{H} [has|buys|finds] {n} {x} and {k} {y}.",),
    "two_more": (
        "{H} has {n} {x}. {He} has {k} more {y} than {x}.",
        "{H} has {n} {x} and {k} more {y} than {x}.",
    ),
    "x_gain": ("{He} gets {n} more {x}.", "{A} gives {him} {n} more {x}."),
    "y_gain": ("{He} gets {n} more {y}.", "{A} gives {him} {n} more {y}."),
    "x_lose": ("{He} gives {n} {x} to {F}.", "{F} takes {n} of the {x}."),
    "y_lose": ("{He} gives {n} {y} to {F}.", "{F} takes {n} of the {y}."),
    "total": ("How many things does {H} have in all?", "How many {x} and {y} are there together?"),
    "x_than_y": ("How many more {x} than {y} are there?", "How many fewer {y} than {x} are there?"),
    "cost": (
        "Each of the {x} costs {n} coins, and each of the {y} costs {k} coins. How many coins is that in all?",
        "One of the {x} costs {n} coins, and one of the {y} costs {k} coins. How many coins do all of them cost?",
    ),
}

DISTRACTORS = (
    "The bus comes in {n} minutes.",
    "The walk home takes {n} minutes.",
    "It is {n} miles to the next village.",
    "The clock is {n} minutes late.",
)
"""Statements with a number that does not matter (TinyGSM's irrelevant context); they have no program line.

None speaks of a person, who would take the pronoun of the next statement.
"""
