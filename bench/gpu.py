"""Training and drawing on one GPU, against what the GPU can do.

    python bench/gpu.py                                        # both shapes, training and drawing
    python bench/gpu.py --only train --shapes 350m --rows 16
    python bench/gpu.py --only decode --shapes 1.3b --batches 1,64 --transformers

Wants torch (2.11 or newer) and numpy; `--transformers` also that package. Needs no data and no network.

Training is the Trainer as users run it (whole rows of random tokens, AdamW, bf16), timed by an outside clock
round whole steps after untimed ones. Its share is model operations (6 N + 12 L H d n a token, see
`hornbook.train.throughput`) over the best matrix product measured on this device in the same run.

Drawing is the engine with bf16 weights; its share is the bytes it must read a step (all weights once, each
row's keys and values) over the memory bandwidth measured in the same run: a copy's, read and write counted.
With `--transformers` its `generate` takes turns with ours on the same weights.

The last line is one JSON object that names the device; `--json` also writes it to a file.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHAPES = ("tiny", "350m", "1.3b")


def config_of(shape: str, time_steps: int) -> Any:
    """The model of a shape: phi-3's block with heads of 64."""
    from hornbook.model.presets import student

    sizes = {"tiny": (64, 2, 512), "350m": (1024, 19, 32064), "1.3b": (2048, 18, 32064)}
    hidden, layers, vocabulary = sizes[shape]
    return student(hidden_size=hidden, layers=layers, vocab_size=vocabulary, max_position=time_steps)


def waiter(device: str) -> Callable[[], None]:
    """What makes the clock wait for the device."""
    import torch

    return torch.cuda.synchronize if device == "cuda" else (lambda: None)


