# ruff: noqa: E501 - one wording a line
"""Short textbook passages: concept x audience, with a scene or worked code whose output is computed (phi-1).

Everything a passage prints as the output of its code was produced by running that code while writing it.
A passage's plan is its concept with the wordings chosen for it; test plans are never taught.
"""

import contextlib
import io
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from hornbook.synth.concepts import Concept
from hornbook.synth.concepts_science import CONCEPTS
from hornbook.synth.lexicon import THINGS
from hornbook.synth.phrase import Phrases, pick, sentence_case
from hornbook.synth.problem_words import SCENES
from hornbook.synth.stories import meta, rng_for
from hornbook.synth.world import plan_story, slots

VERSION = "textbooks-2"
SOURCE = "synth/textbooks"
HELD_OUT_EVERY = 6
"""One plan of a concept in six, and at least one, is for testing only."""

AUDIENCES = {
    "child": Phrases(("[Today|In this lesson] we [learn|talk] about {name}.", "Let us look at {name} together.", "Do you know what {name} {is}?")),
    "beginner": Phrases(("This [section|lesson] explains {name}.", "The topic of this [page|lesson] is {name}.", "What {is} {name}?")),
    "teacher": Phrases(("Here is a short lesson about {name}.", "Pupils often ask what {name} {is}.", "This is how you can tell pupils about {name}.")),
}  # fmt: skip
_EXAMPLE = Phrases(
    ("Here is [an example|a small example]:", "[Look at|Try] this:", "In Python it looks like this:")
)
_OUTPUT = Phrases(("It prints:", "The program prints:", "The output is:"))
_CHECK = Phrases(
    ("[Question|A question for you]: {question} [Answer|The answer]: {answer}", "{question} {answer}")
)
_NAMES = (
    "count",
    "number",
    "score",
    "points",
    "steps",
    "value",
    "apples",
    "coins",
    "books",
    "stars",
    "pages",
)
_TEXTS = tuple(thing.noun for thing in THINGS)
_COUNTED = (*SCENES[0].things, *SCENES[1].things)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A passage; `code` and the `output` it printed are empty for concepts without code."""

    text: str
    concept: str
    audience: str
    code: str
    output: str
    body: str
    plan: str


def run_trusted(code: str) -> str:
    """What our own template code prints. Never used on code from a model: that goes to the sandbox."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "<textbook>", "exec"), {})
    return out.getvalue().rstrip("\n")


Choice = tuple[int, int, int, int]
"""Which of `says`, `why`, the examples (code first, then scenes) and whether a check question follows."""


@cache
def plans(concept: Concept, held_out: bool) -> tuple[Choice, ...]:
    """All plans of a concept on one side of the split: in the order of a stable hash, the first are held out."""
    choices = itertools.product(
        range(len(concept.says)),
        range(len(concept.why)),
        range(len(concept.code) + len(concept.scenes)),
        range(2 if concept.question else 1),
    )
    ordered = sorted(choices, key=lambda choice: zlib.crc32(f"{concept.name}/{choice}".encode()))
    cut = max(1, len(ordered) // HELD_OUT_EVERY)
    return tuple(ordered[:cut] if held_out else ordered[cut:])


def explain(concept: Concept, rng: Random, audience: str | None = None, *, held_out: bool = False) -> Passage:
    """Word one concept for an audience, on one side of the split."""
    audience = audience or pick(rng, tuple(AUDIENCES))
    choice = pick(rng, plans(concept, held_out))
    table = slots_of(rng)
    body = f"{concept.says[choice[0]]} {concept.why[choice[1]]}"
    code = output = ""
    if choice[2] < len(concept.code):
        code = concept.code[choice[2]].format_map(table)
        output = run_trusted(code)
        body += f" {_EXAMPLE.render(rng, {})}\n\n{code}\n\n{_OUTPUT.render(rng, {})}\n\n{output}"
    else:
        body += " " + sentence_case(concept.scenes[choice[2] - len(concept.code)].format_map(table))
    if choice[3]:
        body += " " + _CHECK.render(rng, {"question": concept.question, "answer": concept.answer})
    opening = sentence_case(AUDIENCES[audience].render(rng, {"name": concept.name, "is": concept.verb}))
    return Passage(
        text=f"{opening} {body}",
        concept=concept.name,
        audience=audience,
        code=code,
        output=output,
        body=body,
        plan=f"{concept.name}/{'/'.join(map(str, choice))}",
    )


def slots_of(rng: Random) -> dict[str, Any]:
    """Numbers, words and people for the slots of a concept's texts."""
    a, b, c = rng.sample(range(2, 40), 3)
    d, big = 2 + int(rng.random() * 8), 40 + int(rng.random() * 60)
    first, second = rng.sample(_TEXTS, 2)
    numbers = {"a": a, "b": b, "c": c, "d": d, "big": big, "sum": a + b, "less": big - a, "product": d * b}
    parts = {"share": big // d, "rest": big % d}
    names = {"w": pick(rng, _NAMES), "t": first, "s": second, "x": pick(rng, _COUNTED)}
    return {**slots(plan_story(rng), rng), **numbers, **parts, **names}


def write_passage(seed: int, index: int, *, held_out: bool = False) -> Passage:
    """Passage number `index` of the sample `seed`. Held-out passages have plans that training never has."""
    rng = rng_for(VERSION, seed, index, held_out)
    return explain(pick(rng, CONCEPTS), rng, held_out=held_out)


def textbook_rows(
    seed: int, rows: int, *, start: int = 0, held_out: bool = False
) -> Iterator[dict[str, str]]:
    """Rows of a documents corpus."""
    for index in range(start, rows):
        passage = write_passage(seed, index, held_out=held_out)
        yield {
            "id": f"textbook-{'test' if held_out else 'train'}-{seed}-{index}",
            "text": passage.text,
            "source": SOURCE,
            "meta": meta(
                VERSION,
                seed,
                index,
                concept=passage.concept,
                audience=passage.audience,
                plan=passage.plan,
                code=passage.code,
                output=passage.output,
            ),
        }
