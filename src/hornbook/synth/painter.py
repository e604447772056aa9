"""A small text-to-image model: a decoder that reads a brief of words and goes on in the tokens of a picture.

A line is a brief of `BRIEF` places (words, then padding) and the 28 tokens of a picture of `synth/scenes`:
the ground, then for each of the nine cells its emblem, its body and its paint. These are the fixed codebook:
every sequence of them is a picture, and every picture of the world is one sequence. The loss falls on picture
tokens alone, so that what is learned is the distribution of pictures that fit a brief.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.model.cache import KeyValueCache
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.synth.scenes import (
    BODIES,
    COLOURS,
    KINDS,
    PAINTS,
    RELATIONS,
    SHAPES,
    SIDE,
    SIZES,
    STYLES,
    TEXTURES,
    Look,
    Scene,
)
from hornbook.theory.threads import one_thread

BRIEF = 16
"""Words of a brief at most, which is what seven concepts make."""
CELLS = SIDE * SIDE
PICTURE_TOKENS = 1 + 3 * CELLS

WORDS = ("<pad>", "2", "3", "4", *KINDS, *COLOURS, *SHAPES, *SIZES, *TEXTURES, *RELATIONS, *STYLES)
_WORD = {word: number for number, word in enumerate(WORDS)}
_GROUND = len(WORDS)
_EMPTY = _GROUND + len(STYLES)
_KIND = _EMPTY + 1
_BARE = _KIND + len(KINDS)
_BODY = _BARE + 1
_PAINT = _BODY + len(BODIES)
SYMBOLS = _PAINT + len(PAINTS)
"""Size of the vocabulary: words, grounds, the empty cell, kinds, what an empty cell goes on with, bodies,
paints."""

Tokens = npt.NDArray[np.int64]
_IGNORE = -100
_AT_ONCE = 512


def read_brief(words: Sequence[str]) -> list[int]:
    """Ids of a brief, padded to `BRIEF`.

    Raises:
        HornbookError: a word that the painter does not know, or too many words.
    """
    unknown = [word for word in words if word not in _WORD]
    if unknown:
        raise HornbookError(
            f"The painter does not know the word {unknown[0]!r}; it knows {', '.join(WORDS[1:])}."
        )
    if len(words) > BRIEF:
        raise HornbookError(f"A brief has {len(words)} words; the painter reads at most {BRIEF}.")
    return [_WORD[word] for word in words] + [0] * (BRIEF - len(words))


def to_tokens(scene: Scene) -> list[int]:
    """The picture of a scene as its 28 tokens."""
    tokens = [_GROUND + STYLES.index(scene.style)]
    for cell in range(CELLS):
        look = scene.things.get(divmod(cell, SIDE))
        if look is None:
            tokens += [_EMPTY, _BARE, _BARE]
        else:
            kind, body, paint = look.numbers
            tokens += [_KIND + kind, _BODY + body, _PAINT + paint]
    return tokens


def to_scene(tokens: Sequence[int]) -> Scene:
    """Back from `to_tokens`; what `Painter.draw` makes can always be read.

    Raises:
        HornbookError: not the tokens of a picture.
    """
    if len(tokens) != PICTURE_TOKENS or not _GROUND <= tokens[0] < _EMPTY:
        raise HornbookError(f"A picture has {PICTURE_TOKENS} tokens and begins with its ground.")
    things = {}
    for cell in range(CELLS):
        kind, body, paint = tokens[1 + 3 * cell : 4 + 3 * cell]
        if (kind, body, paint) == (_EMPTY, _BARE, _BARE):
            continue
        if not (_KIND <= kind < _BARE and _BODY <= body < _PAINT and _PAINT <= paint < SYMBOLS):
            raise HornbookError(
                f"Cell {cell} of a picture has the tokens {kind}, {body}, {paint}: no cell has."
            )
        things[divmod(cell, SIDE)] = Look.of(kind - _KIND, body - _BODY, paint - _PAINT)
    return Scene(style=STYLES[tokens[0] - _GROUND], things=things)


@dataclass(frozen=True, kw_only=True)
class PaintingBatch:
    """inputs, targets: (rows, BRIEF + 27); targets are -100 on the brief."""

    inputs: Tokens
    targets: Tokens


class PaintingLoader:
    """Briefs with their pictures, in a new random order every epoch; a pure function of (seed, step).

    lines: (n, BRIEF + PICTURE_TOKENS) ids. rows: of a batch, over all ranks.
    """

    def __init__(self, lines: Tokens, rows: int, seed: int, *, rank: int = 0, world: int = 1) -> None:
        if not 1 <= rows <= len(lines):
            raise HornbookError(f"Batches of {rows} rows cannot be drawn from {len(lines)} pictures.")
        self.lines, self.rows, self.seed, self.rank, self.world = lines, rows, seed, rank, world
        self._order: tuple[int, Tokens] = (-1, np.zeros(0, np.int64))
        self.fingerprint = hashlib.sha256(lines.tobytes() + repr((rows, seed)).encode()).hexdigest()

    def batch(self, step: int) -> PaintingBatch:
        """This rank's rows of step `step`."""
        epoch, number = divmod(step, len(self.lines) // self.rows)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.lines)))
        mine = self._order[1][number * self.rows : (number + 1) * self.rows][self.rank :: self.world]
        tokens = self.lines[mine].astype(np.int64)
        targets = tokens[:, 1:].copy()
        targets[:, : BRIEF - 1] = _IGNORE
        return PaintingBatch(inputs=tokens[:, :-1], targets=targets)


def lines_of(briefs: Sequence[Sequence[str]], scenes: Sequence[Scene]) -> Tokens:
    """(n, BRIEF + PICTURE_TOKENS) what `PaintingLoader` trains on."""
    return np.array(
        [read_brief(words) + to_tokens(scene) for words, scene in zip(briefs, scenes, strict=True)], np.int64
    )


def painter_config(*, hidden_size: int, layers: int, heads: int) -> ModelConfig:
    """The decoder of a painter. Places are learned vectors: a cell is always at the same place of a line."""
    return ModelConfig(
        vocab_size=SYMBOLS,
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        intermediate_size=max(16, 8 * hidden_size // 3 // 16 * 16),
        positions="learned",
        max_position=BRIEF + PICTURE_TOKENS,
    )


class Painter:
    """Draws pictures for briefs with a trained decoder."""

    def __init__(self, model: Decoder) -> None:
        if model.config.vocab_size != SYMBOLS:
            raise HornbookError(
                f"A painter knows {SYMBOLS} symbols; this decoder has {model.config.vocab_size}."
            )
        self.model = model.eval()

    def draw(self, briefs: Sequence[Sequence[str]], *, seed: int, temperature: float = 1.0) -> list[Scene]:
        """One scene for each brief, drawn token by token; only tokens that make a picture are drawn.

        temperature: of the draw, 0 for the likeliest token. The same seed gives the same pictures.
        """
        ids = torch.tensor([read_brief(words) for words in briefs], dtype=torch.long)
        generator = torch.Generator().manual_seed(seed)
        scenes: list[Scene] = []
        with (
            one_thread()
        ):  # a step's tensors are small: two threads take twenty times as long on a busy machine
            for part in torch.split(ids, _AT_ONCE) if len(ids) else ():
                scenes += [to_scene(row) for row in self._draw(part, generator, temperature).tolist()]
        return scenes

    @torch.inference_mode()
    def _draw(self, ids: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
        """(rows, PICTURE_TOKENS) for (rows, BRIEF)."""
        weight = self.model.embed_tokens.weight
        cache = KeyValueCache(
            self.model.config,
            batch=len(ids),
            length=BRIEF + PICTURE_TOKENS,
            dtype=weight.dtype,
            device=weight.device,
        )
        tokens = ids.to(weight.device)
        out: list[Tensor] = []
        for step in range(PICTURE_TOKENS):
            logits = self.model.logits(self.model(tokens, cache=cache)[:, -1]).float().cpu()
            logits.masked_fill_(~allowed(step, out[-1] if out else None, len(ids)), -torch.inf)
            if temperature > 0:
                noise = -torch.empty_like(logits).exponential_(generator=generator).log()
                logits = logits / temperature + noise  # the largest is a draw from the softmax (Gumbel)
            out.append(logits.argmax(-1))
            tokens = out[-1][:, None].to(weight.device)
        return torch.stack(out, 1)


def allowed(step: int, previous: Tensor | None, rows: int) -> Tensor:
    """(rows, SYMBOLS) which tokens make a picture at place `step`: a ground first, then for each cell a kind,
    a body and a paint, or nothing three times."""
    may = torch.zeros(rows, SYMBOLS, dtype=torch.bool)
    if step == 0:
        may[:, _GROUND:_EMPTY] = True
    elif step % 3 == 1:
        may[:, _EMPTY:_BARE] = True
    else:
        assert previous is not None
        empty = (previous == _EMPTY) | (previous == _BARE)
        may[empty, _BARE] = True
        may[~empty, slice(_BODY, _PAINT) if step % 3 == 2 else slice(_PAINT, SYMBOLS)] = True
    return may
