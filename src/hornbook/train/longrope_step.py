"""A longer context as a step: search, fine-tuning, recovery of short rows, a checkpoint with both lists.

The order is the paper's (Ding et al. 2024, section 3.4): factors for the target, fine-tuning under them, then
a search of its own for rows of the original length.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hornbook.data.packing import PackedLoader
from hornbook.data.tokens import TokenFile
from hornbook.errors import HornbookError
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.train.longrope import SearchSettings
from hornbook.train.longrope_extend import Extension, Stage, config_of, fine_tuning_settings
from hornbook.train.longrope_search import (
    LongRopeSettings,
    LongRows,
    original_length,
    perplexity,
    search,
    search_short,
    set_config,
)
from hornbook.train.pretrain import token_file
from hornbook.train.settings import TrainSettings

_OWN_FILES = ("config.json", "generation_config.json")


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Training under the long factors: `steps` of `rows` rows of the target length (the paper: 400 of 32)."""

    steps: int = 400
    rows: int = 32
    settings: TrainSettings = field(default_factory=fine_tuning_settings)


def long_rows(file: TokenFile, time: int, count: int, *, across_documents: bool = False) -> LongRows:
    """`count` validation rows of `time` tokens, evenly spread over `file`.

    across_documents: cut the file as one stretch of tokens, where documents of that length are lacking; what
    a row then says of distant tokens is little. Otherwise each row begins a document at least as long.

    Raises:
        HornbookError: when the file does not hold that many rows.
    """
    if across_documents:
        starts = np.arange(0, max(0, file.token_count - time), time)
    else:
        lengths = np.diff(file.documents)
        starts = np.asarray(file.documents[:-1])[lengths > time]
    if len(starts) < count or count < 1:
        kind = "rows" if across_documents else "documents"
        raise HornbookError(
            f"{file.folder} holds {len(starts)} {kind} of more than {time:,} tokens, and {count} are wanted; "
            + ("give more text." if across_documents else "give longer documents, or set across_documents.")
        )
    chosen = starts[np.linspace(0, len(starts) - 1, count).round().astype(np.int64)]
    return LongRows.from_tokens(
        np.stack([np.asarray(file.tokens[at : at + time + 1], np.int64) for at in chosen])
    )


def _estimate(*, model: Artifact | Path, target: int, rows: int, **other: Any) -> Estimate:
    from hornbook.model.hf import read_config
    from hornbook.train.throughput import expected_tokens_per_second

    folder = checkpoint_folder(model)
    if not (folder / "config.json").is_file():
        return Estimate(seconds=600, memory_bytes=2e9, disk_bytes=2e8)
    config = read_config(folder)
    rate = expected_tokens_per_second(config, target)
    evaluations = (other.get("search_settings") or SearchSettings()).evaluations
    tokens = evaluations * rows * target / 3  # a forward pass is a third of a training step
    tuning = other.get("fine_tuning")
    if tuning is not None:
        tokens += tuning.steps * tuning.rows * target
    activations = 40 * target * config.hidden_size * config.layers
    return Estimate(
        seconds=10 + tokens / rate,
        memory_bytes=600e6 + 16 * config.parameters() + activations,
        disk_bytes=30 * config.parameters(),
    )


