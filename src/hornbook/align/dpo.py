"""Direct preference optimization as a step: a checkpoint and preference pairs in, a checkpoint out.

Rafailov et al. 2023 (sigmoid), Azar et al. 2024 (IPO), Pang et al. 2024 (`supervised`, the RPO term); the
losses are `hornbook.train.objectives.Preference`. The reference is the checkpoint as it came: its
log-probabilities are computed once, before training, and it is not in memory afterwards.
"""

import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hornbook.align.checkpoints import (
    config_of,
    finish_student,
    folder_of,
    lora_saver,
    open_student,
    template_of,
    trained_parameters,
)
from hornbook.align.lora import LoRA
from hornbook.data.chat import ChatTemplate
from hornbook.data.corpus import Corpus
from hornbook.data.steps import is_validation
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.lab.files import write_atomic
from hornbook.lab.step import METRICS_FILE, Artifact, Estimate, StepContext, step
from hornbook.model.decoder import Decoder
from hornbook.train import metrics
from hornbook.train.objectives import Preference
from hornbook.train.preference import Pair, PreferenceLoader, reference_log_probabilities
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, Phase, TrainSettings

PREFER_SETTINGS = TrainSettings(
    optimizer=OptimizerSettings(learning_rate=2e-5, weight_decay=0.0),
    schedule=Schedule(kind="cosine", warmup=0.1, final=0.1),
)
"""For small students: a twentieth of the rate of SFT."""
DPO = Preference()


@dataclass(frozen=True)
class EncodedPairs:
    """Pairs as token ids, apart by side of the split, and how many rows could not be used, by reason."""

    train: list[Pair]
    held_out: list[Pair]
    unused: Mapping[str, int]


def encode_pairs(
    corpora: Sequence[Corpus],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    time: int,
    context: int | None = None,
    held_out_share: float = 0.0,
) -> EncodedPairs:
    """Preference rows as pairs of token ids: the prompt as the template renders it, with an assistant turn
    opened, and each answer with its stop token.

    A row is held out by the hash of its request, so that all pairs of one request are on one side. Rows whose
    answers are equal, empty, or that together exceed `time` tokens are left out and counted; so are those
    with a side longer than `context`, the model's.

    Raises:
        HornbookError: a corpus of another schema, or nothing left to train on.
    """
    stop = tokenizer.special(template.stop)
    train: list[Pair] = []
    held_out: list[Pair] = []
    unused: Counter[str] = Counter()
    for corpus in corpora:
        if corpus.schema != "preferences":
            raise HornbookError(f"The corpus {corpus.folder} holds {corpus.schema}, not preferences.")
        for row in corpus.iter_rows(["messages", "chosen", "rejected", "meta"]):
            request = "\n".join(message["content"] for message in row["messages"])
            pair = token_pair(row["meta"], tokenizer, corpus.folder)
            why = _unusable(row["chosen"], row["rejected"]) if pair is None else ""
            if pair is None and not why:
                prompt, _ = template.encode(tokenizer, row["messages"], add_generation_prompt=True)
                sides = ([*tokenizer.encode(row[side]), stop] for side in ("chosen", "rejected"))
                pair = Pair.of(prompt, *sides)
            if pair is not None:
                why = _unfit(pair, time, context)
            if pair is None or why:
                unused[why] += 1
                continue
            apart = held_out_share > 0 and is_validation(request, held_out_share)
            (held_out if apart else train).append(pair)
    if not train:
        reasons = ", ".join(f"{count} {reason}" for reason, count in unused.items())
        if held_out:
            reasons = ", ".join(filter(None, [reasons, f"{len(held_out)} held out"]))
        raise HornbookError(
            f"There is no preference pair to train on ({reasons}). A pair needs two different answers, "
            "neither empty."
        )
    return EncodedPairs(train, held_out, dict(unused))


def _unusable(chosen: str, rejected: str) -> str:
    """Why two answers are no pair; empty where they are one."""
    if not chosen.strip() or not rejected.strip():
        return "an empty answer"
    return "chosen equals rejected" if chosen == rejected else ""


def _unfit(pair: Pair, time: int, context: int | None) -> str:
    """Why a pair cannot be learned from; empty where it can."""
    if list(pair.chosen) == list(pair.rejected):
        return "chosen equals rejected"
    if context is not None and max(len(pair.chosen), len(pair.rejected)) - 1 > context:
        return "longer than the context"
    return "longer than a row" if pair.length > time else ""


