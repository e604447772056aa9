"""Arithmetic with and without steps, one change in an equation, primes, polynomials, programs by hand.

Sections 3, 4 and 8: what is computed token by token goes wrong where an answer must be planned.
"""

import operator
import re
from collections.abc import Sequence
from random import Random

from hornbook.evals.math_answers import Comparer
from hornbook.evals.sparks.probe import Mark, Probe, Trial, Turns, first_number, last_number, numbered

RANGES = ((0, 9), (10, 19), (20, 39), (99, 199))
"""Of the factors in A * B + C * D (section 8.2)."""

_BOXED = re.compile(r"(?i)p\(x\)\s*=\s*([^\n]+)")


class _Sum(Probe):
    """A * B + C * D; subclasses say how it is asked."""

    section = "8.2"
    asked = ""

    def draw(self, rng: Random) -> Trial:
        low, high = rng.choice(RANGES)
        a, b, c, d = (rng.randint(low, high) for _ in range(4))
        opening = f"What is {a} * {b} + {c} * {d}? {self.asked}"
        return Trial(
            id="", openings=(opening,), told={"numbers": [a, b, c, d]}, group=f"factors {low} to {high}"
        )

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        a, b, c, d = trial.told["numbers"]
        return numbered(trial, answers[0][-1], a * b + c * d)


class SumDirect(_Sum):
    name = "sum-direct"
    sentence = "A * B + C * D with the answer at once, in four ranges of factors."
    asked = "Give the number alone, without steps."
    max_tokens = 24

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        a, b, c, d = trial.told["numbers"]
        return str(a * b + c * d)


class SumSteps(_Sum):
    name = "sum-steps"
    sentence = "A * B + C * D with the products written first."
    asked = "Write each product first, then the sum. End with a line that says Answer: and the number."
    max_tokens = 160

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        a, b, c, d = trial.told["numbers"]
        return f"{a} * {b} = {a * b}\n{c} * {d} = {c * d}\n{a * b} + {c * d}\nAnswer: {a * b + c * d}"


_EQUATION = re.compile(r"(-?\d{1,6})\s*[*x×·]\s*(-?\d{1,6})\s*\+\s*(-?\d{1,6})\s*[*x×·]\s*(-?\d{1,6})")


