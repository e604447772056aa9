"""What a teacher's text must satisfy, each rule answering with a sentence that can go back to the teacher."""

import ast
import re
from collections.abc import Sequence

from hornbook.synth.diversity import words
from hornbook.synth.lexicon import VERB_BY_BASE

_STRANGE = re.compile(r"[^\x20-\x7e\n\u2018\u2019\u201c\u201d\u2013\u2014\u2026]")
_ENDS = re.compile("[.!?][\"\u201d']?(?=\\s|$)")
_COMMON = frozenset(
    {"the", "a", "and", "to", "of", "in", "was", "is", "it", "he", "she", "they", "i", "you", "that", "for"}
    | {"with", "on", "had", "said", "his", "her"}
)


def length_problem(text: str, least: int, most: int) -> str:
    """Empty if the text has between `least` and `most` words, else what to change."""
    count = len(words(text))
    if count < least:
        return f"The text has {count} words; write at least {least}."
    if count > most:
        return f"The text has {count} words; write at most {most}."
    return ""


def whole_sentences(text: str) -> str:
    """The text up to the end of its last whole sentence; all of it where none ends."""
    ends = list(_ENDS.finditer(text))
    return text[: ends[-1].end()] if ends else text


def missing_words(text: str, required: Sequence[str]) -> list[str]:
    """Required words that do not occur in any form (plural, past, -ing; irregular verbs of the lexicon)."""
    present = set(words(text))
    return [word for word in required if not present & _forms(word)]


def _forms(word: str) -> set[str]:
    low = word.lower()
    forms = {low, low + "s", low + "es", low + "ed", low + "d", low + "ing", low + "er", low + "est"}
    if low.endswith("e"):
        forms |= {low[:-1] + "ing", low[:-1] + "er"}
    if low.endswith("y"):
        forms |= {low[:-1] + "ies", low[:-1] + "ied"}
    if len(low) > 2:
        forms |= {low + low[-1] + "ing", low + low[-1] + "ed"}
    verb = VERB_BY_BASE.get(low)
    return forms | ({verb.past, verb.ing} if verb else set())


def language_problem(text: str) -> str:
    """Empty if the text looks like plain English, else what to change."""
    tokens = words(text)
    if len(_STRANGE.findall(text)) > 2:
        return "The text holds characters that do not belong to plain English; leave them out."
    if not tokens:
        return "The text is empty."
    if len(tokens) >= 20 and sum(token in _COMMON for token in tokens) / len(tokens) < 0.12:
        return "The text does not read as English prose; write plain sentences."
    return ""


def repetition_problem(text: str) -> str:
    """Empty unless more than a third of the 4-grams are repeats."""
    tokens = words(text)
    grams = list(zip(*(tokens[at:] for at in range(4))))
    if len(grams) > 12 and len(set(grams)) < 2 / 3 * len(grams):
        return "The text repeats itself; say each thing once."
    return ""


def story_problem(text: str, required: Sequence[str]) -> str:
    """The first thing wrong with a story, or empty (TinyStories, step 7: length, words, form)."""
    missing = missing_words(text, required)
    return (
        length_problem(text, 50, 400)
        or language_problem(text)
        or repetition_problem(text)
        or (f"These words are missing: {', '.join(missing)}. Use each of them." if len(missing) > 1 else "")
        or (
            "The last sentence is cut off; end the story."
            if text.rstrip()[-1:] not in tuple('.!?"\u201d')
            else ""
        )
    )


def question_problem(text: str) -> str:
    """The first thing wrong with a word problem's question, or empty (TinyGSM, step 4)."""
    if "?" not in text:
        return "There is no question mark; end with one question."
    if len(re.findall(r"\d+", text)) < 2:
        return "There are fewer than two numbers written in digits."
    return length_problem(text, 12, 150) or language_problem(text)


def program_problem(program: str, name: str) -> str:
    """The first thing wrong with the form of a program, or empty; whether it runs is for the sandbox."""
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError, RecursionError) as error:
        return f"The program does not parse: {error}."
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    if [function.name for function in functions] != [name]:
        return f"Define exactly one function, named {name}."
    if not any(isinstance(node, ast.Return) and node.value for node in ast.walk(functions[0])):
        return f"The function {name} returns nothing."
    return ""
