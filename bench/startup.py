"""How long `import hornbook`, `hornbook --help` and `hornbook papers` take.

    python bench/startup.py [--rounds 15]

Each is started as a process of its own, beside `python -c pass`, interleaved; minima and medians of wall and
CPU seconds. The last line is JSON.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "import hornbook": [sys.executable, "-c", "import hornbook"],
    "hornbook --help": [sys.executable, "-m", "hornbook", "--help"],
    "hornbook papers": [sys.executable, "-m", "hornbook", "papers", "--home", "nowhere"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    wall: dict[str, list[float]] = {name: [] for name in COMMANDS}
    cpu: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(rounds + 1):  # the first one warms the disk cache and is not counted
        for name, command in COMMANDS.items():
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
            if turn:
                wall[name].append(seconds)
                cpu[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"{'':18} {'wall: least':>12} {'median':>8}   {'CPU: least':>10} {'median':>8}")
    for name in COMMANDS:
        numbers = [
            min(wall[name]),
            statistics.median(wall[name]),
            min(cpu[name]),
            statistics.median(cpu[name]),
        ]
        print(f"{name:18} {numbers[0]:12.3f} {numbers[1]:8.3f}   {numbers[2]:10.3f} {numbers[3]:8.3f}")
    record = {
        "rounds": rounds,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "wall": wall,
        "cpu": cpu,
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
