"""Talking to a model in a terminal: answers appear as they are drawn, Ctrl-C stops one."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from hornbook.errors import HornbookError
from hornbook.infer.weights import Weights
from hornbook.lab.markup import printable
from hornbook.lm.base import LanguageModel, Message, Request, Sampling

if TYPE_CHECKING:
    from hornbook.infer.language_model import LocalModel

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells count it."""

_HELP = "/reset forgets the conversation, /exit (or Ctrl-D) leaves, Ctrl-C stops an answer."


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How one answer came: seconds to its first token, tokens a second after it, tokens read and drawn.

    None where the model does not tell (an endpoint counts no tokens while it streams).
    """

    first_token_seconds: float
    tokens_per_second: float | None = None
    prompt_tokens: int | None = None
    read: int | None = None
    drawn: int | None = None

    def __str__(self) -> str:
        parts = [f"first token {1000 * self.first_token_seconds:.0f} ms"]
        if self.prompt_tokens is not None:
            parts.insert(0, f"prompt {self.prompt_tokens} tokens, {self.read} of them new")
        if self.drawn is not None:
            parts.append(f"{self.drawn} tokens")
        if self.tokens_per_second:
            parts.append(f"{self.tokens_per_second:.0f} tokens/s")
        return "; ".join(parts)


class Speaker(Protocol):
    """Something that answers a conversation. `speed` is of the last answer."""

    name: str
    speed: Speed | None

    def answer(self, messages: list[Message], sampling: Sampling) -> Iterator[str]:
        """The answer to the last message, in pieces. May drop old turns from `messages` (never the last)."""
        ...


class LocalSpeaker:
    """A model in our engine; a turn reads only what the conversation has new.

    A model without a chat template continues the text of the last message.
    """

    def __init__(self, spec: str, weights: Weights = "auto") -> None:
        from hornbook.infer.open import open_local
        from hornbook.infer.session import Session

        self._model = open_local(spec, weights=weights, max_rows=1, say=_to_stderr)
        self._session = Session(self._model.engine)
        self.continues = continues(self._model)
        self.name = self._model.name.partition("@")[0]
        self.speed: Speed | None = None

    def answer(self, messages: list[Message], sampling: Sampling) -> Iterator[str]:
        prompt = prompt_ids(self._model, messages, sampling, _to_stderr)
        pieces, turn = self._session.stream_text(prompt, sampling)
        try:
            yield from pieces
        finally:
            self.speed = Speed(
                first_token_seconds=turn.first_token_seconds,
                tokens_per_second=turn.tokens_per_second,
                prompt_tokens=turn.prompt_tokens,
                read=turn.read,
                drawn=len(turn.tokens),
            )


def prompt_ids(
    model: "LocalModel",
    messages: list[Message],
    sampling: Sampling,
    told: Callable[[str], None] = lambda sentence: None,
) -> list[int]:
    """Token ids of a conversation; its oldest exchanges go where they would leave no room for an answer.

    They are taken out of `messages` (never the last one, nor a system message), and `told` hears of it. For a
    model without a chat template the ids are those of the last message, which it continues.
    """
    tokenizer = model.tokenizer
    if continues(model):
        return [tokenizer.end_of_text, *tokenizer.encode(messages[-1].content)]
    context = model.engine.config.max_position
    room = context - min(sampling.max_tokens, context // 4)
    while True:
        ids = model.chat.encode([message.as_json() for message in messages])
        first = 1 if messages[0].role == "system" else 0
        if len(ids) <= room or len(messages) - first < 3:
            return ids
        told(f"The conversation fills the context of {context} tokens; its oldest turns are forgotten.")
        del messages[first : first + 2]


def continues(model: "LocalModel") -> bool:
    """Whether the model was not trained on conversations and only continues text."""
    return model.tokenizer.template is None and not model.tokenizer.chat_template


class RemoteSpeaker:
    """Any model that streams text for a request: an endpoint."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.name = model.identity
        self.speed: Speed | None = None

    def answer(self, messages: list[Message], sampling: Sampling) -> Iterator[str]:
        request = Request(messages=tuple(messages), sampling=sampling)
        began, self.speed = time.perf_counter(), None
        stream = getattr(self._model, "stream", None)
        for piece in stream(request) if stream is not None else self._whole(request):
            if self.speed is None:
                self.speed = Speed(first_token_seconds=time.perf_counter() - began)
            yield piece

    def _whole(self, request: Request) -> Iterator[str]:
        [result] = self._model.complete([request])
        text = getattr(result, "text", None)
        if text is None:
            raise HornbookError(str(getattr(result, "message", result)))
        yield text


