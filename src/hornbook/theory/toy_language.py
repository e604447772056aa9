"""A small language with sentiment, to pre-train a language model on and to fine-tune it with few examples.

A sentence is nine words, three of them polar; each polar word agrees with the sentence's latent label with
probability 0.8. Then comes "it was ADJ ." with one of three praising or blaming words, which agrees with
probability 0.9. In the downstream task some polar words have changed sides, so the pre-trained model is
mediocre at it and has something to learn, in a form it knows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

POLAR, NEUTRAL, VERDICTS, LENGTH, POLAR_PLACES = 16, 24, 3, 9, 3
START, IT, WAS, STOP = 0, 1, 2, 3
_GOOD = 4
_BAD = _GOOD + POLAR
_PLAIN = _BAD + POLAR
PRAISE = _PLAIN + NEUTRAL
BLAME = PRAISE + VERDICTS
VOCABULARY = BLAME + VERDICTS
PROMPT = (IT, WAS)

_SPELLING = [
    "<start>",
    "it",
    "was",
    ".",
    "bright",
    "kind",
    "warm",
    "clever",
    "gentle",
    "honest",
    "lively",
    "patient",
    "graceful",
    "witty",
    "tender",
    "brave",
    "calm",
    "neat",
    "sweet",
    "loyal",
    "dull",
    "cruel",
    "cold",
    "clumsy",
    "harsh",
    "false",
    "weary",
    "rude",
    "awkward",
    "bitter",
    "rough",
    "timid",
    "shrill",
    "messy",
    "sour",
    "fickle",
    "man",
    "woman",
    "house",
    "film",
    "book",
    "road",
    "river",
    "tale",
    "song",
    "hand",
    "morning",
    "table",
    "garden",
    "voice",
    "letter",
    "window",
    "child",
    "horse",
    "winter",
    "town",
    "story",
    "evening",
    "lamp",
    "coat",
    "great",
    "lovely",
    "fine",
    "awful",
    "poor",
    "sad",
]


def is_polar(ids: Tensor) -> Tensor:
    """Which token ids are polar words."""
    return (ids >= _GOOD) & (ids < _PLAIN)


def spelled(ids: Tensor) -> list[str]:
    """The words of token ids, for people to read; the model sees numbers alone."""
    return [_SPELLING[int(i)] for i in ids]


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """words: (n, 1 + LENGTH) token ids, the first START. y: (n,) latent labels, +1 or -1."""

    words: Tensor
    y: Tensor

    def prompted(self) -> tuple[Tensor, Tensor]:
        """(tokens, last) with "it was" behind each sentence: what `Prompted` takes."""
        prompt = torch.tensor(PROMPT).expand(len(self.y), -1)
        tokens = torch.cat([self.words, prompt], 1)
        return tokens, torch.full((len(self.y),), tokens.shape[1] - 1)

    def bare(self) -> tuple[Tensor, Tensor]:
        """(tokens, last) without the prompt: what `Headed` takes."""
        return self.words, torch.full((len(self.y),), self.words.shape[1] - 1)


def draw(n: int, generator: torch.Generator, *, swapped: int = 0, agree: float = 0.8) -> Sentences:
    """n sentences; the first `swapped` polar words of each side count for the other side."""
    y = torch.randint(2, (n,), generator=generator) * 2 - 1
    places = torch.rand(n, LENGTH, generator=generator).argsort(1) < POLAR_PLACES
    sides = torch.where(torch.rand(n, LENGTH, generator=generator) < agree, y[:, None], -y[:, None])
    which = torch.randint(POLAR, (n, LENGTH), generator=generator)
    looks_good = (sides > 0) ^ (which < swapped)
    polar = torch.where(looks_good, _GOOD, _BAD) + which
    plain = _PLAIN + torch.randint(NEUTRAL, (n, LENGTH), generator=generator)
    words = torch.where(places, polar, plain)
    return Sentences(words=torch.cat([torch.full((n, 1), START), words], 1), y=y)


def with_verdicts(sentences: Sentences, generator: torch.Generator, *, agree: float = 0.9) -> Tensor:
    """(n, time) whole texts for pre-training: sentence, "it was", a verdict, stop."""
    n = len(sentences.y)
    tokens, _ = sentences.prompted()
    said = torch.where(torch.rand(n, generator=generator) < agree, sentences.y, -sentences.y)
    verdict = torch.where(said > 0, PRAISE, BLAME) + torch.randint(VERDICTS, (n,), generator=generator)
    return torch.cat([tokens, verdict[:, None], torch.full((n, 1), STOP)], 1)


def balanced(k: int, generator: torch.Generator, *, swapped: int) -> Sentences:
    """k sentences of each label, in random order."""
    pool = draw(max(64, 8 * k), generator, swapped=swapped)
    rows = torch.cat([(pool.y == label).nonzero()[:k, 0] for label in (-1, 1)])
    rows = rows[torch.randperm(len(rows), generator=generator)]
    return Sentences(words=pool.words[rows], y=pool.y[rows])
