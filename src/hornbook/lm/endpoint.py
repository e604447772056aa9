"""Any OpenAI-compatible endpoint as a `LanguageModel`.

Finds by itself how many calls the endpoint takes at once (`concurrency.py`),
tries again what may succeed again, keeps every paid answer before looking at it
(`store.py`), counts tokens and money (`ledger.py`), and never passes a failure
off as an answer.
"""

import asyncio
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from hornbook.errors import HornbookError
from hornbook.lm.base import (
    Advances,
    Capabilities,
    Completion,
    Failure,
    Json,
    Request,
    Sampling,
    Score,
)
from hornbook.lm.concurrency import limit_for, run_blocking
from hornbook.lm.dispatch import Dispatch, EndpointLine, Job
from hornbook.lm.endpoint_settings import EndpointSettings
from hornbook.lm.ledger import Ledger, current_ledger
from hornbook.lm.parse import answer_in_schema
from hornbook.lm.pools import Pools
from hornbook.lm.store import CallStore, call_key
from hornbook.lm.transport import Transport
from hornbook.lm.wire import (
    TEXT,
    Reply,
    Wire,
    as_cached,
    corrected,
    fenced,
    key_from_environment,
    name_of,
    parse_address,
    parse_spec,
    read_piece,
    read_score,
    with_usage,
)

Mode = Literal["plain", "server", "fenced"]


