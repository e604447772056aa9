"""Does steering pay? The writers of this house with and without it, equal in calls."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.step import StepContext, step
from hornbook.synth.concepts_science import CONCEPTS
from hornbook.synth.coverage import Cells, Facets, growth, never_hit, write_steered
from hornbook.synth.exercises import write_exercise
from hornbook.synth.primitives import compositions
from hornbook.synth.stories import write_story
from hornbook.synth.textbooks import AUDIENCES, plans, write_passage

Written = tuple[str, Facets]
"""A text, and what its plan is about."""


def _exercise(seed: int, index: int, *, constrained: bool = True) -> Written:
    exercise = write_exercise(seed, index, constrained=constrained)
    return exercise.solution, {"name": exercise.name}


def _passage(seed: int, index: int) -> Written:
    passage = write_passage(seed, index)
    return passage.text, {"plan": passage.plan, "audience": passage.audience}


def _story(seed: int, index: int) -> Written:
    story = write_story(seed, index)
    verb, noun, adjective = story.plan.words
    return story.text, {"verb": verb, "noun": noun, "adjective": adjective}


WRITERS: Mapping[str, Callable[[int, int], Written]] = {
    "exercises": _exercise,
    "exercises, names left to the teacher": partial(_exercise, constrained=False),
    "textbooks": _passage,
    "stories": _story,
}


def _these(texts: Sequence[str], numbers: Sequence[int]) -> list[str]:
    return [texts[number] for number in numbers]


def known_values(writer: str) -> dict[str, list[str]]:
    """Every value a facet of a writer can have, where they can be listed."""
    if writer.startswith("exercises"):
        return {"name": ["_then_".join(c) for length in (1, 2, 3) for c in compositions(length, False)]}
    if writer == "textbooks":
        names = [
            f"{concept.name}/{'/'.join(map(str, choice))}"
            for concept in CONCEPTS
            for choice in plans(concept, False)
        ]
        return {"plan": names, "audience": list(AUDIENCES)}
    return {}


@step(version="1", makes="table")
def study_steering(
    ctx: StepContext, *, calls: int, seeds: Sequence[int], width: int = 4, batch: int = 64
) -> Mapping[str, Any]:
    """Coverage of every writer in `WRITERS` after equally many calls, drawn at random and steered.

    Args:
        calls: texts of each; width: candidate plans looked at for each call (a plan costs no call).

    Facts: by writer `random` and `steered`, each a list of `coverage.growth`, one a seed; `never_hit`
    {way: {kind: [share of the known values, one a seed]}} where these can be listed.
    """
    if calls < 1 or width < 1:
        raise HornbookError(f"the study of steering has calls={calls}, width={width}; both are at least 1.")
    facts: dict[str, Any] = {}
    progress = ctx.progress(len(WRITERS) * len(seeds), "comparisons")
    for name, write in WRITERS.items():
        known = known_values(name)
        grown: dict[str, list[Any]] = {"random": [], "steered": []}
        missed: dict[str, dict[str, list[float]]] = {way: {kind: [] for kind in known} for way in grown}
        for seed in seeds:
            candidates = [write(seed, index) for index in range(width * calls)]
            texts = [text for text, _ in candidates]
            facets = [plan for _, plan in candidates]
            used = write_steered(facets, calls, partial(_these, texts), batch=batch)
            cells = Cells.fit(texts)
            for way, numbers in (("random", list(range(calls))), ("steered", used)):
                own = [facets[number] for number in numbers]
                grown[way].append(growth([texts[number] for number in numbers], own, cells=cells))
                for kind, values in known.items():
                    missed[way][kind].append(len(never_hit(own, kind, values)) / len(values))
            progress.advance()
        facts[name] = {**grown, "never_hit": missed}
    return facts
