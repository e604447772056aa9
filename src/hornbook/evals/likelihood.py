"""Bits per byte: how well a model predicts text, comparable between tokenizers."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenFile
from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine


@dataclass(frozen=True, kw_only=True)
class BitsPerByte:
    """value = bits / bytes over all `documents`; low and high bound it by a bootstrap over documents."""

    value: float
    low: float
    high: float
    documents: int
    bytes: int
    bits: float

    def as_json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class _Piece:
    """A stretch of a document that is scored in one go: `before` is read, `ids` are predicted."""

    document: int
    before: list[int]
    ids: list[int]


def bits_per_byte(
    engine: Engine,
    tokenizer: Tokenizer,
    domains: Mapping[str, Sequence[str] | TokenFile],
    *,
    max_documents: int | None = None,
    window: int | None = None,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[str, BitsPerByte]:
    """Bits per byte of each domain and, as "all", of all documents together.

    Each document is predicted from the end-of-text token on, alone. What is longer than the window is
    read in windows that overlap by half: every token is predicted once, with at least half a window before
    it. Bytes are those of the document's UTF-8; the end of a document is neither predicted nor counted.

    Args:
        domains: texts, or a token file of this tokenizer (documents end with end of text). In a file
            with a mask, only masked-in tokens are predicted and their bytes counted.
        max_documents: the first so many of each domain.
        window: tokens at most that are read at once; default the model's context.
        advance: told how many documents are done.

    Raises:
        HornbookError: a domain without text.
    """
    window = min(window or engine.config.max_position, engine.config.max_position)
    result: dict[str, BitsPerByte] = {}
    everything: list[tuple[float, int]] = []
    for name, source in domains.items():
        found = _documents(engine, tokenizer, source, max_documents, window, advance)
        if not sum(size for _, size in found):
            raise HornbookError(f"The domain {name!r} has no text to measure bits per byte on.")
        result[name] = summarize(found)
        everything += found
    result["all"] = summarize(everything)
    return result


def summarize(documents: Sequence[tuple[float, int]], *, resamples: int = 2000, seed: int = 0) -> BitsPerByte:
    """Total bits over total bytes with a percentile bootstrap over documents, given (bits, bytes) of each."""
    pairs = np.asarray([d for d in documents if d[1] > 0], dtype=np.float64).reshape(-1, 2)
    bits, size = pairs.sum(0)
    drawn = np.random.default_rng(seed).multinomial(
        len(pairs), np.full(len(pairs), 1 / len(pairs)), resamples
    )
    sums = drawn @ pairs
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return BitsPerByte(
        value=float(bits / size),
        low=float(low),
        high=float(high),
        documents=len(pairs),
        bytes=int(size),
        bits=float(bits),
    )


def document_bits(
    engine: Engine,
    tokenizer: Tokenizer,
    source: Sequence[str] | TokenFile,
    *,
    max_documents: int | None = None,
    window: int | None = None,
    advance: Callable[[int], object] = lambda count: None,
) -> list[tuple[float, int]]:
    """(bits, bytes) of each document; arguments as in `bits_per_byte`.

    The lists of two models on the same documents can be compared in pairs (`paired_loss`).
    """
    window = min(window or engine.config.max_position, engine.config.max_position)
    return _documents(engine, tokenizer, source, max_documents, window, advance)


def paired_loss(
    base: Sequence[tuple[float, int]],
    other: Sequence[tuple[float, int]],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """How much more bits per byte `other` needs than `base` on the same documents, as a fraction of base.

    Documents are resampled in pairs: `low` and `high` bound the fraction at 95 %.
    """
    if len(base) != len(other) or any(a[1] != b[1] for a, b in zip(base, other)):
        raise ValueError("the two lists are not of the same documents")
    table = np.asarray([(a[0], b[0]) for a, b in zip(base, other) if a[1] > 0], dtype=np.float64)
    drawn = np.random.default_rng(seed).multinomial(
        len(table), np.full(len(table), 1 / len(table)), resamples
    )
    sums = drawn @ table
    low, high = np.quantile(sums[:, 1] / sums[:, 0] - 1, [0.025, 0.975])
    total = table.sum(0)
    return {"loss": float(total[1] / total[0] - 1), "low": float(low), "high": float(high)}


def mean_paired_loss(
    base: Mapping[str, Sequence[tuple[float, int]]],
    other: Mapping[str, Sequence[tuple[float, int]]],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """The mean over domains of `paired_loss`: each domain counts the same, however many bits it holds.

    Documents are resampled in pairs inside their domains.
    """
    draw = np.random.default_rng(seed)
    values, samples = [], []
    for domain, pairs in base.items():
        table = np.asarray([(a[0], b[0]) for a, b in zip(pairs, other[domain], strict=True) if a[1] > 0])
        sums = draw.multinomial(len(table), np.full(len(table), 1 / len(table)), resamples) @ table
        samples.append(sums[:, 1] / sums[:, 0] - 1)
        total = table.sum(0)
        values.append(total[1] / total[0] - 1)
    low, high = np.quantile(np.mean(samples, axis=0), [0.025, 0.975])
    return {"loss": float(np.mean(values)), "low": float(low), "high": float(high)}


def _documents(
    engine: Engine,
    tokenizer: Tokenizer,
    source: Sequence[str] | TokenFile,
    limit: int | None,
    window: int,
    advance: Callable[[int], object],
) -> list[tuple[float, int]]:
    end = tokenizer.end_of_text
    documents: list[tuple[list[int], Any, int]] = []
    if isinstance(source, TokenFile):
        if source.vocab_size > engine.config.vocab_size:
            raise HornbookError(
                f"The token file {source.folder} has {source.vocab_size} ids, the model "
                f"{engine.config.vocab_size}: it was made with another tokenizer."
            )
        for i in range(min(len(source), limit or len(source))):
            ids = source.document(i).tolist()
            mask = None if source.mask is None else source.document_mask(i).astype(bool)
            if mask is None and ids and ids[-1] == end:
                ids = ids[:-1]
            kept = [t for j, t in enumerate(ids) if mask is None or mask[j]]
            size = sum(len(tokenizer.token_bytes(t)) for t in kept if t not in tokenizer.specials.values())
            documents.append((ids, mask, size))
    else:
        texts = list(source[:limit])
        for text, ids in zip(texts, tokenizer.encode_batch(texts)):
            documents.append((ids, None, len(text.encode())))
    nats = [0.0] * len(documents)
    for group in range(0, len(documents), 256):
        part = range(group, min(group + 256, len(documents)))
        pieces = [p for d in part for p in _pieces(d, documents[d][0], end, window)]
        scores = engine.score([p.before for p in pieces], [[p.ids] for p in pieces])
        place = dict.fromkeys(part, 0)
        for piece, [score] in zip(pieces, scores):
            mask, at = documents[piece.document][1], place[piece.document]
            logprobs = np.asarray(score.token_logprobs)
            if mask is not None:
                own = documents[piece.document][0][at : at + len(logprobs)]
                special = set(tokenizer.specials.values())
                keep = mask[at : at + len(logprobs)] & np.asarray([t not in special for t in own], dtype=bool)
                logprobs = logprobs[keep]
            nats[piece.document] -= float(logprobs.sum())
            place[piece.document] = at + len(score.token_logprobs)
        advance(len(part))
    return [(n / math.log(2), size) for n, (_, _, size) in zip(nats, documents)]


def _pieces(document: int, ids: list[int], end: int, window: int) -> list[_Piece]:
    """Overlapping windows: the first predicts a whole window, later ones half of one."""
    first = window - 1
    pieces = [_Piece(document, [end], ids[:first])] if ids else []
    step = max(1, window // 2)
    for begin in range(first, len(ids), step):
        fresh = ids[begin : begin + step]
        pieces.append(_Piece(document, ids[max(0, begin + len(fresh) - window) : begin], fresh))
    return pieces
