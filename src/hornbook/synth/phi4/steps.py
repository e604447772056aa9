"""Steps that write phi-4's kinds of data. Every step takes a seed and a teacher, as the others of `synth` do.

`teacher="simulated"` (the default) writes what needs no model: planned truth, or rules on organic text. Where
neither is possible the step says so and names what is accepted.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any

from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import LanguageModel
from hornbook.synth import skill_texts
from hornbook.synth.phi4 import (
    conversation,
    plurality,
    questions,
    reversal,
    revision,
    rewriting,
    seeds,
    tested_code,
)
from hornbook.synth.plans import POOL, Drawn, clustered
from hornbook.synth.scripts import Row, Task
from hornbook.synth.teacher import is_small_embedded
from hornbook.synth.teaching import PREVIEW, STEERED_WIDTH, not_steered, write_taught
from hornbook.synth.word_problems import Teacher, write_problem
from hornbook.synth.writing import check_rows, estimate_rows, not_by_the_small_one, open_for, write_corpus

Texts = Artifact | Path
"""A corpus of documents."""


_NO_PROSE = "The documents hold no page of prose, which seeds are taken from."


def _documents(corpus: Texts) -> Iterator[tuple[str, str]]:
    folder = corpus.path if isinstance(corpus, Artifact) else corpus
    for row in Corpus.open(folder).iter_rows(["id", "text"]):
        yield str(row["id"]), str(row["text"])


def _about(
    passages: Iterator[tuple[str, str]], rows: int, *, steered: bool, seed: int
) -> list[tuple[str, str, str]]:
    """(id, text, cluster) of passages; steered: more than `rows`, so that there is something to choose from,
    and shuffled, because what lies together in a corpus is alike."""
    if not steered:
        return clustered(list(islice(passages, rows)))
    found = list(islice(passages, max(rows, POOL)))
    Random(seed).shuffle(found)
    return clustered(found)


def _made(
    ctx: StepContext,
    made: Iterator[tuple[Row | None, str]],
    *,
    total: int,
    version: str,
    seed: int,
    schema: str = "documents",
    **lineage: Any,
) -> dict[str, Any]:
    """Writes what was made without a model, with what was not and why."""
    rows, removed = list[Row](), list[Row]()
    for row, reason in made:
        if row is None:
            removed.append({"reason": reason})
        else:
            rows.append(row)
    how = {"writer": version, "seed": seed, "teacher": "simulated", **lineage}
    return write_corpus(ctx, rows, total=total, schema=schema, lineage=how, removed=removed)


@step(version=seeds.VERSION, makes="corpus", estimate=estimate_rows(200, 1500))
def choose_seeds(
    ctx: StepContext,
    *,
    documents: Texts,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    steered: bool = False,
) -> Mapping[str, Any]:
    """Passages worth writing from, out of organic documents, in two stages (see `seeds`).

    Args:
        rows: pages that a teacher looks at, of which a good one gives one passage; the rules look until they
            have so many passages, or at every page.
        teacher: grades by rubric; "simulated": the rules grade.
        steered: spend a teacher's calls on what little was found about so far, by clusters of the pages; the
            same argument of the other steps here does the same, by the facets of their tasks.
    """
    check_rows(rows)
    model = open_for(ctx, teacher)
    found = seeds.pages(_documents(documents))
    if isinstance(model, str):
        not_steered(steered)
        first = next(found, None)
        if first is None:
            raise HornbookError(_NO_PROSE)
        made = seeds.by_rules(chain([first], found), rows, seed=seed)
        return _made(ctx, made, total=rows, version=f"{seeds.VERSION}/rules", seed=seed)
    not_by_the_small_one(model, "grades of passages")
    tasks = [
        seeds.seed_task(id, page, seed=seed, about=about)
        for id, page, about in _about(found, rows, steered=steered, seed=seed)
    ]
    if not tasks:
        raise HornbookError(_NO_PROSE)
    return write_taught(ctx, model, tasks, rows, steered=steered, writer=seeds.VERSION, seed=seed)


@step(version=questions.VERSION, makes="corpus", estimate=estimate_rows(2000, 700))
def write_questions(
    ctx: StepContext,
    *,
    seeds: Texts,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    steered: bool = False,
) -> Mapping[str, Any]:
    """Questions with answers out of passages. rows: passages asked about; each gives up to a few rows."""
    check_rows(rows)
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        passages = islice(_documents(seeds), rows)
        found = [questions.questions_by_rules(id, text, seed=seed) for id, text in passages]
        silent = [(None, "no sentence of a form that a rule sees") for asked in found if not asked]
        made = iter([*silent, *((row, "") for asked in found for row in asked)])
        return _made(
            ctx, made, total=rows, version=f"{questions.VERSION}/rules", seed=seed, schema="conversations"
        )
    not_by_the_small_one(model, "questions with answers")
    tasks = [
        questions.question_task(id, text, seed=seed, about=about)
        for id, text, about in _about(_documents(seeds), rows, steered=steered, seed=seed)
    ]
    return write_taught(
        ctx, model, tasks, rows, steered=steered, writer=questions.VERSION, seed=seed, schema="conversations"
    )


@step(version=rewriting.VERSION, makes="corpus", estimate=estimate_rows(3000, 1200))
def write_rewrites(
    ctx: StepContext,
    *,
    seeds: Texts,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    forms: Sequence[str] = tuple(rewriting.FORMS),
    steered: bool = False,
) -> Mapping[str, Any]:
    """Passages in other forms, in turn. Without a model: fill-in-the-middle exercises (conversations)."""
    check_rows(rows)
    unknown = set(forms) - set(rewriting.FORMS)
    if unknown or not forms:
        raise HornbookError(f"forms is {list(forms)}; accepted are some of {', '.join(rewriting.FORMS)}.")
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        passages = islice(_documents(seeds), rows)
        exercises = (questions.gap_exercise(id, text, seed=seed) for id, text in passages)
        made = ((row, "" if row is not None else "fewer than three sentences") for row in exercises)
        return _made(
            ctx, made, total=rows, version=f"{questions.VERSION}/gap", seed=seed, schema="conversations"
        )
    known = _about(_documents(seeds), rows, steered=steered, seed=seed)

    def draw(number: int) -> Task:
        id, text, about = known[number % len(known)]
        form = forms[(number + number // len(known)) % len(forms)]
        return rewriting.rewrite_task(id, text, form, seed=seed, about=about)

    return write_taught(
        ctx, model, Drawn(draw, len(known) * len(forms)), rows, steered=steered, writer=rewriting.VERSION,
        seed=seed, forms=list(forms),
    )  # fmt: skip


@step(version=plurality.VERSION, makes="corpus", estimate=estimate_rows(400, 500))
def filter_questions(
    ctx: StepContext,
    *,
    rows: int,
    questions: Texts | None = None,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    samples: int = plurality.SAMPLES,
    wrong_each: float = 0.2,
    steered: bool = False,
) -> Mapping[str, Any]:
    """Questions of the right difficulty with their plurality answers.

    Args:
        questions: documents, a question each, answered by programs; None: our own word problems.
        samples: answers drawn for each.
        wrong_each: chance that the simulated teacher gets an operation wrong.

    Facts: `easy`, `hard` (shares of those asked); of the simulated teacher also `plurality_right` and
    `teacher_right`, shares of the kept questions whose plurality answer is true, and of single answers that
    are.
    """
    check_rows(rows)
    if samples < 3:
        raise HornbookError(f"samples is {samples}; fewer than 3 answers have no plurality worth the name.")
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        if questions is not None:
            raise HornbookError("The simulated teacher solves its own word problems only; name a teacher.")
        noise = Teacher(wrong_each=wrong_each)
        votes = [plurality.simulated_vote(seed, n, teacher=noise, samples=samples) for n in range(rows)]
        made = ((row, f"{vote.difficulty}: {vote.share:.0%} agree") for _, vote, row in votes)
        facts = _made(
            ctx, made, total=rows, version=f"{plurality.VERSION}/simulated", seed=seed,
            samples=samples, wrong_each=wrong_each,
        )  # fmt: skip
        kept = [row for *_, row in votes if row is not None]
        facts["plurality_right"] = sum(map(plurality.right, kept)) / len(kept)
        facts["teacher_right"] = 1 - sum(_errs(seed, index, noise) for index in range(rows)) / rows
        facts |= {kind: sum(v.difficulty == kind for _, v, _ in votes) / rows for kind in ("easy", "hard")}
        return facts
    not_by_the_small_one(model, "solutions")
    tasks: Sequence[Task] = Drawn(lambda number: plurality.own_task(number, samples=samples, seed=seed))
    if questions is not None:
        tasks = [
            plurality.plurality_task(id, text, samples=samples, seed=seed, facets={"about": about})
            for id, text, about in _about(_documents(questions), rows, steered=steered, seed=seed)
        ]
    facts = write_taught(
        ctx, model, tasks, rows, steered=steered, writer=plurality.VERSION, seed=seed, samples=samples
    )
    for kind in ("easy", "hard"):
        found = sum(n for reason, n in facts["removed"].items() if reason.startswith(kind))
        facts[kind] = found / min(rows, len(tasks))
    return facts


def _errs(seed: int, index: int, noise: Teacher) -> bool:
    return bool(write_problem(seed, index, teacher=noise).flaw)


@step(version=reversal.VERSION, makes="corpus", estimate=estimate_rows(150, 700))
def write_reversed(
    ctx: StepContext,
    *,
    rows: int,
    code: Texts | None = None,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    steered: bool = False,
) -> Mapping[str, Any]:
    """Instructions for code that exists, kept when a solution written from the instruction does the same.

    Args:
        code: documents of Python, whose functions that stand alone are used; None: our own exercises.
    """
    check_rows(rows)
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        if code is not None:
            raise HornbookError("The simulated teacher reads only its own code; name a teacher for yours.")
        made = (reversal.simulated_pair(seed, index) for index in range(rows))
        return _made(
            ctx, made, total=rows, version=f"{reversal.VERSION}/simulated", seed=seed, schema="conversations"
        )
    not_by_the_small_one(model, "instructions for code")
    tasks: Sequence[Task] = Drawn(lambda number: reversal.own_task(seed, number))
    if code is not None:
        given = (
            (f"{id}-{number}", source)
            for id, text in _documents(code)
            for number, source in enumerate(reversal.functions_of(text))
        )
        tasks = [
            reversal.reversal_task(id, source, seed=seed, facets={"about": about})
            for id, source, about in _about(given, rows, steered=steered, seed=seed)
        ]
    return write_taught(
        ctx, model, tasks, rows, steered=steered, writer=reversal.VERSION, seed=seed, schema="conversations"
    )


@step(version=revision.VERSION, makes="corpus")
def write_revised(
    ctx: StepContext,
    *,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "embedded",
    about: revision.About | None = None,
    rounds: int = 2,
    steered: bool = False,
) -> Mapping[str, Any]:
    """Texts in rounds of critique and rewriting.

    Args:
        about: lessons or stories; None: lessons, and stories for the embedded model, whose critic are rules.

    Facts: `first` and `best`, the mean grades of first drafts and of what is kept; `revised`, the share of
    kept rows with more than one version.
    """
    check_rows(rows)
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        raise HornbookError('A draft that is planned needs no revision; give "embedded" or an endpoint.')
    small = is_small_embedded(model)
    what: revision.About = about or ("stories" if small else "lessons")
    critic: revision.Critic = "rules" if small else "teacher"
    tasks = Drawn(lambda n: revision.revision_task(seed, n, about=what, critic=critic, rounds=rounds))
    facts = write_taught(
        ctx, model, tasks, rows, steered=steered, writer=revision.VERSION, seed=seed,
        about=what, critic=critic, rounds=rounds,
    )  # fmt: skip
    known = [json.loads(row["meta"]) for row in Corpus.open(ctx.folder).iter_rows(["meta"])]
    facts["first"] = sum(one["first"] for one in known) / len(known)
    facts["best"] = sum(one["mean"] for one in known) / len(known)
    facts["revised"] = sum(one["versions"] > 1 for one in known) / len(known)
    return facts


@step(version=conversation.VERSION, makes="corpus", estimate=estimate_rows(5000, 700))
def write_conversations(
    ctx: StepContext,
    *,
    rows: int,
    seeds: Texts | None = None,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    exchanges: int = 3,
    steered: bool = False,
) -> Mapping[str, Any]:
    """Conversations of two agents. seeds: passages they are about; None: the concepts of our textbooks."""
    check_rows(rows)
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        made = ((conversation.simulated_conversation(seed, index), "") for index in range(rows))
        return _made(
            ctx,
            made,
            total=rows,
            version=f"{conversation.VERSION}/simulated",
            seed=seed,
            schema="conversations",
        )
    tasks: Sequence[Task] = Drawn(lambda n: conversation.concept_task(n, exchanges=exchanges, seed=seed))
    if seeds is not None:
        tasks = [
            conversation.conversation_task(id, text, exchanges=exchanges, seed=seed, about=about)
            for id, text, about in _about(_documents(seeds), rows, steered=steered, seed=seed)
        ]
    return write_taught(
        ctx, model, tasks, rows, steered=steered, writer=conversation.VERSION, seed=seed,
        schema="conversations",
    )  # fmt: skip


@step(version=tested_code.VERSION, makes="corpus", estimate=estimate_rows(40, 900))
def write_tested_code(
    ctx: StepContext,
    *,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    steered: bool = False,
) -> Mapping[str, Any]:
    """Functions with tests that pass, and that fail on mutants of the function."""
    check_rows(rows)
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        made = (tested_code.simulated_tested(seed, index) for index in range(rows))
        return _made(ctx, made, total=rows, version=f"{tested_code.VERSION}/simulated", seed=seed)
    not_by_the_small_one(model, "code with tests")
    tasks = Drawn(lambda number: tested_code.tested_task(seed, number))
    return write_taught(ctx, model, tasks, rows, steered=steered, writer=tested_code.VERSION, seed=seed)


@step(version=skill_texts.VERSION, makes="corpus", estimate=estimate_rows(3000, 500))
def write_skill_texts(
    ctx: StepContext,
    *,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    k: int = 3,
    steered: bool = False,
) -> Mapping[str, Any]:
    """Short texts that show k skills on a topic. Without a model: skills that a program sees."""
    check_rows(rows)
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        drawn = skill_texts.drawn(seed, rows, k=k, checkable=True)
        made = (skill_texts.simulated_text(task, seed=seed) for task in drawn)
        return _made(ctx, made, total=rows, version=f"{skill_texts.VERSION}/simulated", seed=seed, k=k)
    not_by_the_small_one(model, "texts that must show skills")
    most = skill_texts.possible(k)
    count = max(rows, min(STEERED_WIDTH * max(rows, PREVIEW), most)) if steered else rows
    tasks = [skill_texts.skill_task(task, seed=seed) for task in skill_texts.drawn(seed, count, k=k)]
    return write_taught(ctx, model, tasks, rows, steered=steered, writer=skill_texts.VERSION, seed=seed, k=k)
