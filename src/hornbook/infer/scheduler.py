"""Continuous batching: requests wait, rows answer, a finished row is given to the next request."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hornbook.infer.cache import PromptCache, RowCache
from hornbook.infer.packed import ReadyDecoder
from hornbook.infer.sampling import RowSettings, row_key
from hornbook.infer.text import Pieces, StopFinder
from hornbook.lm.base import Sampling

Reason = Literal["stop", "length", "cancelled"]

PREFILL_TOKENS = 2048
"""Prompt tokens (padding included) read in one pass; longer prompts are read in chunks of this size."""


@dataclass(kw_only=True, eq=False)
class Answer:
    """One sample of one prompt, growing."""

    prompt: int
    sample: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[list[tuple[int, float]]] = field(default_factory=list)
    reason: Reason | None = None
    stopped_by: int | str | None = None
    finder: StopFinder | None = None


@dataclass(kw_only=True, eq=False)
class Work:
    """One prompt and the samples wanted of it."""

    index: int
    prompt: list[int]
    sampling: Sampling
    samples: int
    stop_tokens: frozenset[int]
    answers: list[Answer] = field(default_factory=list)
    started: int = 0
    cancelled: bool = False

    @property
    def longest(self) -> int:
        """Tokens of prompt and answer at most."""
        return len(self.prompt) + self.sampling.max_tokens


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What is held at once: `prompts` x `width` rows of `slots`, `prompt_slots` a shared prompt."""

    prompts: int
    width: int
    slots: int
    prompt_slots: int
    shared: bool
    rope_length: int


