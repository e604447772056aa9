"""Language models as classifiers, as the kernel view needs them: with a prompt, or with a linear head."""

import copy
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.errors import HornbookError
from hornbook.model.decoder import Decoder


class Prompted(nn.Module):
    """Logits of label words after a prompt: f_c(x) = logit of word c behind the last token of x.

    Two words give one output, their difference (f = logit of word 1 - logit of word 0), as in the paper's
    binary tasks. Inputs: tokens (batch, time), padded on the right, and last (batch,), each prompt's end.
    """

    def __init__(self, decoder: Decoder, words: Sequence[int]) -> None:
        super().__init__()
        if len(words) < 2 or len(set(words)) != len(words):
            raise HornbookError(f"words is {tuple(words)}; at least two different label words are needed.")
        self.decoder = decoder
        self.register_buffer("words", torch.tensor(list(words)))
        self.eval()

    def forward(self, tokens: Tensor, last: Tensor) -> Tensor:
        """(batch, 1) for two words, else (batch, words)."""
        words: Tensor = self.words  # type: ignore[assignment]
        logits = self.decoder.logits(_at(self.decoder(tokens), last)).index_select(-1, words)
        return logits[:, 1:] - logits[:, :1] if len(words) == 2 else logits


class Headed(nn.Module):
    """A linear head on the last hidden state, no prompt: the paper's other way to fine-tune. One output."""

    def __init__(self, decoder: Decoder, weight: Tensor, bias: Tensor) -> None:
        """weight (hidden,) and bias () of a logistic regression on the frozen features (linear probing)."""
        super().__init__()
        self.decoder = decoder
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(bias.detach().clone())
        self.eval()

    def forward(self, tokens: Tensor, last: Tensor) -> Tensor:
        """(batch, 1)."""
        return (_at(self.decoder(tokens), last) @ self.weight + self.bias)[:, None]


def _at(hidden: Tensor, last: Tensor) -> Tensor:
    """Hidden states at one position of each row, by a product with a one-hot that vmap can batch."""
    places = torch.arange(hidden.shape[1], device=hidden.device)
    return torch.einsum("bth,bt->bh", hidden, (places == last[:, None]).to(hidden.dtype))


def features(decoder: Decoder, tokens: Tensor, last: Tensor) -> Tensor:
    """Last hidden states (batch, hidden)."""
    with torch.no_grad():
        return _at(decoder(tokens), last)


def probe(x: Tensor, y: Tensor, *, penalty: float = 1.0, steps: int = 100) -> tuple[Tensor, Tensor]:
    """Logistic regression: weight (features,) and bias () for x (n, features) and y (n,) of +-1.

    Minimises sum log(1 + exp(-y f)) + penalty / 2 |w|^2 (no penalty on the bias) by L-BFGS, in float64.
    """
    x, y = x.double(), y.double()
    weight = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=steps, line_search_fn="strong_wolfe", tolerance_grad=1e-9
    )

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.softplus(-y * (x @ weight + bias)).sum() + penalty / 2 * weight.square().sum()
        torch.autograd.backward(value)
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach().float(), bias.detach().float()


def fine_tune(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    y: Tensor,
    *,
    optimizer: Literal["sgd", "adam"],
    learning_rate: float,
    steps: int,
    batch: int,
    seed: int,
) -> nn.Module:
    """A fine-tuned copy of a one-output module: logistic loss on y (n,) of +-1, no momentum, no decay."""
    tuned = copy.deepcopy(module)
    if optimizer == "sgd":
        rule: torch.optim.Optimizer = torch.optim.SGD(tuned.parameters(), lr=learning_rate)
    else:
        rule = torch.optim.Adam(tuned.parameters(), lr=learning_rate)
    order = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randperm(len(y), generator=order)[:batch]
        loss = F.softplus(-y[rows] * tuned(*[t[rows] for t in inputs])[:, 0]).mean()
        rule.zero_grad()
        torch.autograd.backward(loss)
        rule.step()
    return tuned
