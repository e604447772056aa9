"""Probes: the same small student raised on several arms of data with several seeds, to compare the data.

Each probe is one single-threaded process (two of those do more work on two cores than one process with two
threads), so a comparison of three arms over three seeds costs little more than its tokens.
"""

import json
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from hornbook.lab.files import write_json
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.model.config import ModelConfig
from hornbook.train.pretrain import PhasePlan, Tokens, finish_checkpoint, raise_model
from hornbook.train.settings import TrainSettings
from hornbook.train.throughput import expected_tokens_per_second

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
) -> dict[str, Any]:
    """Raises one student per (arm, seed); `artifact / "<arm>-<seed>"` is its checkpoint.

    Arms see the same number of tokens when their phases say so: that is the caller's to arrange. A probe
    that is finished is not trained again when the step is resumed.

    Facts: `bits_per_byte` {arm: {domain: [one per seed]}}, `seconds`, `tokens` per arm.
    """
    started = time.perf_counter()
    jobs = [(arm, seed) for seed in seeds for arm in arms]
    progress = ctx.progress(sum(phase.tokens for arm, _ in jobs for phase in arms[arm]), "tokens")
    shared: dict[str, Any] = {
        "model": model,
        "tokens": _paths(tokens),
        "settings": replace(settings, threads=1),
        "tokenizer": tokenizer.path if isinstance(tokenizer, Artifact) else tokenizer,
        "validation": _paths(validation),
    }
    results: dict[tuple[str, int], dict[str, Any]] = {}
    # spawn: a forked torch process may hang in its thread pools
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: dict[Future[dict[str, Any]], tuple[str, int]] = {
            pool.submit(_probe, ctx.folder / f"{arm}-{seed}", phases=arms[arm], seed=seed, **shared): (
                arm,
                seed,
            )
            for arm, seed in jobs
        }
        try:
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    arm, seed = waiting.pop(future)
                    results[arm, seed] = future.result()
                    progress.advance(sum(phase.tokens for phase in arms[arm]))
                    ctx.say(
                        f"{arm}, seed {seed}: {results[arm, seed]['bits_per_byte']['all']:.3f} bits per byte"
                    )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    domains = results[jobs[0]]["bits_per_byte"]
    return {
        "bits_per_byte": {
            arm: {
                domain: [results[arm, seed]["bits_per_byte"][domain] for seed in seeds] for domain in domains
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
) -> dict[str, Any]:
    """One probe, in its own process; its result is kept, so it is raised once."""
    import torch

    kept = folder / _RESULT
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    torch.set_num_threads(1)
    from hornbook.lab.progress import NullProgress

    result = raise_model(
        folder,
        model=model,
        tokens=tokens,
        phases=phases,
        settings=settings,
        tokenizer=tokenizer,
        validation=validation,
        seed=seed,
        progress=NullProgress(1),
        say=lambda sentence: None,
    )
    finish_checkpoint(folder, tokenizer)
    summary = {"bits_per_byte": dict(result.bits_per_byte), "tokens_per_second": result.tokens_per_second}
    write_json(kept, summary)
    return summary
