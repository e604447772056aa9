"""Calls a second through `EndpointModel`, beside the bare load generator on the same mock endpoint.

    python bench/endpoint.py [--rounds 3] [--latency 0.5] [--at-once 64 256] [--json FILE]

Ours stores every answer durably before reading it and counts tokens; the load generator
(`load_generator.py`) keeps as many sockets busy and nothing else. Both are told how many calls the
endpoint takes at once and make `--seconds` worth of calls; endpoint, load generator and ours are
processes of their own and take turns; the clock runs from the first call to the last answer of the
client, without imports. Median of the rounds' ratios, CPU of the client for each call, and for the store:
answers a second when all are known. JSON last.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import httpx

from hornbook.lab.machine import cpu_name, usable_cores
from mock_endpoint import Endpoint

BARE = Path(__file__).parent / "load_generator.py"
OURS = """
import json, sys, time
from load_generator import LESSON
from hornbook.lm import Completion, ask
from hornbook.lm.endpoint import EndpointModel, EndpointSettings
from hornbook.lm.store import CallStore
import httpx, zstandard
url, rows, at_once, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
with CallStore(folder + "/calls.sqlite") as store:
    model = EndpointModel(url, "m", store=store, settings=EndpointSettings(max_concurrency=at_once))
    requests = [ask(LESSON.format(row)) for row in range(rows)]
    begun, used = time.perf_counter(), time.process_time()
    answers = model.complete(requests)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    begun = time.perf_counter()
    again = model.complete(requests)
    known = rows / (time.perf_counter() - begun)
assert all(isinstance(one, Completion) for one in answers) and all(one.cached for one in again)
print(json.dumps({"seconds": seconds, "rows": rows, "cpu": cpu, "known": known}))
"""


def ran(command: list[str]) -> dict[str, float]:
    here = Path(__file__).parent
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{here.parent / 'src'}:{here}"}
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="what the calls of a run take at best")
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--at-once", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--json", type=Path, help="write the result here, too")
    options = parser.parse_args()
    table = []
    for at_once in options.at_once:
        rows = round(options.seconds / options.latency * at_once)
        bare, ours, received = [], [], []
        for _ in range(options.rounds):
            told = (str(rows), str(at_once))
            with Endpoint(latency=options.latency, capacity=at_once) as endpoint:
                bare.append(ran([sys.executable, str(BARE), endpoint.base, *told, "1"]))
            with (
                Endpoint(latency=options.latency, capacity=at_once) as endpoint,
                tempfile.TemporaryDirectory() as folder,
            ):
                ours.append(ran([sys.executable, "-c", OURS, f"{endpoint.base}/v1", *told, folder]))
                received.append(endpoint.stats()["received"])
        shares = [b["seconds"] / o["seconds"] for b, o in zip(bare, ours, strict=True)]
        entry = {
            "at_once": at_once,
            "calls": rows,
            "bare_calls_per_second": round(median(rows / one["seconds"] for one in bare), 1),
            "calls_per_second": round(median(rows / one["seconds"] for one in ours), 1),
            "share": round(median(shares), 4),
            "shares": [round(share, 4) for share in shares],
            "bare_cpu_ms_a_call": round(median(1000 * one["cpu"] / rows for one in bare), 3),
            "cpu_ms_a_call": round(median(1000 * one["cpu"] / rows for one in ours), 3),
            "known_per_second": round(median(one["known"] for one in ours), 1),
            "paid_twice": max(received) - rows,
        }
        table.append(entry)
        print(
            f"{at_once:4d} at once: bare {entry['bare_calls_per_second']:7.1f} calls/s, ours "
            f"{entry['calls_per_second']:7.1f} ({entry['share']:.3f}), {entry['cpu_ms_a_call']:.2f} ms CPU a "
            f"call; {entry['known_per_second']:,.0f} known answers/s"
        )
    result = {
        "bench": "endpoint",
        "rounds": options.rounds,
        "latency": options.latency,
        "cases": table,
        "machine": {"cpu": cpu_name(), "cores": usable_cores(), "python": platform.python_version()},
        "load_average": os.getloadavg()[0],
        "httpx": httpx.__version__,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
