"""Tools that are really there: a calculator, a search over passages, letters of a word (section 5.1)."""

import ast
import math
import operator
import re
from collections.abc import Callable, Sequence
from functools import cache
from random import Random

from hornbook.data.retrieval import Passage, PassageIndex
from hornbook.evals.sparks.probe import Mark, Probe, Trial, Turns, last_number

_CALL = re.compile(r"\b(CALC|SEARCH|CHARACTER)\s*\(([^\n]*)\)")
_ANSWER = re.compile(r"(?im)^\W*answer\s*[:=]\s*(.+)$")
_MOST_DIGITS = 30

INSTRUCTIONS = (
    "You have three tools. To use one, write a single line and stop:\n"
    "SEARCH(words) gives the passage of the handbook that fits best.\n"
    "CALC(expression) computes, such as CALC(12 * (3 + 4)).\n"
    "CHARACTER(text, n) gives the n-th letter of a text.\n"
    "I reply with the result, and you go on. When you know the answer, write a line that begins with "
    "ANSWER: and "
    "holds nothing else."
)

_OPERATIONS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


class ToolError(ValueError):
    """A tool was used in a way it does not know; the message goes to the model."""


def calculate(expression: str) -> str:
    """The value of + - * / // % and brackets over numbers; whole where it is whole.

    Raises:
        ToolError: anything else, numbers of more than thirty digits, a division by zero.
    """
    if len(expression) > 200:
        raise ToolError("the expression is too long")
    try:
        tree = ast.parse(expression.strip().replace(",", "").replace("×", "*"), mode="eval")
        value = _walk(tree.body, 0)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError, ZeroDivisionError) as error:
        raise ToolError(str(error) or type(error).__name__) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ToolError("the result is not finite")
    whole = int(value) if value == int(value) else None
    return str(whole) if whole is not None else f"{value:.6g}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _walk(node: ast.AST, depth: int) -> float:
    if depth > 50:
        raise ToolError("the expression is nested too deeply")
    value: float
    if isinstance(node, ast.Constant) and _is_number(node.value):
        value = node.value  # type: ignore[assignment]
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        value = _OPERATIONS[type(node.op)](_walk(node.left, depth + 1), _walk(node.right, depth + 1))
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATIONS:
        value = _OPERATIONS[type(node.op)](_walk(node.operand, depth + 1))
    else:
        raise ToolError("only numbers, + - * / // % and brackets are understood")
    if abs(value) > 10**_MOST_DIGITS:
        raise ToolError(f"numbers of more than {_MOST_DIGITS} digits are not computed")
    return value


_VILLAGES = [
    "Averholt", "Brinkmoor", "Calderwick", "Dunsel", "Estermere", "Falkenby", "Garrowtoft", "Hestring",
    "Innisbeck", "Jorveth", "Kelderstad", "Lommerdal", "Marwick", "Netherlow", "Ostrava-on-Sea",
    "Pellingham", "Quarnford", "Rustholm", "Sandgate", "Tollerby",
]  # fmt: skip


@cache
def _facts() -> dict[str, dict[str, int]]:
    """Invented villages, the same in every run: what cannot be known without searching."""
    rng = Random("villages of the handbook")
    return {
        name: {
            "inhabitants": rng.randint(212, 9_876),
            "founded": rng.randint(903, 1_790),
            "bridges": rng.randint(2, 31),
            "sheep": rng.randint(120, 4_800),
        }
        for name in _VILLAGES
    }


@cache
def _index() -> PassageIndex:
    says = {
        "inhabitants": "{} has {} inhabitants according to the last count.",
        "founded": "{} was founded in the year {}.",
        "bridges": "There are {1} bridges in {0}.",
        "sheep": "On the meadows of {} graze {} sheep.",
    }
    return PassageIndex(
        [
            Passage(source=f"{name}, {kind}", start=0, text=says[kind].format(name, value))
            for name, facts in _facts().items()
            for kind, value in facts.items()
        ]
    )


def use(call: str, argument: str) -> str:
    """The result of one tool.

    Raises:
        ToolError: as the model is told.
    """
    if call == "CALC":
        return calculate(argument)
    if call == "SEARCH":
        found = _index().search(argument.strip("\"'"), most=1)
        return found[0].passage.text if found else "nothing found"
    text, _, place = argument.rpartition(",")
    text = text.strip().strip("\"'")
    if not place.strip().isdigit() or not 1 <= int(place) <= len(text):
        raise ToolError("CHARACTER takes a text and a place from 1 to its length")
    return text[int(place) - 1]


