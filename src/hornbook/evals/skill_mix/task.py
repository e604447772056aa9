"""Skill-Mix as a task of `hornbook eval`: kept combination by combination, graded by programs or by a judge.

Without a judge the skills are those that programs check, so that it runs offline and nobody errs. With one
they are our own list, or the lists below --data, and the judge's error stands beside every number it made.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations as pairs_of
from math import comb
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals.asking import kept_together
from hornbook.evals.judges import Calibration, Rate, correct
from hornbook.evals.result import Result, Score, both_sides, not_answered, score_of
from hornbook.evals.sample_store import SampleStore, run_key
from hornbook.evals.skill_mix.checkable import exact_grade
from hornbook.evals.skill_mix.protocol import (
    SAMPLING,
    Combination,
    Grade,
    combinations,
    first_prompt,
    grade,
    write,
)
from hornbook.evals.skill_mix.run import calibration_grades, checkable
from hornbook.evals.skill_mix.score import FLOOR, judge_errors, marks
from hornbook.evals.skill_mix.skills import TOPICS, Skill, our_skills, private_split, read_skills
from hornbook.lab.files import sha256_of
from hornbook.lm.base import Advances, Failure, LanguageModel

NAME = "skill-mix"
SENTENCE = "k skills at once in a short text, k from 1 to 5: by exact programs, or with --judge by a model."
KS = (1, 2, 3, 4, 5)
SALT = "HORNBOOK_SALT"
SKILLS_FILE, TOPICS_FILE = "skillmix_skills.csv", "skillmix_topics.txt"
_ITEMS, _GENERATIONS, _ROUNDS, _VERSION = 100, 3, 3, 1
_METRICS = ("full marks", "all skills", "skill fraction")


@dataclass(frozen=True, kw_only=True)
class Lists:
    """What combinations are drawn from. `public`: names that may be told, where a salt withholds the rest."""

    skills: tuple[Skill, ...]
    topics: tuple[str, ...]
    of: str
    public: tuple[str, ...] = ()


def find_lists(*, judged: bool, data: Path | None = None, salt: str = "") -> Lists:
    """The skills and topics of an examination.

    Args:
        judged: a model grades; else only skills and topics that programs check.
        data: a folder with the published lists (`skillmix_skills.csv`, `skillmix_topics.txt`), for a judge.
        salt: withholds nine tenths: the examination draws from these alone, and the tenth may be told.

    Raises:
        HornbookError: a list that cannot be read, a salt that is too short.
    """
    skills, topics = checkable()
    of = "programs"
    if judged:
        skills, topics, of = our_skills(), TOPICS, "our list"
        if data is not None and (found := sorted(data.rglob(SKILLS_FILE))):
            skills, of = read_skills(found[0]), str(found[0].name)
        if data is not None and (named := sorted(data.rglob(TOPICS_FILE))):
            told = named[0].read_text(encoding="utf-8").splitlines()
            topics = tuple(dict.fromkeys(line.strip() for line in told if line.strip()))
    if not salt:
        return Lists(skills=skills, topics=topics, of=of)
    known, withheld = private_split([skill.name for skill in skills], salt=salt)
    told, kept = private_split(topics, salt=salt)
    return Lists(
        skills=tuple(skill for skill in skills if skill.name in withheld),
        topics=tuple(kept),
        of=f"{of}, the withheld part",
        public=(*known, *told),
    )


def run_skill_mix(
    model: LanguageModel,
    judge: LanguageModel | None = None,
    *,
    data: Path | None = None,
    items: int | None = None,
    seed: int = 0,
    ks: Sequence[int] = KS,
    store: SampleStore | None = None,
    progress: Advances | None = None,
    salt: str | None = None,
) -> Result:
    """Examines a model up to the first k at which full marks fall below 0.05.

    Args:
        judge: grades every text three times, the majority counts; None: exact programs.
        items: combinations of each k; None: 100.
        store: combinations whose every call was answered are kept; the others are asked again.
        salt: of the private split; None: $HORNBOOK_SALT, and where that is not set, everything is asked.

    Raises:
        HornbookError: no combination was answered and graded.
    """
    began = time.perf_counter()
    salt = os.environ.get(SALT, "") if salt is None else salt
    lists = find_lists(judged=judge is not None, data=data, salt=salt)
    told: dict[str, Any] = {
        "model": model.identity,
        "task": NAME,
        "judge": "exact programs" if judge is None else judge.identity,
        "card": _fingerprint(lists),
        "seed": seed,
    }
    run = store.begin(told) if store else ""
    levels: list[_Level] = []
    failures: dict[str, Failure] = {}
    for k in ks:
        if k > len(lists.skills):
            break
        count = min(items or _ITEMS, comb(len(lists.skills), k) * len(lists.topics))
        tasks = combinations(lists.skills, lists.topics, k=k, count=count, seed=seed)
        known = store.known(run, [task.id for task in tasks]) if store else {}
        for todo in kept_together(model, [task for task in tasks if task.id not in known]):
            found, failed = _examine(model, judge, todo, seed, progress)
            known |= found
            failures |= failed
            if store and found:
                store.put(run, found)
        level = _Level(k=k, asked=len(tasks), samples=[(t, known[t.id]) for t in tasks if t.id in known])
        levels.append(level)
        scored = level.of("full marks")
        if judge is not None and scored:
            level.errors = _calibrated(judge, k, max(20, min(count, 100)), seed, store, run)
        if not scored or sum(scored) / len(scored) < FLOOR:
            break
    if not any(level.of("full marks") for level in levels):
        first = next(iter(failures.values()), None)
        why = f" ({first.kind}: {first.message})" if first else "; no grading table could be read"
        raise HornbookError(f"{NAME}: {model.identity} has no text that was answered and graded{why}.")
    details = {**told, "run": run_key(told), "lists": lists.of, "skills": len(lists.skills)}
    details |= {"topics": len(lists.topics), "public": list(lists.public)} if salt else {}
    return _result(levels, failures, details, time.perf_counter() - began)


def _fingerprint(lists: Lists) -> str:
    """Over everything that changes a score."""
    drawn = {"skills": [asdict(skill) for skill in lists.skills], "topics": list(lists.topics)}
    how = {"version": _VERSION, "generations": _GENERATIONS, "rounds": _ROUNDS, **asdict(SAMPLING)}
    return sha256_of({**drawn, **how})[:16]


@dataclass(kw_only=True)
class _Level:
    """One k: the combinations that are known, of those asked, and a judge's error there."""

    k: int
    asked: int
    samples: list[tuple[Combination, Mapping[str, Any]]]
    errors: Calibration | None = None

    def of(self, metric: str) -> list[float]:
        return [sample["values"][metric] for _, sample in self.samples if sample["values"]]


