"""What every language model looks like from outside: requests in, completions or failures out.

Standard library only, so that the engine and the recipes can speak these words
without loading an HTTP client.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

from hornbook.errors import HornbookError
from hornbook.lab.markup import printable

Json: TypeAlias = Any
"""A value that `json.dumps` accepts."""

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
FinishReason: TypeAlias = Literal["stop", "length", "other"]
FailureKind: TypeAlias = Literal[
    "refusal", "truncated", "timeout", "rate_limit", "server", "malformed", "bad_request", "connection"
]
FAILURE_KINDS: frozenset[str] = frozenset(get_args(FailureKind))


def canonical_json(value: Json) -> bytes:
    """The one byte string that stands for `value`: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def content_key(value: Json) -> str:
    """SHA-256 of `canonical_json(value)` in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `pictures`: files (PNG, JPEG, ...) as data URIs, shown after the text."""

    role: Role
    content: str
    pictures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise HornbookError(
                f"A message has role {self.role!r}; accepted are system, user, assistant and tool."
            )
        if any(not picture.startswith("data:image/") for picture in self.pictures):
            raise HornbookError("A message's pictures are data URIs: data:image/png;base64,...")

    def as_json(self) -> dict[str, Any]:
        """`{"role": ..., "content": ...}`, as chat APIs and corpora write it; with pictures in parts."""
        if not self.pictures:
            return {"role": self.role, "content": self.content}
        shown = [{"type": "image_url", "image_url": {"url": picture}} for picture in self.pictures]
        return {"role": self.role, "content": [{"type": "text", "text": self.content}, *shown]}


