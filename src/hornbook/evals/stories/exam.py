"""Storytellers examined by rule where TinyStories asks a judge (Eldan and Li 2023, sections 3 and 4).

Four steps, each over many checkpoints side by side: stories continued from beginnings cut in mid-sentence;
which of two continuations is likelier; instructions; copying. The grades are exact programs over a world
whose truth is known (`grades`, `acts`, `following`); `judge` asks a model instead.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.evals.choices import choose, story_choices
from hornbook.evals.stories.acts import acts, course
from hornbook.evals.stories.following import followed
from hornbook.evals.stories.grades import grade_story
from hornbook.evals.stories.memory import TrainingIndex, copying, summary
from hornbook.evals.stories.ngram import NgramTeller
from hornbook.lab.files import write_atomic
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.lab.workers import side_by_side
from hornbook.lm.base import Sampling
from hornbook.synth.stories import continuation_prompt
from hornbook.synth.story_instructions import LABELS, record_of
from hornbook.synth.world import PLOT_NAMES

MAX_ROWS = 256
"""Rows of the engine: steps of a small student cost little more for many rows than for few."""
_SHOWN = 6
TEACHER, NGRAM = "teacher", "5-gram"
"""Names of the controls: the true ending of each story, and word n-grams with back-off."""

Row = Mapping[str, Any]


def _estimate(seconds_each: float) -> Callable[..., Estimate]:
    def estimate(*, students: Mapping[str, Path], workers: int = 1, **other: Any) -> Estimate:
        return Estimate(
            seconds=8 + seconds_each * len(students) / workers, memory_bytes=workers * 700e6, disk_bytes=1e6
        )

    return estimate


def draw(
    folder: Path, prompts: Sequence[str], *, samples: int, temperature: float, max_tokens: int, seed: int = 0
) -> list[list[str]]:
    """What a checkpoint writes after each prompt, `samples` times; the same seed gives the same texts."""
    import torch

    from hornbook.infer.engine import Engine
    from hornbook.model.hf import load_checkpoint

    torch.set_num_threads(1)
    tokenizer = Tokenizer.load(folder)
    engine = Engine(load_checkpoint(folder), tokenizer, max_rows=MAX_ROWS)
    sampling = [
        Sampling(temperature=temperature, max_tokens=max_tokens, seed=(seed * 1_000_003 + at) % 2**31)
        for at in range(len(prompts))
    ]
    drawn = engine.generate([tokenizer.encode(prompt) for prompt in prompts], sampling, samples)
    return [[answer.text for answer in answers] for answers in drawn]


def _rows(corpus: Artifact | Path, count: int) -> Sequence[Row]:
    folder = corpus.path if isinstance(corpus, Artifact) else corpus
    rows = list(islice(Corpus.open(folder).iter_rows(["id", "text", "meta"]), count))
    if len(rows) < count:
        raise HornbookError(f"story exam: {count} stories are asked of {folder}, which holds {len(rows)}.")
    return rows


@step(version="1", makes="table", estimate=_estimate(4))
def grade_completions(
    ctx: StepContext,
    *,
    students: Mapping[str, Path],
    stories: Artifact | Path,
    count: int,
    samples: int,
    training: Artifact | Path | None = None,
    temperature: float = 1.0,
    max_tokens: int = 160,
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """Beginnings of held-out stories, cut inside a sentence near 40 %, continued and graded.

    Args:
        students: checkpoint folders by name.
        stories: held-out stories with their plans; the first `count` give the beginnings.
        samples: continuations of each.
        training: the stories of the control `NGRAM`; None: without it. `TEACHER` (the true endings) is always
            there; it has one ending a story and so no creativity.

    Facts, by student: `grammar` (share of sentences without a fault of form, from the cut one on), `sound`
    (share in which nobody and nothing is confused, either), `consistent` (continuations without any
    confusion), `finished`, `creative` (of the continuations of
    one beginning, different courses of events among those whose every sentence is grammatical, over their
    number), each one number a beginning; `shown`: some, with their faults. `NAME.jsonl` holds all.
    """
    rows = _rows(stories, count)
    cut = [continuation_prompt(row["text"]) for row in rows]
    plans = [json.loads(row["meta"])["plan"] for row in rows]
    grade = partial(_graded, beginnings=[beginning for beginning, _ in cut], plans=plans, folder=ctx.folder)
    jobs = {
        name: partial(
            _complete,
            student,
            prompts=[beginning for beginning, _ in cut],
            samples=samples,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
            then=partial(grade, name),
        )
        for name, student in students.items()
    }
    progress = ctx.progress(len(jobs), "students")
    found = dict(side_by_side(jobs, workers=workers, progress=progress))
    found[TEACHER] = grade(TEACHER, [[ending] for _, ending in cut])
    if training is not None:
        folder = training.path if isinstance(training, Artifact) else training
        teller = NgramTeller([row["text"] for row in Corpus.open(folder).iter_rows(["text"])])
        rng = Random(seed)
        told = [[teller.complete(beginning, rng) for _ in range(samples)] for beginning, _ in cut]
        found[NGRAM] = grade(NGRAM, told)
    return found


def _complete(
    student: Path,
    *,
    prompts: Sequence[str],
    then: Callable[[list[list[str]]], dict[str, Any]],
    progress: Any,
    **how: Any,
) -> dict[str, Any]:
    """One student's texts, in a process of its own, and what `then` makes of them."""
    result = then(draw(student, prompts, **how))
    progress.advance(1)
    return result


