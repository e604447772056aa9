# ruff: noqa: E501 - one class a line
"""A small world of common sense: what things are made of and what becomes of them, what people do and how they feel.

Data only. A class has members; what happens to a member follows from its class and from the question alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Members by class; for each question the outcome by class, the events that ask it, and the rule in words.

    events: with {m} (the member), {n} (a name) and {k} (another name); what follows is `subject` and the outcome.
    """

    name: str
    members: Mapping[str, tuple[str, ...]]
    outcomes: Mapping[str, Mapping[str, str]]
    events: Mapping[str, tuple[str, ...]]
    subjects: Mapping[str, str]
    belongs: tuple[str, ...]
    rules: Mapping[str, tuple[str, ...]]


def _table(rows: Mapping[str, str]) -> dict[str, str]:
    """{"breaks": "glass clay"} as {"glass": "breaks", "clay": "breaks"}."""
    return {word: outcome for outcome, words in rows.items() for word in words.split()}


THINGS = Domain(
    name="things",
    members={
        "glass": ("jar", "window", "mirror", "bottle", "lens", "bulb", "vase", "goblet"),
        "iron": ("nail", "anvil", "chain", "horseshoe", "hinge", "hook", "bolt", "gate"),
        "wood": ("log", "chair", "ladder", "crate", "fence", "oar", "barrel", "bench"),
        "paper": ("map", "letter", "ticket", "poster", "notebook", "envelope", "newspaper", "kite"),
        "cloth": ("shirt", "curtain", "flag", "blanket", "scarf", "towel", "sail", "sock"),
        "rubber": ("ball", "tire", "boot", "eraser", "glove", "hose", "balloon", "mat"),
        "wax": ("candle", "crayon", "seal", "comb", "taper", "figurine", "tablet", "polish"),
        "clay": ("brick", "tile", "pot", "bowl", "plate", "whistle", "jug", "oven"),
        "stone": ("statue", "millstone", "pillar", "step", "boulder", "cobble", "slab", "tomb"),
        "ice": ("icicle", "snowman", "iceberg", "igloo", "slide", "sculpture", "cube", "rink"),
    },
    outcomes={
        "fall": _table({"breaks": "glass clay ice", "bounces": "rubber", "dents the floor": "iron stone", "lands softly": "paper cloth", "rolls away": "wood wax"}),
        "lake": _table({"floats": "wood wax ice rubber", "sinks": "iron stone glass clay", "gets soaked": "paper cloth"}),
        "fire": _table({"burns": "wood paper cloth", "melts": "wax ice rubber", "gets hot": "iron stone glass clay"}),
        "rain": _table({"rusts": "iron", "goes limp": "paper cloth", "swells": "wood", "stays the same": "glass clay stone rubber wax", "shrinks": "ice"}),
        "pull": _table({"tears": "paper cloth", "stretches": "rubber", "snaps": "wood wax ice", "holds": "iron stone glass clay"}),
    },
    events={
        "fall": ("{n} drops the {m}.", "The {m} falls from the roof.", "{n} lets the {m} fall."),
        "lake": ("{n} throws the {m} into the lake.", "The {m} falls into the river.", "{n} puts the {m} into deep water."),
        "fire": ("{n} holds the {m} over the fire.", "The {m} lies in the flames.", "{n} leaves the {m} by the hot stove."),
        "rain": ("{n} leaves the {m} in the rain.", "The {m} stands outside all wet week.", "It rains on the {m} for days."),
        "pull": ("{n} pulls hard at the {m}.", "Two dogs pull at the {m}.", "{n} and {k} pull the {m} from both ends."),
    },
    subjects=dict.fromkeys(("fall", "lake", "fire", "rain", "pull"), "The {m}"),
    belongs=("The {m} is made of {c}.", "A thing like the {m} is {c}.", "Most people make the {m} of {c}."),
    rules={
        "fall": ("What is made of {c} {o} when it falls.", "When {c} falls, it {o}."),
        "lake": ("In water, a thing of {c} {o}.", "What is made of {c} {o} in water."),
        "fire": ("Near a fire, what is made of {c} {o}.", "Heat does this to {c}: it {o}."),
        "rain": ("In the rain, a thing of {c} {o}.", "Rain does this to {c}: it {o}."),
        "pull": ("When it is pulled, what is made of {c} {o}.", "If you pull at {c}, it {o}."),
    },
)  # fmt: skip

