"""phi-1.5's textbooks: some 20,000 topics from a list of seeds, with samples of web text for variety
(2309.05463).

A topic is a subject of a field seen from one angle. Subjects and angles are lists to be read and edited
here; their product is the list of topics, and every one of them has its place in it by number.
"""

import zlib
from collections.abc import Sequence
from functools import cache
from random import Random

from hornbook.synth import checks
from hornbook.synth.diversity import rouge_precision
from hornbook.synth.phrase import pick
from hornbook.synth.plans import Drawn
from hornbook.synth.scripts import Assignment, Row
from hornbook.synth.stories import meta, rng_for
from hornbook.synth.taught import AUDIENCES, TONES
from hornbook.synth.topic_lists import ANGLES, FIELDS

VERSION = "topics-1"
SOURCE = "synth/topics"
SNIPPET_WORDS = 60

_PROMPT = """\
Write a passage of a textbook on common sense and general knowledge, for {audience}, in a {tone} tone, 120 to
250 words. Its topic is {subject} ({field}): {angle}. Explain, give reasons, and show it by one case from
daily life.
{snippet}Write only the passage.
"""
_SNIPPET = """\
Let a word or an idea of this unrelated text find its way into the case, without quoting it: "{text}"
"""


@cache
def subjects() -> list[tuple[str, str]]:
    """(field, subject) in order."""
    return [(field, subject) for field, listed in FIELDS.items() for subject in listed.split(", ")]


def topic_count() -> int:
    """How many topics there are."""
    return len(subjects()) * len(ANGLES)


def topic(number: int) -> tuple[str, str, str]:
    """(field, subject, angle) of topic `number`; neighbours in number are far apart in kind."""
    known = subjects()
    field, subject = known[number % len(known)]
    return field, subject, ANGLES[(number // len(known)) % len(ANGLES)]


def snippet_of(texts: Sequence[str], rng: Random) -> str:
    """Some words out of the middle of one of the texts; empty if there are none."""
    if not texts:
        return ""
    found = pick(rng, texts).split()
    begin = rng.randrange(max(1, len(found) - SNIPPET_WORDS))
    return " ".join(found[begin : begin + SNIPPET_WORDS]).replace('"', "'")


def topic_assignments(seed: int, *, snippets: Sequence[str] = ()) -> Drawn[Assignment]:
    """Passages on topics in an order drawn by the seed: none twice before all were had."""
    count = topic_count()
    order = sorted(range(count), key=lambda n: zlib.crc32(f"{VERSION}/{seed}/{n}".encode()))

    def draw(index: int) -> Assignment:
        rng = rng_for(VERSION, seed, index, False)
        field, subject, angle = topic(order[index % count])
        text = snippet_of(snippets, rng)
        audience = pick(rng, AUDIENCES)
        prompt = _PROMPT.format(
            audience=audience, tone=pick(rng, TONES), subject=subject, field=field, angle=angle,
            snippet=_SNIPPET.format(text=text) if text else "",
        )  # fmt: skip
        name = f"topic-{seed}-{index}"

        def check(answer: str) -> tuple[Row | None, str]:
            answer = answer.strip()
            problem = (
                checks.length_problem(answer, 80, 350)
                or checks.language_problem(answer)
                or checks.repetition_problem(answer)
            )
            if not problem and text and rouge_precision(answer, text, 6) > 0.05:
                problem = "The passage quotes the unrelated text; take only an idea from it."
            facts = meta(
                VERSION, seed, index, topic=[field, subject, angle], snippet=bool(text), verified="form"
            )
            row = {"id": name, "text": answer, "source": SOURCE, "meta": facts}
            return (None, problem) if problem else (row, "")

        facets = {"field": field, "subject": subject, "angle": angle, "audience": audience}
        return Assignment(id=name, prompt=prompt, check=check, facets=facets)

    return Drawn(draw)
