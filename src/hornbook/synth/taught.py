# ruff: noqa: E501
"""Assignments for a real teacher: the plans of the simulated writers, rendered as prompts, with their checks.

The row a check returns has the same columns and lineage as a simulated one; `meta.verified` says what was
verified: nothing but form for stories, "runs" for programs (their truth is not known), examples for exercises.
"""

import re
from collections.abc import Sequence
from random import Random
from typing import Any

from hornbook.lm.parse import extract_code
from hornbook.sandbox import Job, run_many
from hornbook.synth import checks, prompts
from hornbook.synth.concepts_science import CONCEPTS
from hornbook.synth.lexicon import BOYS, GIRLS, PLACES, THINGS
from hornbook.synth.phrase import pick, with_article
from hornbook.synth.plans import Drawn
from hornbook.synth.primitives import compositions
from hornbook.synth.scripts import Assignment, Rejected, Script, Scripted, Work
from hornbook.synth.smalltalk import SMALLTALK
from hornbook.synth.stories import meta, rng_for
from hornbook.synth.word_problems import write_problem
from hornbook.synth.world import StoryPlan, plan_story

AUDIENCES = (
    "a child of ten",
    "a beginner",
    "a teacher",
    "a working programmer",
    "a scientist from another field",
)
TONES = ("friendly", "plain", "playful", "precise")
_EXAMPLE = re.compile(r">>> (.+)\n\s*(.+)")


def _row(id: str, text: str, source: str, **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "text": text,
        "source": source,
        "meta": meta(prompts.VERSION, more.pop("seed"), more.pop("index"), **more),
    }


def story_assignments(seed: int, *, held_out: bool = False) -> Drawn[Assignment]:
    """TinyStories: a word triple and a random subset of features a prompt."""

    def draw(index: int) -> Assignment:
        rng = rng_for(prompts.VERSION + "/story", seed, index, held_out)
        plan = plan_story(rng, held_out=held_out)
        features = "".join(prompts.FEATURES[name] + "\n" for name in plan.features)
        prompt = prompts.STORY.format(
            verb=plan.verb,
            noun=plan.noun,
            adjective=plan.adjective,
            hero=plan.hero,
            friend=plan.friend,
            a_hero_kind=with_article(plan.hero_kind),
            a_friend_kind=with_article(plan.friend_kind),
            features=features,
        )
        name = f"taught-story-{seed}-{index}"

        def check(text: str) -> tuple[dict[str, Any] | None, str]:
            text = text.strip()
            problem = checks.story_problem(text, plan.words)
            if problem:
                return None, problem
            return _row(
                name, text, "taught/stories", seed=seed, index=index, plan=plan.as_json(), verified="form"
            ), ""

        facets = {"verb": plan.verb, "noun": plan.noun, "adjective": plan.adjective}
        return Assignment(id=name, prompt=prompt, check=check, facets=facets)

    return Drawn(draw)


SMALL_TRIES = 8
"""Stories that a very small model tells for one that is kept."""
SMALL_SAMPLING: dict[str, Any] = {"temperature": 0.9, "top_p": 0.95, "max_tokens": 300}


def small_story_prompt(seed: int, index: int, *, held_out: bool = False) -> tuple[str, StoryPlan]:
    """A prompt of two sentences for the plan that the long one asks for, and the plan."""
    plan = plan_story(rng_for(prompts.VERSION + "/story", seed, index, held_out), held_out=held_out)
    prompt = prompts.STORY_FOR_THE_SMALL.format(
        verb=plan.verb, noun=plan.noun, adjective=plan.adjective, hero=plan.hero, friend=plan.friend,
        a_hero_kind=with_article(plan.hero_kind), a_friend_kind=with_article(plan.friend_kind),
    )  # fmt: skip
    return prompt, plan


