"""What a verifier is trained on: answers with one label each, as batches (TinyGSM section 4).

The label travels as the last token of a document. A document's last token is learned as a target and is
never an input (see `hornbook.data.packing`), so the model does not read it, and packing, masks, resuming and
sharing among processes are those of any token file.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hornbook.data.packing import Batch, PackedLoader
from hornbook.data.tokens import TokenFile, TokenWriter
from hornbook.errors import HornbookError
from hornbook.lab.files import write_atomic
from hornbook.model.hf import load_checkpoint, save_checkpoint
from hornbook.train.loss import IGNORE
from hornbook.train.objectives import TokenVerifier

Supervision = Literal["every token", "last token"]
SUPERVISIONS: tuple[Supervision, ...] = ("every token", "last token")
WRONG, RIGHT = 0, 1
"""The ids that say so in the last place of a document."""
_HEAD = "verifier.safetensors"


@dataclass(frozen=True)
class Judged:
    """An answer and whether it is right. `answer` holds the stop token, if the model gave one."""

    question: Sequence[int]
    answer: Sequence[int]
    right: bool


@dataclass(frozen=True)
class JudgedBatch(Batch):
    """A packed batch with `labels` (rows, time): 1 right, 0 wrong, -100 no loss."""

    labels: NDArray[np.int64]


def write_judged(
    folder: Path, answers: Iterable[Judged], *, vocab_size: int, supervision: Supervision = "every token"
) -> TokenFile:
    """A token file of judged answers, to be read by `VerifierLoader`.

    supervision: "every token": the label counts at every token of the answer; "last token": at the last
    alone. The question never carries loss.

    Raises:
        HornbookError: an unknown supervision; an answer without a token.
    """
    if supervision not in SUPERVISIONS:
        raise HornbookError(f"supervision is {supervision!r}; accepted are {', '.join(SUPERVISIONS)}.")
    with TokenWriter(folder, vocab_size, with_mask=True) as writer:
        for one in answers:
            if not one.answer:
                raise HornbookError("an answer that is to be judged has no token.")
            silent = len(one.question) + (1 if supervision == "every token" else len(one.answer))
            ids = [*one.question, *one.answer, RIGHT if one.right else WRONG]
            # The mask is of targets: the one at place i says whether the token before it carries loss.
            writer.write(ids, [0] * silent + [1] * (len(ids) - silent))
    return TokenFile.open(folder)


class VerifierLoader(PackedLoader):
    """Batches of judged answers: a `PackedLoader` over one file of `write_judged`, with labels.

    Raises:
        HornbookError: an answer longer than a row (its label would be lost).
    """

    def __init__(self, file: TokenFile, rows: int, time: int, seed: int, rank: int = 0, world: int = 1):
        longest = int(np.diff(file.documents).max())
        if longest > time + 1:
            raise HornbookError(
                f"the longest judged answer has {longest - 1} tokens, with its question; rows hold {time}. "
                "Make the rows longer."
            )
        super().__init__([(file, 1.0)], rows, time, seed, rank, world)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"judged {super().fingerprint}".encode()).hexdigest()

    def batch(self, step: int) -> JudgedBatch:
        """This rank's rows of step `step`."""
        plain = super().batch(step)
        return JudgedBatch(
            inputs=plain.inputs,
            targets=plain.targets,
            document=plain.document,
            position=plain.position,
            labels=labels_of(plain),
        )


def labels_of(batch: Batch) -> NDArray[np.int64]:
    """The label of its document at every place that carries loss: (rows, time)."""
    time = batch.document.shape[1]
    last = np.ones(batch.document.shape, bool)
    last[:, :-1] = batch.document[:, :-1] != batch.document[:, 1:]
    place = np.where(last, np.arange(time), time - 1)
    end = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    label = np.take_along_axis(batch.targets, end, axis=1)
    return np.where(batch.targets == IGNORE, IGNORE, label)


def save_verifier(verifier: TokenVerifier, folder: Path) -> None:
    """The decoder as an ordinary checkpoint, and the head beside it."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(verifier.decoder, folder)  # type: ignore[arg-type]
    write_atomic(folder / _HEAD, save({n: p.detach().clone() for n, p in verifier.head.named_parameters()}))


def load_verifier(folder: Path) -> TokenVerifier:
    """What `save_verifier` wrote, in fp32.

    Raises:
        HornbookError: the folder holds a checkpoint without a verifier's head.
    """
    from safetensors.torch import load_file

    if not (folder / _HEAD).is_file():
        raise HornbookError(
            f"{folder} is not a verifier: {_HEAD} is missing. `train_verifiers` makes verifiers."
        )
    verifier = TokenVerifier(load_checkpoint(folder, dtype=torch.float32))
    verifier.head.load_state_dict(load_file(folder / _HEAD))
    return verifier.eval()
