"""MT-bench: eighty questions of two turns, graded from 1 to 10 by a judge (Zheng et al. 2023).

The questions come from the user's folder (`mt_bench_questions.jsonl`). The judge is any language model, and
how far it can be trusted stands beside its grades, always: whether it says the same twice (each answer is
graded with the scale named upwards and downwards), and whether it sees what is known, the answer to the
question itself against the answer to another question, in both orders.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals.benchmarks.source import read_file
from hornbook.evals.judges import Case, Judged, columns, judge, pair
from hornbook.evals.result import Result, Score, not_answered, score_of
from hornbook.evals.sample_store import SampleStore, run_key
from hornbook.lm.base import (
    Advances,
    Completion,
    Failure,
    LanguageModel,
    Message,
    Request,
    Sampling,
)

NAME = "mt-bench"
FILE = "mt_bench_questions"
SENTENCE = "Eighty questions (mt_bench_questions.jsonl below --data), grades 1 to 10, the judge's own error."
_GRADES = tuple(str(n) for n in range(1, 11))
_ROUNDS = 2
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Question:
    """Two turns, and a reference answer to each where the set has one."""

    id: str
    category: str
    turns: tuple[str, str]
    reference: tuple[str, ...] = ()


def read_questions(data: Path | None, *, items: int | None = None, seed: int = 0) -> list[Question]:
    """The questions below the data folder, or a sample of them.

    Raises:
        HornbookError: they are not there, or a row is not of two turns.
    """
    path = (
        None
        if data is None
        else next((p for s in (".jsonl", ".jsonl.gz") for p in _below(data, FILE + s)), None)
    )
    if path is None:
        raise HornbookError(
            f"{NAME}: its questions were not found. Name the folder that holds {FILE}.jsonl with --data."
        )
    found = []
    for number, row in enumerate(read_file(path), 1):
        turns = row.get("turns")
        if not (isinstance(turns, list) and len(turns) == 2 and all(isinstance(t, str) for t in turns)):
            raise HornbookError(f"{path}, line {number}: a question of {NAME} has two turns of text.")
        reference = row.get("reference") or ()
        found.append(
            Question(
                id=str(row.get("question_id", number)),
                category=str(row.get("category", "")),
                turns=(turns[0], turns[1]),
                reference=tuple(map(str, reference)),
            )
        )
    if items is not None and items < len(found):
        found = [found[i] for i in sorted(Random(seed).sample(range(len(found)), items))]
    return found


def _below(data: Path, name: str) -> list[Path]:
    return ([data] if data.name == name else []) if data.is_file() else sorted(data.rglob(name))


def grading(question: Question, answers: Sequence[str], turn: int) -> Case:
    """A grade from 1 to 10 of one turn, with the scale named upwards and downwards."""
    talk = "\n\n".join(
        f"User: {asked}\n\nAssistant: {said}" for asked, said in zip(question.turns[: turn + 1], answers)
    )
    known = ""
    if len(question.reference) > turn:
        known = f"A reference answer to the last turn:\n{question.reference[turn]}\n\n"

    def prompt(scale: Sequence[str]) -> str:
        return (
            f"Here is a conversation.\n\n{talk}\n\n{known}How good is the assistant's last answer: is it "
            "right, "
            "helpful, relevant, detailed enough? Length alone is no merit. Say why in a sentence, then end "
            "with "
            f"a line that is only one of the grades {', '.join(scale)}, where 10 is best and 1 is worst."
        )

    words = {grade: (grade,) for grade in _GRADES}
    return Case(
        id=f"{question.id} {turn + 1}",
        prompts=(prompt(_GRADES), prompt(_GRADES[::-1])),
        words=(words, dict(reversed(words.items()))),
    )


def grade_of(judged: Judged) -> float | None:
    """The mean of all grades that could be read; None where none could."""
    grades = [int(v.value) for v in judged.verdicts if v.value is not None]
    return fmean(grades) if grades else None


def run_mt_bench(
    model: LanguageModel,
    judged_by: LanguageModel | None = None,
    *,
    data: Path | None,
    items: int | None = None,
    seed: int = 0,
    max_tokens: int = 512,
    store: SampleStore | None = None,
    progress: Advances | None = None,
) -> Result:
    """Asks both turns, has them graded, and measures the judge on pairs whose better half is known.

    Args:
        judged_by: None: the model itself, as the name of the judge in the details says.
        store: answers and grades are kept there by question; what failed is asked again, the rest never.

    Raises:
        HornbookError: no questions; a model without a chat template; no question was answered and graded.
    """
    began = time.perf_counter()
    judged_by = judged_by or model
    questions = read_questions(data, items=items, seed=seed)
    told = {
        "model": model.identity,
        "task": NAME,
        "judge": judged_by.identity,
        "rounds": _ROUNDS,
        "max_tokens": max_tokens,
        "version": _VERSION,
    }
    run = store.begin(told) if store else ""
    known = store.known(run, [q.id for q in questions]) if store else {}
    todo = [question for question in questions if question.id not in known]
    if progress is not None:
        progress.advance(2 * (len(questions) - len(todo)))
    answers, failures = _talk(model, todo, max_tokens, progress)
    answered = [question for question in todo if question.id in answers]
    graded = judge(
        judged_by,
        [grading(q, answers[q.id], turn) for q in answered for turn in (0, 1)],
        rounds=_ROUNDS,
    )
    controls = _controls(judged_by, answered, answers, seed)
    for place, question in enumerate(answered):
        pairs = graded[2 * place : 2 * place + 2]
        lost = next((v.why for j in pairs for v in j.verdicts if v.why.startswith("the call failed")), "")
        if lost:  # the judge's service, not its answer: to be asked again
            failures[question.id] = Failure(kind="server", message=f"the judge did not answer; {lost}")
            continue
        known[question.id] = _sample(question, answers[question.id], pairs, controls.get(question.id))
        if store:
            store.put(run, {question.id: known[question.id]})
    have = [question for question in questions if question.id in known]
    scored = [q for q in have if known[q.id]["values"]]
    if not scored:
        why = not_answered(failures, len(questions)) if failures else "No grade could be read."
        raise HornbookError(f"{NAME}: {judged_by.identity} graded none of {model.identity}'s answers. {why}")
    details = {**told, "run": run_key(told), "unscored": len(have) - len(scored)}
    return _result(scored, known, failures, details, len(questions), time.perf_counter() - began)


def _talk(
    model: LanguageModel, questions: Sequence[Question], max_tokens: int, progress: Advances | None
) -> tuple[dict[str, list[str]], dict[str, Failure]]:
    """Both turns of every question, each turn in one batch."""
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
    answers: dict[str, list[str]] = {question.id: [] for question in questions}
    failures: dict[str, Failure] = {}
    for turn in (0, 1):
        asked = [question for question in questions if question.id not in failures]
        requests = []
        for question in asked:
            talk = [Message("user", question.turns[0])]
            if turn:
                talk += [Message("assistant", answers[question.id][0]), Message("user", question.turns[1])]
            requests.append(Request(messages=tuple(talk), sampling=sampling, tag=NAME))
        for question, result in zip(asked, model.complete(requests, progress=progress), strict=True):
            if isinstance(result, Completion):
                answers[question.id].append(result.text)
            else:
                failures[question.id] = result
    return {name: said for name, said in answers.items() if name not in failures}, failures


def _controls(
    judged_by: LanguageModel, questions: Sequence[Question], answers: Mapping[str, Sequence[str]], seed: int
) -> dict[str, Judged]:
    """Pairs whose better half is known: the answer to the question, and the answer to another one.

    Where two questions were answered alike there is nothing to tell apart, and no pair.
    """
    rng = Random(f"mt-bench {seed}")
    cases = []
    for place, question in enumerate(questions):
        other = questions[(place + 1 + len(questions) // 2) % len(questions)]
        good, bad = answers[question.id][0], answers[other.id][0]
        if good.strip() != bad.strip() and good.strip():
            texts = (good, bad) if rng.random() < 0.5 else (bad, good)
            truth = "first" if texts[0] == good else "second"
            cases.append(pair(question.id, question.turns[0], *texts, truth=truth))
    return {judged.case.id: judged for judged in judge(judged_by, cases, rounds=_ROUNDS)}


def _sample(
    question: Question, said: Sequence[str], graded: Sequence[Judged], control: Judged | None
) -> dict[str, Any]:
    """What is kept of a question: grades by turn, and what the judge's columns are made of."""
    turns = [grade_of(judged) for judged in graded]
    values: dict[str, float] = {}
    if all(grade is not None for grade in turns):
        first, second = (float(grade or 0) for grade in turns)
        values = {"grade": (first + second) / 2, "grade of turn 1": first, "grade of turn 2": second}
    told = columns(graded)
    return {
        "asked": "\n\n".join(question.turns),
        "text": "\n\n---\n\n".join(said),
        "read": ", ".join(str(v.value) for judged in graded for v in judged.verdicts),
        "note": graded[0].verdicts[0].text[-500:],
        "reference": "\n\n".join(question.reference),
        "values": values,
        "judge": {
            "self-consistency": told.self_consistency,
            "same in both orders": [told.position.hits, told.position.trials],
            "unread": [told.unscored, told.verdicts],
            "known": None
            if control is None or control.value is None
            else control.value == control.case.truth,
            "pair in both orders": None
            if control is None or None in (control.of_order(0), control.of_order(1))
            else control.of_order(0) == control.of_order(1),
        },
    }


