"""Generation side by side with its peers: same model, same prompts, same number of tokens, one run.

    python bench/inference.py --model smollm2                  # the embedded SmolLM2-135M-Instruct
    python bench/inference.py --model student --threads 1      # a student's shape, random weights
    python bench/inference.py --model FOLDER --arms hornbook-int4,llama.cpp-q4_0 --rounds 9

Arms take turns (A B C A B C ...), each in a process of its own that is already warm. Every arm is timed by
its own clock around whole calls of "read these prompts and draw `new` tokens"; rates come from differences:

    prefill      512 prompt tokens / T(1 x 512, 1 new)             (--prompt)
    first token  T(1 x 32, 1 new)
    decode, n    n * 48 / (T(n x 32, 49 new) - T(n x 32, 1 new))   (--new)

For each case the fastest round counts (on a busy machine the others measure the neighbours); medians stand
beside it in the JSON. `share` is the bytes of weights a token reads times tokens a second, over the memory
bandwidth measured in the same run. On a machine that others use, `--threads 1 --clock cpu` counts the
process's own CPU time instead of the wall clock. The last line of the output is one JSON object.
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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ARMS = (
    "hornbook-fp32",
    "hornbook-bf16",
    "hornbook-int8",
    "hornbook-int4",
    "transformers-fp32",
    "transformers-bf16",
    "llama.cpp-q8_0",
    "llama.cpp-q4_0",
)
SHORT, BATCH = 32, 8
VOCABULARY = 256
"""Prompts use the first so many ids, which every model has."""

Run = Callable[[Sequence[Sequence[int]], int], None]
"""Reads the prompts and draws so many tokens behind each, greedily."""

Case = tuple[int, int, int]
"""How many prompts, tokens of each, tokens drawn behind each."""


def cases(prompt: int, new: int) -> dict[str, Case]:
    return {
        "prefill": (1, prompt, 1),
        "first": (1, SHORT, 1),
        "decode": (1, SHORT, new + 1),
        "first_8": (BATCH, SHORT, 1),
        "decode_8": (BATCH, SHORT, new + 1),
    }


def prompts(count: int, length: int, salt: int) -> list[list[int]]:
    """Different in every round, so that nobody answers from a cache of prompts."""
    import random

    draw = random.Random(1000 * salt + length)
    return [[draw.randrange(10, VOCABULARY) for _ in range(length)] for _ in range(count)]


# -- arms: (folder with hf/, the GGUF files; threads) -> (run, bytes of weights read a token) --------------


def hornbook(weights: str, folder: Path, threads: int) -> tuple[Run, int]:
    import torch

    from hornbook.infer.engine import Engine, Sampling
    from hornbook.model.hf import load_checkpoint

    torch.set_num_threads(threads)
    engine = Engine(load_checkpoint(folder / "hf"), weights=weights, max_rows=BATCH)  # type: ignore[arg-type]
    config = engine.config
    linear = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int4": 0.625}[weights]

    def run(asked: Sequence[Sequence[int]], new: int) -> None:
        engine.generate(asked, Sampling(temperature=0.0, max_tokens=new), stop_tokens=[])

    return run, int(linear * read_weights(config))


def read_weights(config: Any) -> int:
    """Weights a token multiplies: everything but the embedding table, and the head once."""
    embedding = config.vocab_size * config.hidden_size
    return config.parameters() - (0 if config.tied_embeddings else embedding)


def transformers(dtype: str, folder: Path, threads: int) -> tuple[Run, int]:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    model = AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=kind).eval()

    def run(asked: Sequence[Sequence[int]], new: int) -> None:
        ids = torch.tensor([list(prompt) for prompt in asked])
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=False,
                pad_token_id=0,
            )

    return run, sum(p.numel() * p.element_size() for p in model.parameters())


def llama_cpp(kind: str, folder: Path, threads: int) -> tuple[Run, int]:
    import urllib.request

    import xllamacpp

    [path] = folder.glob(f"*-{kind.upper()}.gguf")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = BATCH * 1024
    params.n_parallel = BATCH
    params.verbosity = -1
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.port = 0
    server = xllamacpp.Server(params)
    pool = ThreadPoolExecutor(BATCH)

    def one(prompt: Sequence[int], new: int) -> None:
        body = {"prompt": list(prompt), "n_predict": new, "temperature": 0, "top_k": 1}
        body |= {"ignore_eos": True, "cache_prompt": False}
        request = urllib.request.Request(
            server.listening_address + "/completion",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            drawn = json.load(answer)["tokens_predicted"]
        if drawn != new:
            raise RuntimeError(f"llama.cpp drew {drawn} tokens instead of {new}")

    def run(asked: Sequence[Sequence[int]], new: int) -> None:
        list(pool.map(one, asked, [new] * len(asked)))

    return run, path.stat().st_size


def make(arm: str, folder: Path, threads: int) -> tuple[Run, int]:
    program, _, kind = arm.rpartition("-")
    makers = {"hornbook": hornbook, "transformers": transformers, "llama.cpp": llama_cpp}
    return makers[program](kind, folder, threads)


def worker(arm: str, folder: Path, threads: int, shapes: dict[str, Case]) -> None:
    """Serves rounds: a line with a number in, a line of JSON out: [wall, CPU] seconds by case."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints does not disturb the answers
    began = time.perf_counter()
    run, read = make(arm, folder, threads)
    run(prompts(1, SHORT, -1), 4)
    ready = time.perf_counter() - began
    run(prompts(BATCH, SHORT, -2), 4)
    print(json.dumps({"ready_seconds": ready, "weight_bytes": read}), file=out, flush=True)
    for line in sys.stdin:
        seconds = {}
        for number, (case, (count, length, new)) in enumerate(shapes.items()):
            asked = prompts(count, length, 10 * int(line) + number)
            wall, cpu = time.perf_counter(), time.process_time()
            run(asked, new)
            seconds[case] = [time.perf_counter() - wall, time.process_time() - cpu]
        print(json.dumps(seconds), file=out, flush=True)


