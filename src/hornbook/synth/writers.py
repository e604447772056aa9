"""Every writer by one name: what it writes, after which paper, from what, and who may be its teacher."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hornbook.errors import HornbookError
from hornbook.lab.step import Step
from hornbook.synth import steps
from hornbook.synth.phi4 import steps as phi4
from hornbook.synth.story_instructions import write_story_instructions
from hornbook.synth.teacher import SIMULATED
from hornbook.synth.topics import topic_count

Needs = Literal["", "documents", "seeds", "stories"]
"""What a writer reads: nothing, organic documents, passages chosen from them, or stories written first."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """One writer.

    `simulated` and `model` say whether it can do without a model and whether it can use one; `small`,
    whether the embedded SmolLM2-135M is fit for it; `fixed`, arguments that make this writer of its step.
    """

    name: str
    step: Step
    paper: str
    summary: str
    needs: Needs = ""
    simulated: bool = True
    model: bool = True
    small: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def default_teacher(self) -> str:
        """Who writes when nobody is named."""
        return SIMULATED if self.simulated else "embedded"

    @property
    def options(self) -> dict[str, Any]:
        """Further arguments of the step, with their defaults."""
        own = {"ctx", "rows", "seed", "teacher", "documents", "seeds", "stories", *self.fixed}
        return {
            name: parameter.default
            for name, parameter in inspect.signature(self.step.function).parameters.items()
            if name not in own and parameter.default is not inspect.Parameter.empty
        }

    def arguments(self, *, teacher: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """What to call the step with, besides rows, seed and what it reads.

        Raises:
            HornbookError: an option it does not have, or a teacher it cannot have.
        """
        unknown = [name for name in given if name not in self.options]
        if unknown:
            known = ", ".join(self.options) or "none"
            raise HornbookError(f"The writer {self.name} has no option {unknown[0]!r}; it has: {known}.")
        if teacher == SIMULATED and not self.simulated:
            raise HornbookError(f'{self.name} needs a model: --teacher embedded, or "http://host/v1#model".')
        if teacher != SIMULATED and not self.model:
            raise HornbookError(
                f"{self.name} is written by the simulated teacher alone; leave --teacher out."
            )
        if teacher in ("embedded", "smollm2") and not self.small:
            raise HornbookError(
                f"The embedded model is not fit to write {self.name}: in maths, code and judging it was "
                f"measured "
                f'at or below chance. Leave --teacher out, or name an endpoint: "http://host/v1#model".'
            )
        named = {"teacher": teacher} if self.takes("teacher") else {}
        return {**self.fixed, **given, **named}

    def takes(self, argument: str) -> bool:
        """Whether the step has an argument of that name."""
        return argument in inspect.signature(self.step.function).parameters


_ALL = (
    Writer(
        name="stories", step=steps.write_stories, paper="TinyStories", small=True,
        summary="short stories for small children, each with a verb, a noun, an adjective and features",
    ),
    Writer(
        name="instructions", step=write_story_instructions, paper="TinyStories-Instruct", needs="stories",
        small=True, summary="stories with what was asked for: words, features, summary, a sentence of theirs",
    ),
    Writer(
        name="textbooks", step=steps.write_textbooks, paper="phi-1",
        summary="lessons: topic x audience x tone, and a word that must occur",
    ),
    Writer(
        name="lessons", step=steps.write_lessons, paper="phi-1", model=False,
        summary="lessons on Python functions with traced examples",
    ),
    Writer(
        name="exercises", step=steps.write_exercises, paper="phi-1",
        summary="Python functions to complete, their names drawn; the examples in the docstring must hold",
    ),
    Writer(
        name="word-problems", step=steps.write_word_problems, paper="TinyGSM",
        summary="two steps: a new question from a seed question, then a program that must run",
    ),
    Writer(
        name="one-step", step=steps.write_problem_variants, paper="TinyGSM", fixed={"way": "one step"},
        summary="ten new problems with programs a call",
    ),
    Writer(
        name="two-step", step=steps.write_problem_variants, paper="TinyGSM", fixed={"way": "two steps"},
        summary="ten variants of a question a call, then a program for each",
    ),
    Writer(
        name="irrelevant", step=steps.write_problem_variants, paper="TinyGSM", fixed={"way": "irrelevant"},
        summary="as two-step, with facts that do not matter to the question",
    ),
    Writer(
        name="topics", step=steps.write_topics, paper="phi-1.5",
        summary=f"passages on {topic_count():,} topics; without a model: a small world of common sense",
    ),
    Writer(
        name="dialogue", step=steps.write_dialogue, paper="phi-3", small=True,
        summary="conversations on everything, refusals among them; a teacher writes the small talk",
    ),
    Writer(
        name="preferences", step=steps.write_preferences, paper="phi-3, phi-4", model=False,
        summary="pairs of a better and a worse answer whose preference is verified",
    ),
    Writer(
        name="seeds", step=phi4.choose_seeds, paper="phi-4", needs="documents",
        summary="passages worth writing from: good pages, then their best passages",
    ),
    Writer(
        name="questions", step=phi4.write_questions, paper="phi-4", needs="seeds",
        summary="questions with reasoning and answers out of passages",
    ),
    Writer(
        name="rewrites", step=phi4.write_rewrites, paper="phi-4", needs="seeds", small=True,
        summary="passages as exercises, discussions, tasks, lessons; without a model: fill in the gap",
    ),
    Writer(
        name="plurality", step=phi4.filter_questions, paper="phi-4",
        summary="questions on which answers neither all agree nor all differ, with the plurality answer",
    ),
    Writer(
        name="reversed", step=phi4.write_reversed, paper="phi-4",
        summary="instructions for code that exists, kept when the code comes out of them again",
    ),
    Writer(
        name="revised", step=phi4.write_revised, paper="phi-4", simulated=False, small=True,
        summary="drafts, critiques by rubric and rewrites, in rounds",
    ),
    Writer(
        name="conversations", step=phi4.write_conversations, paper="phi-4", small=True,
        summary="two agents in turn: one asks, one explains",
    ),
    Writer(
        name="tested-code", step=phi4.write_tested_code, paper="phi-4",
        summary="functions with tests that pass, and fail when the function is changed",
    ),
    Writer(
        name="skill-texts", step=phi4.write_skill_texts, paper="Skill-Mix",
        summary="one to three sentences that show k skills on a topic",
    ),
)  # fmt: skip
WRITERS: Mapping[str, Writer] = {writer.name: writer for writer in _ALL}


def writer(name: str) -> Writer:
    """The writer of that name.

    Raises:
        HornbookError: there is none; the message lists them.
    """
    if name not in WRITERS:
        raise HornbookError(f"There is no writer {name!r}. Writers: {', '.join(WRITERS)}.")
    return WRITERS[name]
