"""Steps that write corpora: each is seeded, checked, and says what was kept and why the rest was not.

With the simulated teacher the truth is known: every program is run in the sandbox and compared with the
plan, also under a second number assignment. With a real teacher the texts pass the checks of `taught`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import LanguageModel
from hornbook.sandbox import Job, run_many
from hornbook.synth import (
    commonsense,
    dialogue,
    exercises,
    preferences,
    prompts,
    python_pool,
    stories,
    taught,
    textbooks,
    topics,
    word_problems,
    word_variants,
)
from hornbook.synth.plans import Drawn
from hornbook.synth.scripts import Row, Task
from hornbook.synth.teacher import is_small_embedded
from hornbook.synth.teaching import FOLLOWED, not_steered, teach, write_taught
from hornbook.synth.world import PLOT_NAMES
from hornbook.synth.writing import (
    Fault,
    check_rows,
    estimate_rows,
    no_fault,
    not_by_the_small_one,
    not_held_out,
    open_for,
    write_corpus,
)


def _programs_hold(rows: list[Row]) -> list[str]:
    """Run each program under both number assignments and compare with the plan."""
    jobs: list[Job] = []
    metas = [json.loads(row["meta"]) for row in rows]
    for meta in metas:
        program = meta["program"]
        jobs.append(Job(source=program, entry="solution"))
        other = word_problems.substitute(program, tuple(meta["numbers"]), tuple(meta["second_numbers"]))
        jobs.append(Job(source=other, entry="solution"))
    outcomes = run_many(jobs)
    reasons = []
    for at, meta in enumerate(metas):
        first, second = outcomes[2 * at], outcomes[2 * at + 1]
        if not first.ok:
            reasons.append("program does not run")
        elif first.value != meta["answer"]:
            reasons.append("program gives another number than the plan")
        elif not second.ok or second.value != meta["second_answer"]:
            reasons.append("program fails under the second numbers")
        else:
            reasons.append("")
    return reasons


def _programs_run(rows: list[Row]) -> list[str]:
    """For a noisy teacher, as in TinyGSM: keep what runs and returns a number, right or wrong."""
    outcomes = run_many([Job(source=json.loads(row["meta"])["program"], entry="solution") for row in rows])
    return ["" if outcome.ok else "program does not run" for outcome in outcomes]


def _solutions_agree(rows: list[Row]) -> list[str]:
    """Keep what runs and gives the number that all other solutions of the teacher gave."""
    outcomes = run_many([Job(source=json.loads(row["meta"])["program"], entry="solution") for row in rows])
    return [
        "program does not run"
        if not outcome.ok
        else ""
        if {outcome.value, *json.loads(row["meta"])["others"]} == {outcome.value}
        else "solutions disagree"
        for row, outcome in zip(rows, outcomes, strict=True)
    ]


def _exercises_hold(rows: list[Row]) -> list[str]:
    """Run each function on its hidden cases."""
    jobs: list[Job] = []
    truths: list[list[Any]] = []
    for row in rows:
        meta = json.loads(row["meta"])
        truths.append([truth for _, truth in meta["cases"]])
        jobs += [Job(source=row["text"], entry=meta["name"], args=(value,)) for value, _ in meta["cases"]]
    outcomes = iter(run_many(jobs))
    reasons = []
    for cases in truths:
        results = [next(outcomes) for _ in cases]
        right = all(o.ok and o.value == truth for o, truth in zip(results, cases))
        reasons.append("" if right else "function fails its cases")
    return reasons


@step(version=stories.VERSION, makes="corpus", estimate=estimate_rows(3000, 500))
def write_stories(
    ctx: StepContext,
    *,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    held_out: bool = False,
    collapsed: bool = False,
    plots: Sequence[str] = PLOT_NAMES,
    steered: bool = False,
) -> Mapping[str, Any]:
    """Stories with a required word triple (TinyStories). Held out: word triples that training never has.

    collapsed: the simulated teacher draws no plan but falls back on its favourites, as one does that is asked
    for a story and nothing else: what the word triples are there to prevent. plots: it tells only these; a
    smaller world is learned sooner.

    steered: spend a real teacher's calls where what it wrote so far is thin (see `coverage`); the same
    argument of the other writers does the same.
    """
    check_rows(rows)
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        lineage = {
            "writer": stories.VERSION,
            "seed": seed,
            "teacher": model,
            "held_out": held_out,
            "collapsed": collapsed,
            "plots": list(plots),
        }
        made: Iterator[Row] = stories.story_rows(
            seed, rows, held_out=held_out, collapsed=collapsed, plots=plots
        )
        return write_corpus(ctx, made, total=rows, schema="documents", lineage=lineage)
    if collapsed or tuple(plots) != PLOT_NAMES:
        raise HornbookError("collapsed and plots are the simulated teacher's; a real one tells its own.")
    small = is_small_embedded(model)
    draw = taught.small_story_tasks if small else taught.story_assignments
    tasks: Sequence[Task] = draw(seed, held_out=held_out)
    return write_taught(
        ctx, model, tasks, rows, steered=steered, writer=prompts.VERSION, seed=seed, held_out=held_out
    )


@step(version=word_problems.VERSION, makes="corpus", estimate=estimate_rows(1200, 700))
def write_word_problems(
    ctx: StepContext,
    *,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    held_out: bool = False,
    wrong_share: float = 0.0,
    broken_share: float = 0.0,
    wrong_each: float = 0.0,
    solutions: int = 1,
    executed: bool = True,
    steered: bool = False,
) -> Mapping[str, Any]:
    """Word problems with programs (TinyGSM). Held out: skeletons that training never has.

    Args:
        wrong_share, broken_share, wrong_each: make the simulated teacher err (`word_problems.Teacher`), as
            TinyGSM's unchecked one does; then only what does not run is removed. With 0 every program is
            compared with the plan.
        solutions: how often an erring or a real teacher solves each problem; kept is what all agree on.
        executed: False keeps also what an erring teacher wrote that does not run.

    Facts of an erring teacher: `teacher_right`, the share of kept programs that are right.
    """
    check_rows(rows)
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        noise = word_problems.Teacher(
            wrong_share=wrong_share, broken_share=broken_share, wrong_each=wrong_each
        )
        lineage = {
            "writer": word_problems.VERSION,
            "seed": seed,
            "teacher": model,
            "held_out": held_out,
            **asdict(noise),
            "solutions": solutions,
            "executed": executed,
        }
        made: Iterator[Row] = word_problems.problem_rows(
            seed, rows, held_out=held_out, teacher=noise, solutions=solutions
        )
        if not noise.errs():
            fault: Fault = _programs_hold
        elif solutions > 1:
            fault = _solutions_agree
        else:
            fault = _programs_run if executed else no_fault
        facts = write_corpus(ctx, made, total=rows, schema="documents", lineage=lineage, fault=fault)
        if noise.errs():
            flaws = [json.loads(row["meta"])["flaw"] for row in Corpus.open(ctx.folder).iter_rows(["meta"])]
            facts["teacher_right"] = flaws.count("") / len(flaws)
        return facts
    not_by_the_small_one(model, "word problems")
    not_held_out(held_out)
    questions, removed, first = teach(ctx, model, taught.question_assignments(seed), rows, steered=steered)
    solved: Sequence[Task] = taught.solution_assignments(questions, seed)
    if solutions > 1:
        solved = [
            taught.agreed_solution(one, solutions) for one in taught.solution_assignments(questions, seed)
        ]
    kept, more, second = teach(ctx, model, solved)
    lineage = {
        "writer": prompts.VERSION,
        "seed": seed,
        "teacher": second["teacher"],
        "corrected": first["corrected"] + second["corrected"],
        "facets": first["facets"],
        "solutions": solutions,
        "steered": steered,
    }
    return write_corpus(
        ctx, kept, total=rows, schema="documents", lineage=lineage, removed=removed + more, follow=FOLLOWED
    )


@step(version=word_variants.VERSION, makes="corpus", estimate=estimate_rows(1000, 700))
def write_problem_variants(
    ctx: StepContext,
    *,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    way: word_variants.Way = "one step",
    each: int = word_variants.EACH,
    steered: bool = False,
) -> Mapping[str, Any]:
    """Word problems as TinyGSM's prompts ask for them, `each` from one seed question (see `word_variants`).

    Args:
        way: "one step" (problem and program in one call), "two steps", or "irrelevant" (facts that do not
            matter). The simulated teacher writes the same kinds of problems, every program compared with its
            plan.
    """
    check_rows(rows)
    if way not in get_args(word_variants.Way) or each < 1:
        raise HornbookError(
            f"way is {way!r} and each {each}; accepted are {', '.join(get_args(word_variants.Way))}, from 1."
        )
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        wanted = word_problems.problem_rows(seed, 40 * rows if way == "irrelevant" else rows)
        if way == "irrelevant":
            wanted = islice((row for row in wanted if json.loads(row["meta"])["distractor"]), rows)
        lineage = {"writer": word_problems.VERSION, "seed": seed, "teacher": model, "way": way}
        return write_corpus(
            ctx, wanted, total=rows, schema="documents", lineage=lineage, fault=_programs_hold
        )
    not_by_the_small_one(model, "word problems")
    tasks = Drawn(lambda number: word_variants.variant_task(seed, number, way, each=each))
    return write_taught(
        ctx, model, tasks, -(-rows // each), steered=steered, writer=word_variants.VERSION, seed=seed,
        rows=rows, way=way, each=each,
    )  # fmt: skip


@step(version=topics.VERSION, makes="corpus", estimate=estimate_rows(5000, 900))
def write_topics(
    ctx: StepContext,
    *,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    snippets: Artifact | Path | str | None = None,
    steered: bool = False,
) -> Mapping[str, Any]:
    """Textbook passages on some 20,000 topics of common sense and general knowledge (phi-1.5).

    Args:
        snippets: a corpus of web text, samples of which go into the prompts for variety.
        teacher: "simulated": passages of the small common-sense world, on its 1,116 topics.
    """
    check_rows(rows)
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        made = commonsense.textbook_rows(seed, rows)
        lineage = {"writer": commonsense.VERSION, "seed": seed, "teacher": model}
        return write_corpus(ctx, made, total=rows, schema="documents", lineage=lineage)
    not_by_the_small_one(model, "textbooks")
    folder = snippets.path if isinstance(snippets, Artifact) else snippets
    texts = [] if folder is None else [str(row["text"]) for row in Corpus.open(folder).iter_rows(["text"])]
    tasks = topics.topic_assignments(seed, snippets=texts)
    return write_taught(ctx, model, tasks, rows, steered=steered, writer=topics.VERSION, seed=seed)


@step(version=textbooks.VERSION, makes="corpus", estimate=estimate_rows(5000, 500))
def write_textbooks(
    ctx: StepContext,
    *,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    held_out: bool = False,
    steered: bool = False,
) -> Mapping[str, Any]:
    """Textbook passages (phi-1); every printed output was computed by running the code shown."""
    check_rows(rows)
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        lineage = {"writer": textbooks.VERSION, "seed": seed, "teacher": model, "held_out": held_out}
        made: Iterator[Row] = textbooks.textbook_rows(seed, rows, held_out=held_out)
        return write_corpus(ctx, made, total=rows, schema="documents", lineage=lineage)
    not_by_the_small_one(model, "textbooks")
    not_held_out(held_out)
    tasks = taught.textbook_assignments(seed)
    return write_taught(ctx, model, tasks, rows, steered=steered, writer=prompts.VERSION, seed=seed)


@step(version=exercises.VERSION, makes="corpus", estimate=estimate_rows(900, 600))
def write_exercises(
    ctx: StepContext,
    *,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    held_out: bool = False,
    constrained: bool = True,
    steered: bool = False,
) -> Mapping[str, Any]:
    """Function exercises (phi-1). Held out: compositions of operations that training never has.

    constrained: False leaves the names to the (simulated) teacher, who repeats himself.
    """
    check_rows(rows)
    model = open_for(ctx, teacher)
    if isinstance(model, str):
        not_steered(steered)
        lineage = {
            "writer": exercises.VERSION,
            "seed": seed,
            "teacher": model,
            "held_out": held_out,
            "constrained": constrained,
        }
        made: Iterator[Row] = exercises.exercise_rows(seed, rows, held_out=held_out, constrained=constrained)
        return write_corpus(ctx, made, total=rows, schema="documents", lineage=lineage, fault=_exercises_hold)
    not_by_the_small_one(model, "exercises")
    not_held_out(held_out)
    tasks = taught.exercise_assignments(seed)
    return write_taught(
        ctx, model, tasks, rows, steered=steered, writer=prompts.VERSION, seed=seed, held_out=held_out
    )


@step(version=python_pool.VERSION, makes="corpus", estimate=estimate_rows(8000, 300))
def write_python_pool(ctx: StepContext, *, rows: int, seed: int = 0) -> Mapping[str, Any]:
    """Python as the web has it: a fifth is instructive, and `meta.educational` says which (phi-1, 2.1)."""
    check_rows(rows)
    lineage = {"writer": python_pool.VERSION, "seed": seed, "teacher": "simulated"}
    made = python_pool.pool_rows(seed, rows)
    return write_corpus(ctx, made, total=rows, schema="documents", lineage=lineage, drop_repeats=False)


@step(version=python_pool.VERSION, makes="corpus", estimate=estimate_rows(5000, 600))
def write_lessons(ctx: StepContext, *, rows: int, seed: int = 0) -> Mapping[str, Any]:
    """Lessons on functions: an explanation for an audience, worked code, a traced example (phi-1, 2.2)."""
    check_rows(rows)
    lineage = {"writer": python_pool.VERSION, "seed": seed, "teacher": "simulated"}
    return write_corpus(
        ctx, python_pool.lesson_rows(seed, rows), total=rows, schema="documents", lineage=lineage
    )


@step(version=commonsense.VERSION, makes="corpus", estimate=estimate_rows(5000, 700))
def write_commonsense(
    ctx: StepContext, *, rows: int, seed: int = 0, topics: int | None = None, exercises: int = 0
) -> Mapping[str, Any]:
    """Textbook passages of the common-sense world (phi-1.5), on `topics` of its topics (None: on all), with
    `exercises` from other lessons at the foot of each."""
    check_rows(rows)
    lineage: dict[str, Any] = {
        "writer": commonsense.VERSION, "seed": seed, "teacher": "simulated", "topics": topics,
        "exercises": exercises,
    }  # fmt: skip
    made = commonsense.textbook_rows(seed, rows, topics_used=topics, exercises=exercises)
    return write_corpus(ctx, made, total=rows, schema="documents", lineage=lineage)


@step(version=commonsense.VERSION, makes="corpus", estimate=estimate_rows(8000, 400))
def write_commonsense_web(ctx: StepContext, *, rows: int, seed: int = 0) -> Mapping[str, Any]:
    """The same world as the web tells of it: a fifth explains, and `meta.educational` says which
    (phi-1.5)."""
    check_rows(rows)
    lineage = {"writer": commonsense.VERSION, "seed": seed, "teacher": "simulated"}
    made = commonsense.web_rows(seed, rows)
    return write_corpus(ctx, made, total=rows, schema="documents", lineage=lineage)


@step(version=dialogue.VERSION, makes="corpus", estimate=estimate_rows(4000, 700))
def write_dialogue(
    ctx: StepContext,
    *,
    rows: int,
    seed: int = 0,
    teacher: str | LanguageModel = "simulated",
    held_out: bool = False,
    shares: Mapping[str, float] | None = None,
    taught_share: float = 0.05,
    steered: bool = False,
) -> Mapping[str, Any]:
    """Conversations on everything, refusals for the policy among them (phi-3 section 2, post-training).

    `shares` (see `dialogue.SHARES`) weighs the kinds. A real teacher writes `taught_share` of the rows as
    small talk; what must be true or keep the policy stays with the simulated one.
    """
    check_rows(rows)
    model = open_for(ctx, teacher)
    weights = dict(shares) if shares is not None else dict(dialogue.SHARES)
    lineage: dict[str, Any] = {
        "writer": dialogue.VERSION,
        "seed": seed,
        "teacher": "simulated",
        "held_out": held_out,
        "shares": weights,
    }
    if isinstance(model, str):
        not_steered(steered)
        made: Iterable[Row] = dialogue.dialogue_rows(seed, rows, held_out=held_out, shares=weights)
        return write_corpus(
            ctx, made, total=rows, schema="conversations", lineage=lineage, drop_repeats=False
        )
    talks = max(1, round(rows * taught_share))
    kept, removed, counts = teach(ctx, model, taught.smalltalk_assignments(seed), talks, steered=steered)
    rest = dialogue.dialogue_rows(seed, rows - len(kept), held_out=held_out, shares=weights)
    lineage |= {"steered": steered, **counts}
    return write_corpus(
        ctx,
        [*kept, *rest],
        total=rows,
        schema="conversations",
        lineage=lineage,
        drop_repeats=False,
        removed=removed,
    )


@step(version=preferences.VERSION, makes="corpus", estimate=estimate_rows(4000, 600))
def write_preferences(
    ctx: StepContext, *, rows: int, seed: int = 0, shares: Mapping[str, float] | None = None
) -> Mapping[str, Any]:
    """Preference pairs whose preference is verified (see `preferences`)."""
    check_rows(rows)
    weights = dict(shares) if shares is not None else dict(preferences.SHARES)
    lineage = {"writer": preferences.VERSION, "seed": seed, "teacher": "simulated", "shares": weights}
    made: Iterator[Row] = preferences.preference_rows(seed, rows, shares=weights)
    return write_corpus(ctx, made, total=rows, schema="preferences", lineage=lineage)
