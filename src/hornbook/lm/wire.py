"""The OpenAI-compatible wire: bodies out, replies in. No network here.

Spoken by OpenAI, Azure, vLLM, SGLang, llama.cpp, Ollama and our own server. `TextWire` is what models that
write speak; `lm/images.py` has that of models that draw.
"""

import email.utils
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from hornbook.errors import HornbookError
from hornbook.lm.base import (
    Completion,
    Failure,
    FailureKind,
    FinishReason,
    Json,
    Message,
    Request,
    Score,
    TokenLogprob,
    Usage,
)

RETRYABLE: Mapping[int, FailureKind] = {
    408: "timeout",
    409: "server",
    425: "server",
    429: "rate_limit",
    500: "server",
    502: "server",
    503: "server",
    504: "timeout",
    529: "server",
}
"""Statuses after which the same request may succeed. Everything else 4xx is ours to fix."""

HOPELESS = frozenset({401, 403, 404})
"""Statuses that every other row would meet too: a wrong key, URL or model name."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint lives. `base` is the normalised URL that names it; it never holds a key."""

    base: str
    azure: bool

    def route(self, path: str) -> str:
        """The URL of `path` ("chat/completions") below the base, before any query."""
        parts = urlsplit(self.base)
        return urlunsplit(parts._replace(path=f"{parts.path}/{path}"))

    @property
    def modern_limit(self) -> bool:
        """Whether `max_tokens` is spelled `max_completion_tokens` here."""
        return self.azure or urlsplit(self.base).hostname == "api.openai.com"


def parse_address(url: str) -> Address:
    """Normalise an endpoint's URL: `host:11434` gets http and /v1, a full
    `/chat/completions` path is cut back to its base, an Azure query stays."""
    text = url.strip()
    if "://" not in text:
        text = f"http://{text}"
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HornbookError(
            f"The endpoint {url!r} is not an http(s) URL; write it like http://localhost:11434/v1#model."
        )
    if parts.username or parts.password:
        raise HornbookError(
            "The endpoint's URL holds a user name or password; put the key in HORNBOOK_API_KEY instead."
        )
    path = parts.path.rstrip("/")
    for suffix in ("/chat/completions", "/completions", "/images/generations"):
        path = path.removesuffix(suffix)
    azure = parts.hostname.endswith((".openai.azure.com", ".services.ai.azure.com"))
    if not path and not azure:
        path = "/v1"
    host = parts.netloc.lower()
    return Address(urlunsplit((parts.scheme, host, path, parts.query, "")), azure)


def parse_spec(spec: str) -> tuple[str, str]:
    """(url, model) of `http://localhost:11434/v1#model`."""
    url, mark, model = spec.partition("#")
    if not mark or not model.strip():
        raise HornbookError(
            f"The endpoint {spec!r} names no model; write the URL, then # and the model's name: "
            f"http://localhost:11434/v1#llama3.2."
        )
    return url, model.strip()


def path_of(request: Request) -> str:
    """The route a request goes to."""
    return "completions" if request.messages is None else "chat/completions"


