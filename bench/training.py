"""Training throughput side by side with its peers: same shape, same tokens, same optimizer, one run.

    python bench/training.py                        # the target shape, all arms
    python bench/training.py --shape packed --arms hornbook,hornbook-2,transformers-trainer --pairs 3

Arms take turns (A B C A B C ...), each in a process of its own that is already warm: it builds its model,
compiles if it does, takes untimed steps, then waits to be asked for a round of steps. Every round is timed
by the arm's own loop clock around whole optimizer steps. Compile and warm-up seconds have their own column.
The last line of the output is one JSON object.

On a busy machine wall-clock rates mean nothing: `--clock cpu --threads 1` compares tokens per second of
processor time (all processes of an arm), which is the rate per core of a machine left alone.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from training_arms import ARMS, SHAPES, serve_arm

ROOT = Path(__file__).resolve().parent.parent


class Arm:
    """An arm's process, and what it said."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        environment = os.environ | {
            "OMP_NUM_THREADS": str(arguments.threads),
            "MKL_DYNAMIC": "FALSE",
            "PYTHONPATH": str(ROOT / "src"),
            "TOKENIZERS_PARALLELISM": "false",
        }
        command = [sys.executable, __file__, "--serve", name]
        for option in ("shape", "rows", "steps", "warm", "pairs", "threads"):
            command += [f"--{option}", str(getattr(arguments, option))]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True, env=environment
        )
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.loss = float("nan")
        self.warm_seconds = 0.0

    def read(self) -> dict[str, Any]:
        """The next answer. Raises RuntimeError with the arm's last words when it died."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                answer: dict[str, Any] = json.loads(line[1:])
                return answer
        self.errors.seek(0)
        words = self.errors.read().strip().splitlines()
        said = [line for line in words if "Error" in line] or words
        raise RuntimeError(said[-1].strip()[:200] if said else "it said nothing")

    def round(self) -> None:
        """One round of steps."""
        assert self.process.stdin is not None
        before = cpu_seconds(self.process.pid)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.read()
        self.seconds.append(answer["seconds"])
        self.cpu_seconds.append(cpu_seconds(self.process.pid) - before)
        self.loss = answer["loss"]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its living descendants so far (Linux; 0 elsewhere)."""
    family, used = {pid}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        used[int(path.parent.name)] = (int(fields[1]), int(fields[11]) + int(fields[12]))
    for child in sorted(used):  # children have higher numbers than their parents, but for a wrap
        if used[child][0] in family:
            family.add(child)
    return sum(used[p][1] for p in family if p in used) / os.sysconf("SC_CLK_TCK")