def _examine(
    model: LanguageModel,
    judge: LanguageModel | None,
    tasks: Sequence[Combination],
    seed: int,
    progress: Advances | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, Failure]]:
    """What was found about each combination, and those of which a call failed."""
    sampling = replace(SAMPLING, seed=seed)
    pieces = write(model, tasks, generations=_GENERATIONS, sampling=sampling, progress=progress)
    if judge is None:
        grades = [exact_grade(piece) for piece in pieces]
    else:
        grades = grade(judge, pieces, rounds=_ROUNDS, sampling=sampling)
    found: dict[str, dict[str, Any]] = {}
    failures: dict[str, Failure] = {}
    for place, task in enumerate(tasks):
        own = grades[place * _GENERATIONS : (place + 1) * _GENERATIONS]
        lost = next((one.piece.why for one in own if one.piece.text is None), "")
        if lost or any(one.lost for one in own):
            message = lost or "the judge did not answer"
            failures[task.id] = Failure(kind="server", message=message.rstrip(".") + ".")
        else:
            found[task.id] = _sample(task, own)
    return found, failures


def _sample(task: Combination, own: Sequence[Grade]) -> dict[str, Any]:
    """What is kept of a combination: texts, points, the best of its texts in each metric by itself."""
    scored = [marks(one.points) for one in own if one.points is not None]
    best = [max(column) for column in zip(*scored, strict=True)] if scored else []
    named = sorted({name for one in own for name in one.named})
    return {
        "asked": first_prompt(task),
        "text": "\n\n---\n\n".join(one.piece.text or "" for one in own),
        "read": "; ".join("unread" if one.points is None else str(list(one.points)) for one in own),
        "note": f"names {', '.join(named)}" if named else "",
        "reference": ", ".join(task.criteria),
        "values": dict(zip(_METRICS, best, strict=True)) if scored else {},
        "full": [full for full, _, _ in scored],
        "unread": [sum(one.unread for one in own), sum(len(one.rounds) for one in own)],
        "same": [
            float(marks(a)[0] == marks(b)[0])
            for one in own
            for a, b in pairs_of([points for points in one.rounds if points is not None], 2)
        ],
    }