class Scheduler:
    """Answers works with one model. `step` does one forward pass of all live rows.

    `on_token(answer, token)` is called for every token as it is drawn (streaming).
    """

    def __init__(
        self,
        model: ReadyDecoder,
        layout: Layout,
        *,
        cache_dtype: torch.dtype,
        device: torch.device,
        pieces: Pieces | None = None,
        on_token: Callable[[Answer, int], None] | None = None,
    ) -> None:
        self.model, self.layout, self.device, self.pieces = model, layout, device, pieces
        self.on_token = on_token
        self.cache_dtype = cache_dtype
        rows = layout.prompts * layout.width
        self.cache = RowCache(
            model.config,
            rows=rows,
            slots=layout.slots,
            prompts=layout.prompts if layout.shared else 0,
            prompt_slots=layout.prompt_slots,
            dtype=cache_dtype,
            device=device,
            rope_length=layout.rope_length,
        )
        self.settings = RowSettings(rows, model.config.vocab_size, device)
        self.waiting: deque[Work] = deque()
        self.groups: list[Work | None] = []
        self.rows: list[Answer | None] = []
        self.width = layout.width
        self.pending = torch.zeros(rows, dtype=torch.long, device=device)
        self._group_logits: Tensor | None = None
        self.live = 0
        self.prompt_tokens = 0

    def submit(self, work: Work) -> None:
        """Queues a work; its answers grow as `step` is called."""
        self.waiting.append(work)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is being answered."""
        started = all(w is None or w.cancelled or w.started == w.samples for w in self.groups)
        return not self.waiting and self.live == 0 and started

    def step(self) -> None:
        """Admits what fits, then draws one token for every live row."""
        self._drop_cancelled()
        self._admit()
        if self.live:
            self._decode()

    # -- rows -----------------------------------------------------------------------------------

    def _drop_cancelled(self) -> None:
        if any(work.cancelled for work in self.waiting):
            self.waiting = deque(work for work in self.waiting if not work.cancelled)
        for row, answer in enumerate(self.rows):
            owner = self.groups[row // self.width]
            if answer is not None and owner is not None and owner.cancelled:
                self._finish(row, answer, "cancelled", None)

    def _finish(self, row: int, answer: Answer, reason: Reason, by: int | str | None) -> None:
        answer.reason, answer.stopped_by = reason, by
        self.rows[row] = None
        self.settings.clear(row)
        self.live -= 1

    def _refill(self, group: int) -> None:
        """Gives free lanes of a group to samples of its prompt that have not begun."""
        work = self.groups[group]
        if work is None or work.cancelled or work.started >= work.samples or self._group_logits is None:
            return
        fresh: list[int] = []
        for row in range(group * self.width, (group + 1) * self.width):
            if self.rows[row] is None and work.started < work.samples:
                self._begin(work, row)
                self.cache.start[row] = self.cache.slot
                fresh.append(row)
        if fresh:
            logits = self._group_logits[group].expand(len(fresh), -1)
            self._take(logits, np.asarray(fresh))

    def _begin(self, work: Work, row: int) -> None:
        answer = work.answers[work.started]
        if work.sampling.stop and self.pieces is not None:
            answer.finder = StopFinder(self.pieces, work.sampling.stop)
        key = row_key(work.sampling.seed, work.prompt, answer.sample)
        self.settings.place(row, work.sampling, key, work.prompt)
        self.rows[row] = answer
        work.started += 1
        self.live += 1

    def _admit(self) -> None:
        """Replaces finished groups by waiting works; else packs the live rows together."""
        for group, work in enumerate(self.groups):
            if work is not None and self._group_live(group) < self.width:
                self._refill(group)
        free = [g for g in range(len(self.groups)) if self._group_live(g) == 0]
        room = len(free) + self.layout.prompts - len(self.groups)
        if self.waiting and room:
            if self.width < self.layout.width:
                if self.live:
                    return  # lanes were given up; the last samples end before new prompts begin
                self.groups, self.rows, self.width = [], [], self.layout.width
                free, room = [], self.layout.prompts
            enough = min(len(self.waiting), max(1, self.layout.prompts // 8))
            if room >= enough or self.live == 0:
                self._place(free, room)
        elif not self.waiting and free:
            self._pack()
        self.cache.rows = len(self.rows)
        self.cache.width = self.width if self.layout.shared else 0

    def _group_live(self, group: int) -> int:
        rows = self.rows[group * self.width : (group + 1) * self.width]
        return sum(answer is not None for answer in rows)

    def _place(self, free: list[int], room: int) -> None:
        """Reads the prompts of as many waiting works as there is room for and starts their answers."""
        works = [self.waiting.popleft() for _ in range(min(room, len(self.waiting)))]
        self._make_room(works)
        for work in works:
            if free:
                self.groups[free.pop(0)] = work
            else:
                self.groups.append(work)
                self.rows += [None] * self.width
        placed = {id(work): group for group, work in enumerate(self.groups) if work is not None}
        self.cache.rows = len(self.rows)
        for batch in prefill_batches([w.prompt for w in works]):
            self._read([works[i] for i in batch], placed)

    def _make_room(self, works: list[Work]) -> None:
        """Moves the slot pointer so that the new prompts fit before it and the answers behind it."""
        before = 0 if self.layout.shared else max(len(w.prompt) for w in works)
        ahead = max(w.sampling.max_tokens for w in works)
        if self.live == 0:
            self.cache.slot = before
            self.cache.start.fill_(before)
            return
        for row, answer in enumerate(self.rows):
            if answer is None:
                self.cache.start[row] = self.cache.slot
        low = int(self.cache.start[: len(self.rows)].min())
        self.cache.rows = len(self.rows)
        if self.cache.slot < before:
            self.cache.shift(before)
        elif self.cache.slot + ahead > self.layout.slots:
            self.cache.shift(max(self.cache.slot - low, before))

    def _read(self, works: list[Work], placed: dict[int, int]) -> None:
        """Prefills a batch of prompts of similar length and draws the first token of their answers."""
        lengths = [len(work.prompt) for work in works]
        cache, last = read_prompts(
            self.model,
            [work.prompt for work in works],
            dtype=self.cache_dtype,
            device=self.device,
            rope_length=self.layout.rope_length,
        )
        self.prompt_tokens += sum(lengths)
        logits = self.model.logits(last)
        fresh: list[int] = []
        source: list[int] = []
        for i, work in enumerate(works):
            group = placed[id(work)]
            if self.layout.shared:
                self.cache.share_prompt(cache, i, lengths[i], group)
                if self._group_logits is None:
                    shape = (self.layout.prompts, logits.shape[-1])
                    self._group_logits = torch.zeros(shape, device=self.device)
                self._group_logits[group] = logits[i]
            for lane in range(self.width):
                row = group * self.width + lane
                self.cache.start[row] = self.cache.slot
                if work.started < work.samples:
                    self._begin(work, row)
                    fresh.append(row)
                    source.append(i)
                    if not self.layout.shared:
                        self.cache.take_prompt(cache, i, lengths[i], row)
        order = sorted(range(len(fresh)), key=fresh.__getitem__)
        chosen = logits[torch.tensor([source[i] for i in order], device=self.device)]
        self._take(chosen, np.asarray([fresh[i] for i in order]))

    def _pack(self) -> None:
        """Moves live rows together once a quarter of the rows is idle, so that idle ones cost nothing."""
        groups = [g for g in range(len(self.groups)) if self._group_live(g)]
        width = max((self._group_live(g) for g in groups), default=0)
        if len(groups) * width > 0.75 * len(self.rows):
            return
        moves: list[tuple[int, int]] = []
        for target, group in enumerate(groups):
            lanes = [
                r for r in range(group * self.width, (group + 1) * self.width) if self.rows[r] is not None
            ]
            moves += [(source, target * width + lane) for lane, source in enumerate(lanes)]
            if target != group:
                if self.layout.shared:
                    self.cache.move_prompt(group, target)
                if self._group_logits is not None:
                    self._group_logits[target] = self._group_logits[group]
        rows: list[Answer | None] = [None] * (len(groups) * width)
        for source, target in moves:  # targets never run ahead of sources, so nothing is overwritten
            rows[target] = self.rows[source]
            if source != target:
                self.cache.move_row(source, target)
                self.settings.move(source, target)
                self.pending[target] = self.pending[source]
        self.groups = [self.groups[g] for g in groups]
        self.rows, self.width = rows, width
        for row in range(len(self.layout_rows)):
            if row >= len(rows) or rows[row] is None:
                self.settings.clear(row)
                self.cache.start[row] = self.cache.slot

    @property
    def layout_rows(self) -> range:
        """Every row there can be."""
        return range(self.layout.prompts * self.layout.width)

    # -- tokens ---------------------------------------------------------------------------------

    def _decode(self) -> None:
        count = len(self.rows)
        if self.cache.slot >= self.layout.slots:
            for row, answer in enumerate(self.rows):
                if answer is None:
                    self.cache.start[row] = self.cache.slot
            self.cache.shift(self.cache.slot - int(self.cache.start[:count].min()))
        hidden = self.model(self.pending[:count, None], self.cache)
        self._take(self.model.logits(hidden[:, -1]), np.arange(count))

    def _take(self, logits: Tensor, rows: np.ndarray) -> None:
        """Draws a token for each of `rows` from logits (len(rows), vocab) and files it."""
        chosen = self.settings.draw(logits, rows)
        if len(rows) == len(self.rows):
            self.pending[: len(rows)] = chosen
        else:
            self.pending[torch.from_numpy(rows).to(self.device)] = chosen
        tokens = chosen.tolist()
        wanted = self._logprobs(logits, chosen, rows)
        for i, row in enumerate(rows.tolist()):
            answer = self.rows[row]
            if answer is None:
                continue
            work = self.groups[row // self.width]
            assert work is not None
            token = tokens[i]
            if token in work.stop_tokens:
                self._finish(row, answer, "stop", token)
                continue
            answer.tokens.append(token)
            if wanted is not None and work.sampling.logprobs is not None:
                answer.logprobs.append(wanted[0][i])
                if work.sampling.logprobs:
                    answer.top.append(wanted[1][i][: work.sampling.logprobs])
            if answer.finder is not None and answer.finder.feed(token):
                self._finish(row, answer, "stop", "string")
            elif len(answer.tokens) >= work.sampling.max_tokens:
                self._finish(row, answer, "length", None)
            if self.on_token is not None:
                self.on_token(answer, token)

    def _logprobs(
        self, logits: Tensor, chosen: Tensor, rows: np.ndarray
    ) -> tuple[list[float], list[list[tuple[int, float]]]] | None:
        """The model's own log-probabilities (temperature 1, nothing narrowed) where a work asks for them."""
        most = -1
        for work in self.groups:
            if work is not None and work.sampling.logprobs is not None:
                most = max(most, work.sampling.logprobs)
        if most < 0:
            return None
        logs = logits.log_softmax(-1)
        own: list[float] = logs.gather(1, chosen[:, None])[:, 0].tolist()
        if most == 0:
            return own, []
        best = logs.topk(min(most, logs.shape[-1]), -1)
        pairs = zip(best.indices.tolist(), best.values.tolist())
        return own, [list(zip(index, value)) for index, value in pairs]


