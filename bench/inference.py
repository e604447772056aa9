"""Generation side by side with its peers: same model, same prompts, same number of tokens, one run.

    python bench/inference.py --model smollm2                  # the embedded SmolLM2-135M-Instruct
    python bench/inference.py --model student --threads 1      # a student's shape, random weights
    python bench/inference.py --arms hornbook-int4,llama.cpp-q4_0,openvino-int4 --peers PYTHON --rounds 5

Arms take turns (A B C A B C ...), each in a process of its own that is already warm. Every arm is timed by
its own clock around whole calls of "read these prompts and draw so many tokens"; rates come from differences:

    prompt       prompt tokens / T(1 x prompt, 1 new)                                      (--prompt 128)
    decode       new / (T(1 x prompt, new + 1) - T(1 x prompt, 1))                         (--new 128)
    16 streams   16 new / (T(16 x prompt, new + 1) - T(16 x prompt, 1))                    (--new-many 32)
    16 samples   16 new / T(16 samples of 1 x prompt, new), the prompt included

For each case medians count; the fastest round stands beside them in the JSON. `share` of decoding is
the bytes of weights a token reads times tokens a second, over the memory bandwidth, and of prompts and
streams the operations of the weights a second, over the bf16 matrix product, both measured in the same run.
Arms hornbook-*-torch do without the compiled kernels. Drafts are off: the tokens of random prompts repeat
themselves more than people's do. --clock cpu counts the process's own CPU time. --peers names the interpreter
that has onnxruntime-genai and openvino-genai; --onnx a folder its model builder wrote. The last line of the
output is one JSON object.
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
    "hornbook-int4-torch",
    "transformers-fp32",
    "transformers-bf16",
    "llama.cpp-q8_0",
    "llama.cpp-q4_0",
)
BATCH = 16
VOCABULARY = 256
"""Prompts use the first so many ids, which every model has."""

Run = Callable[[Sequence[Sequence[int]], int, int], None]
"""Reads the prompts and draws so many tokens behind each; with samples > 1 so many warm answers to each."""

Case = tuple[int, int, int, int]
"""How many prompts, tokens of each, tokens drawn behind each, samples of each."""


def cases(prompt: int, new: int, many: int) -> dict[str, Case]:
    return {
        "prompt": (1, prompt, 1, 1),
        "decode": (1, prompt, new + 1, 1),
        "prompt_16": (BATCH, prompt, 1, 1),
        "decode_16": (BATCH, prompt, many + 1, 1),
        "samples_16": (1, prompt, many, BATCH),
    }


def prompts(count: int, length: int, salt: int) -> list[list[int]]:
    """Different in every round, so that nobody answers from a cache of prompts."""
    import random

    draw = random.Random(1000 * salt + length)
    return [[draw.randrange(10, VOCABULARY) for _ in range(length)] for _ in range(count)]


# -- arms: (folder with hf/, the GGUF files; threads) -> (run, bytes of weights read a token) --------------


def hornbook(kind: str, folder: Path, threads: int) -> tuple[Run, int]:
    import torch

    from hornbook.infer.engine import Engine, Sampling
    from hornbook.model.hf import load_checkpoint

    torch.set_num_threads(threads)
    weights, _, path = kind.partition("-")
    model = load_checkpoint(folder / "hf")
    engine = Engine(
        model,
        weights=weights,  # type: ignore[arg-type]
        max_rows=BATCH,
        drafts=0,
        native=False if path == "torch" else None,
    )
    config = engine.config
    embedding = config.vocab_size * config.hidden_size
    body = config.parameters() - embedding * (1 if config.tied_embeddings else 2)
    size = {"fp32": (4.0, 4.0), "bf16": (2.0, 2.0), "int8": (1.0, 1.0), "int4": (0.5625, 1.0)}[weights]

    def run(asked: Sequence[Sequence[int]], new: int, samples: int) -> None:
        warm = 0.0 if samples == 1 else 1.0
        engine.generate(asked, Sampling(temperature=warm, max_tokens=new, seed=1), samples, stop_tokens=[])

    return run, int(size[0] * body + size[1] * embedding)


def transformers(dtype: str, folder: Path, threads: int) -> tuple[Run, int]:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    model = AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=kind).eval()

    def run(asked: Sequence[Sequence[int]], new: int, samples: int) -> None:
        ids = torch.tensor([list(prompt) for prompt in asked])
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=samples > 1,
                num_return_sequences=samples,
                pad_token_id=0,
            )

    return run, sum(p.numel() * p.element_size() for p in model.parameters())


def llama_cpp(kind: str, folder: Path, threads: int) -> tuple[Run, int]:
    import urllib.request

    import xllamacpp

    [path] = folder.glob(f"*-{kind.upper()}.gguf")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = BATCH * 512
    params.n_parallel = BATCH
    params.verbosity = -1
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.port = 0
    server = xllamacpp.Server(params)
    pool = ThreadPoolExecutor(BATCH)

    def one(prompt: Sequence[int], new: int, warm: bool) -> None:
        body = {"prompt": list(prompt), "n_predict": new, "temperature": 1.0 if warm else 0}
        body |= {"ignore_eos": True, "cache_prompt": warm}
        request = urllib.request.Request(
            server.listening_address + "/completion",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            drawn = json.load(answer)["tokens_predicted"]
        if drawn != new:
            raise RuntimeError(f"llama.cpp drew {drawn} tokens instead of {new}")

    def run(asked: Sequence[Sequence[int]], new: int, samples: int) -> None:
        every = [prompt for prompt in asked for _ in range(samples)]
        list(pool.map(one, every, [new] * len(every), [samples > 1] * len(every)))

    return run, path.stat().st_size


def openvino(kind: str, folder: Path, threads: int) -> tuple[Run, int]:
    """OpenVINO GenAI on the Q4_0 file, with its own continuous batching."""
    import numpy
    import openvino
    import openvino_genai

    [path] = folder.glob("*-Q4_0.gguf")
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False
    pipeline = openvino_genai.LLMPipeline(
        str(path), "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=threads
    )

    def run(asked: Sequence[Sequence[int]], new: int, samples: int) -> None:
        ids = numpy.array([list(prompt) for prompt in asked], dtype=numpy.int64)
        given = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = new
        config.ignore_eos = True
        config.apply_chat_template = False
        if samples > 1:
            config.do_sample, config.num_return_sequences, config.top_k = True, samples, 10**6
        pipeline.generate(given, config)

    return run, path.stat().st_size


def onnx(kind: str, folder: Path, threads: int) -> tuple[Run, int]:
    """onnxruntime-genai on what its own model builder makes of the folder (int4, blocks of 32)."""
    import numpy
    import onnxruntime_genai

    place = Path(os.environ["HORNBOOK_BENCH_ONNX"])
    config = onnxruntime_genai.Config(str(place))
    model = onnxruntime_genai.Model(config)

    def run(asked: Sequence[Sequence[int]], new: int, samples: int) -> None:
        rows = [list(prompt) for prompt in asked for _ in range(samples)]
        params = onnxruntime_genai.GeneratorParams(model)
        length = len(rows[0]) + new
        params.set_search_options(
            max_length=length, min_length=length, batch_size=len(rows), do_sample=samples > 1
        )
        generator = onnxruntime_genai.Generator(model, params)
        generator.append_tokens(numpy.array(rows, dtype=numpy.int32))
        for _ in range(new):
            generator.generate_next_token()

    return run, sum(file.stat().st_size for file in place.glob("*.data"))


def make(arm: str, folder: Path, threads: int) -> tuple[Run, int]:
    program, _, kind = arm.partition("-")
    makers = {
        "hornbook": hornbook,
        "transformers": transformers,
        "llama.cpp": llama_cpp,
        "openvino": openvino,
        "onnxruntime": onnx,
    }
    return makers[program](kind, folder, threads)


def parameters(folder: Path) -> int:
    """Weights that a token is multiplied by, the head included, from the sizes in config.json."""
    c = json.loads((folder / "hf" / "config.json").read_text())
    size = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    attention = (2 * c["num_attention_heads"] + 2 * c["num_key_value_heads"]) * size
    layer = c["hidden_size"] * (attention + 3 * c["intermediate_size"])
    return int(c["num_hidden_layers"] * layer + c["vocab_size"] * c["hidden_size"])


def worker(arm: str, folder: Path, threads: int, shapes: dict[str, Case]) -> None:
    """Serves rounds: a line with a number in, a line of JSON out: [wall, CPU] seconds by case."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints does not disturb the answers
    began = time.perf_counter()
    run, read = make(arm, folder, threads)
    run(prompts(1, 16, -1), 2, 1)
    ready = time.perf_counter() - began
    run(prompts(BATCH, 16, -2), 2, 1)
    facts = {"ready_seconds": ready, "weight_bytes": read, "parameters": parameters(folder)}
    print(json.dumps(facts), file=out, flush=True)
    for line in sys.stdin:
        seconds = {}
        for number, (case, (count, length, new, samples)) in enumerate(shapes.items()):
            asked = prompts(count, length, 10 * int(line) + number)
            wall, cpu = time.perf_counter(), time.process_time()
            run(asked, new, samples)
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


