"""A real HTTP server that speaks the OpenAI wire and fails on purpose.

Run as a program it prints its port and serves until its standard input closes:

    python tests/lm/mock_openai.py '{"latency": 0.05, "rate_limited": 0.1}'

What happens to a call is drawn from a hash of (seed, prompt, how often this
prompt came), so a run repeats. GET /stats tells what was answered; POST /set
changes the settings.
"""

import asyncio
import hashlib
import json
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Settings:
    """Shares of calls in [0, 1] that suffer each fault; seconds; `capacity` calls at once, then 429."""

    latency: float = 0.0
    capacity: int = 1_000_000
    retry_after: float | None = None
    rate_limited: float = 0.0
    server_errors: float = 0.0
    dropped: float = 0.0
    truncated_json: float = 0.0
    garbage: float = 0.0
    hang: float = 0.0
    only_first: bool = True  # the second try of a prompt is spared
    knows_schema: bool = True
    status: int = 200  # anything else: every call gets it
    reply: str = ""  # the answer; "" echoes the last message
    then: str = ""  # the answer from the second turn on (corrections), when set
    finish: str = "stop"
    corrupt_stream: bool = False
    batch_looks: int = 1  # a batch is done at this look at it
    batch_errors: float = 0.0  # share of a batch's rows that come back as errors
    batch_lost: bool = False  # the answer to the making of a batch is lost on the way
    batch_status: str = "completed"
    seed: int = 0


