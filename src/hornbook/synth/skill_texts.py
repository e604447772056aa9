"""Short texts that show k skills on a topic at once, as training data (Skill-Mix, with its own prompts).

A teacher writes and improves in a second turn, as in the evaluation; a judge's points decide, or, for skills
that a program sees (`checkable`), the program. Half of the skills and of the topics, chosen by hash, are
never written
about: evaluating on those (`withheld`) tells what carries over.
"""

from collections.abc import Sequence
from math import comb
from random import Random
from typing import Any

from hornbook.evals.skill_mix.checkable import CHECKABLE, TOPIC_WORDS, compose, exact_grade
from hornbook.evals.skill_mix.protocol import (
    Combination,
    Piece,
    combinations,
    count_sentences,
    extract_answer,
    first_prompt,
    grading_prompt,
    names_skill,
    read_points,
    second_prompt,
)
from hornbook.evals.skill_mix.skills import TOPICS, our_skills, private_split
from hornbook.lm.base import Message
from hornbook.synth import checks
from hornbook.synth.scripts import Rejected, Row, Script, Scripted, Work
from hornbook.synth.stories import meta

VERSION = "skill-texts-1"
SOURCE = "synth/skill_texts"
SALT = "skill texts for training"


def withheld() -> tuple[list[str], list[str]]:
    """Names of the skills and the topics that no training text has."""
    return _split([skill.name for skill in our_skills()])[1], _split(TOPICS)[1]


def _split(names: Sequence[str]) -> tuple[list[str], list[str]]:
    return private_split(names, salt=SALT, public=0.5)


def possible(k: int) -> int:
    """How many combinations of k skills and a topic there are for training."""
    return comb(len(_split([skill.name for skill in our_skills()])[0]), k) * len(_split(TOPICS)[0])


def drawn(seed: int, count: int, *, k: int, checkable: bool = False) -> list[Combination]:
    """Combinations of skills and topics for training; checkable: of the skills that a program sees."""
    if checkable:
        return combinations(
            [item.skill for item in CHECKABLE.values()], list(TOPIC_WORDS), k=k, count=count, seed=seed
        )
    names = set(_split([skill.name for skill in our_skills()])[0])
    skills = [skill for skill in our_skills() if skill.name in names]
    return combinations(skills, _split(TOPICS)[0], k=k, count=count, seed=seed)


def skill_task(task: Combination, *, seed: int = 0) -> Scripted:
    """One combination: draft, improved draft, and the teacher's points as a judge of it."""

    def steps(work: Work) -> Script:
        first = Message("user", first_prompt(task))
        draft = yield from work.ask([first])
        turns = [first, Message("assistant", draft), Message("user", second_prompt(task))]
        text = extract_answer((yield from work.ask(turns)))
        if not text or count_sentences(text) > task.limit:
            raise Rejected(f"more than {task.limit_in_words}, or nothing", text)
        problem = checks.language_problem(text) or checks.repetition_problem(text)
        if problem:
            raise Rejected(problem, text)
        named = [skill.name for skill in task.skills if names_skill(text, skill)]
        if named:
            raise Rejected(f"names the skill {named[0]} instead of showing it", text)
        judged = yield from work.ask(
            grading_prompt(Piece(task=task, generation=0, text=text)), temperature=0.0
        )
        points = read_points(judged, task.k)
        if points is None or not all(points):
            raise Rejected("the judge does not see every skill", text)
        return _row(task, text, seed=seed, writer=VERSION, verified="judged")

    skills = {f"skill {at}": skill.name for at, skill in enumerate(task.skills)}
    return Scripted(id=f"skills-{seed}-{task.id}", steps=steps, facets={"topic": task.topic} | skills)


def _row(task: Combination, text: str, *, seed: int, **facts: Any) -> Row:
    skills = [skill.name for skill in task.skills]
    lineage = meta(facts.pop("writer"), seed, 0, skills=skills, topic=task.topic, **facts)
    return {"id": f"skills-{seed}-{task.id}", "text": text, "source": SOURCE, "meta": lineage}


def simulated_text(task: Combination, *, seed: int = 0, success: float = 0.9) -> tuple[Row | None, str]:
    """Clauses that show the skills, put together; a program grades what came of it."""
    text = compose(task, Random(f"{VERSION}/{seed}/{task.id}"), success=success)
    grade = exact_grade(Piece(task=task, generation=0, text=text))
    if grade.points is None or not all(grade.points):
        return None, "does not show every skill"
    return _row(task, text, seed=seed, writer=f"{VERSION}/simulated", verified="exact"), ""
