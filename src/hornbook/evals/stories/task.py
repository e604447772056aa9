"""TinyStories' grading as a task of `hornbook eval`: beginnings continued, instructed stories, any judge.

Exact programs grade always: they know the templates of the small world, so they fit models raised on it.
With --judge a model grades as in the paper, and beside its grades stands its worth: the teacher's own ending
against that of another story, two readings of one text, what could not be read.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals.asking import converses, kept_together
from hornbook.evals.benchmarks.source import read_file
from hornbook.evals.result import Result, Score, both_sides, not_answered, score_of
from hornbook.evals.sample_store import SampleStore, run_key
from hornbook.evals.stories.acts import acts, course
from hornbook.evals.stories.following import followed
from hornbook.evals.stories.grades import grade_story
from hornbook.evals.stories.judge import ASPECTS, Marks, Submission, mark
from hornbook.evals.stories.memory import COPIED, TrainingIndex
from hornbook.lm.base import Advances, Completion, Failure, LanguageModel, Request, Sampling, ask
from hornbook.synth.diversity import rouge_f, rouge_precision
from hornbook.synth.stories import continuation_prompt, story_rows
from hornbook.synth.story_instructions import END, Record, draw_labels, record_of

NAME = "tinystories"
SENTENCE = "Stories continued and stories to instructions: by rule, and with --judge as TinyStories does."
TRAINING_FILE = "training_stories"
_ITEMS, _ENDINGS, _READINGS, _VERSION = 40, 3, 2, 2
_SAMPLING = Sampling(temperature=1.0, max_tokens=200)
_GO_ON = (
    "Here is the beginning of a story for small children. It stops in the middle of a sentence. Go on from "
    "there to the end of the story. Write only what follows.\n\n"
)
_INSTRUCTED = "Write a short story for small children, as these lines ask. Write only the story.\n\n"
_RULES = ("grammar", "consistent", "finished", "creative", "instructions followed")
_ROUGE = ("likeness of endings", "likeness to the true ending")
_MEMORY = ("likeness to the nearest training story", "copied")


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A held-out story: how it begins and really ends, and what an instructed one is asked for."""

    id: str
    given: str
    ending: str
    plan: Mapping[str, Any]
    record: Record
    labels: tuple[str, ...]

    @property
    def instructions(self) -> str:
        return self.record.prompt(self.labels)


def beginnings(items: int, seed: int) -> list[Beginning]:
    """Held-out stories of the small world, cut inside a sentence near 40 % of their words."""
    found = []
    for row in story_rows(seed, items, held_out=True):
        given, ending = continuation_prompt(row["text"])
        record = record_of(row, rng := Random(f"{seed} {row['id']}"))
        labels = tuple(draw_labels(record.lines(), rng))
        plan = json.loads(row["meta"])["plan"]
        found.append(
            Beginning(id=row["id"], given=given, ending=ending, plan=plan, record=record, labels=labels)
        )
    return found


def run_stories(
    model: LanguageModel,
    judge: LanguageModel | None = None,
    *,
    data: Path | None = None,
    items: int | None = None,
    seed: int = 0,
    store: SampleStore | None = None,
    progress: Advances | None = None,
) -> Result:
    """Three endings of every beginning and one instructed story, graded.

    Args:
        judge: grades as in the paper, every text twice; None: exact programs alone.
        data: a folder with `training_stories.txt` or `.jsonl` (field `text`): copying is measured against it.
        items: beginnings; None: 40.
        store: beginnings of which every call was answered are kept; the others are asked again.

    Raises:
        HornbookError: nothing was answered.
    """
    began = time.perf_counter()
    asked = beginnings(items or _ITEMS, seed)
    told: dict[str, Any] = {
        "model": model.identity,
        "task": NAME,
        "judge": "exact programs" if judge is None else judge.identity,
        "version": _VERSION,
        "seed": seed,
        "chat": converses(model),
    }
    run = store.begin(told) if store else ""
    known = store.known(run, [one.id for one in asked]) if store else {}
    todo = [one for one in asked if one.id not in known]
    if progress is not None:
        progress.advance((_ENDINGS + 1) * (len(asked) - len(todo)))
    failures: dict[str, Failure] = {}
    for some in kept_together(model, todo):
        found, failed = _examined(model, judge, some, seed, progress)
        known |= found
        failures |= failed
        if store and found:
            store.put(run, found)
    have = [one for one in asked if one.id in known]
    if not have:
        first = next(iter(failures.values()))
        raise HornbookError(
            f"{NAME}: no story of {model.identity} was written and graded ({first.kind}: {first.message})"
        )
    index = _training(data)
    details = {**told, "run": run_key(told), "training stories": 0 if index is None else len(index.texts)}
    return _result(have, known, index, failures, len(asked), details, time.perf_counter() - began)


