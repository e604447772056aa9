"""The words of the small world: names, things, places, doings. Data only, shared by all writers.

A few hundred words that a four-year-old knows, as in TinyStories; every writer
draws from them, so that a small model meets each word in many places.
"""

from dataclasses import dataclass

GIRLS = (
    "Mia",
    "Lily",
    "Anna",
    "Ella",
    "Rosa",
    "Nora",
    "Ruby",
    "Zoe",
    "Clara",
    "Ivy",
    "Maya",
    "Lucy",
    "Emma",
    "Sara",
    "Tess",
    "Wren",
    "Hana",
    "Nina",
    "Dora",
    "Elsie",
    "Amara",
    "Leila",
    "Poppy",
    "Pia",
)
BOYS = (
    "Tom",
    "Ben",
    "Gus",
    "Sam",
    "Leo",
    "Finn",
    "Omar",
    "Jack",
    "Theo",
    "Hugo",
    "Noah",
    "Eli",
    "Ravi",
    "Luca",
    "Otto",
    "Kai",
    "Dan",
    "Milo",
    "Felix",
    "Amir",
    "Jonas",
    "Toby",
    "Owen",
    "Ned",
)
GENDER = {**dict.fromkeys(GIRLS, "she"), **dict.fromkeys(BOYS, "he")}

PRONOUNS = {
    "she": {"he": "she", "him": "her", "his": "her", "He": "She", "His": "Her", "self": "herself"},
    "he": {"he": "he", "him": "him", "his": "his", "He": "He", "His": "His", "self": "himself"},
}

ANIMALS = (
    "rabbit",
    "fox",
    "bear",
    "squirrel",
    "mouse",
    "duck",
    "frog",
    "hedgehog",
    "badger",
    "otter",
    "owl",
    "kitten",
    "puppy",
    "lamb",
    "pony",
    "turtle",
)
"""Heroes and friends when they are not children."""

SMALL_ANIMALS = (
    "bird",
    "snail",
    "bee",
    "butterfly",
    "mole",
    "sparrow",
    "beetle",
    "crab",
    "lizard",
    "cricket",
    "ladybug",
    "robin",
)
"""Animals met on the way; never heroes, so that a reader is not confused."""

