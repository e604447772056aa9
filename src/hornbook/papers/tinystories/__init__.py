"""TinyStories: how small can a language model be and still tell a story?

Eldan and Li, "TinyStories" (arXiv 2305.07759), at the size of a laptop: a teacher writes stories from random
word triples and features; students of three widths and three depths are raised on them, with and without
instructions; loss, grammar, consistency, creativity, instructions and copying by size; what single neurons
do. Where the paper asks
GPT-4, exact programs grade: the teacher's world is known, and `--judge` asks a model beside them.

    hornbook run tinystories --scale quick
    hornbook run tinystories --scale quick --judge http://localhost:11434/v1#qwen2.5
    hornbook run tinystories --scale quick --source TinyStories-train.txt
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hornbook.data.steps import as_source, gather, split, tokenize, train_tokenizer
from hornbook.evals.stories.corruption import measure_grader
from hornbook.evals.stories.exam import (
    check_copying,
    compare_continuations,
    follow_instructions,
    grade_completions,
)
from hornbook.evals.stories.judge import judge_storytellers
from hornbook.evals.stories.neurons import read_neurons
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.model.presets import student
from hornbook.papers.tinystories.claims import judge_claims
from hornbook.papers.tinystories.report import write_report
from hornbook.papers.tinystories.settings import SCALES, Settings
from hornbook.papers.tinystories.study import Study
from hornbook.synth.steps import write_stories
from hornbook.synth.story_instructions import write_story_instructions
from hornbook.train.pretrain import PhasePlan
from hornbook.train.probes import train_probes

TITLE = "TinyStories: how small a storyteller can be"
PAPER = "Eldan and Li 2023, arXiv 2305.07759"

APART = ("Words", "Summary")
"""Instructions that no training record holds together, and that are asked together in the test."""
HELD_OUT = 1
"""Seed of the test stories, whose word triples no training story has."""

__all__ = ["APART", "PAPER", "SCALES", "TITLE", "Settings", "recipe"]


def recipe(run: Run, settings: Settings) -> None:
    """Stories, with and without instructions; students by width and depth; the examination; the claims."""
    s = settings
    # 1. What the teacher writes: from random words and features; and what it writes when left alone.
    stories = run.step(write_stories, rows=s.stories, plots=s.plots)
    favourites = run.step(write_stories, rows=s.stories, plots=s.plots, collapsed=True)
    few = run.step(write_stories, rows=s.few, plots=s.plots)
    records = run.step(write_story_instructions, stories=stories, apart=APART)
    test = run.step(write_stories, rows=s.test, plots=s.plots, seed=HELD_OUT, held_out=True)

    # 2. Tokens.
    tokenizer = run.step(train_tokenizer, corpora=[stories, records], vocab_size=s.vocab_size)
    corpora = {"stories": stories, "records": records, "favourites": favourites, "few": few}
    tokens = {
        name: run.step(tokenize, corpus=corpus, tokenizer=tokenizer) for name, corpus in corpora.items()
    }
    validation = {"stories": run.step(tokenize, corpus=test, tokenizer=tokenizer)}

    # 3. Students: every width by every depth, all on as many tokens; the largest is kept as it grows.
    def raised(
        width: int, depth: int, arms: Mapping[str, Sequence[PhasePlan]], *, keep: bool = False
    ) -> Artifact:
        return run.step(
            train_probes,
            model=student(
                hidden_size=width,
                layers=depth,
                heads=s.heads(width),
                vocab_size=s.vocab_size,
                max_position=2 * s.time,
                tied_embeddings=False,  # tied, names that may stand for each other are not told apart
            ),
            tokens={name: tokens[name] for plans in arms.values() for p in plans for name in p.mixture},
            arms=arms,
            seeds=s.seeds,
            settings=s.train,
            tokenizer=tokenizer,
            validation=validation,
            workers=s.workers,
            keep_phases=keep,
        )

    grid = {
        (width, depth): raised(width, depth, {"both": s.growth()}, keep=(width, depth) == s.largest)
        for width in s.widths
        for depth in s.depths
    }
    arms = raised(*s.middle, s.arms())
    memoriser = raised(*s.largest, {"memoriser": s.memoriser()})

    # 4. The examination.
    cells = {
        f"{width}x{depth}/{seed}": made / f"both-{seed}"
        for (width, depth), made in grid.items()
        for seed in s.seeds
    }
    growing = {
        f"{name}/{seed}": grid[s.largest] / f"both-{seed}" / "after" / name
        for name in s.moments()
        for seed in s.seeds
    }
    compared = {f"{arm}/{seed}": arms / f"{arm}-{seed}" for arm in s.arms() for seed in s.seeds}
    best = {f"student/{seed}": cells[f"{s.largest[0]}x{s.largest[1]}/{seed}"] for seed in s.seeds}
    together = best | {f"memoriser/{seed}": memoriser / f"memoriser-{seed}" for seed in s.seeds}
    graded = run.step(
        grade_completions,
        students=cells | growing | compared,
        stories=test,
        count=s.beginnings,
        samples=s.samples,
        training=stories,
        workers=s.workers,
    )
    study = Study(
        settings=s,
        bits={cell: made.facts["bits_per_byte"]["both"]["stories"] for cell, made in grid.items()},
        bits_of_arms={arm: arms.facts["bits_per_byte"][arm]["stories"] for arm in s.arms()},
        graded=graded.facts,
        choices=run.step(
            compare_continuations,
            students=cells | growing,
            count=s.choices,
            plots=s.plots,
            workers=s.workers,
        ).facts,
        followed=run.step(
            follow_instructions,
            students=cells,
            stories=test,
            together=APART,
            count=s.prompts,
            workers=s.workers,
        ).facts,
        copied={
            name: run.step(
                check_copying,
                students=together,
                stories=corpus,
                training=stories,
                count=min(s.copies, most),
                workers=s.workers,
            ).facts
            for name, corpus, most in (("held-out stories", test, s.test), ("training stories", few, s.few))
        },
        grader=run.step(measure_grader, per_kind=s.damaged, sound=5 * s.damaged).facts,
        neurons=run.step(read_neurons, students=cells, stories=test, count=s.read, workers=s.workers).facts,
        judged=run.step(
            judge_storytellers,
            graded=graded,
            students=[f"{width}x{depth}/{s.seeds[0]}" for width, depth in (s.smallest, s.largest)],
            stories=test,
            judge=s.judge,
            count=min(s.judged, s.beginnings),
        ).facts
        if s.judge
        else None,
        real=_real_stories(run, s) if s.source else None,
    )
    run.output(model=best[f"student/{s.seeds[0]}"])
    judge_claims(run, study)
    write_report(run, study)


def _real_stories(run: Run, s: Settings) -> dict[str, Any]:
    """The same student on stories of the user's: loss and copying, which need no knowledge of the world."""
    text = run.step(gather, source=as_source(s.source), limit_bytes=s.source_bytes)
    parts = run.step(split, corpus=text, share=0.1)
    tokenizer = run.step(train_tokenizer, corpora=[parts / "train"], vocab_size=s.vocab_size)
    made = run.step(
        train_probes,
        model=student(
            hidden_size=s.largest[0],
            layers=s.largest[1],
            heads=s.heads(s.largest[0]),
            vocab_size=s.vocab_size,
            max_position=4 * s.time,
        ),
        tokens={"real": run.step(tokenize, corpus=parts / "train", tokenizer=tokenizer)},
        arms={"real": s.real_phases()},
        seeds=s.seeds,
        settings=s.train,
        tokenizer=tokenizer,
        validation={"real": run.step(tokenize, corpus=parts / "validation", tokenizer=tokenizer)},
        workers=s.workers,
    )
    copied = run.step(
        check_copying,
        students={f"student/{seed}": made / f"real-{seed}" for seed in s.seeds},
        stories=parts / "validation",
        training=parts / "train",
        count=s.copies,
        workers=s.workers,
    )
    return {"bits": made.facts["bits_per_byte"]["real"]["real"], "copied": copied.facts}
