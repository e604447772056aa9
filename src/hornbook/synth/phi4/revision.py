"""Self-revision: a draft is graded by rubric, rewritten by the advice, and graded again (phi-4, 2.2 and App.
D).

The best of the versions is kept, with the grades of all. The critic is the teacher itself, or the rules of
`checks` for a teacher that cannot judge (the embedded model).
"""

from collections.abc import Callable
from typing import Any, Literal

from hornbook.lm.base import Message
from hornbook.synth import checks, prompts
from hornbook.synth.concepts_science import CONCEPTS
from hornbook.synth.phrase import pick
from hornbook.synth.rubric import DRAFT, Grades
from hornbook.synth.scripts import Asking, Rejected, Script, Scripted, Work
from hornbook.synth.stories import meta, rng_for
from hornbook.synth.taught import AUDIENCES, SMALL_SAMPLING, TONES, small_story_prompt, story_assignments

VERSION = "phi4-revision-1"
SOURCE = "synth/phi4/revision"
GOOD = 4.5
"""A mean grade at which no further round is spent."""
About = Literal["lessons", "stories"]
Critic = Literal["teacher", "rules"]

_LESSON = """\
Write a lesson about {concept} for {audience}, in a {tone} tone, 100 to 250 words: what it is, why it
matters, one worked example. Write only the lesson.
"""
_REVISE = """\
Here is what a careful reader says of your text: {advice}

Write the text again, better in this respect and no worse in any other. Write only the text.
"""
Faults = Callable[[str], list[str]]


def _lesson_faults(text: str) -> list[str]:
    found = (
        checks.length_problem(text, 80, 350), checks.language_problem(text), checks.repetition_problem(text),
        "" if text.rstrip()[-1:] in tuple('.!?"`') else "The last sentence is cut off; end the text.",
        "" if "example" in text.lower() or "```" in text else "There is no example; give one.",
    )  # fmt: skip
    return [problem for problem in found if problem]


def grades_by_rules(faults: list[str]) -> Grades:
    """5 less one for each fault, and the first fault as advice."""
    return Grades(scores={"form": max(1, 5 - len(faults))}, advice=faults[0] if faults else "")


def revision_task(
    seed: int, index: int, *, about: About = "lessons", critic: Critic = "teacher", rounds: int = 2
) -> Scripted:
    """One text in up to `rounds` revisions."""
    rng = rng_for(VERSION, seed, index, False)
    short = about == "stories" and critic == "rules"
    if about == "stories":
        assignment = story_assignments(seed)[index]
        prompt, facets = assignment.prompt, dict(assignment.facets)
        if short:
            prompt, _ = small_story_prompt(seed, index)

        def faults(text: str) -> list[str]:
            return _story_faults(text, list(facets.values()))

    else:
        concept, audience = pick(rng, CONCEPTS).name, pick(rng, AUDIENCES)
        prompt = _LESSON.format(concept=concept, audience=audience, tone=pick(rng, TONES))
        facets, faults = {"topic": concept, "audience": audience}, _lesson_faults

    def graded(work: Work, text: str) -> Asking[Grades]:
        if critic == "rules":
            return grades_by_rules(faults(text))
        return (yield from DRAFT.grade(work, text))

    def steps(work: Work) -> Script:
        turns = [Message("user", prompt)]
        versions: list[tuple[Grades, str]] = []
        for number in range(rounds + 1):
            text = (yield from work.ask(turns, **(SMALL_SAMPLING if short else {}))).strip()
            text = checks.whole_sentences(text) if short else text
            grades = yield from graded(work, text)
            versions.append((grades, text))
            if number == rounds or grades.mean >= GOOD:
                break
            turns = [
                turns[0],
                Message("assistant", text),
                Message("user", _REVISE.format(advice=grades.advice)),
            ]
        best_grades, best = max(versions, key=lambda one: one[0].mean)
        problem = next(iter(faults(best)), "")
        if problem:
            raise Rejected(problem, best)
        facts: dict[str, Any] = {
            "prompts": prompts.VERSION, "critic": critic, "plan": facets, "versions": len(versions),
            "grades": [dict(g.scores) for g, _ in versions], "mean": best_grades.mean, "first":
            versions[0][0].mean,
        }  # fmt: skip
        return {"id": work.id, "text": best, "source": SOURCE, "meta": meta(VERSION, seed, index, **facts)}

    return Scripted(id=f"revision-{about}-{seed}-{index}", steps=steps, facets=facets)


def _story_faults(text: str, required: list[str]) -> list[str]:
    problem = checks.story_problem(text, required) if text else "The text is empty."
    return [problem] if problem else []
