"""What a model is trained for when it shall forget: generic labels, or one of the peers' losses.

Units are rows, so that rows to forget and rows to keep weigh the same however long they are.

- labels: cross-entropy of generic labels (arXiv 2310.02238);
- gradient ascent: minus the cross-entropy of the text to forget; gradient difference: with the cross-entropy
  of text to keep beside it (TOFU, arXiv 2401.06121);
- NPO: (2 / beta) softplus(beta (log p - log p_reference)) of whole rows (arXiv 2404.05868), with text to keep
beside it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.model.decoder import Decoder
from hornbook.train.batches import TensorBatch
from hornbook.train.loss import IGNORE, Head, head_of, token_log_probabilities
from hornbook.train.objectives import Loss, hidden_states

ForgetLoss = Literal["labels", "ascent", "npo"]
Keep = Literal["nothing", "text", "kl"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Texts as rows: inputs and targets int64 (rows, time), targets -100 where there is no loss."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.inputs)


def text_rows(texts: Sequence[str], tokenizer: Tokenizer, *, time: int) -> Rows:
    """Each text with its end in a row of its own; what goes beyond `time` tokens is left out.

    Raises:
        HornbookError: there is no text.
    """
    if not texts:
        raise HornbookError("There is no text to train on.")
    inputs = np.zeros((len(texts), time), np.int64)
    targets = np.full((len(texts), time), IGNORE, np.int64)
    for n, ids in enumerate(tokenizer.encode_batch(texts)):
        whole = [*ids, tokenizer.end_of_text][: time + 1]
        inputs[n, : len(whole) - 1] = whole[:-1]
        targets[n, : len(whole) - 1] = whole[1:]
    return Rows(inputs=inputs, targets=targets)


@dataclass(frozen=True)
class ForgetBatch:
    """Rows to forget, then rows to keep. keep: (rows,) bool. reference: (rows,) float32 log-probabilities of
    the rows to forget under the model as it came."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    keep: NDArray[np.bool_]
    reference: NDArray[np.float32]