def product_ceiling(threads: int, clock: str) -> float:
    """The best bf16 matrix product of these shapes' size, in FLOP/s (fp32 where there is no bf16)."""
    code = (
        "import torch,time;from hornbook.lab.machine import cpu_has_bf16 as b;"
        f"c=time.{'process_time' if clock == 'cpu' else 'perf_counter'};"
        f"torch.set_num_threads({threads});d=torch.bfloat16 if b() else torch.float32;n=2048;"
        "x=torch.randn(n,n,dtype=d);y=torch.randn(n,n,dtype=d);best=9.0\n"
        "for _ in range(12):\n t=c();x@y;best=min(best,c()-t)\n"
        "print(2*n**3/best)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    return float(out.stdout)


def sign_p(wins: int, pairs: int) -> float:
    """One-sided sign test: the chance of at least `wins` wins in `pairs` fair throws."""
    from math import comb

    return sum(comb(pairs, k) for k in range(wins, pairs + 1)) / 2**pairs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="target")
    parser.add_argument(
        "--arms", default=",".join(ARMS), help="comma-separated; the first is the one compared"
    )
    parser.add_argument("--rows", type=int, default=0, help="rows of a batch; 0: those of the shape")
    parser.add_argument("--pairs", type=int, default=5, help="rounds of every arm")
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps a round")
    parser.add_argument("--warm", type=int, default=2, help="untimed steps before the first round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", type=Path, help="also write the JSON object here")
    parser.add_argument("--serve", choices=ARMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    shape = replace(shape, rows=arguments.rows or shape.rows)
    if arguments.warm < 1:
        parser.error("--warm must be at least 1")
    if arguments.serve:
        serve_arm(arguments.serve, shape, arguments.warm, arguments.steps, arguments.pairs)
        return
    names = arguments.arms.split(",")
    if unknown := set(names) - set(ARMS):
        parser.error(f"unknown arms {sorted(unknown)}; there are {', '.join(ARMS)}")
    ceiling = product_ceiling(arguments.threads, arguments.clock)
    print(f"matrix-product ceiling: {ceiling / 1e9:.0f} GFLOP/s on {arguments.threads} threads; {shape}")
    arms: dict[str, Arm] = {}
    absent: dict[str, str] = {}
    for name in names:
        arm = Arm(name, arguments)
        try:
            arm.warm_seconds = arm.read()["warm_seconds"]
            arms[name] = arm
            print(f"{name}: warm after {arm.warm_seconds:.0f} s")
        except RuntimeError as error:
            absent[name] = str(error)
            arm.close()
            print(f"{name}: left out ({error})")
    loads = []
    try:
        for number in range(arguments.pairs):
            for arm in arms.values():
                arm.round()
            loads.append(os.getloadavg()[0])
            last = {
                n: (a.seconds if arguments.clock == "wall" else a.cpu_seconds)[-1] for n, a in arms.items()
            }
            rates = {n: arguments.steps * shape.tokens / seconds for n, seconds in last.items()}
            print(f"round {number + 1}: " + ", ".join(f"{n} {r:,.0f}" for n, r in rates.items()))
    finally:
        for arm in arms.values():
            arm.close()
    results: dict[str, dict[str, Any]] = {}
    clocks = {n: a.seconds if arguments.clock == "wall" else a.cpu_seconds for n, a in arms.items()}
    for name, arm in arms.items():
        rates = [arguments.steps * shape.tokens / s for s in clocks[name]]
        middle = statistics.median(rates)
        results[name] = {
            "tokens_per_second": middle,
            "best": max(rates),
            "share_of_ceiling": middle * shape.flops_per_token / ceiling,
            "warm_and_compile_seconds": arm.warm_seconds,
            "last_loss": arm.loss,
            "rounds": rates,
        }
    print(f"\n{'arm':24}{'tokens/s':>10}{'best':>10}{'of ceiling':>12}{'warm+compile s':>16}{'loss':>8}")
    for name, r in results.items():
        print(
            f"{name:24}{r['tokens_per_second']:>10,.0f}{r['best']:>10,.0f}{r['share_of_ceiling']:>12.0%}"
            f"{r['warm_and_compile_seconds']:>16.0f}{r['last_loss']:>8.3f}"
        )
    ratios: dict[str, dict[str, float]] = {}
    for ours in (n for n in results if n.startswith("hornbook")):
        for peer in (n for n in results if not n.startswith("hornbook")):
            each = [b / a for a, b in zip(clocks[ours], clocks[peer], strict=True)]
            wins = sum(r > 1 for r in each)
            ratios[f"{ours} / {peer}"] = {
                "median": statistics.median(each),
                "least": min(each),
                "sign_p": sign_p(wins, len(each)),
            }
            print(f"{ours} / {peer}: {statistics.median(each):.2f}x (least {min(each):.2f}x)")
    report = {
        "bench": "training",
        "shape": arguments.shape,
        **asdict(shape),
        "threads": arguments.threads,
        "clock": arguments.clock,
        "pairs": arguments.pairs,
        "steps": arguments.steps,
        "ceiling_gflops": ceiling / 1e9,
        "load_average": loads,
        "arms": results,
        "ratios": ratios,
        "absent": absent,
        **_circumstances(),
    }
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=1))
    print(json.dumps(report))


def _circumstances() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("torch", "transformers", "litgpt"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = ""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return {"commit": commit, "versions": versions, "machine": platform.processor() or platform.machine()}


if __name__ == "__main__":
    main()
