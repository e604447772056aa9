"""Word problems with programs: TinyGSM section 2 with a simulated teacher.

A plan is a skeleton (opening, zero to two changes, question), a scene and numbers. Each statement of the
question becomes its program line, in order, with variables named after the things it counts. Train and
test are split by skeleton, never by numbers.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from hornbook.errors import HornbookError
from hornbook.synth import lexicon, problem_steps
from hornbook.synth.phrase import Phrases, pick, sentence_case, weighted
from hornbook.synth.problem_words import CONTAINERS, DISTRACTORS, SCENES, WORDINGS, Scene
from hornbook.synth.stories import meta, rng_for

VERSION = "word-problems-3"
SOURCE = "synth/word_problems"
DISTRACTOR_SHARE = 0.15

_WORDS = {name: Phrases(texts) for name, texts in WORDINGS.items()}
_DISTRACTORS = Phrases(DISTRACTORS)
_FAMILY_SHARE = (("one", 0.55), ("people", 0.33), ("things", 0.12))
_CHANGES_SHARE = (0.2, 0.4, 0.4)
_LITERAL = re.compile(r"(?<![\w.])\d+(?![\w.])")


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """How often the simulated teacher errs (TinyGSM studies an unchecked one). The recipe uses no errors.

    wrong_share: programs with one wrong operator or a dropped step; wrong_each: the same for every arithmetic
    operation that a problem takes, so that long problems go wrong more often; broken_share: programs that do
    not run.
    """

    wrong_share: float = 0.0
    broken_share: float = 0.0
    wrong_each: float = 0.0

    def __post_init__(self) -> None:
        for field in ("wrong_share", "broken_share", "wrong_each"):
            value = getattr(self, field)
            if not 0 <= value <= 1:
                raise HornbookError(f"word problems: {field}={value} is not a share between 0 and 1")
        if self.wrong_share + self.broken_share > 1:
            raise HornbookError("word problems: wrong_share and broken_share add up to more than 1")

    def errs(self) -> bool:
        """Whether any program may be other than right."""
        return bool(self.wrong_share or self.broken_share or self.wrong_each)

    def answers(self, program: str, work: int, rng: Random) -> tuple[str, str]:
        """What this teacher writes where `program`, of `work` operations, is right: (program, flaw or "")."""
        draw = rng.random()
        right = (1 - self.wrong_share) * (1 - self.wrong_each) ** work
        if draw < 1 - right:
            return spoil(program, rng)
        if draw < 1 - right + self.broken_share:
            return break_program(program, rng), "broken"
        return program, ""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A question, its program, the true answer, and the same plan under a second number assignment."""

    question: str
    program: str
    answer: int
    skeleton: tuple[str, ...]
    scene: str
    numbers: tuple[int, ...]
    second_numbers: tuple[int, ...]
    second_answer: int
    distractor: bool
    flaw: str

    def as_json(self) -> dict[str, Any]:
        return {
            "skeleton": "|".join(self.skeleton),
            "scene": self.scene,
            "answer": self.answer,
            "numbers": list(self.numbers),
            "second_numbers": list(self.second_numbers),
            "second_answer": self.second_answer,
            "distractor": self.distractor,
            "flaw": self.flaw,
        }


def write_problem(
    seed: int, index: int, *, held_out: bool = False, teacher: Teacher | None = None, wording: int = 0
) -> Problem:
    """Problem number `index` of the sample `seed`, from training or from held-out skeletons.

    wording: another number tells the same plan with the same numbers again, in another scene and other words.
    """
    rng = rng_for(VERSION, seed, index, held_out)
    while True:
        skeleton = _draw_skeleton(rng, held_out)
        first = _draw_twice(skeleton, rng)
        if first is not None:
            break
    (numbers, answer), (second, second_answer) = first
    if wording:
        rng = rng_for(f"{VERSION}/wording-{wording}", seed, index, held_out)
    scene = pick(rng, problem_steps.scenes_for(skeleton))
    question, program, distractor = _word(skeleton, scene, numbers, rng)
    flaw = ""
    if teacher is not None:
        program, flaw = teacher.answers(program, work_of(skeleton), rng)
    return Problem(
        question=question,
        program=program,
        answer=answer,
        skeleton=skeleton,
        scene=scene.name,
        numbers=tuple(n for step in numbers for n in step),
        second_numbers=tuple(n for step in second for n in step),
        second_answer=second_answer,
        distractor=distractor,
        flaw=flaw,
    )


