"""ConceptMix graded by a model that sees: one question at a time, and how far its answers can be trusted.

Each question is asked with the picture in both orders of its two words (`judges`); what cannot be read,
changes with the order or never came is no answer. How often the judge errs is measured on pictures of the
small world, whose truth is known.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import product
from random import Random

from hornbook.evals.concept_mix.protocol import (
    CATEGORIES,
    Plan,
    Property,
    Relation,
    Thing,
    draw_plan,
    fill,
)
from hornbook.evals.concept_mix.score import JudgeErrors, Marked, judge_errors
from hornbook.evals.concept_mix.words import Prompt, by_rule, question
from hornbook.evals.concept_mix.world import WORLD, answers, place, shows
from hornbook.evals.judges import Columns, Judged, columns, judge, yes_no
from hornbook.lab.png import data_uri, png, read_png
from hornbook.lm.base import Advances, LanguageModel, Request, Sampling
from hornbook.lm.simulated import SimulatedModel
from hornbook.synth.scenes import Scene, paint, see

SAMPLING = Sampling(temperature=0.0, max_tokens=64)
"""Room for a sentence: one token is too few for models that begin with a space or a quote."""

LEGEND = (
    "The picture is a sheet of small things on a ground whose pattern is its style. Each thing is a black "
    "emblem, which says what it is, on a body that has a shape, a size, a colour and a texture."
)
"""Said before every question about a picture of the small world."""


@dataclass(frozen=True, kw_only=True)
class Grading:
    """What a judge said of pictures. failed: {question: why} of calls that never came."""

    marked: tuple[Marked, ...]
    judged: tuple[Judged, ...]
    failed: dict[str, str]

    @property
    def columns(self) -> Columns:
        """The judge's own columns: consistency, position, agreement."""
        return columns(self.judged)


def grade(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    pictures: Sequence[bytes],
    *,
    legend: str = "",
    truth: Sequence[Marked] | None = None,
    rounds: int = 1,
    sampling: Sampling = SAMPLING,
    salt: str = "",
    progress: Advances | None = None,
) -> Grading:
    """Every property of every picture, asked in both orders, `rounds` times each.

    pictures: files, one for each prompt. legend: said before every question. truth: the true answers
    where they are known, for the columns.
    """
    cases = []
    before = f"{legend}\n\n" if legend else ""
    for i, (prompt, picture) in enumerate(zip(prompts, pictures, strict=True)):
        known = truth[i].answers if truth is not None else (None,) * len(prompt.questions)
        shown = (data_uri(picture),)
        for j, asked in enumerate(prompt.questions):
            words = before + asked
            cases.append(yes_no(f"picture {i + 1}, question {j + 1}", words, truth=known[j], pictures=shown))
    judged = judge(model, cases, rounds=rounds, sampling=sampling, salt=salt, progress=progress)
    values = iter([None if item.value is None else item.value == "yes" for item in judged])
    marked = tuple(Marked(plan=p.plan, answers=tuple(next(values) for _ in p.questions)) for p in prompts)
    failed = {
        item.case.id: verdict.why
        for item in judged
        for verdict in item.verdicts
        if verdict.why.startswith("the call failed")
    }
    return Grading(marked=marked, judged=tuple(judged), failed=failed)


def known_pictures(ks: Sequence[int], count: int, *, seed: int) -> tuple[list[Marked], list[Scene]]:
    """`count` pictures for each k of which about half show their plan whole; with the truth.

    Each property is spoilt by itself, with the probability that leaves half of all pictures whole: its
    concept is exchanged for another, and the scene that then comes out is what the answers are about.
    """
    truth: list[Marked] = []
    scenes: list[Scene] = []
    for k in ks:
        random = Random(f"known pictures {seed} {k}")
        own = 0
        while own < count:
            plan = fill(draw_plan(k, WORLD, random), WORLD, random)
            scene = place(spoilt(plan, 1 - 0.5 ** (1 / (k + 1)), random), random)
            if scene is not None:
                truth.append(Marked(plan=plan, answers=tuple(answers(scene, plan))))
                scenes.append(scene)
                own += 1
    return truth, scenes


