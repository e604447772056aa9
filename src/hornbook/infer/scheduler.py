"""Continuous batching: every pass holds the next tokens of all live sequences, as many prompts as fit beside
them.

A sequence is a list of tokens of which some are read; drawing appends one. There is no difference between
reading a prompt, reading it in pieces, answering, trying a draft, and reading again after memory was taken
away: a pass reads what is not read yet.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from hornbook.infer.cache import PAGE, PagedCache, Span
from hornbook.infer.pages import PagePool
from hornbook.infer.sampling import RowSettings
from hornbook.infer.speculate import Lookup
from hornbook.infer.text import StopFinder
from hornbook.lm.base import Sampling
from hornbook.model.config import ModelConfig

Reason = Literal["stop", "length", "cancelled"]

_LOGITS = 1 << 25
"""Numbers of logits in one pass at most, whatever the vocabulary (but always one row)."""


class Runner(Protocol):
    """A decoder that reads a pass."""

    config: ModelConfig
    dtype: torch.dtype
    device: torch.device
    mixes_rope: bool
    """Whether one pass may hold sequences of both sets of LongRoPE's factors."""

    def run(self, ids: np.ndarray, cache: PagedCache, want: np.ndarray) -> tuple[Tensor, Tensor]:
        """Hidden states (wanted, hidden) and logits (wanted, vocab_size), fp32, of the tokens `want`."""
        ...

    def weight_bytes(self) -> int: ...


class Grammar(Protocol):
    """What narrows the next token of one answer."""

    def mask(self) -> np.ndarray:
        """Which tokens may come next: bool (vocab_size,)."""
        ...

    def take(self, token: int) -> None:
        """Counts a drawn token."""
        ...


@dataclass(kw_only=True, eq=False)
class Job:
    """One sequence: a prompt and what is drawn behind it, or a text whose tokens are only scored.

    `scored` is the place from which each token's log-probability is wanted; such a job draws nothing.
    `hidden` asks for the hidden states of every token instead.
    """

    prompt: list[int]
    sampling: Sampling
    stop_tokens: frozenset[int] = frozenset()
    key: int = 0
    long: bool = False
    drafts: int = 0
    lookup: Lookup | None = None
    scored: int | None = None
    wants_hidden: bool = False
    finder: StopFinder | None = None
    grammar: Grammar | None = None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[list[tuple[int, float]]] = field(default_factory=list)
    greedy: bool = True
    hidden: list[Tensor] = field(default_factory=list)
    reason: Reason | None = None
    stopped_by: int | str | None = None
    cancelled: bool = False
    reused: int = 0
    read: int = 0
    passes: int = 0
    pages: list[int] = field(default_factory=list)
    row: int | None = None

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.tokens)

    @property
    def wanted_length(self) -> int:
        """Tokens that must have been read before the next is drawn; a scored text needs not its last."""
        return self.length - (self.scored is not None)

    def ids(self, first: int, last: int) -> list[int]:
        """Tokens first ... last - 1 of prompt and answer."""
        size = len(self.prompt)
        if first >= size:
            return self.tokens[first - size : last - size]
        return [*self.prompt[first:last], *self.tokens[: max(0, last - size)]]


@dataclass(kw_only=True)
class _Piece:
    """What a pass reads of one job: `count` tokens of it and `guess` behind them; rows of the results."""

    job: Job
    count: int
    guess: list[int]
    first_wanted: int
    rows: slice = field(default_factory=lambda: slice(0))


