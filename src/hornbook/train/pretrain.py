"""Pretraining as a step: phases of (mixture, length, learning rate) from token files to a checkpoint."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hornbook.data.packing import PackedLoader, SequentialLoader
from hornbook.data.tokens import TokenFile
from hornbook.errors import HornbookError
from hornbook.lab.ranks import rank
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.model.config import ModelConfig
from hornbook.train.schedule import Schedule
from hornbook.train.settings import Phase, TrainSettings
from hornbook.train.trainer import Trainer, TrainResult
from hornbook.train.validation import Validation

if TYPE_CHECKING:
    from hornbook.model.decoder import Decoder

Tokens = Mapping[str, Artifact | Path]

VALIDATION_TOKENS = 65_536  # a domain: bits per byte to about one percent, in a few seconds


@dataclass(frozen=True, kw_only=True)
class PhasePlan:
    """One phase before its data is opened.

    name:          appears in metrics and reports.
    mixture:       share of rows by name of a token file; shares need not sum to 1.
    tokens:        how long, in positions of the batches.
    rows, time:    the shape of a batch.
    learning_rate: factor on the peak learning rates.
    schedule:      the shape inside this phase; None: the run's shape goes over all phases as one.
    """

    name: str
    mixture: Mapping[str, float]
    tokens: int
    rows: int
    time: int
    learning_rate: float = 1.0
    schedule: Schedule | None = None


def _estimate(
    *, model: ModelConfig, phases: Sequence[PhasePlan], settings: TrainSettings, **other: Any
) -> Estimate:
    from hornbook.train.throughput import PROCESS_BYTES, expected_tokens_per_second

    tokens = sum(phase.tokens for phase in phases)
    rate = expected_tokens_per_second(model, max(phase.time for phase in phases))
    rows = max(settings.micro_rows or phase.rows for phase in phases)
    activations = 40 * rows * max(p.time for p in phases) * model.hidden_size * model.layers
    return Estimate(
        seconds=10 + tokens / rate,
        memory_bytes=PROCESS_BYTES + 16 * model.parameters() + activations,
        disk_bytes=30 * model.parameters(),
    )


@step(version="1", makes="checkpoint", estimate=_estimate, every_rank=True)
def pretrain(
    ctx: StepContext,
    *,
    model: ModelConfig,
    tokens: Tokens,
    phases: Sequence[PhasePlan],
    settings: TrainSettings,
    tokenizer: Artifact | Path,
    validation: Tokens | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Raises a model from random weights; `artifact / "model"` is the checkpoint.

    Args:
        model: the shape.
        tokens: token files by name, as the mixtures of `phases` call them.
        phases: what to train on, in order (phi-3: web first, then filtered web with synthetic data).
        settings: optimizer, schedule, precision.
        tokenizer: its files go into the checkpoint.
        validation: token files whose bits per byte are measured when a phase ends.
        seed: of the initial weights and of the order of the data.

    Facts: tokens, seconds, tokens_per_second, parameters, loss, bits_per_byte by domain; processes and
    kernels (what the machine offered: they change the speed, and the numbers by rounding alone, so they are
    recorded here and are not part of the step's key).
    """
    result = raise_model(
        ctx.folder / "model",
        model=model,
        tokens=tokens,
        phases=phases,
        settings=settings,
        tokenizer=tokenizer,
        validation=validation or {},
        seed=seed,
        progress=ctx.progress(sum(phase.tokens for phase in phases), "tokens"),
        log=ctx.log,
        say=ctx.say,
    )
    if rank() == 0:
        finish_checkpoint(ctx.folder / "model", tokenizer)
    return facts_of(model, result)


def facts_of(model: ModelConfig, result: TrainResult) -> dict[str, Any]:
    """What a pretraining step says of itself."""
    return {
        "parameters": model.parameters(),
        "tokens": result.tokens,
        "seconds": result.seconds,
        "tokens_per_second": result.tokens_per_second,
        "loss": result.loss,
        "skipped_steps": result.skipped,
        "processes": result.processes,
        "kernels": result.kernels,
        "bits_per_byte": dict(result.bits_per_byte),
    }


