"""Growing and training on as a step: a small checkpoint in, a larger trained one out (phi-1.5 to phi-2)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.model.config import ModelConfig
from hornbook.train.growth import GrowthSettings, check_growth, grow
from hornbook.train.pretrain import PhasePlan, Tokens, facts_of, finish_checkpoint, raise_model
from hornbook.train.settings import TrainSettings


def _estimate(
    *, large: ModelConfig, phases: Sequence[PhasePlan], settings: TrainSettings, **other: Any
) -> Estimate:
    from hornbook.train.throughput import expected_tokens_per_second

    rate = expected_tokens_per_second(large, max(phase.time for phase in phases))
    rows = max(settings.micro_rows or phase.rows for phase in phases)
    activations = 40 * rows * max(phase.time for phase in phases) * large.hidden_size * large.layers
    return Estimate(
        seconds=10 + sum(phase.tokens for phase in phases) / rate,
        memory_bytes=600e6 + 16 * large.parameters() + activations,
        disk_bytes=30 * large.parameters(),
    )


@step(version="1", makes="checkpoint", estimate=_estimate)
def grow_and_pretrain(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    large: ModelConfig,
    tokens: Tokens,
    phases: Sequence[PhasePlan],
    settings: TrainSettings,
    tokenizer: Artifact | Path,
    validation: Tokens | None = None,
    growth: GrowthSettings | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Grows a checkpoint to the shape `large` and trains it; `artifact / "model"` is the result.

    Args:
        model: the small checkpoint, left as it is.
        large: the shape to grow to; what may differ from the small one's says `check_growth`.
        tokens, phases, settings, tokenizer, validation, seed: as in `pretrain`. The tokenizer must be the
            small model's, or the embeddings mean nothing.
        growth: how the copies are made.

    Facts: those of `pretrain`; small_parameters; inexact: why the start was only close to the small model
    (empty where it was the same).

    Raises:
        HornbookError: shapes of which one cannot grow to the other, with every reason.
    """
    import torch

    from hornbook.model.hf import load_checkpoint

    folder = model.path if isinstance(model, Artifact) else model
    small = load_checkpoint(folder, dtype=torch.float32)
    reasons = check_growth(small.config, large)
    for reason in reasons:
        ctx.say(f"The start is only close to the small model: {reason}.")
    began = grow(small, large, growth)
    result = raise_model(
        ctx.folder / "model",
        model=large,
        tokens=tokens,
        phases=phases,
        settings=settings,
        tokenizer=tokenizer,
        validation=validation or {},
        seed=seed,
        start=began,
        progress=ctx.progress(sum(phase.tokens for phase in phases), "tokens"),
        log=ctx.log,
        say=ctx.say,
    )
    finish_checkpoint(ctx.folder / "model", tokenizer)
    return {
        **facts_of(large, result),
        "small_parameters": small.config.parameters(),
        "inexact": list(reasons),
    }
