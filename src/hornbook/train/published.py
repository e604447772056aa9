"""What the phi models were trained on, as published: token budgets, devices, days, and how sure that is."""

from dataclasses import dataclass
from typing import Literal

from hornbook.model.config import ModelConfig
from hornbook.model.presets import PRESETS, preset
from hornbook.train.accelerators import accelerator
from hornbook.train.throughput import flops_per_token

Evidence = Literal["paper", "card", "recalled"]
"""paper: read in the paper; card: in a copy of the model card or a summary; recalled: not checked."""

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """One pretraining run. tokens: seen in training, all epochs. time: row length in tokens.

    gpu, gpus, days: None where nothing was published. `days_at_most` says that only a bound was given.
    stated_flops: floating-point operations per token where the presets do not offer the model.
    """

    model: str
    tokens: float
    tokens_evidence: Evidence
    time: int
    gpu: str | None = None
    gpus: int | None = None
    days: float | None = None
    days_evidence: Evidence | None = None
    days_at_most: bool = False
    note: str = ""
    stated_flops: float | None = None


_MOE_FLOPS = 6.0 * (6_640_999_744 - 32_064 * 4096) + 6.0 * 32 * 4096 * 4096
_SMALL_FLOPS = 6.0 * 7_392_272_384 + 6.0 * 32 * 4096 * 8192

RUNS: dict[str, PublishedRun] = {
    run.model: run
    for run in (
        PublishedRun(
            model="phi-1",
            tokens=24_000 * 1024 * 2048,
            tokens_evidence="paper",
            time=2048,
            gpu="a100",
            gpus=8,
            days=4,
            days_evidence="paper",
            days_at_most=True,
            note="the 24,000 steps of the checkpoint that was used, of 36,000; fine-tuning: 7 hours more",
        ),
        PublishedRun(
            model="phi-1.5",
            tokens=150e9,
            tokens_evidence="card",
            time=2048,
            gpu="a100-40g",
            gpus=32,
            days=8,
            days_evidence="card",
        ),
        PublishedRun(
            model="phi-2",
            tokens=1.4e12,
            tokens_evidence="card",
            time=2048,
            gpu="a100",
            gpus=96,
            days=14,
            days_evidence="card",
            note="started from phi-1.5's weights in a way that was not published",
        ),
        PublishedRun(
            model="phi-3-mini",
            tokens=4.9e12,
            tokens_evidence="card",
            time=4096,
            gpu="h100",
            gpus=512,
            days=10,
            days_evidence="card",
            note="the June 2024 refresh; the paper's first release saw 3.3T tokens",
        ),
        PublishedRun(
            model="phi-3-mini-128k",
            tokens=4.9e12,
            tokens_evidence="card",
            time=4096,
            note="the long-context phase was not published; this is the budget of phi-3-mini",
        ),
        PublishedRun(
            model="phi-3-small",
            tokens=4.8e12,
            tokens_evidence="paper",
            time=8192,
            gpu="h100",
            gpus=1024,
            days=18,
            days_evidence="recalled",
            stated_flops=_SMALL_FLOPS,
        ),
        PublishedRun(
            model="phi-3-medium",
            tokens=4.8e12,
            tokens_evidence="paper",
            time=4096,
            gpu="h100",
            gpus=512,
            days=42,
            days_evidence="recalled",
        ),
        PublishedRun(
            model="phi-3.5-mini",
            tokens=3.4e12,
            tokens_evidence="card",
            time=4096,
            gpu="h100",
            gpus=512,
            days=10,
            days_evidence="card",
            note="the share of long rows in mid-training (up to 128K) is undisclosed",
        ),
        PublishedRun(
            model="phi-3.5-moe",
            tokens=4.9e12,
            tokens_evidence="card",
            time=4096,
            gpu="h100",
            gpus=512,
            days=23,
            days_evidence="card",
            stated_flops=_MOE_FLOPS,
        ),
        PublishedRun(
            model="phi-3.5-vision",
            tokens=0.5e12,
            tokens_evidence="paper",
            time=4096,
            gpu="a100",
            gpus=256,
            days=6,
            days_evidence="recalled",
            note="multimodal training on top of phi-3.5-mini; images cost more than this counts",
            stated_flops=6.0 * 4.1e9 + 6.0 * 32 * 3072 * 4096,
        ),
        PublishedRun(
            model="phi-4",
            tokens=10e12,
            tokens_evidence="paper",
            time=4096,
            gpu="h100",
            gpus=1920,
            days=21,
            days_evidence="recalled",
            note="about 10T; mid-training on rows of 16K saw 250B more",
        ),
        PublishedRun(
            model="phi-4-mini",
            tokens=5e12,
            tokens_evidence="card",
            time=4096,
            gpu="a100",
            gpus=512,
            days=21,
            days_evidence="recalled",
        ),
        PublishedRun(
            model="smollm2-135m",
            tokens=2e12,
            tokens_evidence="recalled",
            time=2048,
            note="64 H100; the days are undisclosed",
        ),
    )
}

TOKENS_PER_PARAMETER = 20
"""Budget of a model without a published one: near the optimum for its compute (Hoffmann et al. 2022)."""


@dataclass(frozen=True, kw_only=True)
class ImpliedMfu:
    """A published training time held against arithmetic. mfu: the share of the devices' bf16 peak that it
    implies (a lower bound where the days are an upper one)."""

    model: str
    tokens: float
    gpu: str
    gpus: int
    days: float
    mfu: float
    evidence: Evidence


def run_flops_per_token(run: PublishedRun) -> float:
    """Training operations per token, from the preset where there is one."""
    if run.model in PRESETS:
        return flops_per_token(preset(run.model), run.time)
    if run.stated_flops is None:
        raise ValueError(f"{run.model} is neither a preset nor has stated operations")
    return run.stated_flops


def implied_mfu() -> list[ImpliedMfu]:
    """The share of peak that each published training time implies, in the order of publication."""
    rows = []
    for run in RUNS.values():
        if run.gpu is None or run.gpus is None or run.days is None or run.days_evidence is None:
            continue
        offered = accelerator(run.gpu).peak_tflops * 1e12 * run.gpus * run.days * SECONDS_PER_DAY
        rows.append(
            ImpliedMfu(
                model=run.model,
                tokens=run.tokens,
                gpu=run.gpu,
                gpus=run.gpus,
                days=run.days,
                mfu=run_flops_per_token(run) * run.tokens / offered,
                evidence=run.days_evidence,
            )
        )
    return rows


def token_budget(name: str | None, config: ModelConfig) -> tuple[float, str]:
    """How many tokens a run of the preset sees by default, and a sentence that says where that comes from."""
    run = RUNS.get(name or "")
    if run is None:
        tokens = float(TOKENS_PER_PARAMETER * config.parameters())
        return tokens, f"no budget was published: {TOKENS_PER_PARAMETER} tokens per parameter"
    source = {
        "paper": "read in the paper",
        "card": "from the model card or a summary of the paper",
        "recalled": "recalled, not checked",
    }[run.tokens_evidence]
    return run.tokens, f"published budget, {source}" + (f" ({run.note})" if run.note else "")