def token_pair(meta: str | None, tokenizer: Tokenizer, where: Path) -> Pair | None:
    """The pair that a row spells in token ids (`meta["token_ids"]`, see `align.pivotal_steps`), or None.

    Single tokens in the middle of an answer are not the tokens that their text would become, so they are kept
    as ids, with the fingerprint of the tokenizer they belong to.

    Raises:
        HornbookError: the ids belong to another tokenizer.
    """
    if not meta or '"token_ids"' not in meta:
        return None
    ids = json.loads(meta).get("token_ids")
    if not ids:
        return None
    if ids["tokenizer"] != tokenizer_fingerprint(tokenizer):
        raise HornbookError(
            f"The pairs in {where} are token ids of another tokenizer than this model's: they cannot train "
            f"it. "
            "Search for pivotal tokens with this model."
        )
    return Pair.of(ids["prompt"], ids["chosen"], ids["rejected"])


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """16 hexadecimal digits over the spelling of every token."""
    digest = hashlib.sha256()
    for index in range(tokenizer.vocab_size):
        digest.update(tokenizer.decode([index]).encode() + b"\0")
    return digest.hexdigest()[:16]


def _estimate(
    *, model: Artifact | Path, pairs: Sequence[Artifact | Path], epochs: float, **other: Any
) -> Estimate:
    from hornbook.train.throughput import PROCESS_BYTES, expected_tokens_per_second

    config = config_of(model)
    if config is None:
        return Estimate(seconds=60, memory_bytes=1.5e9, disk_bytes=2e8)
    count = 1000
    if all((folder_of(corpus) / "corpus.json").is_file() for corpus in pairs):
        count = sum(Corpus.open(folder_of(corpus)).rows for corpus in pairs)
    rate = expected_tokens_per_second(config, other["time"])
    tokens = count * 350 * (epochs + 0.4)  # the reference and the held-out pass take a third of a step each
    activations = 40 * other["rows"] * other["time"] * config.hidden_size * config.layers
    return Estimate(
        seconds=5 + tokens / rate,
        memory_bytes=PROCESS_BYTES + 16 * config.parameters() + activations,
        disk_bytes=30 * config.parameters(),
    )