def work_of(skeleton: tuple[str, ...]) -> int:
    """Arithmetic operations of a plan."""
    return sum(problem_steps.STEPS[name].work for name in skeleton)


def solve_again(problem: Problem, teacher: Teacher, rng: Random) -> int | None:
    """The number that one more solution of this teacher gives; None if it does not run.

    `problem` is the right one, written without a teacher.
    """
    program, flaw = teacher.answers(problem.program, work_of(problem.skeleton), rng)
    return None if flaw == "broken" else _calculate(program)


def problem_rows(
    seed: int,
    rows: int,
    *,
    start: int = 0,
    held_out: bool = False,
    teacher: Teacher | None = None,
    solutions: int = 1,
) -> Iterator[dict[str, str]]:
    """Rows of a documents corpus; `text` is the question and, after a line break, the program.

    solutions: how many times the teacher solves each problem; what the others gave stands in `meta.others`.
    """
    for index in range(start, rows):
        problem = write_problem(seed, index, held_out=held_out, teacher=teacher)
        others: dict[str, list[int | None]] = {}
        if solutions > 1:
            right = write_problem(seed, index, held_out=held_out)
            rng = rng_for(VERSION + "/others", seed, index, held_out)
            others["others"] = [solve_again(right, teacher or Teacher(), rng) for _ in range(solutions - 1)]
        yield {
            "id": f"problem-{'test' if held_out else 'train'}-{seed}-{index}",
            "text": f"{problem.question}\n{problem.program}",
            "source": SOURCE,
            "meta": meta(
                VERSION,
                seed,
                index,
                question=problem.question,
                program=problem.program,
                **problem.as_json(),
                **others,
            ),
        }


def substitute(program: str, numbers: tuple[int, ...], others: tuple[int, ...]) -> str:
    """The program with the question's numbers replaced by those of the second assignment.

    A program that is right for the right reason gives the second answer; one that computed a literal in
    its head does not.
    """
    table = {str(number): str(other) for number, other in zip(numbers, others, strict=True)}
    return _LITERAL.sub(lambda match: table.get(match.group(), match.group()), program)


def spoil(program: str, rng: Random) -> tuple[str, str]:
    """A program that runs and gives another number: (program, kind of flaw).

    One operator swapped, one step dropped or, where neither changes the result, one added to the answer.
    """
    truth = _calculate(program)
    lines = program.split("\n")
    for _ in range(8):
        changed = list(lines)
        with_operator = [at for at, line in enumerate(lines) if _OPERATOR.search(line)]
        self_steps = [at for at in with_operator if _SELF_STEP.match(lines[at])]
        if self_steps and rng.random() < 0.4:
            del changed[pick(rng, self_steps)]
            flaw = "dropped"
        elif with_operator:
            at = pick(rng, with_operator)
            found = _OPERATOR.search(lines[at])
            assert found is not None
            other = pick(rng, [op for op in ("+", "-", "*") if op != found.group(1)])
            changed[at] = lines[at][: found.start(1)] + other + lines[at][found.end(1) :]
            flaw = "operator"
        else:
            break
        spoiled = "\n".join(changed)
        if _calculate(spoiled) != truth:
            return spoiled, flaw
    lines[-2] += " + 1"
    return "\n".join(lines), "constant"


def _calculate(program: str) -> int:
    """What a program in the canonical layout returns; only for texts of this writer."""
    values: dict[str, int] = {}
    for line in program.split("\n")[1:-1]:
        name, right = line.strip().split(" = ")
        words = right.split(" ")
        total = values[words[0]] if words[0] in values else int(words[0])
        for operator, word in zip(words[1::2], words[2::2]):
            other = values[word] if word in values else int(word)
            total = _OPERATIONS[operator](total, other)
        values[name] = total
    return values["answer"]


_OPERATIONS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "//": int.__floordiv__, "%": int.__mod__}
_OPERATOR = re.compile(r" (\+|-|\*|//|%) ")
_SELF_STEP = re.compile(r"\s+(\w+) = \1 ")


