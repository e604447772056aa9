"""The LongRoPE search on a checkpoint: perplexity of long rows, every answer kept, resumed where it ended.

`folder/search.json` says what is searched, `folder/evaluated.jsonl` holds one line per candidate and
`folder/found.json` the result. After an interruption the same call reads the lines and goes on.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hornbook.errors import HornbookError
from hornbook.lab.files import write_json
from hornbook.model.config import LongRope, ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.rope import Rope
from hornbook.train.longrope import START_TOKENS, Candidate, Ranked, SearchSettings, Space, evolve, seeds
from hornbook.train.longrope_store import SearchStore, fingerprint
from hornbook.train.loss import IGNORE, cross_entropy_sum, head_of
from hornbook.train.precision import autocast
from hornbook.train.trainer import ProgressLike

_FORMAT = 1

Part = Literal["long", "short"]

SHORT_SCALE = 2.4
"""Of the space for short rows, whose largest factor is then 3; published short lists end at 2.84 and 3.05."""


@dataclass(frozen=True)
class LongRows:
    """Validation rows of the target length: inputs and targets (rows, time), -100 where nothing is scored."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.inputs.ndim != 2 or self.inputs.shape != self.targets.shape or not self.inputs.size:
            raise ValueError(
                f"inputs {self.inputs.shape} and targets {self.targets.shape} must be equal (rows, time)"
            )
        if not (self.targets != IGNORE).any():
            raise HornbookError("The long validation rows score no position: all their targets are -100.")

    @classmethod
    def from_tokens(cls, tokens: NDArray[np.int64]) -> "LongRows":
        """Every next token of rows (rows, time + 1) is scored."""
        return cls(tokens[:, :-1], tokens[:, 1:])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of shapes and ids."""
        digest = hashlib.sha256(str(self.inputs.shape).encode())
        for array in (self.inputs, self.targets):
            digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class LongRopeSettings:
    """What to search for.

    original:     tokens the model was trained for; None: what its config says.
    target:       tokens it shall read; None: the length of the rows.
    start_tokens: thresholds to try for positions left unscaled. A saved checkpoint can only have 0, so
                  `extend` takes the best of those.
    attention_factor: what cos and sin are multiplied by; None: sqrt(1 + ln s / ln original).
    rows_at_once: rows through the model at once.
    """

    search: SearchSettings = field(default_factory=SearchSettings)
    original: int | None = None
    target: int | None = None
    start_tokens: tuple[int, ...] = START_TOKENS
    attention_factor: float | None = None
    rows_at_once: int = 1

    def __post_init__(self) -> None:
        if self.rows_at_once < 1:
            raise HornbookError(f"rows_at_once is {self.rows_at_once}; it must be 1 or more.")
        if self.attention_factor is not None and not self.attention_factor > 0:
            raise HornbookError(f"attention_factor is {self.attention_factor}; it must be above 0.")


@dataclass(frozen=True)
class Found:
    """What a search found. best: of all; portable: the best with no unscaled positions (what a checkpoint can
    hold). perplexities: of the unscaled model and the founders. rounds: the best after each round. part: the
    list the factors are for; those for short rows have the rows' length as target."""

    original: int
    target: int
    attention_factor: float | None
    best: Candidate
    best_perplexity: float
    portable: Candidate
    portable_perplexity: float
    perplexities: Mapping[str, float]
    rounds: tuple[float, ...]
    evaluations: int
    part: Part = "long"


def original_length(config: ModelConfig) -> int:
    """Tokens the model was trained for before any extension."""
    return config.long_rope.original_max_position if config.long_rope else config.max_position