class Scheduler:
    """Answers jobs with one model. `step` does one pass.

    pages: of the cache. rows: jobs read at once. tokens: of one pass, prompts included.
    """

    def __init__(self, model: Runner, *, pages: int, keep: int, rows: int, tokens: int) -> None:
        self.model, self.tokens = model, tokens
        self.cache = PagedCache(model.config, pages=pages, dtype=model.dtype, device=model.device)
        self.pool = PagePool(pages, keep=keep)
        self.settings = RowSettings(rows, model.config.vocab_size, model.device)
        self.waiting: deque[Job] = deque()
        self.live: list[Job] = []
        self._rows = list(range(rows - 1, -1, -1))
        self._long = False
        self._logit_rows = max(1, _LOGITS // model.config.vocab_size)

    def submit(self, job: Job) -> None:
        """Queues a job; it grows as `step` is called."""
        self.waiting.append(job)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is being answered."""
        return not self.waiting and not self.live

    def step(self) -> None:
        """Drops what was cancelled, reads the next tokens of what lives and of what can begin, and draws."""
        self._drop_cancelled()
        pieces = self._plan()
        if pieces:
            self._run(pieces)

    # -- who lives ------------------------------------------------------------------------------

    def _drop_cancelled(self) -> None:
        if any(job.cancelled for job in self.waiting):
            for job in self.waiting:
                if job.cancelled:
                    job.reason = "cancelled"
            self.waiting = deque(job for job in self.waiting if not job.cancelled)
        for job in [job for job in self.live if job.cancelled]:
            self._finish(job, "cancelled", None)

    def _finish(self, job: Job, reason: Reason, by: int | str | None) -> None:
        job.reason, job.stopped_by = reason, by
        self.pool.name(job.pages, job.ids(0, job.read), long=job.long)
        self._release(job)

    def _release(self, job: Job) -> None:
        """Takes pages and row away; `read` is what a second start can rely on: nothing."""
        for page in reversed(job.pages):  # the last first: what is forgotten first is what fewest share
            self.pool.give_back(page)
        job.pages, job.read = [], 0
        if job.row is not None:
            self.settings.clear(job.row)
            self._rows.append(job.row)
            job.row = None
        self.live.remove(job)

    def _begin(self, job: Job) -> None:
        """Gives a waiting job a row and the pages that already hold its beginning."""
        known = job.ids(0, job.length)[: self._findable(job)]
        job.pages, partly, source = self.pool.find(known, long=job.long)
        job.read = PAGE * len(job.pages)
        if source is not None:
            self.pool.share(source)  # or `take` might give that very page away
            page = self.pool.take()
            if page is not None:
                self.cache.copy_page(source, page)
                job.pages.append(page)
                job.read += partly
            self.pool.give_back(source)
        if job.passes == 0:
            job.reused = job.read
        if job.scored is None and not job.wants_hidden:
            job.row = self._rows.pop()
            self.settings.place(job.row, job.sampling, job.key, job.prompt, drawn=job.tokens)
        self.live.append(job)

    def _findable(self, job: Job) -> int:
        """Tokens that may be taken from the cache: not those whose results are wanted."""
        if job.wants_hidden:
            return 0
        if job.scored is not None:
            return max(0, min(job.scored, job.length) - 1)
        return job.length - 1

    def _same_beginning(self, job: Job) -> bool:
        """Whether a live job is reading just now what this one begins with, so that waiting is cheaper."""
        known = self._findable(job)
        for other in self.live:
            unread = min(len(other.prompt), known)
            if other.long != job.long or other.wants_hidden or unread <= max(other.read, PAGE // 2):
                continue
            end = min(unread, other.read + 2 * PAGE)  # agreement so far is agreement enough
            if other.prompt is job.prompt or other.prompt[:end] == job.prompt[:end]:
                return True
        return False

    # -- what a pass reads ------------------------------------------------------------------------

    def _plan(self) -> list[_Piece]:
        pieces: list[_Piece] = []
        tokens, logits = self.tokens, self._logit_rows
        drawing = [job for job in self.live if job.wanted_length - job.read == 1]
        reading = [job for job in self.live if job.wanted_length - job.read > 1]
        spare = 1 if len(self.live) > 8 else 8  # where many answer, drafts would cost more than they win
        for job in [*drawing, *reading]:
            if job not in self.live or tokens <= 0 or logits <= 0:
                continue  # or its memory was taken for an older job in this very plan
            piece = self._piece(job, tokens, logits, spare)
            if piece is not None:
                pieces.append(piece)
                tokens -= piece.count + len(piece.guess)
                logits -= piece.count + len(piece.guess) - piece.first_wanted
        held = 0
        while self.waiting and tokens > 0 and logits > 0 and self._rows and held < len(self.waiting):
            job = self.waiting[held]
            if len(self.live) >= len(self.settings.active) or self.pool.free == 0:
                break
            if self._same_beginning(job):
                held += 1
                if held > 64:
                    break
                continue
            del self.waiting[held]
            self._begin(job)
            piece = self._piece(job, tokens, logits, spare, may_evict=False)
            if piece is None:
                self._release(job)
                self.waiting.insert(held, job)
                break
            pieces.append(piece)
            tokens -= piece.count + len(piece.guess)
            logits -= piece.count + len(piece.guess) - piece.first_wanted
        pieces = [piece for piece in pieces if piece.job in self.live]
        if not self.model.mixes_rope and len({piece.job.long for piece in pieces}) == 2:
            self._long = not self._long  # by turns
            pieces = [piece for piece in pieces if piece.job.long == self._long]
        return pieces

    def _piece(self, job: Job, tokens: int, logits: int, spare: int, may_evict: bool = True) -> _Piece | None:
        """As many of the job's next tokens as the pass has room for, with pages to hold them."""
        count = min(job.wanted_length - job.read, tokens)
        first = count - 1
        if job.scored is not None or job.wants_hidden:
            first = max(0, (job.scored or 1) - 1 - job.read)
            count = min(count, first + logits)
            first = min(first, count)
        elif job.read + count < job.length:
            first = count
        guess: list[int] = []
        if job.drafts and job.scored is None and count == 1 == job.length - job.read and spare > 1:
            most = min(job.drafts, tokens - 1, logits - 1, job.sampling.max_tokens - len(job.tokens) - 1)
            job.lookup = job.lookup or Lookup(job.prompt)
            guess = job.lookup.guess(job.tokens, most)
        if not self._make_room(job, job.read + count + len(guess), may_evict):
            return None
        return _Piece(job=job, count=count, guess=guess, first_wanted=first)

    def _make_room(self, job: Job, length: int, may_evict: bool) -> bool:
        """Pages for `length` tokens of a job. Younger jobs give theirs up for it and begin anew later."""
        while len(job.pages) * PAGE < length:
            page = self.pool.take()
            if page is None:
                youngest = self.live[-1]
                if not may_evict or youngest is job:
                    return False
                self._release(youngest)
                self.waiting.appendleft(youngest)
                continue
            job.pages.append(page)
        return True

    # -- the pass ---------------------------------------------------------------------------------

    def _run(self, pieces: list[_Piece]) -> None:
        ids: list[int] = []
        want: list[int] = []
        for piece in pieces:
            job, begin = piece.job, len(ids)
            ids += job.ids(job.read, job.read + piece.count)
            ids += piece.guess
            end = len(ids)
            piece.rows = slice(len(want), len(want) + end - begin - piece.first_wanted)
            want += range(begin + piece.first_wanted, end)
        self.cache.begin(
            [
                Span(piece.job.pages, piece.job.read, piece.count + len(piece.guess), piece.job.long)
                for piece in pieces
            ]
        )
        hidden, logits = self.model.run(
            np.array(ids, dtype=np.int64), self.cache, np.array(want, dtype=np.int64)
        )
        drawing: list[_Piece] = []
        for piece in pieces:
            job = piece.job
            job.read += piece.count
            job.passes += 1
            if job.wants_hidden:
                job.hidden.append(hidden[piece.rows])
                if job.read == job.length:
                    self._finish(job, "length", None)
            elif job.scored is not None:
                self._score(job, logits[piece.rows])
            elif job.read == job.length:
                if not job.tokens and job.reused < len(job.prompt) - PAGE:
                    self.pool.name(job.pages, job.prompt, long=job.long)
                drawing.append(piece)
        self._draw(drawing, logits)

    def _score(self, job: Job, logits: Tensor) -> None:
        if len(logits):
            aim = torch.tensor(job.prompt[job.read - len(logits) + 1 : job.read + 1], device=logits.device)
            logs = logits.log_softmax(-1)
            job.logprobs += logs.gather(1, aim[:, None])[:, 0].tolist()
            job.greedy &= bool((logits.argmax(-1) == aim).all())
        if job.read >= job.wanted_length:
            self._finish(job, "length", None)

    def _draw(self, pieces: list[_Piece], logits: Tensor) -> None:
        """Draws behind each piece, and on through its guess for as long as the guess is what is drawn."""
        offset = 0
        while pieces:
            pieces = sorted(pieces, key=lambda piece: piece.job.row or 0)
            places = [piece.rows.start + offset for piece in pieces]
            if len(places) == len(logits) and places == list(range(len(logits))):
                own = logits
            else:
                own = logits[torch.tensor(places, device=logits.device)]
            rows = np.array([piece.job.row for piece in pieces], dtype=np.int64)
            chosen = self.settings.draw(self._narrowed(own, pieces), rows)
            tokens = chosen.tolist()
            wanted = _logprobs(own, chosen, [piece.job.sampling.logprobs for piece in pieces])
            going = []
            for i, piece in enumerate(pieces):
                job, token = piece.job, tokens[i]
                self._file(job, token, None if wanted is None else (wanted[0][i], wanted[1][i : i + 1]))
                if job.reason is None and offset < len(piece.guess) and piece.guess[offset] == token:
                    job.read += 1
                    going.append(piece)
            pieces, offset = going, offset + 1

    def _narrowed(self, logits: Tensor, pieces: list[_Piece]) -> Tensor:
        grammars = [(i, piece.job.grammar) for i, piece in enumerate(pieces) if piece.job.grammar is not None]
        if not grammars:
            return logits
        logits = logits.clone()
        for i, grammar in grammars:
            assert grammar is not None
            allowed = torch.from_numpy(grammar.mask()).to(logits.device)
            logits[i].masked_fill_(~allowed, float("-inf"))
        return logits

    def _file(self, job: Job, token: int, wanted: tuple[float, list[list[tuple[int, float]]]] | None) -> None:
        """Files one drawn token with its job and ends the answer where it ends."""
        if job.grammar is not None:
            job.grammar.take(token)
        if token in job.stop_tokens:
            self._finish(job, "stop", token)
            return
        job.tokens.append(token)
        if wanted is not None and job.sampling.logprobs is not None:
            job.logprobs.append(wanted[0])
            if job.sampling.logprobs:
                job.top.append(wanted[1][0][: job.sampling.logprobs])
        if job.finder is not None and job.finder.feed(token):
            self._finish(job, "stop", "string")
        elif len(job.tokens) >= job.sampling.max_tokens:
            self._finish(job, "length", None)


def _logprobs(
    logits: Tensor, chosen: Tensor, asked: Sequence[int | None]
) -> tuple[list[float], list[list[tuple[int, float]]]] | None:
    """The model's own log-probabilities (temperature 1, nothing narrowed) where a job asks for them."""
    most = max((a for a in asked if a is not None), default=None)
    if most is None:
        return None
    logs = logits.log_softmax(-1)
    own: list[float] = logs.gather(1, chosen[:, None])[:, 0].tolist()
    if most == 0:
        return own, [[] for _ in own]
    best = logs.topk(min(most, logs.shape[-1]), -1)
    pairs = zip(best.indices.tolist(), best.values.tolist())
    return own, [list(zip(index, value)) for index, value in pairs]
