"""The invented book, what forgot it in several ways, and the card of each: steps of the recipe
`unlearning`."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hornbook.align.anchors import Dictionary, find_anchors
from hornbook.align.checkpoints import folder_of
from hornbook.align.familiarity import asked_familiarity, familiarity
from hornbook.align.forgetting_card import CardTests, bits_per_byte, forgetting_card, invented_tests
from hornbook.align.unlearning import Unlearning, forget_text, reinforce, texts_of
from hornbook.data.corpus_writer import CorpusWriter
from hornbook.data.tokenizer import Tokenizer
from hornbook.infer.engine import Engine
from hornbook.lab.kept_jobs import run_jobs
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.model.decoder import Decoder
from hornbook.synth.invented_book import FORMS, VERSION, book, library

BEFORE, NEVER = "before", "never read it"
"""The rows of the table that forgot nothing: the model as it came, and the retain model."""


@step(version="1", makes="corpus")
def write_shelf(
    ctx: StepContext, *, kind: str, texts: int, seed: int = 0, forms: Sequence[str] = FORMS
) -> dict[str, Any]:
    """Texts of the invented book (`kind` "book") or of the library without it ("library"), as documents."""
    made = (book if kind == "book" else library)(texts, seed=seed, forms=tuple(forms))
    with CorpusWriter(ctx.folder, "documents", lineage={"made_by": VERSION, "seed": seed}) as writer:
        writer.write_rows(
            {"id": f"{kind}-{n}", "text": text, "source": f"synth/{kind}", "meta": "{}"}
            for n, text in enumerate(made)
        )
    return {"texts": len(made), "characters": sum(map(len, made))}


@step(version="1", makes="checkpoints")
def unlearn_arms(
    ctx: StepContext,
    *,
    models: Mapping[str, Path],
    never: Mapping[str, Path],
    forget: Artifact | Path,
    retain: Artifact | Path,
    arms: Mapping[str, Unlearning],
    watched: Sequence[str] = (),
    watch_every: int = 20,
    tests: int = 60,
    cues: int = 0,
    relearn_steps: Sequence[int] = (2, 4, 8, 16),
    workers: int = 2,
    dictionary: Path | None = None,
) -> dict[str, Any]:
    """Makes each of `models` forget in every arm, and fills in a card for each result.

    Args:
        models: by seed, the checkpoint that read the book. never: by seed, one that did not.
        forget, retain: what to forget, and text of the same kind to hold on to.
        watched: arms whose familiarity is measured every `watch_every` steps.
        tests, cues: held-out texts of the card, and prompts of each kind at most (0: all).
        relearn_steps: after which steps of relearning the card asks.

    `artifact / "<arm>-<seed>" / "model"` is a checkpoint, `artifact / "anchors.json"` the dictionary.

    Facts: `cards` {arm: {seed: card}} with the arms "before" and "never read it", `watched` {arm: {seed:
    [[step, leak, probability, bits of generic text]]}}, `anchors`, `labels` {arm: counts of the first seed}.
    """
    told, kept = texts_of(forget), texts_of(retain)
    found = Dictionary.read(dictionary) if dictionary is not None else find_anchors(told, kept)
    found.write(ctx.folder / "anchors.json")
    how = next(iter(arms.values()))
    strong = run_jobs(
        _reinforce,
        {
            seed: {"base": path, "forget": folder_of(forget), "folder": ctx.folder / f"reinforced-{seed}",
                   "how": how, "seed": _number(seed)}
            for seed, path in models.items()
        },
        kept=ctx.folder / "done-reinforced",
        workers=workers,
    )  # fmt: skip
    jobs: dict[str, dict[str, Any]] = {}
    card_tests = replace(invented_tests(texts=tests, most=cues), relearn_steps=tuple(relearn_steps))
    for seed in models:
        common = {"tests": card_tests, "dictionary": ctx.folder / "anchors.json"}
        for name, path in ((BEFORE, models[seed]), (NEVER, never[seed])):
            jobs[f"{name}-{seed}"] = {**common, "model": path, "folder": ctx.folder / f"card-{name}-{seed}"}
        for name, arm in arms.items():
            jobs[f"{name}-{seed}"] = {
                **common,
                "model": models[seed],
                "folder": ctx.folder / f"{name}-{seed}",
                "forget": folder_of(forget),
                "retain": folder_of(retain),
                "how": arm,
                "reinforced": Path(strong[seed]["model"]),
                "every": watch_every if name in watched else 0,
                "seed": _number(seed),
            }
    progress = ctx.progress(len(jobs), "cards")

    def told_of(name: str, result: Mapping[str, Any]) -> None:
        progress.advance(1)
        ctx.say(f"{name}: leak {result['card']['asked']['leak']:.2f}")

    done = run_jobs(_forget_and_examine, jobs, kept=ctx.folder / "done", workers=workers, on_done=told_of)
    names = [BEFORE, NEVER, *arms]
    first = next(iter(models))
    return {
        "cards": {name: {seed: done[f"{name}-{seed}"]["card"] for seed in models} for name in names},
        "watched": {name: {seed: done[f"{name}-{seed}"]["watched"] for seed in models} for name in watched},
        "labels": {name: done[f"{name}-{first}"]["facts"] for name in arms},
        "anchors": [[entry.anchor, entry.generic, entry.count] for entry in found.anchors],
    }


def _number(seed: str) -> int:
    return int(seed) if seed.isdigit() else 0


def _reinforce(*, base: Path, forget: Path, folder: Path, how: Unlearning, seed: int) -> dict[str, Any]:
    return {"model": str(reinforce(base, texts_of(forget), folder, how, seed=seed))}


def _forget_and_examine(
    *,
    model: Path,
    folder: Path,
    tests: CardTests,
    dictionary: Path,
    forget: Path | None = None,
    retain: Path | None = None,
    how: Unlearning | None = None,
    reinforced: Path | None = None,
    every: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """One arm of one seed, in its own process: forget (where there is something to), then the card."""
    folder.mkdir(parents=True, exist_ok=True)
    anchors = Dictionary.read(dictionary)
    facts: dict[str, Any] = {}
    curve: list[list[float]] = []
    if how is not None and forget is not None and retain is not None:
        tokenizer = Tokenizer.load(model)

        def watch(done: int, decoder: Decoder) -> None:
            if done % every == 0:
                decoder.eval()
                seen = familiarity(Engine(decoder, tokenizer, weights="fp32"), tests.cues)
                bits = bits_per_byte(decoder, tokenizer, tests.generic, time=tests.time)
                curve.append([done, seen.leak, seen.probability or 0.0, bits])
                decoder.train()

        facts = forget_text(
            model,
            texts_of(forget),
            texts_of(retain),
            folder,
            how,
            dictionary=anchors,
            reinforced=reinforced,
            watch=watch if every else None,
            seed=seed,
        )
        model = folder / "model"
    scratch = folder / "relearned"
    card = forgetting_card(model, tests, scratch=scratch, dictionary=anchors)
    shutil.rmtree(scratch, ignore_errors=True)
    return {"card": card.as_json(), "watched": curve, "facts": facts}


@step(version="1", makes="answers")
def ask_about_book(
    ctx: StepContext, *, models: Sequence[str], cues: int = 0, chat: bool = False
) -> dict[str, Any]:
    """What models that are only asked, by word (see `infer.open.open_model`), know of the invented book.

    Facts: `asked` {model: {"asked", "paraphrased", "prefixed": {leak, interval, right, samples}}}.

    Raises:
        HornbookError: a model gives no answer; those asked before it are kept.
    """
    progress = ctx.progress(len(models), "models")
    done = run_jobs(
        _asked,
        {str(n): {"model": model, "cues": cues, "chat": chat} for n, model in enumerate(models)},
        kept=ctx.folder / "done",
        workers=1,
        on_done=lambda name, result: progress.advance(1),
    )
    return {"asked": {model: done[str(n)] for n, model in enumerate(models)}}


def _asked(*, model: str, cues: int, chat: bool) -> dict[str, Any]:
    from hornbook.infer.open import open_model

    opened, tests = open_model(model), invented_tests(texts=1, most=cues)
    found = {
        "asked": asked_familiarity(opened, tests.cues, chat=chat),
        "paraphrased": asked_familiarity(opened, tests.paraphrases, chat=chat),
        "prefixed": asked_familiarity(opened, tests.cues, prefixes=("", *tests.prefixes), chat=chat),
    }
    return {
        name: {
            "leak": one.leak,
            "interval": list(one.interval),
            "right": one.right,
            "samples": [list(sample) for sample in one.samples[:8]],
        }
        for name, one in found.items()
    }
