"""A teacher over HTTP that writes the stories it is asked for, and behaves badly when told to."""

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

from hornbook.synth.stories import tell
from hornbook.synth.world import plan_story


def story_for(prompt: str) -> str:
    """A story with the three words a prompt asks for."""
    return told(*re.findall(r'(?:verb|noun|adjective) "(\w+)"', prompt))


def told(verb: str, noun: str, adjective: str) -> str:
    """A story with these words."""
    random = Random(f"{verb} {noun} {adjective}")
    return tell(plan_story(random, verb=verb, noun=noun, adjective=adjective, features=()), Random(1)).text


class Teacher(ThreadingHTTPServer):
    """An OpenAI-compatible server. `mode` says how it behaves after `good` answers."""

    daemon_threads = True

    def __init__(self) -> None:
        self.mode, self.good = "good", 0
        self.answered: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.let_go = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Teacher

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        server = self.server
        with server.lock:
            bad = server.mode != "good" and server.answered.total() >= server.good
        if bad and server.mode == "hang":
            server.let_go.wait(20)
            self.connection.close()
            return
        if bad and server.mode in ("error", "garbled"):
            error = b'{"error": {"message": "out of memory"}}'
            self._send(*((500, error) if server.mode == "error" else (200, b'{"choices": [{"mess')))
            return
        message = {"role": "assistant", "content": story_for(prompt)}
        if bad and server.mode == "refuse":
            message = {"role": "assistant", "content": None, "refusal": "I would rather not."}
        with server.lock:
            server.answered[prompt] += 1
        usage = {
            "prompt_tokens": len(prompt.split()),
            "completion_tokens": len((message["content"] or "").split()),
        }
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._send(200, json.dumps({"choices": [choice], "usage": usage}).encode())

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Iterator[Teacher]:
    """The server, in a thread, until the block ends."""
    teacher = Teacher()
    thread = threading.Thread(target=teacher.serve_forever, daemon=True)
    thread.start()
    try:
        yield teacher
    finally:
        teacher.let_go.set()
        teacher.shutdown()
        teacher.server_close()
