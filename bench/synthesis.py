"""Rows a second and wasted calls of tools that write data, on one mock endpoint that misbehaves on purpose.

    python bench/synthesis.py [--rows 3000] [--rounds 3]
        [--distilabel PYTHON] [--data-designer PYTHON] [--curator PYTHON] [--json FILE]

Ours is a whole `hornbook write` as `Session.write` does it after its preview: prompts, every answer in
the call store before it is read, checks, lineage, the corpus and its statistics on disk. It runs told the
capacity of the endpoint as the others are (HORNBOOK_AT_ONCE), and finding it. Beside it runs the bare
load generator (`load_generator.py`): as many keep-alive sockets as the endpoint takes calls, nothing kept
or checked. Both write rows of one call (the writer `topics`), and rows of four calls that follow from
each other (`revised`: draft, grades, rewrite, grades), as many calls in all. Other tools write rows of
one call; each runs in its own Python, those whose Python is not named are left out.

Endpoint, load generator and each tool are processes of their own, and take turns; medians of the rounds.
A calm endpoint has capacity and latency alone (0.25 to 0.75 s a call, another for each); on a rough one
some first tries get a 429 with Retry-After, a 503, a dropped socket or half a JSON. Then a run of each
tool is killed (-9) when half the rows are answered, and started again in the same folder.

Counted by the endpoint: calls beyond one for each row and step (wasted), answers given twice (after a
kill: of those given a quarter of a second before it; what is in flight then nobody can keep). The clock
runs round the work itself, without imports. `share` is calls a second beside the bare load generator's,
round by round, and `share_until_answered` the same up to the endpoint's last answer: the rest is the
corpus and its statistics, which take a second or two whatever the number of rows. The last line is JSON.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from hornbook.lab.machine import cpu_name, usable_cores
from mock_endpoint import Endpoint
from synthesis_peers import PACKAGES, PROGRAMS

BARE = Path(__file__).parent / "load_generator.py"
SOURCES = str(Path(__file__).parents[1] / "src")
CALLS = 4
"""A row of the writer `revised`."""
FAULTS = {"rate_limited": 0.01, "server_errors": 0.03, "dropped": 0.03, "truncated_json": 0.02}
_VERSION = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"


def start(
    name: str, python: str, url: str, args: argparse.Namespace, folder: str, rows: int
) -> subprocess.Popen[str]:
    if name.startswith("bare"):
        command = [python, str(BARE), url, str(rows), str(args.capacity), str(calls_of(name))]
    else:
        program = Path(folder) / "program.py"
        program.write_text(PROGRAMS[name])
        command = [python, str(program), f"{url}/v1", str(rows), str(args.capacity), folder]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    environment["PYTHONPATH"] = SOURCES if name.startswith("hornbook") else ""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=open(Path(folder) / "stderr.txt", "a"),
        text=True,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def calls_of(name: str) -> int:
    return CALLS if name.endswith("rows of four") else 1


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
    rows = args.rows // calls_of(name)
    with (
        tempfile.TemporaryDirectory() as folder,
        Endpoint(latency=args.latency, capacity=args.capacity, **faults) as endpoint,
    ):
        ran = finished(start(name, python, endpoint.base, args, folder, rows), args.limit, folder)
        counts = endpoint.stats()
    wasted = counts["received"] - rows * calls_of(name)
    if ran is None:
        return {"rows": 0, "rows_per_second": 0.0, "wasted": wasted}
    return {
        "rows": ran["rows"],
        "rows_per_second": ran["rows"] / ran["seconds"],
        "answered_per_second": rows / counts["seconds"],
        "wasted": wasted,
        # Two plans of `revised` may ask the same: there, what was paid beyond four calls a row.
        "paid_twice": counts["paid_twice"] if calls_of(name) == 1 else counts["paid"] - rows * CALLS,
        "cpu_ms_a_call": 1000 * ran.get("cpu", 0.0) / (rows * calls_of(name)),
    }


def killed_run(name: str, python: str, args: argparse.Namespace) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Endpoint(latency=args.latency, capacity=args.capacity) as endpoint,
    ):
        process = start(name, python, endpoint.base, args, folder, args.rows)
        until = time.monotonic() + args.limit
        while endpoint.stats()["paid"] < args.rows // 2 and time.monotonic() < until:
            time.sleep(0.05)
        endpoint.mark()
        time.sleep(0.25)  # what was answered until then has had its time to land on the disk
        os.killpg(process.pid, 9)
        process.wait(10)
        ran = finished(start(name, python, endpoint.base, args, folder, args.rows), args.limit, folder)
        counts = endpoint.stats()
    return {
        "paid_at_death": counts["marked"],
        "paid_twice": counts["marked_twice"],
        "rows": 0 if ran is None else ran["rows"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--capacity", type=int, default=64)
    parser.add_argument("--limit", type=float, default=180.0, help="seconds a run may take")
    parser.add_argument("--peer-rounds", type=int, default=1, help="rounds of other tools")
    parser.add_argument("--kinds", nargs="+", choices=("calm", "rough"), default=["calm", "rough"])
    parser.add_argument("--json", type=Path, help="write the result to this file")
    for name in ("distilabel", "data-designer", "curator"):
        parser.add_argument(f"--{name}", help=f"a Python that has {name}")
    args = parser.parse_args()
    kinds = {kind: faults for kind, faults in (("calm", {}), ("rough", FAULTS)) if kind in args.kinds}
    own = ("bare", "hornbook", "hornbook, told")
    pythons = dict.fromkeys((*own, *(f"{name}, rows of four" for name in own)), sys.executable)
    for name in ("distilabel", "data-designer", "curator"):
        if (python := getattr(args, name.replace("-", "_"))) is not None:
            pythons[name] = python
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {
        name: {kind: [] for kind in kinds} for name in pythons
    }
    for round_ in range(args.rounds):
        for kind, faults in kinds.items():
            for name, python in pythons.items():
                if name in PACKAGES and round_ >= args.peer_rounds:
                    continue
                runs[name][kind].append(whole_run(name, python, args, faults))
                print(round_, kind, name, runs[name][kind][-1], file=sys.stderr, flush=True)
    result: dict[str, Any] = {"bench": "synthesis", "rows": args.rows, "rounds": args.rounds}
    result |= {"latency": args.latency, "capacity": args.capacity, "faults": FAULTS}
    result["machine"] = {"cpu": cpu_name(), "cores": usable_cores(), "python": platform.python_version()}
    result["load_average"] = os.getloadavg()[0]
    result["tools"] = {}
    for name, python in pythons.items():
        entry: dict[str, Any] = {}
        if name in PACKAGES:
            asked = [python, "-c", _VERSION, PACKAGES[name]]
            entry["version"] = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
        for kind, made in runs[name].items():
            keys = ("rows_per_second", "rows", "wasted", "paid_twice", "cpu_ms_a_call")
            entry[kind] = {key: round(median(run.get(key, 0) for run in made), 2) for key in keys}
            bare = runs["bare, rows of four" if calls_of(name) > 1 else "bare"][kind]
            for key, of in (("share", "rows_per_second"), ("share_until_answered", "answered_per_second")):
                shares = [run.get(of, 0) / other[of] for run, other in zip(made, bare, strict=False)]
                entry[kind][key] = round(median(shares), 3)
        if "rough" in kinds and (name == "hornbook" or name in PACKAGES):
            entry["killed"] = killed_run(name, python, args)
        result["tools"][name] = entry
    print(f"{'':30s} rows/s  share  until answered   rows  wasted  CPU ms a call")
    for kind in kinds:
        for name, entry in result["tools"].items():
            one = entry[kind]
            print(
                f"{kind:5s} {name:30s} {one['rows_per_second']:7.1f} {one['share']:6.3f} "
                f"{one['share_until_answered']:6.3f} {one['rows']:9.0f} {one['wasted']:7.0f} "
                f"{one['cpu_ms_a_call']:7.2f}"
            )
    for name, entry in result["tools"].items():
        if (killed := entry.get("killed")) is not None:
            print(
                f"kill -9 {name:16s} {killed['paid_at_death']} paid when it died, {killed['paid_twice']} of "
                f"them again; {killed['rows']} rows in the end"
            )
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