def _result(
    questions: Sequence[Question],
    known: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, Failure],
    details: Mapping[str, Any],
    asked: int,
    seconds: float,
) -> Result:
    names = ("grade", "grade of turn 1", "grade of turn 2")
    outcomes = {name: [float(known[q.id]["values"][name]) for q in questions] for name in names}
    categories = sorted({question.category for question in questions})
    return Result(
        task=NAME,
        items=len(questions),
        seconds=seconds,
        scores=(
            *(score_of(name, outcomes[name], scale=(1.0, 10.0)) for name in names),
            *_columns([known[question.id]["judge"] for question in questions]),
        ),
        outcomes=outcomes,
        samples=tuple(
            {
                "request": known[q.id]["asked"],
                "answer": known[q.id]["text"],
                "right": known[q.id]["values"]["grade"] >= 5.5,
                "note": f"grades {known[q.id]['read']}: {known[q.id]['note']}",
            }
            for q in questions[:12]
        ),
        details={
            **details,
            "groups": {
                name: fmean(known[q.id]["values"]["grade"] for q in questions if q.category == name)
                for name in categories
            },
        },
        unfinished=not_answered(failures, asked) if failures else "",
        ids=tuple(question.id for question in questions),
    )


def _columns(seen: Sequence[Mapping[str, Any]]) -> list[Score]:
    """The judge's columns over all questions; one that nothing was measured for is left out."""
    lists: dict[str, list[float]] = {
        "judge: same grade twice": [s["self-consistency"] for s in seen if s["self-consistency"] is not None],
        "judge: same grade in both orders": [hit for s in seen for hit in _hits(*s["same in both orders"])],
        "judge: same winner in both orders": [
            float(s["pair in both orders"]) for s in seen if s["pair in both orders"] is not None
        ],
        "judge: agrees with known pairs": [float(s["known"]) for s in seen if s["known"] is not None],
        "judge: unread": [hit for s in seen for hit in _hits(*s["unread"])],
    }
    return [score_of(name, values) for name, values in lists.items() if values]


def _hits(hits: int, trials: int) -> list[float]:
    return [1.0] * hits + [0.0] * (trials - hits)
