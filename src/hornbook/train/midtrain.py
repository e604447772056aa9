"""Mid-training: a pretrained model goes on with longer rows, under other rotary angles, at a lower rate.

Phi-4 report (arXiv 2412.08905) section 3.3: the context grows from 4K to 16K, the base of the rotary angles
to 250,000, the peak rate falls to a tenth; 30 % of the tokens are newly chosen long documents, 70 % are
recalled from pretraining. With LongRoPE factors in place of a base it is the stage that phi-3.5 had.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.model.config import LongRope, ModelConfig
from hornbook.train.pretrain import PhasePlan, Tokens, facts_of, finish_checkpoint, raise_model
from hornbook.train.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Longer:
    """What changes in the shape.

    max_position: the new context, in tokens.
    rope_theta:   the new base of the rotary angles; None: as it was. A base beyond the old one turns every
        pair
                  of dimensions more slowly, so that far positions look like those already known.
    long_rope:    factors instead (`train.longrope_step` searches them).
    """

    max_position: int
    rope_theta: float | None = None
    long_rope: LongRope | None = None

    def of(self, config: ModelConfig) -> ModelConfig:
        """`config` with the longer context.

        Raises:
            HornbookError: a context that is not longer, or a decoder whose positions are not rotary.
        """
        if self.max_position < config.max_position:
            raise HornbookError(
                f"max_position is {self.max_position}, but the model already has a context of "
                f"{config.max_position}."
            )
        if config.positions != "rotary":
            raise HornbookError(
                f"This model tells positions by {config.positions!r}; only rotary ones can be stretched."
            )
        window = config.sliding_window
        return replace(
            config,
            max_position=self.max_position,
            rope_theta=self.rope_theta or config.rope_theta,
            long_rope=self.long_rope or config.long_rope,
            # A window as long as the old context was none; it would be one in the new.
            sliding_window=None if window is not None and window >= config.max_position - 1 else window,
        )


@step(version="1", makes="checkpoint")
def mid_train(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    longer: Longer,
    tokens: Tokens,
    phases: Sequence[PhasePlan],
    settings: TrainSettings,
    validation: Tokens | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Goes on with a checkpoint under a longer context; `artifact / "model"` is the result, tokenizer
    included.

    Args:
        model: the pretrained checkpoint folder, left as it is.
        longer: the new context and angles.
        tokens, phases, settings, validation, seed: as in `pretrain`; `data.lengths.by_length` sets long
            documents apart. Rows longer than the new context are refused.

    Facts: those of `pretrain`; before and after: context and rope_theta.

    Raises:
        HornbookError: see `Longer.of`; rows that the new context does not hold.
    """
    import torch

    from hornbook.model.hf import load_checkpoint
    from hornbook.train.longrope_search import set_config

    folder = model.path / "model" if isinstance(model, Artifact) else model
    decoder = load_checkpoint(folder, dtype=torch.float32)
    before = decoder.config
    config = longer.of(before)
    longest = max(phase.time for phase in phases)
    if longest > config.max_position:
        raise HornbookError(f"Rows of {longest} tokens do not fit into a context of {config.max_position}.")
    set_config(decoder, config)
    result = raise_model(
        ctx.folder / "model",
        model=config,
        tokens=tokens,
        phases=phases,
        settings=settings,
        tokenizer=folder,
        validation=validation or {},
        seed=seed,
        start=decoder.train(),
        progress=ctx.progress(sum(phase.tokens for phase in phases), "tokens"),
        log=ctx.log,
        say=ctx.say,
    )
    finish_checkpoint(ctx.folder / "model", folder)
    return {
        **facts_of(config, result),
        "before": {"context": before.max_position, "rope_theta": before.rope_theta},
        "after": {"context": config.max_position, "rope_theta": config.rope_theta},
    }


@step(version="1", makes="table")
def read_by_length(
    ctx: StepContext,
    *,
    models: Mapping[str, Artifact | Path],
    test: Artifact | Path,
    lengths: Sequence[int],
    rows: int = 16,
) -> dict[str, Any]:
    """How well checkpoints read rows of each length: nats a token over the second half of each row.

    The second half, because a row of four times the length has four times as much to go by at its end. A
    model is asked to read beyond its own context too; that is what the number is for.

    Args:
        models: by name. test: a token file with at least `rows` documents longer than the longest length.

    Facts: {model: {length: nats a token}}.
    """
    import torch

    from hornbook.model.hf import load_checkpoint
    from hornbook.train.longrope_compare import scored_from
    from hornbook.train.longrope_search import perplexity, under
    from hornbook.train.longrope_step import long_rows, rows_at_once
    from hornbook.train.parallel import training_device
    from hornbook.train.pretrain import token_file

    file = token_file(test)
    data = {length: scored_from(long_rows(file, length, rows), length // 2) for length in lengths}
    found: dict[str, Any] = {}
    for name, where in models.items():
        folder = where.path / "model" if isinstance(where, Artifact) else where
        decoder = load_checkpoint(folder, dtype=torch.float32, device=training_device())
        config = replace(decoder.config, max_position=max(decoder.config.max_position, *lengths))
        with under(decoder, config):
            found[name] = {
                str(length): math.log(perplexity(decoder, part, rows_at_once=rows_at_once(length)))
                for length, part in data.items()
            }
    return found