def extended_config(
    config: ModelConfig,
    candidate: Candidate,
    *,
    target: int,
    original: int | None = None,
    attention_factor: float | None = None,
) -> ModelConfig:
    """`config` for `target` tokens with the candidate's factors beyond `original` and none up to it.

    A window below the target is opened. Llama-shaped models become phi3 ones, whose arithmetic is the same
    and whose files can hold LongRoPE.

    Raises:
        HornbookError: for a family whose files cannot hold LongRoPE.
    """
    if config.family == "phi" or config.attention_bias or config.mlp_bias:
        raise HornbookError(
            f"A model of family {config.family!r} with biases cannot be saved with LongRoPE; extend a "
            "phi3- or llama-shaped one without biases."
        )
    window = config.sliding_window
    return replace(
        config,
        family="phi3",
        max_position=target,
        sliding_window=None if window is not None and window < target else window,
        long_rope=LongRope(
            short_factor=(1.0,) * len(candidate.steps),
            long_factor=candidate.factors,
            original_max_position=original or original_length(config),
            attention_factor=attention_factor,
            start_tokens=candidate.start_tokens,
        ),
    )


def set_config(model: Decoder, config: ModelConfig) -> None:
    """Lets a decoder's weights run under another rotary scaling, window or length (same shapes)."""
    model.config = config
    model.rope = Rope(config)


@contextmanager
def under(model: Decoder, config: ModelConfig) -> Iterator[Decoder]:
    """`model` in evaluation mode under `config` inside the block; as it was behind it."""
    before, rope, training = model.config, model.rope, model.training
    set_config(model, config)
    model.eval()
    try:
        yield model
    finally:
        model.config, model.rope = before, rope
        model.train(training)