def open_speaker(spec: str, weights: Weights = "auto") -> Speaker:
    """The speaker that `spec` names: what `hornbook.infer.open.open_model` accepts."""
    if spec.startswith(("http://", "https://")):
        from hornbook.infer.open import open_model

        return RemoteSpeaker(open_model(spec))
    return LocalSpeaker(spec, weights)


class Chat:
    """A conversation with a speaker, printed as it comes."""

    def __init__(
        self,
        speaker: Speaker,
        sampling: Sampling,
        *,
        system: str | None = None,
        out: TextIO | None = None,
        show_speed: bool = False,
    ) -> None:
        self.speaker, self.sampling, self.show_speed = speaker, sampling, show_speed
        self._system = [Message("system", system)] if system else []
        self._out = out or sys.stdout
        self.messages = list(self._system)

    def reset(self) -> None:
        """Forgets everything but the system message."""
        self.messages = list(self._system)

    def ask(self, text: str) -> bool:
        """Prints the answer to `text`; False when Ctrl-C ended it (what was said stays in the history).

        Raises:
            HornbookError: the model could not answer; the conversation is as before.
        """
        before = list(self.messages)
        self.messages.append(Message("user", text))
        said, whole = "", True
        pieces = self.speaker.answer(self.messages, self.sampling)
        try:
            for piece in pieces:
                said += piece
                self._show(piece)
        except KeyboardInterrupt:
            whole = False
        except HornbookError:
            self.messages = before
            raise
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
            if said and not said.endswith("\n"):
                self._show("\n")
        if said:
            self.messages.append(Message("assistant", said))
        else:
            self.messages = before
            if whole:
                _to_stderr("(the model ended its turn without a word)")
        if self.show_speed and self.speaker.speed is not None:
            _to_stderr(f"[{self.speaker.speed}]")
        return whole

    def _show(self, text: str) -> None:
        self._out.write(printable(text))
        self._out.flush()


def chat_loop(
    spec: str,
    *,
    once: str | None = None,
    system: str | None = None,
    temperature: float = 0.7,
    max_tokens: int = 200,
    seed: int | None = None,
    top_p: float = 0.95,
    weights: Weights = "auto",
    show_speed: bool = False,
) -> int:
    """Talks to the model that `spec` names until the input ends; answers go to stdout, the rest to stderr.

    Args:
        spec: what `hornbook.infer.open.open_model` accepts: a checkpoint folder, a .gguf, "smollm2" or
            "embedded", or an endpoint.
        once: answer this and return, with no prompt.
        system: a system message, kept over /reset.
        temperature, max_tokens, seed, top_p: see `Sampling`.
        weights: how a local model's matrices are kept (see `Engine`).
        show_speed: after each answer a line with the time to the first token and tokens a second.

    Returns:
        the exit status: 0, or 130 after Ctrl-C with `once`.

    Raises:
        HornbookError: no such model, a wrong setting, or (with `once`) no answer.
    """
    sampling = Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
    if once is not None and not once.strip():
        raise HornbookError("There is nothing to answer: --once is empty.")
    try:
        chat = Chat(open_speaker(spec, weights), sampling, system=system, show_speed=show_speed)
    except KeyboardInterrupt:
        return INTERRUPTED
    if once is not None:
        return 0 if chat.ask(once) else INTERRUPTED
    asked = sys.stdin.isatty()
    if asked:
        _to_stderr(f"{chat.speaker.name}. {_HELP}")
        if getattr(chat.speaker, "continues", False):
            _to_stderr("This model was not trained on conversations: it continues your text.")
    for line in _lines(asked):
        text = line.strip()
        if not text:
            continue
        if text in ("/exit", "/quit"):
            return 0
        if text == "/reset":
            chat.reset()
            _to_stderr("(forgotten)")
        elif text.startswith("/") and text[1:].isalpha():
            _to_stderr(f"There is no command {text}. {_HELP}")
        else:
            try:
                chat.ask(text)
            except HornbookError as error:
                _to_stderr(str(error))
    return 0


def _lines(asked: bool) -> Iterator[str]:
    """Lines of standard input, with a prompt and line editing where a person types them."""
    if asked:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (makes input() editable and gives it a history)
    while True:
        try:
            if asked:
                yield input("> ")
            elif line := sys.stdin.readline():
                yield line
            else:
                return
        except (EOFError, KeyboardInterrupt):
            _to_stderr("")
            return


def _to_stderr(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
