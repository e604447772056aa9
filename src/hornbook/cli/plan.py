"""plan: what training and serving a model would take."""

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hornbook.train.plan import Plan
    from hornbook.train.plan_memory import TrainingMemory

# option, type, what it changes; the field of PlanSettings has the option's name.
_OPTIONS: tuple[tuple[str, type, str], ...] = (
    (
        "gpu",
        str,
        "which accelerator: h100, h200, b200, a100, a100-40g, mi300x, l40s, rtx-4090 (default: h100)",
    ),
    ("gpus", int, "how many (default: 8)"),
    ("tokens", float, "training budget, such as 5e9 (default: the published one)"),
    ("time", int, "row length in training, in tokens"),
    ("rows", int, "rows through one device at once (default: the most that fit)"),
    ("mfu", float, "share of the peak that training reaches (default: 0.40)"),
    ("recompute", str, "activation checkpointing: auto, on or off (default: auto)"),
    ("optimizer", str, "adamw or muon (default: adamw)"),
    ("context", int, "tokens in the cache in inference (default: the model's longest)"),
    ("usable", float, "share of a device's memory that may be filled (default: 0.92)"),
    ("peak-tflops", float, "in place of the data sheet's dense bf16 figure"),
    ("memory-gb", float, "in place of the data sheet's, in 1e9 bytes"),
    ("bandwidth-gb-s", float, "in place of the data sheet's, in 1e9 bytes a second"),
    ("price-per-gpu-hour", float, "in any currency; adds the cost"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `hornbook plan`."""
    parser.add_argument("model", help="a preset: phi-1 ... phi-4-mini, smollm2-135m, student-17m ...")
    for name, kind, text in _OPTIONS:
        parser.add_argument(f"--{name}", type=kind, help=text)
    parser.add_argument("--json", action="store_true", help="print JSON")


def plan(args: argparse.Namespace) -> None:
    """Prints a plan with its assumptions."""
    from hornbook.train.plan import PlanSettings
    from hornbook.train.plan import plan as make

    names = [name.replace("-", "_") for name, _, _ in _OPTIONS]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    found = make(args.model, PlanSettings(**given))
    print(
        json.dumps(found.to_json(), indent=2, ensure_ascii=False) if args.json else "\n".join(_lines(found))
    )


def _lines(found: "Plan") -> list[str]:
    from hornbook.lab.files import human_bytes
    from hornbook.lab.progress import human_count

    config, settings, device = found.config, found.settings, found.device
    active = found.active_parameters
    some = "" if active == found.parameters else f", {active:,} active for a token"
    lines = [
        f"{found.model}: {found.parameters:,} parameters{some}; {config.layers} layers, "
        f"hidden size {config.hidden_size}",
        "",
        f"Training on {human_count(found.tokens)} tokens with {settings.gpus} x {device.name}",
        f"  speed       {_number(found.tokens_per_second_per_gpu)} tokens a second on each, "
        f"{_number(found.tokens_per_second)} in all; "
        f"{human_count(found.flops_per_token)} operations each",
        f"  time        {_days(found.days)}; {_number(found.days * 24 * settings.gpus)} GPU hours"
        + ("" if found.cost is None else f", which cost {_number(found.cost)}"),
        "              " + ", ".join(f"{n:,} GPUs: {_days(days)}" for n, days in found.days_by_gpus.items()),
        f"  memory      {human_bytes(found.memory.total)} on each of "
        f"{human_bytes(settings.usable * device.memory_gb * 1e9)} usable, with {found.rows} x {found.time:,} "
        f"tokens at once",
        f"              {_parts(found.memory)}",
        f"              activations without recomputation {human_bytes(found.plain.activations)}, "
        f"with {human_bytes(found.recomputed.activations)}",
    ]
    if not found.fits:
        wanted = "no number of them" if found.fewest_gpus is None else f"{found.fewest_gpus} of them"
        lines.append(f"  DOES NOT FIT  {wanted} would do (or other --rows, --recompute, --gpu)")
    run = found.published
    if run is not None and found.published_mfu is not None:
        most = "at most " if run.days_at_most else ""
        lines.append(
            f"  published   {run.gpus:,} x {run.gpu}, {most}{run.days:g} days ({run.days_evidence}): "
            f"{found.published_mfu:.0%} of the peak"
        )
    lines += ["", f"Inference, one sequence of {found.context:,} tokens on one {device.name}"]
    lines.append(f"  cache       {human_bytes(found.cache_bytes_per_token)} a token in bf16")
    for serving in found.serving:
        memory = serving.memory
        lines.append(
            f"  {memory.storage:<6}      weights {human_bytes(memory.weights)} + cache "
            f"{human_bytes(memory.cache)} = {human_bytes(memory.total)}; at most "
            f"{_number(serving.tokens_per_second)} tokens a second"
            + ("" if serving.fits else "; does not fit")
        )
    return [*lines, "", "Assumed", *(f"  - {sentence}" for sentence in found.assumptions)]


def _parts(memory: "TrainingMemory") -> str:
    from hornbook.lab.files import human_bytes

    return ", ".join(f"{name} {human_bytes(size)}" for name, size in vars(memory).items())


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _days(days: float) -> str:
    from hornbook.lab.files import human_seconds

    return human_seconds(days * 86_400) if days < 2 else f"{_number(days)} days"
