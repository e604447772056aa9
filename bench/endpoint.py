"""Rows a second through `EndpointModel`, beside a bare httpx load generator on the same mock server.

    python bench/endpoint.py [--rows 1500] [--pairs 5] [--latency 0.5] [--capacity 64]

The mock runs in a process of its own and answers 429 beyond its capacity. The
bare arm is the fastest client one can write by hand: it is told the capacity, keeps
exactly that many calls in flight, parses nothing, keeps nothing. Ours finds the
capacity, stores every answer durably before reading it, and counts tokens. Its
limit is warm (one untimed run), as in any job longer than a minute. Arms are
interleaved; medians of the pairwise ratios. One JSON line last.
"""

import argparse
import asyncio
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from hornbook.lm import Completion, ask
from hornbook.lm.endpoint import EndpointModel
from hornbook.lm.store import CallStore

MOCK = Path(__file__).parents[1] / "tests" / "lm" / "mock_openai.py"


async def bare(url: str, prompts: list[str], capacity: int) -> None:
    todo = iter(prompts)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    async with httpx.AsyncClient(limits=limits, verify=False) as client:

        async def worker() -> None:
            for prompt in todo:
                body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": 512}
                response = await client.post(f"{url}/chat/completions", json=body)
                assert response.status_code == 200, response.status_code

        await asyncio.gather(*(worker() for _ in range(capacity)))


def timed(run) -> tuple[float, float]:
    """(wall seconds, CPU seconds of this process)."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    run()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--capacity", type=int, default=64)
    options = parser.parse_args()
    settings = json.dumps({"latency": options.latency, "capacity": options.capacity, "retry_after": 0.1})
    mock = subprocess.Popen(
        [sys.executable, str(MOCK), settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert mock.stdin is not None
    assert mock.stdout is not None
    url = f"http://127.0.0.1:{int(mock.stdout.readline())}/v1"
    rates: dict[str, list[float]] = {"bare httpx": [], "hornbook": []}
    cpu: dict[str, list[float]] = {"bare httpx": [], "hornbook": []}
    with tempfile.TemporaryDirectory() as folder, CallStore(Path(folder) / "calls.sqlite") as store:
        model = EndpointModel(url, "m", store=store)

        def ours(name: str) -> None:
            answers = model.complete([ask(f"{name} {i}") for i in range(options.rows)])
            assert all(isinstance(a, Completion) and not a.cached for a in answers)

        ours("warm")
        found = model.concurrency
        for pair in range(options.pairs):
            prompts = [f"bare {pair} {i}" for i in range(options.rows)]
            arms = {
                "bare httpx": lambda prompts=prompts: asyncio.run(bare(url, prompts, options.capacity)),
                "hornbook": lambda pair=pair: ours(f"ours {pair}"),
            }
            for name, run in arms.items():
                wall, used = timed(run)
                rates[name].append(options.rows / wall)
                cpu[name].append(used / options.rows * 1e3)
        begun = time.perf_counter()
        again = model.complete([ask(f"ours 0 {i}") for i in range(options.rows)])
        hits = options.rows / (time.perf_counter() - begun)
        assert all(answer.cached for answer in again)
    mock.stdin.close()
    mock.wait(10)
    ratios = [b / a for a, b in zip(rates["bare httpx"], rates["hornbook"])]
    for name in rates:
        rate, milliseconds = statistics.median(rates[name]), statistics.median(cpu[name])
        print(f"{rate:8.1f} rows/s  {milliseconds:6.2f} ms CPU a row  {name}")
    print(f"ratio {statistics.median(ratios):.3f}; {hits:,.0f} rows/s from the store")
    result = {
        "bench": "endpoint",
        "ratio": round(statistics.median(ratios), 4),
        "ratios": [round(ratio, 4) for ratio in ratios],
        "rows_per_second": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "cpu_ms_per_row": {name: round(statistics.median(values), 3) for name, values in cpu.items()},
        "hits_per_second": round(hits, 1),
        "limit_found": found,
        "rows": options.rows,
        "latency": options.latency,
        "capacity": options.capacity,
        "httpx": httpx.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