@dataclass
class Server:
    settings: Settings = field(default_factory=Settings)
    answered: Counter = field(default_factory=Counter)
    received: Counter = field(default_factory=Counter)
    bodies: list = field(default_factory=list)
    headers: list = field(default_factory=list)
    busy: int = 0
    busiest: int = 0
    refused: int = 0
    keep_bodies: bool = True
    files: dict = field(default_factory=dict)
    batches: dict = field(default_factory=dict)
    rate_headers: bytes = b""

    def fault(self, prompt: str) -> str | None:
        nth = self.received[prompt]
        if self.settings.only_first and nth > 1:
            return None
        digest = hashlib.sha256(f"{self.settings.seed}|{prompt}|{nth}".encode()).digest()
        u = int.from_bytes(digest[:8], "big") / 2**64
        for name in ("rate_limited", "server_errors", "dropped", "truncated_json", "garbage", "hang"):
            share = getattr(self.settings, name)
            if u < share:
                return name
            u -= share
        return None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")
                headers = {
                    k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = first.split(" ")
                if path.startswith(("/v1/files", "/v1/batches")):
                    alive = await self.batch(method, path, body, writer)
                else:
                    alive = await self.answer(path, headers, body, writer)
                if not alive:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def batch(self, method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Files and batches, as OpenAI's provider has them."""
        if method == "POST" and path == "/v1/files":
            name = f"file-{len(self.files)}"
            start = body.index(b"\r\n\r\n", body.index(b'name="file"')) + 4
            self.files[name] = body[start : body.rindex(b"\r\n--")]
            return await send(writer, 200, json.dumps({"id": name}).encode())
        if path.endswith("/content"):
            return await send(writer, 200, self.files[path.split("/")[3]])
        if method == "POST":
            asked = json.loads(body)
            name = f"batch-{len(self.batches)}"
            made = {"id": name, "status": "in_progress", "looks": 0, **asked}
            self.batches[name] = made
            if self.settings.batch_lost:
                return False
            return await send(writer, 200, json.dumps(made).encode())
        if path.startswith("/v1/batches/"):
            found = self.batches[path.rsplit("/", 1)[1]]
            found["looks"] += 1
            if found["looks"] >= self.settings.batch_looks and "output_file_id" not in found:
                self.finish_batch(found)
            return await send(writer, 200, json.dumps(found).encode())
        return await send(writer, 200, json.dumps({"data": list(self.batches.values())}).encode())

    def finish_batch(self, batch: dict) -> None:
        good, bad = [], []
        for line in self.files[batch["input_file_id"]].splitlines():
            row = json.loads(line)
            prompt = row["body"]["messages"][-1]["content"]
            u = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64
            if u < self.settings.batch_errors:
                answer = {"status_code": 500, "body": {"error": {"message": "told to fail"}}}
                bad.append({"id": "x", "custom_id": row["custom_id"], "response": answer})
                continue
            self.received[prompt] += 1
            self.answered[prompt] += 1
            text = self.settings.reply or f"echo: {prompt}"
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = counted(prompt, text)
            answer = {"status_code": 200, "body": {"id": "x", "choices": [choice], "usage": usage}}
            good.append({"id": "x", "custom_id": row["custom_id"], "response": answer})
        for name, rows in (("output_file_id", good), ("error_file_id", bad)):
            batch[name] = f"{batch['id']}-{name}"
            self.files[batch[name]] = "".join(json.dumps(row) + "\n" for row in reversed(rows)).encode()
        batch["status"] = self.settings.batch_status

    async def answer(self, path: str, headers: dict, body: bytes, writer: asyncio.StreamWriter) -> bool:
        if path == "/stats":
            stats = {
                "answered": dict(self.answered),
                "received": dict(self.received),
                "busiest": self.busiest,
                "refused": self.refused,
                "batches": len(self.batches),
            }
            return await send(writer, 200, json.dumps(stats).encode())
        if path == "/set":
            self.settings = replace(self.settings, **json.loads(body))
            return await send(writer, 200, b"{}")
        if not path.endswith("completions"):
            return await send(writer, 404, error("no such route"))
        asked = json.loads(body)
        if self.keep_bodies:
            self.bodies.append(asked)
            self.headers.append(headers)
        messages = asked.get("messages") or [{"content": str(asked.get("prompt"))}]
        prompt = messages[-1]["content"]
        if not isinstance(prompt, str):  # a list of parts
            prompt = "".join(part.get("text", "") for part in prompt)
        self.received[prompt] += 1
        s = self.settings
        if s.status != 200:
            return await send(
                writer, s.status, error("told to fail; your key was " + headers.get("authorization", ""))
            )
        if not s.knows_schema and "response_format" in asked:
            return await send(writer, 400, error("unknown field response_format"))
        if self.busy >= s.capacity:
            self.refused += 1
            return await send(writer, 429, error("too many"), retry_header(s.retry_after))
        fault = self.fault(prompt)
        if fault == "rate_limited":
            self.refused += 1
            return await send(writer, 429, error("slow down"), retry_header(s.retry_after))
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            if s.latency:
                await asyncio.sleep(s.latency)
            if fault == "hang":
                await asyncio.sleep(3600)
        finally:
            self.busy -= 1
        if fault == "server_errors":
            return await send(writer, 503, b"<html>bad gateway</html>")
        if fault == "garbage":
            return await send(writer, 200, b"\x00\xffnot json at all")
        text = s.then if s.then and len(messages) > 1 else s.reply or f"echo: {prompt}"
        if asked.get("stream"):
            return await self.stream(text, writer)
        reply = {
            "id": "x",
            "model": asked["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "text": text,
                    "finish_reason": s.finish,
                }
            ],
            "usage": counted(prompt, text),
        }
        if "messages" not in asked:
            del reply["choices"][0]["message"]
        data = json.dumps(reply).encode()
        if fault == "dropped":
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data) + data[: len(data) // 2]
            )
            await writer.drain()
            return False
        if fault == "truncated_json":
            return await send(writer, 200, data[: len(data) // 2])
        self.answered[prompt] += 1
        return await send(writer, 200, data, self.rate_headers)

    async def stream(self, text: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        pieces = text.split(" ")
        for i, piece in enumerate(pieces):
            piece = piece if i == 0 else " " + piece
            if self.settings.corrupt_stream and i == len(pieces) // 2:
                writer.write(b'data: {"choices": [{"delta": {"con\n\n')
            chunk = {"choices": [{"delta": {"content": piece}, "finish_reason": None}]}
            writer.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        writer.write(b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
        await writer.drain()
        return False


def counted(prompt: str, text: str) -> dict:
    asked, said = len(prompt.split()), len(text.split())
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def error(text: str) -> bytes:
    return json.dumps({"error": {"message": text, "code": None}}).encode()


def retry_header(seconds: float | None) -> bytes:
    return b"" if seconds is None else b"retry-after: %g\r\n" % seconds


async def send(writer: asyncio.StreamWriter, status: int, data: bytes, extra: bytes = b"") -> bool:
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (status, len(data))
    writer.write(head + extra + b"\r\n" + data)
    await writer.drain()
    return True


class MockOpenAI:
    """The server in a thread of this process, for tests. `url` ends in /v1."""

    def __init__(self, **settings) -> None:
        self.server = Server(Settings(**settings))
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            listener = await asyncio.start_server(self.server.handle, "127.0.0.1", 0)
            self.port = listener.sockets[0].getsockname()[1]
            self._ready.set()
            await self._stop.wait()
            listener.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        asyncio.run(main())

    def __enter__(self) -> "MockOpenAI":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def set(self, **settings) -> None:
        self.server.settings = replace(self.server.settings, **settings)

    @property
    def answered(self) -> Counter:
        return self.server.answered

    @property
    def received(self) -> Counter:
        return self.server.received


def program() -> None:
    settings = Settings(**json.loads(sys.argv[1])) if len(sys.argv) > 1 else Settings()

    async def main() -> None:
        server = Server(settings, keep_bodies=False)
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        print(listener.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        listener.close()

    asyncio.run(main())


if __name__ == "__main__":
    program()
