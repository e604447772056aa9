"""The engine: text and tokens out of a decoder, many at a time.

Prompts are read once however many samples are wanted of them, rows of a batch are replaced as they finish,
and every request draws its own numbers, whatever else is in the batch.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from hornbook.errors import HornbookError
from hornbook.infer.packed import ReadyDecoder, Weights, resolve
from hornbook.infer.scheduler import PREFILL_TOKENS, Answer, Layout, Reason, Scheduler, Work
from hornbook.infer.scoring import score_pairs
from hornbook.infer.text import Pieces, StopFinder, TextTokenizer
from hornbook.lm.base import Sampling, Score
from hornbook.model.decoder import Decoder

__all__ = ["Engine", "Generation", "Sampling", "Score"]


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


class Engine:
    """Generates from and scores with a `Decoder`.

    Args:
        model: the decoder; it is copied into the storage format (except tensors already in it).
        tokenizer: needed for `text`, stop strings and `stream_text`.
        weights: "fp32", "bf16", "int8" (per row), "int4" (groups of 32) or "auto": bf16 where the
            machine multiplies it faster, else fp32. With fp32 a request gives the same text alone and
            in any batch but for ties within rounding; with bf16 rounding is coarser and texts drawn
            at a temperature may part after some tokens.
        stop_tokens: ids that end an answer; default the config's `eos_ids` and, with a
            tokenizer, its `<|end|>` and end of text.
        max_rows: rows answered at once (one row is one sample of one prompt).
        max_tokens_in_memory: slots of key-value cache at most over all rows; default what half of
            the free memory holds.

    Raises:
        HornbookError: unknown weights, or too little memory for a single request.
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
    ) -> None:
        parameter = next(model.parameters())
        self.device = parameter.device
        if max_rows < 1:
            raise HornbookError(f"Engine max_rows is {max_rows}; it must be at least 1.")
        if max_tokens_in_memory is not None and max_tokens_in_memory < 1:
            raise HornbookError(
                f"Engine max_tokens_in_memory is {max_tokens_in_memory}; it must be at least 1."
            )
        self.config = model.config
        self.tokenizer = tokenizer
        self.weights = resolve(weights, self.device)
        with torch.inference_mode():
            self.model = ReadyDecoder(model, self.weights)
        # Batched products of few queries are slower in bf16 than in fp32 on a CPU (measured).
        self.cache_dtype = torch.float32 if self.device.type == "cpu" else self.model.dtype
        self.max_rows = max_rows
        self.pieces = None if tokenizer is None else Pieces(tokenizer)
        self.stop_tokens = frozenset(_default_stops(model, tokenizer) if stop_tokens is None else stop_tokens)
        self.max_tokens_in_memory = max_tokens_in_memory
        self.lock = threading.Lock()

    # -- generation -----------------------------------------------------------------------------

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling] | None = None,
        samples: int = 1,
        *,
        stop_tokens: Sequence[int] | None = None,
        numbers: Sequence[Sequence[int]] | None = None,
        cancel: Callable[[], bool] | None = None,
        on_finish: Callable[[int, int, Generation], None] | None = None,
    ) -> list[list[Generation]]:
        """Answers every prompt `samples` times: result[prompt][sample].

        Args:
            prompts: token ids, none empty.
            sampling: one for all or one for each prompt; default `Sampling()`.
            samples: answers a prompt; they share the prompt's cache and differ in their noise.
            stop_tokens: ids that end an answer, instead of the engine's.
            numbers: for each prompt the numbers of its samples, 0, 1, ... by default. With a seed, sample
                number i of a prompt is always the same text, whichever others are drawn with it.
            cancel: asked before every step; once true, what is unfinished ends as "cancelled".
            on_finish: called with (prompt, sample, generation) as answers finish.

        Raises:
            HornbookError: a prompt that is empty, holds an unknown id, or leaves no room in the
                context; stop strings without a tokenizer; a request larger than the memory allowed.
        """
        if samples < 1:
            raise HornbookError(f"samples is {samples}; it must be at least 1.")
        works = self._works(prompts, sampling, samples, stop_tokens)
        if numbers is not None:
            for work, own in zip(works, numbers, strict=True):
                for answer, number in zip(work.answers, own, strict=True):
                    answer.sample = number
        results: dict[int, list[Generation]] = {}
        for part in self._same_rope(works):
            scheduler = self._scheduler(part, samples)
            for work in sorted(part, key=lambda w: -w.longest):
                scheduler.submit(work)
            reported: set[int] = set()
            with self.lock:
                while not scheduler.idle:
                    if cancel is not None and cancel():
                        for work in part:
                            work.cancelled = True
                    scheduler.step()
                    if on_finish is not None:
                        self._report(part, reported, on_finish)
            for work in part:
                results[work.index] = [self._generation(answer) for answer in work.answers]
        return [results[i] for i in range(len(works))]

    def stream(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        *,
        stop_tokens: Sequence[int] | None = None,
    ) -> Iterator[int]:
        """Yields the ids of one answer as they are drawn. Closing the iterator cancels the answer.

        A token that completes a stop string is the last one yielded.
        """
        for token, _ in self._stream(prompt, sampling, stop_tokens):
            yield token

    def stream_text(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        *,
        stop_tokens: Sequence[int] | None = None,
    ) -> Iterator[str]:
        """Yields one answer's text in pieces that join to `Generation.text`.

        Bytes of an unfinished character, and text that may yet become a stop string, are held back.
        """
        if self.pieces is None:
            raise HornbookError("Streaming text needs a tokenizer: give Engine(model, tokenizer).")
        sampling = sampling or Sampling()
        finder = StopFinder(self.pieces, sampling.stop)
        shown = 0
        for token, _ in self._stream(prompt, sampling, stop_tokens):
            if finder.feed(token):
                break
            end = finder.settled()
            if end > shown:
                yield finder.data[shown:end].decode("utf-8", errors="replace")
                shown = end
        if len(finder.data) > shown:
            yield finder.data[shown:].decode("utf-8", errors="replace")

    def _stream(
        self, prompt: Sequence[int], sampling: Sampling | None, stop_tokens: Sequence[int] | None
    ) -> Iterator[tuple[int, Answer]]:
        [work] = self._works([prompt], sampling, 1, stop_tokens)
        scheduler = self._scheduler([work], 1)
        scheduler.submit(work)
        answer, sent = work.answers[0], 0
        while not scheduler.idle:
            with self.lock, torch.inference_mode():
                scheduler.step()
            while sent < len(answer.tokens):
                yield answer.tokens[sent], answer
                sent += 1

    def _report(
        self, works: list[Work], reported: set[int], on_finish: Callable[[int, int, Generation], None]
    ) -> None:
        for work in works:
            for answer in work.answers:
                if answer.reason is not None and id(answer) not in reported:
                    reported.add(id(answer))
                    on_finish(answer.prompt, answer.sample, self._generation(answer))

    def _generation(self, answer: Answer) -> Generation:
        reason: Reason = answer.reason or "cancelled"
        if answer.finder is not None:
            text = answer.finder.text()
        elif self.pieces is not None:
            text = b"".join(self.pieces[t] for t in answer.tokens).decode("utf-8", errors="replace")
        else:
            text = ""
        return Generation(
            tokens=answer.tokens,
            text=text,
            finish_reason=reason,
            stopped_by=answer.stopped_by,
            logprobs=answer.logprobs or None,
            top=answer.top or None,
        )

    # -- scoring --------------------------------------------------------------------------------

    @torch.inference_mode()
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
        for i, (prompt, ends) in enumerate(zip(prompts, continuations)):
            for end in ends:
                self._check_ids(i, end)
                if len(prompt) + len(end) > self.config.max_position:
                    raise HornbookError(
                        f"Prompt {i} with its continuation has {len(prompt) + len(end)} tokens; the model's "
                        f"context holds {self.config.max_position}. Shorten it."
                    )
            self._check_ids(i, prompt)
        with self.lock:
            return score_pairs(self.model, prompts, continuations, dtype=self.cache_dtype, device=self.device)

    # -- planning -------------------------------------------------------------------------------

    def tokens_that_fit(self) -> int:
        """Slots of key-value cache that may be used, over all rows."""
        if self.max_tokens_in_memory is not None:
            return self.max_tokens_in_memory
        return max(0, free_bytes(self.device) // 2) // self.bytes_per_token

    @property
    def bytes_per_token(self) -> int:
        """Bytes of key-value cache of one token of one row."""
        return self.config.cache_bytes_per_token(self.cache_dtype.itemsize)

    def plan(self, works: Sequence[Work], samples: int) -> Layout:
        """How many rows of how many slots will be held for `works`; refuses what cannot fit."""
        fits = self.tokens_that_fit()
        shared = samples > 1
        longest_prompt = max(len(w.prompt) for w in works)
        longest = max(w.longest for w in works)
        answer = max(w.sampling.max_tokens for w in works)
        prompt_slots = longest_prompt if shared else 0
        least = answer if shared else longest_prompt + answer
        width = min(samples, self.max_rows)
        prompts = min(len(works), max(1, self.max_rows // width))
        roomy = True
        while True:
            # Rows that are given to others in mid-answer need spare slots, else every step moves the cache.
            reused = len(works) > prompts or samples > width
            slots = least + (max(64, least // 2) if reused and roomy else 0)
            reading = max(longest_prompt, min(prompts * longest_prompt, PREFILL_TOKENS))
            need = prompts * (width * slots + prompt_slots) + reading
            if need <= fits:
                break
            if prompts > 1:
                prompts = max(1, prompts * 3 // 4)
            elif width > 1:
                width = max(1, width * 3 // 4)
            elif reused and roomy:
                roomy = False
            else:
                raise HornbookError(
                    f"One answer of {longest_prompt} prompt and {answer} new tokens needs {need:,} cached "
                    f"tokens ({need * self.bytes_per_token / 2**20:,.0f} MiB) and {fits:,} fit. "
                    f"Lower max_tokens, shorten the prompt or raise max_tokens_in_memory."
                )
        return Layout(
            prompts=prompts,
            width=width,
            slots=slots,
            prompt_slots=prompt_slots,
            shared=shared,
            rope_length=longest,
        )

    def _scheduler(self, works: Sequence[Work], samples: int) -> Scheduler:
        return Scheduler(
            self.model,
            self.plan(works, samples),
            cache_dtype=self.cache_dtype,
            device=self.device,
            pieces=self.pieces,
        )

    def check(self, prompt: Sequence[int], sampling: Sampling) -> Sampling:
        """`sampling` with no more tokens than the context has room for; raises as `generate` does."""
        [work] = self._works([prompt], sampling, 1, None)
        return work.sampling

    def _same_rope(self, works: list[Work]) -> list[list[Work]]:
        """Works that LongRoPE turns by the same factors: no result may hang on its neighbours."""
        rope = self.config.long_rope
        if rope is None:
            return [works] if works else []
        short = [w for w in works if w.longest <= rope.original_max_position]
        long = [w for w in works if w.longest > rope.original_max_position]
        return [part for part in (short, long) if part]

    def _works(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling] | None,
        samples: int,
        stop_tokens: Sequence[int] | None,
    ) -> list[Work]:
        if sampling is None or isinstance(sampling, Sampling):
            each = [sampling or Sampling()] * len(prompts)
        else:
            each = list(sampling)
        if len(each) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts but {len(each)} samplings")
        stops = self.stop_tokens if stop_tokens is None else frozenset(stop_tokens)
        works = []
        for i, (prompt, chosen) in enumerate(zip(prompts, each)):
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
                chosen = _with_max_tokens(chosen, room)
            work = Work(index=i, prompt=ids, sampling=chosen, samples=samples, stop_tokens=stops)
            work.answers = [Answer(prompt=i, sample=s) for s in range(samples)]
            works.append(work)
        return works

    def _check_ids(self, index: int, ids: Sequence[int]) -> None:
        if ids and not (min(ids) >= 0 and max(ids) < self.config.vocab_size):
            raise HornbookError(
                f"Prompt {index} holds token ids outside 0 to {self.config.vocab_size - 1}, the "
                f"model's vocabulary: it was encoded with another tokenizer."
            )


def _with_max_tokens(sampling: Sampling, max_tokens: int) -> Sampling:
    from dataclasses import replace

    return replace(sampling, max_tokens=max_tokens)


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
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import os

    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
