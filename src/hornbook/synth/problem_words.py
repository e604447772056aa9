# ruff: noqa: E501 - one wording a line
"""Scenes and wordings of the word problems. Data only.

A statement type has several wordings and always the same program line. `x` is the counted thing; H, F, A
are people (`he`, `him` as in the stories); n and k are numbers; `box` and `boxes` a container.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where things are counted: what they are, and how they come and go."""

    name: str
    things: tuple[str, ...]
    have: tuple[str, ...]
    gain: tuple[str, ...]
    lose: tuple[str, ...]
    now: tuple[str, ...]
    half: tuple[str, ...]
    percent: tuple[str, ...]


_OWN_NOW = (
    "How many {x} does {H} have [now|in the end]?",
    "How many {x} [are left|are there now]?",
    "How many {x} does {he} have [now|at the end]?",
)
_OWN_HALF = (
    "{He} gives half of the {x} to {F}.",
    "Then {he} gives away half of {his} {x}.",
    "Half of the {x} go to {F}.",
)
_OWN_PERCENT = (
    "Then {n} percent of the {x} get lost.",
    "{He} gives {n} percent of the {x} to {F}.",
    "{n} percent of the {x} are broken, and {he} throws them away.",
)
_HERE_NOW = (
    "How many {x} are [there now|left|there in the end]?",
    "How many {x} [can you count now|are there]?",
)

SCENES = (
    Scene(
        name="toys",
        things=(
            "marbles",
            "stickers",
            "cards",
            "buttons",
            "stamps",
            "beads",
            "shells",
            "feathers",
            "blocks",
            "balloons",
        ),
        have=(
            "{H} has {n} {x}[| in a box| in a bag| at home].",
            "{H} [owns|keeps] {n} {x}.",
            "There are {n} {x} in the bag of {H}.",
            "{H} starts [the day|the game] with {n} {x}.",
        ),
        gain=(
            "{He} [finds|gets|buys] {n} more {x}.",
            "{A} gives {him} {n} more {x}.",
            "Then {he} [wins|finds] another {n} {x}.",
            "{He} [finds|gets|wins] {n} more[| on the way home| at school].",
        ),
        lose=(
            "{He} gives {n} {x} to {F}.",
            "{He} loses {n} {x}[| on the way home| in the park].",
            "Then {he} [sells|gives away] {n} of them.",
            "{F} takes {n} of the {x}.",
        ),
        now=_OWN_NOW,
        half=_OWN_HALF,
        percent=_OWN_PERCENT,
    ),
    Scene(
        name="food",
        things=(
            "apples",
            "cookies",
            "plums",
            "pears",
            "cherries",
            "buns",
            "nuts",
            "carrots",
            "eggs",
            "muffins",
        ),
        have=(
            "{H} has {n} {x}[| in a basket| in the kitchen].",
            "{H} [buys|brings] {n} {x}.",
            "There are {n} {x} in the basket of {H}.",
            "{H} puts {n} {x} on the table.",
        ),
        gain=(
            "{He} [buys|gets|brings] {n} more {x}.",
            "{A} [brings|gives] {him} {n} more {x}.",
            "Then {he} [adds|finds] another {n} {x}.",
        ),
        lose=(
            "{He} eats {n} {x}.",
            "{He} gives {n} {x} to {F}.",
            "{F} eats {n} of the {x}.",
            "Then {he} [sells|gives away|uses] {n} of them.",
        ),
        now=_OWN_NOW,
        half=_OWN_HALF,
        percent=(
            "Then {n} percent of the {x} go bad.",
            "{He} gives {n} percent of the {x} to {F}.",
            "{n} percent of the {x} are bad, and {he} throws them away.",
        ),
    ),
    Scene(
        name="coins",
        things=("coins",),
        have=(
            "{H} has {n} {x}[| in a jar| in a purse].",
            "{H} [saves|gets] {n} {x}.",
            "There are {n} {x} in the purse of {H}.",
        ),
        gain=(
            "{He} [earns|finds|gets] {n} more {x}.",
            "{A} gives {him} {n} more {x}.",
            "Then {he} earns another {n} {x}.",
        ),
        lose=(
            "{He} [spends|pays|loses] {n} {x}.",
            "{He} gives {n} {x} to {F}.",
            "Then {he} [spends|loses] {n} of them.",
        ),
        now=_OWN_NOW,
        half=(
            "{He} spends half of the {x}.",
            "Then {he} gives away half of {his} {x}.",
            "Half of the {x} go to {F}.",
        ),
        percent=("{He} spends {n} percent of the {x}.", "{He} gives {n} percent of the {x} to {F}."),
    ),
    Scene(
        name="pond",
        things=("ducks", "frogs", "birds", "geese", "swans"),
        have=(
            "There are {n} {x} [on|by] the [pond|lake].",
            "{H} sees {n} {x} [on the lake|by the pond].",
            "In the morning, {n} {x} sit by the lake.",
        ),
        gain=(
            "{n} more {x} [come|arrive|join them].",
            "Then another {n} {x} [come|arrive].",
            "Soon {n} more come.",
        ),
        lose=(
            "{n} {x} [leave|go away|go home].",
            "Then {n} of them [leave|go away].",
            "A dog scares {n} of the {x} away.",
        ),
        now=_HERE_NOW,
        half=("Half of the {x} [leave|go away].", "Then half of them leave."),
        percent=("Then {n} percent of the {x} leave.", "{n} percent of the {x} go away."),
    ),
    Scene(
        name="bus",
        things=("people", "children", "women", "men"),
        have=(
            "There are {n} {x} on [a|the] [bus|train|boat].",
            "{H} drives a [bus|train|boat] with {n} {x} in it.",
            "At first, {n} {x} sit in the train.",
        ),
        gain=("At the next stop, {n} {x} get on.", "{n} more {x} get on.", "Then another {n} {x} get on."),
        lose=("At the next stop, {n} {x} get off.", "{n} {x} get off.", "Then {n} of them get off."),
        now=_HERE_NOW,
        half=("Half of the {x} get off.", "At the next stop, half of them get off."),
        percent=("Then {n} percent of the {x} get off.", "At the next stop, {n} percent of the {x} get off."),
    ),
    Scene(
        name="shop",
        things=("hats", "lamps", "books", "cups", "pens", "chairs", "scarves", "toys"),
        have=("A shop has {n} {x}.", "There are {n} {x} in the shop of {H}.", "{H} has a shop with {n} {x}."),
        gain=("A truck brings {n} more {x}.", "Then {n} more {x} arrive.", "The shop gets another {n} {x}."),
        lose=("The shop sells {n} {x}.", "{F} buys {n} {x}.", "Then {n} of them are sold."),
        now=_HERE_NOW,
        half=("The shop sells half of the {x}.", "Then half of them are sold."),
        percent=("The shop sells {n} percent of the {x}.", "Then {n} percent of the {x} are sold."),
    ),
    Scene(
        name="garden",
        things=("flowers", "roses", "tomatoes", "tulips", "trees", "pumpkins"),
        have=(
            "{H} has {n} {x} in the garden.",
            "There are {n} {x} in the garden of {H}.",
            "{H} plants {n} {x}.",
        ),
        gain=("{He} plants {n} more {x}.", "Then another {n} {x} grow.", "{A} plants {n} more {x}."),
        lose=(
            "{He} gives {n} {x} to {F}.",
            "A goat eats {n} of the {x}.",
            "{He} cuts {n} {x}.",
            "Then {n} of them die.",
        ),
        now=_HERE_NOW,
        half=("{He} gives half of the {x} to {F}.", "A storm breaks half of the {x}."),
        percent=("A storm breaks {n} percent of the {x}.", "{He} sells {n} percent of the {x}."),
    ),
)