def _examined(
    model: LanguageModel,
    judge: LanguageModel | None,
    asked: Sequence[Beginning],
    seed: int,
    progress: Advances | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, Failure]]:
    """What is kept of each beginning, and those of which a call failed."""
    texts, failures = _written(model, asked, seed, progress)
    done = [one for one in asked if one.id in texts]
    readings = _read(judge, done, texts) if judge is not None and done else {}
    found: dict[str, dict[str, Any]] = {}
    for one in done:
        own = readings.get(one.id, {})
        lost = next((marks.why for ones in own.values() for marks in ones if marks.why), "")
        if lost:
            failures[one.id] = Failure(kind="server", message=f"{lost}.")
        else:
            found[one.id] = _sample(one, texts[one.id], own)
    return found, failures


def _written(
    model: LanguageModel, asked: Sequence[Beginning], seed: int, progress: Advances | None
) -> tuple[dict[str, list[str]], dict[str, Failure]]:
    """{beginning: its endings and, last, its instructed story}, all of them one batch; and what failed."""
    chat = converses(model)
    sampling = Sampling(temperature=_SAMPLING.temperature, max_tokens=_SAMPLING.max_tokens, seed=seed)

    def request(prompt: str, before: str, number: int) -> Request:
        if chat:
            return ask(before + prompt, sampling=sampling, sample_index=number, tag=NAME)
        return Request(prompt=prompt, sampling=sampling, sample_index=number, tag=NAME)

    requests = []
    for one in asked:
        requests += [request(one.given, _GO_ON, number) for number in range(_ENDINGS)]
        requests.append(request(one.instructions, _INSTRUCTED, 0))
    results = model.complete(requests, progress=progress)
    texts: dict[str, list[str]] = {}
    failures: dict[str, Failure] = {}
    each = _ENDINGS + 1
    for place, one in enumerate(asked):
        own = results[place * each : (place + 1) * each]
        lost = next((result for result in own if isinstance(result, Failure)), None)
        if lost is not None:
            failures[one.id] = lost
        else:
            texts[one.id] = [result.text for result in own if isinstance(result, Completion)]
    return texts, failures


Readings = dict[str, list[Marks]]
"""By what was graded ("ending", "instructed", "teacher", "another story's"), every grading of it."""


def _read(
    judge: LanguageModel, asked: Sequence[Beginning], texts: Mapping[str, Sequence[str]]
) -> dict[str, Readings]:
    """A judge's gradings, each text twice: the first ending, the instructed story, and two controls."""
    submissions: list[tuple[str, str, Submission]] = []
    for place, one in enumerate(asked):
        other = asked[(place + 1) % len(asked)]
        written = texts[one.id]
        first = _after(one.given, written[0])
        submissions += [
            (one.id, "ending", Submission(group=one.id, given=one.given, written=first)),
            (one.id, "instructed", Submission(group=one.id, given=one.instructions, written=written[-1],
                                              instructed=True)),
            (one.id, "teacher", Submission(group=one.id, given=one.given, written=one.ending)),
        ]  # fmt: skip
        if other is not one:
            swapped = Submission(group=one.id, given=one.given, written=other.ending)
            submissions.append((one.id, "another story's", swapped))
    found: dict[str, Readings] = {one.id: {} for one in asked}
    for turn in range(_READINGS):
        graded = mark(judge, [one for _, _, one in submissions], salt=f"{NAME} {turn}")
        for (name, what, _), marks in zip(submissions, graded, strict=True):
            found[name].setdefault(what, []).append(marks)
    return found


def _after(given: str, written: str) -> str:
    """An ending as it stands behind its beginning: a chat model's comes without the space before it."""
    return written if not written or written[0].isspace() or given[-1:].isspace() else f" {written}"


def _sample(one: Beginning, texts: Sequence[str], readings: Readings) -> dict[str, Any]:
    """What is kept of a beginning: its texts and values."""
    endings, instructed = texts[:-1], texts[-1]
    values = _by_rule(one, endings) | {
        "instructions followed": fmean(followed(instructed, one.record, one.labels).values())
    }
    likeness = [rouge_f(a, b, 2) for at, a in enumerate(endings) for b in endings[:at]]
    values["likeness of endings"] = fmean(likeness)
    values["likeness to the true ending"] = fmean(rouge_precision(text, one.ending, 2) for text in endings)
    sample: dict[str, Any] = {
        "asked": f"{one.given}\n\n---\n\n{one.instructions}",
        "text": "\n\n---\n\n".join(texts),
        "texts": list(texts),
        "read": "",
        "note": "",
        "reference": one.ending,
        "values": values,
    }
    if readings:
        sample["judge"] = _of_judge(readings)
        values |= sample["judge"].pop("grades")
        sample["note"] = readings["ending"][0].review[:500]
    return sample


def _by_rule(one: Beginning, endings: Sequence[str]) -> dict[str, float]:
    grades = [grade_story(one.given + _after(one.given, text), one.plan, given=one.given) for text in endings]
    courses = set()
    for text, grade in zip(endings, grades, strict=True):
        begun = len(one.given)
        told = course([act for act in acts(one.given + _after(one.given, text)) if act.start >= begun])
        if told and grade.grammar == 1:
            courses.add(told)
    return {
        "grammar": fmean(grade.grammar for grade in grades),
        "consistent": fmean(grade.sound for grade in grades),
        "finished": fmean(grade.finished for grade in grades),
        "creative": len(courses) / len(endings),
    }


