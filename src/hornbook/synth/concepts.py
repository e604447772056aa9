# ruff: noqa: E501 - one wording a line
"""What the textbooks teach about Python and arithmetic, with `CONCEPTS` of all fields. Data only.

Code has slots; what it prints is computed when a passage is written. Numbers: {a} {b} {c} differ and lie
between 2 and 39, {d} between 2 and 9, {big} between 40 and 99; {sum} = a + b, {less} = big - a,
{product} = d * b, {share} = big // d, {rest} = big % d. Words: {w} a variable name, {t} and {s} two words.
People and places as in the stories.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Concept:
    """`field` is python, arithmetic or science; `says` and `why` explain it, `scenes` show it in the small
    world, `code` in a program; `verb` is what follows its name."""

    name: str
    field: str
    says: tuple[str, ...]
    why: tuple[str, ...]
    code: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()
    question: str = ""
    answer: str = ""
    verb: str = "is"


def concept(
    name: str,
    field: str,
    says: str,
    why: str,
    *,
    code: tuple[str, ...] = (),
    scenes: tuple[str, ...] = (),
    check: str = "? ",
    verb: str = "is",
) -> Concept:
    """A concept; ` / ` parts alternatives, and `check` is a question and its answer."""
    question, _, answer = check.partition("? ")
    return Concept(
        name=name,
        field=field,
        says=tuple(says.split(" / ")),
        why=tuple(why.split(" / ")),
        code=code,
        scenes=scenes,
        question=f"{question}?" if question else "",
        answer=answer,
        verb=verb,
    )


PYTHON_AND_SUMS = (
    concept(
        "a variable",
        "python",
        "A variable is a name for a value. / A variable keeps a value under a name. / When you give a name to a value, you have a variable.",
        "With the name, you can use the value again. / You can give it another value later. / A good name says what the value counts.",
        code=(
            "{w} = {a}\n{w} = {w} + {b}\nprint({w})",
            "first = {a}\nsecond = {b}\nprint(first + second)",
            "{w} = {big}\nprint({w} - {a})\nprint({w})",
        ),
    ),
    concept(
        "a list",
        "python",
        "A list holds several values in order. / A list is a row of values in square brackets. / With a list, one name stands for many values.",
        "You can count its values and take one of them. / The first value has the number 0. / New values go to the end with append.",
        code=(
            "{w} = [{a}, {b}, {c}]\nprint(len({w}))\nprint({w}[0])",
            "{w} = [{a}, {b}]\n{w}.append({c})\nprint({w})",
            "{w} = ['{t}', '{s}']\nprint({w}[1])",
        ),
    ),
    concept(
        "a for loop",
        "python",
        "A for loop does the same thing for each value. / A for loop takes the values of a list one by one. / With a for loop, a program visits every value of a list.",
        "You write the step once, and Python repeats it. / It ends by itself after the last value. / The name after for stands for one value at a time.",
        code=(
            "total = 0\nfor n in [{a}, {b}, {c}]:\n    total = total + n\nprint(total)",
            "for n in [{a}, {b}]:\n    print(n * 2)",
            "for word in ['{t}', '{s}']:\n    print(word, len(word))",
        ),
    ),
    concept(
        "a while loop",
        "python",
        "A while loop goes on as long as a test is true. / A while loop repeats its lines until the test is false.",
        "Something must change in the loop, or it never ends. / It is good when you do not know how often to repeat. / The test is made before each round.",
        code=(
            "{w} = {a}\nwhile {w} < 100:\n    {w} = {w} * 2\nprint({w})",
            "{w} = {big}\nwhile {w} > {d}:\n    {w} = {w} - {d}\nprint({w})",
        ),
    ),
    concept(
        "an if statement",
        "python",
        "An if statement chooses what to do. / With if, a program can take one of two ways. / An if statement runs its lines when a test is true.",
        "The part under else runs when the test is false. / The test is either true or false. / Without else, nothing happens when the test is false.",
        code=(
            "{w} = {a}\nif {w} > {b}:\n    print('more')\nelse:\n    print('not more')",
            "{w} = {big}\nif {w} % 2 == 0:\n    print('even')\nelse:\n    print('odd')",
        ),
    ),
    concept(
        "a function",
        "python",
        "A function is a small program with a name. / A function takes values and gives one back. / With def you give a name to some lines of a program.",
        "You write it once and call it often. / The word return gives the result. / The value in the brackets is called the argument.",
        code=(
            "def add_{b}(n):\n    return n + {b}\n\nprint(add_{b}({a}))",
            "def times_{d}(n):\n    return n * {d}\n\nprint(times_{d}({a}))\nprint(times_{d}({b}))",
            "def larger(a, b):\n    return a if a > b else b\n\nprint(larger({a}, {b}))",
        ),
    ),
    concept(
        "a string",
        "python",
        "A string is a piece of text in quotes. / Text in a program is called a string. / A word between two quotes is a string.",
        "You can put strings together with plus. / You can ask for its length. / Each letter has a number, and the first one has 0.",
        code=(
            "{w} = '{t}'\nprint(len({w}))",
            "{w} = '{t}'\nprint({w}.upper())",
            "print('{t}' + ' and ' + '{s}')",
            "{w} = '{t}'\nprint({w}[0])",
        ),
    ),
    concept(
        "a dictionary",
        "python",
        "A dictionary keeps a value for each key. / A dictionary finds a value by its key.",
        "It is like a price list: you look up the name and get the number. / A key in square brackets gives its value. / Each key occurs only once.",
        code=(
            "price = {{'{t}': {a}, '{s}': {b}}}\nprint(price['{t}'])",
            "price = {{'{t}': {a}}}\nprice['{s}'] = {b}\nprint(len(price))",
        ),
    ),
    concept(
        "a list comprehension",
        "python",
        "A list comprehension makes a new list in one line. / A list comprehension builds a list from another list.",
        "With if, it takes only some of the values. / It is a short form of a for loop. / The old list stays as it is.",
        code=(
            "{w} = [{a}, {b}, {c}]\nprint([n * 2 for n in {w}])",
            "{w} = [{a}, {b}, {c}]\nprint([n for n in {w} if n > {a}])",
            "print([len(word) for word in ['{t}', '{s}']])",
        ),
    ),
    concept(
        "sorting",
        "python",
        "The function sorted puts values in order. / Sorting brings the smallest value to the front.",
        "The old list stays as it is. / The result is a new list. / Words are put in the order of the alphabet.",
        code=("{w} = [{a}, {b}, {c}]\nprint(sorted({w}))", "print(sorted(['{t}', '{s}']))"),
    ),
    concept(
        "a slice",
        "python",
        "A slice takes a part of a list or a string. / Two numbers with a colon between them cut out a part.",
        "The first number is taken, and the last is not. / The list itself stays whole. / Without a first number, the slice begins at the start.",
        code=("{w} = [{a}, {b}, {c}, {d}]\nprint({w}[1:3])", "{w} = '{t}'\nprint({w}[:2])"),
    ),
    concept(
        "the function range",
        "python",
        "The function range counts for you. / With range you get numbers one after the other.",
        "It starts at 0 and stops before the last number. / It is often used in a for loop.",
        code=(
            "total = 0\nfor n in range({d}):\n    total = total + n\nprint(total)",
            "print(list(range({d})))",
            "print(list(range({d}, {d} + 4)))",
        ),
    ),
    concept(
        "addition",
        "arithmetic",
        "Addition puts two amounts together. / When you add, you count on.",
        "The order does not matter. / Adding 0 changes nothing. / The result is called the sum.",
        code=("print({a} + {b})\nprint({b} + {a})",),
        scenes=(
            "{H} has {a} {x}. {F} gives {him} {b} more. Now {H} has {a} + {b} = {sum} {x}.",
            "There are {a} {x} {at}, and then {b} more. Together, these are {a} + {b} = {sum} {x}.",
        ),
    ),
    concept(
        "subtraction",
        "arithmetic",
        "Subtraction takes one amount away from another. / When you subtract, you count back.",
        "It tells you how much is left. / It also tells you how much more one number is than another. / The order matters.",
        code=("print({big} - {a})\nprint({big} - {less})",),
        scenes=(
            "{H} has {big} {x} and gives {a} of them to {F}. Now {H} has {big} - {a} = {less} {x}.",
            "{H} needs {big} {x} and has {a}. So {he} still needs {big} - {a} = {less} {x}.",
        ),
    ),
    concept(
        "multiplication",
        "arithmetic",
        "Multiplication is adding the same number again and again. / To multiply is to count equal groups.",
        "The order does not matter. / Multiplying by 1 changes nothing. / The result is called the product.",
        code=("print({d} * {b})\nprint(sum([{b}] * {d}))",),
        scenes=(
            "{H} has {d} boxes with {b} {x} in each. These are {d} * {b} = {product} {x}.",
            "{H} plants {d} rows of {b} tulips. These are {d} * {b} = {product} tulips.",
        ),
    ),
    concept(
        "division",
        "arithmetic",
        "Division shares an amount in equal parts. / To divide is to make equal groups.",
        "It undoes a multiplication. / Nobody can divide by 0. / What does not fit is called the remainder.",
        code=("total = {d} * {b}\nprint(total // {d})",),
        scenes=(
            "{H} shares {product} {x} equally among {d} friends. Each friend gets {product} / {d} = {b} {x}.",
            "{H} puts {product} {x} into {d} boxes. There are {product} / {d} = {b} {x} in each box.",
        ),
    ),
    concept(
        "a remainder",
        "arithmetic",
        "A remainder is what is left over after sharing. / The remainder is the part that does not fit.",
        "It is always smaller than the number you divide by. / In Python it is written with a percent sign. / When the remainder is 0, the sharing is fair.",
        code=("print({big} // {d})\nprint({big} % {d})",),
        scenes=(
            "{H} puts {big} {x} into groups of {d}. That makes {share} groups, and {rest} {x} are left over.",
        ),
    ),
    concept(
        "even and odd numbers",
        "arithmetic",
        "An even number can be shared by two with nothing left over. / Even numbers end in 0, 2, 4, 6 or 8.",
        "All other whole numbers are odd. / Even and odd numbers take turns. / Two odd numbers make an even sum.",
        code=("print({a} % 2 == 0)\nprint({b} % 2 == 0)",),
        verb="are",
    ),
    concept(
        "a percent",
        "arithmetic",
        "One percent is one part of a hundred. / Percent means out of a hundred.",
        "Fifty percent is one half. / A hundred percent is all of it. / Twenty-five percent is a quarter.",
        code=(
            "whole = {d} * 100\nprint(whole * 25 // 100)",
            "whole = {d} * 10\nprint(whole * 50 // 100)",
        ),
    ),
    concept(
        "an average",
        "arithmetic",
        "To get an average, add up the numbers and divide by how many there are. / An average shares a sum equally.",
        "It lies between the smallest and the largest number. / It is also called the mean.",
        code=("numbers = [{a}, {a} + 2, {a} + 4]\nprint(sum(numbers) // len(numbers))",),
    ),
    concept(
        "an area",
        "arithmetic",
        "An area tells how much room a flat thing takes. / The area of a rectangle is its length times its width.",
        "You can count the little squares in it. / A bigger area needs more paint.",
        code=("length = {d}\nwidth = {b}\nprint(length * width)",),
        scenes=(
            "{H} paints a wall that is {d} feet high and {b} feet long. Its area is {d} * {b} = {product} square feet.",
        ),
    ),
)
