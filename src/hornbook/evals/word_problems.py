"""Word problems by execution: the student writes a program, the sandbox runs it, numbers are compared.

TinyGSM section 3: greedy pass@1 with a numeric tolerance. Here each program is also run under a second
number assignment, so that one which is right by coincidence is told from one that solves the problem.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.statistics import Interval, wilson_interval
from hornbook.sandbox import Job, Limits, Outcome, run_many
from hornbook.synth.word_problems import substitute

ENTRY = "solution"
TOLERANCE = 1e-3
Generate = Callable[[Sequence[str]], Sequence[str]]
"""Prompts in, one text each out: any engine, any chat form."""

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Graded:
    """One item: `right` by the true answer, `robust` also under the second numbers; `why` it failed."""

    id: str
    right: bool
    robust: bool
    why: str
    value: float | None
    program: str


@dataclass(frozen=True, kw_only=True)
class WordProblemScore:
    """Shares over all items (an item that wrote no program counts as wrong) with Wilson 95 % intervals."""

    items: tuple[Graded, ...]
    accuracy: float
    interval: Interval
    robust: float
    robust_interval: Interval
    ran: float
    reasons: dict[str, int]


def extract_program(text: str) -> str:
    """The first function named `solution` in a text, with or without a code fence; empty if there is none.

    The function ends at the first line that is neither blank nor indented.
    """
    fenced = _FENCE.search(text)
    if fenced and f"def {ENTRY}" in fenced.group(1):
        text = fenced.group(1)
    begin = text.find(f"def {ENTRY}(")
    if begin < 0:
        return ""
    lines = text[begin:].split("\n")
    end = 1
    while end < len(lines) and (not lines[end].strip() or lines[end][:1] in " \t"):
        end += 1
    return "\n".join(lines[:end]).rstrip()


def same_number(value: object, truth: float) -> bool:
    """Numeric equality within 1e-3; booleans, NaN and text are not numbers."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isclose(float(value), truth, rel_tol=0.0, abs_tol=TOLERANCE)
    except OverflowError:
        return False


def grade(
    texts: Sequence[str], problems: Sequence[Mapping[str, Any]], *, limits: Limits | None = None
) -> WordProblemScore:
    """Grade one text per problem.

    Args:
        texts: what the student wrote.
        problems: the `meta` mapping of each problem row (keys `answer`, `numbers`, `second_numbers`,
            `second_answer`; see `synth.word_problems`), or rows whose `meta` is its JSON string.
        limits: of the sandbox.
    """
    if len(texts) != len(problems):
        raise HornbookError(
            f"word problems: {len(texts)} texts for {len(problems)} problems; one each is needed"
        )
    if not problems:
        raise HornbookError("word problems: no problems to grade")
    metas = [meta_of(problem) for problem in problems]
    programs = [extract_program(text) for text in texts]
    jobs: list[Job] = []
    for program, meta in zip(programs, metas):
        if program:
            jobs.append(Job(source=program, entry=ENTRY))
            other = substitute(program, tuple(meta["numbers"]), tuple(meta["second_numbers"]))
            jobs.append(Job(source=other, entry=ENTRY))
    outcomes = iter(run_many(jobs, limits=limits))
    items: list[Graded] = []
    ran = 0
    for number, (program, meta) in enumerate(zip(programs, metas)):
        name = str(meta.get("id", number))
        if not program:
            items.append(Graded(id=name, right=False, robust=False, why="no program", value=None, program=""))
            continue
        first, second = next(outcomes), next(outcomes)
        ran += first.ok
        items.append(_judge(name, program, first, second, meta))
    right = sum(item.right for item in items)
    robust = sum(item.robust for item in items)
    reasons: dict[str, int] = {}
    for item in items:
        if item.why:
            reasons[item.why] = reasons.get(item.why, 0) + 1
    return WordProblemScore(
        items=tuple(items),
        accuracy=right / len(items),
        interval=wilson_interval(right, len(items)),
        robust=robust / len(items),
        robust_interval=wilson_interval(robust, len(items)),
        ran=ran / len(items),
        reasons=reasons,
    )


def evaluate(
    generate: Generate, problems: Sequence[Mapping[str, Any]], *, limits: Limits | None = None
) -> WordProblemScore:
    """Ask `generate` every question and grade what it writes."""
    questions = [str(meta_of(problem)["question"]) for problem in problems]
    return grade(list(generate(questions)), problems, limits=limits)


def _judge(name: str, program: str, first: Outcome, second: Outcome, meta: Mapping[str, Any]) -> Graded:
    if not first.ok:
        failed = "does not run" if first.status == "error" else first.status
        return Graded(id=name, right=False, robust=False, why=failed, value=None, program=program)
    right = same_number(first.value, float(meta["answer"]))
    robust = right and second.ok and same_number(second.value, float(meta["second_answer"]))
    number = float(first.value) if same_number(first.value, _as_number(first.value)) else None
    why = "" if robust else ("right by coincidence" if right else "wrong answer")
    return Graded(id=name, right=right, robust=robust, why=why, value=number, program=program)


def _as_number(value: object) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        return math.nan


def meta_of(problem: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a problem: the `meta` of its row, or the mapping itself."""
    meta = problem.get("meta", problem)
    if isinstance(meta, str):
        meta = json.loads(meta)
    missing = [key for key in ("answer", "numbers", "second_numbers", "second_answer") if key not in meta]
    if missing:
        raise HornbookError(
            f"word problems: a problem lacks {', '.join(missing)}; give rows of `write_word_problems`"
        )
    found = dict(meta)
    if "id" in problem:
        found["id"] = problem["id"]
    return found
