"""A whole evaluation of an endpoint beside a bare load generator on the same mock server, with faults.

    python bench/endpoint_eval.py [--items 4000] [--pairs 3] [--latency 0.5] [--capacity 64]

The mock runs in a process of its own: every call takes `--latency`, calls beyond `--capacity` get 429, and a
share of first calls gets a 429, a 503 or half an answer. The bare arm writes to sockets by hand, is told the
capacity, keeps exactly that many calls in flight, tries again at once what failed, reads and keeps nothing.
Ours is `run_card` on a card of word problems: it finds the capacity (one untimed run before), keeps every
paid answer on disk, grades it and keeps the grade. Arms are interleaved; medians of the pairwise ratios. Then
the server's own count: no answer may have been given twice. One JSON line last.
"""

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from hornbook.evals.benchmarks.card import Ask, Card, Generate
from hornbook.evals.benchmarks.items import make_items
from hornbook.evals.benchmarks.run import Asking, run_card
from hornbook.evals.sample_store import SampleStore
from hornbook.lm.endpoint import EndpointModel
from hornbook.lm.store import CallStore

MOCK = Path(__file__).parents[1] / "tests" / "lm" / "mock_openai.py"
CARD = Card(
    name="bench",
    title="Bench",
    kind="generate",
    license="none",
    metric="exact",
    ask=Ask(question="{{ name }}: how many are {{ a }} and {{ b }}?", gold="(a + b) | string"),
    generate=Generate(scorer="number", max_tokens=64),
)


def rows(name: str, count: int) -> list[dict[str, object]]:
    return [{"name": f"{name} {i}", "a": i, "b": 7} for i in range(count)]


async def bare(port: int, prompts: list[str], capacity: int) -> None:
    """`capacity` connections kept open; what fails is sent again at once, up to the answer."""
    todo = iter(prompts)

    async def worker() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for prompt in todo:
            told = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": 64}
            body = json.dumps(told).encode()
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
            while True:
                writer.write(head + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                size = int(answer.split(b"content-length: ")[1].split(b"\r\n")[0])
                content = await reader.readexactly(size)
                if answer.startswith(b"HTTP/1.1 200") and content.endswith(b"}}"):
                    break
        writer.close()

    await asyncio.gather(*(worker() for _ in range(capacity)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=4000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--capacity", type=int, default=64)
    parser.add_argument("--faults", type=float, default=0.005, help="share of first calls with each fault")
    parser.add_argument("--json", type=Path, help="write the result here, too")
    options = parser.parse_args()
    settings = {
        "latency": options.latency,
        "capacity": options.capacity,
        "retry_after": 0.1,
        "rate_limited": options.faults,
        "server_errors": options.faults,
        "truncated_json": options.faults,
        "reply": "Together they are 7.",
    }
    mock = subprocess.Popen(
        [sys.executable, str(MOCK), json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert mock.stdin is not None
    assert mock.stdout is not None
    port = int(mock.stdout.readline())
    address = f"http://127.0.0.1:{port}"
    url = f"{address}/v1"
    rates: dict[str, list[float]] = {"bare": [], "hornbook": []}
    cpu: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        CallStore(Path(folder) / "calls.sqlite") as calls,
        SampleStore(Path(folder) / "samples.sqlite") as samples,
    ):
        model = EndpointModel(url, "m", store=calls)

        def ours(name: str, count: int) -> None:
            items = make_items(CARD, rows(name, count))
            result = run_card(CARD, model, Asking(), store=samples, items=items)
            assert (result.items, result.unfinished) == (count, "")

        ours("warm", options.items)
        for pair in range(options.pairs):
            prompts = [item.questions[0] for item in make_items(CARD, rows(f"bare {pair}", options.items))]
            begun = time.perf_counter()
            asyncio.run(bare(port, prompts, options.capacity))
            rates["bare"].append(options.items / (time.perf_counter() - begun))
            begun, used = time.perf_counter(), time.process_time()
            ours(f"ours {pair}", options.items)
            rates["hornbook"].append(options.items / (time.perf_counter() - begun))
            cpu.append((time.process_time() - used) / options.items * 1e3)
        ours("ours 0", options.items)  # again: everything is known
        with urllib.request.urlopen(urllib.request.Request(f"{address}/stats", data=b"{}")) as response:
            stats = json.load(response)
    mock.stdin.close()
    mock.wait(10)
    own = {prompt: n for prompt, n in stats["answered"].items() if not prompt.startswith("bare")}
    twice = sum(n - 1 for n in own.values())
    ratios = [b / a for a, b in zip(rates["bare"], rates["hornbook"])]
    for name, values in rates.items():
        print(f"{statistics.median(values):8.1f} items/s  {name}")
    print(
        f"ratio {statistics.median(ratios):.3f}; {len(own)} answers paid, {twice} of them twice; "
        f"{stats['refused']} calls refused, limit found {model.concurrency}"
    )
    result = {
        "bench": "endpoint_eval",
        "ratio": round(statistics.median(ratios), 4),
        "ratios": [round(ratio, 4) for ratio in ratios],
        "items_per_second": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "cpu_ms_per_item": round(statistics.median(cpu), 3),
        "answers": len(own),
        "paid_twice": twice,
        "refused": stats["refused"],
        "limit_found": model.concurrency,
        "items": options.items,
        "latency": options.latency,
        "capacity": options.capacity,
        "faults": options.faults,
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
