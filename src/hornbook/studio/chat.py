"""The room Chat: any model, two side by side, token by token, with passages of the user's documents."""

import asyncio
import json
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Form, Request, UploadFile
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from hornbook.data.retrieval import Found, with_passages
from hornbook.errors import HornbookError
from hornbook.infer.scheduler import Job
from hornbook.infer.text import Pieces, whole_utf8
from hornbook.lm import base as lm
from hornbook.serve.chat import continues, prompt_ids
from hornbook.studio import pages
from hornbook.studio.models import OpenModel
from hornbook.studio.pages import studio_of
from hornbook.studio.places import Full, Place

_LOOK_SECONDS = 0.25
"""How often a waiting answer looks whether its reader is still there."""

_TOP = 5
"""Alternatives shown for each token."""

Event = tuple[str, Any]
Gone = Callable[[], Awaitable[bool]]


class Turn(BaseModel):
    """One message of the conversation so far."""

    role: Literal["user", "assistant"]
    content: str = Field(max_length=200_000)


class Ask(BaseModel):
    """What the page sends."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=2000)
    messages: list[Turn] = Field(min_length=1, max_length=400)
    system: str = Field(default="", max_length=50_000)
    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 0
    repetition_penalty: float = 1.0
    max_tokens: int = Field(default=200, le=100_000)
    seed: int | None = None
    passages: int = Field(default=0, ge=0, le=10)

    def sampling(self) -> lm.Sampling:
        """The settings; refuses those that make no sense, in words."""
        return lm.Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
            max_tokens=self.max_tokens,
            seed=self.seed,
            logprobs=_TOP,
        )


def chat(request: Request, model: str = "") -> Response:
    """The page."""
    studio = studio_of(request)
    offers = studio.models.offers()
    if model and model not in {offer.spec for offer in offers}:
        offers = [type(offers[0])(name=model, spec=model), *offers]
    return pages.render(request, "chat.html", offers=offers, model=model, documents=studio.documents.names())


async def stream(request: Request, ask: Ask) -> Response:
    """The answer as server-sent events: queued, opening, passages, tokens, done or error."""
    ask.sampling()  # a wrong setting is said before a place is taken

    async def body() -> AsyncIterator[bytes]:
        async for name, data in _events(request, ask):
            yield f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(body(), media_type="text/event-stream", headers=headers)


async def _events(request: Request, ask: Ask) -> AsyncIterator[Event]:
    studio = studio_of(request)
    try:
        async with studio.places.enter() as place:
            async for event in _queued(place, request.is_disconnected, studio.places.limit):
                yield event
            if not place.taken:
                return
            async for event in _answer(request, ask):
                yield event
    except Full as error:
        yield "error", {"message": str(error), "full": True}
    except HornbookError as error:
        yield "error", {"message": str(error)}


async def _queued(place: Place, gone: Gone, limit: int) -> AsyncIterator[Event]:
    """Tells the place in the queue until it is free or the reader has left."""
    told = 0
    while not place.taken:
        if place.number != told:
            told = place.number
            where = "You are next." if told == 1 else f"You are number {told} in the queue."
            yield (
                "queued",
                {
                    "place": told,
                    "message": f"All {limit} places are taken. {where} The answer begins by itself.",
                },
            )
        await place.wait(_LOOK_SECONDS)
        if await gone():
            return


async def _answer(request: Request, ask: Ask) -> AsyncIterator[Event]:
    studio = studio_of(request)
    messages = [lm.Message("system", ask.system)] if ask.system.strip() else []
    messages += [lm.Message(turn.role, turn.content) for turn in ask.messages]
    if ask.passages:
        question = ask.messages[-1].content
        found = await asyncio.to_thread(studio.documents.search, question, ask.passages)
        yield "passages", [_shown(one) for one in found]
        messages[-1] = lm.Message("user", with_passages(question, found))
    yield "opening", {"model": ask.model}
    opened = await asyncio.to_thread(studio.models.acquire, ask.model)
    try:
        if opened.local is not None:
            answer = _local(opened, messages, ask.sampling(), request.is_disconnected)
        else:
            answer = _remote(opened, messages, ask.sampling(), request.is_disconnected)
        async for event in answer:
            yield event
    finally:
        studio.models.release(opened)


def _shown(one: Found) -> dict[str, Any]:
    return {
        "source": one.passage.source,
        "start": one.passage.start,
        "text": one.passage.text,
        "score": one.score,
    }


async def _local(
    opened: OpenModel, messages: list[lm.Message], sampling: lm.Sampling, gone: Gone
) -> AsyncIterator[Event]:
    """From this machine's engine: every token with its probability and what else might have come."""
    model, service = opened.local, opened.service
    assert model is not None
    assert service is not None
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def on_change() -> None:
        with suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(news.set)

    forgotten: list[str] = []
    prompt = await asyncio.to_thread(prompt_ids, model, messages, sampling, forgotten.append)
    if forgotten:
        yield "note", {"message": forgotten[0]}
    if continues(model):
        yield "note", {"message": "This model was not trained on conversations: it continues your text."}
    began = time.perf_counter()
    first: float | None = None
    pieces = model.engine.pieces
    assert pieces is not None
    ticket = service.submit(prompt, sampling, on_change=on_change, every_token=True)
    try:
        answer = ticket.answers[0]
        texts = TokenTexts(pieces, answer)
        looked = time.perf_counter()
        while True:
            ended = ticket.done
            tokens = texts.fresh(last=ended)
            if tokens:
                first = first if first is not None else time.perf_counter() - began
                yield "tokens", tokens
            if ended:
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), _LOOK_SECONDS)
            news.clear()
            if time.perf_counter() - looked >= _LOOK_SECONDS:
                looked = time.perf_counter()
                if await gone():
                    return
        if ticket.error is not None:
            raise HornbookError(f"The engine failed: {type(ticket.error).__name__}: {ticket.error}")
        seconds = time.perf_counter() - began
        yield "done", _summary(answer.reason or "cancelled", len(answer.tokens), first, seconds, len(prompt))
    finally:
        ticket.cancel()