def break_program(program: str, rng: Random) -> str:
    """A program that does not run: a name that was never set, or a line cut short."""
    lines = program.split("\n")
    if rng.random() < 0.5:
        lines[-1] = "    return result"
    else:
        lines[1] = lines[1].split(" = ")[0] + " ="
    return "\n".join(lines)


def _draw_skeleton(rng: Random, held_out: bool) -> tuple[str, ...]:
    table = problem_steps.skeletons(held_out)
    while True:
        family = weighted(rng, _FAMILY_SHARE)
        changes = weighted(rng, enumerate(_CHANGES_SHARE))
        choices = table.get((family, changes))
        if choices:
            return pick(rng, choices)


def _draw_twice(skeleton: tuple[str, ...], rng: Random) -> Any:
    """Two number assignments of the same plan that share no number and differ in the answer."""
    found: list[Any] = []
    for _ in range(60):
        drawn = problem_steps.draw_numbers(skeleton, rng)
        if drawn is None:
            continue
        if not found:
            found.append(drawn)
        elif drawn[1] != found[0][1]:
            return found[0], drawn
    return None


_SCENES = {scene.name: scene for scene in SCENES}


@cache
def _wording(name: str, scene_name: str) -> Phrases:
    """The wordings of a step in a scene; scenes without an owner never speak of one."""
    scene = _SCENES[scene_name]
    if name in scene.words:
        return Phrases(scene.words[name])
    if scene.public:
        free = [text for phrase in _WORDS[name] if "{H}" not in (text := phrase.source)]
        return Phrases(free)
    return _WORDS[name]


def _word(
    skeleton: tuple[str, ...], scene: Scene, numbers: tuple[tuple[int, ...], ...], rng: Random
) -> tuple[str, str, bool]:
    """Question and program of a plan: statement by statement, line by line."""
    hero, friend, other = rng.sample(_NAMES, 3)
    things = rng.sample(scene.things, 2) if len(scene.things) > 1 else [scene.things[0]] * 2
    box, boxes = pick(rng, CONTAINERS)
    adult = pick(rng, _ADULTS)
    pronouns = lexicon.PRONOUNS[lexicon.GENDER[hero]]
    slots = {
        "H": hero,
        "F": friend,
        "G": other,
        "A": adult,
        "x": things[0],
        "y": things[1],
        "box": box,
        "boxes": boxes,
        "a": hero,
        "b": friend,
        **pronouns,
    }
    alike = [
        name
        for name, gender in ((friend, lexicon.GENDER[friend]), (adult, lexicon.ADULTS[adult]))
        if gender == lexicon.GENDER[hero]
    ]
    statements: list[str] = []
    lines: list[str] = []
    for name, values in zip(skeleton, numbers, strict=True):
        if values:
            slots["n"] = str(values[0])
            slots["k"] = str(values[-1])
        # A pronoun after a sentence about somebody of the same gender would be his or hers.
        unclear = bool(statements) and any(who in statements[-1] for who in alike)
        slots["He"], slots["he"] = (hero, hero) if unclear else (pronouns["He"], pronouns["he"])
        statements.append(_statement(name, scene.name, rng, slots, statements))
        lines.extend(f"    {line.format_map(slots)}" for line in problem_steps.STEPS[name].lines)
    if len(skeleton) == 2:
        statements[-1] = _NOW.sub("?", statements[-1])
    distractor = rng.random() < DISTRACTOR_SHARE
    if distractor:
        used = {n for step in numbers for n in step}
        slots["n"] = str(pick(rng, [n for n in range(4, 40) if n not in used]))
        at = 1 + int(rng.random() * (len(statements) - 1))
        statements.insert(at, _DISTRACTORS.render(rng, slots))
    question = sentence_case(" ".join(statements))
    program = "\n".join(["def solution():", *lines, "    return answer"])
    return question, program, distractor


def _statement(name: str, scene: str, rng: Random, slots: dict[str, str], told: list[str]) -> str:
    """One statement, worded unlike those told before where there is another wording."""
    for _ in range(4):
        text = _wording(name, scene).render(rng, slots)
        if text not in told:
            break
    return text


_NOW = re.compile(r" (?:now|in the end)\?$")
_NAMES = lexicon.GIRLS[:15] + lexicon.BOYS[:15]
_ADULTS = tuple(lexicon.ADULTS)