@step(version="1", makes="checkpoint", estimate=_estimate)
def extend_context(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    target: int,
    validation: Artifact | Path,
    training: Artifact | Path | None = None,
    search_settings: SearchSettings | None = None,
    fine_tuning: FineTuning | None = None,
    rows: int = 5,
    across_documents: bool = False,
    recover_short: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Lets a checkpoint read `target` tokens; `artifact / "model"` is the extended checkpoint.

    Args:
        model: checkpoint folder; phi3- or llama-shaped, without biases.
        validation: token file whose rows decide between factors, `rows` of each length.
        training: token file to fine-tune on, needed with `fine_tuning`.
        search_settings: of both searches; None: the paper's.
        fine_tuning: None leaves the weights alone (which suffices up to about 8 times, section 4.2).
        across_documents: see `long_rows`.
        recover_short: search short factors too; otherwise they are 1.

    Facts: original, target, long_factor, short_factor, perplexity of the validation rows: {"long" (of the
    target length): {unscaled, interpolation, ntk, yarn, found, tuned}, "short": {before, ones, found}}.

    Raises:
        HornbookError: a target that is no extension, too little text, or fine-tuning without training data.
    """
    import torch

    from hornbook.model.hf import load_checkpoint, save_checkpoint

    if fine_tuning is not None and training is None:
        raise HornbookError("fine_tuning needs a token file to train on: give training.")
    source = checkpoint_folder(model)
    decoder = load_checkpoint(source, dtype=torch.float32)
    original = original_length(decoder.config)
    held_out = token_file(validation)
    far = long_rows(held_out, target, rows, across_documents=across_documents)
    near = long_rows(held_out, original, rows, across_documents=across_documents)
    # Unscaled first positions cannot be saved, so they are not searched.
    settings = LongRopeSettings(
        search=search_settings or SearchSettings(seed=seed),
        target=target,
        start_tokens=(0,),
        rows_at_once=rows_at_once(target),
    )
    short: dict[str, float] = {"before": perplexity(decoder.eval(), near)}
    evaluations = settings.search.evaluations
    found = search(
        decoder,
        far,
        settings,
        ctx.folder / "search-long",
        progress=ctx.progress(evaluations, "candidates", "long factors"),
        say=ctx.say,
    )
    set_config(decoder, config_of(decoder.config, found))
    long = {**found.perplexities, "found": found.portable_perplexity}
    if fine_tuning is not None and training is not None:
        loader = PackedLoader([(token_file(training), 1.0)], fine_tuning.rows, target, seed)
        stage = Stage(name="tuned", found=found, loader=loader, steps=fine_tuning.steps)
        extension = Extension(stages=[stage], folder=ctx.folder / "tuning", settings=fine_tuning.settings)
        total = fine_tuning.steps * fine_tuning.rows * target * fine_tuning.settings.accumulate
        extension.run(decoder, ctx.progress(total, "tokens", "fine-tuning"), log=ctx.log, say=ctx.say)
        long["tuned"] = perplexity(decoder.eval(), far)
    if recover_short:
        recovered = search_short(
            decoder,
            near,
            settings,
            ctx.folder / "search-short",
            progress=ctx.progress(evaluations, "candidates", "short factors"),
            say=ctx.say,
        )
        set_config(decoder, config_of(decoder.config, recovered))
        short |= {"ones": recovered.perplexities["ones"], "found": recovered.portable_perplexity}
    else:
        short["ones"] = perplexity(decoder.eval(), near)
    save_checkpoint(decoder, ctx.folder / "model")
    _copy_companions(source, ctx.folder / "model")
    shutil.rmtree(ctx.folder / "tuning", ignore_errors=True)
    rope = decoder.config.long_rope
    assert rope is not None
    return {
        "original": original,
        "target": target,
        "long_factor": list(rope.long_factor),
        "short_factor": list(rope.short_factor),
        "perplexity": {"long": long, "short": short},
    }


def rows_at_once(time: int) -> int:
    """How many rows of `time` tokens go through a model together: long ones alone, for the sake of memory."""
    return max(1, 8192 // time)


def checkpoint_folder(where: Artifact | Path) -> Path:
    """The checkpoint an input names: a folder, or an artifact that is one or holds it as `model`."""
    folder = where.path if isinstance(where, Artifact) else where
    return folder if (folder / "config.json").is_file() else folder / "model"


def _copy_companions(source: Path, folder: Path) -> None:
    """Tokenizer, chat template and whatever else lies beside the weights."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name not in _OWN_FILES and ".safetensors" not in path.name:
            shutil.copy2(path, folder / path.name)