@torch.no_grad()
def perplexity(
    model: Decoder, rows: LongRows, *, rows_at_once: int = 1, dtype: torch.dtype = torch.float32
) -> float:
    """exp of the mean loss over all scored positions; infinite where it is not a number."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    for first in range(0, len(rows.inputs), rows_at_once):
        part = slice(first, first + rows_at_once)
        with autocast(device, dtype):
            hidden = model(torch.from_numpy(rows.inputs[part]).to(device))
            loss, scored = cross_entropy_sum(
                hidden, head_of(model), torch.from_numpy(rows.targets[part]).to(device)
            )
        total, count = total + float(loss), count + int(scored)
    mean = total / count
    return math.exp(mean) if mean < 700 else math.inf  # also where mean is not a number


def search(
    model: Decoder,
    rows: LongRows,
    settings: LongRopeSettings,
    folder: Path | str,
    *,
    dtype: torch.dtype = torch.float32,
    progress: ProgressLike | None = None,
    say: Callable[[str], None] | None = None,
) -> Found:
    """Looks for the long factors under which `model` reads `rows` best.

    The same call on the same folder goes on after an interruption and repeats nothing; on a finished folder
    it returns at once. dtype: of the products (weights stay as they are). progress counts candidates.

    Raises:
        HornbookError: for rows beyond the target, or when `folder` holds the search of something else.
    """
    config = model.config
    original = settings.original or original_length(config)
    length = rows.inputs.shape[1]
    target = settings.target or length
    if length > target:
        raise HornbookError(
            f"the validation rows have {length:,} tokens, more than the target of {target:,}."
        )
    if length <= original:
        raise HornbookError(
            f"the validation rows have {length:,} tokens; the long factors are used beyond {original:,} only."
        )
    starts = tuple(n for n in settings.start_tokens if n < original)
    space = Space(pairs=config.rotary_dim // 2, scale=target / original, start_tokens=starts)

    def scaled(candidate: Candidate) -> ModelConfig:
        return extended_config(
            config, candidate, target=target, original=original, attention_factor=settings.attention_factor
        )

    task = _Task("long", original, target, space, seeds(space, config, original), scaled)
    return _run(model, rows, settings, Path(folder), task, dtype, progress, say)


def search_short(
    model: Decoder,
    rows: LongRows,
    settings: LongRopeSettings,
    folder: Path | str,
    *,
    scale: float = SHORT_SCALE,
    dtype: torch.dtype = torch.float32,
    progress: ProgressLike | None = None,
    say: Callable[[str], None] | None = None,
) -> Found:
    """Looks for the short factors of an extended model, which win back what the extension cost at the
    original length (section 3.4, "shorter context window recovery").

    The founders contain the factors 1 throughout, so the answer is never worse on `rows`. Of `settings`,
    original, target, start_tokens and attention_factor are not used: the model's config has them. Otherwise
    as `search`.

    Args:
        rows: at most as long as the original context.
        scale: the largest factor is 1.25 times this.

    Raises:
        HornbookError: for a model without LongRoPE or rows that the long factors would read.
    """
    config = model.config
    rope = config.long_rope
    if rope is None:
        raise HornbookError("Short factors belong to an extended model; this one has no long_rope yet.")
    original, length = rope.original_max_position, rows.inputs.shape[1]
    if length > original:
        raise HornbookError(
            f"the validation rows have {length:,} tokens; the short factors are used up to {original:,} only."
        )
    space = Space(pairs=config.rotary_dim // 2, scale=scale)

    def scaled(candidate: Candidate) -> ModelConfig:
        return replace(config, long_rope=replace(rope, short_factor=candidate.factors))

    founders = {"ones": space.snap([1.0] * space.pairs), **seeds(space, config, original)}
    task = _Task("short", original, length, space, founders, scaled)
    return _run(model, rows, settings, Path(folder), task, dtype, progress, say)


@dataclass(frozen=True)
class _Task:
    """What distinguishes the two searches. scaled: the config under which a candidate is read."""

    part: Part
    original: int
    target: int
    space: Space
    founders: Mapping[str, Candidate]
    scaled: Callable[[Candidate], ModelConfig]


def _run(
    model: Decoder,
    rows: LongRows,
    settings: LongRopeSettings,
    folder: Path,
    task: _Task,
    dtype: torch.dtype,
    progress: ProgressLike | None,
    say: Callable[[str], None] | None,
) -> Found:
    from hornbook.lab.progress import Progress
    from hornbook.lab.progress import say as to_terminal

    config, say = model.config, say or to_terminal
    identity = {
        "format": _FORMAT,
        "part": task.part,
        "model": fingerprint(model),
        "rows": rows.fingerprint,
        "settings": json.loads(json.dumps(asdict(settings))),
        "space": json.loads(json.dumps(asdict(task.space))),
        "dtype": str(dtype),
    }
    store = SearchStore(folder, identity)
    if store.known:
        say(f"Going on in {folder}: {len(store.known)} candidates are evaluated already.")
    own = None
    if progress is None:
        own = progress = Progress(settings.search.evaluations, "candidates", f"longrope {folder.name}")
    shown: ProgressLike = progress

    def read(under_config: ModelConfig) -> float:
        with under(model, under_config):
            return perplexity(model, rows, rows_at_once=settings.rows_at_once, dtype=dtype)

    def fitness(candidate: Candidate) -> float:
        value = store.known.get(candidate)
        if value is None:
            value = read(task.scaled(candidate))
            store.keep(candidate, value)
        shown.advance(1)
        return value

    rounds: list[float] = []

    def after_round(number: int, ranked: Ranked) -> None:
        rounds.append(ranked[0][0])
        shown.set(perplexity=ranked[0][0], round=number)

    try:
        ranked = evolve(task.space, task.founders.values(), settings.search, fitness, after_round)
        unscaled = read(replace(config, long_rope=None, sliding_window=None))
    finally:
        store.close()
        if own is not None:
            own.close()
    values = {candidate: value for value, candidate in ranked}
    portable = next(((v, c) for v, c in ranked if c.start_tokens == 0), ranked[0])
    found = Found(
        original=task.original,
        target=task.target,
        attention_factor=settings.attention_factor,
        best=ranked[0][1],
        best_perplexity=ranked[0][0],
        portable=portable[1],
        portable_perplexity=portable[0],
        perplexities={
            "unscaled": unscaled,
            **{name: values[founder] for name, founder in task.founders.items()},
        },
        rounds=tuple(rounds),
        evaluations=len(ranked),
        part=task.part,
    )
    write_json(folder / "found.json", found)
    return found