def small_story_tasks(seed: int, *, held_out: bool = False) -> Drawn[Scripted]:
    """The same stories by a very small model, whom a correction only confuses: it tells each several times,
    and the first that passes the checks is kept, up to its last whole sentence."""

    def draw(index: int) -> Scripted:
        prompt, plan = small_story_prompt(seed, index, held_out=held_out)

        def steps(work: Work) -> Script:
            told = yield from work.ask_often(prompt, SMALL_TRIES, **SMALL_SAMPLING)
            problem = text = ""
            for number, raw in enumerate(told):
                text = checks.whole_sentences(raw.strip())
                problem = checks.story_problem(text, plan.words)
                if not problem:
                    return _row(
                        work.id, text, "taught/stories", seed=seed, index=index, plan=plan.as_json(),
                        verified="form", tries=number + 1,
                    )  # fmt: skip
            raise Rejected(problem, text)

        facets = {"verb": plan.verb, "noun": plan.noun, "adjective": plan.adjective}
        return Scripted(id=f"taught-story-small-{seed}-{index}", steps=steps, facets=facets)

    return Drawn(draw)


def question_assignments(seed: int) -> Drawn[Assignment]:
    """TinyGSM, first of two steps: new questions from seed questions of the training skeletons."""

    def draw(index: int) -> Assignment:
        rng = rng_for(prompts.VERSION + "/question", seed, index, False)
        problem = write_problem(seed, index)
        place, person = pick(rng, tuple(PLACES)), pick(rng, GIRLS + BOYS)
        prompt = prompts.QUESTION.format(seed_question=problem.question, place=f"a {place}", name=person)
        facets = {"skeleton": "|".join(problem.skeleton), "scene": problem.scene, "place": place}
        name = f"taught-question-{seed}-{index}"

        def check(text: str) -> tuple[dict[str, Any] | None, str]:
            text = " ".join(text.split())
            problem = checks.question_problem(text)
            return (
                (None, problem)
                if problem
                else (_row(name, text, "taught/questions", seed=seed, index=index), "")
            )

        return Assignment(id=name, prompt=prompt, check=check, facets=facets)

    return Drawn(draw)


def agreed_solution(assignment: Assignment, solutions: int) -> Scripted:
    """A solution that is kept only if all of `solutions` independent ones give the same number."""

    def steps(work: Work) -> Script:
        row = yield from assignment.script(work)
        assert isinstance(row, dict)
        others = yield from work.ask_often(assignment.prompt, solutions - 1, temperature=0.7)
        programs = [row["text"].split("\n", 1)[1], *(extract_code(text) or "" for text in others)]
        found = [
            outcome.value if outcome.ok else None for outcome in run_many([_solved(p) for p in programs])
        ]
        if any(value is None or value != found[0] for value in found):
            shown = ", ".join("none" if value is None else f"{value}" for value in found)
            raise Rejected(f"solutions disagree: {shown}", row["text"])
        return {**row, "meta": row["meta"].replace('"verified": "runs"', '"verified": "agreed"')}

    return Scripted(id=assignment.id, steps=steps, facets=assignment.facets)


def _solved(program: str) -> Job:
    return Job(source=program, entry="solution")


def solution_assignments(questions: Sequence[dict[str, Any]], seed: int) -> list[Assignment]:
    """TinyGSM, second step: a program per question, kept when it runs and returns a number."""
    out = []
    for index, row in enumerate(questions):
        question = str(row["text"])
        name = str(row["id"]).replace("question", "problem")

        def check(
            text: str, question: str = question, name: str = name, index: int = index
        ) -> tuple[dict[str, Any] | None, str]:
            program = extract_code(text) or ""
            problem = checks.program_problem(program, "solution")
            if problem:
                return None, problem
            outcome = run_many([Job(source=program, entry="solution")])[0]
            if not outcome.ok:
                return (
                    None,
                    f"The program does not run: {outcome.sentence}.",
                )
            if isinstance(outcome.value, bool) or not isinstance(outcome.value, (int, float)):
                return None, "The program does not return a number."
            row = _row(
                name, f"{question}\n{program}", "taught/word_problems", seed=seed, index=index,
                question=question, program=program, value=outcome.value, verified="runs",
            )  # fmt: skip
            return row, ""

        out.append(Assignment(id=name, prompt=prompts.SOLUTION.format(question=question), check=check))
    return out


