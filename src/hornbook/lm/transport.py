"""One call over the wire: a try under the endpoint's limit, what its status means, and its keeping.

When to try again is `endpoint.py`'s decision.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from hornbook.errors import HornbookError
from hornbook.lm.base import Failure, FailureKind, Request
from hornbook.lm.concurrency import AdaptiveLimit, Signal
from hornbook.lm.endpoint_settings import EndpointSettings
from hornbook.lm.pools import Pools
from hornbook.lm.store import CallStore
from hornbook.lm.wire import (
    HOPELESS,
    RETRYABLE,
    Address,
    Reply,
    Wire,
    calls_allowed,
    filtered,
    message_of,
    name_of,
    retry_after_seconds,
)


class Transport:
    """Sends the calls of one model at one address.

    identity: under which name answers are kept. key: never stored, logged or shown.
    """

    def __init__(
        self,
        address: Address,
        model: str,
        *,
        identity: str,
        key: str | None,
        settings: EndpointSettings,
        limit: AdaptiveLimit,
        store: CallStore | None,
        wire: Wire,
    ) -> None:
        self._wire = wire
        self._address, self._model, self._identity, self._key = address, model, identity, key
        self._settings, self._limit, self._store = settings, limit, store

    def headers(self) -> dict[str, str]:
        """Of every call, the key among them."""
        headers = {"content-type": "application/json", "accept": "application/json", "user-agent": "hornbook"}
        if self._key:
            if self._address.azure:
                headers["api-key"] = self._key
            else:
                headers["authorization"] = f"Bearer {self._key}"
        return headers

    async def attempt(
        self, pools: Pools, url: str, content: bytes, key: str, asked: Request, deadline: float
    ) -> Reply | tuple[Failure, float]:
        """One try: a reply, or a failure and the seconds the server asks us to wait."""
        import httpx

        await self._limit.acquire()
        signal: Signal = "neutral"
        retry_after, latency, status, text = 0.0, 0.0, 0, ""
        allowed: int | None = None
        problem: tuple[FailureKind, str] | None = None
        begun = time.monotonic()
        try:
            left = max(0.05, min(self._settings.timeout_seconds, deadline - begun))
            async with asyncio.timeout(left):
                response = await pools.send(url, self.headers(), content)
            status, text = response.status_code, response.content.decode("utf-8", "replace")
            retry_after = retry_after_seconds(response.headers)
            allowed = calls_allowed(response.headers, len(content) // 4 + asked.sampling.max_tokens)
            signal = "rate_limited" if status == 429 else "fault" if status in RETRYABLE else "ok"
        except (TimeoutError, httpx.TimeoutException):
            problem, signal = ("timeout", f"no answer within {left:.0f} s"), "fault"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            problem, signal = ("connection", name_of(error)), "fault"
        finally:
            latency = time.monotonic() - begun
            self._limit.release(signal, retry_after=retry_after, allowed=allowed)
        if self._key:
            text = text.replace(self._key, "***")  # some servers quote a wrong key back
        if problem is not None:
            await self._keep(key, asked, "", 0, problem[0], latency)
            return Failure(kind=problem[0], message=problem[1]), 0.0
        if status == 200:
            await self._keep(key, asked, text, status, "answer", latency)
            reply = self._wire.read(text)
            return replace(reply, latency_seconds=latency) if isinstance(reply, Reply) else (reply, 0.0)
        failure = self._failed(status, text)
        if status != 429:  # a server that is full sends thousands
            await self._keep(key, asked, text, status, failure.kind, latency)
        if isinstance(failure, Failure):
            return failure, retry_after
        raise failure.error

    def _failed(self, status: int, text: str) -> "Failure | _Hopeless":
        if status in HOPELESS:
            return _Hopeless(HornbookError(self.refused(status, text)))
        if status in RETRYABLE or status >= 500:
            return Failure(
                kind=RETRYABLE.get(status, "server"), message=f"{status}: {message_of(text, status)}"
            )
        kind: FailureKind = "refusal" if filtered(text) else "bad_request"
        return Failure(kind=kind, message=f"{status}: {message_of(text, status)}", raw=text)

    def refused(self, status: int, text: str) -> str:
        """What to tell the user of a status that no row would survive."""
        if self._key:
            text = text.replace(self._key, "***")
        what = {
            401: "Set the key in HORNBOOK_API_KEY",
            403: "The key may not use this model",
            404: "Check the URL and the model's name",
        }.get(status, "Check the request")
        return (
            f"{self._address.base} refuses the model {self._model!r} with status {status}: "
            f"{message_of(text, status)}. {what}."
        )

    async def _keep(
        self, key: str, asked: Request, text: str, status: int, outcome: str, latency: float
    ) -> None:
        """Store a response and wait until it is on disk."""
        if self._store is None:
            return
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = loop.create_future()

        def finish(error: BaseException | None) -> None:
            with suppress(RuntimeError):  # the loop is gone: the run was broken off; the answer is kept
                loop.call_soon_threadsafe(_resolve, kept, error)

        self._store.put_soon(
            key,
            finish,
            model=self._identity,
            request=asked.as_json() | {"tag": asked.tag},
            response=text,
            status=status,
            outcome=outcome,
            latency_seconds=latency,
        )
        await asyncio.shield(kept)


@dataclass(frozen=True, slots=True)
class _Hopeless:
    """A status that no row would survive."""

    error: HornbookError
    kind: FailureKind = "bad_request"


def _resolve(future: "asyncio.Future[None]", error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