def body_of(
    request: Request, *, model: str, address: Address, with_schema: bool, extra: Mapping[str, Json]
) -> dict[str, Json]:
    """The JSON body. Settings at their neutral value are left out: not every server knows them."""
    sampling = request.sampling
    body: dict[str, Json] = {
        "model": model,
        "temperature": sampling.temperature,
        "max_completion_tokens"
        if address.modern_limit and request.messages
        else "max_tokens": sampling.max_tokens,
    }
    if request.messages is not None:
        body["messages"] = [message.as_json() for message in request.messages]
        if sampling.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    else:
        body["prompt"] = request.prompt if request.tokens is None else list(request.tokens)
        if sampling.logprobs is not None:
            body["logprobs"] = sampling.logprobs
    neutral = {
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "repetition_penalty": 1.0,
        "seed": None,
    }
    for name, value in neutral.items():
        if getattr(sampling, name) != value:
            body[name] = getattr(sampling, name)
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if request.tools:
        body["tools"] = [dict(tool) for tool in request.tools]
    if with_schema and request.schema is not None:
        # Not "strict": that mode forbids optional keys. The answer is validated here in any case.
        schema = {"name": "answer", "schema": dict(request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body | dict(extra)


def fenced(request: Request) -> Request:
    """The request with its schema as words: for servers that cannot constrain an answer."""
    words = (
        "Answer with one JSON value inside a ```json fence, and nothing else. "
        f"It must satisfy this JSON Schema:\n{json.dumps(dict(request.schema or {}), ensure_ascii=False)}"
    )
    if request.messages is None:
        return replace(request, prompt=f"{request.prompt}\n\n{words}\n")
    *before, last = request.messages
    if last.role != "user":
        return replace(request, messages=(*request.messages, Message("user", words)))
    return replace(request, messages=(*before, replace(last, content=f"{last.content}\n\n{words}")))


def corrected(request: Request, answer: str, problem: str) -> Request:
    """The one turn that gives a model its answer back with what the validator said."""
    words = f"That answer is not valid: {problem}. Send the whole corrected JSON value and nothing else."
    if request.messages is None:
        return replace(request, prompt=f"{request.prompt}{answer}\n\n{words}\n")
    turns = (Message("assistant", answer), Message("user", words))
    return replace(request, messages=(*request.messages, *turns))


@dataclass(frozen=True, slots=True)
class Reply:
    """A response that could be read; `text` is what was written, or a picture in base64."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] | None
    raw: Json
    latency_seconds: float = 0.0


def read_reply(response: str) -> Reply | Failure:
    """Read a body that came with status 200. What cannot be read is `malformed`."""
    try:
        raw = json.loads(response)
    except (ValueError, RecursionError) as error:
        return Failure(kind="malformed", message=f"the response is not JSON ({error})", raw=response)
    if not isinstance(raw, dict):
        return Failure(kind="malformed", message="the response is not a JSON object", raw=raw)
    if raw.get("error"):
        return error_in_body(raw)
    try:
        choice = raw["choices"][0]
        usage = _usage(raw.get("usage"))
        finish = choice.get("finish_reason")
        message = choice.get("message")
        text = choice.get("text") if message is None else _text(message.get("content"))
        if message is not None and message.get("refusal"):
            return Failure(kind="refusal", message=str(message["refusal"]), raw=raw, usage=usage)
        if finish == "content_filter":
            return Failure(
                kind="refusal", message="the provider's filter stopped the answer", raw=raw, usage=usage
            )
        if text is None and message is not None and message.get("tool_calls"):
            text = ""
        if not isinstance(text, str):
            return Failure(kind="malformed", message="the response holds no text", raw=raw, usage=usage)
        reason: FinishReason = "length" if finish == "length" else "stop"
        if finish not in ("length", "stop", "eos", "eos_token", "end_turn", None):
            reason = "other"
        return Reply(text, reason, usage, _logprobs(choice.get("logprobs")), raw)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        return Failure(
            kind="malformed", message=f"the response has not the shape of a completion ({what})", raw=raw
        )


class Wire(Protocol):
    """One way of asking an endpoint: where a request goes, its body, and how the answer is read.

    `name` tells answers of different ways apart in the store.
    """

    @property
    def name(self) -> str: ...

    def path(self, request: Request) -> str: ...

    def body(
        self, request: Request, *, model: str, address: Address, with_schema: bool, extra: Mapping[str, Json]
    ) -> dict[str, Json]: ...

    def read(self, response: str) -> Reply | Failure: ...


class TextWire:
    """Chat and text completions."""

    name = "openai-compatible"
    path = staticmethod(path_of)
    body = staticmethod(body_of)
    read = staticmethod(read_reply)


TEXT = TextWire()


def error_in_body(raw: dict[str, Any]) -> Failure:
    """A body of status 200 that holds an error all the same."""
    error = raw["error"]
    code = error.get("code") if isinstance(error, dict) else None
    kind: FailureKind = RETRYABLE.get(code, "bad_request") if isinstance(code, int) else "server"
    return Failure(kind=kind, message=message_of(json.dumps(raw), 200), raw=raw)


def _text(content: Json) -> str | None:
    if isinstance(content, list):  # parts
        return "".join(part.get("text") or "" for part in content)
    return content if isinstance(content, str) else None


def _usage(usage: Json) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    return Usage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))


def _logprobs(logprobs: Json) -> tuple[TokenLogprob, ...] | None:
    if not isinstance(logprobs, dict):
        return None
    if isinstance(logprobs.get("content"), list):
        return tuple(
            TokenLogprob(
                item["token"],
                float(item["logprob"]),
                tuple((top["token"], float(top["logprob"])) for top in item.get("top_logprobs") or ()),
            )
            for item in logprobs["content"]
        )
    if isinstance(logprobs.get("tokens"), list):  # the older /completions shape
        tops = logprobs.get("top_logprobs") or [None] * len(logprobs["tokens"])
        return tuple(
            TokenLogprob(token, float("nan") if value is None else float(value), tuple((top or {}).items()))
            for token, value, top in zip(logprobs["tokens"], logprobs["token_logprobs"], tops)
        )
    return None


def message_of(response: str, status: int) -> str:
    """What an error body says, in at most 300 characters."""
    try:
        raw = json.loads(response)
        error = raw.get("error", raw) if isinstance(raw, dict) else raw
        text = error.get("message") if isinstance(error, dict) else error
        text = text if isinstance(text, str) else json.dumps(text)
    except (ValueError, RecursionError):
        text = response.strip()
    return (text or f"status {status} without a message")[:300]


def filtered(response: str) -> bool:
    """Whether a 400 is the provider's content filter (Azure says so in a field of its own)."""
    try:
        error = json.loads(response).get("error")
        return isinstance(error, dict) and error.get("code") == "content_filter"
    except (ValueError, AttributeError, RecursionError):
        return False


def retry_after_seconds(headers: Mapping[str, str], *, now: float | None = None) -> float:
    """What Retry-After (seconds or a date) or retry-after-ms asks for; 0 when nothing."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after", "0")
        try:
            return max(0.0, float(value))
        except ValueError:
            moment = email.utils.parsedate_to_datetime(value).timestamp()
            return max(0.0, moment - (time.time() if now is None else now))
    except (ValueError, TypeError):
        return 0.0


def calls_allowed(headers: Mapping[str, str], tokens: int) -> int | None:
    """How many calls of `tokens` the provider takes now, by its x-ratelimit-remaining headers; None: it says
    nothing."""
    found = []
    for name, each in (("requests", 1), ("tokens", max(1, tokens))):
        value = headers.get(f"x-ratelimit-remaining-{name}", "")
        if value.isdecimal():
            found.append(int(value) // each)
    return min(found, default=None)


def read_score(prompt: str, continuation: str, result: Completion) -> Score:
    """The continuation's share of an echoed prompt's log-probabilities."""
    logprobs = result.raw["choices"][0].get("logprobs") if isinstance(result.raw, dict) else None
    if not isinstance(logprobs, dict) or "text_offset" not in logprobs:
        raise HornbookError("The endpoint sent no log-probabilities with echo; it cannot score text.")
    end = len(prompt) + len(continuation)
    rows = zip(logprobs["text_offset"], result.logprobs or ())
    picked = [item for offset, item in rows if len(prompt) <= offset < end]
    greedy = all(item.top and item.logprob >= max(value for _, value in item.top) for item in picked)
    values = tuple(item.logprob for item in picked)
    return Score(sum(values), len(values), greedy, values)


def read_piece(data: str) -> tuple[str, bool]:
    """(text, ended) of one event of a stream."""
    event = json.loads(data)
    if not event.get("choices"):
        if event.get("error"):
            raise ValueError(str(event["error"])[:200])
        return "", False
    choice = event["choices"][0]
    text = choice["delta"].get("content") if "delta" in choice else choice.get("text")
    return text or "", choice.get("finish_reason") is not None


def key_from_environment(base: str) -> str | None:
    """The key for a host. A provider's own variable is sent to that provider alone."""
    host = urlsplit(base).hostname or ""
    names = ["HORNBOOK_API_KEY"]
    if host == "api.openai.com":
        names.append("OPENAI_API_KEY")
    elif host.endswith(".azure.com"):
        names.append("AZURE_OPENAI_API_KEY")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def as_cached(result: Completion | Failure) -> Completion | Failure:
    """The result, marked as free."""
    return replace(result, usage=replace(result.usage, cached=True))


def with_usage(result: Completion | Failure, first: Usage) -> Completion | Failure:
    """The result of a corrected answer, with the tokens of both turns."""
    usage = result.usage
    both = Usage(
        usage.prompt_tokens + first.prompt_tokens,
        usage.completion_tokens + first.completion_tokens,
        usage.cached and first.cached,
    )
    return replace(result, usage=both)


def name_of(error: BaseException) -> str:
    """An exception as people read it."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
