"""A pool of Python as the web has it, and lessons as a textbook has them (phi-1, sections 2.1 and 2.2).

The pool mixes a fifth of instructive functions with what teaches little: settings and set-up code, functions
without a docstring or with one that does not fit, code that is cut off or does nothing. Topics are skewed, as
on the web. Lessons explain one function to an audience and trace an example; topics are uniform. Both hold
training compositions of `primitives` alone, and `meta` says what each row is.
"""

from collections.abc import Iterator
from random import Random

from hornbook.synth.exercises import compose, draw_composition, draw_value
from hornbook.synth.phrase import pick, weighted
from hornbook.synth.primitives import ARGUMENT, BY_NAME, Composition, meaning
from hornbook.synth.stories import meta, rng_for

VERSION = "python-pool-1"
POOL_SOURCE, LESSON_SOURCE = "synth/python_pool", "synth/lessons"
KINDS = (("instructive", 0.2), ("settings", 0.4), ("undocumented", 0.25), ("broken", 0.15))
_LENGTHS = ((1, 0.5), (2, 0.5))

_OPAQUE = ("proc", "handle", "do_it", "helper", "func", "run_step", "tmp", "work", "process", "calc")
_SETTINGS = (
    "{NAME} = {n}",
    '{NAME} = "{word}"',
    "config['{word}'] = {n}",
    "parser.add_argument('--{word}', type=int, default={n})",
    "button_{word}.grid(row={k}, column={n})",
    "window.title('{word} {n}')",
    "{word}_label = Label(frame, text='{word}', width={n})",
    "logger.setLevel({n})",
    "os.environ['{NAME}'] = '{n}'",
    "import {word}",
    "from {word} import {other}",
    "app.register_blueprint({word}_pages, url_prefix='/{other}')",
    "# TODO: {word} {other}",
)
_WORDS = (
    "timeout",
    "path",
    "colour",
    "width",
    "user",
    "cache",
    "port",
    "theme",
    "host",
    "limit",
    "mode",
    "size",
)

AUDIENCES = {
    "beginner": (
        "Let us write a function that takes {thing} and does this: {steps}.",
        "We call it `{name}`.",
    ),
    "programmer": ("`{name}`: {steps}. It works on {thing}.", "Each step is one line."),
    "teacher": (
        "Ask your pupils for a function that can {steps}, given {thing}.",
        "A good name is `{name}`.",
    ),
}
_THINGS = {"numbers": "a list of numbers", "number": "a number", "words": "a list of words", "text": "a text"}


def _body(composition: Composition, argument: str) -> list[str]:
    lines, variable = [], argument
    for step in composition:
        lines.append(f"    result = {BY_NAME[step].line.format(v=variable)}")
        variable = "result"
    return [*lines, "    return result"]


def _says(composition: Composition) -> str:
    return ", then ".join(BY_NAME[step].says for step in composition)


def _function(name: str, composition: Composition, docstring: str) -> str:
    argument = ARGUMENT[BY_NAME[composition[0]].takes]
    shown = [f'    """{docstring}"""'] if docstring else []
    return "\n".join([f"def {name}({argument}):", *shown, *_body(composition, argument)])


def _skewed(rng: Random) -> Composition:
    """A composition as the web draws topics: the smallest of four draws in the order of their names."""
    length = weighted(rng, _LENGTHS)
    return min(draw_composition(rng, length, False) for _ in range(4))


def write_pool_document(seed: int, index: int) -> tuple[str, str]:
    """Document `index` of the pool `seed`: (text, kind)."""
    rng = rng_for(VERSION, seed, index, False)
    kind = weighted(rng, KINDS)
    composition = _skewed(rng)
    says = _says(composition)
    if kind == "instructive":
        name = "_then_".join(composition)
        return _function(name, composition, f"{says[0].upper()}{says[1:]}."), kind
    if kind == "settings":
        lines = []
        for _ in range(4 + int(rng.random() * 6)):
            word, other = pick(rng, _WORDS), pick(rng, _WORDS)
            line = pick(rng, _SETTINGS).format(
                word=word, other=other, NAME=word.upper(), n=int(rng.random() * 90), k=int(rng.random() * 9)
            )
            lines.append(line)
        return "\n".join(lines), kind
    if kind == "undocumented":
        if rng.random() < 0.5:
            return _function(f"{pick(rng, _OPAQUE)}{int(rng.random() * 9)}", composition, ""), kind
        wrong = _skewed(rng)
        told = _says(wrong)
        return _function("_then_".join(wrong), composition, f"{told[0].upper()}{told[1:]}."), kind
    text = _function("_then_".join(composition), composition, f"{says[0].upper()}{says[1:]}.")
    lines = text.split("\n")
    if rng.random() < 0.5:
        return "\n".join(lines[:-1])[: -3 - int(rng.random() * 12)], kind
    return "\n".join([lines[0], "    return None", *lines[1:]]), kind


def pool_rows(seed: int, rows: int, *, start: int = 0) -> Iterator[dict[str, str]]:
    """Rows of a documents corpus; `meta` has `kind` and `educational` (the truth a rater is after)."""
    for index in range(start, rows):
        text, kind = write_pool_document(seed, index)
        yield {
            "id": f"pool-{seed}-{index}",
            "text": text,
            "source": POOL_SOURCE,
            "meta": meta(VERSION, seed, index, kind=kind, educational=kind == "instructive"),
        }


def write_lesson(seed: int, index: int) -> tuple[str, Composition, str]:
    """Lesson `index` of the sample `seed`: (text, composition, audience)."""
    rng = rng_for(VERSION + "/lesson", seed, index, False)
    composition = draw_composition(rng, weighted(rng, _LENGTHS), False)
    audience = pick(rng, tuple(AUDIENCES))
    kind = BY_NAME[composition[0]].takes
    opening = " ".join(
        part.format(thing=_THINGS[kind], steps=_says(composition), name="_then_".join(composition))
        for part in AUDIENCES[audience]
    )
    exercise = compose(composition, rng)
    value = draw_value(kind, rng)
    trace, reached = [], value
    for name in composition:
        reached = meaning((name,), reached)
        trace.append(f"{BY_NAME[name].says}: {reached!r}")
    text = f"{opening}\n\n{exercise.solution}\n\nTake {value!r}. " + "; then ".join(trace) + "."
    return text, composition, audience


def lesson_rows(seed: int, rows: int, *, start: int = 0) -> Iterator[dict[str, str]]:
    """Rows of a documents corpus."""
    for index in range(start, rows):
        text, composition, audience = write_lesson(seed, index)
        yield {
            "id": f"lesson-{seed}-{index}",
            "text": text,
            "source": LESSON_SOURCE,
            "meta": meta(VERSION, seed, index, composition="|".join(composition), audience=audience),
        }