CONTAINERS = (
    ("box", "boxes"),
    ("bag", "bags"),
    ("basket", "baskets"),
    ("jar", "jars"),
    ("shelf", "shelves"),
    ("tray", "trays"),
    ("bucket", "buckets"),
)

WORDINGS: dict[str, tuple[str, ...]] = {
    # one counted thing: openings and changes (have, gain, lose, half, percent come from the scene)
    "groups": (
        "{H} has {n} {boxes}. Each {box} holds {k} {x}.",
        "{H} has {n} {boxes}. There are {k} {x} in each {box}.",
        "{H} fills {n} {boxes}. {He} puts {k} {x} in every {box}.",
    ),
    "rate": (
        "{H} [collects|gets] {n} {x} every day. {He} does this for {k} days.",
        "{H} gets {n} {x} each week. This goes on for {k} weeks.",
        "Every day, {H} counts {n} new {x}. {He} counts for {k} days.",
    ),
    "double": (
        "Then the number of {x} doubles.",
        "The next day, there are twice as many {x}.",
        "Soon there are two times as many {x}.",
    ),
    "triple": (
        "Then the number of {x} triples.",
        "The next day, there are three times as many {x}.",
    ),
    "gain_groups": (
        "Then {n} {boxes} with {k} {x} each [come|are added].",
        "{A} brings {n} {boxes} with {k} {x} in each.",
        "{H} gets {n} {boxes} of {k} {x} each.",
    ),
    "lose_groups": (
        "Then {n} friends take {k} {x} each.",
        "{n} {boxes} with {k} {x} each are taken away.",
    ),
    "share": (
        "They are shared equally among {n} groups. How many {x} does each group get?",
        "{H} [shares|divides] the {x} equally among {n} friends. How many {x} does each friend get?",
        "The {x} are put into {n} equal groups. How many {x} are in one group?",
    ),
    "bags": (
        "The {x} are put into groups of {n}. How many groups are there?",
        "{H} makes groups of {n} {x}. How many groups can {he} make?",
        "{n} {x} fit in one {box}. How many {boxes} are needed?",
    ),
    "left_over": (
        "The {x} are put into groups of {n}. How many {x} are left over?",
        "{H} makes groups of {n} {x}. How many {x} are left over?",
    ),
    "price": (
        "Each of the {x} costs {n} coins. How many coins do they cost [in all|together]?",
        "{H} pays {n} coins for each of the {x}. How many coins does {he} pay in all?",
    ),
    "need": (
        "{H} wants {n} {x}. How many more {x} does {he} need?",
        "There should be {n} {x}. How many {x} are missing?",
    ),
    "more_than": (
        "{F} has {n} {x}. How many more {x} does {H} have than {F}?",
        "In the next village, there are {n} {x}. How many more {x} are there here?",
    ),
    "part_percent": (
        "{n} percent of the {x} are [red|green|small|old]. How many {x} are that?",
        "Of these, {n} percent are [new|big|white]. How many {x} are that?",
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
        "{H} has {n} {x}, and {F} has two times as many.",
    ),
    "thrice": (
        "{H} has {n} {x}. {F} has three times as many {x} as {H}.",
        "{H} has {n} {x}, and {F} has three times as many.",
    ),
    "a_gain": (
        "{H} [finds|gets|buys] {n} more {x}.",
        "Then {H} [gets|finds] another {n}.",
        "{A} gives {n} {x} to {H}.",
    ),
    "b_gain": (
        "{F} [finds|gets|buys] {n} more {x}.",
        "Then {F} [gets|finds] another {n}.",
        "{A} gives {n} {x} to {F}.",
    ),
    "a_lose": (
        "{H} [loses|sells] {n} {x}.",
        "Then {H} gives {n} {x} to {A}.",
        "Then {H} [loses|sells] {n} of them.",
    ),
    "b_lose": (
        "{F} [loses|sells] {n} {x}.",
        "Then {F} gives {n} {x} to {A}.",
        "Then {F} [loses|sells] {n} of them.",
    ),
    "a_to_b": ("{H} gives {n} {x} to {F}.", "Then {F} gets {n} {x} from {H}."),
    "b_to_a": ("{F} gives {n} {x} to {H}.", "Then {H} gets {n} {x} from {F}."),
    "together": (
        "How many {x} do they have together?",
        "How many {x} do {H} and {F} have [in all|together]?",
    ),
    "a_than_b": ("How many more {x} does {H} have than {F}?", "By how many {x} is {H} ahead of {F}?"),
    "b_than_a": ("How many more {x} does {F} have than {H}?", "By how many {x} is {F} ahead of {H}?"),
    "a_now": ("How many {x} does {H} have [now|in the end]?",),
    "b_now": ("How many {x} does {F} have [now|in the end]?",),
    "share_all": (
        "They put all the {x} together and make {n} equal groups. How many {x} are in one group?",
        "Together they share all the {x} equally among {n} friends. How many {x} does each friend get?",
    ),
    # two things of one person
    "two": (
        "{H} has {n} {x} and {k} {y}.",
        "{H} buys {n} {x} and {k} {y}.",
        "There are {n} {x} and {k} {y} on the table of {H}.",
    ),
    "two_more": (
        "{H} has {n} {x}. {He} has {k} more {y} than {x}.",
        "There are {n} {x}. There are {k} more {y} than {x}.",
    ),
    "x_gain": ("{He} gets {n} more {x}.", "{A} gives {him} {n} more {x}."),
    "y_gain": ("{He} gets {n} more {y}.", "{A} gives {him} {n} more {y}."),
    "x_lose": ("{He} gives {n} {x} to {F}.", "{F} takes {n} of the {x}."),
    "y_lose": ("{He} gives {n} {y} to {F}.", "{F} takes {n} of the {y}."),
    "total": (
        "How many things [are there|does {he} have] in all?",
        "How many {x} and {y} are there together?",
    ),
    "x_than_y": ("How many more {x} than {y} are there?",),
    "cost": (
        "Each of the {x} costs {n} coins, and each of the {y} costs {k} coins. How many coins is that in all?",
        "{H} pays {n} coins for each of the {x} and {k} coins for each of the {y}. How many coins does {he} pay?",
    ),
}

DISTRACTORS = (
    "{F} is {n} years old.",
    "{H} is {n} years old.",
    "The walk home takes {n} minutes.",
    "It is day {n} of the month.",
    "{A} has lived here for {n} years.",
    "The next village is {n} miles away.",
)
"""Statements with a number that does not matter (TinyGSM's irrelevant context); they have no program line."""
