"""Arithmetic: problems written a second, and seconds to examine every cell of a grid.

    python bench/arithmetic.py [--digits 15] [--samples 300000] [--each 10] [--rounds 5]

Three ways to write the same problems are timed in turn: the vectorised one, and a Python loop with whole
numbers and strings, as a script would have it. Then one model answers all cells of a grid in three ways: with
its keys and values kept, reading every prefix anew at every step, and row by row through the engine. One
thread, CPU time, medians of interleaved rounds. The last line is JSON.
"""

import argparse
import json
import os
import platform
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from hornbook.infer.engine import Engine, Sampling
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.theory.arithmetic import exam
from hornbook.theory.arithmetic.dialogue import converse
from hornbook.theory.arithmetic.formats import all_cells, draw_lines, draw_problems, random_cells
from hornbook.theory.arithmetic.lines import SIGNS, spread

FORMATS = (
    ("multiplication", "basic"),
    ("multiplication", "reversed"),
    ("multiplication", "padded"),
    ("multiplication", "padded_reversed"),
    ("addition", "basic"),
    ("addition", "scratchpad"),
)


def loop(operation, form, digits, count, rng):
    """The same lines from Python whole numbers and strings."""
    out = []
    for _ in range(count):
        a, b = (int(rng.integers(10 ** (n - 1), 10**n)) for n in rng.integers(1, digits + 1, 2))
        c, sign, width = (
            (a * b, "*", 2 * digits) if operation == "multiplication" else (a + b, "+", digits + 1)
        )
        x, y, z = str(a), str(b), str(c)
        if form.startswith("padded"):
            x, y, z = x.zfill(digits), y.zfill(digits), z.zfill(width)
        if form.endswith("reversed"):
            z = z[::-1]
        out.append(np.array([SIGNS.ids[symbol] for symbol in f"{x}{sign}{y}={z}\n"], np.uint8))
    return out


def seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def interleaved(arms, rounds):
    """Median CPU seconds of each arm."""
    for work in arms.values():
        work()
    taken = {name: [] for name in arms}
    for _ in range(rounds):
        for name, work in arms.items():
            taken[name].append(seconds(work))
    return {name: statistics.median(values) for name, values in taken.items()}


def generation(options):
    rng = np.random.default_rng(0)
    few = max(1, options.samples // 100)
    rates = {}
    for operation, form in FORMATS:
        digits = options.digits if operation == "multiplication" else min(options.digits, 10)
        count = options.samples

        def ours(operation=operation, form=form, digits=digits, count=count):
            draw_lines(operation, form, random_cells(count, digits, rng), rng, digits=digits)

        arms = {"ours": ours}
        if form != "scratchpad":
            arms["loop"] = lambda o=operation, f=form, d=digits: loop(o, f, d, few, rng)
        taken = interleaved(arms, options.rounds)
        rates[f"{operation} {form} {digits}"] = {
            "per_second": round(count / taken["ours"]),
            "loop_per_second": round(few / taken["loop"]) if "loop" in taken else None,
        }
    count = options.samples // 4
    cells = random_cells(count, 5, rng)
    others = {
        "addition with random spaces 5": lambda: spread(
            draw_lines("addition", "basic", cells, rng, digits=5), rng
        ),
        "addition in dialogue 5": lambda: converse(draw_problems("addition", cells, rng), rng),
    }
    for name, taken in interleaved(others, options.rounds).items():
        rates[name] = {"per_second": round(count / taken), "loop_per_second": None}
    return rates


def examination(options):
    rng = np.random.default_rng(1)
    digits = options.digits
    lines = draw_lines(
        "multiplication", "padded_reversed", all_cells(range(1, digits + 1), options.each), rng, digits=digits
    )
    torch.manual_seed(0)
    model = Decoder(
        ModelConfig(
            vocab_size=len(SIGNS),
            hidden_size=96,
            layers=3,
            heads=4,
            intermediate_size=256,
            positions="learned",
            max_position=lines.width + 8,
        )
    ).eval()
    steps = int((lines.length - lines.prompt).max())
    prompts = [lines.tokens[row, : lines.prompt[row]].tolist() for row in range(len(lines))]
    engine = Engine(model, weights="fp32", stop_tokens=[lines.alphabet.end], max_rows=256)

    @torch.inference_mode()
    def prefix_anew():
        tokens = torch.tensor(prompts)
        for _ in range(steps):
            tokens = torch.cat([tokens, model.logits(model(tokens)[:, -1]).argmax(-1)[:, None]], 1)

    arms = {
        "ours": lambda: exam.answers(model, lines, spare=0),
        "prefix_anew": prefix_anew,
        "engine": lambda: engine.generate(prompts, Sampling(temperature=0.0, max_tokens=steps)),
    }
    taken = interleaved(arms, max(1, options.rounds // 2))
    return {
        "lines": len(lines),
        "steps": steps,
        "seconds": {name: round(value, 3) for name, value in taken.items()},
        "lines_per_second": round(len(lines) / taken["ours"]),
        "speedup_over_prefix_anew": round(taken["prefix_anew"] / taken["ours"], 2),
        "speedup_over_engine": round(taken["engine"] / taken["ours"], 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("digits", 15), ("samples", 300_000), ("each", 10), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "machine": platform.processor() or platform.machine(),
        "threads": 1,
        "clock": "CPU seconds, medians",
        "written": generation(options),
        "examined": examination(options),
    }
    for name, rate in result["written"].items():
        peer = rate["loop_per_second"]
        print(
            f"{name:40} {rate['per_second'] / 1e6:6.2f} M/s"
            + (f"  loop {peer / 1e6:.3f} M/s" if peer else "")
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