def _of_judge(readings: Readings) -> dict[str, Any]:
    """Grades of one beginning (an aspect that no reading has is left out), and what tells of the judge."""
    grades = {}
    for what, shown in (("ending", ""), ("instructed", ", instructed")):
        for aspect in ASPECTS:
            read = [marks.grades[aspect] for marks in readings[what] if aspect in marks.grades]
            if read:
                grades[f"grade of {aspect}{shown}"] = fmean(read)
    pairs = [
        (first.grades[aspect], second.grades[aspect])
        for first, second in (ones[:2] for ones in readings.values())
        for aspect in ASPECTS
        if aspect in first.grades and aspect in second.grades
    ]
    teacher, other = (
        [marks.grades["consistency"] for marks in readings.get(what, ()) if "consistency" in marks.grades]
        for what in ("teacher", "another story's")
    )
    every = [marks for ones in readings.values() for marks in ones]
    return {
        "grades": grades,
        "same": [float(a == b) for a, b in pairs],
        "apart": [abs(a - b) for a, b in pairs],
        "tells": [float(a > b) + 0.5 * (a == b) for a in teacher for b in other],
        "unread": [float(not marks.complete) for marks in every],
        "ages": [marks.age for marks in readings["ending"] if marks.age],
    }


def _training(data: Path | None) -> TrainingIndex | None:
    """The stories that copying is measured against, where the data folder has them."""
    if data is None or not data.is_dir():
        return None
    for suffix in (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet"):
        for path in sorted(data.rglob(TRAINING_FILE + suffix)):
            rows = list(read_file(path))
            if any("text" not in row for row in rows):
                raise HornbookError(f"{path}: a story needs the field 'text'.")
            texts = [str(row["text"]) for row in rows]
            if suffix.startswith(".txt") and any(END in text for text in texts):  # as TinyStories comes
                texts = "".join(texts).split(END)
            return TrainingIndex([text for text in texts if text.strip()])
    return None


def _result(
    have: Sequence[Beginning],
    known: Mapping[str, Mapping[str, Any]],
    index: TrainingIndex | None,
    failures: Mapping[str, Failure],
    asked: int,
    details: Mapping[str, Any],
    seconds: float,
) -> Result:
    values: list[dict[str, float]] = [dict(known[one.id]["values"]) for one in have]
    names = [*_RULES, *_ROUGE]
    if index is not None:
        names += _MEMORY
        for own, one in zip(values, have, strict=True):
            nearest = [index.nearest(text)[0] for text in known[one.id]["texts"][:-1]]
            own[_MEMORY[0]], own[_MEMORY[1]] = fmean(nearest), fmean(near > COPIED for near in nearest)
    judged = [f"grade of {aspect}{shown}" for shown in ("", ", instructed") for aspect in ASPECTS]
    names = [*(name for name in judged if any(name in own for own in values)), *names]
    outcomes = {name: [own[name] for own in values if name in own] for name in names}
    lower = {*_ROUGE, *_MEMORY}
    scores = [
        Score(
            name=name, value=one.value, interval=one.interval, better="lower" if name in lower else "higher"
        )
        for name in names
        for one in [score_of(name, outcomes[name], scale=(0.0, 10.0) if name in judged else (0.0, 1.0))]
    ]
    seen = [known[one.id]["judge"] for one in have if "judge" in known[one.id]]
    ages = Counter(age for one in seen for age in one["ages"])
    scores += _columns(have, known)
    graded = "grade of consistency" if "grade of consistency" in outcomes else "consistent"
    half = 5.0 if graded.startswith("grade") else 0.5
    return Result(
        task=NAME,
        items=len(have),
        seconds=seconds,
        scores=tuple(scores),
        outcomes={name: found for name, found in outcomes.items() if len(found) == len(have)},
        samples=both_sides(
            [
                {
                    "request": known[one.id]["asked"],
                    "answer": known[one.id]["text"],
                    "right": own.get(graded, 0.0) > half,
                    "note": known[one.id]["note"],
                }
                for one, own in zip(have, values, strict=True)
            ]
        ),
        details={**details, **({"ages": dict(sorted(ages.items()))} if ages else {})},
        unfinished=not_answered(failures, asked) if failures else "",
        ids=tuple(one.id for one in have),
    )


def _columns(have: Sequence[Beginning], known: Mapping[str, Mapping[str, Any]]) -> list[Score]:
    """What tells of the judge, drawn by beginning; the first is one half for a judge that does not read."""
    columns = {
        "judge: teacher's ending above another's": ("tells", 1.0),
        "judge: same grade twice": ("same", 1.0),
        "grades apart of one text": ("apart", 10.0),
        "judge: unread": ("unread", 1.0),
    }
    scores = []
    for name, (key, most) in columns.items():
        pairs = [(one.id, v) for one in have for v in known[one.id].get("judge", {}).get(key, ())]
        if pairs:
            found = score_of(name, [v for _, v in pairs], clusters=[c for c, _ in pairs], scale=(0.0, most))
            better = "lower" if key in ("apart", "unread") else "higher"
            scores.append(Score(name=name, value=found.value, interval=found.interval, better=better))
    return scores
