"""Stories graded by a model, as a teacher grades a pupil (Eldan and Li 2023, section 3).

The judge sees how a story begins and, behind a mark, what the pupil wrote, in two turns: it reviews in words,
then grades grammar, creativity, consistency and plot out of ten and guesses the pupil's age. Any
`LanguageModel` can be the judge, so its worth is measured beside every grade: it also grades the teacher's
own endings, endings of other stories and damaged ones, and every text more than once. What cannot be read is
asked for once more and then counted as missing, never as zero.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.evals.candidates import auc
from hornbook.evals.stories.corruption import KINDS, corrupt
from hornbook.evals.stories.exam import TEACHER
from hornbook.infer.open import open_model
from hornbook.lab.files import write_atomic
from hornbook.lab.statistics import bootstrap_interval
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.lm.base import Advances, Completion, LanguageModel, Message, Request, Sampling
from hornbook.synth.stories import Story, continuation_prompt
from hornbook.synth.world import StoryPlan

VERSION = "story-judge-1"
ASPECTS = ("grammar", "creativity", "consistency", "plot")
AGES = {"A": "3 or younger", "B": "4 or 5", "C": "6 or 7", "D": "8 or 9", "E": "10 to 12", "F": "13 to 16"}
MARK = "***"
OTHER, DAMAGED = "ending of another story", "teacher, damaged"
"""Controls: a judge that reads must grade their consistency below the teacher's own endings."""

REVIEW = """\
A pupil was given the beginning of a story and had to finish it. The mark *** stands where the pupil's part
begins.

{given}***{written}

Review the pupil's part in a few sentences: its grammar, its creativity, its plot, and how it fits the
beginning. Look with care at the sentence that the mark cuts in two: does the pupil end it sensibly?
"""
REVIEW_INSTRUCTED = """\
A pupil was told what a story must hold, and wrote it. The mark *** stands where the pupil's story begins.

{given}
***
{written}

Review the story in a few sentences: its grammar, its creativity, its plot, and whether it does what was
asked.
"""
GRADE = """\
Now grade the pupil's part: grammar, creativity, consistency with {what}, and plot, each from 1 to 10.
Guess the pupil's age group too: {ages}.
Write one line like this and nothing else:
Grammar: 0/10, Creativity: 0/10, Consistency: 0/10, Plot: 0/10, Age group: X
"""
REVIEWING = Sampling(temperature=0.7, max_tokens=200)
GRADING = Sampling(temperature=0.7, max_tokens=48)