def prefill_batches(prompts: Sequence[Sequence[int]], tokens: int = PREFILL_TOKENS) -> list[list[int]]:
    """Indices of prompts that are read together: similar lengths, at most `tokens` with padding."""
    batches: list[list[int]] = []
    current: list[int] = []
    longest = 0
    for i in sorted(range(len(prompts)), key=lambda i: -len(prompts[i])):
        longest = longest or len(prompts[i])
        wasteful = len(prompts[i]) < 0.7 * longest and longest - len(prompts[i]) > 16
        if current and ((len(current) + 1) * longest > tokens or wasteful):
            batches.append(current)
            current, longest = [], len(prompts[i])
        current.append(i)
    return [*batches, current] if current else batches


def read_prompts(
    model: ReadyDecoder,
    prompts: Sequence[Sequence[int]],
    *,
    dtype: torch.dtype,
    device: torch.device,
    rope_length: int,
    chunk: int = PREFILL_TOKENS,
) -> tuple[PromptCache, Tensor]:
    """Reads prompts padded on the right: their cache and the hidden state of each one's last token."""
    longest = max(map(len, prompts))
    tokens = np.zeros((len(prompts), longest), dtype=np.int64)
    for i, prompt in enumerate(prompts):
        tokens[i, : len(prompt)] = prompt
    ids = torch.from_numpy(tokens).to(device)
    cache = PromptCache(
        model.config,
        prompts=len(prompts),
        length=longest,
        dtype=dtype,
        device=device,
        rope_length=rope_length,
    )
    ends = torch.tensor([len(p) - 1 for p in prompts], device=device)
    last: Tensor | None = None
    for begin in range(0, longest, chunk):
        hidden = model(ids[:, begin : begin + chunk], cache)
        if last is None:
            last = torch.zeros(len(prompts), hidden.shape[-1], dtype=hidden.dtype, device=device)
        inside = (ends >= begin) & (ends < begin + chunk)
        rows = inside.nonzero()[:, 0]
        last[rows] = hidden[rows, ends[rows] - begin]
    assert last is not None
    return cache, last
