"""A storyteller without a network: word n-grams with back-off, the least that a trained model must beat.

Stories from templates can be told by looking at the last few words. If such a teller is as consistent as a
transformer, the world is too easy to show anything (the trap of every programmatic grammar).
"""

from collections import Counter
from collections.abc import Sequence
from random import Random

from hornbook.errors import HornbookError

END = ""
"""Stands behind the last word of every story."""


class NgramTeller:
    """Goes on from the longest run of at most `order - 1` last words that its stories hold.

    Words are what stands between spaces, with their marks.
    """

    def __init__(self, stories: Sequence[str], *, order: int = 5) -> None:
        if order < 1 or not stories:
            raise HornbookError(
                f"n-gram teller: order is {order}, of {len(stories)} stories; both 1 or more."
            )
        self.order = order
        self._next: list[dict[tuple[str, ...], Counter[str]]] = [{} for _ in range(order)]
        for story in stories:
            words = [*story.split(" "), END]
            for at, word in enumerate(words):
                for size in range(min(order - 1, at) + 1):
                    self._next[size].setdefault(tuple(words[at - size : at]), Counter())[word] += 1

    def complete(self, beginning: str, rng: Random, *, most: int = 150) -> str:
        """What comes after a beginning, with the space between; at most so many words."""
        words = beginning.split(" ")
        made: list[str] = []
        while len(made) < most:
            word = self._draw((*words, *made), rng)
            if word == END:
                break
            made.append(word)
        return "".join(f" {word}" for word in made)

    def _draw(self, words: Sequence[str], rng: Random) -> str:
        for size in range(min(self.order - 1, len(words)), -1, -1):
            counts = self._next[size].get(tuple(words[len(words) - size :]))
            if counts:
                return rng.choices(list(counts), list(counts.values()))[0]
        raise AssertionError("every story has a word")
