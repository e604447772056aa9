"""Likelihood benchmarks beside lm-eval with transformers: the same items, the same model, seconds and scores.

    python bench/evaluation.py --data ~/benchmarks --out bench/results/evaluation.json

Both read the same questions of the embedded SmolLM2-135M-Instruct in fp32, in turns; the scores of every
item must be equal.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hornbook.evals.benchmarks.card import cards
from hornbook.evals.benchmarks.items import Item
from hornbook.evals.benchmarks.run import Asking, load_items, run_card
from hornbook.infer.open import open_local
from hornbook.lab.machine import machine_facts
from hornbook.model.embedded import embedded_checkpoint

CASES = {"mmlu": 5, "arc-easy": 0, "arc-challenge": 10, "hellaswag": 0, "piqa": 0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the benchmarks' files")
    parser.add_argument("--items", type=int, default=24, help="items of a benchmark")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", default=",".join(CASES), help="names with commas")
    parser.add_argument("--group", default="high_school_biology", help="the subject of MMLU")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    from lm_eval.models.huggingface import HFLM

    folder = embedded_checkpoint(print)
    theirs = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=8)
    table = {}
    for name in args.cases.split(","):
        items = _items(name, args)
        seconds: dict[str, list[float]] = {"hornbook": [], "lm-eval": []}
        for _ in range(args.rounds):
            ours = open_local("smollm2", weights="fp32")  # anew: an engine remembers what it has read
            began = time.perf_counter()
            own = run_card(cards()[name], ours, Asking(), items=items).outcomes["acc"]
            seconds["hornbook"].append(time.perf_counter() - began)
            began = time.perf_counter()
            other = _lm_eval(theirs, items)
            seconds["lm-eval"].append(time.perf_counter() - began)
        median = {who: statistics.median(values) for who, values in seconds.items()}
        ratios = [b / a for a, b in zip(seconds["hornbook"], seconds["lm-eval"])]
        table[name] = {
            "items": len(items),
            "shots": CASES[name],
            "seconds": seconds,
            "ratio": statistics.median(ratios),
            "least_ratio": min(ratios),
            "equal": list(own) == other,
        }
        print(
            f"{name:14} {CASES[name]} shots  hornbook {median['hornbook']:.1f} s  "
            f"lm-eval {median['lm-eval']:.1f} s  "
            f"{table[name]['ratio']:.2f}x (least {min(ratios):.2f})  equal: {table[name]['equal']}",
            flush=True,
        )
    if args.out:
        args.out.write_text(
            json.dumps(
                {"machine": asdict(machine_facts()), "threads": torch.get_num_threads(), "cases": table},
                indent=1,
                default=str,
            )
        )


def _items(name: str, args: argparse.Namespace) -> list[Item]:
    items = load_items(cards()[name], Asking(shots=CASES[name], data=args.data))
    return [item for item in items if name != "mmlu" or item.group == args.group][: args.items]


def _lm_eval(engine: Any, items: list[Item]) -> list[float]:
    """Accuracies of the same items by lm-eval's engine."""
    from lm_eval.api.instance import Instance

    requests = [
        Instance("loglikelihood", {}, (item.questions[0], choice), i)
        for item in items
        for i, choice in enumerate(item.choices)
    ]
    scores = iter(engine.loglikelihood(requests, disable_tqdm=True))
    found = []
    for item in items:
        own = [next(scores)[0] for _ in item.choices]
        found.append(float(max(range(len(own)), key=own.__getitem__) == item.gold))
    return found


if __name__ == "__main__":
    main()
