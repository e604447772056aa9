"""The whole of Skill-Mix on one model: draw, write, grade, score, and go to more skills while it holds up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from random import Random

from hornbook.errors import HornbookError
from hornbook.evals.judges import Calibration, Corrected
from hornbook.evals.skill_mix.checkable import CHECKABLE, TOPIC_WORDS, compose, exact_grade
from hornbook.evals.skill_mix.protocol import SAMPLING, Grade, Piece, combinations, grade, write
from hornbook.evals.skill_mix.score import FLOOR, SkillMixScore, corrected_full_marks, judge_errors, score
from hornbook.evals.skill_mix.skills import Skill
from hornbook.lm.base import LanguageModel, Sampling


@dataclass(frozen=True, kw_only=True)
class Level:
    """One k. `errors` and `corrected` are there when a judge graded: its measured error, and the share of
    pieces with full marks once that is taken out (None where the calibration allows none)."""

    score: SkillMixScore
    grades: tuple[Grade, ...]
    errors: dict[str, Calibration] | None = None
    corrected: Corrected | None = None


@dataclass(frozen=True, kw_only=True)
class SkillMix:
    """A model's levels in order of k; `judge` is "exact programs" where no model graded."""

    student: str
    judge: str
    seed: int
    levels: tuple[Level, ...]


def checkable() -> tuple[tuple[Skill, ...], tuple[str, ...]]:
    """The skills and the topics that programs grade."""
    return tuple(item.skill for item in CHECKABLE.values()), tuple(TOPIC_WORDS)


def calibrate(
    judge: LanguageModel,
    *,
    k: int,
    count: int = 100,
    rounds: int = 3,
    sampling: Sampling = SAMPLING,
    seed: int = 10,
) -> dict[str, Calibration]:
    """A judge's error at k skills, by what `calibration_grades` found."""
    return judge_errors(
        *calibration_grades(judge, k=k, count=count, rounds=rounds, sampling=sampling, seed=seed)
    )


def calibration_grades(
    judge: LanguageModel,
    *,
    k: int,
    count: int = 100,
    rounds: int = 3,
    sampling: Sampling = SAMPLING,
    seed: int = 10,
) -> tuple[list[Grade], list[Grade]]:
    """(a judge's grades, the true ones) of texts that a program composed and a program grades.

    `count` is cut to the combinations there are. About half of the texts have full marks, so that both kinds
    of error are seen; no model is asked to write.
    That the judge errs alike on other texts and skills is an assumption, which the caller should state.
    """
    skills, topics = checkable()
    success = 0.5 ** (1 / k)
    count = min(count, comb(len(skills), k) * len(topics))
    pieces = [
        Piece(task=task, generation=0, text=compose(task, Random(f"{seed}:{task.id}"), success=success))
        for task in combinations(skills, topics, k=k, count=count, seed=seed + 1)
    ]
    judged = grade(judge, pieces, rounds=rounds, sampling=sampling, salt="calibration")
    return judged, [exact_grade(piece) for piece in pieces]


def evaluate(
    student: LanguageModel,
    judge: LanguageModel | None = None,
    *,
    skills: Sequence[Skill] | None = None,
    topics: Sequence[str] | None = None,
    ks: Sequence[int] = (2, 3, 4, 5, 6),
    count: int = 100,
    generations: int = 3,
    rounds: int = 3,
    calibration: int = 100,
    deduct_names: bool = True,
    sampling: Sampling = SAMPLING,
    seed: int = 10,
    say: Callable[[str], None] = lambda sentence: None,
) -> SkillMix:
    """Skill-Mix of `student`, up to the first k at which full marks fall below 0.05.

    Args:
        judge: the grading model; None: exact programs, for checkable skills and topics only.
        skills, topics: default the checkable ones, which a judge can grade as well.
        ks: ascending.
        count: combinations for each k.
        rounds: gradings of each piece by a judge.
        calibration: texts of known grade for each k that the judge's error is measured on; 0: none.
        say: told about each level when it is done.

    Raises:
        HornbookError: ks that do not ascend, a skill or topic no program checks where there is no judge, or
            a level of which nothing could be scored.
    """
    if not ks or list(ks) != sorted(set(ks)):
        raise HornbookError(f"Skill-Mix: ks is {tuple(ks)}; accepted are numbers of skills that ascend.")
    ours = checkable()
    skills, topics = skills or ours[0], topics or ours[1]
    levels: list[Level] = []
    for k in ks:
        tasks = combinations(skills, topics, k=k, count=count, seed=seed)
        pieces = write(student, tasks, generations=generations, sampling=sampling)
        errors = corrected = None
        if judge is None:
            grades = [exact_grade(piece, deduct_names=deduct_names) for piece in pieces]
        else:
            grades = grade(judge, pieces, rounds=rounds, deduct_names=deduct_names, sampling=sampling)
        found = score(grades)
        if judge is not None and calibration:
            errors = calibrate(judge, k=k, count=calibration, rounds=rounds, sampling=sampling, seed=seed)
            full = errors["full marks"]
            if full.sensitivity.trials and full.specificity.trials:
                corrected = corrected_full_marks(found, errors)
        levels.append(Level(score=found, grades=tuple(grades), errors=errors, corrected=corrected))
        say(f"k = {k}: full marks {found.full_marks.value:.2f}, fraction {found.skill_fraction.value:.2f}")
        if found.full_marks.value < FLOOR:
            break
    return SkillMix(
        student=student.identity,
        judge="exact programs" if judge is None else judge.identity,
        seed=seed,
        levels=tuple(levels),
    )
