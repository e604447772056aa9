"""Grades by named criteria: what a judge is asked, and what its answer says.

Used where a text has no verifier: passages worth teaching (phi-4, appendix D), drafts to be improved
(self-revision), rows that a judge may remove. A grade is a whole number from 1 to 5 for each criterion.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hornbook.synth.scripts import Asking, Work, read_json

VERSION = "rubric-1"

_PROMPT = """\
Grade the text below. For each point give a whole number from 1 (not at all) to 5 (fully), on what the text
says and not on what it might have said:
{points}

Text:
{text}

Answer with one JSON object: the points as keys with their numbers, and "advice": one or two sentences on what
to change first.
"""


@dataclass(frozen=True, kw_only=True)
class Grades:
    """Numbers by criterion, and what to change first."""

    scores: Mapping[str, int]
    advice: str

    @property
    def mean(self) -> float:
        return sum(self.scores.values()) / len(self.scores)

    def low(self, least: Mapping[str, int]) -> str:
        """The first criterion below its least grade, as a reason; empty: none is."""
        return next(
            (f"{name} is {self.scores[name]}, below {bound}" for name, bound in least.items()
             if self.scores[name] < bound), ""
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """Criteria by name, each with the question it answers."""

    criteria: Mapping[str, str]

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of an answer."""
        grade = {"type": "integer", "minimum": 1, "maximum": 5}
        return {
            "type": "object",
            "properties": {**dict.fromkeys(self.criteria, grade), "advice": {"type": "string"}},
            "required": [*self.criteria, "advice"],
        }

    def grade(self, work: Work, text: str) -> Asking[Grades]:
        """A judge's grades of a text, at temperature 0."""
        points = "\n".join(f"- {name}: {asks}" for name, asks in self.criteria.items())

        def read(answer: str) -> tuple[Grades | None, str]:
            value, problem = read_json(answer, self.schema)
            if value is None:
                return None, problem
            scores = {name: int(value[name]) for name in self.criteria}
            return Grades(scores=scores, advice=str(value["advice"])), ""

        prompt = _PROMPT.format(points=points, text=text)
        return (yield from work.write(prompt, read, schema=self.schema, temperature=0.0))


PAGE = Rubric(
    criteria={
        "educational": "would it teach something that stays true, to a reader who wants to learn?",
        "self_contained": "can it be understood without what it points to?",
    }
)
"""Stage one of phi-4's seeds: is the page worth cutting up?"""

PASSAGE = Rubric(
    criteria={
        "facts": "how much does it state that can be right or wrong?",
        "reasoning": "is there a chain of steps, each following from the ones before?",
        "complexity": "how much thinking does it take to follow it?",
        "obscurity": "how much of it could only a specialist know?",
    }
)
"""Stage two: App. D's fields for excerpts."""

DRAFT = Rubric(
    criteria={
        "correct": "is everything it says right?",
        "clear": "could its readers follow every sentence?",
        "complete": "does it do all that was asked?",
        "lively": "is it free of repetition, filler and empty praise?",
    }
)
"""What a draft is revised by."""