def _graded(
    name: str,
    texts: Sequence[Sequence[str]],
    *,
    beginnings: Sequence[str],
    plans: Sequence[Mapping[str, Any]],
    folder: Path,
) -> dict[str, Any]:
    """The grades of one student's continuations; see `grade_completions`."""
    scores: dict[str, list[float]] = {
        name: [] for name in ("grammar", "sound", "consistent", "finished", "creative")
    }
    lines = []
    for beginning, plan, endings in zip(beginnings, plans, texts, strict=True):
        grades = [grade_story(beginning + ending, plan, given=beginning) for ending in endings]
        courses = set()
        for ending, one in zip(endings, grades, strict=True):
            told = course([act for act in acts(beginning + ending) if act.start >= len(beginning)])
            if told and one.grammar == 1:
                courses.add(told)
            record = {"beginning": beginning, "ending": ending, **asdict(one)}
            lines.append({k: v for k, v in record.items() if k not in ("words_present", "sentences")})
        scores["grammar"].append(fmean(one.grammar for one in grades))
        scores["sound"].append(fmean(one.sound for one in grades))
        scores["consistent"].append(fmean(one.consistent for one in grades))
        scores["finished"].append(fmean(one.finished for one in grades))
        scores["creative"].append(len(courses) / len(endings))
    write_atomic(
        folder / f"{name.replace('/', '-')}.jsonl",
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines),
    )
    step = len(texts[0])
    return {**scores, "shown": [lines[at * step] for at in range(min(_SHOWN, len(texts)))]}


@step(version="1", makes="table", estimate=_estimate(3))
def compare_continuations(
    ctx: StepContext,
    *,
    students: Mapping[str, Path],
    count: int,
    plots: Sequence[str] = PLOT_NAMES,
    seed: int = 1,
    workers: int = 1,
) -> dict[str, Any]:
    """Held-out stories against the same with one fault: which does a student find likelier after their
    common beginning? Chance is one half; needs no story to be written, so it tells even young models apart.
    `plots`: what the stories tell.

    Facts, by student: {kind of fault: [0 or 1 an item]} for the kinds of `corruption.KINDS`.
    """
    jobs = {
        name: partial(_compare, student, count=count, plots=tuple(plots), seed=seed)
        for name, student in students.items()
    }
    return dict(side_by_side(jobs, workers=workers, progress=ctx.progress(len(jobs), "students")))


def _compare(
    student: Path, *, count: int, plots: Sequence[str], seed: int, progress: Any
) -> dict[str, list[int]]:
    import torch

    from hornbook.infer.engine import Engine
    from hornbook.model.hf import load_checkpoint

    torch.set_num_threads(1)
    tokenizer = Tokenizer.load(student)
    engine = Engine(load_checkpoint(student), tokenizer, max_rows=MAX_ROWS)
    choices = story_choices(count, seed, by_fault=True, plots=plots)
    found: dict[str, list[int]] = {}
    for choice, right in zip(choices, choose(engine, tokenizer, choices), strict=True):
        found.setdefault(choice.kind, []).append(int(right))
    progress.advance(1)
    return found


