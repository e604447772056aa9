"""Saliency for a language model's answer: which tokens of the prompt made it say this word."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.model.decoder import Decoder


class WordPredictor:
    """Probabilities of label words behind the last token, as a function of the prompt's embeddings.

    Calling it with (batch, hidden, time) gives (batch, words) probabilities, renormalised over the words. The
    decoder's weights should be frozen (`hornbook.theory.saliency.frozen`).
    """

    def __init__(self, decoder: Decoder, words: Sequence[int]) -> None:
        if len(set(words)) != len(words) or len(words) < 2:
            raise HornbookError(f"words is {tuple(words)}; at least two different label words are needed.")
        self.decoder, self.words = decoder, list(words)

    def embed(self, tokens: Tensor) -> Tensor:
        """(batch, time) ids to (batch, hidden, time): time is the place, hidden the channel."""
        with torch.no_grad():
            embedded: Tensor = self.decoder.embed_tokens(tokens)
        return embedded.transpose(1, 2).contiguous()

    def __call__(self, embedded: Tensor) -> Tensor:
        """(batch, hidden, time) -> (batch, words)."""
        given = embedded.transpose(1, 2)
        handle = self.decoder.embed_tokens.register_forward_hook(lambda module, args, out: given)
        try:
            tokens = torch.zeros(given.shape[:2], dtype=torch.long, device=given.device)
            hidden = self.decoder(tokens)
        finally:
            handle.remove()
        return self.decoder.logits(hidden[:, -1])[:, self.words].float().softmax(-1)
