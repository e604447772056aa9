"""TinyGSM's prompts (2312.09241, section 2): problems with programs in one step, in two, and with what does
not matter.

One step: ten new pairs a call. Two steps: ten variants of a question, then a program for each. Irrelevant
context: the variants hold facts that are of no use. A pair is kept when the question is long enough and has
digits, and the program runs and returns a number; whether it is right nobody knows.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

from hornbook.lm.parse import extract_code
from hornbook.sandbox import Job, run_many
from hornbook.synth import checks, prompts
from hornbook.synth.scripts import Rejected, Row, Script, Scripted, Work
from hornbook.synth.stories import meta
from hornbook.synth.word_problems import write_problem

VERSION = "word-variants-1"
SOURCE = "synth/word_variants"
EACH = 10
"""Problems a call asks for."""
Way = Literal["one step", "two steps", "irrelevant"]

_ONE_STEP = """\
Here is a word problem for a grade-school pupil:

{question}

Write {each} new ones of the same kind, as different from each other as you can: other people, scenes, wording
and numbers (in digits), at least three sentences each, and two steps or more to solve. Under each write a
Python function `solution()` without arguments that returns the answer: a variable with a clear name for every
quantity, one small step a line, no comments. Write every one of them in exactly this form:

[problem]
the problem
[program]
the function
[end]
"""
_VARIANTS = """\
Here is a word problem for a grade-school pupil:

{question}

Write {each} variants of it: reworded, in another scene, at least as hard, each complete in itself and without
a hint at the solution.{more} Number them 1. to {each}., one a line, and write nothing else.
"""
_IRRELEVANT = " Into each put one or two facts with numbers that are of no use here, and change the names."
_PAIR = re.compile(r"\[problem\](.*?)\[program\](.*?)(?:\[end\]|(?=\[problem\])|$)", re.S | re.I)
_NUMBERED = re.compile(r"^\s*\d+[.)]\s+(.+?)\s*$", re.M)


def pairs_of(text: str) -> list[tuple[str, str]]:
    """(question, program) between the markers of a one-step answer; a last pair that is cut off counts
    too."""
    found = []
    for question, program in _PAIR.findall(text):
        code = (extract_code(program) or program).strip()
        found.append((" ".join(question.split()), code))
    return found


def _kept(work: Work, pairs: Sequence[tuple[str, str]], *, way: str, seed: int, index: int) -> list[Row]:
    """The pairs that pass TinyGSM's filter, as rows.

    Raises:
        Rejected: none does; the reason is that of the first.
    """
    sound, reasons = [], list[str]()
    for question, program in pairs:
        problem = checks.question_problem(question) or checks.program_problem(program, "solution")
        if problem:
            reasons.append(problem)
        else:
            sound.append((question, program))
    outcomes = run_many([Job(source=program, entry="solution") for _, program in sound])
    rows = []
    for number, ((question, program), outcome) in enumerate(zip(sound, outcomes, strict=True)):
        value = outcome.value
        if not outcome.ok or isinstance(value, bool) or not isinstance(value, int | float):
            reasons.append("the program does not run" if not outcome.ok else "the program returns no number")
            continue
        facts: dict[str, Any] = {"question": question, "program": program, "value": value, "way": way}
        lineage = meta(VERSION, seed, index, prompts=prompts.VERSION, verified="runs", **facts)
        rows.append(
            {"id": f"{work.id}-{number}", "text": f"{question}\n{program}", "source": SOURCE, "meta": lineage}
        )
    if not rows:
        raise Rejected(reasons[0] if reasons else "no problem in the form that was asked for")
    return rows


def variant_task(seed: int, index: int, way: Way, *, each: int = EACH) -> Scripted:
    """`each` problems from one seed question."""
    problem = write_problem(seed, index)
    question = problem.question

    def one_step(work: Work) -> Script:
        text = yield from work.ask(_ONE_STEP.format(question=question, each=each), max_tokens=400 * each)
        return _kept(work, pairs_of(text), way=way, seed=seed, index=index)

    def two_steps(work: Work) -> Script:
        more = _IRRELEVANT if way == "irrelevant" else ""
        prompt = _VARIANTS.format(question=question, each=each, more=more)
        text = yield from work.ask(prompt, max_tokens=160 * each)
        variants = [found for found in _NUMBERED.findall(text) if not checks.question_problem(found)][:each]
        if not variants:
            raise Rejected("no variants in the form that was asked for", text)
        answers = yield [work.request(prompts.SOLUTION.format(question=variant)) for variant in variants]
        pairs = [
            (variant, extract_code(answer) or "") for variant, answer in zip(variants, answers, strict=True)
        ]
        return _kept(work, pairs, way=way, seed=seed, index=index)

    facets = {"skeleton": "|".join(problem.skeleton), "scene": problem.scene}
    name = f"variants-{way.replace(' ', '-')}-{each}-{seed}-{index}"
    return Scripted(id=name, steps=one_step if way == "one step" else two_steps, facets=facets)
