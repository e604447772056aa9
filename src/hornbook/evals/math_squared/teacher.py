"""Questions read by a program, and a teacher of known error that works through MATH^2's five steps with it.

`read` understands every question of `questions.py` and the flaws that `flawed` puts into them,
so what a teacher lets through can be counted right or wrong. The teacher is a program too: it sees what its
prompts show, and errs at rates that are given. It says what the protocol does to such errors, and nothing
about what errors a language model makes.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal, get_args

from hornbook.evals.math_squared.questions import MATH_SKILLS, SKILL_OF, MathQuestion, MathSkill, chains, pair
from hornbook.lm.base import Request
from hornbook.lm.simulated import SimulatedModel

Flaw = Literal["decorative skill", "missing datum", "two answers", "contradiction", "intractable"]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)
RATES: dict[Flaw, float] = {
    "decorative skill": 0.1,
    "missing datum": 0.1,
    "two answers": 0.05,
    "contradiction": 0.1,
    "intractable": 0.05,
}
"""How often the teacher writes each flaw; what is left is sound."""
_SOME = "some number"
_HUGE = 40_000


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a program reads in a question. `answer` is None where a flaw leaves none, or nothing was read."""

    skills: tuple[str, ...]
    answer: int | None
    flaws: tuple[Flaw, ...]

    @property
    def sound(self) -> bool:
        """Two skills, one answer, no flaw."""
        return len(self.skills) == 2 and self.answer is not None and not self.flaws


def flawed(question: MathQuestion, flaw: Flaw, rng: Random) -> str:
    """The text of a question of two skills with one flaw put into it."""
    opening, closing = question.text.split(" . ", 1)
    (_, number, _, middle), (other, _, constant, _) = question.parts
    if flaw == "missing datum":
        return f"{_replaced(opening, number, _SOME)} . {closing}"
    if flaw == "intractable":
        return f"{_replaced(opening, number, str(_HUGE + rng.randrange(_HUGE)))} . {closing}"
    if flaw == "contradiction":
        return f"{opening} . N is larger than {middle + rng.randrange(3, 20)} . {closing}"
    if flaw == "two answers":
        skill = SKILL_OF[other]
        return f"{opening} . {closing} And what is {skill.phrase(rng.choice(skill.domain), constant)} ?"
    skill = SKILL_OF[other]
    known = rng.choice(skill.domain)
    return (
        f"{opening} . Note that {skill.phrase(known, constant)} is {skill.solve(known, constant)} . Find N ."
    )


def _replaced(text: str, number: int, by: str) -> str:
    """The number plugged in, put in another way; the constant of the skill stays where it is."""
    for skill in MATH_SKILLS:
        for which in range(len(skill.phrases)):
            found = re.fullmatch(_pattern(skill, which), text.removeprefix("Let N be "))
            if found:
                return "Let N be " + skill.phrases[which].format(n=by, c=found["c"])
    raise ValueError(f"{text!r} is no opening of a question")


@cache
def _pattern(skill: MathSkill, which: int) -> re.Pattern[str]:
    """A phrase with its number, N or nothing known in the place of {n}, and a constant in that of {c}."""
    text = re.escape(skill.phrases[which]).replace(r"\{n\}", "{n}").replace(r"\{c\}", "{c}")
    text = text.replace("{n}", rf"(?P<n>\d+|N|{_SOME})", 1).replace("{c}", r"(?P<c>\d+)", 1)
    return re.compile(text.replace("{n}", "(?P=n)").replace("{c}", "(?P=c)"))


def _phrase(text: str) -> tuple[MathSkill, str, int] | None:
    """(skill, what is plugged in, constant) of a phrase that is the whole text."""
    text = re.sub(r"^(?:Find|What is|Say|And what is) |[ .?]+$", "", text.strip())
    for skill in MATH_SKILLS:
        for which in range(len(skill.phrases)):
            found = _pattern(skill, which).fullmatch(text)
            if found:
                return skill, found["n"], int(found["c"])
    return None


def read(text: str) -> Reading:
    """Reads a question of one or two skills, flaws included."""
    first = re.match(r"Let N be (.+?) \. (.*)", text, re.S)
    if first is None:
        asked = _phrase(text)
        if asked is None or not asked[1].isdigit():
            return Reading(skills=(asked[0].name,) if asked else (), answer=None, flaws=())
        return Reading(skills=(asked[0].name,), answer=asked[0].solve(int(asked[1]), asked[2]), flaws=())
    opening, rest = _phrase(first[1]), first[2]
    flaws: list[Flaw] = []
    if opening is None:
        return Reading(skills=(), answer=None, flaws=())
    skill, plugged, constant = opening
    middle = None
    if plugged == _SOME:
        flaws.append("missing datum")
    elif int(plugged) >= _HUGE:
        flaws.append("intractable")
    else:
        middle = skill.solve(int(plugged), constant)
    larger = re.search(r"N is larger than (\d+) \. ", rest)
    if larger:
        rest = rest.replace(larger[0], "")
        if middle is not None and middle <= int(larger[1]):
            flaws.append("contradiction")
            middle = None
    if rest.startswith("Note that "):
        return Reading(skills=(skill.name,), answer=middle, flaws=(*flaws, "decorative skill"))
    if " And what is " in rest:
        flaws.append("two answers")
        rest = rest.split(" And what is ")[0]
    closing = _phrase(rest)
    if closing is None:
        return Reading(skills=(skill.name,), answer=None, flaws=tuple(flaws))
    answer = None if middle is None else closing[0].solve(middle, closing[2])
    return Reading(skills=(skill.name, closing[0].name), answer=answer, flaws=tuple(flaws))