def product(threads: int) -> float:
    """Operations a second of a bf16 (else fp32) matrix product of 2048 (best of five)."""
    import torch

    torch.set_num_threads(threads)
    best = float("inf")
    for dtype in (torch.bfloat16, torch.float32):
        a, b = torch.ones(2048, 2048, dtype=dtype), torch.ones(2048, 2048, dtype=dtype)
        for _ in range(5):
            began = time.perf_counter()
            a @ b
            best = min(best, time.perf_counter() - began)
    return 2 * 2048**3 / best


def rates(seconds: dict[str, float], shapes: dict[str, Case]) -> dict[str, float]:
    steps, many = shapes["decode"][2] - 1, shapes["decode_16"][2] - 1
    out = {"prompt": shapes["prompt"][1] / seconds["prompt"]}
    out["decode"] = steps / max(seconds["decode"] - seconds["prompt"], 1e-9)
    if "decode_16" in seconds:
        out["decode_16"] = BATCH * many / max(seconds["decode_16"] - seconds["prompt_16"], 1e-9)
        out["samples_16"] = BATCH * shapes["samples_16"][2] / seconds["samples_16"]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2", help="smollm2, student, or a checkpoint folder")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=128, help="tokens drawn by one stream")
    parser.add_argument("--new-many", type=int, default=32, help="tokens drawn by each of 16 streams")
    parser.add_argument(
        "--peers", default=sys.executable, help="interpreter of openvino and onnxruntime arms"
    )
    parser.add_argument("--onnx", help="folder of onnxruntime-genai's model builder")
    parser.add_argument("--files", type=Path, help="folder with hf/ and *-Q4_0.gguf from an earlier export")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--out", type=Path, help="also write the JSON there")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    shapes = cases(given.prompt, given.new, given.new_many)
    if given.worker:
        worker(given.worker, given.folder, given.threads, shapes)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = given.files or Path(place)
        name = given.model if given.files else prepare(given.model, folder)
        reach, most = bandwidth(given.threads), product(given.threads)
        print(
            f"{name}, {given.threads} threads, {reach / 1e9:.1f} GB/s, {most / 1e9:.0f} GFLOP/s", flush=True
        )
        environment = dict(os.environ, OMP_NUM_THREADS=str(given.threads))
        environment["HORNBOOK_BENCH_ONNX"] = given.onnx or ""
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), environment.get("PYTHONPATH", "")])
        arms: dict[str, tuple[Any, dict[str, float], list[dict[str, list[float]]]]] = {}
        for arm in given.arms.split(","):
            python = given.peers if arm.startswith(("openvino", "onnxruntime")) else sys.executable
            command = [python, __file__, "--worker", arm, "--folder", str(folder)]
            process = subprocess.Popen(
                [
                    *command,
                    "--threads",
                    str(given.threads),
                    "--prompt",
                    str(given.prompt),
                    "--new",
                    str(given.new),
                    "--new-many",
                    str(given.new_many),
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
            for arm, (process, _, seconds) in arms.items():
                process.stdin.write(f"{round_number}\n")
                process.stdin.flush()
                seconds.append(json.loads(process.stdout.readline()))
                now = rates({case: wall for case, (wall, _) in seconds[-1].items()}, shapes)
                print(f"  {arm:20}", *(f"{case} {rate:.0f}" for case, rate in now.items()), flush=True)
        results = {}
        for arm, (process, facts, seconds) in arms.items():
            process.stdin.close()
            process.wait(30)
            clock = ("wall", "cpu").index(given.clock)
            best = rates({case: min(s[case][clock] for s in seconds) for case in shapes}, shapes)
            middle = rates(
                {case: statistics.median(s[case][clock] for s in seconds) for case in shapes}, shapes
            )
            flops = 2 * facts["parameters"]
            shares = {
                "decode": middle["decode"] * facts["weight_bytes"] / reach,
                "prompt": middle["prompt"] * flops / most,
                "decode_16": middle["decode_16"] * flops / most,
            }
            results[arm] = {"median": middle, "best": best, "share": shares, **facts, "seconds": seconds}
    print(f"\n{'tokens a second':20} {'prompt':>14} {'decode':>14} {'16 streams':>14} {'16 samples':>10}")
    for arm, entry in results.items():
        rate, part = entry["median"], entry["share"]
        shown = "".join(
            f" {rate[case]:>7.0f} ({100 * part[case]:>2.0f} %)" for case in ("prompt", "decode", "decode_16")
        )
        print(f"{arm:20}{shown} {rate['samples_16']:>10.0f}")
    record = {
        "bench": "inference",
        "model": name,
        "threads": given.threads,
        "bandwidth_bytes_per_second": reach,
        "product_flops": most,
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