def _calibrated(
    judge: LanguageModel, k: int, count: int, seed: int, store: SampleStore | None, run: str
) -> Calibration:
    """A judge's error for full marks on texts of known grade; kept when every call was answered."""
    item = f"calibration of {count} at k = {k}"
    if store and (kept := store.known(run, [item]).get(item)):
        return Calibration(sensitivity=Rate(**kept["sensitivity"]), specificity=Rate(**kept["specificity"]))
    judged, truth = calibration_grades(judge, k=k, count=count, rounds=_ROUNDS, seed=seed)
    found = judge_errors(judged, truth)["full marks"]
    if store and not any(one.lost for one in judged):
        store.put(run, {item: asdict(found)})
    return found


def _result(
    levels: Sequence[_Level], failures: Mapping[str, Failure], details: Mapping[str, Any], seconds: float
) -> Result:
    scores: list[Score] = []
    outcomes: dict[str, list[float]] = {}
    for level in levels:
        if not level.of("full marks"):
            continue
        at = f"k = {level.k}"
        for metric in _METRICS:
            outcomes[f"{metric}, {at}"] = level.of(metric)
            scores.append(score_of(f"{metric}, {at}", level.of(metric)))
        full = [(task.id, value) for task, sample in level.samples for value in sample["full"]]
        alone = score_of(f"one text, {at}", [v for _, v in full], clusters=[name for name, _ in full])
        scores.append(alone)
        if level.errors is not None:
            scores += _of_a_judge(at, full, level.errors)
    every = [sample for level in levels for _, sample in level.samples]
    if details["judge"] != "exact programs":
        unread = [sum(column) for column in zip(*(sample["unread"] for sample in every), strict=True)]
        scores.append(score_of("judge: unread", [1.0] * unread[0] + [0.0] * (unread[1] - unread[0])))
        same = [value for sample in every for value in sample["same"]]
        if same:
            scores.append(score_of("judge: same verdict twice", same))
    scored = [sample for sample in every if sample["values"]]
    samples = both_sides(
        [
            {
                "request": sample["asked"],
                "answer": sample["text"],
                "right": sample["values"]["full marks"] > 0.5,
                "note": " ".join(
                    filter(None, [f"points {sample['read']} of {sample['reference']}", sample["note"]])
                ),
            }
            for sample in scored
        ]
    )
    return Result(
        task=NAME,
        items=len(scored),
        seconds=seconds,
        scores=tuple(scores),
        outcomes=outcomes,
        samples=samples,
        details={**details, "unscored": len(every) - len(scored)},
        unfinished=not_answered(failures, sum(level.asked for level in levels)) if failures else "",
        ids=tuple(task.id for level in levels for task, sample in level.samples if sample["values"]),
    )


def _of_a_judge(at: str, full: Sequence[tuple[str, float]], errors: Calibration) -> list[Score]:
    """How well a judge sees full marks, and the share of texts that have them once its error is taken out."""
    yes, no = errors.sensitivity, errors.specificity
    scores = [
        Score(name=f"judge: {what}, {at}", value=rate.value, interval=rate.interval)
        for what, rate in (("sees full marks", yes), ("sees their lack", no))
        if rate.value is not None
    ]
    if yes.trials and no.trials:
        first = dict(reversed(full))  # one text of each combination: its others are no further evidence
        found = correct(Rate(hits=int(sum(first.values())), trials=len(first)), errors)
        if found.value is not None:
            name = f"one text, judge's error out, {at}"
            scores.insert(0, Score(name=name, value=found.value, interval=found.interval))
    return scores