async def _remote(
    opened: OpenModel, messages: list[lm.Message], sampling: lm.Sampling, gone: Gone
) -> AsyncIterator[Event]:
    """From an endpoint, read by a thread of its own; it tells no probabilities while it streams."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Event] = asyncio.Queue()
    left = threading.Event()
    request = lm.Request(messages=tuple(messages), sampling=sampling)
    stream: Callable[[lm.Request], Any] = getattr(opened.model, "stream")  # noqa: B009

    def put(event: Event) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(queue.put_nowait, event)

    def read() -> None:
        try:
            for piece in stream(request):
                if left.is_set():
                    return
                put(("tokens", [{"text": piece}]))
            put(("done", None))
        except HornbookError as error:
            put(("error", {"message": str(error)}))
        except Exception as error:  # a thread must not end in silence
            put(("error", {"message": f"The endpoint failed: {type(error).__name__}: {error}"}))

    began, first, count = time.perf_counter(), None, 0
    threading.Thread(target=read, name="hornbook-endpoint", daemon=True).start()
    try:
        while True:
            try:
                event = await asyncio.wait_for(queue.get(), _LOOK_SECONDS)
            except TimeoutError:
                if await gone():
                    return
                continue
            if event[0] == "tokens":
                count += 1
                first = first if first is not None else time.perf_counter() - began
            if event[0] == "done":
                yield "done", _summary("stop", None, first, time.perf_counter() - began, None)
                return
            yield event
            if event[0] == "error":
                return
    finally:
        left.set()


def _summary(
    reason: str, tokens: int | None, first: float | None, seconds: float, prompt: int | None
) -> dict[str, Any]:
    return {
        "reason": reason,
        "tokens": tokens,
        "prompt_tokens": prompt,
        "first_token_seconds": first,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds if tokens else None,
    }


@dataclass
class TokenTexts:
    """The texts of an answer's tokens as they come; tokens that share a character are one piece."""

    pieces: Pieces
    answer: Job
    sent: int = 0

    def fresh(self, *, last: bool) -> list[dict[str, Any]]:
        """Pieces that are whole now: text, probability, likeliest tokens with theirs."""
        found: list[dict[str, Any]] = []
        tokens = self.answer.tokens
        # the engine's thread appends the token first and its numbers after it
        known = len(tokens) if last else min(len(tokens), len(self.answer.logprobs), len(self.answer.top))
        held, begin = b"", self.sent
        for i in range(self.sent, known):
            held += self.pieces[tokens[i]]
            if whole_utf8(held, len(held)) == len(held) or (last and i == known - 1) or i - begin >= 3:
                found.append(self._piece(held, begin, i))
                held, begin = b"", i + 1
        self.sent = begin
        return found

    def _piece(self, text: bytes, begin: int, end: int) -> dict[str, Any]:
        logprobs = self.answer.logprobs[begin : end + 1]
        top = self.answer.top[begin] if begin < len(self.answer.top) else []
        return {
            "text": text.decode("utf-8", errors="replace"),
            "p": round(math.exp(sum(logprobs)), 5) if logprobs else None,
            "top": [
                [self.pieces[i].decode("utf-8", errors="replace"), round(math.exp(value), 5)]
                for i, value in top
            ],
        }


def busy(request: Request) -> Response:
    """How many answers are being written and how many wait."""
    places = studio_of(request).places
    return JSONResponse({"taken": places.taken, "waiting": places.waiting, "limit": places.limit})


async def add_documents(request: Request, files: list[UploadFile]) -> Response:
    """Keeps the user's documents for the search."""
    documents = studio_of(request).documents
    for file in files:
        content = await file.read()
        await asyncio.to_thread(documents.add, file.filename or "", content)
    return RedirectResponse("/chat#documents", status_code=303)


def remove_document(request: Request, name: Annotated[str, Form(max_length=200)]) -> Response:
    """Forgets one."""
    studio_of(request).documents.remove(name)
    return RedirectResponse("/chat#documents", status_code=303)


ROUTES = (
    ("GET", "/chat", chat),
    ("GET", "/chat/busy.json", busy),
    ("POST", "/chat/stream", stream),
    ("POST", "/chat/documents", add_documents),
    ("POST", "/chat/documents/remove", remove_document),
)
