"""A light OpenAI-compatible endpoint in a process of its own, for benches of clients.

    python bench/mock_endpoint.py '{"latency": 0.5, "capacity": 64}'   # prints its port, ends with its stdin

It speaks HTTP on a bare asyncio protocol (0.15 ms of CPU a call), so that neither side of a comparison waits
for it. Each call takes between half and one and a half times `latency` seconds; which is a matter of what is
asked, the same for every client. Calls beyond `capacity` get 429 with Retry-After; shares of first tries get
a 429, a 503, a dropped socket or half a JSON. It writes prose of 130 words, another for every prompt, or
grades where a prompt asks for one JSON object. GET /stats tells what was received, paid (answered whole) and
paid twice, and the seconds from the first call to the last answer; GET /mark remembers what has been paid so
far: `marked_twice` counts what of it is paid again.
"""

import asyncio
import hashlib
import json
import random
import subprocess
import sys
import urllib.request
from collections import Counter
from typing import Any, Self

SETTINGS = {"latency": 0.5, "capacity": 1_000_000, "retry_after": 0.1, "reply": ""}
SETTINGS |= {"rate_limited": 0.0, "server_errors": 0.0, "dropped": 0.0, "truncated_json": 0.0}
FAULTS = ("rate_limited", "server_errors", "dropped", "truncated_json")
GRADES = '{"correct": 4, "clear": 4, "complete": 4, "lively": 4, "advice": "Give one more example."}'


def sentences(count: int = 20_000) -> list[str]:
    """Plain English enough for a checker, no two alike."""
    rng = random.Random(1)
    nouns = ("water", "light", "seed", "river", "clock", "tree", "stone", "wind", "leaf", "glass", "bridge")
    verbs = ("holds", "moves", "feeds", "turns", "warms", "lifts", "guides", "shapes", "follows", "reaches")
    kinds = ("small", "bright", "heavy", "quiet", "early", "warm", "smooth", "narrow", "common", "simple")
    made = []
    for _ in range(count):
        a, b, c = rng.sample(nouns, 3)
        kind, verb = rng.choice(kinds), rng.choice(verbs)
        number = rng.randrange(2, 99_999)
        made.append(f"For example, the {kind} {a} {verb} the {b} in {number} ways, and it is with the {c}.")
    return made


class Server:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = SETTINGS | settings
        self.sentences = sentences()
        self.received: Counter[bytes] = Counter()
        self.paid: Counter[bytes] = Counter()
        self.marked: dict[bytes, int] = {}
        self.busy = self.busiest = self.refused = 0
        self.first = self.last = 0.0  # when the first call came and the last answer went

    def stats(self) -> dict[str, Any]:
        return {
            "received": self.received.total(),
            "paid": self.paid.total(),
            "paid_twice": self.paid.total() - len(self.paid),
            "marked": sum(self.marked.values()),
            "marked_twice": sum(self.paid[key] - count for key, count in self.marked.items()),
            "refused": self.refused,
            "busiest": self.busiest,
            "seconds": self.last - self.first,
        }


class Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server, self.data = server, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self.data += data
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.data[:end].lower()
        _, found, after = head.partition(b"content-length:")
        size = int(after.split(b"\r\n", 1)[0]) if found else 0
        if len(self.data) < end + 4 + size:
            return
        body, self.data = self.data[end + 4 : end + 4 + size], b""
        if head.startswith(b"get"):
            self.look(head.split(b" ", 2)[1])
        else:
            self.answer(json.loads(body))

    def look(self, path: bytes) -> None:
        if path == b"/mark":
            self.server.marked = dict(self.server.paid)
        self.send(200, json.dumps(self.server.stats()).encode())

    def answer(self, asked: dict[str, Any]) -> None:
        server, told = self.server, self.server.settings
        asked["messages"] = asked.get("messages") or [{"content": ""}]  # some try their luck with none first
        key = hashlib.sha256(json.dumps(asked["messages"]).encode()).digest()
        server.received[key] += 1
        server.first = server.first or self.loop.time()
        u = int.from_bytes(key[:4], "big") / 2**32
        fault = ""
        if server.received[key] == 1:
            at = 0.0
            for name in FAULTS:
                if at <= u < at + told[name]:
                    fault = name
                at += told[name]
        if server.busy >= told["capacity"] or fault == "rate_limited":
            server.refused += 1
            self.send(
                429, b'{"error": {"message": "too many"}}', b"retry-after: %g\r\n" % told["retry_after"]
            )
            return
        server.busy += 1
        server.busiest = max(server.busiest, server.busy)
        seconds = told["latency"] * (0.5 + int.from_bytes(key[4:8], "big") / 2**32)
        self.loop.call_later(seconds, self.finish, key, asked, fault)

    def finish(self, key: bytes, asked: dict[str, Any], fault: str) -> None:
        server = self.server
        server.busy -= 1
        if fault == "server_errors":
            self.send(503, b"<html>bad gateway</html>")
            return
        prompt = asked["messages"][-1]["content"]
        if not isinstance(prompt, str):
            prompt = "".join(part.get("text", "") for part in prompt)
        text = server.settings["reply"]
        if not text and "Answer with one JSON object" in prompt:
            text = GRADES
        elif not text:
            own = server.sentences
            text = " ".join(own[int.from_bytes(key[i : i + 2], "big") % len(own)] for i in range(8, 24, 2))
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        counted = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(text) // 4}
        counted["total_tokens"] = sum(counted.values())
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": asked["model"]}
        data = json.dumps(reply | {"choices": [choice], "usage": counted}).encode()
        if fault == "dropped":
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data))
            self.transport.write(data[: len(data) // 2])
            self.transport.close()
        elif fault == "truncated_json":
            self.send(200, data[: len(data) // 2])
        else:
            server.paid[key] += 1
            server.last = self.loop.time()
            self.send(200, data)

    def send(self, status: int, data: bytes, extra: bytes = b"") -> None:
        head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        self.transport.write(head % (status, len(data)) + extra + b"\r\n" + data)


class Endpoint:
    """The mock from a bench's side. A context manager; `base` is its address without /v1."""

    def __init__(self, **settings: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.base = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)

    def stats(self) -> dict[str, Any]:
        return self._get("/stats")

    def mark(self) -> dict[str, Any]:
        return self._get("/mark")

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.base + path) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


async def serve() -> None:
    server = Server(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=1024)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    listener.close()


if __name__ == "__main__":
    asyncio.run(serve())
