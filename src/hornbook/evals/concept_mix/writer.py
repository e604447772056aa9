"""ConceptMix's prompts written by a language model, in the paper's four calls (the words are ours).

Fill (which objects a relation is between), caption, check (is the scene possible at all), questions. A plan
that the model calls wrong, or whose answer cannot be read, is drawn anew; what a failed call leaves open
stays open, so that the next run asks for it alone.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from hornbook.evals.concept_mix.protocol import Plan, Relation, Thing, Vocabulary, contradicts, draw_plan
from hornbook.evals.concept_mix.words import Prompt
from hornbook.lm.base import Completion, Failure, LanguageModel, Request, Sampling, ask
from hornbook.lm.parse import extract_json, verdict

ATTEMPTS = 12
"""Plans drawn for one prompt before it is given up."""
SAMPLING = Sampling(temperature=0.7, max_tokens=600)

FILL = """\
Here is a scene as JSON. Every "?" stands for the id of an object.

{scene}

Replace every "?" so that the scene makes sense. Use the objects that are there. Add an object only where a \
"?" cannot be filled otherwise, or where something is tiny or huge and nothing is there to compare it with; \
an added object has an id and an item and nothing else. Change nothing else. Answer with the JSON alone."""

CAPTION = """\
A picture must show each of these:

{bullets}

The whole scene, as JSON:

{scene}

Describe the picture in at most three plain sentences for somebody who will draw it. Name every property \
above, exact numbers, and nothing that is not in the JSON. Use simple words and no opinion. If properties \
contradict each other, answer with the one word WRONG."""

CHECK = """\
A picture is described so:

{caption}

Could such a picture be drawn at all? It may be odd or in a strange style. What no drawing can show, such as \
a man who is a triangle, is wrong. End with a line that is only FINE or WRONG."""

QUESTIONS = """\
A picture is described so:

{caption}

It is to be checked for each of these properties, in this order:

{bullets}

Write one question for each property that is answered with yes or no by looking at the picture, yes if \
it has the property. One question on each line, in the same order, {count} lines, no numbers before them."""


@dataclass(frozen=True, kw_only=True)
class WrittenPrompts:
    """Prompts, plans that were thrown away for them, and why there is none in places (a failed call)."""

    prompts: tuple[Prompt, ...]
    rejected: int
    missing: tuple[str, ...]


@dataclass
class _Place:
    """One prompt in the making: its own luck, its plan so far, and how it ended."""

    random: Random
    plan: Plan
    drawn: int = 1
    caption: str = ""
    prompt: Prompt | None = None
    failure: Failure | None = None

    @property
    def open(self) -> bool:
        return self.prompt is None and self.failure is None


def write_prompts(
    model: LanguageModel, k: int, count: int, vocabulary: Vocabulary, *, seed: int, released: bool = False
) -> WrittenPrompts:
    """`count` prompts of k concepts. The same for the same seed and the same answers."""
    places = []
    for i in range(count):
        random = Random(f"concept mix writer {seed} {k} {i}")
        places.append(_Place(random, draw_plan(k, vocabulary, random, released=released)))
    while working := [place for place in places if place.open]:
        going = _ask(model, [p for p in working if _needs_filling(p.plan)], _fill_request, _filled)
        going += [place for place in working if not _needs_filling(place.plan)]
        going = [place for place in going if not contradicts(place.plan)]
        going = _ask(model, going, lambda p: _caption_request(p, vocabulary), _captioned)
        going = _ask(model, going, lambda p: _request(CHECK.format(caption=p.caption)), _checked)
        going = _ask(model, going, lambda p: _questions_request(p, vocabulary), _questioned)
        for place in working:
            if place.open:  # thrown away somewhere above
                place.drawn += 1
                place.plan = draw_plan(k, vocabulary, place.random, released=released)
                if place.drawn > ATTEMPTS:
                    place.failure = Failure(kind="malformed", message=f"{ATTEMPTS} plans were thrown away")
    return WrittenPrompts(
        prompts=tuple(place.prompt for place in places if place.prompt is not None),
        rejected=sum(place.drawn - 1 for place in places),
        missing=tuple(
            f"prompt {i + 1}: {p.failure.kind}: {p.failure.message}"
            for i, p in enumerate(places)
            if p.failure
        ),
    )


def _request(text: str) -> Request:
    return ask(text, sampling=SAMPLING, tag="write prompts")


def _ask(
    model: LanguageModel,
    places: Sequence[_Place],
    request: Callable[[_Place], Request],
    take: Callable[[_Place, str], bool],
) -> list[_Place]:
    """Those whose answer was taken; a failed call ends its place."""
    requests = [replace(request(place), salt=f"draw {place.drawn}") for place in places]
    kept = []
    for place, result in zip(places, model.complete(requests) if requests else [], strict=True):
        if not isinstance(result, Completion):
            place.failure = result
        elif take(place, result.text):
            kept.append(place)
    return kept


def _needs_filling(plan: Plan) -> bool:
    return bool(plan.relations) or any("size" in thing.values for thing in plan.things)


def scene_json(plan: Plan, vocabulary: Vocabulary | None = None) -> dict[str, Any]:
    """A plan in the release's JSON: objects with ids from 1, style, relations with "?" where open."""
    scene: dict[str, Any] = {
        "objects": [{"id": i + 1, "item": t.name, **t.values} for i, t in enumerate(plan.things)]
    }
    if plan.style:
        scene["style"] = plan.style
    if plan.relations:
        scene["relation"] = [
            {
                "name": r.name,
                **({"description": vocabulary.say[r.name]} if vocabulary else {}),
                "ObjectA_id": r.first + 1 if r.first >= 0 else "?",
                "ObjectB_id": r.second + 1 if r.second >= 0 else "?",
            }
            for r in plan.relations
        ]
    return scene


