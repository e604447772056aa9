"""The engine: text and tokens out of a decoder, many at a time.

Every request is a sequence of pages in one cache. What two requests begin with is read once, new ones join at
every pass, and each draws its own numbers, whatever else is in the batch. Any number of threads may ask at
once: who waits does the work, for all.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.infer.cache import PAGE
from hornbook.infer.native_decoder import NativeDecoder, serves
from hornbook.infer.packed import TorchDecoder
from hornbook.infer.sampling import row_key
from hornbook.infer.scheduler import Job, Reason, Runner, Scheduler
from hornbook.infer.text import Pieces, StopFinder, TextTokenizer
from hornbook.infer.weights import Weights, resolve, stored_as
from hornbook.lab.machine import memory_available
from hornbook.lm.base import Sampling, Score
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder

__all__ = ["Engine", "Generation", "Plan", "Sampling", "Score", "Ticket"]

_PASS_TOKENS, _PASS_TOKENS_TORCH = 512, 2048
_DRAFT_TOKENS = 6
_KEPT_BYTES = 256 << 20
"""Cache at most that is kept of sequences that have ended."""
_BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5625}


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """One answer.

    `tokens` are the drawn ids without the stop token; `text` is empty for an engine without a
    tokenizer, and ends before a stop string. `logprobs` (natural logarithm, the model's own
    distribution) is there when `Sampling.logprobs` is not None, `top` when it is above 0.
    `stopped_by` is the id of the stop token, "string" for a stop string, None otherwise.
    """

    tokens: list[int]
    text: str
    finish_reason: Reason
    stopped_by: int | str | None = None
    logprobs: list[float] | None = None
    top: list[list[tuple[int, float]]] | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Memory an engine takes: weights as they are stored, and the cache, in bytes and in tokens over all
    rows."""

    weight_bytes: int
    cache_tokens: int
    cache_bytes: int


class Ticket:
    """One answer on its way. Iterating yields its tokens as they are drawn; whoever iterates does the work.

    `reused` prompt tokens were in the cache already; it is known once the first token is there.
    """

    def __init__(self, engine: "Engine", job: Job) -> None:
        self._engine, self._job = engine, job

    def __iter__(self) -> Iterator[int]:
        sent = 0
        while True:
            while sent < len(self._job.tokens):
                yield self._job.tokens[sent]
                sent += 1
            if self._job.reason is not None:
                return
            self._engine.work(self._longer_than(sent))

    def _longer_than(self, sent: int) -> Callable[[], bool]:
        return lambda: self._job.reason is not None or len(self._job.tokens) > sent

    @property
    def tokens(self) -> list[int]:
        """What has been drawn so far."""
        return self._job.tokens

    @property
    def done(self) -> bool:
        return self._job.reason is not None

    @property
    def reused(self) -> int:
        return self._job.reused

    def cancel(self) -> None:
        """Ends the answer at the next pass, whoever does it; what it held is free then."""
        self._job.cancelled = True

    def result(self) -> Generation:
        """The whole answer; works until it is there."""
        self._engine.work(lambda: self._job.reason is not None)
        return self.peek()

    def peek(self) -> Generation:
        """The answer as it stands."""
        return self._engine._generation(self._job)


