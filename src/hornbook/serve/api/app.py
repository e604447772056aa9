"""The application: /v1/models, /v1/chat/completions, /v1/completions, /v1/embeddings and /health.

`create_api` makes a Starlette application that others can mount; it checks requests, while who may send them
is `Guard`'s matter. Everything runs on one event loop; models draw on their `Service`'s thread.
"""

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from hornbook.errors import HornbookError
from hornbook.infer.embedding import mean_hidden
from hornbook.infer.language_model import LocalModel
from hornbook.infer.service import Busy, Service, Ticket
from hornbook.infer.text import Pieces
from hornbook.lm.base import Sampling
from hornbook.serve.api.answers import Choice, Shape, usage_of
from hornbook.serve.api.errors import ApiError, wrong_body
from hornbook.serve.api.requests import ChatRequest, CompletionRequest, EmbeddingRequest, several
from hornbook.serve.api.stream import EventStream, gone

_TEXTS = 8
"""Texts embedded in one turn of the engine."""

Body = TypeVar("Body", bound=BaseModel)
Endpoint = Callable[[Request], Coroutine[Any, Any, ASGIApp]]


@dataclass(frozen=True, kw_only=True)
class ApiSettings:
    """What one client may ask for.

    default_max_tokens: of a chat answer whose client gives no limit. body_bytes, body_seconds: of a request's
    body. samples: answers one request may ask for.
    """

    default_max_tokens: int = 512
    body_bytes: int = 4 * 2**20
    body_seconds: float = 30.0
    samples: int = 128

    def __post_init__(self) -> None:
        for name in ("default_max_tokens", "body_bytes", "body_seconds", "samples"):
            if getattr(self, name) <= 0:
                raise HornbookError(f"ApiSettings.{name} is {getattr(self, name)}; it must be above 0.")


@dataclass(kw_only=True)
class Served:
    """A model that clients can name, and the thread that answers for it."""

    name: str
    model: LocalModel
    service: Service
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def pieces(self) -> Pieces:
        """Bytes of every token."""
        pieces = self.model.engine.pieces
        assert pieces is not None  # a LocalModel has a tokenizer
        return pieces

    def as_json(self) -> dict[str, Any]:
        """The entry of /v1/models; `context_length` and `weights` are additions."""
        engine = self.model.engine
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "hornbook",
            "context_length": engine.config.max_position,
            "weights": engine.weights,
        }


def create_api(served: Sequence[Served], settings: ApiSettings | None = None) -> Starlette:
    """An application that answers for `served`. Closing their services is the caller's business.

    Mounted at a prefix it serves below it: `Mount("/api", create_api(...))` has /api/v1/models.
    """
    api = _Api(served, settings or ApiSettings())
    routes = [
        Route("/health", _answered(api.health), methods=["GET"]),
        Route("/v1/models", _answered(api.models), methods=["GET"]),
        Route("/v1/models/{name:path}", _answered(api.model), methods=["GET"]),
        Route("/v1/chat/completions", _answered(api.chat), methods=["POST"]),
        Route("/v1/completions", _answered(api.completions), methods=["POST"]),
        Route("/v1/embeddings", _answered(api.embeddings), methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _not_here, Exception: _broken})


