"""A small HTTP server of the shape of an images endpoint and a model that sees, which fails on purpose."""

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class MockStudio:
    """`draw(prompt)` gives the bytes of a picture, `look(picture, question)` the answer in words.

    fails: prompts or questions that get status 500 while they are in it. knows_format: whether
    `response_format` is known. asked counts what arrived, answered what was answered.
    """

    def __init__(
        self,
        draw: Callable[[str], bytes] | None = None,
        look: Callable[[bytes, str], str] | None = None,
        *,
        knows_format: bool = True,
    ) -> None:
        self.draw, self.look, self.knows_format = draw, look, knows_format
        self.fails: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict] = []
        studio = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, answer = studio.answer(self.path, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256  # calls come many at once

        self._server = Server(("127.0.0.1", 0), Handler)

    def answer(self, path: str, body: dict) -> tuple[int, dict]:
        self.bodies.append(body)
        if path == "/v1/images/generations" and self.draw:
            if not self.knows_format and "response_format" in body:
                return 400, {"error": {"message": "unknown field response_format"}}
            return self._say(body["prompt"], lambda: self._drawn(body["prompt"]))
        if path == "/v1/chat/completions" and self.look:
            text, *pictures = body["messages"][-1]["content"]
            shown = pictures[0]["image_url"]["url"].partition("base64,")[2]
            return self._say(
                text["text"], lambda: self._said(self.look(base64.b64decode(shown), text["text"]))
            )
        return 404, {"error": {"message": f"no route {path}"}}

    def _say(self, what: str, make: Callable[[], dict]) -> tuple[int, dict]:
        self.asked[what] += 1
        if any(part in what for part in self.fails):
            return 500, {"error": {"message": "out of memory"}}
        self.answered[what] += 1
        return 200, make()

    def _drawn(self, prompt: str) -> dict:
        return {"created": 1, "data": [{"b64_json": base64.b64encode(self.draw(prompt)).decode()}]}

    @staticmethod
    def _said(text: str) -> dict:
        return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "MockStudio":
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