class ForgetLoader:
    """Batches of `rows` rows to forget and `keep_rows` to keep, each shuffled anew every epoch of its own."""

    def __init__(
        self,
        forget: Rows,
        keep: Rows | None,
        *,
        rows: int,
        keep_rows: int,
        seed: int,
        reference: NDArray[np.float32] | None = None,
    ) -> None:
        if rows < 1 or keep_rows < 0 or (keep_rows and keep is None):
            raise HornbookError(
                f"A batch of {rows} rows to forget and {keep_rows} to keep cannot be made"
                f"{' without text to keep' if keep is None else ''}; rows must be at least 1."
            )
        self.forget, self.keep, self.seed = forget, keep, seed
        self.forget_rows, self.keep_rows = rows, keep_rows
        self.reference = reference if reference is not None else np.zeros(len(forget), np.float32)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the data and the order."""
        digest = hashlib.sha256(f"{self.forget_rows} {self.keep_rows} {self.seed}".encode())
        for part in (self.forget, self.keep):
            if part is not None:
                digest.update(part.inputs.tobytes())
                digest.update(part.targets.tobytes())
        digest.update(self.reference.tobytes())
        return digest.hexdigest()

    def batch(self, step: int) -> ForgetBatch:
        """The rows of one step."""
        chosen = self._chosen(len(self.forget), self.forget_rows, step, 0)
        inputs, targets = [self.forget.inputs[chosen]], [self.forget.targets[chosen]]
        reference = [self.reference[chosen]]
        if self.keep is not None and self.keep_rows:
            kept = self._chosen(len(self.keep), self.keep_rows, step, 1)
            inputs.append(self.keep.inputs[kept])
            targets.append(self.keep.targets[kept])
            reference.append(np.zeros(self.keep_rows, np.float32))
        keep = np.arange(self.forget_rows + (self.keep_rows if self.keep is not None else 0))
        return ForgetBatch(
            inputs=np.concatenate(inputs),
            targets=np.concatenate(targets),
            keep=keep >= self.forget_rows,
            reference=np.concatenate(reference),
        )

    def _chosen(self, count: int, rows: int, step: int, stream: int) -> NDArray[np.int64]:
        places = np.arange(step * rows, (step + 1) * rows)
        epoch, at = np.divmod(places, count)
        orders = {
            int(e): np.random.default_rng([self.seed, stream, int(e)]).permutation(count)
            for e in np.unique(epoch)
        }
        return np.array([orders[int(e)][a] for e, a in zip(epoch, at, strict=True)], np.int64)


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """The objective. `reference` is the frozen model as it came; it is needed to keep by divergence
    ("kl")."""

    loss: ForgetLoss
    keep: Keep = "nothing"
    keep_weight: float = 1.0
    beta: float = 0.1
    reference: Decoder | None = None

    def __post_init__(self) -> None:
        if self.keep == "kl" and self.reference is None:
            raise HornbookError("Keeping by divergence needs the model as it came as the reference.")
        if self.beta <= 0:
            raise HornbookError(f"beta is {self.beta}; it must be above 0.")

    def __call__(self, model: nn.Module, batch: TensorBatch) -> Loss:
        """Sums over rows. Parts: `forget` and `keep`, over their rows."""
        hidden, head = hidden_states(model, batch), head_of(model)
        logs = token_log_probabilities(hidden, head, batch.targets)
        count = (batch.targets != IGNORE).sum(1).clamp(min=1)
        loss = -logs.sum(1) / count
        if self.loss == "ascent":
            forget = -loss
        elif self.loss == "npo":
            forget = (2 / self.beta) * F.softplus(self.beta * (logs.sum(1) - batch.reference))
        else:
            forget = loss
        kept = self._divergence(hidden, head, batch) / count if self.keep == "kl" else loss
        rows = torch.where(batch.keep, self.keep_weight * kept, forget)
        parts = {"forget": forget[~batch.keep].detach().sum(), "keep": kept[batch.keep].detach().sum()}
        return Loss(rows.sum(), torch.tensor(len(rows), device=rows.device), parts)

    def _divergence(self, hidden: Tensor, head: Head, batch: TensorBatch) -> Tensor:
        """KL(reference || model) summed over the tokens of each row to keep; 0 for the others."""
        reference = self.reference
        assert reference is not None
        found = hidden.new_zeros(len(hidden), dtype=torch.float32)
        rows = batch.keep.nonzero().squeeze(1)
        if not len(rows):
            return found
        with torch.no_grad():
            given = reference(batch.inputs[rows])
        own = [
            checkpoint(_row_divergence, hidden[row], *head, given[n], *head_of(reference),
                       batch.targets[row] != IGNORE, use_reentrant=False)
            for n, row in enumerate(rows)
        ]  # fmt: skip
        return found.index_put((rows,), torch.stack(own))


def _row_divergence(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: float,
    given: Tensor,
    given_weight: Tensor,
    given_bias: Tensor | None,
    given_scale: float,
    trained: Tensor,
) -> Tensor:
    log_q = torch.log_softmax(F.linear(hidden, weight, bias).float() * scale, -1)
    log_p = torch.log_softmax(F.linear(given, given_weight, given_bias).float() * given_scale, -1)
    return ((log_p.exp() * (log_p - log_q)).sum(-1) * trained).sum()


@torch.no_grad()
def row_log_probabilities(model: Decoder, rows: Rows) -> NDArray[np.float32]:
    """log p of each whole row under `model`."""
    device = next(model.parameters()).device
    found = []
    for first in range(0, len(rows), 32):
        inputs = torch.from_numpy(rows.inputs[first : first + 32]).to(device)
        targets = torch.from_numpy(rows.targets[first : first + 32]).to(device)
        logs = token_log_probabilities(model(inputs), head_of(model), targets)
        found.append(logs.sum(1).cpu().numpy())
    return np.concatenate(found).astype(np.float32)
