"""Drawing the next token of many rows at once, each row with its own settings and its own noise.

The uniform number that decides a token is a function of (seed, prompt, sample, position, try) alone, so a
request draws the same numbers alone, in a batch, or after its neighbours have been replaced.
"""

import secrets
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hornbook.lm.base import Sampling

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_TRIES = 6


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64-bit words."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return np.asarray(x ^ (x >> np.uint64(31)))


def row_key(seed: int | None, prompt: Sequence[int], sample: int) -> int:
    """64 bits that name one sample of one prompt; without a seed they are fresh entropy.

    The prompt is part of the key so that two prompts of one batch do not share their noise.
    """
    if seed is None:
        return secrets.randbits(64)
    tokens = np.asarray([*prompt, seed & (2**63 - 1), seed < 0, sample, len(prompt)], dtype=np.uint64)
    with np.errstate(over="ignore"):
        hashed = _mix(tokens + _GOLDEN * np.arange(1, len(tokens) + 1, dtype=np.uint64))
        return int(_mix(np.asarray([hashed.sum(dtype=np.uint64)]))[0])


def uniforms(keys: np.ndarray, positions: np.ndarray, attempt: int = 0) -> np.ndarray:
    """One float64 in [0, 1) for each (key, position, attempt).

    keys: uint64 (rows,). positions: integers (rows,), the index of the token being drawn.
    """
    with np.errstate(over="ignore"):
        counter = positions.astype(np.uint64) * np.uint64(64) + np.uint64(attempt)
        words = _mix(keys + _GOLDEN * (counter + np.uint64(1)))
    return np.asarray((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


class RowSettings:
    """The sampling settings of all rows as arrays, in row order; rows can be replaced and moved."""

    def __init__(self, rows: int, vocab_size: int, device: torch.device) -> None:
        self.device, self.vocab_size = device, vocab_size
        self.keys = np.zeros(rows, dtype=np.uint64)
        self.drawn = np.zeros(rows, dtype=np.int64)
        self.temperature = np.ones(rows, dtype=np.float32)
        self.top_p = np.ones(rows, dtype=np.float32)
        self.min_p = np.zeros(rows, dtype=np.float32)
        self.top_k = np.zeros(rows, dtype=np.int64)
        self.penalties = np.zeros((rows, 3), dtype=np.float32)
        """repetition - 1, frequency, presence: all zero where nothing is penalised."""
        self.active = np.zeros(rows, dtype=bool)
        self._seen: Tensor | None = None
        self._count: Tensor | None = None
        self._settled = False

    def _settle(self) -> None:
        """Which stages any active row needs: the others are skipped."""
        active = self.active
        temperature = self.temperature[active]
        self._greedy = bool((temperature == 0).all())
        self._some_greedy = bool((temperature == 0).any())
        self._plain_temperature = bool(((temperature == 0) | (temperature == 1)).all())
        self._narrow = bool((self.top_p[active] < 1).any())
        self._min = bool((self.min_p[active] > 0).any())
        self._top = int(self.top_k[active].max(initial=0))
        self._penalised = bool(self.penalties[active].any())
        safe = np.where(self.temperature == 0, 1, self.temperature).astype(np.float32)
        self._temperature = torch.from_numpy(safe).to(self.device)[:, None]
        self._settled = True

    def place(
        self, row: int, sampling: Sampling, key: int, prompt: Sequence[int], drawn: Sequence[int] = ()
    ) -> None:
        """Puts a request into `row`; `drawn` are the tokens it has drawn already, in another row."""
        self.keys[row], self.drawn[row] = key, len(drawn)
        self.temperature[row], self.top_p[row] = sampling.temperature, sampling.top_p
        self.min_p[row], self.top_k[row] = sampling.min_p, sampling.top_k
        self.penalties[row] = (
            sampling.repetition_penalty - 1,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        )
        if self.penalties[row].any() and self._seen is None:
            shape = (len(self.keys), self.vocab_size)
            self._seen = torch.zeros(shape, dtype=torch.bool, device=self.device)
            self._count = torch.zeros(shape, device=self.device)
        if self._seen is not None and self._count is not None:
            self._seen[row] = False
            self._count[row] = 0
            if prompt:
                self._seen[row, torch.as_tensor(prompt, device=self.device)] = True
            if drawn:
                before = torch.as_tensor(drawn, device=self.device)
                self._seen[row, before] = True
                self._count[row].index_add_(0, before, torch.ones(len(drawn), device=self.device))
        self.active[row] = True
        self._settled = False

    def clear(self, row: int) -> None:
        """Empties a row: it asks for nothing, whatever is drawn for it is not looked at."""
        self.active[row] = False
        self.temperature[row] = self.top_p[row] = 1
        self.min_p[row] = self.top_k[row] = self.penalties[row] = 0
        self._settled = False

    def draw(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        """The next token of each of `rows`, int64 (len(rows),).

        logits: fp32 (len(rows), vocab_size), in the order of `rows` (ascending row numbers). Stages
        in this order: penalties, temperature, top_k, min_p, top_p; each sees what the one before left.
        """
        if not self._settled:
            self._settle()
        if self._penalised:
            logits = self._penalise(logits, torch.from_numpy(rows))
        if self._greedy:
            chosen = logits.argmax(-1)
        else:
            chosen = self._sample(logits, rows)
        if self._penalised and self._seen is not None and self._count is not None:
            index = torch.from_numpy(rows).to(self.device)
            self._seen[index, chosen] = True
            self._count[index, chosen] += 1
        self.drawn[rows] += 1
        return chosen

    def _sample(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        scaled = logits
        if not self._plain_temperature:
            scaled = logits / self._temperature[torch.from_numpy(rows)]
        if self._top:
            scaled = self._keep_top(scaled, rows)
        p = torch.softmax(scaled, -1)
        if self._min:
            floor = torch.from_numpy(self.min_p[rows]).to(self.device)[:, None] * p.amax(-1, keepdim=True)
            p = torch.where(p < floor, 0.0, p)
        cumulative = p.cumsum(-1)
        chosen = self._invert(cumulative, uniforms(self.keys[rows], self.drawn[rows]))
        if self._narrow:
            chosen = self._inside_nucleus(p, cumulative, chosen, rows)
        if self._some_greedy:
            cold = torch.from_numpy(self.temperature[rows] == 0).to(self.device)
            chosen = torch.where(cold, logits.argmax(-1), chosen)
        return chosen

    def _invert(self, cumulative: Tensor, uniform: np.ndarray) -> Tensor:
        """The first token whose cumulative mass exceeds uniform * total."""
        total = cumulative[:, -1:]
        wanted = torch.from_numpy(uniform.astype(np.float32)).to(self.device)[:, None] * total
        wanted = torch.minimum(wanted, torch.nextafter(total, torch.zeros_like(total)))
        return torch.searchsorted(cumulative, wanted, right=True)[:, 0]

    def _inside_nucleus(self, p: Tensor, cumulative: Tensor, chosen: Tensor, rows: np.ndarray) -> Tensor:
        """Top-p (Holtzman et al. 2020, section 3.1) by rejection: no sort of the vocabulary.

        A token belongs to the nucleus when the tokens likelier than it hold less than top_p of the
        mass. A draw outside is repeated with the next number of its row; the accepted draw has the
        nucleus distribution exactly, and a try is accepted with probability top_p or more. Rows
        still outside after a few tries are drawn from the sorted distribution.
        """
        limit = torch.from_numpy(self.top_p[rows]).to(self.device)
        pending = torch.arange(len(rows), device=self.device)
        q, c, picked = p, cumulative, chosen
        for attempt in range(1, _TRIES + 1):
            own = q.gather(1, picked[:, None])
            above = torch.where(q > own, q, 0.0).sum(-1)
            outside = above >= limit[pending] * c[:, -1]
            if attempt > 1:
                chosen[pending] = picked
            if not bool(outside.any()):
                return chosen
            keep = outside.nonzero()[:, 0]
            pending, q, c = pending[keep], q[keep], c[keep]
            index = rows[pending.cpu().numpy()]
            picked = self._invert(c, uniforms(self.keys[index], self.drawn[index], attempt))
        ordered, token = q.sort(dim=-1, descending=True, stable=True)
        mass = ordered.cumsum(-1)
        outside = mass - ordered >= (limit[pending] * c[:, -1])[:, None]
        mass = torch.where(outside, 0.0, ordered).cumsum(-1)
        index = rows[pending.cpu().numpy()]
        place = self._invert(mass, uniforms(self.keys[index], self.drawn[index], _TRIES + 1))
        chosen[pending] = token.gather(1, place[:, None])[:, 0]
        return chosen

    def _keep_top(self, scaled: Tensor, rows: np.ndarray) -> Tensor:
        """-inf for every token outside the row's top_k (ties with the k-th stay)."""
        most = min(self._top, scaled.shape[-1])
        values = scaled.topk(most, -1).values
        k = torch.from_numpy(np.clip(self.top_k[rows], 1, most) - 1).to(self.device)
        edge = values.gather(1, k[:, None])
        free = torch.from_numpy(self.top_k[rows] == 0).to(self.device)[:, None]
        return torch.where((scaled >= edge) | free, scaled, float("-inf"))

    def _penalise(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Repetition (Keskar et al. 2019, section 4.1: with the prompt), frequency, presence (answer)."""
        if self._seen is None or self._count is None:
            return logits
        penalty = torch.from_numpy(self.penalties).to(self.device)[rows]
        factor = penalty[:, :1] + 1
        seen, count = self._seen[rows], self._count[rows]
        logits = torch.where(seen, torch.where(logits > 0, logits / factor, logits * factor), logits)
        return logits - penalty[:, 1:2] * count - penalty[:, 2:] * (count > 0)
