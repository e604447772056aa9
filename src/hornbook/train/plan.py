"""What training and serving a model would take, before anything is started.

A plan is arithmetic on the model's shape, a device's data sheet and a few assumptions. Every assumption is
a field of `PlanSettings` and is listed in words in the plan itself.
"""

from dataclasses import dataclass
from typing import Any, Literal

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig
from hornbook.model.presets import preset
from hornbook.train.accelerators import Accelerator, accelerator
from hornbook.train.plan_memory import (
    InferenceMemory,
    Storage,
    TrainingMemory,
    inference_memory,
    training_memory,
)
from hornbook.train.published import RUNS, SECONDS_PER_DAY, PublishedRun, implied_mfu, token_budget
from hornbook.train.throughput import flops_per_token

RECOMPUTE_COST = 4 / 3
STORAGES: tuple[Storage, ...] = ("bf16", "int8", "int4")
_MOST_TOKENS_AT_ONCE = 65_536
_MOST_GPUS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What may be assumed otherwise.

    gpu, gpus:        which accelerators, and how many.
    tokens:           training budget; None takes the published one.
    time:             row length in training, in tokens; None: that of the published run, or the context
                      the model was first trained for, at most 4096.
    rows:             rows through one device at once; None: the most that fit, up to 65,536 tokens.
    mfu:              share of the peak that training reaches (no recomputation counted as useful work).
    recompute:        activation checkpointing; "auto" where one row would not fit without.
    optimizer:        "adamw" or "muon".
    context:          tokens in the key-value cache in inference; None: the model's longest.
    usable:           share of a device's memory that a run may fill; the rest goes to the driver, buffers
                      of communication and fragmentation.
    peak_tflops, memory_gb, bandwidth_gb_s: in place of the data sheet's.
    price_per_gpu_hour: in any currency; None leaves the cost out.
    """

    gpu: str = "h100"
    gpus: int = 8
    tokens: float | None = None
    time: int | None = None
    rows: int | None = None
    mfu: float = 0.40
    recompute: Literal["auto", "on", "off"] = "auto"
    optimizer: Literal["adamw", "muon"] = "adamw"
    context: int | None = None
    usable: float = 0.92
    peak_tflops: float | None = None
    memory_gb: float | None = None
    bandwidth_gb_s: float | None = None
    price_per_gpu_hour: float | None = None

    def __post_init__(self) -> None:
        accelerator(self.gpu)
        for name in ("gpus", "tokens", "time", "rows", "context", "peak_tflops", "memory_gb"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise HornbookError(f"{name} is {value}; it must be above 0.")
        if self.gpus > _MOST_GPUS:
            raise HornbookError(f"gpus is {self.gpus}; a plan knows at most {_MOST_GPUS:,}.")
        if self.bandwidth_gb_s is not None and not self.bandwidth_gb_s > 0:
            raise HornbookError(f"bandwidth_gb_s is {self.bandwidth_gb_s}; it must be above 0.")
        for name in ("mfu", "usable"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise HornbookError(f"{name} is {value}; it is a share, above 0 and at most 1.")
        if self.price_per_gpu_hour is not None and self.price_per_gpu_hour < 0:
            raise HornbookError(f"price_per_gpu_hour is {self.price_per_gpu_hour}; it must be 0 or more.")
        for name, accepted in (("recompute", ("auto", "on", "off")), ("optimizer", ("adamw", "muon"))):
            if getattr(self, name) not in accepted:
                raise HornbookError(
                    f"{name} is {getattr(self, name)!r}; accepted are {', '.join(map(repr, accepted))}."
                )

    def device(self) -> Accelerator:
        """The accelerator with the figures given in place of its own."""
        own = accelerator(self.gpu)
        return Accelerator(
            name=own.name,
            peak_tflops=self.peak_tflops or own.peak_tflops,
            memory_gb=self.memory_gb or own.memory_gb,
            bandwidth_gb_s=self.bandwidth_gb_s or own.bandwidth_gb_s,
        )


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Inference of one sequence on one device. tokens_per_second: the most that reading weights and cache
    once per token allows."""

    memory: InferenceMemory
    fits: bool
    tokens_per_second: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The answer. Memory in bytes on one device; `plain` is without, `recomputed` with activation
    checkpointing, both at `rows` rows; `fewest_gpus`: the smallest power of two on which a row fits at all
    (None: on none)."""

    model: str
    config: ModelConfig
    settings: PlanSettings
    device: Accelerator
    parameters: int
    active_parameters: int
    tokens: float
    tokens_source: str
    time: int
    rows: int
    recompute: bool
    plain: TrainingMemory
    recomputed: TrainingMemory
    fits: bool
    fewest_gpus: int | None
    flops_per_token: float
    tokens_per_second_per_gpu: float
    days: float
    days_by_gpus: dict[int, float]
    cost: float | None
    context: int
    cache_bytes_per_token: int
    serving: tuple[Serving, ...]
    published: PublishedRun | None
    published_mfu: float | None
    assumptions: tuple[str, ...]

    @property
    def memory(self) -> TrainingMemory:
        """What the plan chose: with or without recomputation."""
        return self.recomputed if self.recompute else self.plain

    @property
    def tokens_per_second(self) -> float:
        """Over all devices."""
        return self.tokens_per_second_per_gpu * self.settings.gpus

    def to_json(self) -> dict[str, Any]:
        """Plain values; bytes and tokens as numbers."""
        from hornbook.lab.files import plain

        settings = self.settings
        chosen = {"usable_bytes": int(settings.usable * self.device.memory_gb * 1e9)}
        values: dict[str, Any] = plain(
            {
                "model": self.model,
                "parameters": self.parameters,
                "active_parameters": self.active_parameters,
                "gpu": self.device,
                "gpus": settings.gpus,
                "training": {
                    "tokens": self.tokens,
                    "tokens_source": self.tokens_source,
                    "time": self.time,
                    "rows": self.rows,
                    "optimizer": settings.optimizer,
                    "recompute": self.recompute,
                    "mfu": settings.mfu,
                    "flops_per_token": self.flops_per_token,
                    "flops": self.flops_per_token * self.tokens,
                    "tokens_per_second_per_gpu": self.tokens_per_second_per_gpu,
                    "tokens_per_second": self.tokens_per_second,
                    "days": self.days,
                    "days_by_gpus": self.days_by_gpus,
                    "gpu_hours": self.days * 24 * settings.gpus,
                    "cost": self.cost,
                    "fits": self.fits,
                    "fewest_gpus": self.fewest_gpus,
                    "memory_per_gpu": _memory(self.memory) | chosen,
                    "memory_without_recompute": _memory(self.plain),
                    "memory_with_recompute": _memory(self.recomputed),
                },
                "inference": {
                    "context": self.context,
                    "cache_bytes_per_token": self.cache_bytes_per_token,
                    "by_weights": {
                        s.memory.storage: {
                            "weights_bytes": s.memory.weights,
                            "cache_bytes": s.memory.cache,
                            "engine_prompt_copy_bytes": s.memory.prompt_copy,
                            "total_bytes": s.memory.total,
                            "fits_one_gpu": s.fits,
                            "tokens_per_second_at_most": s.tokens_per_second,
                        }
                        for s in self.serving
                    },
                },
                "published": self.published,
                "published_mfu": self.published_mfu,
                "assumptions": self.assumptions,
            }
        )
        return values


def _memory(memory: TrainingMemory) -> dict[str, int]:
    return {**vars(memory), "total": memory.total}


def plan(model: str | ModelConfig, settings: PlanSettings | None = None) -> Plan:
    """Plans a training run and the serving of `model`, a preset's name or a configuration.

    Raises:
        HornbookError: for an unknown name (the known ones are listed), a row or context longer than the
            model can hold.
    """
    settings = settings or PlanSettings()
    name = model if isinstance(model, str) else "this configuration"
    config = preset(model) if isinstance(model, str) else model
    run = RUNS.get(name)
    tokens, source = token_budget(name, config)
    if settings.tokens is not None:
        tokens, source = float(settings.tokens), "as asked"
    time = settings.time or _row_length(config, run)
    context = settings.context or config.max_position
    for label, value in (("time", time), ("context", context)):
        if value > config.max_position:
            raise HornbookError(
                f"{label} is {value:,} tokens; {name} holds at most {config.max_position:,} (max_position)."
            )
    device = settings.device()
    room = settings.usable * device.memory_gb * 1e9

    def memory(*, recompute: bool, rows: int, gpus: int = settings.gpus) -> TrainingMemory:
        return training_memory(
            config, devices=gpus, rows=rows, time=time, recompute=recompute, optimizer=settings.optimizer
        )

    least = settings.rows or 1
    if settings.recompute == "auto":
        recompute = memory(recompute=False, rows=least).total > room
    else:
        recompute = settings.recompute == "on"
    rows = least
    if settings.rows is None:
        while (
            2 * rows * time <= _MOST_TOKENS_AT_ONCE
            and memory(recompute=recompute, rows=2 * rows).total <= room
        ):
            rows *= 2
    fewest = 1
    able = recompute or settings.recompute == "auto"
    while fewest <= _MOST_GPUS and memory(recompute=able, rows=least, gpus=fewest).total > room:
        fewest *= 2
    flops = flops_per_token(config, time)
    rate = settings.mfu * device.peak_tflops * 1e12 / flops / (RECOMPUTE_COST if recompute else 1.0)
    one_gpu_days = tokens / rate / SECONDS_PER_DAY
    days = one_gpu_days / settings.gpus
    counts = sorted({1, 8, 64, 512, settings.gpus, (run.gpus if run and run.gpus else 8)})
    price = settings.price_per_gpu_hour
    return Plan(
        model=name,
        config=config,
        settings=settings,
        device=device,
        parameters=config.parameters(),
        active_parameters=config.active_parameters(),
        tokens=tokens,
        tokens_source=source,
        time=time,
        rows=rows,
        recompute=recompute,
        plain=memory(recompute=False, rows=rows),
        recomputed=memory(recompute=True, rows=rows),
        fits=memory(recompute=recompute, rows=rows).total <= room,
        fewest_gpus=fewest if fewest <= _MOST_GPUS else None,
        flops_per_token=flops,
        tokens_per_second_per_gpu=rate,
        days=days,
        days_by_gpus={count: one_gpu_days / count for count in counts},
        cost=None if price is None else price * one_gpu_days * 24,
        context=context,
        cache_bytes_per_token=config.cache_bytes_per_token(),
        serving=tuple(_serving(config, storage, context, device, room) for storage in STORAGES),
        published=run,
        published_mfu=next((row.mfu for row in implied_mfu() if row.model == name), None),
        assumptions=_assumptions(settings, device, recompute, source, time, rows),
    )


def _row_length(config: ModelConfig, run: PublishedRun | None) -> int:
    if run is not None:
        return run.time
    original = config.long_rope.original_max_position if config.long_rope else config.max_position
    return min(original, 4096)


def _serving(
    config: ModelConfig, storage: Storage, context: int, device: Accelerator, room: float
) -> Serving:
    memory = inference_memory(config, storage, context=context)
    # Of the embedding table one row is read per token; of the experts only the chosen.
    table = 0 if config.tied_embeddings and storage == "bf16" else config.vocab_size * config.hidden_size * 2
    share = config.active_parameters() / config.parameters()
    read = (memory.weights - table) * share + memory.cache
    return Serving(
        memory=memory, fits=memory.total <= room, tokens_per_second=device.bandwidth_gb_s * 1e9 / read
    )


def _assumptions(
    settings: PlanSettings, device: Accelerator, recompute: bool, source: str, time: int, rows: int
) -> tuple[str, ...]:
    """Every assumption in words, each with the setting that changes it."""
    again = "each layer is computed again in the backward pass, which costs a third more time"
    kept = "all activations are kept"
    return (
        f"Tokens: {source} (--tokens).",
        f"Training reaches {settings.mfu:.0%} of {device.peak_tflops:g} TFLOP/s, the dense bf16 peak of one "
        f"{device.name} on its data sheet (--mfu, --peak-tflops). Communication, data and checkpoints are "
        "inside that share; no device fails.",
        f"Operations per token: 6 per active parameter without the input embedding, and 12 for each number "
        f"attended to; rows of {time:,} tokens (--time).",
        f"{rows} row{'s' * (rows > 1)} through a device at once (--rows); {again if recompute else kept} "
        "(--recompute).",
        f"Weights, gradients and {settings.optimizer} states in fp32, shared evenly by all devices; products "
        "in bf16; attention and loss never hold all scores or logits (--optimizer, --gpus).",
        f"{settings.usable:.0%} of {device.memory_gb:g} GB may be filled (--usable, --memory-gb).",
        "Inference: one sequence, its cache in bf16 and full; int8 with a scale per row, int4 with scale and "
        "offset per 32 weights, the embedding table in bf16. Hornbook's engine holds a bf16 copy of "
        "quantized matrices besides, which is not counted in the total. Speed is what memory bandwidth "
        f"allows at {device.bandwidth_gb_s:g} GB/s, an upper bound (--context, --bandwidth-gb-s).",
    )
