"""Conversations as token files for fine-tuning: what is learned, and what happens to those that are too long.

The learned tokens are the assistant's words and the stop token of each of its turns (`hornbook.data.chat`).
A conversation that does not fit into a row keeps its first whole turns. When not even the first answer fits,
its beginning is learned without a stop token, so that nothing teaches the model to stop in mid-sentence; a
piece that begins in mid-answer, without the question, is never made.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hornbook.data.chat import ChatTemplate
from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenWriter
from hornbook.errors import HornbookError

Fit = Literal["whole", "shortened", "cut", "left out"]


def encode_fitting(
    tokenizer: Tokenizer, template: ChatTemplate, messages: Sequence[Mapping[str, str]], time: int
) -> tuple[list[int], list[int], Fit]:
    """Token ids and mask of a conversation, of at most `time` pairs of (input, target), and how it fit.

    "shortened": whole turns were dropped from the end; "cut": the first answer was cut and has no stop token;
    "left out": the question alone is too long, or there is nothing to learn (ids and mask are empty then).
    """
    ids, mask = template.encode(tokenizer, messages)
    if not any(mask[1:]):
        return [], [], "left out"
    if len(ids) <= time + 1:
        return ids, mask, "whole"
    stop = tokenizer.special(template.stop)
    for at in range(time, 0, -1):
        if mask[at] and ids[at] == stop:
            return ids[: at + 1], mask[: at + 1], "shortened"
    if any(mask[1 : time + 1]):
        return ids[: time + 1], mask[: time + 1], "cut"
    return [], [], "left out"


def write_conversations(
    corpus: Corpus, tokenizer: Tokenizer, template: ChatTemplate, folder: Path, *, time: int
) -> dict[str, Any]:
    """Writes the conversations of `corpus` as a token file with a mask into `folder`; returns counts.

    time: input tokens of a row, which no conversation exceeds. The counts say how many conversations fit
    whole, were shortened, cut or left out, and how many tokens there are and are learned.

    Raises:
        HornbookError: the corpus holds no conversations, or none that can be learned from.
    """
    if corpus.schema != "conversations":
        raise HornbookError(
            f"The corpus {corpus.folder} holds {corpus.schema}, not conversations; tokenise documents with "
            "the step `tokenize` and give the token file instead."
        )
    fits: Counter[str] = Counter()
    learned = 0
    with TokenWriter(folder, tokenizer.vocab_size, with_mask=True) as writer:
        for row in corpus.iter_rows(["messages"]):
            ids, mask, fit = encode_fitting(tokenizer, template, row["messages"], time)
            fits[fit] += 1
            if ids:
                writer.write(ids, mask)
                learned += sum(mask[1:])
        if not learned:
            raise HornbookError(
                f"None of the {corpus.rows} conversations of {corpus.folder} has an answer that fits into "
                f"{time} tokens. Make the rows longer."
            )
        counts = {
            "rows": corpus.rows,
            **{name.replace(" ", "_"): fits[name] for name in ("whole", "shortened", "cut", "left out")},
            "tokens": writer.token_count,
            "learned_tokens": learned,
        }
        writer.facts = counts
    return counts
