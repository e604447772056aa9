"""A small model behind the real server on a free port, in a thread of this process."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from engine_helpers import small
from openai import OpenAI

from hornbook.data.tokenizer import Tokenizer
from hornbook.infer.language_model import LocalModel
from hornbook.infer.service import Service
from hornbook.serve.api.app import ApiSettings, Served, create_api
from hornbook.serve.api.guard import Guard
from hornbook.serve.api.server import bound

TEXT = "The fox saw a red ball near the old tree. It ran home and told its mother about the ball. "


def small_model(**changes: Any) -> LocalModel:
    """Random weights, a trained tokenizer with the phi-3 template; fp32, so that batches change nothing."""
    tokenizer = Tokenizer.train([TEXT * 20], 300)
    model = small(vocab_size=tokenizer.vocab_size, tied_embeddings=True, max_position=4096, **changes)
    return LocalModel(model, tokenizer, name="fox@0", weights="fp32")


@dataclass(frozen=True)
class Running:
    """The server, what it serves, and its address."""

    model: LocalModel
    service: Service
    url: str

    def client(self, **settings: Any) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", max_retries=0, **{"api_key": "none", **settings})


@contextlib.contextmanager
def running(
    model: LocalModel,
    *,
    settings: ApiSettings | None = None,
    max_waiting: int = 256,
    token: str | None = None,
    origins: tuple[str, ...] = (),
) -> Iterator[Running]:
    service = Service(model.engine, max_waiting=max_waiting)
    api = create_api([Served(name="fox", model=model, service=service)], settings)
    app = Guard(api, host="127.0.0.1", token=token, allow_origins=origins)
    listener = bound("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield Running(model, service, f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(20)
        service.close()
        listener.close()


@contextlib.contextmanager
def slowly(service: Service, seconds: float = 0.005) -> Iterator[None]:
    """Every pass of the engine waits first: else so small a model is done before its client reads a line."""
    scheduler = service.engine.scheduler
    step = scheduler.step

    def slow() -> None:
        time.sleep(seconds)
        step()

    scheduler.step = slow  # type: ignore[method-assign]
    try:
        yield
    finally:
        scheduler.step = step  # type: ignore[method-assign]


def until(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Waits for `true()`; how long it takes is not what is tested."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()
