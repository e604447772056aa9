"""Constraints on a text that can be kept word by word, and such that need the end at the beginning (8.3)."""

import re
from collections.abc import Sequence
from random import Random

from hornbook.evals.sparks.probe import Mark, Probe, Trial, Turns

_ACROSTICS = [
    "rain", "moss", "lamp", "fern", "wind", "salt", "hill", "bark", "dune", "nest", "reed", "tide", "gold",
    "barn", "fish", "path", "corn", "leaf", "mist", "plum", "rope", "sand", "bell", "kite", "lake", "wolf",
    "silk", "drum", "forge", "cloud", "river", "stone", "bread", "grass", "night", "ocean",
]  # fmt: skip
_OPENERS = {
    "a": "A", "b": "Behind the house a", "c": "Calmly the", "d": "Down there a", "e": "Each", "f": "For "
    "once the",
    "g": "Gladly the", "h": "Here the", "i": "In May a", "k": "Kindly the", "l": "Later the", "m": "Maybe "
    "the",
    "n": "Now the", "o": "Over there a", "p": "Perhaps a", "r": "Rarely a", "s": "Slowly the", "t": "The",
    "u": "Up there a", "v": "Very soon the", "w": "When called, the", "y": "Yesterday the",
}  # fmt: skip
_SUBJECTS = ["baker", "sailor", "gardener", "teacher", "farmer", "painter", "weaver", "clerk"]


class Acrostic(Probe):
    """Local: each sentence has to begin with a known letter."""

    name = "acrostic"
    section = "8.3"
    sentence = "A few sentences whose first letters spell a word (a constraint kept one sentence at a time)."
    max_tokens = 140

    def draw(self, rng: Random) -> Trial:
        word, subject = rng.choice(_ACROSTICS), rng.choice(_SUBJECTS)
        opening = (
            f"Write {len(word)} short sentences about a {subject}. The first letters of the sentences, in "
            "order, "
            f"must spell the word {word.upper()}. Write one sentence a line and nothing else."
        )
        return Trial(
            id="", openings=(opening,), told={"word": word, "subject": subject}, group=f"{len(word)} letters"
        )

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        word, subject = trial.told["word"], trial.told["subject"]
        lines = _lines(answers[0][-1])
        letters = "".join(words[0][0] for words in lines)
        checks = {
            f"spells {word}": letters == word,
            "sentences of three words or more": bool(lines) and all(len(words) >= 3 for words in lines),
            "no sentence twice": len({tuple(words) for words in lines}) == len(lines),
            f"about a {subject}": any(subject in word for words in lines for word in words),
        }
        hits = sum(a == b for a, b in zip(letters, word)) / len(word)
        return Mark(
            values={"solved": float(all(checks.values())), "letters": hits},
            read=letters[:20],
            note=", ".join(name for name, good in checks.items() if not good),
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        endings = ("sings", "sleeps at noon", "waits", "counts the days", "smiles")
        return "\n".join(
            f"{_OPENERS[letter]} {trial.told['subject']} {ending}."
            for letter, ending in zip(trial.told["word"], endings)
        )


class Reversal(Probe):
    """Global: the first line has to be written with the last one in mind."""

    name = "reversal"
    section = "8.3"
    sentence = "A poem of four lines, the last being the first with its words reversed (needs a plan)."
    max_tokens = 120

    def draw(self, rng: Random) -> Trial:
        subject, number = rng.choice(_SUBJECTS), rng.choice([4, 5, 6])
        verb = rng.choice(["sees", "hears", "finds", "knows", "follows"])
        opening = (
            f"Write a poem of four lines about a {subject}. The first line has exactly {number} different "
            "words, "
            f"with the words {subject} and {verb} among them. The last line is the first line with its words "
            "in reverse order. Write nothing but the four lines."
        )
        return Trial(
            id="", openings=(opening,), told={"subject": subject, "number": number, "verb": verb},
            group=f"{number} words",
        )  # fmt: skip

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        told, lines = trial.told, _lines(answers[0][-1])
        first = lines[0] if lines else []
        checks = {
            "four lines": len(lines) == 4,
            f"{told['number']} different words": len(set(first)) == len(first) == told["number"],
            f"{told['subject']} and {told['verb']}": {told["subject"], told["verb"]} <= set(first),
            "the last line reversed": len(lines) > 1 and len(first) > 1 and lines[-1] == first[::-1],
        }
        return Mark(
            values={
                "solved": float(all(checks.values())),
                "reversed": float(checks["the last line reversed"]),
            },
            read=" / ".join(" ".join(line) for line in (lines[:1] + lines[-1:]))[:120],
            note=", ".join(name for name, good in checks.items() if not good),
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        told = trial.told
        more = ["often", "today", "still"][: told["number"] - 3]
        first = [told["subject"], *more, told["verb"], "children"]
        return f"{' '.join(first)}\nThe day is long\nThe road is wide\n{' '.join(first[::-1])}"


def _lines(text: str) -> list[list[str]]:
    """The words of every line that has some, in lower case; numbers and marks before it are left out."""
    found = [re.findall(r"[a-z]+(?:'[a-z]+)?", line.lower()) for line in text.strip().splitlines()]
    return [words for words in found if words]