class OneChange(Probe):
    """An equation, one number to change: the answer must be known before its first digit is written."""

    name = "one-change"
    section = "8.3"
    sentence = "Change exactly one number on the left, so that the equation has another result."
    max_tokens = 64

    def draw(self, rng: Random) -> Trial:
        while True:
            numbers = [rng.randint(2, 9) for _ in range(4)]
            changed = list(numbers)
            changed[rng.randrange(4)] = rng.randint(2, 12)
            target = _value(changed)
            if changed != numbers and target != _value(numbers):
                break
        a, b, c, d = numbers
        opening = (
            f"{a} * {b} + {c} * {d} = {_value(numbers)}. Change exactly one of the four numbers on the left "
            f"to another whole number, so that the result is {target}. Give the new equation alone."
        )
        return Trial(
            id="", openings=(opening,), told={"numbers": numbers, "target": target, "changed": changed}
        )

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        numbers, target = trial.told["numbers"], trial.told["target"]
        found = _EQUATION.findall(answers[0][-1])
        if not found:
            return Mark(values={"solved": 0.0, "one changed": 0.0, "true": 0.0}, note="no equation")
        given = [int(n) for n in found[-1]]
        changes = sum(x != y for x, y in zip(given, numbers))
        one, true = changes == 1, _value(given) == target
        note = ", ".join(
            ([] if one else [f"{changes} numbers changed"])
            + ([] if true else [f"the result is {_value(given)}, not {target}"])
        )
        return Mark(
            values={"solved": float(one and true), "one changed": float(one), "true": float(true)},
            read="{} * {} + {} * {}".format(*given),
            note=note,
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        return "{} * {} + {} * {} = {}".format(*trial.told["changed"], trial.told["target"])


def _value(numbers: Sequence[int]) -> int:
    return numbers[0] * numbers[1] + numbers[2] * numbers[3]


class Primes(Probe):
    """How many primes: asked at once, and listed first."""

    name = "primes"
    section = "8.1"
    sentence = "Count the primes between two numbers: at once, and after listing them."
    metric = "listed first"
    max_tokens = 120

    def draw(self, rng: Random) -> Trial:
        low = rng.randint(10, 400)
        high = low + rng.randint(20, 60)
        told = {"low": low, "high": high}
        between = f"between {low} and {high}"
        return Trial(
            id="",
            openings=(
                f"How many prime numbers are there {between}? Give the number alone.",
                f"List the prime numbers {between}, with commas. Then write how many they are, on a line "
                "that "
                "says Answer: and the number.",
            ),
            told=told,
        )

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        truth = _primes(trial.told["low"], trial.told["high"])
        direct, listed = last_number(answers[0][-1]), last_number(answers[1][-1])
        told = {int(n) for n in re.findall(r"(?<![\d.-])\d{2,4}(?![\d.])", answers[1][-1].split("nswer")[0])}
        told &= set(range(trial.told["low"], trial.told["high"] + 1))
        shared = len(told & set(truth))
        return Mark(
            values={
                "at once": float(direct == len(truth)),
                "listed first": float(listed == len(truth)),
                "list, F1": 2 * shared / (len(told) + len(truth)) if shared else 0.0,
            },
            read=f"{direct}, {listed}",
            note=f"there are {len(truth)}",
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        truth = _primes(trial.told["low"], trial.told["high"])
        if conversation == 0:
            return str(len(truth))
        return f"{', '.join(map(str, truth))}\nAnswer: {len(truth)}"


def _primes(low: int, high: int) -> list[int]:
    return [n for n in range(max(2, low), high + 1) if all(n % d for d in range(2, int(n**0.5) + 1))]


class Polynomial(Probe):
    """A cubic from its roots and one value, as the paper's altered question; compared as mathematics."""

    name = "polynomial"
    section = "4.2"
    sentence = "A cubic from its roots and its value at 1, written out; compared by sympy."
    max_tokens = 256

    def draw(self, rng: Random) -> Trial:
        while True:
            roots = sorted(rng.sample([n for n in range(-6, 8) if n not in (0, 1)], 3))
            lead = rng.choice([-3, -2, -1, 1, 2, 3])
            at_one = lead * (1 - roots[0]) * (1 - roots[1]) * (1 - roots[2])
            if at_one:
                break
        opening = (
            f"A polynomial p(x) of degree 3 has the roots {roots[0]}, {roots[1]} and {roots[2]}, and p(1) = "
            f"{at_one}. Write it out, multiplied and in falling powers. End with a line that begins with "
            "p(x) ="
        )
        r, s, t = roots
        powers = (lead, -lead * (r + s + t), lead * (r * s + r * t + s * t), -lead * r * s * t)
        return Trial(id="", openings=(opening,), told={"powers": list(powers)})

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        return self.mark_all([trial], [answers])[0]

    def mark_all(self, trials: Sequence[Trial], answers: Sequence[Sequence[Turns]]) -> list[Mark]:
        marks = []
        with Comparer() as compare:
            for trial, own in zip(trials, answers, strict=True):
                told = _BOXED.findall(own[0][-1])
                read = told[-1].strip().rstrip(".").strip("$ ") if told else ""
                truth = _written(trial.told["powers"])
                good = "x" in read and compare.same(read, truth)
                note = "" if good else f"the truth is {truth}" if read else "no line p(x) ="
                marks.append(Mark(values={"solved": float(good)}, read=read[:200], note=note))
        return marks

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        return f"p(x) = {_written(trial.told['powers'])}"


def _written(powers: Sequence[int]) -> str:
    """Coefficients of falling powers as text."""
    terms = [
        f"{value:+d}{'' if power == 0 else 'x' if power == 1 else f'x^{power}'}"
        for value, power in zip(powers, range(len(powers) - 1, -1, -1))
        if value
    ]
    return " ".join(terms).lstrip("+")


_SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


class Execution(Probe):
    """A program executed by reading it; more changes of its variables are more to hold in mind."""

    name = "execution"
    section = "3.2"
    sentence = "What a straight program prints, after few and after many changes of its variables."
    max_tokens = 32

    def draw(self, rng: Random) -> Trial:
        updates = rng.choice([2, 4, 8, 16])
        names = ["a", "b", "c"]
        values = {name: rng.randint(1, 9) for name in names}
        lines = [f"{name} = {value}" for name, value in values.items()]
        for _ in range(updates):
            name, other = rng.sample(names, 2)
            sign = rng.choice(["+", "-", "+", "-", "*"])
            if sign == "*" and abs(values[name]) > 20:
                sign = "-"
            by = rng.choice([other, str(rng.randint(2, 5))])
            values[name] = _SIGNS[sign](values[name], values[by] if by in values else int(by))
            lines.append(f"{name} = {name} {sign} {by}")
        shown = rng.choice(names)
        program = "\n".join([*lines, f"print({shown})"])
        opening = f"What does this Python program print?\n\n{program}\n\nGive the number alone."
        return Trial(id="", openings=(opening,), told={"value": values[shown]}, group=f"{updates:2d} changes")

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        text = answers[0][-1]
        read = (
            first_number(text)
            if text.strip()[:1].isdigit() or text.strip()[:1] in "-−"
            else last_number(text)
        )
        good = read == trial.told["value"]
        return Mark(
            values={"solved": float(good)},
            read=str(read),
            note="" if good else f"it prints {trial.told['value']}",
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        return str(trial.told["value"])


_MOVE = re.compile(r"(?i)move\s+(?:disc\s+)?(\d)\s+from\s+(?:peg\s+)?([ABC])\s+to\s+(?:peg\s+)?([ABC])\b")


class Hanoi(Probe):
    """Towers of Hanoi with a move that is forbidden, so that a recited solution is illegal."""

    name = "hanoi"
    section = "8.3"
    sentence = (
        "Towers of Hanoi where one way between two pegs is closed: every move legal, and the goal reached?"
    )
    max_tokens = 200

    def draw(self, rng: Random) -> Trial:
        pegs = ["A", "B", "C"]
        start = [rng.choice(pegs) for _ in range(rng.choice([2, 3]))]
        goal = rng.choice([p for p in pegs if any(s != p for s in start)])
        closed = rng.sample(pegs, 2)
        discs = ", ".join(f"disc {i} on peg {peg}" for i, peg in enumerate(start, 1))
        opening = (
            f"There are pegs A, B and C and discs 1 (smallest) to {len(start)}: {discs}. A move takes the "
            "top "
            "disc of a peg to another peg; a disc may not lie on a smaller one. Also, no disc may go "
            "directly "
            f"from {closed[0]} to {closed[1]}. Bring all discs to peg {goal}. Write one move a line, such "
            "as: "
            "move 1 from A to B"
        )
        return Trial(
            id="",
            openings=(opening,),
            told={"start": start, "goal": goal, "closed": closed},
            group=f"{len(start)} discs",
        )

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        told = trial.told
        moves = _MOVE.findall(answers[0][-1])[:100]
        state, legal, note = tuple(told["start"]), 0, ""
        for disc, source, target in moves:
            following = _moved(state, int(disc) - 1, source.upper(), target.upper(), told["closed"])
            if following is None:
                note = f"move {legal + 1} is not allowed"
                break
            state, legal = following, legal + 1
        there = not note and all(peg == told["goal"] for peg in state)
        return Mark(
            values={
                "solved": float(there and bool(moves)),
                "legal moves": legal / len(moves) if moves else 0.0,
            },
            read=f"{len(moves)} moves",
            note=note or ("" if there else "the goal is not reached" if moves else "no moves"),
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        told = trial.told
        state = tuple(told["start"])
        paths: dict[tuple[str, ...], list[str]] = {state: []}
        waiting = [state]
        for state in waiting:
            if all(peg == told["goal"] for peg in state):
                return "\n".join(paths[state])
            for disc in range(len(state)):
                for target in "ABC":
                    following = _moved(state, disc, state[disc], target, told["closed"])
                    if following is not None and following not in paths:
                        paths[following] = [*paths[state], f"move {disc + 1} from {state[disc]} to {target}"]
                        waiting.append(following)
        raise AssertionError("every position can be reached by the ways that are left")


def _moved(
    state: tuple[str, ...], disc: int, source: str, target: str, closed: Sequence[str]
) -> tuple[str, ...] | None:
    """The pegs after a move; None where it is not allowed."""
    if not 0 <= disc < len(state) or state[disc] != source or source == target:
        return None
    if [source, target] == list(closed) or any(state[i] in (source, target) for i in range(disc)):
        return None
    return (*state[:disc], target, *state[disc + 1 :])
