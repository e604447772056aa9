"""Labelled sentences from a file, as prompts for a language model that was loaded from anywhere."""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint

Inputs = tuple[Tensor, Tensor]
"""(tokens (n, time) padded on the right, last (n,)): what `Prompted` and `Headed` take."""


@dataclass(frozen=True, kw_only=True)
class LabelledText:
    """texts, and labels y (n,) of +1 and -1."""

    texts: tuple[str, ...]
    y: Tensor

    def draw(self, k: int, test: int, seed: int) -> list["LabelledText"]:
        """k texts a label to train on, as many to choose with, and at most `test` others.

        Raises:
            HornbookError: too few texts.
        """
        order = torch.randperm(len(self.texts), generator=torch.Generator().manual_seed(seed)).tolist()
        parts: list[list[int]] = [[], []]
        for label in (-1, 1):
            rows = [i for i in order if self.y[i] == label]
            if len(rows) <= 2 * k:
                raise HornbookError(
                    f"k is {k}: {2 * k} texts of label {label:+d} are drawn and others tested, but there are "
                    f"{len(rows)}."
                )
            parts[0] += rows[:k]
            parts[1] += rows[k : 2 * k]
        used = {*parts[0], *parts[1]}
        parts.append([i for i in order if i not in used][:test])
        return [LabelledText(texts=tuple(self.texts[i] for i in rows), y=self.y[rows]) for rows in parts]


def load_labelled_text(path: Path) -> LabelledText:
    """A `.jsonl` or `.jsonl.gz` of {"text": ..., "label": 0 or 1}, such as SST-2.

    Raises:
        HornbookError: no such file, or a line that is something else; the line is named.
    """
    texts, labels = [], []
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                    raise HornbookError(f'{path}, line {number}: wanted is {{"text": ..., "label": 0 or 1}}.')
                if row.get("label") not in (0, 1):
                    raise HornbookError(f"{path}, line {number}: label is {row.get('label')!r}, not 0 or 1.")
                texts.append(row["text"].strip())
                labels.append(2 * int(row["label"]) - 1)
    except (OSError, ValueError) as error:
        raise HornbookError(f"{path} cannot be read as labelled text: {error}.") from error
    return LabelledText(texts=tuple(texts), y=torch.tensor(labels))


def open_decoder(spec: str, say: Callable[[str], None]) -> tuple[Decoder, Tokenizer]:
    """A checkpoint folder, or "smollm2", as a float32 decoder and its tokenizer.

    Raises:
        HornbookError: nothing of the kind is there.
    """
    if spec == "smollm2":
        from hornbook.model.embedded import embedded_checkpoint

        folder = embedded_checkpoint(say)
    else:
        folder = Path(spec).expanduser()
    return load_checkpoint(folder, dtype=torch.float32).eval(), Tokenizer.load(folder)


def encoded(tokenizer: Tokenizer, texts: Sequence[str], prompt: str, *, most: int = 128) -> Inputs:
    """Texts with the prompt behind each (empty: none); of longer texts the first tokens up to `most`."""
    tail = tokenizer.encode(prompt) if prompt else []
    rows = [tokenizer.encode(text)[: most - len(tail)] + tail for text in texts]
    if not all(rows):
        raise HornbookError("a text is empty; leave it out.")
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.tensor(row)
    return tokens, torch.tensor([len(row) - 1 for row in rows])


def label_word(tokenizer: Tokenizer, word: str) -> int:
    """The one token of a label word, such as " great".

    Raises:
        HornbookError: the word is several tokens.
    """
    ids = tokenizer.encode(word)
    if len(ids) != 1:
        raise HornbookError(
            f"the label word {word!r} is {len(ids)} tokens for this model; choose one of one token."
        )
    return int(ids[0])
