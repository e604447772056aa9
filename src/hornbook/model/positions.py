"""How a decoder is told the order of its tokens, where rotary angles do not tell it.

"learned": one trained vector for every place, added to the token's (GPT-2). "none": nothing; the causal mask
alone distinguishes places, from the second layer on (NoPE). "tags": every occurrence of a token gets random
numbers that say nothing about its place but tell it from its equals, so that it can be found again and
copied (Shen et al. 2023, arXiv 2311.14737, section 4.2; size and scale are our choice, the paper is silent).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig


class LearnedPositions(nn.Embedding):
    """A trained vector of the hidden size for each place from 0 to max_position - 1."""

    def reset_parameters(self) -> None:
        """Nothing: `Decoder.reset_parameters` draws the numbers once."""

    def forward(  # type: ignore[override]
        self, tokens: Tensor, position: Tensor, tags: Tensor | None
    ) -> Tensor:
        """position (batch, time) or (time,) -> vectors of that shape and the hidden size.

        Raises:
            HornbookError: a place that has no vector (on accelerators it is not looked for).
        """
        if position.device.type == "cpu" and not torch.compiler.is_compiling() and position.numel():
            last = int(position.max())
            if last >= self.num_embeddings:
                raise HornbookError(
                    f"A token stands at position {last}, but this model has learned only positions 0 to "
                    f"{self.num_embeddings - 1}. Shorten the text, or train with a larger max_position."
                )
        return super().forward(position)


class RandomTags(nn.Module):
    """W r / sqrt(tag_size): r is drawn from N(0, 1) for each token of each row, W (hidden, size) is trained.

    Tokens in a cache keep the tags they were read with: only the tokens of a call draw.
    """

    def __init__(self, size: int, hidden_size: int) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.zeros(hidden_size, size))

    def forward(self, tokens: Tensor, position: Tensor, tags: Tensor | None) -> Tensor:
        """tokens (batch, time) -> (batch, time, hidden). tags: (batch, time, size) in place of drawn ones."""
        if tags is None:
            tags = torch.randn(*tokens.shape, self.size, device=tokens.device)
        elif tags.shape != (*tokens.shape, self.size):
            raise ValueError(f"tags have the shape {tuple(tags.shape)}, not {(*tokens.shape, self.size)}")
        return F.linear(tags.to(self.weight.dtype), self.weight) / math.sqrt(self.size)


def make_positions(config: ModelConfig) -> LearnedPositions | RandomTags | None:
    """What `config.positions` adds to the token embeddings; None for "rotary" and "none"."""
    if config.positions == "learned":
        return LearnedPositions(config.max_position, config.hidden_size)
    if config.positions == "tags":
        return RandomTags(config.tag_size, config.hidden_size)
    return None