class Engine:
    """Generates from and scores with a `Decoder`.

    Args:
        model: the decoder; it is copied into the storage format (except tensors already in it).
        tokenizer: needed for `text`, stop strings, schemas and `stream_text`.
        weights: "fp32", "bf16", "int8" (a scale a row), "int4" (groups of 32; the head int8) or "auto":
            what a quantized model was made with, else bf16 where the machine multiplies it faster, else
            fp32.
        stop_tokens: ids that end an answer; default the config's `eos_ids` and, with a
            tokenizer, its `<|end|>` and end of text.
        max_rows: sequences read at once (one is one sample of one prompt).
        max_tokens_in_memory: tokens of key-value cache over all rows, in whole pages of 16; default what
            `max_rows` full contexts take, or what half of the free memory holds if that is less.
        native: whether the compiled kernels do the passes; default where they can be had (dense families on a
            CPU). With them an answer is the same, bit for bit, alone and in any batch; with torch, with fp32
            weights, but for ties within rounding.
        drafts: tokens guessed ahead by prompt lookup while at most eight answers are drawn. Guesses change no
            token; they save passes where a text repeats itself. Default 6 with the kernels, else 0.

    Raises:
        HornbookError: unknown weights, or too little memory for the weights or a single page of cache.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: TextTokenizer | None = None,
        *,
        weights: Weights = "auto",
        stop_tokens: Sequence[int] | None = None,
        max_rows: int = 64,
        max_tokens_in_memory: int | None = None,
        native: bool | None = None,
        drafts: int | None = None,
    ) -> None:
        self.device = model.embed_tokens.weight.device
        if max_rows < 1:
            raise HornbookError(f"Engine max_rows is {max_rows}; it must be at least 1.")
        if max_tokens_in_memory is not None and max_tokens_in_memory < 1:
            raise HornbookError(
                f"Engine max_tokens_in_memory is {max_tokens_in_memory}; it must be at least 1."
            )
        if drafts is not None and drafts < 0:
            raise HornbookError(f"Engine drafts is {drafts}; it must be 0 or a number of tokens.")
        self.config = model.config
        self.tokenizer = tokenizer
        stored = stored_as(list(model.modules()))
        self.weights = resolve(stored or "auto" if weights == "auto" else weights, self.device)
        if stored is not None and self.weights != stored:
            raise HornbookError(f"This model was quantized to {stored}; it cannot run as {self.weights}.")
        self.plan = plan(
            self.config, self.weights, self.device, max_rows=max_rows, max_tokens=max_tokens_in_memory
        )
        serving = serves(self.config, self.device)
        if native and not serving:
            raise HornbookError(
                "The compiled kernels do not serve here: they need a C++ compiler, a CPU and a dense model."
            )
        self.model: Runner
        with torch.inference_mode():
            if serving and native is not False:
                self.model = NativeDecoder(model, self.weights)
            else:
                self.model = TorchDecoder(model, self.weights)
        self.native = isinstance(self.model, NativeDecoder)
        self.drafts = (_DRAFT_TOKENS if self.native else 0) if drafts is None else drafts
        self.max_rows = max_rows
        self.pieces = None if tokenizer is None else Pieces(tokenizer)
        self.stop_tokens = frozenset(_default_stops(model, tokenizer) if stop_tokens is None else stop_tokens)
        self.lock = threading.RLock()
        page_bytes = PAGE * self.config.cache_bytes_per_token(self.model.dtype.itemsize)
        with torch.inference_mode():
            self.scheduler = Scheduler(
                self.model,
                pages=self.plan.cache_tokens // PAGE,
                keep=max(16, _KEPT_BYTES // page_bytes),
                rows=max_rows,
                tokens=_PASS_TOKENS if self.native else _PASS_TOKENS_TORCH,
            )

    # -- generation -----------------------------------------------------------------------------

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        *,
        sample: int = 0,
        stop_tokens: Sequence[int] | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> Ticket:
        """Queues one answer and returns at once; see `generate` for the arguments.

        Nothing happens until some thread iterates over a ticket, asks for a result or calls `work`.
        """
        [job] = self.jobs([prompt], sampling, [[sample]], stop_tokens, [schema])
        with self.lock:
            self.scheduler.submit(job)
        return Ticket(self, job)

    def work(self, until: Callable[[], bool]) -> None:
        """Does passes, for whoever has asked, until `until()` holds or nothing is left to do.

        Threads take turns; one that finds its wish fulfilled by another's pass returns without work of its
        own.
        """
        while not until() and self._pass(until):
            pass

    def _pass(self, until: Callable[[], bool]) -> bool:
        """One pass, unless another's made `until()` true meanwhile; whether there was something to do."""
        with self.lock:
            if until() or self.scheduler.idle:
                return False
            with torch.inference_mode():
                self.scheduler.step()
            return True

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling] | None = None,
        samples: int = 1,
        *,
        stop_tokens: Sequence[int] | None = None,
        numbers: Sequence[Sequence[int]] | None = None,
        schemas: Sequence[Mapping[str, Any] | None] | None = None,
        cancel: Callable[[], bool] | None = None,
        on_finish: Callable[[int, int, Generation], None] | None = None,
    ) -> list[list[Generation]]:
        """Answers every prompt `samples` times: result[prompt][sample].

        Args:
            prompts: token ids, none empty.
            sampling: one for all or one for each prompt; default `Sampling()`.
            samples: answers a prompt; the prompt is read once for all of them, and they differ in their
            noise.
            stop_tokens: ids that end an answer, instead of the engine's.
            numbers: for each prompt the numbers of its samples, 0, 1, ... by default. With a seed, sample
                number i of a prompt is always the same text, whichever others are drawn with it.
            schemas: for each prompt None or a JSON Schema that its answers satisfy if they end by themselves.
            cancel: asked before every pass; once true, what is unfinished ends as "cancelled".
            on_finish: called with (prompt, sample, generation) as answers finish.

        Raises:
            HornbookError: a prompt that is empty, holds an unknown id, or leaves no room in the
                context; stop strings without a tokenizer; a request larger than the memory allowed; a schema
                that nothing satisfies.
        """
        if samples < 1:
            raise HornbookError(f"samples is {samples}; it must be at least 1.")
        each = [list(range(samples))] * len(prompts) if numbers is None else [list(own) for own in numbers]
        jobs = self.jobs(prompts, sampling, each, stop_tokens, schemas)
        places = [(i, number) for i, own in enumerate(each) for number in own]
        # The longest answers first: then none is left alone at the end.
        order = sorted(range(len(jobs)), key=lambda i: -(len(jobs[i].prompt) + jobs[i].sampling.max_tokens))
        with self.lock:
            for i in order:
                self.scheduler.submit(jobs[i])
        reported: set[int] = set()
        try:
            while any(job.reason is None for job in jobs):
                if cancel is not None and cancel():
                    for job in jobs:
                        job.cancelled = True
                self._pass(lambda: False)
                if on_finish is not None:
                    for i, job in enumerate(jobs):
                        if job.reason is not None and i not in reported:
                            reported.add(i)
                            on_finish(*places[i], self._generation(job))
        finally:
            for job in jobs:
                job.cancelled = (
                    True  # nothing to those that are done; the others end when an exception passes
                )
        generations = iter([self._generation(job) for job in jobs])
        return [[next(generations) for _ in own] for own in each]

    def stream(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        *,
        stop_tokens: Sequence[int] | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> Iterator[int]:
        """Yields the ids of one answer as they are drawn. Closing the iterator cancels the answer.

        A token that completes a stop string is the last one yielded.
        """
        ticket = self.submit(prompt, sampling, stop_tokens=stop_tokens, schema=schema)
        try:
            yield from ticket
        finally:
            ticket.cancel()

    def stream_text(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        *,
        stop_tokens: Sequence[int] | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> Iterator[str]:
        """Yields one answer's text in pieces that join to `Generation.text`.

        Bytes of an unfinished character, and text that may yet become a stop string, are held back.
        """
        if self.pieces is None:
            raise HornbookError("Streaming text needs a tokenizer: give Engine(model, tokenizer).")
        sampling = sampling or Sampling()
        finder = StopFinder(self.pieces, sampling.stop)
        shown = 0
        for token in self.stream(prompt, sampling, stop_tokens=stop_tokens, schema=schema):
            if finder.feed(token):
                break
            end = finder.settled()
            if end > shown:
                yield finder.data[shown:end].decode("utf-8", errors="replace")
                shown = end
        if len(finder.data) > shown:
            yield finder.data[shown:].decode("utf-8", errors="replace")

    def _generation(self, job: Job) -> Generation:
        reason: Reason = job.reason or "cancelled"
        if job.finder is not None:
            text = job.finder.text()
        elif self.pieces is not None:
            text = b"".join(self.pieces[t] for t in job.tokens).decode("utf-8", errors="replace")
        else:
            text = ""
        return Generation(
            tokens=job.tokens,
            text=text,
            finish_reason=reason,
            stopped_by=job.stopped_by,
            logprobs=job.logprobs or None,
            top=job.top or None,
        )

    # -- scoring --------------------------------------------------------------------------------

    def score(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Score]]:
        """Log-likelihood of each continuation after its prompt: result[prompt][continuation].

        prompts: token ids; an empty prompt gives no probability to a continuation's first token
        (which is then not counted). continuations: for each prompt, any number of id lists; the
        prompt is read once for all of them.
        """
        if len(prompts) != len(continuations):
            raise ValueError(f"{len(prompts)} prompts but {len(continuations)} lists of continuations")
        jobs: list[list[Job | None]] = []
        for i, (prompt, ends) in enumerate(zip(prompts, continuations)):
            self._check_ids(i, prompt)
            own: list[Job | None] = []
            for end in ends:
                self._check_ids(i, end)
                length = len(prompt) + len(end)
                if length > self.config.max_position:
                    raise HornbookError(
                        f"Prompt {i} with its continuation has {length} tokens; the model's "
                        f"context holds {self.config.max_position}. Shorten it."
                    )
                self._check_room(i, length)
                scored = max(len(prompt), 1)
                job = Job(prompt=[*prompt, *end], sampling=_ONE, scored=scored, long=self._long(length))
                own.append(job if length > scored else None)
            jobs.append(own)
        self._finish([job for own in jobs for job in own if job is not None])
        return [[_as_score(job) for job in own] for own in jobs]

    def hidden(self, texts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Hidden states after the last norm of every token of each text: fp32 (tokens, hidden)."""
        jobs = []
        for i, text in enumerate(texts):
            if not text:
                raise HornbookError(f"Text {i} is empty; give at least one token.")
            self._check_ids(i, text)
            if len(text) > self.config.max_position:
                raise HornbookError(
                    f"Text {i} has {len(text)} tokens; the model's context holds {self.config.max_position}."
                )
            self._check_room(i, len(text))
            jobs.append(Job(prompt=list(text), sampling=_ONE, wants_hidden=True, long=self._long(len(text))))
        self._finish(jobs)
        return [torch.cat(job.hidden) for job in jobs]

    def _finish(self, jobs: list[Job]) -> None:
        with self.lock:
            for job in jobs:
                self.scheduler.submit(job)
        left = iter(jobs)
        try:
            for job in left:
                self.work(lambda job=job: job.reason is not None)  # type: ignore[misc]
        finally:
            for job in jobs:
                job.cancelled = True

    # -- requests -------------------------------------------------------------------------------

    @property
    def bytes_per_token(self) -> int:
        """Bytes of key-value cache of one token of one row."""
        return self.config.cache_bytes_per_token(self.model.dtype.itemsize)

    def check(self, prompt: Sequence[int], sampling: Sampling) -> Sampling:
        """`sampling` with no more tokens than the context has room for; raises as `generate` does."""
        [job] = self.jobs([prompt], sampling, [[0]])
        return job.sampling

    def _long(self, length: int) -> bool:
        """Whether LongRoPE turns a text of so many tokens (answer included) by its long factors."""
        rope = self.config.long_rope
        return rope is not None and length > rope.original_max_position

    def jobs(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling] | None,
        numbers: Sequence[Sequence[int]],
        stop_tokens: Sequence[int] | None = None,
        schemas: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> list[Job]:
        """What `scheduler` takes, for those that hold `lock` and do the passes themselves (see `generate`).

        numbers: for each prompt the numbers of its samples.
        """
        if sampling is None or isinstance(sampling, Sampling):
            each = [sampling or Sampling()] * len(prompts)
        else:
            each = list(sampling)
        if len(each) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts but {len(each)} samplings")
        wanted = [None] * len(prompts) if schemas is None else list(schemas)
        stops = self.stop_tokens if stop_tokens is None else frozenset(stop_tokens)
        jobs = []
        for i, (prompt, chosen, own, schema) in enumerate(zip(prompts, each, numbers, wanted, strict=True)):
            ids = [int(t) for t in prompt]
            if not ids:
                raise HornbookError(f"Prompt {i} is empty; give at least one token (a start token will do).")
            self._check_ids(i, ids)
            room = self.config.max_position - len(ids)
            if room < 1:
                raise HornbookError(
                    f"Prompt {i} has {len(ids)} tokens and the model's context holds "
                    f"{self.config.max_position}, answer included. Shorten the prompt."
                )
            if chosen.stop and self.pieces is None:
                raise HornbookError("Stop strings need a tokenizer: give Engine(model, tokenizer).")
            if chosen.max_tokens > room:
                chosen = replace(chosen, max_tokens=room)
            self._check_room(i, len(ids) + chosen.max_tokens)
            for number in own:
                job = Job(
                    prompt=ids,
                    sampling=chosen,
                    stop_tokens=stops,
                    key=row_key(chosen.seed, ids, number),
                    long=self._long(len(ids) + chosen.max_tokens),
                    drafts=self.drafts,
                )
                if chosen.stop and self.pieces is not None:
                    job.finder = StopFinder(self.pieces, chosen.stop)
                if schema is not None:
                    job.grammar = self._grammar(schema, stops)
                jobs.append(job)
        return jobs

    def check_schema(self, schema: Mapping[str, Any]) -> None:
        """Raises as `generate` does for a schema that cannot be used."""
        self._grammar(schema, self.stop_tokens)

    def _grammar(self, schema: Mapping[str, Any], stops: frozenset[int]) -> Any:
        from hornbook.infer.schema import Vocabulary

        if self.tokenizer is None:
            raise HornbookError("A schema needs a tokenizer: give Engine(model, tokenizer).")
        if not hasattr(self, "_vocabulary"):
            self._vocabulary = Vocabulary(self.tokenizer, self.config.vocab_size)
        return self._vocabulary.grammar(schema, stops)

    def _check_ids(self, index: int, ids: Sequence[int]) -> None:
        if ids and not (min(ids) >= 0 and max(ids) < self.config.vocab_size):
            raise HornbookError(
                f"Prompt {index} holds token ids outside 0 to {self.config.vocab_size - 1}, the "
                f"model's vocabulary: it was encoded with another tokenizer."
            )

    def _check_room(self, index: int, length: int) -> None:
        if length > self.plan.cache_tokens:
            raise HornbookError(
                f"Prompt {index} needs {length:,} cached tokens, answer included "
                f"({length * self.bytes_per_token / 2**20:,.0f} MiB), and {self.plan.cache_tokens:,} fit. "
                f"Lower max_tokens, shorten the prompt or raise max_tokens_in_memory."
            )


_ONE = Sampling(max_tokens=1)


def _as_score(job: Job | None) -> Score:
    if job is None:
        return Score(0.0, 0, True)
    own = tuple(job.logprobs)
    return Score(float(sum(own)), len(own), job.greedy, own)


def plan(
    config: ModelConfig,
    weights: Weights,
    device: torch.device,
    *,
    max_rows: int,
    max_tokens: int | None = None,
) -> Plan:
    """The memory an engine would take. `max_tokens`: of cache, instead of what half of the free memory holds.

    Raises:
        HornbookError: what is free does not hold the weights and one page of cache.
    """
    # 4- and 8-bit weights keep the embedding table in bf16 beside them.
    table = config.vocab_size * config.hidden_size * (2.0 if weights in ("int8", "int4") else 0.0)
    weight_bytes = int(config.parameters() * _BYTES[weights] + table)
    per_token = config.cache_bytes_per_token(4 if weights == "fp32" else 2)
    free = free_bytes(device)
    most = max_rows * -(-config.max_position // PAGE) * PAGE
    if max_tokens is None:
        tokens = min(most, max(0, free - weight_bytes) // 2 // per_token)
    else:
        tokens = min(most, max_tokens)
    tokens = tokens // PAGE * PAGE
    need = weight_bytes + max(tokens, PAGE) * per_token
    if need > free or (max_tokens is None and tokens < PAGE):
        raise HornbookError(
            f"The engine needs {weight_bytes / 2**20:,.0f} MiB for {weights} weights and "
            f"{max(tokens, PAGE) * per_token / 2**20:,.0f} MiB for {max(tokens, PAGE):,} cached tokens; "
            f"{free / 2**20:,.0f} MiB are free. Use smaller weights, or lower max_tokens_in_memory or "
            "max_rows."
        )
    return Plan(weight_bytes=weight_bytes, cache_tokens=tokens, cache_bytes=tokens * per_token)


def _default_stops(model: Decoder, tokenizer: TextTokenizer | None) -> set[int]:
    stops = set(model.config.eos_ids)
    specials = getattr(tokenizer, "specials", None)
    if isinstance(specials, dict):
        stops |= {specials[name] for name in ("<|end|>", "<|im_end|>", "<|endoftext|>") if name in specials}
    return stops


def free_bytes(device: torch.device) -> int:
    """Memory that can be taken now on `device`."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return memory_available()
