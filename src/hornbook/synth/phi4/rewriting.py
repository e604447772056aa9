"""Passages rewritten into other forms: exercises, a discussion, a task in reasoning (phi-4, 2.2).

A rewrite stays with the passage (its rarer words occur there) without being a copy of it.
"""

from collections.abc import Mapping

from hornbook.synth import checks
from hornbook.synth.diversity import rouge_precision
from hornbook.synth.phi4.questions import grounded
from hornbook.synth.scripts import Row, Script, Scripted, Work
from hornbook.synth.stories import meta

VERSION = "phi4-rewriting-1"
SOURCE = "synth/phi4/rewriting"

FORMS: Mapping[str, str] = {
    "exercises": "a short exercise sheet: three questions that make a pupil think, from easy to hard, and "
    "after all of them the worked answers",
    "discussion": "a discussion of two people who do not agree at first; each gives reasons, and at the end "
    "they see what is right",
    "reasoning": "a problem that is solved by thinking in steps, then the solution, one numbered step a "
    "line, and a last line that says what was found",
    "lesson": "a lesson for a beginner that explains every term in simple words and gives one example "
    "of its own",
}
_PROMPT = """\
Here is a passage:

{passage}

Write {form}. Use only what the passage says and what follows from it, in your own words, 80 to 300 words.
A reader who does not know the passage must understand everything. Write only the text itself.
"""
LEAST_GROUNDED, MOST_COPIED = 0.4, 0.5


def rewrite_problem(text: str, passage: str) -> str:
    """What is wrong with a rewrite, or nothing."""
    problem = (
        checks.length_problem(text, 60, 400)
        or checks.language_problem(text)
        or checks.repetition_problem(text)
    )
    if problem:
        return problem
    if grounded(text, passage) < LEAST_GROUNDED:
        return "The text has left the passage; write on what the passage says."
    if rouge_precision(text, passage, 5) > MOST_COPIED:
        return "The text copies the passage; say it in your own words."
    return ""


def rewrite_task(seed_id: str, passage: str, form: str, *, seed: int = 0, about: str = "all") -> Scripted:
    """One passage in one of the `FORMS`. about: the passage's cluster."""

    def read(text: str) -> tuple[Row | None, str]:
        text = text.strip()
        problem = rewrite_problem(text, passage)
        facts = meta(VERSION, seed, 0, seed_id=seed_id, form=form, verified="form, grounded")
        row = {"id": f"rewrite-{seed}-{form}-{seed_id}", "text": text, "source": SOURCE, "meta": facts}
        return (None, problem) if problem else (row, "")

    def steps(work: Work) -> Script:
        return (yield from work.write(_PROMPT.format(passage=passage, form=FORMS[form]), read))

    facets = {"form": form, "about": about}
    return Scripted(id=f"rewrite-{seed}-{form}-{seed_id}", steps=steps, facets=facets)