class _Api:
    def __init__(self, served: Sequence[Served], settings: ApiSettings) -> None:
        self.served = {one.name: one for one in served}
        self.settings = settings

    async def health(self, request: Request) -> ASGIApp:
        running = sum(one.service.running for one in self.served.values())
        waiting = sum(one.service.waiting for one in self.served.values())
        return JSONResponse({"status": "ok", "running": running, "waiting": waiting})

    async def models(self, request: Request) -> ASGIApp:
        return JSONResponse({"object": "list", "data": [one.as_json() for one in self.served.values()]})

    async def model(self, request: Request) -> ASGIApp:
        return JSONResponse(self._named(request.path_params["name"]).as_json())

    async def chat(self, request: Request) -> ASGIApp:
        body = await self._read(request, ChatRequest)
        served = self._named(body.model)
        schema = body.response_format.schema_wanted()
        messages = [message.as_message().as_json() for message in body.messages]
        prompt = await asyncio.to_thread(_within, lambda: served.model.chat.encode(messages), "messages")
        sampling = body.sampling(self.settings.default_max_tokens)
        return await self._generate(request, served, body, [prompt], sampling, chat=True, schema=schema)

    async def completions(self, request: Request) -> ASGIApp:
        body = await self._read(request, CompletionRequest)
        served = self._named(body.model)
        tokenizer = served.model.tokenizer

        def encoded() -> list[list[int]]:
            given = several(body.prompt, "prompt")
            return [
                (tokenizer.encode(one) or [tokenizer.end_of_text]) if isinstance(one, str) else one
                for one in given
            ]

        prompts = await asyncio.to_thread(_within, encoded, "prompt")
        return await self._generate(request, served, body, prompts, body.sampling(), chat=False)

    async def embeddings(self, request: Request) -> ASGIApp:
        body = await self._read(request, EmbeddingRequest)
        served = self._named(body.model)
        engine = served.model.engine
        width = engine.config.hidden_size
        if body.dimensions not in (None, width):
            raise ApiError(
                400,
                f"dimensions is {body.dimensions}; the vectors of {served.name} have {width}.",
                param="dimensions",
                code="invalid_value",
            )

        def encoded() -> list[list[int]]:
            given = several(body.input, "input")
            texts = [served.model.tokenizer.encode(one) if isinstance(one, str) else one for one in given]
            for i, text in enumerate(texts):
                _fits("input", i, text, engine.config.max_position + 1)
            return texts

        texts = await asyncio.to_thread(_within, encoded, "input")
        vectors: list[Any] = [None] * len(texts)
        for begin in range(0, len(texts), _TEXTS):  # a few at a time: answers being drawn go on in between
            part = texts[begin : begin + _TEXTS]
            try:
                future = served.service.call(lambda part=part: mean_hidden(engine, part).numpy())  # type: ignore[misc]
                rows = await _unless_gone(request, asyncio.wrap_future(future))
            except Busy as busy:
                raise _busy(busy) from None
            except HornbookError as error:
                raise ApiError(400, str(error), param="input", code="invalid_value") from None
            vectors[begin : begin + _TEXTS] = rows
        if body.encoding_format == "base64":
            shown = [base64.b64encode(v.astype("<f4").tobytes()).decode() for v in vectors]
        else:
            shown = [v.tolist() for v in vectors]
        data = [{"object": "embedding", "index": i, "embedding": one} for i, one in enumerate(shown)]
        tokens = sum(map(len, texts))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": served.name, "usage": usage})

    # -- generation -----------------------------------------------------------------------------

    async def _generate(
        self,
        request: Request,
        served: Served,
        body: ChatRequest | CompletionRequest,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        chat: bool,
        schema: dict[str, Any] | None = None,
    ) -> ASGIApp:
        context = served.model.engine.config.max_position
        for i, prompt in enumerate(prompts):
            _fits("messages" if chat else "prompt", i, prompt, context)
        if body.n * len(prompts) > self.settings.samples:
            raise ApiError(
                400,
                f"The request asks for {body.n * len(prompts)} answers; at most {self.settings.samples} are "
                "given at once.",
                param="n",
                code="invalid_value",
            )
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def notify() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

        tickets: list[Ticket] = []
        try:
            for prompt in prompts:
                ticket = served.service.submit(
                    prompt,
                    sampling,
                    samples=body.n,
                    schema=schema,
                    on_change=notify,
                    every_token=body.stream,
                )
                tickets.append(ticket)
        except HornbookError as error:
            _cancel(tickets)
            if isinstance(error, Busy):
                raise _busy(error) from None
            raise ApiError(400, str(error), code="invalid_value") from None
        choices = [
            Choice(i * body.n + sample, answer, ticket, served.pieces)
            for i, ticket in enumerate(tickets)
            for sample, answer in enumerate(ticket.answers)
        ]
        shape = Shape.fresh(chat, served.name)
        read = sum(map(len, prompts))
        if body.stream:
            return EventStream(
                _events(tickets, choices, shape, changed, read, body.stream_options.include_usage)
            )
        try:
            await _unless_gone(request, _ended(tickets, changed))
        finally:
            _cancel(tickets)
        return JSONResponse(shape.whole(choices, read))

    # -- requests -------------------------------------------------------------------------------

    def _named(self, name: str) -> Served:
        served = self.served.get(name)
        if served is None:
            raise ApiError(
                404,
                f"There is no model {name!r} here; there is {', '.join(self.served) or 'none'}.",
                param="model",
                code="model_not_found",
            )
        return served

    async def _read(self, request: Request, kind: type[Body]) -> Body:
        """The request's JSON as a `kind`."""
        most = self.settings.body_bytes
        too_large = ApiError(413, f"The body is larger than {most:,} bytes.", code="body_too_large")
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said) > most:
            raise too_large
        data = bytearray()
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                async for piece in request.stream():
                    data += piece
                    if len(data) > most:
                        raise too_large
        except TimeoutError:
            seconds = self.settings.body_seconds
            raise ApiError(
                408, f"The body did not arrive within {seconds:g} seconds.", code="body_too_slow"
            ) from None
        try:
            return await asyncio.to_thread(kind.model_validate_json, bytes(data))
        except ValidationError as error:
            raise wrong_body(error) from None


