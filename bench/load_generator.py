"""The bare load generator that the clients of endpoints are held against: sockets, and nothing else.

    python bench/load_generator.py http://127.0.0.1:PORT ROWS AT_ONCE CALLS_A_ROW [MAX_TOKENS]

`AT_ONCE` keep-alive connections on bare asyncio protocols, each with one call under way at any time: told how
many, it need not find out. A row is so many calls one after another, each with the answer before it in its
prompt (draft, grades, rewrite, grades). A 429 is sent again after its Retry-After, and whatever else fails at
once. Nothing is kept, checked or counted. Prints one JSON line: seconds, rows, CPU seconds of this process.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

LESSON = (
    "Write a textbook passage for curious readers, in a friendly tone, about question {} of a list: what "
    "it is, why it matters, one worked example. Between 100 and 250 words. Write only the passage."
)
GRADE = "Grade the text below from 1 to 5. Answer with one JSON object.\n\n{}"
REVISE = "Here is what a careful reader says of your text: {}\n\nWrite the text again. Write only the text."


def prompts(row: int, calls: int, answers: list[str]) -> list[dict[str, str]]:
    """The messages of a row's next call."""
    turns = [{"role": "user", "content": LESSON.format(row)}]
    if len(answers) % 2:
        return [{"role": "user", "content": GRADE.format(answers[-1])}]
    if answers:
        turns.append({"role": "assistant", "content": answers[-2]})
        turns.append({"role": "user", "content": REVISE.format(answers[-1])})
    return turns


class Worker(asyncio.Protocol):
    """One connection: sends a row's call, reads the answer, sends the next."""

    def __init__(self, load: "Load") -> None:
        self.load, self.row = load, -1
        self.begin()

    def begin(self) -> None:
        """The next row, or the end."""
        self.answers: list[str] = []
        self.row = next(self.load.rows, -1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.data = b""
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if self.row >= 0:
            self.load.connect(self)

    def send(self) -> None:
        if self.row < 0:
            self.transport.close()
            self.load.ended()
            return
        asked = {"model": "m", "messages": prompts(self.row, self.load.calls, self.answers)}
        body = json.dumps(asked | {"temperature": 1.0, "max_tokens": self.load.max_tokens}).encode()
        self.transport.write(self.load.head % len(body) + body)

    def data_received(self, data: bytes) -> None:
        self.data += data
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.data[:end].lower()
        size = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(self.data) < end + 4 + size:
            return
        body, self.data = self.data[end + 4 :], b""
        status = head.split(b" ", 2)[1]
        if status == b"429":
            wait = float(head.partition(b"retry-after:")[2].split(b"\r\n", 1)[0] or 0)
            asyncio.get_running_loop().call_later(wait, self.send)
            return
        if status == b"200":
            try:
                self.answers.append(json.loads(body)["choices"][0]["message"]["content"])
            except ValueError:
                pass
            else:
                if len(self.answers) == self.load.calls:
                    self.load.done += 1
                    self.begin()
        self.send()


class Load:
    def __init__(self, url: str, rows: int, at_once: int, calls: int, max_tokens: int = 512) -> None:
        place = urlsplit(url)
        self.host, self.port = place.hostname, place.port
        self.rows: Iterator[int] = iter(range(rows))
        self.at_once, self.calls, self.max_tokens, self.done = at_once, calls, max_tokens, 0
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {place.netloc}\r\naccept: application/json\r\n"
        self.head = head.encode() + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.connecting: set[asyncio.Task[Any]] = set()

    def connect(self, worker: Worker) -> None:
        made = asyncio.get_running_loop().create_connection(lambda: worker, self.host, self.port)
        task = asyncio.ensure_future(made)
        self.connecting.add(task)
        task.add_done_callback(self.connecting.discard)

    def ended(self) -> None:
        self.left -= 1
        if not self.left:
            self.over.set()

    async def run(self) -> None:
        self.over, self.left = asyncio.Event(), self.at_once
        for _ in range(self.at_once):
            self.connect(Worker(self))
        await self.over.wait()


def main() -> None:
    url, *numbers = sys.argv[1:]
    load = Load(url, *map(int, numbers))
    begun = time.perf_counter()
    asyncio.run(load.run())
    seconds = time.perf_counter() - begun
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"seconds": seconds, "rows": load.done, "cpu": used.ru_utime + used.ru_stime}))


if __name__ == "__main__":
    main()
