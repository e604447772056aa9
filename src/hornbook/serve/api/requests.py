"""What clients send: OpenAI's request bodies, checked, and how they become our `Sampling` and `Message`s."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hornbook.lm.base import Message, Role, Sampling
from hornbook.serve.api.errors import ApiError

MOST_SAMPLES = 128
MOST_INPUTS = 2048

TokenIds = list[Annotated[int, Field(ge=0)]]


class _Strict(BaseModel):
    """Unknown fields are refused: a setting that is silently ignored would be a wrong answer."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data


class StreamOptions(_Strict):
    """`include_usage`: one more chunk at the end, with the token counts."""

    include_usage: bool = False
    include_obfuscation: bool = False


class JsonSchema(_Strict):
    """A named JSON Schema."""

    name: str = "answer"
    description: str = ""
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool = True


class ResponseFormat(_Strict):
    """`text`, any JSON object, or JSON that a schema describes."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None

    def schema_wanted(self) -> dict[str, Any] | None:
        """The JSON Schema the answer must satisfy; None for free text."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "object"}
        if self.json_schema is None:
            raise ApiError(
                400,
                "response_format of type json_schema needs the field json_schema.",
                param="response_format",
                code="invalid_value",
            )
        return self.json_schema.schema_


class _Generation(_Strict):
    """What chat and plain completions share. `top_k`, `min_p` and `repetition_penalty` are additions."""

    model: str
    temperature: float = Field(1.0, ge=0, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0, allow_inf_nan=False)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    max_tokens: int | None = Field(None, ge=1)
    n: int = Field(1, ge=1, le=MOST_SAMPLES)
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] = []
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    logit_bias: dict[str, float] = {}
    # Words to the provider's own bookkeeping: they change no answer here.
    user: str = ""
    metadata: dict[str, str] = {}
    store: bool = False
    service_tier: str = "auto"
    safety_identifier: str = ""
    prompt_cache_key: str = ""

    @model_validator(mode="after")
    def _possible(self) -> "_Generation":
        if self.logit_bias:
            raise ValueError("logit_bias is not offered by this server")
        return self

    def sampling_with(self, max_tokens: int, logprobs: int | None) -> Sampling:
        """How the engine is to draw."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            max_tokens=max_tokens,
            stop=tuple(text for text in stop if text),
            seed=self.seed,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            repetition_penalty=self.repetition_penalty,
            logprobs=logprobs,
        )


class TextPart(_Strict):
    """A piece of a message."""

    type: Literal["text", "input_text"]
    text: str


class ChatMessage(BaseModel):
    """One turn. `developer` is another word for `system`."""

    role: str
    content: str | list[TextPart] | None = None

    def as_message(self) -> Message:
        """The turn in our words."""
        role = "system" if self.role == "developer" else self.role
        if role not in get_args(Role):
            accepted = ", ".join(get_args(Role))
            raise ApiError(
                400,
                f"A message has role {self.role!r}; accepted are {accepted} and developer.",
                param="messages",
                code="invalid_value",
            )
        if isinstance(self.content, list):
            text = "".join(part.text for part in self.content)
        else:
            text = self.content or ""
        return Message(role, text)  # type: ignore[arg-type]


class ChatRequest(_Generation):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    response_format: ResponseFormat = ResponseFormat()
    tools: list[dict[str, Any]] = []
    tool_choice: Any = None
    parallel_tool_calls: bool = False

    @model_validator(mode="after")
    def _no_tools(self) -> "ChatRequest":
        if self.tools:
            raise ValueError("tools are not offered by this server")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self

    def sampling(self, default_max_tokens: int) -> Sampling:
        """How the engine is to draw; `default_max_tokens` where the client gave no limit."""
        most = self.max_completion_tokens or self.max_tokens or default_max_tokens
        return self.sampling_with(most, self.top_logprobs if self.logprobs else None)


class CompletionRequest(_Generation):
    """POST /v1/completions. `prompt`: a text, token ids, or a list of either."""

    prompt: str | TokenIds | list[str] | list[TokenIds] = ""
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: Literal[False] = False
    best_of: int | None = None
    suffix: Literal[""] = ""

    @model_validator(mode="after")
    def _no_ranking(self) -> "CompletionRequest":
        if self.best_of is not None and self.best_of != self.n:
            raise ValueError("best_of is not offered by this server unless it equals n")
        return self

    def sampling(self) -> Sampling:
        """How the engine is to draw; 16 tokens where the client gave no limit, as the API has it."""
        return self.sampling_with(self.max_tokens or 16, self.logprobs)


class EmbeddingRequest(_Strict):
    """POST /v1/embeddings. `input`: a text, token ids, or a list of either."""

    model: str
    input: str | TokenIds | list[str] | list[TokenIds]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str = ""


def several(given: str | list[int] | list[str] | list[list[int]], field: str) -> list[str] | list[list[int]]:
    """A text, ids, or a list of either, as a list.

    Raises:
        ApiError: there is none, or more than `MOST_INPUTS`.
    """
    if isinstance(given, str):
        return [given]
    ids = [one for one in given if isinstance(one, int)]
    if ids:
        return [ids]
    if not 0 < len(given) <= MOST_INPUTS:
        raise ApiError(
            400,
            f"{field} is a list of {len(given)}; accepted are 1 to {MOST_INPUTS} entries.",
            param=field,
            code="invalid_value",
        )
    return [one for one in given if isinstance(one, str)] or [one for one in given if isinstance(one, list)]
