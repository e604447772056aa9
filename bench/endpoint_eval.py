"""A whole evaluation of an endpoint beside the bare load generator on the same mock endpoint, with faults.

    python bench/endpoint_eval.py [--items 3000] [--rounds 3] [--latency 0.5] [--capacity 64] [--json FILE]

Every call takes between half and one and a half times `--latency`, calls beyond `--capacity` get 429 with
Retry-After, and `--faults` of the first calls each get a 429, a 503, a dropped socket or half an answer.
Ours is `run_card`, what `hornbook eval` runs for each benchmark, on a card of word problems: every paid
answer kept on disk before it is read, graded, the grade kept. It runs told the capacity
(HORNBOOK_AT_ONCE), as the load generator is, and finding it. The load generator (`load_generator.py`)
keeps as many sockets busy and nothing else. Endpoint, load generator and ours are processes of their own
and take turns; the clock runs without imports. Medians over the rounds; then the evaluation runs again on
the same stores, which must ask nothing. The endpoint's own count says how many answers were paid for
twice. JSON last.
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
from typing import Any

from hornbook.lab.machine import cpu_name, usable_cores
from mock_endpoint import FAULTS, Endpoint

BARE = Path(__file__).parent / "load_generator.py"
OURS = """
import json, sys, time
from pathlib import Path
from hornbook.evals.benchmarks.card import Ask, Card, Generate
from hornbook.evals.benchmarks.items import make_items
from hornbook.evals.benchmarks.run import Asking, run_card
from hornbook.evals.sample_store import SampleStore
from hornbook.infer.open import open_model
from hornbook.lm.store import CallStore
import hornbook.lm.endpoint, httpx, zstandard
from load_generator import LESSON
url, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
card = Card(
    name="bench", title="Bench", kind="generate", license="none", metric="exact",
    ask=Ask(question=LESSON.replace("{}", "{{ n }}"), gold="(n + 7) | string"),
    generate=Generate(scorer="number", max_tokens=64, chat=True),
)
with CallStore(folder / "calls.sqlite") as calls, SampleStore(folder / "samples.sqlite") as samples:
    model = open_model(url + "#m", calls=calls)
    begun, used = time.perf_counter(), time.process_time()
    items = make_items(card, [{"n": n} for n in range(count)])
    result = run_card(card, model, Asking(), store=samples, items=items)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
assert not result.unfinished, result.unfinished
print(json.dumps({"seconds": seconds, "rows": result.items, "cpu": cpu, "limit": model.concurrency}))
"""


def ran(command: list[str], told: int | None = None) -> dict[str, float]:
    here = Path(__file__).parent
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{here.parent / 'src'}:{here}"}
    if told is not None:
        environment["HORNBOOK_AT_ONCE"] = str(told)
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--capacity", type=int, default=64)
    parser.add_argument("--faults", type=float, default=0.005, help="share of first calls with each fault")
    parser.add_argument("--json", type=Path, help="write the result here, too")
    options = parser.parse_args()
    told: dict[str, Any] = {"latency": options.latency, "capacity": options.capacity}
    told |= {"reply": "Together they are 7."} | dict.fromkeys(FAULTS, options.faults)
    arms: dict[str, list[dict[str, float]]] = {"bare": [], "told": [], "finding": []}
    twice = again = 0
    for _ in range(options.rounds):
        for arm, made in arms.items():
            with Endpoint(**told) as endpoint, tempfile.TemporaryDirectory() as folder:
                if arm == "bare":
                    numbers = (options.items, options.capacity, 1, 64)
                    made.append(ran([sys.executable, str(BARE), endpoint.base, *map(str, numbers)]))
                else:
                    command = [sys.executable, "-c", OURS, f"{endpoint.base}/v1", str(options.items), folder]
                    told_now = options.capacity if arm == "told" else None
                    made.append(ran(command, told_now))
                    before = endpoint.stats()
                    ran(command, told_now)  # everything is known now
                    after = endpoint.stats()
                    twice += after["paid_twice"]
                    again += after["received"] - before["received"]
                    made[-1]["refused"] = before["refused"]
    table = {}
    for arm, made in arms.items():
        shares = [bare["seconds"] / one["seconds"] for bare, one in zip(arms["bare"], made, strict=True)]
        table[arm] = {
            "items_per_second": round(median(options.items / one["seconds"] for one in made), 1),
            "share": round(median(shares), 4),
            "shares": [round(share, 4) for share in shares],
            "cpu_ms_an_item": round(median(1000 * one["cpu"] / options.items for one in made), 3),
        }
        if arm != "bare":
            table[arm]["refused"] = round(median(one["refused"] for one in made))
            table[arm]["limit"] = round(median(one["limit"] for one in made))
        print(f"{arm:8s} {table[arm]['items_per_second']:7.1f} items/s, share {table[arm]['share']:.3f}")
    print(f"answers paid twice: {twice}; calls of the runs that knew everything: {again}")
    result = {
        "bench": "endpoint_eval",
        "items": options.items,
        "rounds": options.rounds,
        "latency": options.latency,
        "capacity": options.capacity,
        "faults": options.faults,
        "arms": table,
        "paid_twice": twice,
        "asked_again": again,
        "machine": {"cpu": cpu_name(), "cores": usable_cores(), "python": platform.python_version()},
        "load_average": os.getloadavg()[0],
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
