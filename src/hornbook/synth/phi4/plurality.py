"""Questions of the right difficulty: several independent answers, kept where they neither all agree nor all
differ.

All agree: too easy. All differ: too hard, or the question is not clear. What is kept carries the plurality
answer, which later serves as the truth when answers are drawn for training (phi-4, 2.2).
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from hornbook.lm.parse import extract_code
from hornbook.sandbox import Job, run_many
from hornbook.synth import prompts
from hornbook.synth.scripts import Rejected, Row, Script, Scripted, Work
from hornbook.synth.stories import meta
from hornbook.synth.word_problems import Problem, Teacher, solve_again, write_problem

VERSION = "phi4-plurality-1"
SOURCE = "synth/phi4/plurality"
SAMPLES = 5
Difficulty = Literal["easy", "kept", "hard"]
_ANSWER = """\
{question}

Think it through, then end with a line that holds only "Answer:" and the answer, as short as it can be.
"""
_MARK = re.compile(r"^\W*answer\W*:\s*(.+?)\s*$", re.I | re.M)


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What independent answers say: the `plurality` answer (None: there is none), its `share` of all, and how
    hard the question is."""

    difficulty: Difficulty
    plurality: str | None
    share: float


def vote(answers: Sequence[str | None]) -> Vote:
    """Counts answers; those that could not be read (None) agree with nobody."""
    counts = Counter(answer for answer in answers if answer is not None).most_common(2)
    if not counts or counts[0][1] < 2 or (len(counts) > 1 and counts[0][1] == counts[1][1]):
        return Vote(difficulty="hard", plurality=None, share=counts[0][1] / len(answers) if counts else 0.0)
    best, times = counts[0]
    easy = times == len(answers)
    return Vote(difficulty="easy" if easy else "kept", plurality=best, share=times / len(answers))


def run_answers(texts: Sequence[str]) -> list[str | None]:
    """The numbers that programs `solution()` in these texts return, as words; None where one does not run."""
    programs = [extract_code(text) or "" for text in texts]
    return [
        f"{outcome.value:g}"
        if outcome.ok and isinstance(outcome.value, int | float) and not isinstance(outcome.value, bool)
        else None
        for outcome in run_many([Job(source=program, entry="solution") for program in programs])
    ]


def said_answers(texts: Sequence[str]) -> list[str | None]:
    """What stands after the last "Answer:" of each text, in small letters without the full stop."""
    found = [_MARK.findall(text) for text in texts]
    return [" ".join(marks[-1].lower().rstrip(".").split()) if marks else None for marks in found]


def plurality_task(
    id: str,
    question: str,
    *,
    samples: int = SAMPLES,
    by: Literal["program", "words"] = "program",
    seed: int = 0,
    facets: Mapping[str, str] | None = None,
) -> Scripted:
    """A question is kept with the answer that most of `samples` give."""
    template = prompts.SOLUTION if by == "program" else _ANSWER
    read: Callable[[Sequence[str]], list[str | None]] = run_answers if by == "program" else said_answers

    def steps(work: Work) -> Script:
        texts = yield from work.ask_often(template.format(question=question), samples)
        counted = vote(read(texts))
        if counted.difficulty != "kept":
            why = "all answers agree" if counted.difficulty == "easy" else "no answer comes up most often"
            raise Rejected(f"{counted.difficulty}: {why}", question)
        return _row(id, question, counted, seed=seed, samples=samples, writer=VERSION)

    return Scripted(id=f"plurality-{samples}-{id}", steps=steps, facets=facets or {})


def own_task(index: int, *, samples: int = SAMPLES, seed: int = 0) -> Scripted:
    """The same for word problem number `index` of ours."""
    problem = write_problem(seed, index)
    facets = {"skeleton": "|".join(problem.skeleton), "scene": problem.scene}
    id = f"problem-{seed}-{index}"
    return plurality_task(id, problem.question, samples=samples, seed=seed, facets=facets)


def _row(id: str, question: str, counted: Vote, *, seed: int, **facts: Any) -> Row:
    lineage = meta(facts.pop("writer"), seed, 0, answer=counted.plurality, share=counted.share, **facts)
    return {"id": f"kept-{id}", "text": question, "source": SOURCE, "meta": lineage}


def simulated_vote(
    seed: int, index: int, *, teacher: Teacher, samples: int = SAMPLES
) -> tuple[Problem, Vote, Row | None]:
    """A word problem solved `samples` times by an erring simulated teacher; the row where it is kept.

    `meta.truth` is the plan's own answer, so that the plurality answer can be held against it.
    """
    problem = write_problem(seed, index)
    rng = Random(f"{VERSION}/{seed}/{index}")
    answers = [solve_again(problem, teacher, rng) for _ in range(samples)]
    counted = vote([None if answer is None else str(answer) for answer in answers])
    if counted.difficulty != "kept":
        return problem, counted, None
    row = _row(
        f"problem-{seed}-{index}", problem.question, counted, seed=seed, samples=samples,
        writer=f"{VERSION}/simulated", truth=str(problem.answer), program=problem.program,
    )  # fmt: skip
    return problem, counted, row


def right(row: Row) -> bool:
    """Whether a simulated row's plurality answer is the true one."""
    known = json.loads(row["meta"])
    return bool(known["answer"] == known["truth"])