def _refuse(name: str, value: object, accepted: str) -> HornbookError:
    return HornbookError(f"Sampling.{name} is {value!r}; accepted is {accepted}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the next token is drawn.

    `temperature` 0 is greedy. `top_p`, `top_k` and `min_p` narrow the
    distribution (1.0, 0 and 0.0 leave it alone). `max_tokens` counts new
    tokens. `stop` strings end the text and are not part of it. `seed` makes a
    local model repeat itself; endpoints may ignore it. `logprobs` asks for that
    many alternatives per token (None: none).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise _refuse("temperature", self.temperature, "a finite number of at least 0 (0 is greedy)")
        if not 0 < self.top_p <= 1:
            raise _refuse("top_p", self.top_p, "a number in (0, 1]")
        if self.top_k < 0:
            raise _refuse("top_k", self.top_k, "0 (all tokens) or a positive count")
        if not 0 <= self.min_p <= 1:
            raise _refuse("min_p", self.min_p, "a number in [0, 1]")
        if self.max_tokens < 1:
            raise _refuse("max_tokens", self.max_tokens, "a count of at least 1")
        stop: object = self.stop
        if not isinstance(stop, tuple):
            raise _refuse("stop", stop, "a tuple of strings, not one string or a list")
        if any(not text for text in self.stop):
            raise _refuse("stop", self.stop, "strings that are not empty")
        if self.repetition_penalty <= 0:
            raise _refuse("repetition_penalty", self.repetition_penalty, "a number above 0 (1 is none)")
        if self.logprobs is not None and self.logprobs < 0:
            raise _refuse("logprobs", self.logprobs, "None or a count of alternatives")

    def as_json(self) -> dict[str, Json]:
        """Every field, for keys and records."""
        return {
            "temperature": float(self.temperature),
            "top_p": float(self.top_p),
            "top_k": self.top_k,
            "min_p": float(self.min_p),
            "max_tokens": self.max_tokens,
            "stop": list(self.stop),
            "seed": self.seed,
            "frequency_penalty": float(self.frequency_penalty),
            "presence_penalty": float(self.presence_penalty),
            "repetition_penalty": float(self.repetition_penalty),
            "logprobs": self.logprobs,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One thing asked of a model: exactly one of `messages`, `prompt` and `tokens`.

    `schema` is a JSON Schema the answer must satisfy. `sample_index` tells
    repeated draws of one prompt apart; `salt` separates what must not share
    answers (a new try of an experiment). Both belong to the identity of the
    call. `tag` labels the request for people and the ledger and does not.
    """

    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    tokens: tuple[int, ...] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    schema: Mapping[str, Json] | None = None
    tools: tuple[Mapping[str, Json], ...] = ()
    sample_index: int = 0
    salt: str = ""
    tag: str = ""

    def __post_init__(self) -> None:
        given = [
            name for name in ("messages", "prompt", "tokens") if getattr(self, name) is not None
        ]  # an empty prompt is a prompt
        if len(given) != 1:
            raise HornbookError(
                f"A request needs exactly one of messages, prompt and tokens; it has {given or 'none'}."
            )
        if self.messages is not None and not self.messages:
            raise HornbookError("A request has an empty list of messages; give at least one.")

    def as_json(self) -> dict[str, Json]:
        """Everything that changes the answer (`tag` does not)."""
        return {
            "messages": None if self.messages is None else [m.as_json() for m in self.messages],
            "prompt": self.prompt,
            "tokens": None if self.tokens is None else list(self.tokens),
            "sampling": self.sampling.as_json(),
            "schema": None if self.schema is None else dict(self.schema),
            "tools": [dict(tool) for tool in self.tools],
            "sample_index": self.sample_index,
            "salt": self.salt,
        }


def ask(user: str, *, system: str | None = None, pictures: tuple[str, ...] = (), **fields: Any) -> Request:
    """A request of one user turn, with an optional system turn before it.

    `pictures` are data URIs shown with the user's turn; `fields` go to `Request` (sampling, schema,
    sample_index, salt, tag).
    """
    turns = (Message("user", user, pictures),)
    return Request(messages=turns if system is None else (Message("system", system), *turns), **fields)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `cached`: the answer came from the call store and cost nothing now."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One generated token, its natural-log probability and the likeliest alternatives."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """An answer. `value` is the validated JSON when the request had a schema."""

    text: str
    finish_reason: FinishReason = "stop"
    usage: Usage = Usage()
    raw: Json = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    value: Json = None
    latency_seconds: float = 0.0

    @property
    def cached(self) -> bool:
        """Whether this came from the call store."""
        return self.usage.cached


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """No answer, and why. A failure is never graded as an answer.

    `truncated`: the model hit `max_tokens` under a schema, so the JSON is cut.
    `malformed`: the answer broke the schema or the protocol, also after one
    correction. `raw` holds what the server sent, when it sent something.
    """

    kind: FailureKind
    message: str
    raw: Json = None
    usage: Usage = Usage()
    attempts: int = 1

    def __post_init__(self) -> None:
        if self.kind not in FAILURE_KINDS:
            raise ValueError(f"unknown failure kind {self.kind!r}")
        object.__setattr__(self, "message", printable(self.message))  # a server may have written it

    @property
    def cached(self) -> bool:
        """Whether this came from the call store."""
        return self.usage.cached


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a continuation is after a prompt.

    `logprob` is the sum over the continuation's `tokens`, natural logarithm;
    `greedy` says whether each token was the likeliest one; `cut` tokens of the prompt's beginning were left
    out because they did not fit the model's context.
    """

    logprob: float
    tokens: int
    greedy: bool = False
    token_logprobs: tuple[float, ...] = ()
    cut: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a model can be asked for. Check before a run, not in the middle of it.

    `can_score`: `score` works. `can_edit_history`: a conversation may be sent
    with turns changed or taken back (multi-turn attacks need it).
    `supports_schema`: the server constrains the answer to a JSON Schema.
    `logprobs`: completions can carry token log-probabilities.
    `sees_pictures`: messages may carry pictures (of an endpoint it is found out by asking).
    """

    can_score: bool = False
    can_edit_history: bool = True
    supports_schema: bool = False
    logprobs: bool = False
    sees_pictures: bool = False


class Advances(Protocol):
    """The part of a progress bar that models use."""

    def advance(self, n: int = 1) -> object: ...


@runtime_checkable
class LanguageModel(Protocol):
    """Anything that completes or scores text; its role (teacher, judge...) is the recipe's matter."""

    @property
    def identity(self) -> str:
        """Names the model and everything that changes its answers (URL, revision, weights hash)."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        """One result for each request, in order. Never raises for a single bad answer."""
        ...

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """Log-likelihood of each (prompt, continuation); needs `capabilities.can_score`."""
        ...


def require(model: LanguageModel, *needs: str, role: str = "model") -> None:
    """Raise unless `model` has every capability in `needs` (field names of `Capabilities`)."""
    missing = [need for need in needs if not getattr(model.capabilities, need)]
    if missing:
        raise HornbookError(
            f"The {role} {model.identity} lacks {', '.join(missing)}, which this step needs; "
            f"name another model for this role."
        )
