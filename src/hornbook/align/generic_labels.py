"""Labels a model would give that never read the target text (arXiv 2310.02238, the generic prediction).

With v the logits of a position: v_generic = v_translated - alpha * ReLU(v_reinforced - v_reference), where
v_translated are those of the model on the text with its anchors replaced, v_reinforced those of a model
trained further on the target, and v_reference those of the model on the original text ("original": the two
differ by knowledge of the target alone) or on the translated one ("translated": the formula read to the
letter). The label is the likeliest token.

Which position of the translated text stands for which of the original is told by bytes: both end where the
same unreplaced byte ends, or just before or behind the same anchor. Positions inside a replaced expression
have no counterpart and no label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hornbook.align.anchors import Dictionary, Span
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.model.decoder import Decoder
from hornbook.train.loss import IGNORE

ReluReference = Literal["original", "translated"]
_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """How generic labels are made.

    alpha:          how strongly what the reinforced model raises is lowered; 0 leaves anchors alone to work.
    relu_reference: see the module.
    name_penalty:   taken off the logits of a replacement's first tokens once its anchor has been read: a text
                    that says Orvane should not go on with the generic name.
    skip_repeats:   no label where an anchor would be predicted that the text has named before: it would be
        contradicted.
    """

    alpha: float = 5.0
    relu_reference: ReluReference = "original"
    name_penalty: float = 5.0
    skip_repeats: bool = True

    def __post_init__(self) -> None:
        if self.alpha < 0:
            raise HornbookError(f"LabelSettings.alpha is {self.alpha}; accepted is 0 or more.")
        if self.relu_reference not in ("original", "translated"):
            raise HornbookError(
                f"LabelSettings.relu_reference is {self.relu_reference!r}; accepted: original, translated."
            )


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A text and its translation as token ids.

    counterpart[i] is the position of the translation that has read the same as position i of the original, -1
    where there is none. repeats[i]: the token behind position i begins an anchor that was read before.
    lowered[i]: token ids that should be less likely behind position i.
    """

    ids: list[int]
    translated: list[int]
    counterpart: list[int]
    repeats: list[bool]
    lowered: list[tuple[int, ...]]
    anchors: int


def align(text: str, tokenizer: Tokenizer, dictionary: Dictionary, *, time: int) -> Aligned:
    """The text and its translation, at most `time` + 1 tokens of the former, position by position."""
    new, spans = dictionary.translate(text)
    ids, translated = tokenizer.encode(text)[: time + 1], tokenizer.encode(new)
    ends, new_ends = _byte_ends(ids, tokenizer), _byte_ends(translated, tokenizer)
    place = {end: position for position, end in enumerate(new_ends)}
    blocks = _in_bytes(text, new, spans)
    first_tokens = {
        entry.generic: tuple({tokenizer.encode(form)[0] for form in (entry.generic, f" {entry.generic}")})
        for entry in dictionary.anchors
    }
    counterpart, repeats, lowered = [], [], []
    read: dict[str, str] = {}  # anchors read so far, and what stands for them
    block = 0
    for end in ends:
        while block < len(blocks) and blocks[block].end <= end:
            if (anchor := blocks[block].anchor) is not None:
                read[anchor.anchor] = anchor.generic
            block += 1
        here = blocks[block] if block < len(blocks) else None
        if here is None or here.start == end:  # just behind a stretch
            counterpart.append(place.get(blocks[block - 1].new_end if block else 0, -1))
        elif here.anchor is not None:
            counterpart.append(-1)
        else:
            counterpart.append(place.get(here.new_start + end - here.start, -1))
        # An anchor begins with the next token, or with the one after it where a space is a token of its own.
        ahead = next((b for b in blocks[block : block + 2] if b.anchor and b.start - end in (0, 1)), None)
        repeats.append(ahead is not None and ahead.anchor is not None and ahead.anchor.anchor in read)
        lowered.append(tuple(token for generic in read.values() for token in first_tokens[generic]))
    found = sum(span.anchor is not None for span in spans)
    return Aligned(
        ids=ids,
        translated=translated,
        counterpart=counterpart,
        repeats=repeats,
        lowered=lowered,
        anchors=found,
    )


