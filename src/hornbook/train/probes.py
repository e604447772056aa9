"""Probes: the same small student raised on several arms of data with several seeds, to compare the data.

Each probe is one single-threaded process (two of those do more work on two cores than one process with two
threads), so a comparison of three arms over three seeds costs little more than its tokens.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hornbook.lab.files import write_json
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.lab.workers import side_by_side
from hornbook.model.config import ModelConfig
from hornbook.train.pretrain import PhasePlan, Tokens, finish_checkpoint, raise_model
from hornbook.train.settings import TrainSettings
from hornbook.train.throughput import expected_tokens_per_second

if TYPE_CHECKING:
    from hornbook.model.decoder import Decoder

_RESULT = "probe.json"


def _estimate(
    *,
    model: ModelConfig,
    arms: Mapping[str, Sequence[PhasePlan]],
    seeds: Sequence[int],
    workers: int,
    **other: Any,
) -> Estimate:
    tokens = len(seeds) * sum(phase.tokens for phases in arms.values() for phase in phases)
    rate = expected_tokens_per_second(model, max(p.time for phases in arms.values() for p in phases))
    return Estimate(
        seconds=15 + tokens / rate,
        memory_bytes=workers * (700e6 + 16 * model.parameters()),
        disk_bytes=len(seeds) * len(arms) * 6 * model.parameters(),
    )


@step(version="1", makes="checkpoints", estimate=_estimate)
def train_probes(
    ctx: StepContext,
    *,
    model: ModelConfig,
    tokens: Tokens,
    arms: Mapping[str, Sequence[PhasePlan]],
    seeds: Sequence[int],
    settings: TrainSettings,
    tokenizer: Artifact | Path,
    validation: Tokens,
    workers: int,
    keep_phases: bool = False,
    grown_from: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Raises one student per (arm, seed); `artifact / "<arm>-<seed>"` is its checkpoint.

    Arms see the same number of tokens when their phases say so: that is the caller's to arrange. A probe
    that is finished is not trained again when the step is resumed.

    Args:
        validation: token files measured at phase ends; none: nothing is measured.
        keep_phases: keep the checkpoint at the end of every phase, below `after/<phase>` of the probe's.
        grown_from: by "<arm>-<seed>", the smaller checkpoint that a student begins as (`growth.grow`); the
            others begin with random weights.

    Facts: `bits_per_byte` {arm: {domain: [one per seed]}}, `seconds`, `tokens` per arm.
    """
    started = time.perf_counter()
    grown_from = grown_from or {}
    jobs = [(arm, seed) for seed in seeds for arm in arms]
    shared: dict[str, Any] = {
        "model": model,
        "tokens": _paths(tokens),
        "settings": replace(settings, threads=1),
        "tokenizer": tokenizer.path if isinstance(tokenizer, Artifact) else tokenizer,
        "validation": _paths(validation),
        "keep_phases": keep_phases,
    }

    def say(name: str, result: Mapping[str, Any]) -> None:
        bits = result["bits_per_byte"].get("all")
        arm, seed = name.rsplit("-", 1)
        ctx.say(f"{arm}, seed {seed}: {f'{bits:.3f} bits per byte' if bits is not None else 'trained'}")

    results = side_by_side(
        {
            f"{arm}-{seed}": partial(
                _probe,
                ctx.folder / f"{arm}-{seed}",
                phases=arms[arm],
                seed=seed,
                small=grown_from.get(f"{arm}-{seed}"),
                **shared,
            )
            for arm, seed in jobs
        },
        workers=workers,
        progress=ctx.progress(sum(phase.tokens for arm, _ in jobs for phase in arms[arm]), "tokens"),
        finished=say,
    )
    domains = results["{}-{}".format(*jobs[0])]["bits_per_byte"]
    return {
        "bits_per_byte": {
            arm: {
                domain: [results[f"{arm}-{seed}"]["bits_per_byte"][domain] for seed in seeds]
                for domain in domains
            }
            for arm in arms
        },
        "tokens": {arm: sum(phase.tokens for phase in phases) for arm, phases in arms.items()},
        "seconds": time.perf_counter() - started,
    }


def _paths(tokens: Tokens) -> dict[str, Path]:
    return {name: file.path if isinstance(file, Artifact) else file for name, file in tokens.items()}


def _probe(
    folder: Path,
    *,
    model: ModelConfig,
    tokens: Mapping[str, Path],
    phases: Sequence[PhasePlan],
    seed: int,
    settings: TrainSettings,
    tokenizer: Path,
    validation: Mapping[str, Path],
    keep_phases: bool,
    small: Path | None,
    progress: Any,
) -> dict[str, Any]:
    """One probe, in its own process; its result is kept, so it is raised once."""
    import torch

    kept = folder / _RESULT
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        progress.advance(sum(phase.tokens for phase in phases))
        return found
    torch.set_num_threads(1)
    result = raise_model(
        folder,
        model=model,
        tokens=tokens,
        phases=phases,
        settings=settings,
        tokenizer=tokenizer,
        validation=validation,
        seed=seed,
        start=None if small is None else _grown(small, model, seed),
        keep_phases=keep_phases,
        progress=progress,
        say=lambda sentence: None,
    )
    for one in (folder, *sorted(folder.glob("after/*"))):
        finish_checkpoint(one, tokenizer)
    summary = {"bits_per_byte": dict(result.bits_per_byte), "tokens_per_second": result.tokens_per_second}
    write_json(kept, summary)
    return summary


def _grown(folder: Path, large: ModelConfig, seed: int) -> "Decoder":
    """A checkpoint, grown to the shape `large`."""
    import torch

    from hornbook.model.hf import load_checkpoint
    from hornbook.train.growth import GrowthSettings, grow

    return grow(load_checkpoint(folder, dtype=torch.float32), large, GrowthSettings(seed=seed))
