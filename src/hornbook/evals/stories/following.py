"""Whether a story does what its instructions ask, decided by rule (TinyStories section 4, Instruct).

What cannot be read off a text alone is read with the teacher's templates (`acts`): so these rules hold
for stories of the small world. For other stories ask a judge (`judge`).
"""

import re
from collections.abc import Sequence

from hornbook.evals.stories.acts import acts, features, plot_of
from hornbook.evals.stories.grades import share_of_words
from hornbook.synth import lexicon
from hornbook.synth.stories import SUMMARY
from hornbook.synth.story_instructions import Record

_SUMMARIES = [
    (plot, re.compile(phrase.pattern(r"[A-Za-z' ]{1,40}?"), re.IGNORECASE))
    for plot, phrases in SUMMARY.items()
    for phrase in phrases
]


def followed(story: str, record: Record, labels: Sequence[str]) -> dict[str, float]:
    """By label, how far a story does what is asked, from 0 to 1.

    Words: share that occurs, in any form. Features: share that is shown; where none is asked, whether none is
    shown. Summary: a third each for its names, its thing and its plot. Random sentence: whether it occurs,
    word for word.
    """
    return {label: _RULES[label](story, record) for label in labels}


def _words(story: str, record: Record) -> float:
    return share_of_words(story, record.words)


def _features(story: str, record: Record) -> float:
    shown, asked = features(acts(story)), record.features or ()
    return sum(name in shown for name in asked) / len(asked) if asked else float(not shown)


def _summary(story: str, record: Record) -> float:
    told = set(re.findall(r"[A-Za-z']+", record.summary))
    names = [word for word in told if word in lexicon.GENDER]
    things = [word for word in told if word.lower() in lexicon.THING_BY_NOUN]
    plot = next((plot for plot, pattern in _SUMMARIES if pattern.fullmatch(record.summary)), None)
    present = set(re.findall(r"[A-Za-z']+", story))
    parts = [
        float(all(name in present for name in names)),
        float(all(thing in present for thing in things)),
        float(plot is not None and plot_of(acts(story)) == plot),
    ]
    return sum(parts) / len(parts)


def _sentence(story: str, record: Record) -> float:
    return float(_plain(record.sentence) in _plain(story))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower()))


_RULES = {"Words": _words, "Features": _features, "Summary": _summary, "Random sentence": _sentence}
