# ruff: noqa: E501 - one wording a line
"""Short textbook passages: concept x audience x tone, with worked code whose output is computed (phi-1).

Everything a passage prints as the output of its code was produced by running that code while writing it.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from hornbook.synth.concepts import CONCEPTS, Concept
from hornbook.synth.phrase import Phrases, pick, sentence_case
from hornbook.synth.stories import meta, rng_for

VERSION = "textbooks-1"
SOURCE = "synth/textbooks"

AUDIENCES = {
    "child": Phrases(("[Today|In this lesson] we [learn|talk] about {name}.", "Let us look at {name} together.", "[Do you know|Have you heard of] {name}?")),
    "beginner": Phrases(("This [section|lesson] explains {name}.", "The topic of this [page|lesson] is {name}.", "First, a few words about {name}.")),
    "teacher": Phrases(("When you teach {name}, begin with a small example.", "Pupils often ask about {name}.", "Here is a short lesson on {name}.")),
}  # fmt: skip
_EXAMPLE = Phrases(
    (
        "Here is [an example|a small example]:",
        "[Look at|Try] this:",
        "For example:",
        "In Python it looks like this:",
    )
)
_OUTPUT = Phrases(("It prints:", "The program prints:", "The output is:", "When you run it, you see:"))
_CHECK = Phrases(
    ("[Question|A question for you]: {question} [Answer|The answer]: {answer}", "{question} {answer}")
)
_NAMES = ("count", "number", "total_so_far", "score", "points", "steps")
_TEXTS = ("apple", "moon", "river", "stone", "garden", "lamp", "bird", "kite", "drum")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A passage; `code` and the `output` it printed are empty for concepts without code."""

    text: str
    concept: str
    audience: str
    code: str
    output: str
    body: str


def run_trusted(code: str) -> str:
    """What our own template code prints. Never used on code from a model: that goes to the sandbox."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "<textbook>", "exec"), {})
    return out.getvalue().rstrip("\n")


def explain(concept: Concept, rng: Random, audience: str | None = None) -> Passage:
    """Word one concept for an audience."""
    audience = audience or pick(rng, tuple(AUDIENCES))
    parts = [pick(rng, concept.says), pick(rng, concept.why)]
    code = output = ""
    if concept.code:
        a, b, c = rng.sample(range(2, 40), 3)
        slots = {"a": a, "b": b, "c": c, "d": 2 + int(rng.random() * 8), "big": 40 + int(rng.random() * 60)}
        code = pick(rng, concept.code).format(**slots, w=pick(rng, _NAMES), t=pick(rng, _TEXTS))
        output = run_trusted(code)
        body = (
            f"{' '.join(parts)} {_EXAMPLE.render(rng, {})}\n\n{code}\n\n{_OUTPUT.render(rng, {})}\n\n{output}"
        )
    else:
        body = " ".join(parts)
        check = {"question": concept.question, "answer": concept.answer}
        if rng.random() < 0.5:
            body += " " + _CHECK.render(rng, check)
    opening = sentence_case(AUDIENCES[audience].render(rng, {"name": concept.name}))
    return Passage(
        text=f"{opening} {body}", concept=concept.name, audience=audience, code=code, output=output, body=body
    )


def write_passage(seed: int, index: int, *, held_out: bool = False) -> Passage:
    """Passage number `index` of the sample `seed`. Held-out passages pair concepts and audiences apart from training."""
    rng = rng_for(VERSION, seed, index, held_out)
    audiences = tuple(AUDIENCES)
    while True:
        number = int(rng.random() * len(CONCEPTS))
        audience = pick(rng, audiences)
        if (audiences[number % len(audiences)] == audience and number % 2 == 0) == held_out:
            return explain(CONCEPTS[number], rng, audience)


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
                code=passage.code,
                output=passage.output,
            ),
        }
