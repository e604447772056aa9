"""What the small benches share: arms that take turns, medians, and a record of machine and threads."""

import json
import os
import pathlib
import statistics
import time

import torch

from hornbook.lab.machine import machine_facts


def clock(name):
    """The clock by name: "wall" for an idle machine, "cpu" (of this process) for a busy one."""
    return {"wall": time.perf_counter, "cpu": time.process_time}[name]


def take_turns(arms, rounds, now, device="cpu"):
    """Median seconds of each arm, {name: (median, all rounds)}; one unmeasured call each comes first."""
    taken = {name: [] for name in arms}
    for work in arms.values():
        work()
    for _ in range(rounds):
        for name, work in arms.items():
            start = now()
            work()
            if device != "cpu":
                torch.cuda.synchronize()
            taken[name].append(now() - start)
    return {name: statistics.median(values) for name, values in taken.items()}, taken


def options(parser, rounds=5):
    """Adds --rounds, --threads, --clock and --out."""
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=pathlib.Path, help="also write the record here")
    return parser


def finish(bench, given, record):
    """Prints the record as one line of JSON and writes it where --out says."""
    facts = machine_facts()
    whole = {
        "bench": bench,
        **{key: value for key, value in vars(given).items() if key not in ("out", "peer_python")},
        "cpu": getattr(facts, "cpu", ""),
        "load_average": os.getloadavg()[0],
        "torch": torch.__version__,
        **record,
    }
    if given.out is not None:
        given.out.write_text(json.dumps(whole, indent=1) + "\n")
    print(json.dumps(whole))
