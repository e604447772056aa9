"""A phi in ten minutes: a small language model raised on chosen and written data, from gathering to chat.

The practice of "Textbooks Are All You Need" (arXiv 2306.11644) and of the phi-3 technical report
(arXiv 2404.14219), at the scale of a laptop: organic text filtered for educational value, synthetic data
from a teacher, pretraining in two phases, fine-tuning on the phi-3 template, preferences that are verified,
and evaluation on what shares no skeleton, plan or document with training.

    hornbook run phi --scale quick
    hornbook run phi --scale quick --source ~/notes --teacher http://localhost:11434/v1#qwen3:8b
"""

from hornbook.align.dpo import prefer
from hornbook.align.pairs import verified_pairs
from hornbook.align.sft import finetune
from hornbook.curate.steps import curate, fit_educational
from hornbook.data.steps import as_source, gather, split, tokenize, train_tokenizer
from hornbook.errors import HornbookError
from hornbook.evals.choices import examine_probes
from hornbook.evals.stories.likelihood import judge_stories
from hornbook.evals.suite import examine
from hornbook.evals.suite_items import evaluation_sets
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.model.presets import student
from hornbook.papers.phi.claims import judge_claims
from hornbook.papers.phi.report import Made, write_report
from hornbook.papers.phi.settings import SCALES, Settings
from hornbook.serve.export_step import export
from hornbook.synth import steps as write
from hornbook.train.pretrain import PhasePlan, pretrain
from hornbook.train.probes import train_probes

TITLE = "A phi in ten minutes"
PAPER = "Textbooks Are All You Need (2306.11644); phi-3 technical report (2404.14219)"

__all__ = ["PAPER", "SCALES", "TITLE", "Settings", "recipe"]

HELD_OUT = 1
"""Seed of all held-out data; training data are written with `Settings.seed`, which must differ."""