def _fill_request(place: _Place) -> Request:
    return _request(FILL.format(scene=json.dumps(scene_json(place.plan), indent=1)))


def _filled(place: _Place, text: str) -> bool:
    try:
        plan = read_filled(place.plan, extract_json(text))
    except ValueError:
        return False
    place.plan = plan
    return True


def read_filled(plan: Plan, scene: Any) -> Plan:
    """The plan as a model filled it: its own objects unchanged and first, then added ones by item alone.

    Raises:
        ValueError: the answer changes what was asked for, or leaves a relation open.
    """
    if not isinstance(scene, Mapping) or not isinstance(scene.get("objects"), list):
        raise ValueError("the answer has no objects")
    items = []
    for entry in scene["objects"]:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("item"), str):
            raise ValueError("an object has no item")
        items.append((str(entry.get("id")), str(entry["item"]).strip()))
    own, added = items[: len(plan.things)], items[len(plan.things) :]
    if [item for _, item in own] != [thing.name for thing in plan.things] or any(
        not item for _, item in added
    ):
        raise ValueError("the objects are not those of the plan")
    if len(added) > len(plan.relations) + 1:
        raise ValueError("more objects were added than anything can need")
    ids = {id: number for number, (id, _) in enumerate(items)}
    relations = []
    told = scene.get("relation") or []
    if not isinstance(told, list) or len(told) != len(plan.relations):
        raise ValueError("the relations are not those of the plan")
    for relation, entry in zip(plan.relations, told, strict=True):
        ends = (
            [ids.get(str(entry.get(f"Object{end}_id"))) for end in "AB"] if isinstance(entry, Mapping) else []
        )
        if len(ends) != 2 or None in ends or ends[0] == ends[1]:
            raise ValueError("a relation is not between two objects")
        relations.append(Relation(name=relation.name, first=int(ends[0] or 0), second=int(ends[1] or 0)))
    names = [thing.name for thing in plan.things]
    things = list(plan.things)
    for _, item in added:
        things.append(Thing(name=f"another {item}" if item in names else item, added=True))
        names.append(item)
    return replace(plan, things=tuple(things), relations=tuple(relations))


def _bullets(plan: Plan, vocabulary: Vocabulary) -> str:
    """The graded properties in words, in their order."""
    lines = []
    for asked in plan.properties:
        names = [plan.things[i].name for i in asked.things]
        match asked.category:
            case "object":
                lines.append(f"- there is: {asked.value}")
            case "style":
                lines.append(f"- the style of the picture: {asked.value}")
            case "number":
                lines.append(f"- the number of {names[0]}: exactly {asked.value}")
            case "spatial":
                lines.append(f"- {names[0]} is {vocabulary.say[asked.value].rstrip(',')} {names[1]}")
            case category:
                lines.append(f"- the {category} of {names[0]}: {asked.value}")
    return "\n".join(lines)


def _caption_request(place: _Place, vocabulary: Vocabulary) -> Request:
    scene = json.dumps(scene_json(place.plan, vocabulary), indent=1)
    return _request(CAPTION.format(bullets=_bullets(place.plan, vocabulary), scene=scene))


def _captioned(place: _Place, text: str) -> bool:
    place.caption = " ".join(text.split())
    return bool(place.caption) and "WRONG" not in place.caption


def _checked(place: _Place, text: str) -> bool:
    return verdict(text, ("fine", "wrong")) == "fine"


def _questions_request(place: _Place, vocabulary: Vocabulary) -> Request:
    bullets = _bullets(place.plan, vocabulary)
    return _request(QUESTIONS.format(caption=place.caption, bullets=bullets, count=place.plan.k + 1))


def _questioned(place: _Place, text: str) -> bool:
    lines = [line.strip().lstrip("-*0123456789.) ") for line in text.splitlines()]
    questions = [line for line in lines if line.endswith("?")]
    if len(questions) != len(place.plan.properties):
        return False
    place.prompt = Prompt(plan=place.plan, caption=place.caption, questions=tuple(questions))
    return True