async def _ended(tickets: Sequence[Ticket], changed: asyncio.Event) -> None:
    """Returns when all answers have ended; raises when the engine failed."""
    while not all(ticket.done for ticket in tickets):
        await changed.wait()
        changed.clear()
    _raise_failure(tickets)


async def _events(
    tickets: Sequence[Ticket],
    choices: Sequence[Choice],
    shape: Shape,
    changed: asyncio.Event,
    prompt_tokens: int,
    include_usage: bool,
) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of a streamed answer, as the answers grow; closing it cancels them."""
    offsets = [0] * len(choices)
    try:
        if shape.chat:
            for choice in choices:
                yield shape.opening(choice)
        while any(choice.finish_reason is None for choice in choices):
            await changed.wait()
            changed.clear()
            _raise_failure(tickets)
            for i, choice in enumerate(choices):
                if choice.finish_reason is not None:
                    continue
                text, drawn = choice.news()
                if text or drawn or choice.finish_reason is not None:
                    yield shape.chunk(choice, text, drawn, offsets[i])
                    offsets[i] += len(text)
        if include_usage:
            yield shape.usage_chunk(usage_of(prompt_tokens, choices))
    finally:
        _cancel(tickets)


def _raise_failure(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        if ticket.error is not None:
            said = str(ticket.error) if isinstance(ticket.error, HornbookError) else "see the server's output"
            raise ApiError(500, f"The engine failed: {said}.", code="engine_failed") from ticket.error


def _cancel(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        ticket.cancel()


async def _unless_gone(request: Request, work: Any) -> Any:
    """The result of `work`, given up when the client goes."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def _fits(field: str, index: int, ids: Sequence[int], context: int) -> None:
    if not ids:
        raise ApiError(400, f"{field} {index} is empty.", param=field, code="invalid_value")
    if len(ids) >= context:
        raise ApiError(
            400,
            f"{field} {index} has {len(ids)} tokens; this model's context holds {context}, answer included.",
            param=field,
            code="context_length_exceeded",
        )


def _within(encode: Callable[[], Any], field: str) -> Any:
    """What `encode` gives; what it refuses becomes an error of the field."""
    try:
        return encode()
    except HornbookError as error:
        raise ApiError(400, str(error), param=field, code="invalid_value") from None


def _busy(busy: Busy) -> ApiError:
    return ApiError(429, str(busy), code="queue_full", headers={"retry-after": "1"})


def _answered(endpoint: Endpoint) -> Endpoint:
    """`endpoint`, with its errors answered in the API's shape."""

    async def wrapped(request: Request) -> ASGIApp:
        try:
            return await endpoint(request)
        except ApiError as error:
            return error.response()
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it

    return wrapped


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: f"There is nothing at {request.url.path}.", 405: f"{request.method} is not for this path."}
    message = said.get(error.status_code, str(error.detail))
    return ApiError(error.status_code, message, headers=error.headers).response()


async def _broken(request: Request, error: Exception) -> Response:
    return ApiError(500, "The server made a mistake; its output has the details.").response()