@step(version="1", makes="table", estimate=_estimate(3))
def follow_instructions(
    ctx: StepContext,
    *,
    students: Mapping[str, Path],
    stories: Artifact | Path,
    together: Sequence[str],
    count: int,
    temperature: float = 0.0,
    max_tokens: int = 220,
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """Instructions from held-out stories, one at a time and `together`, and how far the stories follow.

    Args:
        stories: held-out stories with their plans and summaries.
        together: labels that are asked at once, such as training kept apart.
        count: prompts of each of the four labels and of those together.

    Facts, by student: {label: [from 0 to 1 a prompt]} and, for each label of `together` asked with the other,
    "label, together"; the same with " by chance" at the end: the story graded by the next prompt's
    instructions. `shown`: some, with what they follow.
    """
    rows = _rows(stories, count)
    records = [record_of(row, Random(f"{seed}/{row['id']}")) for row in rows]
    asked: list[tuple[str, list[str]]] = [(label, [label]) for label in LABELS]
    asked.append(("together", list(together)))
    prompts = [record.prompt(labels) for _, labels in asked for record in records]
    jobs = {
        name: partial(
            _complete,
            student,
            prompts=prompts,
            samples=1,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
            then=partial(_followed, records=records, asked=asked),
        )
        for name, student in students.items()
    }
    return dict(side_by_side(jobs, workers=workers, progress=ctx.progress(len(jobs), "students")))


def _followed(
    texts: Sequence[Sequence[str]], *, records: Sequence[Any], asked: Sequence[tuple[str, list[str]]]
) -> dict[str, Any]:
    found: dict[str, Any] = {"shown": []}
    for part, (name, labels) in enumerate(asked):
        for at, record in enumerate(records):
            story = texts[part * len(records) + at][0]
            own = followed(story, record, labels)
            chance = followed(story, records[(at + 1) % len(records)], labels)
            for label in labels:
                key = f"{label}, together" if name == "together" else label
                found.setdefault(key, []).append(own[label])
                found.setdefault(f"{key} by chance", []).append(chance[label])
            if at < 2:
                found["shown"].append(
                    {"prompt": record.prompt(labels).strip(), "story": story.strip(), "followed": own}
                )
    return found


@step(version="1", makes="table", estimate=_estimate(4))
def check_copying(
    ctx: StepContext,
    *,
    students: Mapping[str, Path],
    stories: Artifact | Path,
    training: Artifact | Path,
    count: int,
    temperature: float = 1.0,
    max_tokens: int = 160,
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """Beginnings continued once, and the endings compared with the training stories (`memory`).

    Args:
        stories: whose beginnings are given: held-out ones, or training stories, as in the paper.
        training: the stories to compare with.

    Facts, by student and for `TEACHER` (the true endings): what `memory.summary` has; `values`:
    `nearest` of every ending; `closest`: the two endings nearest to a training story, with it.
    """
    rows = _rows(stories, count)
    cut = [continuation_prompt(row["text"]) for row in rows]
    folder = training.path if isinstance(training, Artifact) else training
    jobs = {
        name: partial(
            _complete,
            student,
            prompts=[beginning for beginning, _ in cut],
            samples=1,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
            then=_first_of_each,
        )
        for name, student in students.items()
    }
    drawn = dict(side_by_side(jobs, workers=workers, progress=ctx.progress(len(jobs), "students")))
    drawn[TEACHER] = {"endings": [ending for _, ending in cut]}
    index = TrainingIndex([row["text"] for row in Corpus.open(folder).iter_rows(["text"])])
    found: dict[str, Any] = {}
    for name, told in drawn.items():
        endings = told["endings"]
        each = copying(endings, [truth for _, truth in cut], index)
        ranked = sorted(range(len(each)), key=lambda at: -each[at].nearest)[:2]
        closest = []
        for at in ranked:
            number = each[at].nearest_text
            if number is not None:
                closest.append(
                    {
                        "beginning": cut[at][0],
                        "ending": endings[at],
                        "nearest": each[at].nearest,
                        "training": index.texts[number],
                    }
                )
        found[name] = {**summary(each), "values": [one.nearest for one in each], "closest": closest}
    return found


def _first_of_each(texts: list[list[str]]) -> dict[str, Any]:
    return {"endings": [endings[0] for endings in texts]}
