"""Supervised fine-tuning as a step: a checkpoint and conversations in, a checkpoint that answers out.

phi-3 technical report (arXiv 2404.14219) section 2: post-training begins with SFT on chat data. The loss
is on the assistant's words and stop tokens alone; conversations are packed and do not see each other;
pretraining documents may be mixed in as replay, so that what was learned before is not forgotten.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hornbook.align.checkpoints import (
    config_of,
    finish_student,
    folder_of,
    lora_saver,
    open_student,
    template_of,
    trained_parameters,
)
from hornbook.align.conversations import write_conversations
from hornbook.align.lora import LoRA
from hornbook.data.chat import ChatTemplate
from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.train.pretrain import PhasePlan, open_phase, open_validation
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

Sources = Mapping[str, Artifact | Path]

SFT_SETTINGS = TrainSettings(
    optimizer=OptimizerSettings(learning_rate=5e-4, weight_decay=0.0),
    schedule=Schedule(kind="cosine", warmup=0.03, final=0.0),
)
"""For small students after pretraining: a tenth to a fifth of their pretraining rate, no decay."""


def _estimate(
    *, model: Artifact | Path, phases: Sequence[PhasePlan], settings: TrainSettings, **other: Any
) -> Estimate:
    from hornbook.train.throughput import PROCESS_BYTES, SMALL_STUDENT_RATE, expected_tokens_per_second

    config = config_of(model)
    if config is None:  # not made yet: as a small student would
        return Estimate(
            seconds=10 + sum(phase.tokens for phase in phases) / SMALL_STUDENT_RATE,
            memory_bytes=PROCESS_BYTES,
            disk_bytes=2e8,
        )
    rate = expected_tokens_per_second(config, max(phase.time for phase in phases))
    rows = max(settings.micro_rows or phase.rows for phase in phases)
    activations = 40 * rows * max(p.time for p in phases) * config.hidden_size * config.layers
    return Estimate(
        seconds=10 + sum(phase.tokens for phase in phases) / rate,
        memory_bytes=PROCESS_BYTES + 16 * config.parameters() + activations,
        disk_bytes=30 * config.parameters(),
    )


@step(version="1", makes="checkpoint", estimate=_estimate)
def finetune(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    sources: Sources,
    phases: Sequence[PhasePlan],
    settings: TrainSettings = SFT_SETTINGS,
    validation: Sources | None = None,
    template: str | None = None,
    lora: LoRA | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Fine-tunes a checkpoint on conversations; `artifact / "model"` is the checkpoint that answers.

    Args:
        model: the checkpoint folder to start from, tokenizer included (`pretrained / "model"`).
        sources: by name, corpora of conversations, and token files for replay (the step `tokenize`).
        phases: what to train on, in order; `mixture` gives shares of rows by name of a source. One phase
            with {"chat": 0.9, "replay": 0.1} is the usual case. A row of replay carries loss on every token,
            a row of chat on the answers alone, so a share of rows is less than the share of the loss.
        settings: optimizer, schedule, precision.
        validation: sources measured when a phase ends: bits per byte of the answers.
        template: one of `ChatTemplate.names()`; None takes the tokenizer's own.
        lora: train adapters alone; they lie in `artifact / "adapter"` as `peft` loads them, and the
            checkpoint has them merged.
        seed: of the order of the data, and of the adapters.

    Facts: parameters, trained_parameters, tokens, seconds, tokens_per_second, loss, skipped_steps,
    bits_per_byte by domain, epochs (how often each source was read) and `conversations` {source: counts}, see
    `write_conversations`.
    """
    if not phases:
        raise HornbookError("fine-tuning needs at least one phase.")
    folder = ctx.folder / "model"
    origin = folder_of(model)
    tokenizer = Tokenizer.load(origin)
    form = template_of(tokenizer, template)
    counts: dict[str, Any] = {}
    config = config_of(origin)
    context = config.max_position if config is not None else 0
    tokens = _tokenised(ctx, "sources", sources, phases, tokenizer, form, context, counts)
    held_out = _tokenised(ctx, "validation", validation or {}, phases, tokenizer, form, context, {})
    _report_fit(ctx, counts, context)

    from hornbook.train.objectives import next_token
    from hornbook.train.trainer import Trainer

    decoder = open_student(origin, tokenizer, form, lora=lora, seed=seed)
    opened = [open_phase(phase, tokens, seed=seed) for phase in phases]
    trainer = Trainer(
        decoder,
        next_token,
        opened,
        settings,
        folder,
        validation=open_validation(held_out, origin, phases[-1]) if held_out else None,
        save_model=lora_saver(lora, origin) if lora else None,
    )
    progress = ctx.progress(sum(phase.tokens for phase in phases), "tokens")
    result = trainer.run(progress=progress, log=ctx.log, say=ctx.say)
    finish_student(folder, tokenizer, form)
    for part in ("sources", "validation"):
        shutil.rmtree(ctx.folder / part, ignore_errors=True)
    return {
        "parameters": decoder.config.parameters(),
        "trained_parameters": trained_parameters(decoder),
        "tokens": result.tokens,
        "seconds": result.seconds,
        "tokens_per_second": result.tokens_per_second,
        "loss": result.loss,
        "skipped_steps": result.skipped,
        "bits_per_byte": dict(result.bits_per_byte),
        "epochs": _epochs(phases, opened, settings.accumulate),
        "conversations": counts,
        "template": form.name,
    }


def _tokenised(
    ctx: StepContext,
    part: str,
    sources: Sources,
    phases: Sequence[PhasePlan],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    context: int,
    counts: dict[str, Any],
) -> dict[str, Path]:
    """Token files by name: those given, and conversations tokenised below the step's folder, none of them
    longer than the model's context."""
    found: dict[str, Path] = {}
    for name, source in sources.items():
        folder = folder_of(source)
        if (folder / "tokens.json").is_file():
            found[name] = folder
            continue
        made = ctx.folder / part / name.replace("/", "-")
        shutil.rmtree(made, ignore_errors=True)
        used = [phase.time for phase in phases if name in phase.mixture] or [phases[-1].time]
        fits = min([*used, context or used[0]])
        counts[name] = write_conversations(Corpus.open(folder), tokenizer, template, made, time=fits)
        found[name] = made
    return found


def _report_fit(ctx: StepContext, counts: Mapping[str, Mapping[str, int]], context: int) -> None:
    for name, count in counts.items():
        short = {kind: count[kind] for kind in ("shortened", "cut", "left_out") if count[kind]}
        if short:
            said = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in short.items())
            ctx.say(
                f"{name}: of {count['rows']} conversations, {said}: longer than a row (the model's context "
                f"holds {context} tokens)"
            )


def _epochs(phases: Sequence[PhasePlan], opened: Sequence[Any], accumulate: int) -> dict[str, float]:
    """How often each source was read, over all phases that mix it."""
    read: dict[str, float] = {}
    for plan, phase in zip(phases, opened, strict=True):
        steps = -(-plan.tokens // (plan.rows * plan.time * accumulate)) * accumulate
        names = [name for name, share in plan.mixture.items() if share > 0]
        for name, epochs in zip(names, phase.loader.epochs(steps), strict=True):
            read[name] = read.get(name, 0.0) + epochs
    return read