def raise_model(
    folder: Path,
    *,
    model: ModelConfig,
    tokens: Tokens,
    phases: Sequence[PhasePlan],
    settings: TrainSettings,
    tokenizer: Artifact | Path,
    validation: Tokens,
    seed: int,
    start: "Decoder | None" = None,
    keep_phases: bool = False,
    progress: Any = None,
    log: Any = None,
    say: Any = None,
) -> TrainResult:
    """Trains a decoder over `phases` into `folder`; goes on where an earlier attempt stopped.

    start: a decoder of shape `model` to begin with; None: random weights. keep_phases: the model as each
    phase ends stays in `folder/after/<phase>`, beside the newest in `folder`.
    """
    import torch

    from hornbook.model.decoder import Decoder
    from hornbook.model.hf import save_checkpoint
    from hornbook.train.objectives import next_token
    from hornbook.train.parallel import training_device
    from hornbook.train.scaling import scale_initial_values

    def save(trained: Any, where: Path) -> None:
        if keep_phases:
            ended = next(s.phase.name for s in trainer.stretches if s.last == trainer.position.step)
            save_checkpoint(trained, where / "after" / ended)
        save_checkpoint(trained, where)

    torch.manual_seed(seed)
    if start is None:
        decoder = Decoder(model)
        scale_initial_values(decoder, settings)
    else:
        decoder = start
    decoder.to(training_device())
    held_out = open_validation(validation, tokenizer, phases[-1]) if validation else None
    trainer = Trainer(
        decoder,
        next_token,
        [open_phase(phase, tokens, seed=seed) for phase in phases],
        settings,
        folder,
        validation=held_out,
        save_model=save,
    )
    return trainer.run(progress=progress, log=log, say=say)


def open_phase(plan: PhasePlan, tokens: Tokens, *, seed: int) -> Phase:
    """Opens the token files a phase mixes.

    Raises:
        HornbookError: the mixture names a token file that was not given.
    """
    missing = [name for name in plan.mixture if name not in tokens]
    if missing:
        raise HornbookError(
            f"phase {plan.name!r} mixes {', '.join(missing)}, which was not given; there are: "
            f"{', '.join(tokens)}."
        )
    sources = [(token_file(tokens[name]), share) for name, share in plan.mixture.items() if share > 0]
    loader = PackedLoader(sources, plan.rows, plan.time, seed)
    return Phase(
        name=plan.name,
        loader=loader,
        tokens=plan.tokens,
        learning_rate=plan.learning_rate,
        schedule=plan.schedule,
    )


def open_validation(validation: Tokens, tokenizer: Artifact | Path, phase: PhasePlan) -> Validation:
    """Validation documents in the shape of `phase`, each once, at most `VALIDATION_TOKENS` a domain."""
    domains = {}
    for name, file in validation.items():
        loader = SequentialLoader(token_file(file), phase.rows, phase.time)
        most = max(1, VALIDATION_TOKENS // (phase.rows * phase.time))  # its first batches are a fair sample
        domains[name] = [loader.batch(index) for index in range(min(most, len(loader)))]
    return Validation(domains, token_bytes(tokenizer))


def token_file(where: Artifact | Path) -> TokenFile:
    """The token file an artifact made, or the one in a folder."""
    return TokenFile.open(where.path if isinstance(where, Artifact) else where)


def token_bytes(tokenizer: Artifact | Path) -> NDArray[np.int64]:
    """(vocabulary,) bytes of text each token stands for; 0 for special tokens."""
    tool = _load_tokenizer(tokenizer)
    special = set(tool.specials.values())
    sizes = [0 if index in special else len(tool.token_bytes(index)) for index in range(tool.vocab_size)]
    return np.array(sizes, np.int64)


def finish_checkpoint(folder: Path, tokenizer: Artifact | Path) -> None:
    """Puts the tokenizer beside the weights and removes the resume state, which has served its end."""
    _load_tokenizer(tokenizer).save(folder)
    shutil.rmtree(folder / "training", ignore_errors=True)


def _load_tokenizer(where: Artifact | Path) -> Any:
    from hornbook.data.tokenizer import Tokenizer

    return Tokenizer.load(where.path if isinstance(where, Artifact) else where)
