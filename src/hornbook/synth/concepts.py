# ruff: noqa: E501 - one wording a line
"""What the textbooks teach: Python, arithmetic and everyday science. Data only.

A Python concept has code with slots; what it prints is computed when a passage is written.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Concept:
    """`field` is python, arithmetic or science; `says` explains it; `code` shows it ({a} {b} {c} numbers, {w} words)."""

    name: str
    field: str
    says: tuple[str, ...]
    why: tuple[str, ...]
    code: tuple[str, ...] = ()
    question: str = ""
    answer: str = ""


def _python(name: str, says: str, why: str, *code: str) -> Concept:
    return Concept(
        name=name, field="python", says=tuple(says.split(" / ")), why=tuple(why.split(" / ")), code=code
    )


def _sums(name: str, says: str, why: str, *code: str) -> Concept:
    return Concept(
        name=name, field="arithmetic", says=tuple(says.split(" / ")), why=tuple(why.split(" / ")), code=code
    )


def _science(name: str, says: str, why: str, question: str, answer: str) -> Concept:
    return Concept(
        name=name,
        field="science",
        says=tuple(says.split(" / ")),
        why=tuple(why.split(" / ")),
        question=question,
        answer=answer,
    )


CONCEPTS = (
    _python(
        "a variable",
        "A variable is a name for a value. / A variable keeps a value under a name.",
        "With a name, you can use the value again. / You can change it later.",
        "{w} = {a}\n{w} = {w} + {b}\nprint({w})",
        "first = {a}\nsecond = {b}\nprint(first + second)",
    ),
    _python(
        "a list",
        "A list holds several values in order. / A list is a row of values in square brackets.",
        "You can count its values and take one of them. / The first value has the number 0.",
        "{w} = [{a}, {b}, {c}]\nprint(len({w}))\nprint({w}[0])",
        "{w} = [{a}, {b}]\n{w}.append({c})\nprint({w})",
    ),
    _python(
        "a for loop",
        "A for loop does the same thing for each value. / A for loop takes the values of a list one by one.",
        "You write the step once, and Python repeats it. / It ends by itself after the last value.",
        "total = 0\nfor {w} in [{a}, {b}, {c}]:\n    total = total + {w}\nprint(total)",
        "for {w} in [{a}, {b}]:\n    print({w} * 2)",
    ),
    _python(
        "a while loop",
        "A while loop goes on as long as a test is true. / A while loop repeats until its test is false.",
        "Something must change in the loop, or it never ends. / It is good when you do not know how often.",
        "{w} = {a}\nwhile {w} < 100:\n    {w} = {w} * 2\nprint({w})",
    ),
    _python(
        "an if statement",
        "An if statement chooses what to do. / With if, a program can take one of two ways.",
        "The part under else runs when the test is false. / The test is true or false.",
        "{w} = {a}\nif {w} > {b}:\n    print('big')\nelse:\n    print('small')",
    ),
    _python(
        "a function",
        "A function is a small program with a name. / A function takes values and gives one back.",
        "You write it once and call it often. / The word return gives the result.",
        "def add_{b}(n):\n    return n + {b}\n\nprint(add_{b}({a}))",
        "def double(n):\n    return 2 * n\n\nprint(double({a}))",
    ),
    _python(
        "a string",
        "A string is a piece of text in quotes. / Text in a program is called a string.",
        "You can put strings together with plus. / You can ask for its length.",
        "{w} = '{t}'\nprint(len({w}))",
        "{w} = '{t}'\nprint({w}.upper())",
        "{w} = '{t}'\nprint({w} + ' and ' + {w})",
    ),
    _python(
        "a dictionary",
        "A dictionary keeps a value for each key. / A dictionary finds a value by its name.",
        "It is like a list of names with numbers. / You look up the key and get the value.",
        "prices = {{'{t}': {a}, 'pen': {b}}}\nprint(prices['{t}'])",
    ),
    _python(
        "a list comprehension",
        "A list comprehension makes a new list in one line. / It builds a list from another list.",
        "You can also add a test with if. / It is a short form of a loop.",
        "{w} = [{a}, {b}, {c}]\nprint([2 * n for n in {w}])",
        "{w} = [{a}, {b}, {c}]\nprint([n for n in {w} if n > {a}])",
    ),
    _python(
        "sorting",
        "The function sorted puts values in order. / Sorting brings the smallest value to the front.",
        "The old list stays as it is. / The result is a new list.",
        "{w} = [{a}, {b}, {c}]\nprint(sorted({w}))",
    ),
    _python(
        "the largest value",
        "The function max finds the largest value. / With max and min you find the ends of a list.",
        "It looks at each value once. / The list must not be empty.",
        "{w} = [{a}, {b}, {c}]\nprint(max({w}))\nprint(min({w}))",
    ),
    _python(
        "a slice",
        "A slice takes a part of a list. / With two numbers and a colon you cut out a part.",
        "The first number is taken, and the last is not. / The list itself stays whole.",
        "{w} = [{a}, {b}, {c}, 1, 2]\nprint({w}[1:3])",
        "{w} = '{t}'\nprint({w}[:2])",
    ),
    _python(
        "range",
        "The function range counts for you. / With range you get the numbers one after the other.",
        "It starts at 0 and stops before the last number. / It is often used in a for loop.",
        "total = 0\nfor n in range({d}):\n    total = total + n\nprint(total)",
    ),
    _sums(
        "addition",
        "Addition puts two amounts together. / When you add, you count on.",
        "The order does not matter. / Adding 0 changes nothing.",
        "print({a} + {b})\nprint({b} + {a})",
    ),
    _sums(
        "subtraction",
        "Subtraction takes one amount away from another. / When you subtract, you count back.",
        "It tells you how much is left. / It also tells you the difference.",
        "print({a} + {b} - {b})",
        "print({big} - {a})",
    ),
    _sums(
        "multiplication",
        "Multiplication is adding the same number again and again. / To multiply is to count equal groups.",
        "The order does not matter. / Rows of the same length can be counted like this.",
        "print({d} * {b})\nprint(sum([{b}] * {d}))",
    ),
    _sums(
        "division",
        "Division shares an amount in equal parts. / To divide is to make equal groups.",
        "It is the way back from multiplication. / What does not fit is the remainder.",
        "total = {d} * {b}\nprint(total // {d})",
    ),
    _sums(
        "a remainder",
        "A remainder is what is left over after sharing. / The remainder is the rest that does not fit.",
        "It is always smaller than the number you divide by. / In Python it is written with a percent sign.",
        "print({big} // {d})\nprint({big} % {d})",
    ),
    _sums(
        "even and odd numbers",
        "An even number can be shared by two. / Even numbers end in 0, 2, 4, 6 or 8.",
        "All other whole numbers are odd. / The remainder tells which it is.",
        "print({a} % 2 == 0)\nprint({b} % 2 == 0)",
    ),
    _sums(
        "a percent",
        "One percent is one part of a hundred. / Percent means out of a hundred.",
        "Fifty percent is one half. / A hundred percent is all of it.",
        "whole = {d} * 100\nprint(whole * 25 // 100)",
    ),
    _sums(
        "an average",
        "An average makes several numbers even. / To get an average, add up and divide by how many there are.",
        "It lies between the smallest and the largest. / It is also called the mean.",
        "numbers = [{a}, {a} + 2, {a} + 4]\nprint(sum(numbers) // len(numbers))",
    ),
    _sums(
        "an area",
        "An area tells how much room a flat thing takes. / The area of a rectangle is its length times its width.",
        "You can count the little squares. / A bigger area needs more paint.",
        "length = {d}\nwidth = {b}\nprint(length * width)",
    ),
    _science(
        "rain",
        "Rain is water that falls from clouds. / The sun warms the sea, and water goes up into the air.",
        "In the cold air it becomes small drops. / When the drops are heavy, they fall.",
        "Where does rain come from?",
        "It falls from clouds.",
    ),
    _science(
        "ice",
        "Ice is frozen water. / When water gets very cold, it becomes hard.",
        "Ice is lighter than water, so it floats. / In the sun it melts and is water again.",
        "Why does ice float?",
        "It is lighter than water.",
    ),
    _science(
        "the moon",
        "The moon goes around the earth. / The moon has no light of its own.",
        "We see it because the sun shines on it. / One trip takes about a month.",
        "Why does the moon shine?",
        "The sun shines on it.",
    ),
    _science(
        "day and night",
        "The earth turns around itself once a day. / Day and night come because the earth turns.",
        "Where the sun shines, it is day. / On the other side, it is night.",
        "Why is there day and night?",
        "Because the earth turns.",
    ),
    _science(
        "a shadow",
        "A shadow is a dark place behind a thing. / Where light cannot go, there is a shadow.",
        "When the sun is low, shadows are long. / At noon they are short.",
        "When are shadows long?",
        "When the sun is low.",
    ),
    _science(
        "a plant",
        "A plant needs light, water and air. / Plants make their food from light.",
        "The roots drink water from the ground. / The leaves catch the light.",
        "What does a plant need?",
        "Light, water and air.",
    ),
    _science(
        "a bee",
        "Bees fly from flower to flower. / Bees gather sweet juice and make honey.",
        "They carry pollen, so that fruit can grow. / A bee hive has one queen.",
        "What do bees make?",
        "They make honey.",
    ),
    _science(
        "sound",
        "Sound is a quick shaking of the air. / When something shakes, it makes a sound.",
        "Our ears feel the shaking. / Without air there is no sound.",
        "What is sound?",
        "A quick shaking of the air.",
    ),
    _science(
        "a magnet",
        "A magnet pulls iron. / A magnet has two ends.",
        "Two equal ends push each other away. / Wood and glass do not feel it.",
        "What does a magnet pull?",
        "It pulls iron.",
    ),
    _science(
        "wind",
        "Wind is moving air. / Warm air goes up, and cool air moves in.",
        "That movement is the wind. / Wind can turn a mill.",
        "What is wind?",
        "It is moving air.",
    ),
    _science(
        "the seasons",
        "There are four seasons in a year. / The earth is tilted, and so the seasons change.",
        "In summer the sun stands high. / In winter the days are short.",
        "How many seasons are there?",
        "There are four.",
    ),
    _science(
        "sleep",
        "Sleep gives rest to body and mind. / When we sleep, the body repairs itself.",
        "The mind sorts what it has learned. / Children need more sleep than adults.",
        "Why do we sleep?",
        "To rest.",
    ),
)
BY_NAME = {concept.name: concept for concept in CONCEPTS}