def textbook_assignments(seed: int) -> Drawn[Assignment]:
    """phi-1: topic x audience x tone, and a word that must occur."""

    def draw(index: int) -> Assignment:
        rng = rng_for(prompts.VERSION + "/textbook", seed, index, False)
        concept, noun = pick(rng, CONCEPTS), pick(rng, THINGS).noun
        code = " Show one small Python example and what it prints." if concept.code else ""
        audience = pick(rng, AUDIENCES)
        prompt = prompts.TEXTBOOK.format(
            concept=concept.name, audience=audience, tone=pick(rng, TONES), noun=noun, code=code
        )
        facets = {"topic": concept.name, "audience": audience, "noun": noun}
        name = f"taught-textbook-{seed}-{index}"

        def check(text: str) -> tuple[dict[str, Any] | None, str]:
            text = text.strip()
            missing = checks.missing_words(text, [noun])
            problem = checks.length_problem(text, 40, 250) or checks.repetition_problem(text)
            problem = problem or (f"The word {noun} is missing." if missing else "")
            row = _row(
                name, text, "taught/textbooks", seed=seed, index=index, concept=concept.name, verified="form"
            )
            return (None, problem) if problem else (row, "")

        return Assignment(id=name, prompt=prompt, check=check, facets=facets)

    return Drawn(draw)


def exercise_assignments(seed: int) -> Drawn[Assignment]:
    """phi-1: the function name is given; kept when the examples in its own docstring pass."""

    def draw(index: int) -> Assignment:
        rng = rng_for(prompts.VERSION + "/exercise", seed, index, False)
        steps = pick(rng, compositions(2, False))
        function = "_then_".join(steps)
        name = f"taught-exercise-{seed}-{index}"

        def check(text: str) -> tuple[dict[str, Any] | None, str]:
            program = extract_code(text) or ""
            problem = checks.program_problem(program, function) or examples_problem(program)
            row = _row(
                name, program, "taught/exercises", seed=seed, index=index, name=function, verified="examples"
            )
            return (None, problem) if problem else (row, "")

        return Assignment(
            id=name,
            prompt=prompts.EXERCISE.format(name=function),
            check=check,
            facets={"name": function} | {f"step {at}": step for at, step in enumerate(steps)},
        )

    return Drawn(draw)


def examples_problem(program: str) -> str:
    """Whether the `>>>` examples of a program hold, run in the sandbox; empty if there are some and all do."""
    examples = _EXAMPLE.findall(program)
    if not examples:
        return "The docstring has no example."
    tests = "\n".join(
        f"assert repr({call.strip()}) == {shown.strip()!r}, {call.strip()!r}" for call, shown in examples
    )
    outcome = run_many([f"{program}\n{tests}\n"], share=False)[0]
    return "" if outcome.ok else "An example in the docstring is not what the function gives; correct it."


def smalltalk_assignments(seed: int) -> Drawn[Assignment]:
    """Small talk: the message is drawn, the answer is the teacher's."""

    def draw(index: int) -> Assignment:
        rng = rng_for(prompts.VERSION + "/smalltalk", seed, index, False)
        kind, asks, _ = pick(rng, SMALLTALK)
        message = asks.render(Random(rng.random()), {})
        name = f"taught-smalltalk-{seed}-{index}"

        def check(text: str) -> tuple[dict[str, Any] | None, str]:
            text = " ".join(text.split())
            problem = checks.length_problem(text, 2, 60) or checks.language_problem(text)
            messages = [{"role": "user", "content": message}, {"role": "assistant", "content": text}]
            row = _row(name, text, "taught/smalltalk", seed=seed, index=index, verified="form")
            del row["text"]
            return (None, problem) if problem else ({**row, "messages": messages}, "")

        return Assignment(
            id=name, prompt=prompts.DIALOGUE.format(message=message), check=check, facets={"kind": kind}
        )

    return Drawn(draw)
