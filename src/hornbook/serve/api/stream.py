"""Server-sent events, and noticing at once that a client has gone."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.types import Receive, Scope, Send

from hornbook.serve.api.errors import ApiError

DONE = b"data: [DONE]\n\n"


async def gone(receive: Receive) -> None:
    """Returns when the client has closed the connection (its body must have been read)."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream:
    """A response that sends each value of `events` as it comes, and closes `events` when the client goes.

    `hornbook.errors.HornbookError`s and `ApiError`s raised by `events` reach the client as a last event.
    """

    def __init__(self, events: AsyncGenerator[dict[str, Any], None]) -> None:
        self.events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        writing = asyncio.ensure_future(self._write(send))
        leaving = asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writing, leaving):
                task.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)
            await self.events.aclose()
        if not writing.cancelled() and (error := writing.exception()) is not None:
            if isinstance(error, OSError):  # the connection broke while a piece was sent
                return
            raise error

    async def _write(self, send: Send) -> None:
        try:
            async for event in self.events:
                await _send(send, b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")
        except ApiError as error:
            await _send(send, b"data: " + json.dumps(error.body()).encode() + b"\n\n")
        await _send(send, DONE)
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
