"""Rows a second and wasted calls of tools that write data, on one mock endpoint that misbehaves on purpose.

    python bench/synthesis.py --distilabel PYTHON --data-designer PYTHON --curator PYTHON [--rows 1000]

Every tool runs in its own Python as a process of its own; tools whose Python is not named are left out. All
are told the capacity of the endpoint; ours runs twice, told and finding it (from eight calls at once on).
Rounds of each arm, in turn: a calm endpoint (capacity and latency alone), and one where some calls get a 429
with Retry-After, a 503, a dropped socket or half a JSON. Then a run of each is killed (-9) when half the rows
are answered and started again in the same folder. Counted by the endpoint: calls it received, answers it gave
(paid), answers given twice (after a kill: of those given a quarter of a second before it; what is in flight
then nobody can keep). The bare load generator writes to sockets, is told the capacity, keeps nothing and asks
at once again. The clock runs round the work itself, without imports. The last line is JSON.
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
import urllib.request
from pathlib import Path
from typing import Any

from synthesis_peers import PACKAGES, PROGRAMS

MOCK = Path(__file__).parents[1] / "tests" / "lm" / "mock_openai.py"
FAULTS = {"rate_limited": 0.01, "server_errors": 0.03, "dropped": 0.03, "truncated_json": 0.02}
_VERSION = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"


class Endpoint:
    """The mock in a process of its own."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(MOCK), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.base = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.base}/stats") as answer:
            return json.loads(answer.read())

    def counts(self) -> dict[str, int]:
        stats = self.stats()
        answered = [n for prompt, n in stats["answered"].items() if "question" in prompt]
        return {
            "received": sum(stats["received"].values()),
            "paid": sum(answered),
            "paid_twice": sum(n - 1 for n in answered),
        }


def start(name: str, python: str, url: str, args: argparse.Namespace, folder: str) -> subprocess.Popen[str]:
    program = Path(folder) / "program.py"
    program.write_text(PROGRAMS[name])
    command = [python, str(program), f"{url}/v1", str(args.rows), str(args.capacity), folder]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1] / "src") if name.startswith("hornbook") else ""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=open(Path(folder) / "stderr.txt", "a"),
        text=True,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str], limit: float, folder: str) -> dict[str, Any] | None:
    try:
        out, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return None
    lines = [line for line in out.splitlines() if line.startswith('{"seconds"')]
    if not lines:
        print(Path(folder, "stderr.txt").read_text()[-1500:], file=sys.stderr)
        return None
    return json.loads(lines[-1])


def whole_run(name: str, python: str, args: argparse.Namespace, faults: dict[str, float]) -> dict[str, Any]:
    settings = {"latency": args.latency, "capacity": args.capacity, "retry_after": 0.1} | faults
    with tempfile.TemporaryDirectory() as folder, Endpoint(settings) as endpoint:
        ran = finished(start(name, python, endpoint.base, args, folder), args.limit, folder)
        counts = endpoint.counts()
    if ran is None:
        return {"rows": 0, "rows_per_second": 0.0, "wasted": counts["received"]}
    return {
        "rows": ran["rows"],
        "rows_per_second": ran["rows"] / ran["seconds"],
        "wasted": counts["received"] - ran["rows"],
        "paid_twice": counts["paid_twice"],
    }


def killed_run(name: str, python: str, args: argparse.Namespace) -> dict[str, Any]:
    settings = {"latency": args.latency, "capacity": args.capacity, "retry_after": 0.1}
    with tempfile.TemporaryDirectory() as folder, Endpoint(settings) as endpoint:
        process = start(name, python, endpoint.base, args, folder)
        until = time.monotonic() + args.limit
        while endpoint.counts()["paid"] < args.rows // 2 and time.monotonic() < until:
            time.sleep(0.05)
        before = endpoint.stats()["answered"]
        time.sleep(0.25)  # what was answered until then has had its time to land on the disk
        os.killpg(process.pid, 9)
        process.wait(10)
        ran = finished(start(name, python, endpoint.base, args, folder), args.limit, folder)
        after = endpoint.stats()["answered"]
    return {
        "paid_at_death": sum(before.values()),
        "paid_twice": sum(after[prompt] - count for prompt, count in before.items()),
        "rows": 0 if ran is None else ran["rows"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--capacity", type=int, default=64)
    parser.add_argument("--limit", type=float, default=180.0, help="seconds a run may take")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    for name in ("distilabel", "data-designer", "curator"):
        parser.add_argument(f"--{name}", help=f"a Python that has {name}")
    args = parser.parse_args()
    pythons = dict.fromkeys(("bare sockets", "hornbook", "hornbook, told"), sys.executable)
    for name in ("distilabel", "data-designer", "curator"):
        if (python := getattr(args, name.replace("-", "_"))) is not None:
            pythons[name] = python
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {name: {"calm": [], "rough": []} for name in pythons}
    for _ in range(args.rounds):
        for kind, faults in (("calm", {}), ("rough", FAULTS)):
            for name, python in pythons.items():
                runs[name][kind].append(whole_run(name, python, args, faults))
    result: dict[str, Any] = {"bench": "synthesis", "rows": args.rows, "latency": args.latency}
    result |= {"capacity": args.capacity, "faults": FAULTS, "python": platform.python_version(), "tools": {}}
    for name, python in pythons.items():
        version = ""
        if name in PACKAGES:
            asked = [python, "-c", _VERSION, PACKAGES[name]]
            version = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
        entry: dict[str, Any] = {"version": version}
        for kind, made in runs[name].items():
            entry[kind] = {
                key: round(statistics.median(run.get(key, 0) for run in made), 1)
                for key in ("rows_per_second", "rows", "wasted", "paid_twice")
            }
        if name not in ("bare sockets", "hornbook, told"):
            entry["killed"] = killed_run(name, python, args)
        result["tools"][name] = entry
    bare = result["tools"]["bare sockets"]["calm"]["rows_per_second"]
    for name, key in (("hornbook", "ratio_to_bare"), ("hornbook, told", "ratio_to_bare_told")):
        result[key] = round(result["tools"][name]["calm"]["rows_per_second"] / bare, 3)
    print(
        f"{'':14s} rows/s  | rough: rows/s  rows  wasted calls | killed -9: paid at death, twice, rows at end"
    )
    for name, entry in result["tools"].items():
        rough, killed = entry["rough"], entry.get("killed", {})
        print(
            f"{name:14s} {entry['calm']['rows_per_second']:6.1f}  | {rough['rows_per_second']:12.1f} "
            f"{rough['rows']:6.0f} {rough['wasted']:13.0f} | "
            + (
                f"{killed['paid_at_death']:6d} {killed['paid_twice']:6d} {killed['rows']:6d}"
                if killed
                else ""
            )
        )
    print(
        f"ours beside the bare load generator: {result['ratio_to_bare']} finding the capacity, "
        f"{result['ratio_to_bare_told']} told"
    )
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
