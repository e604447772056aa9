"""Saliency for a vision language model's answer: which pixels of the picture made it say this word."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.model.decoder import Decoder
from hornbook.model.vision import Pictures


class PicturePredictor:
    """Probabilities of label words behind a prompt with one picture, as a function of its pixels.

    Calling it with (batch, 3, size, size) pixels as the tower reads them (normalised, size = the config's
    image_size, one tile) gives (batch, words) probabilities, renormalised over the words. The decoder's
    weights should be frozen (`hornbook.theory.saliency.frozen`).
    """

    def __init__(self, decoder: Decoder, prompt: Sequence[int], words: Sequence[int]) -> None:
        """prompt: ids of `hornbook.model.pictures.picture_prompt` for one picture; -1 stands for it."""
        vision = decoder.config.vision
        if vision is None:
            raise HornbookError("this decoder sees no pictures; take WordPredictor for text alone.")
        if len(set(words)) != len(words) or len(words) < 2:
            raise HornbookError(f"words is {tuple(words)}; at least two different label words are needed.")
        wanted = vision.tokens(1, 1)
        if list(prompt).count(-1) != wanted or min(prompt) < -1:
            raise HornbookError(
                f"the prompt has {list(prompt).count(-1)} places for its picture; one tile takes {wanted}. "
                "Make it by picture_prompt with one placeholder and tiles=1."
            )
        self.decoder, self.words, self.size = decoder, list(words), vision.image_size
        self.prompt = torch.tensor(list(prompt))

    def __call__(self, pixels: Tensor) -> Tensor:
        """(batch, 3, size, size) -> (batch, words)."""
        if pixels.shape[1:] != (3, self.size, self.size):
            raise HornbookError(
                f"pixels are {tuple(pixels.shape)}; this model reads (batch, 3, {self.size}, {self.size})."
            )
        # The whole view and the only tile are the same picture.
        both = pixels[:, None].expand(-1, 2, -1, -1, -1)
        pictures = Pictures(pixels=both, tiles=((1, 1),) * len(pixels))
        tokens = self.prompt.to(pixels.device).expand(len(pixels), -1)
        hidden = self.decoder(tokens, pictures=pictures)
        return self.decoder.logits(hidden[:, -1])[:, self.words].float().softmax(-1)