class EndpointModel:
    """The model `model` at `url`.

    `api_key` comes from HORNBOOK_API_KEY (and for api.openai.com and Azure from
    OPENAI_API_KEY and AZURE_OPENAI_API_KEY) unless given; it is never stored,
    logged or shown. `revision` names the weights behind the name, when known:
    it is part of the identity and of every cache key. `extra` fields go into
    every body. `server_schema` says whether the server constrains answers to a
    JSON Schema (None: find out on first use). `can_score` says that
    /completions honours `echo` (vLLM, SGLang). `wire` is how the endpoint is
    spoken to, for those that draw instead of write (`lm/images.py`).
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        revision: str = "",
        store: CallStore | None = None,
        ledger: Ledger | None = None,
        settings: EndpointSettings | None = None,
        extra: Mapping[str, Json] | None = None,
        server_schema: bool | None = None,
        can_score: bool = False,
        wire: Wire = TEXT,
    ) -> None:
        if not model:
            raise HornbookError(f"The endpoint {url} needs the name of a model.")
        self.address = parse_address(url)
        self.model = model
        self.revision = revision
        self.store = store
        self.ledger = ledger if ledger is not None else current_ledger()
        self.settings = settings or EndpointSettings()
        self._extra = dict(extra or {})
        self._key = api_key if api_key is not None else key_from_environment(self.address.base)
        self._server_schema = server_schema
        self._can_score = can_score
        self._wire = wire
        self.limit = limit_for(self.address.base, model, most=self.settings.max_concurrency)
        self._transport = Transport(
            self.address,
            model,
            identity=self.identity,
            key=self._key,
            settings=self.settings,
            limit=self.limit,
            store=store,
            wire=wire,
        )
        self._random = random.Random()

    @classmethod
    def from_spec(cls, spec: str, **settings: Any) -> "EndpointModel":
        """From `http://localhost:11434/v1#model`; `settings` as for the class."""
        url, model = parse_spec(spec)
        return cls(url, model, **settings)

    def __repr__(self) -> str:
        return f"EndpointModel({self.identity!r})"

    @property
    def identity(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        extra = f"?{json.dumps(self._extra, sort_keys=True)}" if self._extra else ""
        return f"{self.address.base}#{self.model}{revision}{extra}"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            can_score=self._can_score,
            supports_schema=self._server_schema is True,
            logprobs=True,
            sees_pictures=True,
        )

    @property
    def concurrency(self) -> int:
        """How many calls the endpoint is given at once now."""
        return self.limit.slots

    # ------------------------------------------------------------ what users call

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        """One result for each request, in order.

        Raises `HornbookError` for what would fail every row (a wrong key, model
        or URL, a full disk) and `BudgetExceeded` for the ledger's limit, both
        after the calls in flight have landed in the store.
        """
        results: dict[int, Completion | Failure] = {}

        def deliver(number: int, result: Completion | Failure) -> None:
            results[number] = result
            if progress is not None:
                progress.advance()

        dispatch = Dispatch(self, deliver)
        for number, request in enumerate(requests):
            dispatch.ask(number, request)
        dispatch.close()
        run_blocking(dispatch.run())
        return [results[number] for number in range(len(requests))]

    def line(self, *, progress: Advances | None = None) -> EndpointLine:
        """Requests in, results out as they come (see `lm/line.py`); raises as `complete` does."""
        return EndpointLine([self], progress=progress)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """Log-likelihood of each continuation, by `echo` on /completions."""
        if not self._can_score:
            raise HornbookError(
                f"{self.identity} is not known to score text. If its /completions honours echo and logprobs "
                f"(vLLM, SGLang), say can_score=True; else use a local checkpoint."
            )
        sampling = Sampling(temperature=0.0, max_tokens=1, logprobs=1)
        requests = [
            Request(prompt=prompt + continuation, sampling=sampling) for prompt, continuation in pairs
        ]
        echoing = replace_extra(self, {"echo": True})
        scores = []
        for (prompt, continuation), result in zip(pairs, echoing.complete(requests)):
            if isinstance(result, Failure):
                raise HornbookError(
                    f"{self.identity} could not score a text: {result.kind}: {result.message}"
                )
            scores.append(read_score(prompt, continuation, result))
        return scores

    def stream(self, request: Request) -> Iterator[str]:
        """The answer's pieces as they come; for people who watch. Neither stored nor retried.

        Raises `HornbookError` when the stream breaks off or cannot be read.
        """
        import httpx

        body = self._body(request, "plain") | {"stream": True}
        finished = False
        try:
            with httpx.stream(
                "POST",
                self.address.route(self._wire.path(request)),
                headers=self._transport.headers(),
                content=json.dumps(body).encode(),
                timeout=self.settings.timeout_seconds,
            ) as response:
                if response.status_code != 200:
                    text = response.read().decode("utf-8", "replace")
                    raise HornbookError(self._transport.refused(response.status_code, text))
                for line in response.iter_lines():
                    data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                    if data == "[DONE]":
                        finished = True
                        break
                    if data:
                        piece, ended = read_piece(data)
                        finished = finished or ended
                        if piece:
                            yield piece
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise HornbookError(
                f"The stream from {self.address.base} broke ({name_of(error)}); ask again."
            ) from None
        if not finished:
            raise HornbookError(f"The stream from {self.address.base} ended in the middle; ask again.")

    # ------------------------------------------------------------ one row

    def _mode(self, request: Request) -> Mode:
        if request.schema is None:
            return "plain"
        return "fenced" if self._server_schema is False else "server"

    def _asked(self, request: Request, mode: Mode) -> Request:
        return fenced(request) if mode == "fenced" else request

    def call_key(self, request: Request) -> str:
        """Under which key of the store the answer to a plain `request` (one without a schema) lies."""
        return self._call_key(request, "plain")

    def batch_key(self, request: Request) -> str:
        """As `call_key`, of the call that a batch makes of `request`."""
        mode = self._mode(request)
        return self._call_key(self._asked(request, mode), mode)

    def batch_body(self, request: Request) -> dict[str, Json]:
        """The JSON body of that call."""
        mode = self._mode(request)
        return self._body(self._asked(request, mode), mode)

    def is_stored(self, request: Request) -> bool:
        """Whether the store answers `request` without a call, or holds the first of its two turns."""
        return self._from_store(request) is not None or (
            self.store is not None and self.store.get(self.batch_key(request)) is not None
        )

    def worst_price(self, request: Request) -> float:
        """The most money `request` can cost: four characters a token in, `max_tokens` out."""
        characters = len(json.dumps(request.as_json(), ensure_ascii=False))
        price = self.ledger.prices.get(self.model)
        return 0.0 if price is None else price.of(characters / 4, request.sampling.max_tokens)

    def headers(self) -> dict[str, str]:
        """Of every call, the key among them."""
        return self._transport.headers()

    def _call_key(self, request: Request, mode: Mode) -> str:
        return call_key(
            provider=self._wire.name,
            url=self.address.base,
            model=self.model,
            revision=self.revision,
            request=request.as_json(),
            extra={"body": self._extra, "mode": mode},
        )

    def known(self, request: Request) -> Completion | Failure | None:
        """The result of `request` from stored calls alone, counted in the ledger; None: it must be asked."""
        stored = self._from_store(request)
        if stored is not None:
            seconds = stored.latency_seconds if isinstance(stored, Completion) else 0.0
            self.ledger.add(self.model, stored.usage, seconds=seconds)
        return stored

    def _from_store(self, request: Request) -> Completion | Failure | None:
        """The result of a row from stored calls alone, or None when it must be asked (again)."""
        if self.store is None:
            return None
        modes: tuple[Mode, ...] = (self._mode(request),)
        if modes == ("server",) and self._server_schema is None:
            modes = ("server", "fenced")
        for mode in modes:
            result = self._stored_row(request, mode)
            if isinstance(result, Completion) or (result is not None and self.settings.serve_failures):
                return as_cached(result)
        return None

    def _stored_row(self, request: Request, mode: Mode) -> Completion | Failure | None:
        """How the row ended when it was last asked; None when it was not, or not to the end."""
        asked = self._asked(request, mode)
        reply = self._stored_reply(asked, mode)
        if reply is None:
            return None
        result = self._judged(request, reply)
        if isinstance(result, Failure) and result.kind == "malformed" and isinstance(reply, Reply):
            second = self._stored_reply(corrected(asked, reply.text, result.message), mode)
            if second is None:
                return None
            return with_usage(self._judged(request, second), reply.usage)
        return result

    def _stored_reply(self, asked: Request, mode: Mode) -> Reply | Failure | None:
        assert self.store is not None
        call = self.store.get(self._call_key(asked, mode))
        if call is None:
            return None
        reply = self._wire.read(call.response)
        return replace(reply, latency_seconds=call.latency_seconds) if isinstance(reply, Reply) else reply

    def _judged(self, request: Request, reply: Reply | Failure, latency: float = 0.0) -> Completion | Failure:
        if isinstance(reply, Failure):
            return reply
        return answer_in_schema(
            request,
            reply.text,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            raw=reply.raw,
            logprobs=reply.logprobs,
            latency_seconds=latency or reply.latency_seconds,
        )

    def open_pools(self) -> Pools:
        """Connections for the calls of one dispatch."""
        secure = self.address.base.startswith("https:")
        return Pools(timeout_seconds=self.settings.timeout_seconds, secure=secure)

    async def answer(self, job: Job, request: Request) -> Completion | Failure:
        """One row: the call, the fallback for servers without schemas, the one correction."""
        begun = time.monotonic()
        reuse = True
        if self.store is not None:
            # Another process may have answered before our lease; a row that died between an
            # answer and its correction goes on with the correction.
            stored = self.known(request)
            if stored is not None:
                return stored
            reuse = self._stored_row(request, self._mode(request)) is None
        mode = self._mode(request)
        asked = self._asked(request, mode)
        reply = await self._call(job, asked, mode, begun, reuse)
        if mode == "server" and self._server_schema is not True:
            if isinstance(reply, Reply):
                self._server_schema = True
            elif reply.kind == "bad_request":
                # Perhaps the server knows no schemas. If the same question without one is
                # answered, that was it.
                mode, asked = "fenced", fenced(request)
                reply = await self._call(job, asked, mode, begun, reuse)
                if isinstance(reply, Reply):
                    self._server_schema = False
        result = self._judged(request, reply, time.monotonic() - begun)
        if isinstance(result, Failure) and result.kind == "malformed" and isinstance(reply, Reply):
            again = corrected(asked, reply.text, result.message)
            second = await self._call(job, again, mode, begun, reuse)
            result = with_usage(self._judged(request, second, time.monotonic() - begun), reply.usage)
        return result

    async def _call(self, job: Job, asked: Request, mode: Mode, begun: float, reuse: bool) -> Reply | Failure:
        """One call with its retries: from the store when `reuse`, else paid, kept, then read."""
        key = self._call_key(asked, mode)
        if self.store is not None and reuse:
            stored = self._stored_reply(asked, mode)
            if isinstance(stored, Reply):
                usage = replace(stored.usage, cached=True)
                self.ledger.add(self.model, usage, seconds=stored.latency_seconds)
                return replace(stored, usage=usage)
        content = json.dumps(self._body(asked, mode), ensure_ascii=False).encode()
        url = self.address.route(self._wire.path(asked))
        deadline = begun + self.settings.deadline_seconds
        attempts = faults = 0
        while True:
            attempts += 1
            outcome = await self._transport.attempt(job.pools, url, content, key, asked, deadline)
            if isinstance(outcome, Reply):
                job.answered = True
                self.ledger.add(self.model, outcome.usage, seconds=outcome.latency_seconds)
                return outcome
            failure, wait = outcome
            if failure.usage.total_tokens or failure.kind == "refusal":
                self.ledger.add(self.model, failure.usage, failed=True)
            if failure.kind in ("bad_request", "refusal", "truncated"):
                return replace(failure, attempts=attempts)
            faults += failure.kind != "rate_limit"
            last = faults >= self.settings.max_attempts or job.stop is not None
            pause = min(
                self.settings.max_backoff_seconds,
                self.settings.backoff_seconds * 2 ** max(0, min(faults, 16) - 1),
            )
            wait = max(wait, self._random.uniform(0, pause))
            if last or time.monotonic() + wait > deadline:
                if failure.kind == "connection" and not job.answered:
                    raise HornbookError(
                        f"Nothing answers at {self.address.base} ({failure.message}). Start the server or "
                        f"correct the URL; answers already stored are kept."
                    )
                self.ledger.add_failure(self.model)
                return replace(failure, attempts=attempts)
            await asyncio.sleep(wait)

    def _body(self, asked: Request, mode: Mode) -> dict[str, Json]:
        return self._wire.body(
            asked, model=self.model, address=self.address, with_schema=mode == "server", extra=self._extra
        )


def replace_extra(model: EndpointModel, extra: Mapping[str, Json]) -> EndpointModel:
    """The same endpoint with more fields in every body (and so with keys of its own)."""
    return EndpointModel(
        model.address.base,
        model.model,
        api_key=model._key,
        revision=model.revision,
        store=model.store,
        ledger=model.ledger,
        settings=model.settings,
        extra={**model._extra, **extra},
        server_schema=model._server_schema,
        wire=model._wire,
    )


__all__ = ["EndpointModel", "EndpointSettings"]