class Tools(Probe):
    """A question that needs two look-ups and a computation."""

    name = "tools"
    section = "5.1"
    sentence = "Questions on invented villages with a calculator and a search that are really there."
    max_tokens = 60
    most_turns = 8
    broken_after = 99

    def draw(self, rng: Random) -> Trial:
        a, b = rng.sample(_VILLAGES, 2)
        kind = rng.choice(["inhabitants", "founded", "bridges", "sheep"])
        one, other = _facts()[a][kind], _facts()[b][kind]
        match rng.randrange(3):
            case 0:
                kind = "sheep" if kind == "founded" else kind
                one, other = _facts()[a][kind], _facts()[b][kind]
                question, calc = f"How many {kind} do {a} and {b} have together?", f"{one} + {other}"
            case 1:
                one, other = _facts()[a]["sheep"], _facts()[b]["bridges"]
                question = f"What is the number of sheep of {a} times the number of bridges in {b}?"
                calc, kind = f"{one} * {other}", "sheep"
            case _:
                one, other = _facts()[a]["founded"], _facts()[b]["founded"]
                question = f"How many years lie between the founding of {a} and that of {b}?"
                calc, kind = f"{max(one, other)} - {min(one, other)}", "founded"
        second = "bridges" if "times" in question else kind
        told = {
            "searches": [f"{a} {kind}", f"{b} {second}"],
            "calc": calc,
            "value": int(calculate(calc)),
        }
        return Trial(id="", openings=(f"{INSTRUCTIONS}\n\nQuestion: {question}",), told=told)

    def reply(self, trial: Trial, conversation: int, turns: Turns) -> str | None:
        if len(turns) >= self.most_turns or _stops(turns[-1]):
            return None
        return self._result(turns)

    def _result(self, turns: Turns) -> str:
        """What the last turn's first call gives."""
        call = _CALL.search(turns[-1])
        if call is None:
            return "I see neither a tool nor an answer. Write one tool call, or a line with ANSWER:"
        try:
            result = use(call[1], call[2])
        except ToolError as error:
            return f"Error: {error}"
        used = sum(_CALL.search(turn) is not None for turn in turns)
        return f"Result: {result[::-1] if used > self.broken_after else result}"

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        turns = answers[0]
        told = [m for m in _ANSWER.finditer(turns[-1]) if not _CALL.search(m.group())]
        value = last_number(told[-1][1]) if told else None
        calls = [call for turn in turns if not _stops(turn) and (call := _CALL.search(turn))]
        sound = 0
        for call in calls:
            try:
                use(call[1], call[2])
                sound += 1
            except ToolError:
                pass
        good = value == trial.told["value"]
        return Mark(
            values={
                "solved": float(good),
                "used a tool": float(bool(calls)),
                "sound calls": sound / len(calls) if calls else 0.0,
            },
            read=f"{value} after {len(calls)} calls",
            note="" if good else f"the truth is {trial.told['value']}",
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        told = trial.told
        plan = [*(f"SEARCH({words})" for words in told["searches"]), f"CALC({told['calc']})"]
        return plan[len(turns)] if len(turns) < len(plan) else f"ANSWER: {told['value']}"


def _stops(turn: str) -> bool:
    """Whether a turn answers, before any call."""
    answer, call = _ANSWER.search(turn), _CALL.search(turn)
    return answer is not None and (call is None or answer.start() < call.start())


class BrokenTools(Tools):
    """After the second call every result comes back reversed: does the model notice?"""

    name = "broken-tools"
    section = "5.3"
    sentence = (
        "The same, but from the third call on each result comes back reversed; it has to be read backwards."
    )
    broken_after = 2


class Characters(Probe):
    """Letters inside long words, which tokens hide; with the tool that sees them."""

    name = "characters"
    section = "5.1"
    sentence = "The n-th letter of an invented word: alone, and with a tool that gives it."
    metric = "with the tool"
    max_tokens = 40

    def draw(self, rng: Random) -> Trial:
        word = "".join(rng.choice("bdfgklmnprstv") + rng.choice("aeiou") for _ in range(rng.randint(4, 7)))
        place = rng.randint(3, len(word) - 1)
        asked = f"What is letter number {place} of the word {word}?"
        return Trial(
            id="",
            openings=(
                f"{asked} Give the letter alone.",
                f"{INSTRUCTIONS}\n\nQuestion: {asked}",
            ),
            told={"letter": word[place - 1], "call": f"CHARACTER({word}, {place})"},
        )

    def reply(self, trial: Trial, conversation: int, turns: Turns) -> str | None:
        if conversation == 0 or len(turns) >= 3 or _stops(turns[-1]):
            return None
        return Tools()._result(turns)

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        letter = trial.told["letter"]
        alone = re.findall(r"(?<![a-z])[a-z](?![a-z])", answers[0][-1].lower())
        told = _ANSWER.findall(answers[1][-1])
        tool = re.findall(r"(?<![a-z])[a-z](?![a-z])", told[-1].lower()) if told else []
        return Mark(
            values={"with the tool": float(tool == [letter]), "alone": float(alone == [letter])},
            read=f"{' '.join(alone)}; {' '.join(tool)}",
            note=f"it is {letter}",
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        if conversation == 0:
            return str(trial.told["letter"])
        return f"ANSWER: {trial.told['letter']}" if turns else str(trial.told["call"])
