"""How good the story grader is: it grades stories that were damaged on purpose (TinyStories spec 9.2)."""

import re
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from hornbook.evals.stories.grades import grade_story
from hornbook.lab.statistics import Interval, wilson_interval
from hornbook.lab.step import StepContext, step
from hornbook.synth import lexicon
from hornbook.synth.phrase import pick
from hornbook.synth.stories import Story, sentences, write_story

KINDS = ("swap name", "swap pronoun", "change object", "delete word", "shuffle words", "strange name")
HELD_OUT_SEED = 977_002

_OTHER = {"he": "she", "she": "he", "He": "She", "She": "He"}


def corrupt(story: Story, kind: str, rng: Random) -> str | None:
    """A story with one fault of the given kind, or None where it offers no place for it."""
    text, plan = story.text, story.plan
    parts = sentences(text)
    if kind == "swap name":
        spots = [at for at in range(3, len(parts)) if (plan.hero in parts[at]) != (plan.friend in parts[at])]
        if not spots:
            return None
        at = pick(rng, spots)
        old, new = (plan.hero, plan.friend) if plan.hero in parts[at] else (plan.friend, plan.hero)
        parts[at] = re.sub(rf"\b{old}\b", new, parts[at])
    elif kind == "swap pronoun":
        found = list(re.finditer(r"\b([Hh]e|[Ss]he)\b", text))
        if not found:
            return None
        match = pick(rng, found)
        return text[: match.start()] + _OTHER[match.group()] + text[match.end() :]
    elif kind == "change object":
        spots = [m.start() for m in re.finditer(rf"\b(?:the|The|{plan.adjective}) {plan.noun}\b", text)][1:]
        if not spots:
            return None
        start = pick(rng, spots)
        other = pick(rng, [thing.noun for thing in lexicon.THINGS if thing.noun != plan.noun])
        return text[:start] + re.sub(rf"\b{plan.noun}\b", other, text[start:], count=1)
    elif kind == "delete word":
        at = int(rng.random() * len(parts))
        words = parts[at].split(" ")
        if len(words) < 5:
            return None
        del words[1 + int(rng.random() * (len(words) - 2))]
        parts[at] = " ".join(words)
    elif kind == "shuffle words":
        at = pick(rng, [number for number, part in enumerate(parts) if part.count(" ") >= 4])
        words = parts[at][:-1].split(" ")
        rng.shuffle(words)
        parts[at] = " ".join(words) + parts[at][-1]
    elif kind == "strange name":
        spots = [at for at in range(3, len(parts)) if plan.hero in parts[at]]
        if not spots:
            return None
        at = pick(rng, spots)
        gender = lexicon.GENDER[plan.hero]
        others = [n for n, g in lexicon.GENDER.items() if g == gender and n not in (plan.hero, plan.friend)]
        parts[at] = re.sub(rf"\b{plan.hero}\b", pick(rng, others), parts[at])
    else:
        raise ValueError(f"unknown corruption {kind!r}; known are {', '.join(KINDS)}")
    changed = " ".join(parts)
    return changed if changed != text else None


@dataclass(frozen=True, kw_only=True)
class GraderAccuracy:
    """What the grader finds: `recall` of each kind of damage, and how often it faults sound stories."""

    recall: dict[str, float]
    intervals: dict[str, Interval]
    counts: dict[str, int]
    false_alarms: float
    sound: int


def grader_accuracy(per_kind: int = 60, sound: int = 300, seed: int = HELD_OUT_SEED) -> GraderAccuracy:
    """Grade held-out stories as they are and damaged; a grade is a find if grammar < 1 or not consistent."""
    rng = Random(seed)
    faulted = 0
    for index in range(sound):
        story = write_story(seed, index, held_out=True)
        grade = grade_story(story.text, story.plan)
        faulted += grade.grammar < 1 or not grade.consistent
    recall: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    counts: dict[str, int] = {}
    for kind in KINDS:
        found = total = 0
        index = sound
        while total < per_kind:
            story = write_story(seed, index, held_out=True)
            index += 1
            text = corrupt(story, kind, rng)
            if text is None:
                continue
            grade = grade_story(text, story.plan)
            total += 1
            found += grade.grammar < 1 or not grade.consistent
        recall[kind], counts[kind] = found / total, total
        intervals[kind] = wilson_interval(found, total)
    return GraderAccuracy(
        recall=recall, intervals=intervals, counts=counts, false_alarms=faulted / sound, sound=sound
    )


@step(version="1", makes="table")
def measure_grader(
    ctx: StepContext, *, per_kind: int = 60, sound: int = 300, seed: int = HELD_OUT_SEED
) -> dict[str, Any]:
    """`grader_accuracy` as a step. Facts: its fields."""
    return asdict(grader_accuracy(per_kind, sound, seed))
