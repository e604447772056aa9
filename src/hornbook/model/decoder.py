"""The decoder: token ids in, hidden states and logits out. No training concern lives here."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.model.attention import sparse_in_training, visible_in_training
from hornbook.model.cache import Cache
from hornbook.model.config import ModelConfig
from hornbook.model.fused import transformed
from hornbook.model.layers import Block, Embedding, Linear, make_norm
from hornbook.model.positions import make_positions
from hornbook.model.rope import Rope
from hornbook.model.vision import PictureEmbedding, Pictures


class Decoder(nn.Module):
    """A decoder-only transformer of the phi family.

    `with torch.device("meta"): Decoder(config)` costs nothing and has every shape.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.positions = make_positions(config)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = make_norm(config)
        self.lm_head = (
            None
            if config.tied_embeddings
            else Linear(config.hidden_size, config.vocab_size, bias=config.head_bias)
        )
        self.head_bias = (
            nn.Parameter(torch.zeros(config.vocab_size))
            if config.tied_embeddings and config.head_bias
            else None
        )
        self.vision = None if config.vision is None else PictureEmbedding(config.vision, config.hidden_size)
        self.rope = Rope(config)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws every weight anew: N(0, init_std), the two projections that write to the residual
        stream N(0, init_std / sqrt(2 layers)), biases 0, norm weights 1 (GPT-2's scheme, kept by phi-3).
        """
        if self.embed_tokens.weight.is_meta:
            return
        std = self.config.init_std
        nn.init.normal_(self.embed_tokens.weight, std=std)
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=std)
        if self.vision is not None:
            self.vision.reset_parameters(std)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                writes_residual = name.endswith(("o_proj", "down_proj"))
                scale = 1.0 / math.sqrt(2 * self.config.layers) if writes_residual else 1.0
                nn.init.normal_(module.weight, std=std * scale)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self,
        tokens: Tensor,
        *,
        position: Tensor | None = None,
        document: Tensor | None = None,
        cache: Cache | None = None,
        pictures: Pictures | None = None,
        tags: Tensor | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, (batch, time, hidden).

        tokens: (batch, time) ids. position: (batch, time) or (time,); default 0, 1, ... or what
        the cache says. document: (batch, time) ids of packed documents, which then do not see each
        other; not together with a cache. cache: filled by this call with the new keys and values.
        pictures: what the negative ids of a vision model stand for (`hornbook.model.pictures` makes both).
        tags: (batch, time, tag_size) for models with positions "tags", which draw them where none are given.
        """
        time = tokens.shape[1]
        if cache is not None:
            if document is not None:
                raise ValueError("document isolation and a cache exclude each other")
            visible = cache.visible(time, self.config.sliding_window)
        else:
            visible = visible_in_training(
                time,
                document=document,
                window=self.config.sliding_window,
                device=tokens.device,
                blocks=self._blocks(tokens),
            )
            if self.config.block_sparse is not None:
                visible = sparse_in_training(
                    visible,
                    self.config.block_sparse,
                    self.config.heads,
                    time,
                    document=document,
                    device=tokens.device,
                    dropout=self.training and self.config.attention_dropout > 0,
                )
        cos, sin = self._angles(tokens, position, cache)
        if tags is not None and self.config.positions != "tags":
            raise ValueError(f"a model with positions {self.config.positions!r} takes no tags")
        if self.vision is None:
            x = self.embed_tokens(tokens)
        else:
            x = self.vision.place(self.embed_tokens(tokens.clamp(min=0)), tokens, pictures)
        if self.config.multipliers.embedding != 1.0:
            x = x * self.config.multipliers.embedding
        if self.positions is not None:
            if position is None:
                position = self._default_position(tokens, cache)
            x = x + self.positions(tokens, position, tags).to(x.dtype)
        if self.config.embedding_dropout:
            x = F.dropout(x, self.config.embedding_dropout, self.training)
        for layer in self.layers:
            x = layer(x, cos, sin, visible=visible, cache=cache)
        if cache is not None:
            cache.advance(time)
        hidden: Tensor = self.norm(x)
        return hidden

    def _blocks(self, tokens: Tensor) -> torch.dtype | None:
        """The dtype of block attention where it is the fastest path: on CPUs, without dropout."""
        if tokens.device.type != "cpu" or (self.training and self.config.attention_dropout) or transformed():
            return None
        if torch.is_autocast_enabled("cpu"):
            return torch.get_autocast_dtype("cpu")
        return self.embed_tokens.weight.dtype

    def _angles(self, tokens: Tensor, position: Tensor | None, cache: Cache | None) -> tuple[Tensor, Tensor]:
        """cos and sin, broadcastable to (batch, heads, time, rotary_dim / 2)."""
        if self.config.positions != "rotary":
            # An angle of 0 leaves every head exactly as it is, on every path of attention.
            return self.rope(torch.zeros(tokens.shape[1], dtype=torch.long, device=tokens.device), 1)
        length: int | Tensor = tokens.shape[1]
        if position is not None and self.config.long_rope is not None:
            length = position.max() + 1
        if cache is not None:
            length = cache.rope_length
        if position is None:
            position = self._default_position(tokens, cache)
        cos, sin = self.rope(position, length)
        if position.dim() == 2:
            return cos[:, None], sin[:, None]
        return cos, sin

    def _default_position(self, tokens: Tensor, cache: Cache | None) -> Tensor:
        """0, 1, ... or what the cache says: (time,) or (batch, time)."""
        if cache is not None:
            return cache.position(tokens.shape[1])
        return torch.arange(tokens.shape[1], device=tokens.device)

    def logits(self, hidden: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the next token, (..., hidden) -> (..., vocab_size)."""
        if self.lm_head is None:
            out = F.linear(hidden, self.embed_tokens.weight, self.head_bias)
        else:
            out = self.lm_head(hidden)
        if self.config.multipliers.logits != 1.0:
            out = out * self.config.multipliers.logits
        return hide_unused(out, self.config)


def hide_unused(logits: Tensor, config: ModelConfig) -> Tensor:
    """Logits (..., vocab_size) with the rows that stand for no token at the lowest number of the dtype."""
    if not config.unused_ids:
        return logits
    unused = torch.tensor(config.unused_ids, device=logits.device)
    return logits.index_fill(-1, unused, torch.finfo(logits.dtype).min)