@step(version="1", makes="checkpoint", estimate=_estimate)
def prefer(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    pairs: Sequence[Artifact | Path],
    objective: Preference = DPO,
    epochs: float = 1.0,
    rows: int = 8,
    time: int = 512,
    settings: TrainSettings = PREFER_SETTINGS,
    held_out_share: float = 0.05,
    template: str | None = None,
    lora: LoRA | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Trains a checkpoint on preference pairs; `artifact / "model"` is the checkpoint.

    Args:
        model: the checkpoint folder to start from; it is the reference, and is left as it is.
        pairs: corpora of preferences (`align.pairs.verified_pairs`, `synth.steps.write_preferences`).
        objective: loss, beta, label smoothing, `supervised` (weight of the SFT term on chosen answers).
        epochs: how often each pair is shown.
        rows, time: shape of a batch; both answers of a pair lie in one row of `time` tokens.
        settings: optimizer, schedule, precision.
        held_out_share: of the requests, kept for the measurements below.
        template, lora: as in `finetune`.
        seed: of the order of the pairs.

    The lines of `metrics.jsonl` hold loss, accuracy, margin, chosen_reward and rejected_reward by step.

    Facts: pairs, held_out_pairs, unused {reason: rows}, trained_parameters, steps, tokens, seconds,
    tokens_per_second, loss, skipped_steps, `first` and `last` (means of accuracy, margin and rewards over the
    first and last tenth of the steps), and `held_out` (the same on held-out pairs, and kl: nats a response
    token from the trained model to the reference).
    """
    if epochs <= 0:
        raise HornbookError(f"epochs is {epochs}; it must be above 0.")
    if not 0 <= held_out_share < 1:
        raise HornbookError(f"held_out_share is {held_out_share}; it must be at least 0 and below 1.")
    folder, origin = ctx.folder / "model", folder_of(model)
    tokenizer = Tokenizer.load(origin)
    form = template_of(tokenizer, template)
    corpora = [Corpus.open(folder_of(corpus)) for corpus in pairs]
    config = config_of(origin)
    context = config.max_position if config is not None else None
    encoded = encode_pairs(
        corpora, tokenizer, form, time=time, context=context, held_out_share=held_out_share
    )
    if encoded.unused:
        said = ", ".join(f"{count} {reason}" for reason, count in encoded.unused.items())
        ctx.say(f"left out: {said}")

    from hornbook.train.precision import compute_dtype
    from hornbook.train.trainer import Trainer

    decoder = open_student(origin, tokenizer, form, lora=lora, seed=seed)
    dtype = compute_dtype(settings.precision, next(decoder.parameters()).device)
    both = encoded.train + encoded.held_out
    reference = _cached_reference(ctx.folder / "reference.npy", both, decoder, rows, time, seed, dtype)
    loader = PreferenceLoader(encoded.train, rows, time, seed, reference=reference[: len(encoded.train)])
    steps = max(1, math.ceil(epochs * loader.steps_per_epoch / settings.accumulate))
    trainer = Trainer(
        decoder,
        objective,
        Phase(name="preferences", loader=loader, steps=steps),
        settings,
        folder,
        save_model=lora_saver(lora, origin) if lora else None,
    )
    progress = ctx.progress(steps * rows * time * settings.accumulate, "tokens")
    result = trainer.run(progress=progress, log=ctx.log, say=ctx.say)
    measured: dict[str, Any] = {}
    if encoded.held_out:
        last = PreferenceLoader(encoded.held_out, rows, time, seed, reference=reference[len(encoded.train) :])
        measured = held_out_measures(decoder, origin, last, objective, dtype)
    finish_student(folder, tokenizer, form)
    (ctx.folder / "reference.npy").unlink(missing_ok=True)
    records = metrics.read(folder / METRICS_FILE)
    tenth = max(1, len(records) // 10)
    return {
        "pairs": len(encoded.train),
        "held_out_pairs": len(encoded.held_out),
        "unused": dict(encoded.unused),
        "trained_parameters": trained_parameters(decoder),
        "steps": steps,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "tokens_per_second": result.tokens_per_second,
        "loss": result.loss,
        "skipped_steps": result.skipped,
        "first": _means(records[:tenth]),
        "last": _means(records[-tenth:]),
        "held_out": measured,
    }


_NUMBERS = ("loss", "accuracy", "margin", "chosen_reward", "rejected_reward")


def _means(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over steps, each weighted by its pairs."""
    pairs = sum(record["trained_tokens"] for record in records)
    return {
        name: sum(record[name] * record["trained_tokens"] for record in records) / max(1, pairs)
        for name in _NUMBERS
        if records
    }


def _cached_reference(
    path: Path, pairs: Sequence[Pair], model: Decoder, rows: int, time: int, seed: int, dtype: Any
) -> NDArray[np.float32]:
    """Log-probabilities of the reference for all pairs, (pairs, 2); made once, also over interruptions."""
    if path.is_file():
        kept: NDArray[np.float32] = np.load(path, allow_pickle=False)
        if kept.shape == (len(pairs), 2):
            return kept
    found = reference_log_probabilities(PreferenceLoader(pairs, rows, time, seed), model, dtype=dtype)
    buffer = io.BytesIO()
    np.save(buffer, found)
    write_atomic(path, buffer.getvalue())
    return found


def held_out_measures(
    model: Decoder, origin: Path, loader: PreferenceLoader, objective: Preference, dtype: Any
) -> dict[str, float]:
    """Accuracy, margin and rewards of `model` on the pairs of `loader`, which carries the reference, and the
    divergence from the reference checkpoint in `origin`."""
    import torch

    from hornbook.model.hf import load_checkpoint

    policy = reference_log_probabilities(loader, model, dtype=dtype)
    ratio = (policy - loader.reference).astype(np.float64)
    if objective.kind != "sigmoid":
        ratio = ratio / np.array([[sum(p.chosen_mask[1:]), sum(p.rejected_mask[1:])] for p in loader.pairs])
    margin = ratio[:, 0] - ratio[:, 1]
    reference = load_checkpoint(origin, dtype=torch.float32)
    return {
        "accuracy": float((margin > 0).mean()),
        "margin": float(objective.beta * margin.mean()),
        "chosen_reward": float(objective.beta * ratio[:, 0].mean()),
        "rejected_reward": float(objective.beta * ratio[:, 1].mean()),
        "kl": divergence(model, reference, loader, dtype),
    }


def divergence(model: Decoder, reference: Decoder, loader: PreferenceLoader, dtype: Any) -> float:
    """Mean of KL(model || reference) over the next-token distributions at response positions, in nats."""
    import torch

    from hornbook.train.batches import to_tensors
    from hornbook.train.loss import IGNORE
    from hornbook.train.objectives import hidden_states
    from hornbook.train.precision import autocast

    total, count = 0.0, 0
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    reference.eval().to(device)
    with torch.no_grad(), autocast(device, dtype):
        for number in range(loader.steps_per_epoch):
            batch = to_tensors(loader.batch(number), device)
            at = batch.targets != IGNORE
            p, q = (
                torch.log_softmax(m.logits(hidden_states(m, batch)[at]).float(), -1)
                for m in (model, reference)
            )
            total += float((p.exp() * (p - q)).sum())
            count += int(at.sum())
    model.train(was_training)
    return total / max(1, count)
