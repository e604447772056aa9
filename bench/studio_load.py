"""How fast the studio's pages open on large runs, and how evenly 50 readers of one model are served.

    python bench/studio_load.py --model CHECKPOINT [--json bench/results/studio_load.json]

Pages: a corpus of 100,000 rows and a campaign of 1,000 conversations (10,000 questions), each page opened
three times over a socket. Load: 50 streams at once from a real model, then one more that waits; one reader
leaves. Wall clock; best run on a machine left alone.
"""

import argparse
import asyncio
import json
import platform
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from hornbook.data.corpus import CorpusWriter
from hornbook.lab.machine import cpu_name, usable_cores
from hornbook.redteam.tasks import Attempt
from hornbook.studio.app import create_app
from hornbook.studio.settings import StudioSettings

ROWS, CONVERSATIONS, READERS, TOKENS = 100_000, 1_000, 50, 120


def make_home(home: Path) -> None:
    """A corpus and a campaign of the sizes asked for."""
    with CorpusWriter(home / "steps" / "large-0", "documents", lineage={}) as writer:
        for at in range(0, ROWS, 5000):
            writer.write_rows(
                [
                    {
                        "id": f"d{i}",
                        "text": f"Row {i}. " + "A sentence of some words that are read. " * 12,
                        "source": f"s{i % 7}",
                        "meta": json.dumps({"plot": i % 9, "verb": i % 13}),
                    }
                    for i in range(at, at + 5000)
                ]
            )
    folder = home / "steps" / "red-team-0" / "crescendo"
    folder.mkdir(parents=True)
    (folder / "campaign.json").write_text("{}")
    with open(folder / "transcripts.jsonl", "w") as file:
        for i in range(CONVERSATIONS):
            for number in range(1, 11):
                attempt = Attempt(
                    number=number, round=number, question="A question? " * 8, reply="An answer. " * 40
                )
                file.write(json.dumps({"conversation": f"c#{i}", "attempt": attempt.as_json()}) + "\n")


def pages(client: httpx.Client) -> dict[str, list[float]]:
    """Seconds to open each page: the first time and twice more."""
    corpus = "/data/view?corpus=steps/large-0"
    paths = [
        *("/data", corpus, f"{corpus}&offset=99980", f"{corpus}&q=Row%2099999", "/redteam"),
        *("/redteam/campaign?name=red-team-0/crescendo&page=19", "/data/coverage?corpus=steps/large-0"),
        "/redteam/conversation?name=red-team-0/crescendo&id=c%23999",
    ]
    found: dict[str, list[float]] = {}
    for path in paths:
        for _ in range(3):
            begun = time.perf_counter()
            assert client.get(path).status_code == 200, path
            found.setdefault(path, []).append(round(time.perf_counter() - begun, 4))
    return found


async def load(address: str, model: str) -> dict[str, Any]:
    """Tokens a second of each of 50 readers, and how soon the 51st begins when one leaves."""
    body = {
        "model": model, "messages": [{"role": "user", "content": "Tell me a story about a kite."}],
        "temperature": 1.0, "max_tokens": TOKENS,
    }  # fmt: skip
    async with httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=100)) as client:

        async def read(**more: Any) -> dict[str, Any]:
            begun, first, count, names = time.perf_counter(), 0.0, 0, []
            url = f"{address}/chat/stream"
            async with client.stream("POST", url, json={**body, **more}) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("event: "):
                        names.append(line[7:])
                    elif line.startswith("data: ") and names[-1] == "tokens":
                        first = first or time.perf_counter() - begun
                        count += len(json.loads(line[6:]))
            return {"first": first, "seconds": time.perf_counter() - begun, "tokens": count, "events": names}

        await read()  # opens the model
        alone = await read()
        together = await asyncio.gather(*(read() for _ in range(READERS)))
        rates = [one["tokens"] / one["seconds"] for one in together]
        long = [asyncio.create_task(read(max_tokens=400, temperature=5.0)) for _ in range(READERS)]
        while (await client.get(f"{address}/chat/busy.json")).json()["taken"] < READERS:
            await asyncio.sleep(0.01)
        late = asyncio.create_task(read(max_tokens=5))
        while (await client.get(f"{address}/chat/busy.json")).json()["waiting"] < 1:
            await asyncio.sleep(0.01)
        left = time.perf_counter()
        long[0].cancel()
        while (await client.get(f"{address}/chat/busy.json")).json()["waiting"]:
            await asyncio.sleep(0.005)
        freed = time.perf_counter() - left
        queued = "queued" in (await late)["events"]
        for task in long:
            task.cancel()
        await asyncio.gather(*long, return_exceptions=True)
    firsts = [one["first"] for one in together]
    drawn, longest = sum(one["tokens"] for one in together), max(one["seconds"] for one in together)
    return {
        "alone_tokens_per_second": round(alone["tokens"] / alone["seconds"], 1),
        "readers": READERS,
        "each_least": round(min(rates), 2),
        "each_median": round(statistics.median(rates), 2),
        "each_most": round(max(rates), 2),
        "together_tokens_per_second": round(drawn / longest, 1),
        "first_token_seconds_median": round(statistics.median(firsts), 3),
        "first_token_seconds_most": round(max(firsts), 3),
        "place_free_after_seconds": round(freed, 3),
        "next_was_queued": queued,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        make_home(home)
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen(256)
        app = create_app(StudioSettings(home=home, streams=READERS))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with httpx.Client(base_url=address, timeout=None) as client:
            client.get("/papers")  # recipes are loaded once, at the start
            opened = pages(client)
        result = {
            "machine": {"cpu": cpu_name(), "cores": usable_cores(), "python": platform.python_version()},
            "rows": ROWS,
            "conversations": CONVERSATIONS,
            "page_seconds": opened,
            "load": asyncio.run(load(address, args.model)),
        }
        server.should_exit = True
        thread.join(10)
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
