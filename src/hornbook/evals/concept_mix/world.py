"""ConceptMix in the world of `synth/scenes`: plans become scenes, and a scene says exactly what it shows."""

from itertools import product
from random import Random

from hornbook.evals.concept_mix.protocol import (
    NUMBERS,
    OF_OBJECTS,
    Drawn,
    Plan,
    Property,
    Vocabulary,
    contradicts,
    draw_plan,
    fill,
)
from hornbook.synth.scenes import (
    COLOURS,
    KINDS,
    RELATIONS,
    SHAPES,
    SIDE,
    SIZES,
    STYLES,
    TEXTURES,
    Look,
    Scene,
)

WORLD = Vocabulary(
    name="scenes",
    values={
        "object": KINDS,
        "colour": tuple(COLOURS)[1:],
        "number": tuple(NUMBERS),
        "shape": SHAPES[1:],
        "size": SIZES[1:],
        "texture": TEXTURES[1:],
        "spatial": RELATIONS,
        "style": STYLES[1:],
    },
    say={"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"},
)
"""Fewer concepts than the paper's, all of which a picture of the world shows exactly."""

MOST_THINGS = 7
"""In one scene: some of the sheet stays empty, so that there is room for relations."""
_TRIES = 12


def place(plan: Plan, random: Random) -> Scene | None:
    """A scene that shows the plan: where things stand is drawn, and what nobody asks for stays plain.

    None where no room was found: too many things, or relations that leave no cells.
    """
    counts = [int(thing.values.get("number", "1")) for thing in plan.things]
    if sum(counts) > MOST_THINGS:
        return None
    for _ in range(_TRIES):
        stand = _stand(plan, counts, random)
        if stand is not None:
            break
    else:
        return None
    things = {}
    for thing, places in zip(plan.things, stand, strict=True):
        look = Look(kind=thing.name, **{c: v for c, v in thing.values.items() if c != "number"})
        things.update(dict.fromkeys(places, look))
    return Scene(style=plan.style or STYLES[0], things=things)


def _stand(plan: Plan, counts: list[int], random: Random) -> list[list[tuple[int, int]]] | None:
    """Cells for every thing: a relation draws a line across the sheet, its things stand on either side."""
    boxes = [[0, SIDE, 0, SIDE] for _ in plan.things]  # rows from, to; columns from, to
    for relation in random.sample(plan.relations, len(plan.relations)):
        before, after = relation.first, relation.second
        if relation.name in ("right", "below"):
            before, after = after, before
        low = 2 if relation.name in ("left", "right") else 0
        lines = range(boxes[before][low] + 1, boxes[after][low + 1])
        lines = range(max(lines.start, boxes[after][low]), min(lines.stop, boxes[before][low + 1] + 1))
        if not lines:
            return None
        line = random.choice(lines)
        boxes[before][low + 1] = min(boxes[before][low + 1], line)
        boxes[after][low] = max(boxes[after][low], line)
    taken: set[tuple[int, int]] = set()
    stand: list[list[tuple[int, int]]] = [[] for _ in plan.things]
    rooms = [(b[1] - b[0]) * (b[3] - b[2]) for b in boxes]
    for i in sorted(range(len(boxes)), key=lambda i: rooms[i] - counts[i]):  # who has least room first
        top, bottom, left, right = boxes[i]
        free = [at for at in product(range(top, bottom), range(left, right)) if at not in taken]
        if len(free) < counts[i]:
            return None
        stand[i] = random.sample(free, counts[i])
        taken.update(stand[i])
    return stand


def draw_scenes(k: int, count: int, random: Random) -> tuple[Drawn, list[Scene]]:
    """`count` plans that fit the sheet, each with a scene that shows it."""
    plans: list[Plan] = []
    scenes: list[Scene] = []
    rejected = 0
    while len(plans) < count:
        plan = fill(draw_plan(k, WORLD, random), WORLD, random)
        scene = None if contradicts(plan) else place(plan, random)
        if scene is None:
            rejected += 1
        else:
            plans.append(plan)
            scenes.append(scene)
    return Drawn(plans=tuple(plans), rejected=rejected), scenes


def shows(scene: Scene, plan: Plan, asked: Property) -> bool:
    """Whether the scene has the property. A concept of an object must hold for every object of that kind
    there, and there must be one; a relation for every pair."""
    if asked.category == "style":
        return scene.style == asked.value
    kinds = [scene.of_kind(plan.things[i].name) for i in asked.things]
    if not all(kinds):
        return False
    own = kinds[0]
    if asked.category == "object":
        return True
    if asked.category == "number":
        return len(own) == int(asked.value)
    if asked.category == "spatial":
        axis = 1 if asked.value in ("left", "right") else 0
        ours, theirs = ([place[axis] for place in kind] for kind in kinds)
        if asked.value in ("left", "above"):
            return max(ours) < min(theirs)
        return min(ours) > max(theirs)
    return all(getattr(look, asked.category) == asked.value for look in own.values())


def answers(scene: Scene, plan: Plan) -> list[bool]:
    """The truth on every property, in order."""
    return [shows(scene, plan, asked) for asked in plan.properties]


def brief(plan: Plan) -> list[str]:
    """The plan in a painter's few words: each thing and its concepts, the relations, the style."""
    words: list[str] = []
    for thing in plan.things:
        words += [thing.name, *(thing.values[c] for c in OF_OBJECTS if c in thing.values)]
    for relation in plan.relations:
        words += [relation.name, plan.things[relation.first].name, plan.things[relation.second].name]
    return [*words, plan.style] if plan.style else words