_AGE = re.compile(r"age(?:\s+group)?\W{0,6}(?:group\W{0,3})?\(?([A-F])\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a pupil was given and wrote.

    group: names the texts that belong together (one beginning); instructed: given are instructions.
    """

    group: str
    given: str
    written: str
    instructed: bool = False


@dataclass(frozen=True, kw_only=True)
class Marks:
    """One grading. `grades` holds the aspects that could be read, `age` a letter of `AGES` or None."""

    grades: Mapping[str, float]
    age: str | None
    review: str
    said: str
    why: str = ""

    @property
    def complete(self) -> bool:
        return len(self.grades) == len(ASPECTS)


def read_marks(text: str) -> tuple[dict[str, float], str | None]:
    """The grades that a line states, each from 0 to 10, and the age group.

    What is stated twice with different values, or lies outside, is not read.
    """
    grades = {}
    for aspect in ASPECTS:
        found = {
            float(value)
            for value in re.findall(rf"{aspect}[^\d\n,;]{{0,12}}?(\d+(?:\.\d+)?)", text, re.IGNORECASE)
        }
        if len(found) == 1 and 0 <= (value := found.pop()) <= 10:
            grades[aspect] = value
    ages = {letter.upper() for letter in _AGE.findall(text)}
    return grades, ages.pop() if len(ages) == 1 else None


def mark(
    judge: LanguageModel,
    submissions: Sequence[Submission],
    *,
    salt: str = "",
    progress: Advances | None = None,
) -> list[Marks]:
    """Every submission reviewed and graded once; three batches of calls at most.

    salt: another one asks the same judge for another opinion.
    """
    first = [
        Message(
            "user",
            (REVIEW_INSTRUCTED if one.instructed else REVIEW).format(given=one.given, written=one.written),
        )
        for one in submissions
    ]
    reviews = judge.complete(
        [Request(messages=(m,), sampling=REVIEWING, salt=salt, tag="story review") for m in first],
        progress=progress,
    )
    open_ = {at: answer.text for at, answer in enumerate(reviews) if isinstance(answer, Completion)}
    found: dict[int, Marks] = {}
    for number, sampling in enumerate((GRADING, Sampling(temperature=0.0, max_tokens=GRADING.max_tokens))):
        places = [at for at in open_ if at not in found or not found[at].complete]
        requests = [
            Request(
                messages=(
                    first[at],
                    Message("assistant", open_[at]),
                    Message("user", _grade_prompt(submissions[at])),
                ),
                sampling=sampling,
                salt=salt,
                sample_index=number,
                tag="story grade",
            )
            for at in places
        ]
        for at, answer in zip(places, judge.complete(requests) if requests else [], strict=True):
            if isinstance(answer, Completion):
                grades, age = read_marks(answer.text)
                if at not in found or len(grades) > len(found[at].grades):
                    found[at] = Marks(grades=grades, age=age, review=open_[at], said=answer.text)
    return [
        found.get(at, Marks(grades={}, age=None, review="", said="", why="the judge did not answer"))
        for at in range(len(submissions))
    ]


def _grade_prompt(one: Submission) -> str:
    ages = ", ".join(f"{letter}: {years}" for letter, years in AGES.items())
    return GRADE.format(what="the instructions" if one.instructed else "the beginning", ages=ages)


def summarize(submissions: Sequence[Submission], marks: Sequence[Marks]) -> dict[str, Any]:
    """By aspect the mean, its bootstrap 95 % interval over groups (not over texts) and how many were read;
    `missing`: texts of which some grade could not be read; `ages`: how often each group was guessed."""
    told: dict[str, Any] = {"texts": len(marks), "missing": sum(not one.complete for one in marks)}
    for aspect in ASPECTS:
        read = [
            (one.group, got.grades[aspect])
            for one, got in zip(submissions, marks, strict=True)
            if aspect in got.grades
        ]
        values = [value for _, value in read]
        interval = list(bootstrap_interval(values, clusters=[name for name, _ in read])) if read else None
        told[aspect] = {"value": fmean(values) if read else None, "interval": interval, "read": len(read)}
    told["ages"] = dict(sorted(Counter(one.age for one in marks if one.age).items()))
    return told


def _estimate(*, students: Sequence[str], count: int, rounds: int = 2, **other: Any) -> Estimate:
    return Estimate(seconds=20 + 4 * count * rounds * (len(students) + 3), memory_bytes=1.5e9, disk_bytes=1e6)


@step(version=VERSION, makes="table", estimate=_estimate)
def judge_storytellers(
    ctx: StepContext,
    *,
    graded: Artifact | Path,
    students: Sequence[str],
    stories: Artifact | Path,
    judge: str | LanguageModel,
    count: int,
    rounds: int = 2,
    seed: int = 0,
) -> dict[str, Any]:
    """A judge's grades of what `grade_completions` drew, beside controls and the judge's own worth.

    Args:
        graded: from `grade_completions`; students: names in it.
        stories: the held-out stories that gave the beginnings.
        judge: a model, as `open_model` reads it.
        count: beginnings; the first ending of each is judged.
        rounds: how often each text is judged.

    Facts: `judge`; `marks` {student or control: `summarize`}; `self_difference`: points by which two grades
    of one text differ, on average; `tells` {control: probability that a teacher's ending has the higher grade
    of consistency (ties count half): one half is a judge that does not read}; `with_length`: correlation of
    the mean grade with the number of words; `shown`. `marks.jsonl` holds every grading.

    Raises:
        HornbookError: the judge answered nothing that can be read.
    """
    folder = graded.path if isinstance(graded, Artifact) else graded
    texts = {name: _texts(folder, name, count) for name in (*students, TEACHER)}
    texts |= {OTHER: _shifted(texts[TEACHER]), DAMAGED: _damaged(texts[TEACHER], stories, seed)}
    model = open_model(judge) if isinstance(judge, str) else judge
    flat = [(name, one) for name, ones in texts.items() for one in ones]
    progress = ctx.progress(len(flat) * rounds, "texts", model.identity)
    gradings = [
        mark(model, [one for _, one in flat], salt=f"{VERSION}/{turn}", progress=progress)
        for turn in range(rounds)
    ]
    if not any(one.grades for turn in gradings for one in turn):
        raise HornbookError(
            f"The judge {model.identity} gave no grade that can be read; the first answer was: "
            f"{gradings[0][0].said[:200] or gradings[0][0].why!r}"
        )
    lines = [
        {"of": name, "given": one.given, "written": one.written, **vars(got)}
        for turn in gradings
        for (name, one), got in zip(flat, turn, strict=True)
    ]
    write_atomic(
        ctx.folder / "marks.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    )
    places = {name: [at for at, (own, _) in enumerate(flat) if own == name] for name in texts}
    return {
        "judge": model.identity,
        "rounds": rounds,
        "marks": {
            name: summarize(
                [flat[at][1] for _ in gradings for at in own], [turn[at] for turn in gradings for at in own]
            )
            for name, own in places.items()
        },
        "self_difference": _self_difference(gradings),
        "tells": {name: _tells(gradings, places[TEACHER], places[name]) for name in (OTHER, DAMAGED)},
        "with_length": _with_length([one for _, one in flat], gradings[0]),
        "shown": lines[:4],
    }


def _texts(folder: Path, name: str, count: int) -> list[Submission]:
    """The first ending of each of the first beginnings."""
    seen: dict[str, str] = {}
    with (folder / f"{name.replace('/', '-')}.jsonl").open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            seen.setdefault(line["beginning"], line["ending"])
    return [
        Submission(group=str(at), given=given, written=written)
        for at, (given, written) in enumerate(islice(seen.items(), count))
    ]


def _shifted(ones: Sequence[Submission]) -> list[Submission]:
    """Every beginning with the ending of the next."""
    return [
        Submission(group=one.group, given=one.given, written=after.written)
        for one, after in zip(ones, [*ones[1:], *ones[:1]], strict=True)
    ]


def _damaged(ones: Sequence[Submission], stories: Artifact | Path, seed: int) -> list[Submission]:
    """The teacher's endings with one fault each, where there is a place for it behind the cut."""
    folder = stories.path if isinstance(stories, Artifact) else stories
    rng, out = Random(seed), []
    rows = Corpus.open(folder).iter_rows(["text", "meta"])
    for at, (one, row) in enumerate(zip(ones, rows)):
        meta = json.loads(row["meta"])
        story = Story(text=row["text"], plan=StoryPlan.from_json(meta["plan"]), summary="")
        given = continuation_prompt(row["text"])[0]
        for turn in range(4 * len(KINDS)):
            text = corrupt(story, KINDS[(at + turn) % len(KINDS)], rng)
            if text is not None and text.startswith(given):
                out.append(Submission(group=one.group, given=given, written=text[len(given) :]))
                break
    return out


def _self_difference(gradings: Sequence[Sequence[Marks]]) -> float | None:
    """Mean absolute difference of two grades that one judge gave one text for one aspect."""
    apart = [
        abs(a.grades[aspect] - b.grades[aspect])
        for one, other in pairwise(gradings)
        for a, b in zip(one, other, strict=True)
        for aspect in ASPECTS
        if aspect in a.grades and aspect in b.grades
    ]
    return fmean(apart) if apart else None


def _tells(gradings: Sequence[Sequence[Marks]], sound: Sequence[int], other: Sequence[int]) -> float | None:
    pairs = [
        (turn[at].grades["consistency"], right)
        for turn in gradings
        for places, right in ((sound, True), (other, False))
        for at in places
        if "consistency" in turn[at].grades
    ]
    return auc([value for value, _ in pairs], [right for _, right in pairs])


def _with_length(submissions: Sequence[Submission], marks: Sequence[Marks]) -> float | None:
    import numpy as np

    pairs = [
        (len(one.written.split()), fmean(got.grades.values()))
        for one, got in zip(submissions, marks, strict=True)
        if got.complete
    ]
    lengths, grades = np.array([a for a, _ in pairs], float), np.array([b for _, b in pairs], float)
    if len(pairs) < 3 or not lengths.std() or not grades.std():
        return None
    return float(np.corrcoef(lengths, grades)[0, 1])
