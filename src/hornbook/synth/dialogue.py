# ruff: noqa: E501 - one wording a line
"""Conversations on everything a student learns: stories, word problems, reading, functions, concepts, small
talk, policy.

Each kind has training frames and a few test frames for requests; the truth in an answer (program, output,
name of the hero) comes from the plan.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hornbook.errors import HornbookError
from hornbook.synth.concepts_science import CONCEPTS
from hornbook.synth.exercises import compose, draw_composition
from hornbook.synth.phrase import Phrases, join_words, pick, weighted, with_article
from hornbook.synth.policy import restricted_row
from hornbook.synth.policy_harmless import harmless_row
from hornbook.synth.primitives import BY_NAME
from hornbook.synth.smalltalk import SMALLTALK
from hornbook.synth.stories import SUMMARY, Story, meta, rng_for, tell
from hornbook.synth.textbooks import explain
from hornbook.synth.word_problems import write_problem
from hornbook.synth.world import plan_story, slots

VERSION = "dialogue-3"
SOURCE = "synth/dialogue"

SHARES: Mapping[str, float] = {
    "story": 0.22,
    "problem": 0.32,
    "reading": 0.10,
    "function": 0.06,
    "concept": 0.06,
    "smalltalk": 0.06,
    "restricted": 0.08,
    "harmless": 0.10,
}
"""How often each kind occurs; the recipe may give others."""

Turn = dict[str, str]

FEATURE_WISHES = {
    "Dialogue": "[dialogue|a conversation]",
    "BadEnding": "a [sad|bad] ending",
    "MoralValue": "a [moral|lesson]",
    "Twist": "a [twist|surprise]",
    "Foreshadowing": "a hint at the start",
    "Conflict": "a [quarrel|fight]",
}
_WISHES = {name: Phrases([text]) for name, text in FEATURE_WISHES.items()}

_STORY = Phrases(
    (
        "Tell me a [|short |nice ]story{about}{with}.",
        "[Please write|Write] a [|short |little ]story{about}{with}.",
        "Can you tell me a story{about}{with}?",
        "I want a story{about}{with}[.|, please.]",
        "[Please, a story|A story]{about}{with}!",
        "Could you write a bedtime story{about}{with}?",
    )
)
_STORY_TEST = Phrases(("Make up a story{about}{with}.", "I would love to hear a story{about}{with}."))
_ABOUT = (
    " about {a_o}",
    " about {ao}",
    " about {a_kind} named {H}",
    " about {H} and {F}",
    " about {H}",
    " about {a_kind} and {a_o}",
    " with the words {V0}, {o} and {adj}",
    " that uses the words {V0}, {o} and {adj}",
    " in which {summary}",
    " that happens {at}",
    "",
)
_PROBLEM = Phrases(
    (
        "{q}",
        "{q}",
        "{q}",
        "[Solve this|Please solve this|Help me with this]: {q}",
        "Write a program for this: {q}",
        "[Can you solve this?|I have a problem for you.] {q}",
    )
)
_RESULT = Phrases(
    (
        "The program returned {n}.",
        "It printed {n}.",
        "The result is {n}. What is the answer?",
        "I ran it: {n}.",
    )
)
_WORDS = Phrases(
    (
        "The answer is {n}.",
        "So the answer is {n}.",
        "Then the answer is {n}. [Do you have another one?|Shall we do one more?]",
    )
)
_SAY_AGAIN = Phrases(("[Say|Write] this again: {q}", "Repeat: {q}", "Please copy this: {q}"))
_NUMBERS = Phrases(
    ("Which numbers are in this? {q}", "[List|Write down] the numbers: {q}", "Find the numbers: {q}")
)
_FUNCTION = Phrases(
    (
        "[Complete|Finish] this function:\n{prompt}",
        "Write a function named {name}. Given {thing}, it should {steps}.",
        "[Please write|Write] a function {name} to {steps}.",
        "Can you write a function {name} to {steps}?",
    )
)
_CONCEPT = Phrases(
    (
        "What {is} {name}?",
        "[Explain|Please explain|Can you explain] {name}.",
        "[Teach me|Tell me] about {name}.",
        "I do not understand {name}. Can you help?",
    )
)
_CONCEPT_TEST = Phrases(("Could you tell me something about {name}?", "I would like to understand {name}."))
_THINGS = {"numbers": "a list of numbers", "number": "a number", "words": "a list of words", "text": "a text"}


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """Messages of a conversation, its kind, and what is known about it (`facts`)."""

    messages: tuple[Turn, ...]
    kind: str
    facts: dict[str, Any] = field(default_factory=dict)


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}


def _pair(request: str, answer: str) -> list[Turn]:
    return [_turn("user", request), _turn("assistant", answer)]


def story_request(story: Story, rng: Random, *, held_out: bool = False) -> str:
    """A request that this story fulfils; a bad ending is always asked for, other features often."""
    table = slots(story.plan, rng)
    table["V0"] = story.plan.verb
    table["a_kind"] = with_article(story.plan.hero_kind)
    summary = SUMMARY[story.plan.plot].render(rng, table)
    about = pick(rng, _ABOUT)
    if "summary" in about and story.plan.plot == "rescue":
        about = _ABOUT[0]
    about = about.format_map({**table, "summary": summary.rstrip(".")})
    wishes = [
        _WISHES[feature].render(rng, {})
        for feature in story.plan.features
        if feature == "BadEnding" or rng.random() < 0.6
    ]
    wanted = f" with {join_words(wishes)}" if wishes else ""
    return (_STORY_TEST if held_out else _STORY).render(rng, {"about": about, "with": wanted})


def _story(rng: Random, held_out: bool) -> Dialogue:
    story = tell(plan_story(rng, held_out=held_out), rng)
    messages = _pair(story_request(story, rng, held_out=held_out), story.text)
    if rng.random() < 0.15:
        plan = story.plan
        asked = pick(
            rng,
            (
                ("[Who was the story about?|What was the name of the hero?]", f"The story was about {plan.hero}, {with_article(plan.hero_kind)}."),
                ("[Who was the friend?|What was the name of the friend?]", f"The friend was {plan.friend}, {with_article(plan.friend_kind)}."),
                ("[What was it about?|Can you say that in one sentence?]", story.summary),
                ("Which thing was in the story?", f"It was {with_article(f'{plan.adjective} {plan.noun}')}."),
            ),
        )  # fmt: skip
        messages += _pair(Phrases([asked[0]]).render(rng, {}), asked[1])
    return Dialogue(messages=tuple(messages), kind="story", facts={"plan": story.plan.as_json()})


def _problem(rng: Random, held_out: bool) -> Dialogue:
    problem = write_problem(int(rng.random() * 2**40), 0, held_out=held_out)
    request = problem.question if held_out else _PROBLEM.render(rng, {"q": problem.question})
    messages = _pair(request, problem.program)
    if rng.random() < 0.15:
        number = {"n": str(problem.answer)}
        messages += _pair(_RESULT.render(rng, number), _WORDS.render(rng, number))
    facts = {"question": problem.question, "program": problem.program, **problem.as_json()}
    return Dialogue(messages=tuple(messages), kind="problem", facts=facts)


def _reading(rng: Random, held_out: bool) -> Dialogue:
    """Copy a text, or find its numbers in order: what a small model must learn before it can solve a problem."""
    question = write_problem(int(rng.random() * 2**40), 2, held_out=held_out).question
    if rng.random() < 0.5:
        messages = _pair(_SAY_AGAIN.render(rng, {"q": question}), question)
    else:
        numbers = ", ".join(re.findall(r"\d+", question))
        messages = _pair(_NUMBERS.render(rng, {"q": question}), numbers)
    return Dialogue(messages=tuple(messages), kind="reading", facts={"question": question})


def _function(rng: Random, held_out: bool) -> Dialogue:
    length = 2 if held_out or rng.random() < 0.7 else 1
    exercise = compose(draw_composition(rng, length, held_out), rng)
    first = BY_NAME[exercise.composition[0]]
    request = _FUNCTION.render(
        rng,
        {
            "prompt": exercise.prompt.rstrip("\n"),
            "name": exercise.name,
            "thing": _THINGS[first.takes],
            "steps": ", then ".join(BY_NAME[name].says for name in exercise.composition),
        },
    )
    signature = exercise.prompt.split("\n", 1)[0]
    answer = f"{signature}\n{exercise.body}"
    facts = {
        "name": exercise.name,
        "prompt": exercise.prompt,
        "cases": [list(case) for case in exercise.cases],
    }
    return Dialogue(messages=tuple(_pair(request, answer)), kind="function", facts=facts)


def _concept(rng: Random, held_out: bool) -> Dialogue:
    concept = pick(rng, CONCEPTS)
    passage = explain(concept, rng, held_out=held_out)
    request = (_CONCEPT_TEST if held_out else _CONCEPT).render(
        rng, {"name": concept.name, "is": concept.verb}
    )
    return Dialogue(
        messages=tuple(_pair(request, passage.body)), kind="concept", facts={"concept": concept.name}
    )


def _smalltalk(rng: Random, held_out: bool) -> Dialogue:
    kind, asks, answers = pick(rng, SMALLTALK)
    messages = _pair(asks.render(rng, {}), answers.render(rng, {}))
    return Dialogue(messages=tuple(messages), kind="smalltalk", facts={"about": kind})


def _restricted(rng: Random, held_out: bool) -> Dialogue:
    row = restricted_row(rng, held_out=held_out)
    facts = {"topic": row.topic, "restricted": True, "request_kind": row.kind}
    return Dialogue(messages=tuple(_pair(row.request, row.answer)), kind="restricted", facts=facts)


def _harmless(rng: Random, held_out: bool) -> Dialogue:
    row = harmless_row(rng, held_out=held_out)
    facts = {"topic": row.topic, "restricted": False, "request_kind": row.kind}
    return Dialogue(messages=tuple(_pair(row.request, row.answer)), kind="harmless", facts=facts)


_WRITERS: dict[str, Callable[[Random, bool], Dialogue]] = {
    "story": _story,
    "problem": _problem,
    "reading": _reading,
    "function": _function,
    "concept": _concept,
    "smalltalk": _smalltalk,
    "restricted": _restricted,
    "harmless": _harmless,
}


def write_dialogue(
    seed: int, index: int, *, held_out: bool = False, shares: Mapping[str, float] = SHARES
) -> Dialogue:
    """Conversation number `index` of the sample `seed`; `shares` says how often each kind occurs."""
    unknown = set(shares) - set(_WRITERS)
    if unknown or not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
        raise HornbookError(
            f"dialogue: shares {dict(shares)} must be positive numbers for some of {', '.join(_WRITERS)}"
        )
    rng = rng_for(VERSION, seed, index, held_out)
    kind = weighted(rng, shares.items())
    dialogue = _WRITERS[kind](rng, held_out)
    if not held_out and kind != "smalltalk" and rng.random() < 0.05:
        _, asks, answers = SMALLTALK[0]
        greeting = _pair(asks.render(rng, {}), answers.render(rng, {}))
        dialogue = Dialogue(messages=(*greeting, *dialogue.messages), kind=kind, facts=dialogue.facts)
    return dialogue


def dialogue_rows(
    seed: int,
    rows: int,
    *,
    start: int = 0,
    held_out: bool = False,
    shares: Mapping[str, float] = SHARES,
) -> Iterator[dict[str, Any]]:
    """Rows of a conversations corpus."""
    for index in range(start, rows):
        dialogue = write_dialogue(seed, index, held_out=held_out, shares=shares)
        yield {
            "id": f"dialogue-{'test' if held_out else 'train'}-{seed}-{index}",
            "messages": list(dialogue.messages),
            "source": f"{SOURCE}/{dialogue.kind}",
            "meta": meta(VERSION, seed, index, kind=dialogue.kind, **dialogue.facts),
        }
