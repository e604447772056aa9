"""A checkpoint on this machine as a `LanguageModel`."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.infer.chat_format import ChatFormat
from hornbook.infer.engine import Engine, Generation
from hornbook.infer.schema import schemas_are_there
from hornbook.infer.weights import Weights
from hornbook.lm.base import (
    Advances,
    Capabilities,
    Completion,
    Failure,
    Message,
    Request,
    Sampling,
    Score,
    TokenLogprob,
    Usage,
)
from hornbook.model.decoder import Decoder


class LocalModel:
    """Completes and scores with the engine.

    Requests with the same prompt and sampling share the reading of the prompt; all requests of a call
    are answered in one stream of batches. `name` is the model's part of `identity`; it should change
    with the weights.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        *,
        name: str,
        weights: Weights = "auto",
        max_rows: int = 64,
        max_tokens_in_memory: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.engine = Engine(
            model,
            tokenizer,
            weights=weights,
            max_rows=max_rows,
            max_tokens_in_memory=max_tokens_in_memory,
        )
        self.name = name

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        weights: Weights = "auto",
        max_rows: int = 64,
        max_tokens_in_memory: int | None = None,
    ) -> "LocalModel":
        """The checkpoint in `folder` (config, weights, tokenizer); its name holds a hash of all three."""
        from hornbook.model.hf import load_checkpoint

        folder = Path(folder)
        model = load_checkpoint(folder)
        return cls(
            model,
            Tokenizer.load(folder),
            name=f"{folder.name}@{_fingerprint(folder)}",
            weights=weights,
            max_rows=max_rows,
            max_tokens_in_memory=max_tokens_in_memory,
        )

    @property
    def identity(self) -> str:
        return f"local:{self.name}:{self.engine.weights}"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            can_score=True, can_edit_history=True, supports_schema=schemas_are_there(), logprobs=True
        )

    @cached_property
    def chat(self) -> ChatFormat:
        """How messages are encoded; refuses where the tokenizer has no chat template."""
        return ChatFormat(self.tokenizer)

    def encode(self, request: Request) -> list[int]:
        """The token ids a request is answered after."""
        if request.tokens is not None:
            return list(request.tokens)
        if request.messages is not None:
            return self.chat.encode([message.as_json() for message in request.messages])
        return self.tokenizer.encode(request.prompt or "") or [self.tokenizer.end_of_text]

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        """One result for each request, in order; a request that cannot be answered is a `Failure`."""
        results: list[Completion | Failure | None] = [None] * len(requests)
        alike: dict[tuple[tuple[int, ...], Sampling, str], list[int]] = {}
        for i, request in enumerate(requests):
            ids = self._prompt(request)
            if isinstance(ids, Failure):
                results[i] = ids
                if progress is not None:
                    progress.advance()
            else:
                schema = "" if request.schema is None else json.dumps(request.schema, sort_keys=True)
                alike.setdefault((tuple(ids), request.sampling, schema), []).append(i)
        began = time.perf_counter()
        answers = self.engine.generate(
            [prompt for prompt, _, _ in alike],
            [sampling for _, sampling, _ in alike],
            numbers=[[requests[i].sample_index for i in members] for members in alike.values()],
            schemas=[json.loads(schema) if schema else None for _, _, schema in alike],
            on_finish=_counting(progress),
        )
        for (prompt, _, schema), members, own in zip(alike, alike.values(), answers):
            for i, generation in zip(members, own):
                seconds = time.perf_counter() - began
                results[i] = self._completion(generation, len(prompt), seconds, bool(schema))
        return [result for result in results if result is not None]

    def stream(self, request: Request) -> Iterator[str]:
        """The text of one answer, piece by piece."""
        return self.engine.stream_text(self.encode(request), request.sampling, schema=request.schema)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """Log-likelihood of each (prompt, continuation).

        The continuation's tokens are those of prompt + continuation behind the prompt's own, with
        spaces at the prompt's end counted to the continuation, as evaluation harnesses do. An empty
        prompt stands for the end-of-text token. Of a prompt beyond the context its end is kept.
        """
        split, cut = [], []
        for prompt, continuation in pairs:
            before, after = self._split(prompt, continuation)
            room = max(0, self.engine.config.max_position - len(after))
            cut.append(max(0, len(before) - room) if room else 0)
            split.append((before[cut[-1] :], after))
        found = self._score(split)
        return [replace(score, cut=lost) if lost else score for score, lost in zip(found, cut)]

    def score_answers(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[Score]:
        """Log-likelihood of each answer after a conversation in the model's chat template.

        Raises:
            HornbookError: the model has no chat template, or a conversation does not fit the context.
        """
        most = self.engine.config.max_position
        split = []
        for messages, answer in pairs:
            before = self.chat.encode([message.as_json() for message in messages])
            after = self.tokenizer.encode(answer)
            if len(before) + len(after) > most:
                raise HornbookError(
                    f"A conversation has {len(before) + len(after)} tokens and the context of "
                    f"{self.identity} holds {most}. Ask with fewer examples (--shots)."
                )
            split.append((before, after))
        return self._score(split)

    def _score(self, split: Sequence[tuple[list[int], list[int]]]) -> list[Score]:
        alike: dict[tuple[int, ...], list[int]] = {}
        for i, (prompt, _) in enumerate(split):
            alike.setdefault(tuple(prompt), []).append(i)
        scored = self.engine.score(
            [list(prompt) for prompt in alike],
            [[split[i][1] for i in members] for members in alike.values()],
        )
        results: dict[int, Score] = {}
        for members, own in zip(alike.values(), scored):
            results.update(zip(members, own))
        return [results[i] for i in range(len(split))]

    def _split(self, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
        spaces = len(prompt) - len(prompt.rstrip())
        if spaces:
            prompt, continuation = prompt[:-spaces], prompt[-spaces:] + continuation
        if not prompt:
            return [self.tokenizer.end_of_text], self.tokenizer.encode(continuation)
        before = self.tokenizer.encode(prompt)
        return before, self.tokenizer.encode(prompt + continuation)[len(before) :]

    def _prompt(self, request: Request) -> list[int] | Failure:
        if request.tools:
            return Failure(
                kind="bad_request", message=f"{self.identity} takes no tools; use an endpoint for that."
            )
        if any(message.pictures for message in request.messages or ()):
            return Failure(
                kind="bad_request",
                message=f"{self.identity} is asked in text alone; pictures need an endpoint.",
            )
        try:
            if request.schema is not None:
                self.engine.check_schema(request.schema)
            ids = self.encode(request)
        except HornbookError as error:
            return Failure(kind="bad_request", message=str(error))
        most = self.engine.config.max_position
        if not 0 < len(ids) < most:
            return Failure(
                kind="bad_request",
                message=f"The prompt has {len(ids)} tokens and the context of {self.identity} holds {most}.",
            )
        return ids

    def _completion(
        self, generation: Generation, prompt_tokens: int, seconds: float, by_schema: bool
    ) -> Completion | Failure:
        logprobs = None
        if generation.logprobs is not None:
            tops = generation.top or [[]] * len(generation.tokens)
            logprobs = tuple(
                TokenLogprob(self._piece(t), logprob, tuple((self._piece(o), value) for o, value in top))
                for t, logprob, top in zip(generation.tokens, generation.logprobs, tops)
            )
        reason = generation.finish_reason
        value = None
        if by_schema:
            try:
                value = json.loads(generation.text)
            except ValueError:
                return Failure(
                    kind="truncated",
                    message="The answer reached max_tokens before its JSON was whole; allow more tokens.",
                    raw={"text": generation.text, "tokens": generation.tokens},
                    usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=len(generation.tokens)),
                )
        return Completion(
            text=generation.text,
            finish_reason="other" if reason == "cancelled" else reason,
            usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=len(generation.tokens)),
            raw={"tokens": generation.tokens},
            logprobs=logprobs,
            value=value,
            latency_seconds=seconds,
        )

    def _piece(self, token: int) -> str:
        return self.tokenizer.decode([token])


def _counting(progress: Advances | None) -> Callable[[int, int, Generation], None] | None:
    if progress is None:
        return None

    def count(prompt: int, sample: int, generation: Generation) -> None:
        progress.advance()

    return count


def _fingerprint(folder: Path) -> str:
    """16 hexadecimal digits over config, weights and tokenizer."""
    from hornbook.lab.files import sha256_file, sha256_of

    names = ["config.json", "tokenizer.json", *sorted(p.name for p in folder.glob("*.safetensors"))]
    return sha256_of({name: sha256_file(folder / name) for name in names if (folder / name).is_file()})[:16]