# The teacher


@dataclass(frozen=True, kw_only=True)
class TeacherErrors:
    """How often the teacher errs.

    notices: a flaw is found by a sceptic's attempt. reads: a vote follows a fault that the attempt names.
    alone: a vote finds a flaw that no attempt named. rejects: a vote against a sound question. slips: one
    solution is wrong, by a small number.
    """

    notices: float = 0.8
    reads: float = 0.95
    alone: float = 0.4
    rejects: float = 0.1
    slips: float = 0.15


def program_teacher(
    errors: TeacherErrors | None = None, rates: dict[Flaw, float] | None = None, *, seed: int = 0
) -> SimulatedModel:
    """A teacher that reads the prompts of `evals/math_squared/prompts.py` about questions of our world."""
    mind = _Mind(errors or TeacherErrors(), RATES if rates is None else rates, seed)
    return SimulatedModel(f"math-squared teacher {mind.errors} {mind.rates} {seed}", mind.answer)


class _Mind:
    def __init__(self, errors: TeacherErrors, rates: dict[Flaw, float], seed: int) -> None:
        self.errors, self.rates, self.seed = errors, rates, seed

    def answer(self, request: Request) -> str:
        prompt = (request.messages or ())[-1].content
        rng = Random(f"{self.seed} {request.sample_index} {request.salt} {prompt}")
        if prompt.startswith("Here are two mathematical skills"):
            a, b = _skills_shown(prompt)
            return f"I looked at what they ask for.\n{'No' if a is None or b is None or a is b else 'Yes'}"
        if prompt.startswith("Write one new question"):
            return self._generate(prompt, rng)
        if prompt.startswith("Here is a question that nobody has checked"):
            question = prompt.split("<<<\n", 1)[1].split("\n>>>", 1)[0]
            faults = [f for f in _faults(question) if rng.random() < self.errors.notices]
            said = "\n".join(f"FAULT: {fault}" for fault in faults)
            return said or "I looked for a reason why it could not be solved and found none."
        if prompt.startswith("You check questions"):
            return self._vote(prompt, rng)
        return self._solve(prompt, rng)

    def _generate(self, prompt: str, rng: Random) -> str:
        first, second = _skills_shown(prompt)
        if first is None or second is None:
            return "I do not understand these skills."
        if not chains(first, second):
            first, second = second, first
        question = pair(first, second, rng)
        draw, text = rng.random(), question.text
        for flaw, rate in self.rates.items():
            if draw < rate:
                text = flawed(question, flaw, rng)
                break
            draw -= rate
        return (
            f"My first idea used one skill; now the result of one goes into the other.\n\n# QUESTION\n{text}"
        )

    def _vote(self, prompt: str, rng: Random) -> str:
        tail = prompt.rsplit("\nNow this one.", 1)[1]
        question = tail.split("Question: ", 1)[1].split("\n\nA sceptic", 1)[0]
        attempt = tail.split("<<<\n", 1)[1].split("\n>>>", 1)[0]
        if "FAULT:" in attempt:
            against = rng.random() < self.errors.reads
        elif _faults(question):
            against = rng.random() < self.errors.alone
        else:
            against = rng.random() < self.errors.rejects
        return f"# REASONING\nI went through the list.\n# FINAL ANSWER\n{'No' if against else 'Yes'}"

    def _solve(self, prompt: str, rng: Random) -> str:
        answer = read(prompt.rsplit("Question: ", 1)[1].strip()).answer
        if answer is None:  # whoever insists on solving it guesses
            return f"That gives \\boxed{{{rng.randrange(100)}}}."
        if rng.random() < self.errors.slips:
            answer += rng.choice((-2, -1, 1, 2))
        return f"Step by step, that gives \\boxed{{{answer}}}."


def _faults(question: str) -> Sequence[str]:
    found = read(question)
    return found.flaws or (() if found.sound else ("this cannot be read",))


def _skills_shown(prompt: str) -> tuple[MathSkill | None, MathSkill | None]:
    """The skills that the examples of A and of B need, as a program reads them."""
    of_a, of_b = prompt.split("Skill B:", 1)
    return _most_read(of_a), _most_read(of_b)


def _most_read(text: str) -> MathSkill | None:
    names = Counter(
        name for line in re.findall(r"^- (.+) Answer: ", text, re.M) for name in read(line).skills[-1:]
    )
    return SKILL_OF[names.most_common(1)[0][0]] if names else None
