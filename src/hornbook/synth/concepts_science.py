# ruff: noqa: E501 - one wording a line
"""What the textbooks teach about the world, and the list of all concepts. Data only; slots as in `world.slots`."""

from hornbook.synth.concepts import PYTHON_AND_SUMS, concept

SCIENCE = (
    concept(
        "rain",
        "science",
        "Rain is water that falls from clouds. / The sun warms the sea, and some of its water rises into the air.",
        "In the cold air high above, the water becomes small drops. / When the drops in a cloud are heavy enough, they fall.",
        scenes=(
            'One {part}, {H} saw gray clouds {at}. "The drops up there are getting heavy," said {A}. Soon it rained.',
            "{H} put a cup in the rain and found some water in it an hour later. The sea had sent it on a long trip.",
        ),
        check="Where does rain come from? It falls from clouds.",
    ),
    concept(
        "ice",
        "science",
        "Ice is frozen water. / When water gets very cold, it becomes hard.",
        "Ice is lighter than the same amount of water, so it floats. / In the warm sun, ice melts and is water again.",
        scenes=(
            "{H} left a cup of water outside on a cold night. In the morning there was ice in it.",
            "{H} threw a piece of ice into the pond. It did not sink, but it grew smaller and smaller.",
        ),
        check="Why does ice float? It is lighter than water.",
    ),
    concept(
        "the moon",
        "science",
        "The moon goes around the earth. / The moon has no light of its own.",
        "We see the moon because the sun shines on it. / One trip around the earth takes about a month.",
        scenes=(
            "{H} looked at the moon every evening and drew its shape. After about a month, the shapes began again.",
            '"Who lights the moon?" asked {H}. "The sun does, even at night," said {A}.',
        ),
        check="Why does the moon shine? The sun shines on it.",
    ),
    concept(
        "day and night",
        "science",
        "The earth turns around once a day. / Day and night come because the earth turns.",
        "Where the sun shines on the earth, it is day. / On the side away from the sun, it is night.",
        scenes=(
            "{H} held an orange in front of a lamp and turned it. One side was bright, and the other was dark.",
            "When {H} goes to bed, children on the other side of the earth get up.",
        ),
        check="Why is there day and night? The earth turns.",
    ),
    concept(
        "a shadow",
        "science",
        "A shadow is a dark place behind a thing. / Where a thing stops the light, there is a shadow.",
        "When the sun is low, shadows are long. / Around noon, shadows are short.",
        scenes=(
            "One evening, the shadow of {H} was as long as a tree. {He} waved, and the shadow waved back.",
            "{H} put a stick in the ground {at} and marked the end of its shadow. An hour later, the shadow had moved.",
        ),
        check="When are shadows long? When the sun is low.",
    ),
    concept(
        "a plant",
        "science",
        "A plant needs light, water and air. / Plants make their food with the help of light.",
        "The roots drink water from the ground. / The leaves catch the light.",
        scenes=(
            "{H} put one plant in the window and one in a dark box. Only the plant in the window stayed green.",
            "{H} forgot to water a flower, and it hung its head. After some water, it stood up again.",
        ),
        check="What does a plant need? It needs light, water and air.",
    ),
    concept(
        "a bee",
        "science",
        "Bees fly from flower to flower and gather nectar. / Bees make honey from the nectar of flowers.",
        "They carry pollen, so that fruit can grow. / Many bees live together with one queen.",
        scenes=(
            "{H} watched a bee {at}. It had yellow pollen on its legs and flew from one flower to the next.",
            '"Without bees, we would have few apples," said {A}. {H} thanked the next bee that came by.',
        ),
        check="What do bees make? They make honey.",
        verb="is",
    ),
    concept(
        "sound",
        "science",
        "Sound is a quick shaking of the air. / When something shakes, it can make a sound.",
        "Our ears feel the shaking of the air. / A drum shakes when you hit it.",
        scenes=(
            "{H} put some rice on a drum and hit it. The rice jumped, because the drum was shaking.",
            "{H} held a hand to {his} throat and sang. {He} could feel the shaking.",
        ),
        check="What is sound? It is a quick shaking of the air.",
    ),
    concept(
        "a magnet",
        "science",
        "A magnet pulls iron. / Every magnet has two ends.",
        "Two equal ends push each other away. / Wood and glass do not feel a magnet.",
        scenes=(
            "{H} lost a needle in the grass {at}. {F} found it with a magnet.",
            "{H} held a magnet near a nail, and the nail jumped to it. A wooden spoon did not move.",
        ),
        check="What does a magnet pull? It pulls iron.",
    ),
    concept(
        "wind",
        "science",
        "Wind is moving air. / Warm air rises, and cool air moves in below it.",
        "The sun warms some places more than others. / Wind can turn a mill and push a boat.",
        scenes=(
            "{H} held up a wet finger {at}. One side felt cold: the wind came from there.",
            "{H} let go of a leaf {at}, and the wind carried it over the fence.",
        ),
        check="What is wind? It is moving air.",
    ),
    concept(
        "the seasons",
        "science",
        "There are four seasons: spring, summer, fall and winter. / The earth is tilted, and so the seasons change.",
        "In summer, the sun stands high, and the days are long. / In winter, the sun stays low, and the days are short.",
        scenes=(
            "{H} drew the same tree four times: with flowers, with green leaves, with red leaves and with snow.",
            "In summer, {H} goes to bed while it is still light. In winter, it is dark long before.",
        ),
        check="How many seasons are there? There are four.",
        verb="are",
    ),
    concept(
        "sleep",
        "science",
        "Sleep gives rest to body and mind. / While we sleep, the body repairs itself.",
        "The mind sorts what it has learned that day. / Children need more sleep than adults.",
        scenes=(
            "{H} could not learn a song in the evening. After a good night, {he} could sing it.",
            "{H} stayed up late, and the next day everything was hard. So {he} went to bed early.",
        ),
        check="Why do we sleep? We sleep to rest and to grow.",
    ),
    concept(
        "a seed",
        "science",
        "A seed holds a tiny plant and some food for it. / A new plant begins in a seed.",
        "First the root grows down, and then the stem grows up. / A seed wakes up when it is warm and wet.",
        scenes=(
            "{H} put a bean on wet paper. Three days later, a small white root came out.",
            '{H} planted an acorn {at}. "In a hundred years, it will be a big oak," said {A}.',
        ),
        check="What is in a seed? There is a tiny plant in it.",
    ),
    concept(
        "a bird",
        "science",
        "A bird has feathers, two wings and a beak. / All birds lay eggs, and most of them can fly.",
        "Its bones are light, which helps it to fly. / Feathers keep a bird warm and dry.",
        scenes=(
            "{H} found a feather {at}. It was so light that {he} could blow it into the air.",
            "{H} and {F} watched a nest from far away. After two weeks, small birds looked out.",
        ),
        check="Why are the bones of a bird light? Light bones help it to fly.",
    ),
    concept(
        "the sun",
        "science",
        "The sun is a star. / The sun is a very big ball of hot gas.",
        "It gives us light and warmth. / The earth goes around the sun once a year.",
        scenes=(
            "{H} put one stone in the sun and one in the shade. After an hour, only one was warm.",
            '"Never look right at the sun," said {A} to {H}. "It would hurt your eyes."',
        ),
        check="What is the sun? It is a star.",
    ),
    concept(
        "a river",
        "science",
        "A river is water that flows to a lake or to the sea. / A river begins small, often in the hills.",
        "Water always flows down. / Small streams join and make it wider.",
        scenes=(
            "{H} put a paper boat on the river. It sailed away, always down and down, on its way to the sea.",
            "{H} and {F} built a small wall of stones in a stream. The water rose until it found a way around.",
        ),
        check="Where does a river flow? It flows to a lake or to the sea.",
    ),
)

CONCEPTS = PYTHON_AND_SUMS + SCIENCE
BY_NAME = {item.name: item for item in CONCEPTS}
