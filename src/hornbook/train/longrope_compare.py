"""LongRoPE's comparisons as steps: with first positions unscaled, and on rows that no search has seen."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hornbook.data.packing import IGNORE
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.model.config import ModelConfig
from hornbook.train.longrope import START_TOKENS, Candidate, SearchSettings, Space, seeds
from hornbook.train.longrope_search import (
    LongRopeSettings,
    LongRows,
    extended_config,
    original_length,
    perplexity,
    search,
    under,
)
from hornbook.train.longrope_step import checkpoint_folder, long_rows, rows_at_once
from hornbook.train.pretrain import token_file


@step(version="1", makes="factors")
def search_with_start_tokens(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    target: int,
    validation: Artifact | Path,
    rows: int,
    search_settings: SearchSettings,
    across_documents: bool = False,
) -> dict[str, Any]:
    """The search with first positions that may stay unscaled (section 3.2's n-hat), which no file can hold.

    Facts: factors, start_tokens, perplexity of the validation rows.
    """
    import torch

    from hornbook.model.hf import load_checkpoint

    decoder = load_checkpoint(checkpoint_folder(model), dtype=torch.float32)
    found = search(
        decoder,
        long_rows(token_file(validation), target, rows, across_documents=across_documents),
        LongRopeSettings(
            search=search_settings,
            target=target,
            start_tokens=START_TOKENS,
            rows_at_once=rows_at_once(target),
        ),
        ctx.folder / "search",
        progress=ctx.progress(search_settings.evaluations, "candidates", "factors and start"),
        say=ctx.say,
    )
    return {
        "factors": list(found.best.factors),
        "start_tokens": found.best.start_tokens,
        "perplexity": found.best_perplexity,
    }


@step(version="1", makes="comparison")
def compare_factors(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    extended: Artifact | Path,
    target: int,
    test: Artifact | Path,
    rows: int,
    with_start: Mapping[str, Any] | None = None,
    across_documents: bool = False,
) -> dict[str, Any]:
    """Mean loss (nats a token) on rows that no search saw, `rows` of the target and of the original length.

    The first quarter of the original length is not scored: there a row has said little yet, in short rows
    longer than in long ones.

    Args:
        model: the checkpoint before its extension; `extended`: after it.
        with_start: what `search_with_start_tokens` found, or None.

    Facts: long: {original length, unscaled, interpolation, ntk, yarn, found, tuned, start tokens}; the first
    is the untouched model on rows of its own length, tuned the extended checkpoint, the others its weights
    before tuning. short: {before, ones, found}: the untouched model, the extended one without and with its
    short factors.
    """
    import torch

    from hornbook.model.hf import load_checkpoint

    before = load_checkpoint(checkpoint_folder(model), dtype=torch.float32)
    after = load_checkpoint(checkpoint_folder(extended), dtype=torch.float32)
    config, rope = before.config, after.config.long_rope
    assert rope is not None
    original = original_length(config)
    file = token_file(test)
    far, near = (
        scored_from(long_rows(file, time, rows, across_documents=across_documents), original // 4)
        for time in (target, original)
    )
    space = Space(pairs=config.rotary_dim // 2, scale=target / original)

    def loss(decoder: Any, under_config: ModelConfig, data: LongRows) -> float:
        with under(decoder, under_config):
            return math.log(perplexity(decoder, data, rows_at_once=rows_at_once(target)))

    long = {
        "original length": loss(before, config, near),
        "unscaled": loss(before, replace(config, max_position=target, long_rope=None), far),
        **{
            name: loss(before, extended_config(config, candidate, target=target), far)
            for name, candidate in seeds(space, config, original).items()
        },
        "found": loss(before, replace(after.config, long_rope=rope), far),
        "tuned": loss(after, after.config, far),
    }
    if with_start is not None:
        steps = tuple(round((factor - 1.0) * 100) for factor in with_start["factors"])
        candidate = Candidate(steps, with_start["start_tokens"])
        long["start tokens"] = loss(before, extended_config(config, candidate, target=target), far)
    ones = replace(rope, short_factor=(1.0,) * len(rope.short_factor))
    short = {
        "before": loss(before, config, near),
        "ones": loss(after, replace(after.config, long_rope=ones), near),
        "found": loss(after, after.config, near),
    }
    return {"long": long, "short": short}


def scored_from(rows: LongRows, start: int) -> LongRows:
    """The same rows with nothing scored before position `start`."""
    targets = rows.targets.copy()
    targets[:, :start] = IGNORE
    return LongRows(rows.inputs, targets)