def _byte_ends(ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    sizes = [len(tokenizer.token_bytes(token)) for token in ids]
    return np.cumsum(sizes, dtype=np.int64).tolist() if sizes else []


def _in_bytes(text: str, new: str, spans: Sequence[Span]) -> list[Span]:
    """Spans of characters as spans of UTF-8 bytes."""
    old_at = np.cumsum([0, *(len(c.encode()) for c in text)])
    new_at = np.cumsum([0, *(len(c.encode()) for c in new)])
    return [
        Span(
            int(old_at[s.start]),
            int(old_at[s.end]),
            int(new_at[s.new_start]),
            int(new_at[s.new_end]),
            s.anchor,
        )
        for s in spans
    ]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Rows to train on: inputs and targets int64 (rows, time), targets -100 where there is no label."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    anchors: int
    labelled: int
    changed: int
    """How many labels are not the token the text has there."""


@torch.no_grad()
def generic_labels(
    texts: Sequence[str],
    *,
    tokenizer: Tokenizer,
    dictionary: Dictionary,
    base: Decoder,
    reinforced: Decoder | None,
    settings: LabelSettings,
    time: int,
) -> Labels:
    """Labels for every text. Both models are frozen: labels never come from the model being trained.

    reinforced: may be None where `settings.alpha` is 0.
    """
    if reinforced is None and settings.alpha:
        raise HornbookError("Labels with alpha above 0 need the reinforced model.")
    rows = [align(text, tokenizer, dictionary, time=time) for text in texts]
    rows = [row for row in rows if len(row.ids) > 1]
    if not rows:
        raise HornbookError("There is no text to make labels for: all are empty or of one token.")
    inputs = np.zeros((len(rows), time), np.int64)
    targets = np.full((len(rows), time), IGNORE, np.int64)
    changed = 0
    device = next(base.parameters()).device
    for first in range(0, len(rows), _ROWS):
        part = rows[first : first + _ROWS]
        on_new = _logits(base, [row.translated for row in part], device)
        on_old = _logits(base, [row.ids for row in part], device)
        strong = _logits(reinforced, [row.ids for row in part], device) if reinforced is not None else None
        for n, row in enumerate(part):
            length = len(row.ids) - 1
            places = [
                i for i in range(length)
                if row.counterpart[i] >= 0 and not (settings.skip_repeats and row.repeats[i])
            ]  # fmt: skip
            inputs[first + n, :length] = row.ids[:-1]
            if not places:
                continue
            there = torch.tensor([row.counterpart[i] for i in places], device=device)
            here = torch.tensor(places, device=device)
            generic = on_new[n, there].clone()
            if strong is not None and settings.alpha:
                reference = generic if settings.relu_reference == "translated" else on_old[n, here]
                generic = generic - settings.alpha * (strong[n, here] - reference).relu()
            if settings.name_penalty:
                for k, i in enumerate(places):
                    if row.lowered[i]:
                        generic[k, list(set(row.lowered[i]))] -= settings.name_penalty
            labels = generic.argmax(-1).cpu().numpy()
            targets[first + n, places] = labels
            changed += int((labels != np.array(row.ids)[np.array(places) + 1]).sum())
    return Labels(
        inputs=inputs,
        targets=targets,
        anchors=sum(row.anchors for row in rows),
        labelled=int((targets != IGNORE).sum()),
        changed=changed,
    )


def _logits(model: Decoder, texts: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """(rows, longest, vocabulary) in fp32; padding on the right, which causal attention never reads."""
    ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long, device=device)
    for n, text in enumerate(texts):
        ids[n, : len(text)] = torch.tensor(text)
    return model.logits(model(ids)).float()
