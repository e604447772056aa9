"""How many programs a second the sandbox runs. One JSON line last.

    python bench/sandbox.py [--programs 4000] [--pairs 5] [--json FILE]

Three kinds of program: simple ones (word problems) sharing a process, the same
ones a process each, and ones that import (a process each whatever one asks).
The comparison arm starts a plain, unconfined `python -I -S` for each program,
which is what evaluators without a keeper pay. Arms are interleaved; medians.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from hornbook.lab.machine import machine_facts
from hornbook.sandbox import Job, Sandbox

WORD_PROBLEM = """def solution():
    apples = 3 + {0}
    price = 0.5
    days = 7
    eaten = apples // 4
    left = apples - eaten
    total = left * price * days
    result = round(total, 2)
    return result
"""
EXERCISE = """import re
from collections import Counter
def solution():
    words = re.findall(r"[a-z]+", "the cat and the hat and the bat" * {0})
    return Counter(words).most_common(2)
"""


def timed(run) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=4000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--backend", choices=["sandlock", "bubblewrap", "unsafe"])
    parser.add_argument("--json", type=Path, help="write the result to this file, too")
    options = parser.parse_args()
    simple = [Job(source=WORD_PROBLEM.format(i), entry="solution") for i in range(options.programs)]
    exercises = [
        Job(source=EXERCISE.format(1 + i % 9), entry="solution") for i in range(options.programs // 10)
    ]
    few = simple[: options.programs // 10]
    rates: dict[str, list[float]] = {}
    with Sandbox(backend=options.backend) as sandbox:
        sandbox.run_many(simple[:500])  # start the keepers

        def arm(name: str, jobs: list[Job], **how: bool) -> None:
            outcomes = []
            seconds = timed(lambda: outcomes.extend(sandbox.run_many(jobs, **how)))
            bad = [outcome for outcome in outcomes if not outcome.ok]
            assert not bad, bad[0]
            rates.setdefault(name, []).append(len(jobs) / seconds)

        for _ in range(options.pairs):
            arm("simple, shared", simple)
            arm("simple, a process each", few, share=False)
            arm("imports, a process each", exercises)
            sources = [job.source + "print(solution())" for job in few[:40]]
            run = lambda sources=sources: [  # noqa: E731
                subprocess.run([sys.executable, "-I", "-S", "-c", source], capture_output=True, check=True)
                for source in sources
            ]
            rates.setdefault("plain python -I -S, one after another, unconfined", []).append(40 / timed(run))
    for name, values in rates.items():
        print(f"{statistics.median(values):10,.0f} programs/s  {name}")
    result = {
        "bench": "sandbox",
        "programs_per_second": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "all": {name: [round(value, 1) for value in values] for name, values in rates.items()},
        "programs": options.programs,
        "pairs": options.pairs,
        "workers": sandbox.workers,
        "backend": sandbox.backend,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": asdict(machine_facts()),
        "load_average": os.getloadavg()[0],
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
