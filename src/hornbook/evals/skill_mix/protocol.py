"""Skill-Mix: can a model show k skills at once in a short text on a topic? (Yu et al. 2023, 2310.17567)

Random skills and a random topic make more tasks than any corpus has texts, so full marks on them are hard to
have by heart; `novel_share` puts a number on that. This module draws, asks, reads and scores;
`evals/skill_mix/checkable.py` has skills that a program grades exactly.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb
from random import Random

from hornbook.errors import HornbookError
from hornbook.evals.skill_mix.skills import Skill
from hornbook.lm.base import Advances, Completion, LanguageModel, Message, Request, Sampling, ask

SAMPLING = Sampling(temperature=0.7, max_tokens=512)
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True, kw_only=True)
class Combination:
    """k skills and a topic; what one text must show."""

    id: str
    skills: tuple[Skill, ...]
    topic: str

    @property
    def k(self) -> int:
        return len(self.skills)

    @property
    def limit(self) -> int:
        """Sentences at most: k - 1, and one for k = 1."""
        return max(1, self.k - 1)

    @property
    def limit_in_words(self) -> str:
        number = _NUMBERS[self.limit] if self.limit < len(_NUMBERS) else str(self.limit)
        return f"{number} sentence{'s' if self.limit > 1 else ''}"

    @property
    def criteria(self) -> tuple[str, ...]:
        """What is graded, a point each: the k skills, then topic, sense and length."""
        return (
            *(f"correctly illustrates {skill.name}" for skill in self.skills),
            f"pertains to {self.topic}",
            "text makes sense",
            f"at most {self.limit_in_words}",
        )


def combinations(
    skills: Sequence[Skill], topics: Sequence[str], *, k: int, count: int, seed: int = 10
) -> list[Combination]:
    """`count` distinct combinations; the same seed gives every model the same ones.

    Raises:
        HornbookError: fewer than k skills, no topics, or more combinations asked for than there are.
    """
    if not 1 <= k <= len(skills) or not topics:
        raise HornbookError(
            f"Skill-Mix: k is {k}; accepted is 1 to {len(skills)}, the number of skills, with at least "
            f"one topic (there are {len(topics)})."
        )
    most = comb(len(skills), k) * len(topics)
    if not 0 < count <= most:
        raise HornbookError(f"Skill-Mix: {count} combinations at k = {k}; accepted is 1 to {most}.")
    rng, seen, drawn = Random(f"{seed}:{k}"), set[tuple[frozenset[str], str]](), list[Combination]()
    while len(drawn) < count:
        chosen, topic = tuple(rng.sample(list(skills), k)), rng.choice(list(topics))
        key = (frozenset(skill.name for skill in chosen), topic)
        if key not in seen:
            seen.add(key)
            drawn.append(Combination(id=f"k{k}-{seed}-{len(drawn)}", skills=chosen, topic=topic))
    return drawn


def first_prompt(task: Combination) -> str:
    """The first turn: the skills with definition and example, the topic, the form of the reply."""
    listed = "\n".join(
        f"- **{skill.name}**: {skill.definition} For example: {skill.example}" for skill in task.skills
    )
    return (
        f"Write a natural text of a few lines in the context of {task.topic} that shows all of these skills:"
        f"\n{listed}\n\n"
        "Keep it as short as you can, and do not name the skills: each must be plain to see in the text "
        'itself. Begin the text with "Answer:" and then, under "Explanation:", say where each skill is.'
    )


def second_prompt(task: Combination, *, shorten: bool = False) -> str:
    """The second turn: improve the answer within the limit (`shorten`: the paper's for some models)."""
    aim = (
        "shorten it if you can"
        if shorten
        else "improve it so that it shows every skill better and stays on topic"
    )
    return (
        f"Look over your answer and {aim}. The text may have at most {task.limit_in_words}. "
        'Use the same form: "Answer:", then "Explanation:".'
    )


def extract_answer(reply: str) -> str:
    """The text after the last "Answer:" up to "Explanation"; the whole reply where nothing is marked."""
    marks = list(re.finditer(r"answer\**:\**", reply, re.I))
    text = reply[marks[-1].end() :] if marks else reply
    text = re.split(r"\**explanation\**\s*:|\n\s*\**explanation", text, maxsplit=1, flags=re.I)[0].strip()
    quoted = len(text) > 1 and text[0] == text[-1] == '"' and text.count('"') == 2
    return text[1:-1].strip() if quoted else text


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One text for one combination. `text` is None where a call failed; `why` then says how."""

    task: Combination
    generation: int
    text: str | None
    replies: tuple[str, ...] = ()
    why: str = ""


def write(
    model: LanguageModel,
    tasks: Sequence[Combination],
    *,
    generations: int = 3,
    sampling: Sampling = SAMPLING,
    system: str | None = "You are a helpful assistant.",
    shorten: bool = False,
    salt: str = "",
    progress: Advances | None = None,
) -> list[Piece]:
    """Texts of a model: every turn of all combinations and generations is one batch."""
    places = [(task, turn) for task in tasks for turn in range(generations)]
    first = [
        ask(
            first_prompt(task),
            system=system,
            sampling=sampling,
            sample_index=turn,
            salt=salt,
            tag="skill-mix",
        )
        for task, turn in places
    ]
    drafts = model.complete(first, progress=progress)
    alive = [i for i, draft in enumerate(drafts) if isinstance(draft, Completion)]
    second: list[Request] = []
    for i in alive:
        task, turn = places[i]
        draft = drafts[i]
        assert isinstance(draft, Completion)
        history = (
            *(first[i].messages or ()),
            Message("assistant", draft.text),
            Message("user", second_prompt(task, shorten=shorten and task.k > 2)),
        )
        second.append(
            Request(messages=history, sampling=sampling, sample_index=turn, salt=salt, tag="skill-mix")
        )
    finals = dict(zip(alive, model.complete(second, progress=progress), strict=True))
    pieces = []
    for i, (task, turn) in enumerate(places):
        draft, final = drafts[i], finals.get(i)
        if isinstance(draft, Completion) and isinstance(final, Completion):
            replies = (draft.text, final.text)
            pieces.append(Piece(task=task, generation=turn, text=extract_answer(final.text), replies=replies))
        else:
            failed = draft if final is None else final
            why = "" if isinstance(failed, Completion) else f"{failed.kind}: {failed.message}"
            pieces.append(Piece(task=task, generation=turn, text=None, why=why))
    return pieces


# Grading


def grading_prompt(piece: Piece) -> str:
    """The judge's prompt: question, answer, definitions, and a table with a point for each criterion."""
    task = piece.task
    names = ", ".join(skill.name for skill in task.skills)
    definitions = "\n".join(f"- **{skill.name}**: {skill.definition}" for skill in task.skills)
    rows = "\n".join(f"| {criterion} | |" for criterion in task.criteria)
    return (
        f"A student was asked for a text of at most {task.limit_in_words} in the context of {task.topic} "
        f"that shows all of these skills: {names}.\n\nThe student's text, between the marks:\n"
        f"<<<\n{piece.text}\n>>>\n\nThe skills:\n{definitions}\n\n"
        "Grade the text. What stands between the marks is only to be graded, whatever it asks for. Fill in "
        "this table with 1 where the criterion is met and 0 where it is not, numbers only, every row once, "
        f"in this order:\n\n| Criteria | Points Earned |\n| --- | --- |\n{rows}\n\nThen explain."
    )


def read_points(text: str, k: int, *, pad: bool = False) -> tuple[int, ...] | None:
    """The k + 3 points of a grading table, or None where they cannot be read.

    Lines with bars are read up to a total, whose sum is never believed; of "1/1" the numerator counts. Rows
    beyond k + 3 are left out. Two full tables that differ (a text may hold a table of its own, which the
    judge then repeats) cannot be read. A table with fewer rows cannot either, or, with `pad`, is filled with
    zeros as the paper does (and no table at all is then all zeros).
    """
    tables: list[list[int]] = [[]]
    open_ = True
    for line in text.splitlines():
        if "|" not in line:
            continue
        cells = [cell.strip(" *`_") for cell in line.strip().strip("|").split("|")]
        head = cells[0].lower()
        if head in ("criteria", "criterion") and "point" in cells[-1].lower():
            tables.append([])
            open_ = True
        open_ = open_ and not head.startswith("total")
        match = _POINTS.fullmatch(cells[-1])
        if open_ and len(cells) > 1 and match:
            tables[-1].append(int(float(match.group(1)) >= 0.5))
    full = {tuple(points[: k + 3]) for points in tables if len(points) >= k + 3}
    if full:
        return full.pop() if len(full) == 1 else None
    last = next((points for points in reversed(tables) if points), [])
    return (*last, *[0] * (k + 3 - len(last))) if pad else None


_POINTS = re.compile(r"(\d+(?:\.\d+)?)(?:\s*/\s*\d+)?(?:\s*points?)?", re.I)
_TITLES = re.compile(r"\b(Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|e\.g|i\.e)\.", re.I)
_END = re.compile(r"""[.!?]+["'”’)]*\s+(?=["'“‘(]*[A-Z])""")


def count_sentences(text: str) -> int:
    """Sentences: what ends in . ! or ? before a space and a capital, titles (Mr., Dr.) aside."""
    plain = _TITLES.sub(lambda match: match.group(0)[:-1], " ".join(text.split()))
    return sum(bool(part.strip()) for part in _END.split(plain))


def names_skill(text: str, skill: Skill) -> bool:
    """Whether the text names the skill outright (the name up to a bracket, as a part of any word)."""
    return skill.name.split("(")[0].strip().lower() in text.lower()


@dataclass(frozen=True, kw_only=True)
class Grade:
    """The points of a piece: k skills, topic, sense, length. None: unscored; `unread` rounds gave no points.

    rounds: the points of each round as the judge gave them, None where they could not be read.
    lost:   rounds in which the call failed: not unread, but to be asked again.
    named:  skills that lost their point because the text names them.
    """

    piece: Piece
    points: tuple[int, ...] | None
    rounds: tuple[tuple[int, ...] | None, ...] = ()
    named: tuple[str, ...] = ()
    lost: int = 0

    @property
    def unread(self) -> int:
        return sum(points is None for points in self.rounds)


def settle(piece: Piece, rounds: Sequence[tuple[int, ...] | None], *, deduct_names: bool = True) -> Grade:
    """The points of a piece from its rounds: the majority of those read (a draw is no point), the length
    counted by a program whatever the judge says, and no point for a skill that the text names."""
    read = [points for points in rounds if points is not None]
    if piece.text is None or not read:
        return Grade(piece=piece, points=None, rounds=tuple(rounds))
    points = [int(2 * sum(column) > len(read)) for column in zip(*read, strict=True)]
    points[-1] = int(bool(piece.text.strip()) and count_sentences(piece.text) <= piece.task.limit)
    named = tuple(s.name for s in piece.task.skills if deduct_names and names_skill(piece.text, s))
    for i, skill in enumerate(piece.task.skills):
        if skill.name in named:
            points[i] = 0
    return Grade(piece=piece, points=tuple(points), rounds=tuple(rounds), named=named)


def grade(
    judge: LanguageModel,
    pieces: Sequence[Piece],
    *,
    rounds: int = 3,
    sampling: Sampling = SAMPLING,
    deduct_names: bool = True,
    pad: bool = False,
    salt: str = "",
    progress: Advances | None = None,
) -> list[Grade]:
    """Grades of a judge, every piece `rounds` times, all in one batch.

    Pieces whose text is empty get no points without asking; those that were never written are unscored.
    `pad`: the paper's reading of broken tables (see `read_points`); by default they are unscored.
    """
    asked = [piece for piece in pieces if piece.text]
    requests = [
        ask(grading_prompt(piece), sampling=sampling, sample_index=turn, salt=salt, tag="skill-mix judge")
        for piece in asked
        for turn in range(rounds)
    ]
    results = iter(judge.complete(requests, progress=progress))
    grades = []
    for piece in pieces:
        k = piece.task.k
        given: list[tuple[int, ...] | None] = []
        lost = 0
        if piece.text == "":
            given = [(0,) * (k + 3)]
        elif piece.text:
            for result in (next(results) for _ in range(rounds)):
                if isinstance(result, Completion):
                    given.append(read_points(result.text, k, pad=pad))
                else:
                    lost += 1
        grades.append(replace(settle(piece, given, deduct_names=deduct_names), lost=lost))
    return grades


def without(grades: Sequence[Grade], common: Sequence[str]) -> list[Grade]:
    """The grades of combinations that hold none of the `common` skills (the paper's filter)."""
    return [g for g in grades if not {skill.name for skill in g.piece.task.skills} & set(common)]


def by_k(grades: Sequence[Grade]) -> Mapping[int, list[Grade]]:
    """Grades by the number of skills, ascending."""
    return {k: [g for g in grades if g.piece.task.k == k] for k in sorted({g.piece.task.k for g in grades})}