ADULTS = {"Mom": "she", "Dad": "he", "Grandma": "she", "Grandpa": "he", "Aunt May": "she", "Uncle Joe": "he"}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A noun that can be the object of a story. `uses` says what may happen to it."""

    noun: str
    kind: str
    uses: frozenset[str]


def _things(kind: str, uses: str, nouns: str) -> list[Thing]:
    return [Thing(noun=noun, kind=kind, uses=frozenset(uses.split())) for noun in nouns.split()]


THINGS = tuple(
    _things("toy", "break make keep", "kite boat drum doll train puzzle robot puppet flute")
    + _things("toy", "break make", "wagon")
    + _things("toy", "keep", "ball marble balloon whistle")
    + _things("wear", "break make keep", "crown ribbon mask")
    + _things("wear", "make keep warm", "hat scarf coat cape mitten")
    + _things("wear", "keep", "button ring")
    + _things("food", "eat make", "cake pie bun cookie sandwich pancake")
    + _things("food", "eat", "apple pear plum peach")
    + _things("tool", "make keep warm", "basket blanket pillow")
    + _things("tool", "break make keep", "lamp map book lantern flag")
    + _things("tool", "break make", "ladder chair")
    + _things("tool", "break keep", "bucket bell cup umbrella jar clock mirror")
    + _things("tool", "keep", "key rope spoon brush coin pencil")
    + _things("nature", "keep", "shell stone feather leaf acorn flower pebble")
)
THING_BY_NOUN = {thing.noun: thing for thing in THINGS}

ADJECTIVES = (
    "shiny",
    "red",
    "blue",
    "green",
    "yellow",
    "tiny",
    "big",
    "old",
    "new",
    "pretty",
    "strange",
    "special",
    "golden",
    "silver",
    "striped",
    "smooth",
    "heavy",
    "lovely",
    "purple",
    "orange",
    "pink",
    "fancy",
    "funny",
    "little",
    "spotted",
    "dusty",
    "sparkly",
    "odd",
    "round",
    "ancient",
    "precious",
    "colorful",
    "wonderful",
    "beautiful",
    "bright",
    "soft",
    "brown",
    "perfect",
)


@dataclass(frozen=True, kw_only=True)
class Verb:
    """An action of a hero: base, past, -ing form, and what may follow it."""

    base: str
    past: str
    ing: str
    after: tuple[str, ...]


def _verb(forms: str, *after: str) -> Verb:
    base, past, ing = forms.split()
    return Verb(base=base, past=past, ing=ing, after=after)


VERBS = (
    _verb("jump jumped jumping", "over the puddles", "up and down", "from stone to stone", "over a log"),
    _verb("run ran running", "down the path", "in big circles", "through the grass", "with the wind"),
    _verb("climb climbed climbing", "a little hill", "the old tree", "a pile of rocks"),
    _verb("sing sang singing", "a merry song", "to the birds", "about the moon"),
    _verb("dance danced dancing", "in the wind", "round and round", "on one foot"),
    _verb("dig dug digging", "a deep hole", "in the soft ground", "for worms"),
    _verb("paint painted painting", "a picture of the sky", "little stars", "the fence"),
    _verb("count counted counting", "the clouds", "the birds", "all the white stones"),
    _verb("draw drew drawing", "pictures with a stick", "a big sun", "funny faces"),
    _verb("hop hopped hopping", "like a frog", "on one leg", "along the path"),
    _verb("skip skipped skipping", "along the path", "over the cracks", "and hum"),
    _verb("hide hid hiding", "behind the trees", "in the bushes", "and wait"),
    _verb("whistle whistled whistling", "a little tune", "to the birds", "very loudly"),
    _verb("collect collected collecting", "small stones", "yellow leaves", "pine cones"),
    _verb("watch watched watching", "the clouds", "the busy ants", "the butterflies"),
    _verb("chase chased chasing", "the butterflies", "falling leaves", "the shadows"),
    _verb("roll rolled rolling", "down the soft grass", "in the leaves", "like a ball"),
    _verb("build built building", "a tiny house of sticks", "a tower of stones", "a little bridge"),
    _verb("throw threw throwing", "little stones", "a stick", "leaves into the air"),
    _verb("catch caught catching", "falling leaves", "drops of rain", "the wind"),
    _verb("spin spun spinning", "like a top", "round and round", "until the world was blurry"),
    _verb("explore explored exploring", "every corner", "the bushes", "a hidden path"),
    _verb("decorate decorated decorating", "the gate with flowers", "a stick with ribbons", "a small tree"),
    _verb("listen listened listening", "to the birds", "to the wind", "very quietly"),
    _verb("wave waved waving", "to the clouds", "to everyone", "at the ducks"),
    _verb("laugh laughed laughing", "at the funny ducks", "at the wind", "very loudly"),
    _verb("march marched marching", "like a king", "up the hill", "in a line"),
    _verb("read read reading", "a book about the moon", "a story aloud", "under a tree"),
    _verb("play played playing", "hide and seek", "a new game", "in the sun"),
    _verb("pick picked picking", "wild flowers", "sweet berries", "daisies"),
    _verb("feed fed feeding", "the ducks", "the hungry birds", "the fish"),
    _verb("follow followed following", "the ants", "a tiny snail", "the path"),
    _verb("whisper whispered whispering", "to the flowers", "secrets", "to the trees"),
    _verb("balance balanced balancing", "on a log", "on the wall", "a leaf on one finger"),
    _verb("slide slid sliding", "down the hill", "on the wet grass", "down a rock"),
    _verb("tell told telling", "funny jokes", "a story about stars", "riddles"),
    _verb("kick kicked kicking", "a pine cone", "the leaves", "a can"),
    _verb("gather gathered gathering", "dry sticks", "soft moss", "nuts"),
    _verb("blow blew blowing", "bubbles", "on the dandelions", "a leaf away"),
    _verb("stack stacked stacking", "flat stones", "wooden blocks", "boxes"),
    _verb("splash splashed splashing", "in the puddles", "in the cool water"),
    _verb("wander wandered wandering", "along the path", "between the trees", "here and there"),
    _verb("rest rested resting", "under a tree", "in the shade", "on a warm rock"),
    _verb("race raced racing", "the wind", "the clouds", "a beetle"),
    _verb("clap clapped clapping", "to the music", "for the birds"),
    _verb("sweep swept sweeping", "the path", "the leaves away"),
    _verb("hum hummed humming", "a soft tune", "like a bee"),
    _verb("stretch stretched stretching", "in the sun", "like a cat"),
)
VERB_BY_BASE = {verb.base: verb for verb in VERBS}

# place -> (at, to)
PLACES = {
    "park": ("in the park", "to the park"),
    "forest": ("in the forest", "to the forest"),
    "beach": ("on the beach", "to the beach"),
    "garden": ("in the garden", "to the garden"),
    "farm": ("on the farm", "to the farm"),
    "river": ("by the river", "to the river"),
    "hill": ("on the hill", "to the hill"),
    "market": ("at the market", "to the market"),
    "meadow": ("in the meadow", "to the meadow"),
    "pond": ("by the pond", "to the pond"),
    "village": ("in the village", "to the village"),
    "lake": ("by the lake", "to the lake"),
    "orchard": ("in the orchard", "to the orchard"),
    "playground": ("on the playground", "to the playground"),
    "castle": ("near the castle", "to the castle"),
    "bridge": ("near the old bridge", "to the old bridge"),
}

HIDING_PLACES = (
    "under a bench",
    "behind a big rock",
    "in the tall grass",
    "next to an old tree",
    "inside a hollow log",
    "under some leaves",
    "behind the bushes",
    "near a little fence",
    "between two stones",
    "under a wooden cart",
    "on top of a wall",
    "beside a muddy puddle",
)

# weather word -> a clause that can stand as a sentence
WEATHER = {
    "sunny": ("the sun was warm", "the sky was blue and clear", "the sun was shining"),
    "windy": ("the wind was strong", "the wind shook the trees", "the leaves flew in the wind"),
    "rainy": ("soft rain was falling", "there were puddles everywhere", "the rain tapped on the leaves"),
    "cloudy": ("the sky was full of gray clouds", "big clouds hid the sun", "the day was gray and quiet"),
    "snowy": ("white snow covered the ground", "snow fell without a sound", "the air was cold and bright"),
    "foggy": ("a soft fog lay over the ground", "the fog made everything look new"),
}
DAY_PARTS = ("morning", "afternoon", "day", "evening")

TRAITS = (
    "kind",
    "curious",
    "brave",
    "shy",
    "clever",
    "quiet",
    "careful",
    "gentle",
    "busy",
    "playful",
    "dreamy",
    "stubborn",
    "polite",
    "lively",
)
GLAD = ("happy", "glad", "proud", "cheerful", "delighted", "joyful")
SAD = ("sad", "upset", "unhappy", "gloomy", "miserable")

FEATURES = ("Dialogue", "BadEnding", "MoralValue", "Twist", "Foreshadowing", "Conflict")
"""Feature labels as TinyStories-Instruct spells them."""
