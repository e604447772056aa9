"""Additions inside short conversations: one asks for a sum, the other says it (section 4 of the paper).

Every word is one token and every digit is one, so that the numbers stand at places that depend on what was
said before: up to three sentences of small talk, two names and twenty-six ways to ask. The paper's dialogues
were written by a language model; ours are put together from the sentences below.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hornbook.theory.arithmetic.digits import length_of, to_digits
from hornbook.theory.arithmetic.formats import Part, Problems
from hornbook.theory.arithmetic.lines import GAP, SIGNS, Alphabet, Lines, Tokens, compact

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "June", "Kai", "Lea")

SMALL_TALK = (
    "good morning .",
    "hello again .",
    "it is raining today , so we stay in .",
    "the shop was full of people this morning .",
    "we have more boxes than last week .",
    "my sister is in the other room .",
    "thank you for the tea .",
    "I found the old list under the table .",
    "the train was late , so I had time .",
    "there is a new teacher in our school .",
    "do you have a minute ?",
    "I have a question for you .",
)

# The first number stands at A, the second at B.
QUESTIONS = (
    "what is A plus B ?",
    "what is A and B together ?",
    "how much is A plus B ?",
    "can you add A and B for me ?",
    "please add A to B .",
    "please tell me the sum of A and B .",
    "what do A and B come to ?",
    "I have A and you have B . how many is that ?",
    "there are A books here and B there . how many in all ?",
    "we had A boxes and now B more came . how many do we have ?",
    "A people came in the morning and B at night . how many came ?",
    "one list has A names and the other B . how many is that ?",
    "one box holds A and the other holds B . what is the total ?",
    "if I add B to A , what do I have ?",
    "my book has A pages and yours has B . how many is that ?",
    "I counted A , then B more . what is the total ?",
    "do you know the sum of A and B ?",
    "tell me , how much is A and B ?",
    "we need A for the school and B for the shop . how many do we need ?",
    "take A and add B . what do you have ?",
    "A here , B there : how many in all ?",
    "could you find A plus B ?",
    "what number is A plus B ?",
    "the table was A and the bed was B . what did we pay ?",
    "help me with A plus B .",
    "what is the total of A and B ?",
)

REPLIES = (
    "that is",
    "it is",
    "the sum is",
    "the total is",
    "that makes",
    "together that is",
    "of course , it is",
    "one minute . I have it : it is",
    "in all that makes",
    "sure . the number is",
)

HELD_OUT_QUESTIONS = 5
"""The last so many questions are asked in the test alone."""


def _words() -> list[str]:
    text = " ".join([*SMALL_TALK, *QUESTIONS, *REPLIES])
    known = {word for word in text.split() if word not in ("A", "B") and word not in SIGNS.ids}
    return sorted(known - set(NAMES))


ALPHABET = Alphabet([*SIGNS.symbols[11:], *NAMES, *_words()])
"""The signs of bare arithmetic under the same numbers, the names, and every word of the sentences."""


def converse(
    problems: Problems,
    rng: np.random.Generator,
    *,
    part: Part = "train",
    small_talk: int = 3,
    reverse: bool = False,
) -> Lines:
    """Each addition as a conversation; the prompt ends where the reply is about to say the number.

    part: "test" asks only in wordings that "train" never uses. small_talk: sentences before the question, at
    most. reverse: the reply says the number from the units upwards.
    """
    n = len(problems.cell)
    asked = len(QUESTIONS) - HELD_OUT_QUESTIONS
    first, count = (0, asked) if part == "train" else (asked, HELD_OUT_QUESTIONS)
    question = rng.integers(first, first + count, n)
    one = rng.integers(0, len(NAMES), n)
    other = (one + rng.integers(1, len(NAMES), n)) % len(NAMES)
    name = np.array([ALPHABET.ids[name] for name in NAMES], np.uint8)[:, None]
    # Where B is asked before A the two numbers change places; a sum does not mind.
    before, between, after = (_table(piece) for piece in zip(*map(_cut, QUESTIONS), strict=True))
    colon = np.full((n, 1), ALPHABET.ids[":"], np.uint8)
    talk = [_TALK[rng.integers(0, len(_TALK), n) * rng.integers(0, 2, n)] for _ in range(small_talk)]
    spoken = [
        name[one],
        colon,
        *talk,
        before[question],
        _spelled(problems.a),
        between[question],
        _spelled(problems.b),
        after[question],
        name[other],
        colon,
        _table(REPLIES)[rng.integers(0, len(REPLIES), n)],
        _spelled(problems.c)[:, :: -1 if reverse else 1],
        np.full((n, 1), ALPHABET.end, np.uint8),
    ]
    tokens, length = compact(np.concatenate(spoken, 1), ALPHABET.end)
    return Lines(
        tokens=tokens,
        prompt=length - length_of(problems.c) - 1,
        length=length,
        cell=problems.cell,
        alphabet=ALPHABET,
        number="reversed" if reverse else "forward",
    )


def _cut(question: str) -> tuple[str, str, str]:
    """What is said before, between and after the two numbers."""
    words = question.split()
    first, second = sorted((words.index("A"), words.index("B")))
    return " ".join(words[:first]), " ".join(words[first + 1 : second]), " ".join(words[second + 1 :])


def _table(sentences: Sequence[str]) -> Tokens:
    """(sentences, longest) tokens, gaps behind the shorter ones."""
    words = [sentence.split() for sentence in sentences]
    out = np.full((len(words), max(1, *map(len, words))), GAP, np.uint8)
    for row, sentence in zip(out, words, strict=True):
        row[: len(sentence)] = ALPHABET.encode(sentence)
    return out


_TALK = _table(["", *SMALL_TALK])


def _spelled(number: NDArray[np.uint32]) -> Tokens:
    """(n, longest) digits, the most significant first, gaps before shorter numbers."""
    digits = np.zeros((number.shape[1], 4 * len(number)), np.uint8)
    to_digits(number, digits)
    place = np.arange(digits.shape[1])
    digits[place >= length_of(number)[:, None]] = GAP
    return digits[:, ::-1]