def bench_training(shape: str, arguments: argparse.Namespace, ceiling_gflops: float) -> dict[str, Any]:
    """Steps of the Trainer on random rows."""
    import numpy as np
    import torch

    from hornbook.data.packing import Batch
    from hornbook.lab.progress import NullProgress
    from hornbook.model.decoder import Decoder
    from hornbook.train.objectives import next_token
    from hornbook.train.settings import OptimizerSettings, Phase, TrainSettings
    from hornbook.train.throughput import flops_per_token
    from hornbook.train.trainer import Trainer

    rows, span = arguments.rows or {"tiny": 2, "350m": 16, "1.3b": 8}[shape], arguments.time
    config = config_of(shape, span)

    class Loader:
        fingerprint = "bench"

        def batch(self, step: int) -> Any:
            random = np.random.default_rng(step)
            tokens = (random.integers(1, 8, (rows, span + 1)).cumsum(1) % config.vocab_size).astype(np.int64)
            if arguments.documents:
                document = (random.random((rows, span)) < 1 / arguments.documents).cumsum(1)
                starts = np.where(np.diff(document, axis=1, prepend=0) > 0, np.arange(span), 0)
                position = np.arange(span) - np.maximum.accumulate(starts, axis=1)
                return Batch(tokens[:, :-1], tokens[:, 1:], document.astype(np.int64), position)
            return {"inputs": tokens[:, :-1].copy(), "targets": tokens[:, 1:].copy()}

    class Kept(Trainer):
        def _save(self) -> None:  # what is timed is training; disks differ
            pass

    torch.manual_seed(0)
    with torch.device(arguments.device):
        model = Decoder(config)
    wait, ends, losses = waiter(arguments.device), [], []

    def log(step: int, loss: float, **rest: Any) -> None:
        wait()
        ends.append(time.perf_counter())
        losses.append(loss)

    settings = TrainSettings(
        optimizer=OptimizerSettings(learning_rate=3e-4, kind=arguments.optimizer),
        micro_rows=arguments.micro_rows or None,
        processes=1,
        checkpoint_seconds=0,
        compile=arguments.compile,
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        phase = Phase(name="bench", loader=Loader(), steps=arguments.warm + arguments.steps)
        Kept(model, next_token, phase, settings, folder, save_model=lambda model, folder: None).run(
            NullProgress(), log=log, say=lambda sentence: None
        )
    seconds = [b - a for a, b in zip(ends[arguments.warm - 1 :], ends[arguments.warm :])]
    middle = statistics.median(seconds)
    rate = rows * span / middle
    flops = flops_per_token(config, span)
    peak = torch.cuda.max_memory_allocated() / 2**30 if arguments.device == "cuda" else None
    return {
        "parameters": config.parameters(),
        "rows": rows,
        "time": span,
        "documents": arguments.documents,
        "optimizer": arguments.optimizer,
        "tokens_per_second": rate,
        "seconds_per_step": middle,
        "steps": seconds,
        "warm_and_compile_seconds": ends[arguments.warm - 1] - started,
        "tflops": rate * flops / 1e12,
        "share_of_measured_product": rate * flops / (ceiling_gflops * 1e9),
        "peak_memory_gib": peak,
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def bench_decoding(shape: str, batch: int, arguments: argparse.Namespace, limits: Any) -> dict[str, Any]:
    """The engine, and with `--transformers` its `generate`, on the same random weights and prompts."""
    import torch

    from hornbook.infer.engine import Engine
    from hornbook.lm.base import Sampling
    from hornbook.model.decoder import Decoder

    prompt, new = arguments.prompt, arguments.new
    config = config_of(shape, prompt + new + 1)
    torch.manual_seed(0)
    with torch.device(arguments.device):
        model = Decoder(config).eval()
    engine = Engine(model, weights="bf16", stop_tokens=[], max_rows=batch)
    wait = waiter(arguments.device)
    draw = torch.Generator().manual_seed(1)

    def prompts() -> list[list[int]]:
        found: list[list[int]] = torch.randint(10, 256, (batch, prompt), generator=draw).tolist()
        return found

    def ours(count: int) -> float:
        asked = prompts()
        wait()
        begun = time.perf_counter()
        answers = engine.generate(asked, Sampling(temperature=0.0, max_tokens=count))
        wait()
        assert all(len(one[0].tokens) == count for one in answers)
        return time.perf_counter() - begun

    arms: dict[str, Callable[[int], float]] = {"hornbook": ours}
    if arguments.transformers:
        arms["transformers"] = transformers_arm(model, config, prompts, wait, arguments.device)
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        arm(2)  # untimed
    for _ in range(arguments.rounds):
        for name, arm in arms.items():
            one = arm(1)
            rates[name].append(batch * (new - 1) / (arm(new) - one))
    weights = engine.model.weight_bytes()
    if not config.tied_embeddings:  # of an untied table a step reads a row
        weights -= config.vocab_size * config.hidden_size * engine.model.dtype.itemsize
    middle = {name: statistics.median(found) for name, found in rates.items()}
    length = prompt + new / 2
    a_step = weights + batch * length * engine.bytes_per_token
    return {
        "batch": batch,
        "prompt": prompt,
        "new": new,
        "tokens_per_second": middle,
        "rounds": rates,
        "bytes_a_step": a_step,
        "share_of_measured_bandwidth": middle["hornbook"] / batch * a_step / (limits.bandwidth_gb_s * 1e9),
        "times_transformers": middle["hornbook"] / middle["transformers"]
        if "transformers" in middle
        else None,
    }


def transformers_arm(
    model: Any, config: Any, prompts: Callable[[], list[list[int]]], wait: Callable[[], None], device: str
) -> Callable[[int], float]:
    """`Phi3ForCausalLM` in bf16 with the same weights, greedy, with its cache."""
    import torch
    from transformers import AutoModelForCausalLM

    from hornbook.model.hf import save_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(model, Path(folder))
        peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(device).eval()

    def theirs(count: int) -> float:
        ids = torch.tensor(prompts(), device=device)
        wait()
        begun = time.perf_counter()
        with torch.inference_mode():
            out = peer.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
            )
        wait()
        assert out.shape[1] == ids.shape[1] + count
        return time.perf_counter() - begun

    return theirs


def parse(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("train", "decode"))
    parser.add_argument("--shapes", default="350m,1.3b", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--time", type=int, default=2048, help="tokens of a row in training")
    parser.add_argument("--rows", type=int, default=0, help="rows of a step; 0: what suits the shape")
    parser.add_argument("--micro-rows", type=int, default=0, help="rows at once; 0: all")
    parser.add_argument("--documents", type=int, default=0, help="mean tokens of a packed document; 0: rows")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--compile", choices=("auto", "off", "on"), default="auto")
    parser.add_argument("--warm", type=int, default=5, help="untimed steps")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--batches", default="1,64")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transformers", action="store_true", help="draw with its generate beside ours")
    parser.add_argument("--json", type=Path, help="also write the JSON object here")
    arguments = parser.parse_args(given)
    if unknown := set(arguments.shapes.split(",")) - set(SHAPES):
        parser.error(f"unknown shapes {sorted(unknown)}; there are {', '.join(SHAPES)}")
    if arguments.warm < 1 or arguments.steps < 1 or arguments.new < 2:
        parser.error("--warm and --steps must be at least 1, --new at least 2")
    return arguments


def main(given: list[str] | None = None) -> dict[str, Any]:
    arguments = parse(given)
    sys.path.insert(0, str(ROOT / "src"))
    import torch

    from hornbook.lab.machine import ceilings

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("bench/gpu.py: torch finds no CUDA device here; --device cpu tries the program out.")
    limits = ceilings(device=arguments.device, refresh=arguments.device == "cuda")
    product = max(limits.bf16_gflops, limits.fp32_gflops)
    print(f"{limits.device}: {product / 1e3:.1f} TFLOP/s, {limits.bandwidth_gb_s:,.0f} GB/s measured")
    training: dict[str, Any] = {}
    decoding: dict[str, Any] = {}
    for shape in arguments.shapes.split(","):
        if arguments.only != "decode":
            found = attempt(lambda shape=shape: bench_training(shape, arguments, product))
            training[shape] = found
            if "error" not in found:
                print(
                    f"train {shape}: {found['tokens_per_second']:,.0f} tokens/s, "
                    f"{found['tflops']:.1f} TFLOP/s, "
                    f"{found['share_of_measured_product']:.0%} of the measured product"
                )
        for batch in map(int, arguments.batches.split(",") if arguments.only != "train" else ()):
            found = attempt(lambda shape=shape, batch=batch: bench_decoding(shape, batch, arguments, limits))
            decoding[f"{shape} x {batch}"] = found
            if "error" not in found:
                print(
                    f"decode {shape} x {batch}: "
                    + ", ".join(f"{name} {rate:,.0f}" for name, rate in found["tokens_per_second"].items())
                    + f" tokens/s, {found['share_of_measured_bandwidth']:.0%} of the measured bandwidth"
                )
    report = {
        "bench": "gpu",
        "device": limits.device,
        "ceilings": asdict(limits),
        "training": training,
        "decoding": decoding,
        "torch": torch.__version__,
        "machine": platform.node(),
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip(),
    }
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=1))
    print(json.dumps(report))
    return report


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` measured; out of memory or a missing kernel is said and the other cases go on."""
    import torch

    try:
        return work()
    except Exception as error:
        if os.environ.get("HORNBOOK_BENCH_RAISE"):
            raise
        print(f"left out: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()