DEEDS = Domain(
    name="deeds",
    members={
        "sharing": ("gives {k} half of the apple", "lends {k} a coat", "pours soup for {k}", "splits the cake with {k}", "lets {k} ride along", "saves a seat for {k}", "brings {k} a blanket", "cuts the bread for {k}", "lets {k} use the phone", "gives {k} a ticket"),
        "taking": ("steals the purse of {k}", "grabs the toy of {k}", "eats the lunch of {k}", "hides the shoes of {k}", "takes the turn of {k}", "keeps the pen of {k}", "picks the pocket of {k}", "drinks the milk of {k}", "sells the boat of {k}", "locks up the ball of {k}"),
        "hurting": ("pushes {k} down", "pinches {k}", "kicks {k}", "laughs at {k}", "calls {k} a fool", "pulls the hair of {k}", "throws mud at {k}", "bites {k}", "trips {k} up", "shouts at {k}"),
        "helping": ("carries the bags of {k}", "finds the lost dog of {k}", "mends the bike of {k}", "shows {k} the way", "lifts {k} over the wall", "pulls {k} out of the mud", "holds the ladder for {k}", "looks for the ring of {k}", "pushes the cart of {k}", "reads the letter to {k}"),
        "leaving": ("moves far away from {k}", "forgets to meet {k}", "stops writing to {k}", "walks off without {k}", "goes to the fair without {k}", "leaves {k} at home", "sails off without {k}", "does not wait for {k}", "hangs up on {k}", "moves to another desk than {k}"),
        "praising": ("claps for {k}", "tells all that {k} sang well", "gives {k} a medal", "cheers when {k} runs", "hangs up the picture of {k}", "thanks {k} in front of all", "writes a song about {k}", "bows to {k}", "names a boat after {k}", "gives {k} a crown"),
    },
    outcomes={
        "other": _table({"thankful": "sharing helping", "angry": "taking", "hurt": "hurting", "lonely": "leaving", "proud": "praising"}),
        "self": _table({"generous": "sharing", "guilty": "taking", "ashamed": "hurting", "useful": "helping", "sorry": "leaving", "friendly": "praising"}),
    },
    events={"other": ("{n} {m}.", "Today {n} {m}.", "In the yard {n} {m}."), "self": ("{n} {m}.", "Today {n} {m}.", "In the yard {n} {m}.")},
    subjects={"other": "{k} feels", "self": "{n} feels"},
    belongs=("When {n} {m}, that is {c}.", "It is {c} when {n} {m}.", "{n} {m}: we call it {c}."),
    rules={
        "other": ("The other one feels {o} after {c}.", "After {c}, the one it was done to feels {o}."),
        "self": ("The one who does it feels {o} after {c}.", "After {c}, the one who did it feels {o}."),
    },
)  # fmt: skip

DOMAINS = (THINGS, DEEDS)
CHATTER = (
    "Thanks for all the comments last week.", "Click the link to see the photos.", "The weather was nice on Sunday.",
    "I have not slept well since Monday.", "The new shop near the station is open now.", "Call us for a free offer.",
    "My cousin says the bus is late again.", "Traffic was slow on the bridge.", "More news on page two.",
    "Sign up today and save ten percent.", "The band plays again in spring.", "I like the blue one better than the red one.",
    "Prices went up a little this year.", "We had coffee and talked about the game.", "The meeting starts at nine.",
    "Somebody left a bag at the counter.", "Do not forget to vote for us.", "The road to the harbor is closed.",
    "This post was written in a hurry.", "Parking is free after six.", "Our team lost again on Saturday.",
    "I will write more when I have time.", "The soup of the day was fine.", "Reply below if you know more.",
    "There were many people at the market.", "The show begins in ten minutes.", "Visit our page for the full list.",
    "Last year we painted the kitchen.", "All rights reserved by the owner.", "The office is closed on Friday.",
)  # fmt: skip