def spoilt(plan: Plan, share: float, random: Random) -> Plan:
    """The plan with each concept exchanged for another of its category with probability `share`."""

    def other(category: str, value: str, taken: Sequence[str] = ()) -> str:
        if random.random() >= share:
            return value
        choices = [v for v in WORLD.values[category] if v != value and v not in taken]
        return random.choice(choices) if choices else value

    names = [thing.name for thing in plan.things]
    for i, thing in enumerate(plan.things):
        if not thing.added:  # of which nothing is asked
            names[i] = other("object", thing.name, names)
    things = tuple(
        replace(thing, name=name, values={c: other(c, v) for c, v in thing.values.items()})
        for thing, name in zip(plan.things, names, strict=True)
    )
    relations = tuple(replace(r, name=other("spatial", r.name)) for r in plan.relations)
    style = other("style", plan.style) if plan.style else ""
    return replace(plan, things=things, relations=relations, style=style)


def calibrate(
    model: LanguageModel,
    *,
    ks: Sequence[int],
    count: int,
    rounds: int = 1,
    sampling: Sampling = SAMPLING,
    seed: int = 0,
    progress: Advances | None = None,
) -> tuple[JudgeErrors, Grading]:
    """A judge's error by category and by k, on pictures of the small world, half of them whole.

    That the judge errs alike on other pictures is an assumption, which the caller should state.
    """
    truth, scenes = known_pictures(ks, count, seed=seed)
    graded = grade(
        model,
        [by_rule(mark.plan, WORLD) for mark in truth],
        [png(paint(scene)) for scene in scenes],
        legend=LEGEND,
        truth=truth,
        rounds=rounds,
        sampling=sampling,
        salt="calibration",
        progress=progress,
    )
    return judge_errors(graded.marked, truth), graded


def seeing_program(
    *, sensitivity: float, specificity: float, seed: int = 0, categories: Sequence[str] = CATEGORIES
) -> SimulatedModel:
    """A judge of known error: it reads the pixels it is shown exactly, and then errs on purpose.

    Args:
        sensitivity, specificity: how often it says what is so; of `categories` only, on others it is right.

    It errs anew for each picture and question, and alike in both orders, as greedy models do.
    """

    def answer(request: Request) -> str:
        message = (request.messages or ())[-1]
        words = message.content.split("\n\n")[-2]
        plan, asked = _questions()[words]
        right = shows(_seen(message.pictures[0]), plan, asked)
        category = asked.category
        chance = sensitivity if right else specificity
        luck = Random(f"{seed} {words} {message.pictures[0]}").random()
        says = right if category not in categories or luck < chance else not right
        return "Yes" if says else "No"

    return SimulatedModel(f"seeing program {sensitivity} {specificity} {seed} {tuple(categories)}", answer)


@lru_cache(maxsize=4096)
def _seen(uri: str) -> Scene:
    return see(read_png(base64.b64decode(uri.partition(",")[2])))


@cache
def _questions() -> dict[str, tuple[Plan, Property]]:
    """Every question that can be asked about the small world, with what it asks."""
    values = WORLD.values
    found = {}
    plans = [Plan(k=1, things=(), style=style) for style in values["style"]]
    for kind, number in product(values["object"], ("", *values["number"])):
        own = {"number": number} if number else {}
        for category in ("colour", "shape", "size", "texture"):
            things = [Thing(name=kind, values={**own, category: value}) for value in values[category]]
            plans += [Plan(k=1, things=(thing,)) for thing in things]
        for other, more, relation in product(values["object"], ("", "2"), values["spatial"]):
            second = Thing(name=other, values={"number": more} if more else {})
            between = Relation(name=relation, first=0, second=1)
            plans.append(Plan(k=1, things=(Thing(name=kind, values=own), second), relations=(between,)))
    for plan in plans:
        for asked in plan.properties:
            found[question(plan, asked, WORLD)] = (plan, asked)
    return found