# -- the run -----------------------------------------------------------------------------------------------


def prepare(model: str, folder: Path) -> str:
    """Writes the formats all arms read into `folder`; returns the model's name."""
    from hornbook.serve.export import export_model

    if model != "student":
        export_model(model, folder, kinds=("hf", "q8_0", "q4_0"), name="model")
        return Path(model).name
    import torch

    from hornbook.data.tokenizer import Tokenizer
    from hornbook.model.decoder import Decoder
    from hornbook.model.hf import save_checkpoint
    from hornbook.model.presets import preset

    config = preset("student-9m")
    torch.manual_seed(0)
    source = folder / "source"
    save_checkpoint(Decoder(config), source)
    Tokenizer.train(["the quick brown fox jumps over the lazy dog " * 9], 300, source)
    export_model(source, folder, kinds=("hf", "q8_0", "q4_0"), name="model")
    return "student-9m (random weights)"


def bandwidth(threads: int) -> float:
    """Bytes a second that a matrix-vector product in fp32 reads from memory (256 MiB, best of seven)."""
    import torch

    torch.set_num_threads(threads)
    matrix, vector = torch.ones(8192, 8192), torch.ones(8192)
    best = float("inf")
    for _ in range(7):
        began = time.perf_counter()
        torch.mv(matrix, vector)
        best = min(best, time.perf_counter() - began)
    return matrix.numel() * 4 / best


def rates(seconds: dict[str, float], shapes: dict[str, Case]) -> dict[str, float]:
    steps = shapes["decode"][2] - 1
    return {
        "prefill_tokens_per_second": shapes["prefill"][1] / seconds["prefill"],
        "first_token_ms": 1000 * seconds["first"],
        "decode_tokens_per_second": steps / max(seconds["decode"] - seconds["first"], 1e-9),
        "decode_8_tokens_per_second": BATCH * steps / max(seconds["decode_8"] - seconds["first_8"], 1e-9),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2", help="smollm2, student, or a checkpoint folder")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the long prompt (at most 900)")
    parser.add_argument("--new", type=int, default=48, help="tokens drawn")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--out", type=Path, help="also write the JSON there")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    shapes = cases(given.prompt, given.new)
    if given.worker:
        worker(given.worker, given.folder, given.threads, shapes)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        name = prepare(given.model, folder)
        reach = bandwidth(given.threads)
        print(f"{name}, {given.threads} threads, memory {reach / 1e9:.1f} GB/s", flush=True)
        environment = dict(os.environ, OMP_NUM_THREADS=str(given.threads))
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), environment.get("PYTHONPATH", "")])
        arms: dict[str, tuple[Any, dict[str, float], list[dict[str, list[float]]]]] = {}
        for arm in given.arms.split(","):
            command = [sys.executable, __file__, "--worker", arm, "--folder", place]
            process = subprocess.Popen(
                [
                    *command,
                    "--threads",
                    str(given.threads),
                    "--prompt",
                    str(given.prompt),
                    "--new",
                    str(given.new),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
            assert process.stdout is not None
            arms[arm] = (process, json.loads(process.stdout.readline()), [])
            print(f"{arm:20} ready after {arms[arm][1]['ready_seconds']:.1f} s", flush=True)
        for round_number in range(given.rounds):
            for process, _, seconds in arms.values():
                process.stdin.write(f"{round_number}\n")
                process.stdin.flush()
                seconds.append(json.loads(process.stdout.readline()))
        results = {}
        for arm, (process, facts, seconds) in arms.items():
            process.stdin.close()
            process.wait(30)
            clock = ("wall", "cpu").index(given.clock)
            best = rates({case: min(s[case][clock] for s in seconds) for case in shapes}, shapes)
            middle = rates(
                {case: statistics.median(s[case][clock] for s in seconds) for case in shapes}, shapes
            )
            share = best["decode_tokens_per_second"] * facts["weight_bytes"] / reach
            results[arm] = {"best": best, "median": middle, "share": share, **facts, "seconds": seconds}
    print(f"\n{'':20} {'prefill':>9} {'first':>9} {'decode':>9} {'share':>6} {'decode x8':>9}")
    for arm, entry in results.items():
        best = entry["best"]
        print(
            f"{arm:20} {best['prefill_tokens_per_second']:>7.0f}/s {best['first_token_ms']:>6.1f} ms "
            f"{best['decode_tokens_per_second']:>7.1f}/s {100 * entry['share']:>4.0f} % "
            f"{best['decode_8_tokens_per_second']:>7.1f}/s"
        )
    record = {
        "bench": "inference",
        "model": name,
        "threads": given.threads,
        "bandwidth_bytes_per_second": reach,
        "clock": given.clock,
        "cases": {case: list(shape) for case, shape in shapes.items()},
        "results": results,
        "versions": versions(),
        "machine": platform.processor() or platform.machine(),
    }
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("hornbook", "torch", "transformers", "xllamacpp"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "source"
    found["commit"] = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    return found


if __name__ == "__main__":
    main()