def recipe(run: Run, settings: Settings) -> None:
    """The nine steps, then the claims and the report."""
    # 1. Organic text, and some of it set apart before anything is chosen.
    gathered = run.step(gather, source=as_source(settings.source), limit_bytes=settings.gather_bytes)
    organic = run.step(split, corpus=gathered, share=0.04)

    # 2. Data written by a teacher: each program is executed, each story has a plan.
    teacher = {"teacher": settings.teacher, "seed": settings.seed}
    written = {
        "stories": run.step(write.write_stories, rows=settings.stories, **teacher),
        "problems": run.step(write.write_word_problems, rows=settings.problems, **teacher),
        "textbooks": run.step(write.write_textbooks, rows=settings.textbooks, **teacher),
        "exercises": run.step(write.write_exercises, rows=settings.exercises, **teacher),
    }
    chat = run.step(write.write_dialogue, rows=settings.dialogue, shares=settings.dialogue_shares, **teacher)
    tests = {
        "stories": run.step(write.write_stories, rows=settings.held_out, seed=HELD_OUT, held_out=True),
        "problems": run.step(write.write_word_problems, rows=settings.held_out, seed=HELD_OUT, held_out=True),
        "exercises": run.step(write.write_exercises, rows=settings.held_out, seed=HELD_OUT, held_out=True),
        "chat": run.step(write.write_dialogue, rows=settings.held_out, seed=HELD_OUT, held_out=True),
    }

    # 3. Organic text chosen: rules, duplicates, educational value (phi-1 section 2.1), no test given away.
    educational = run.step(
        fit_educational,
        high=[written["textbooks"], written["exercises"]],
        low=[organic / "train"],
        labels_by="the teacher's textbook passages and exercises against random organic documents",
    )
    curated = run.step(
        curate,
        corpus=organic / "train",
        evaluation_sets={**tests, **evaluation_sets(settings.items)},  # and the very items of step 7
        educational=educational,
    )

    # 4. One tokenizer for the mixture.
    tokenizer = run.step(
        train_tokenizer,
        corpora=[curated, *written.values(), chat],
        vocab_size=settings.vocab_size,
        sample_bytes=settings.tokenizer_bytes,
    )
    tokens = {
        name: run.step(tokenize, corpus=corpus, tokenizer=tokenizer)
        for name, corpus in {
            "raw": organic / "train",
            "organic": curated,
            **written,
            "chat": chat,
        }.items()
    }
    unseen = {
        name: run.step(tokenize, corpus=corpus, tokenizer=tokenizer)
        for name, corpus in {"organic": organic / "validation", **tests}.items()
    }

    # Does the choice of data matter? Small students, equal in tokens, on three diets.
    diets = settings.diets()
    probes = run.step(
        train_probes,
        model=student(
            hidden_size=settings.probe_hidden_size,
            layers=settings.probe_layers,
            vocab_size=settings.vocab_size,
        ),
        tokens=tokens,
        arms=diets,
        seeds=settings.probe_seeds,
        settings=settings.probe_train,
        tokenizer=tokenizer,
        validation=unseen,
        workers=settings.probe_workers,
    )
    probed = run.step(
        examine_probes,
        probes=probes,
        arms=list(diets),
        seeds=settings.probe_seeds,
        documents=organic / "validation",
        items=settings.probe_items,
    )

    # 5. Pretraining in two phases: organic-heavy, then filtered and synthetic (phi-3 section 2).
    base = run.step(
        pretrain,
        model=student(
            hidden_size=settings.hidden_size,
            layers=settings.layers,
            heads=settings.heads,
            intermediate_size=settings.intermediate_size,
            vocab_size=settings.vocab_size,
        ),
        tokens=tokens,
        phases=settings.phases(),
        settings=settings.train,
        tokenizer=tokenizer,
        validation=unseen,
        seed=settings.seed,
    )

    # 6. Post-training: answers on the phi-3 template, then verified preferences (phi-3 section 2).
    chatting = run.step(
        finetune,
        model=base / "model",
        sources={"chat": chat, "stories": tokens["stories"]},
        phases=[
            PhasePlan(
                name="chat",
                mixture={"chat": 0.9, "stories": 0.1},
                tokens=settings.chat_tokens,
                rows=settings.rows,
                time=settings.time,
            )
        ],
        settings=settings.chat_train,
        validation={"chat": tests["chat"]},
        seed=settings.seed,
    )
    pairs = run.step(
        verified_pairs,
        model=chatting / "model",
        ask=dict(settings.pairs),
        problems=written["problems"],
        samples=settings.pair_samples,
        written=dict(settings.pairs_written),
        seed=settings.seed,
    )
    aligned = run.step(
        prefer,
        model=chatting / "model",
        pairs=[pairs],
        objective=settings.preference,
        rows=settings.pair_rows,
        time=2 * settings.time,
        settings=settings.pair_train,
        seed=settings.seed,
    )
    run.output(model=aligned / "model", base=base / "model", chat=chatting / "model")

    # 7. What each stage can do, on held-out items; the same items, so that stages are compared in pairs.
    before = run.step(examine, model=chatting / "model", items=settings.items)
    after = run.step(examine, model=aligned / "model", items=settings.items)
    judged = _judged(run, settings, examined=after, reference=tests["stories"])

    # 8. Files for other programs, and what four bits cost.
    exported = run.step(
        export,
        model=aligned / "model",
        validation={
            name: corpus
            for name, corpus in {"organic": organic / "validation", **tests}.items()
            if name != "chat"
        },
    )
    run.output(export=exported / "export")

    # 9. Claims and report.
    judge_claims(run, probed=probed, before=before, after=after, exported=exported)
    write_report(
        run,
        Made(
            gathered=gathered,
            curated=curated,
            educational=educational,
            written={**written, "chat": chat},
            tokenizer=tokenizer,
            tokens=tokens,
            probes=probes,
            probed=probed,
            base=base,
            chatting=chatting,
            pairs=pairs,
            aligned=aligned,
            before=before,
            after=after,
            judged=judged,
            exported=exported,
        ),
        settings,
    )


def _judged(run: Run, settings: Settings, *, examined: Artifact, reference: Artifact) -> Artifact | None:
    """The judge's likelihoods, or None: the report does without a judge that cannot be fetched offline."""
    if not settings.judge:
        return None
    try:
        return run.step(
            judge_stories,
            examined=examined,
            reference=reference,
            judge=settings.judge,
            count=settings.judged_stories,
        )
    except HornbookError as error:
        run.say(f"The stories go without a judge's likelihood: {error}")
        return None
