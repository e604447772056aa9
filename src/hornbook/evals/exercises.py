"""Function exercises by execution: pass@1 on hidden inputs, run in the sandbox (phi-1, HumanEval style)."""

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.statistics import Interval, wilson_interval
from hornbook.sandbox import Job, Limits, Outcome, run_many

_ENTRY, _REACHED = "hornbook_reached_the_end", "the end"
_END = f"def {_ENTRY}():\n    return {_REACHED!r}\n"
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class ExerciseScore:
    """`pass_at_1` over all exercises with its Wilson 95 % interval; `passed` per item; `reasons` why not."""

    pass_at_1: float
    interval: Interval
    passed: tuple[bool, ...]
    reasons: dict[str, int]


def assemble(prompt: str, text: str, name: str) -> str:
    """The program to run: the text if it defines the function, else prompt and text; to its end."""
    fenced = _FENCE.search(text)
    if fenced:
        text = fenced.group(1)
    begin = text.find(f"def {name}(")
    program = text[begin:] if begin >= 0 else prompt + text
    lines = program.split("\n")
    end = 1
    while end < len(lines) and (not lines[end].strip() or lines[end][:1] in " \t"):
        end += 1
    return "\n".join(lines[:end]).rstrip()


def grade(
    texts: Sequence[str], exercises: Sequence[Mapping[str, Any]], *, limits: Limits | None = None
) -> ExerciseScore:
    """Grade one text (a body or a whole function) per exercise row."""
    if len(texts) != len(exercises) or not exercises:
        raise HornbookError(
            f"exercises: {len(texts)} texts for {len(exercises)} exercises; one each, at least one"
        )
    jobs: list[Job] = []
    spans: list[tuple[int, int]] = []
    truths: list[Any] = []
    reasons: dict[str, int] = {}
    parsed: list[bool] = []
    for text, row in zip(texts, exercises):
        meta = json.loads(row["meta"]) if isinstance(row.get("meta"), str) else dict(row)
        program = assemble(str(meta["prompt"]), text, str(meta["name"]))
        begin = len(jobs)
        parsed.append(_parses(program))
        if parsed[-1]:
            for value, truth in meta["cases"]:
                jobs.append(Job(source=program, entry=str(meta["name"]), args=(value,)))
                truths.append(truth)
        spans.append((begin, len(jobs)))
    outcomes = run_many(jobs, limits=limits)
    passed: list[bool] = []
    for (begin, end), sound in zip(spans, parsed):
        right = sound and all(
            outcome.ok and outcome.value == truth and type(outcome.value) is type(truth)
            for outcome, truth in zip(outcomes[begin:end], truths[begin:end])
        )
        passed.append(right)
        if not right:
            ran = sound and all(outcome.ok for outcome in outcomes[begin:end])
            why = "wrong result" if ran else "does not run" if sound else "does not parse"
            reasons[why] = reasons.get(why, 0) + 1
    return ExerciseScore(
        pass_at_1=sum(passed) / len(passed),
        interval=wilson_interval(sum(passed), len(passed)),
        passed=tuple(passed),
        reasons=reasons,
    )


def run_to_the_end(sources: Sequence[str], *, limits: Limits | None = None) -> list[tuple[bool, Outcome]]:
    """Runs programs that end in their tests; True for those that came to their end without an error.

    A program that leaves before its tests (`sys.exit(0)` is no error) has failed them.
    """
    jobs = [Job(source=f"{source}\n{_END}", entry=_ENTRY) for source in sources]
    outcomes = run_many(jobs, limits=limits, share=False)
    return [(outcome.ok and outcome.value == _REACHED, outcome) for outcome in outcomes]


def evaluate(
    generate: Callable[[Sequence[str]], Sequence[str]],
    exercises: Sequence[Mapping[str, Any]],
    *,
    limits: Limits | None = None,
) -> ExerciseScore:
    """Give `generate` every signature with docstring and grade what it writes."""
    prompts = [
        json.loads(row["meta"])["prompt"] if isinstance(row.get("meta"), str) else row["prompt"]
        for row in exercises
    ]
    return grade(list(generate(prompts)), exercises, limits=limits)


def _parses(program: str) -> bool:
    try:
        ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
