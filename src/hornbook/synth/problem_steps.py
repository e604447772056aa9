"""The step types of word problems: what each does to the truth, and the program line it always becomes.

The truth of a problem is computed here, from the plan, never by running the program text: the two are
independent, and the tests and the sandbox hold one against the other.
"""

import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

from hornbook.synth.problem_words import SCENES, Scene

State = tuple[int, ...]
Draw = Callable[[Random, State], tuple[int, ...] | None]
Apply = Callable[[State, tuple[int, ...]], State]

LARGEST = 240
"""No quantity of a problem is larger."""
SMALLEST_NUMBER, LARGEST_NUMBER = 2, 60


@dataclass(frozen=True, kw_only=True)
class Step:
    """One statement type. `role` is open, change or ask; `family` the state it works on.

    `lines` are program lines with the slots x, y (variables), a, b (two people's variables), n and k
    (numbers), boxes. `draw` proposes numbers for a state, or None; `apply` gives the state after it (for
    an ask: the answer). `work` counts the arithmetic operations.
    """

    name: str
    role: str
    family: str
    lines: tuple[str, ...]
    draw: Draw
    apply: Apply
    work: int
    constants: tuple[int, ...] = ()


def _between(low: int, high: int) -> Callable[[Random], int]:
    return lambda rng: low + int(rng.random() * (high - low + 1))


def _numbers(*limits: tuple[int, int]) -> Draw:
    draws = [_between(low, high) for low, high in limits]
    return lambda rng, state: tuple(draw(rng) for draw in draws)


def _up_to(at: int, low: int = 2) -> Draw:
    """A number that can be taken away from quantity `at` and leaves something."""

    def draw(rng: Random, state: State) -> tuple[int, ...] | None:
        high = min(LARGEST_NUMBER, state[at] - 1)
        return (low + int(rng.random() * (high - low + 1)),) if high >= low else None

    return draw


def _divisor(rng: Random, state: State) -> tuple[int, ...] | None:
    total = sum(state)
    choices = [k for k in range(2, 13) if total % k == 0 and total > k]
    return (choices[int(rng.random() * len(choices))],) if choices else None


def _not_divisor(rng: Random, state: State) -> tuple[int, ...] | None:
    choices = [k for k in range(3, 13) if state[0] % k and state[0] > k]
    return (choices[int(rng.random() * len(choices))],) if choices else None


def _percent(rng: Random, state: State) -> tuple[int, ...] | None:
    choices = [p for p in (10, 20, 25, 30, 40, 50, 75) if state[0] * p % 100 == 0]
    return (choices[int(rng.random() * len(choices))],) if choices else None


def _even(rng: Random, state: State) -> tuple[int, ...] | None:
    return () if state[0] % 2 == 0 else None


def _none(rng: Random, state: State) -> tuple[int, ...] | None:
    return ()


def _more_than_state(rng: Random, state: State) -> tuple[int, ...] | None:
    low, high = state[0] + 2, min(state[0] + 60, 99)
    return (low + int(rng.random() * (high - low + 1)),) if high >= low else None


def _take_groups(rng: Random, state: State) -> tuple[int, ...] | None:
    n, k = 2 + int(rng.random() * 7), 2 + int(rng.random() * 8)
    return (n, k) if n * k < state[0] else None


def _fewer(rng: Random, state: State) -> tuple[int, ...] | None:
    first = 8 + int(rng.random() * 53)
    return first, 2 + int(rng.random() * (first - 4))


def _ahead(first: int, second: int) -> Draw:
    return lambda rng, state: () if state[first] > state[second] else None


_ONE, _TWO, _PAIR = "one", "people", "things"
_N = (SMALLEST_NUMBER, LARGEST_NUMBER)
_SMALL = (2, 30)
_TINY = (2, 12)


def _step(
    name: str,
    role: str,
    family: str,
    lines: str,
    draw: Draw,
    apply: Apply,
    work: int = 1,
    constants: tuple[int, ...] = (),
) -> Step:
    parts = tuple(line.strip() for line in lines.split(";"))
    return Step(
        name=name,
        role=role,
        family=family,
        lines=parts,
        draw=draw,
        apply=apply,
        work=work,
        constants=constants,
    )


STEPS = {
    step.name: step
    for step in (
        # one quantity
        _step("have", "open", _ONE, "{x} = {n}", _numbers((6, 60)), lambda s, n: (n[0],), 0),
        _step(
            "groups",
            "open",
            _ONE,
            "{x} = {n} * {k}",
            _numbers(_TINY, _TINY),
            lambda s, n: (n[0] * n[1],),
        ),
        _step(
            "rate",
            "open",
            _ONE,
            "{x} = {n} * {k}",
            _numbers(_TINY, _TINY),
            lambda s, n: (n[0] * n[1],),
        ),
        _step("gain", "change", _ONE, "{x} = {x} + {n}", _numbers(_N), lambda s, n: (s[0] + n[0],)),
        _step("lose", "change", _ONE, "{x} = {x} - {n}", _up_to(0), lambda s, n: (s[0] - n[0],)),
        _step("double", "change", _ONE, "{x} = {x} * 2", _none, lambda s, n: (s[0] * 2,), 1, (2,)),
        _step("triple", "change", _ONE, "{x} = {x} * 3", _none, lambda s, n: (s[0] * 3,), 1, (3,)),
        _step("half", "change", _ONE, "{x} = {x} // 2", _even, lambda s, n: (s[0] // 2,), 1, (2,)),
        _step(
            "percent",
            "change",
            _ONE,
            "part = {x} * {n} // 100; {x} = {x} - part",
            _percent,
            lambda s, n: (s[0] - s[0] * n[0] // 100,),
            2,
            (100,),
        ),
        _step(
            "gain_groups",
            "change",
            _ONE,
            "more = {n} * {k}; {x} = {x} + more",
            _numbers((2, 9), (2, 9)),
            lambda s, n: (s[0] + n[0] * n[1],),
            2,
        ),
        _step(
            "lose_groups",
            "change",
            _ONE,
            "less = {n} * {k}; {x} = {x} - less",
            _take_groups,
            lambda s, n: (s[0] - n[0] * n[1],),
            2,
        ),
        _step("now", "ask", _ONE, "answer = {x}", _none, lambda s, n: (s[0],), 0),
        _step("share", "ask", _ONE, "answer = {x} // {n}", _divisor, lambda s, n: (s[0] // n[0],)),
        _step("bags", "ask", _ONE, "answer = {x} // {n}", _divisor, lambda s, n: (s[0] // n[0],)),
        _step("left_over", "ask", _ONE, "answer = {x} % {n}", _not_divisor, lambda s, n: (s[0] % n[0],)),
        _step("price", "ask", _ONE, "answer = {x} * {n}", _numbers(_TINY), lambda s, n: (s[0] * n[0],)),
        _step("need", "ask", _ONE, "answer = {n} - {x}", _more_than_state, lambda s, n: (n[0] - s[0],)),
        _step("more_than", "ask", _ONE, "answer = {x} - {n}", _up_to(0), lambda s, n: (s[0] - n[0],)),
        _step(
            "part_percent",
            "ask",
            _ONE,
            "answer = {x} * {n} // 100",
            _percent,
            lambda s, n: (s[0] * n[0] // 100,),
            1,
            (100,),
        ),
        # two people with the same things
        _step("both", "open", _TWO, "{a} = {n}; {b} = {k}", _numbers(_N, _N), lambda s, n: (n[0], n[1]), 0),
        _step(
            "more",
            "open",
            _TWO,
            "{a} = {n}; {b} = {a} + {k}",
            _numbers(_N, _SMALL),
            lambda s, n: (n[0], n[0] + n[1]),
        ),
        _step(
            "fewer",
            "open",
            _TWO,
            "{a} = {n}; {b} = {a} - {k}",
            _fewer,
            lambda s, n: (n[0], n[0] - n[1]),
        ),
        _step(
            "twice",
            "open",
            _TWO,
            "{a} = {n}; {b} = {a} * 2",
            _numbers(_N),
            lambda s, n: (n[0], n[0] * 2),
            1,
            (2,),
        ),
        _step(
            "thrice",
            "open",
            _TWO,
            "{a} = {n}; {b} = {a} * 3",
            _numbers(_SMALL),
            lambda s, n: (n[0], n[0] * 3),
            1,
            (3,),
        ),
        _step(
            "a_gain", "change", _TWO, "{a} = {a} + {n}", _numbers(_SMALL), lambda s, n: (s[0] + n[0], s[1])
        ),
        _step(
            "b_gain", "change", _TWO, "{b} = {b} + {n}", _numbers(_SMALL), lambda s, n: (s[0], s[1] + n[0])
        ),
        _step("a_lose", "change", _TWO, "{a} = {a} - {n}", _up_to(0), lambda s, n: (s[0] - n[0], s[1])),
        _step("b_lose", "change", _TWO, "{b} = {b} - {n}", _up_to(1), lambda s, n: (s[0], s[1] - n[0])),
        _step(
            "a_to_b",
            "change",
            _TWO,
            "{a} = {a} - {n}; {b} = {b} + {n}",
            _up_to(0),
            lambda s, n: (s[0] - n[0], s[1] + n[0]),
            2,
        ),
        _step(
            "b_to_a",
            "change",
            _TWO,
            "{b} = {b} - {n}; {a} = {a} + {n}",
            _up_to(1),
            lambda s, n: (s[0] + n[0], s[1] - n[0]),
            2,
        ),
        _step("together", "ask", _TWO, "answer = {a} + {b}", _none, lambda s, n: (s[0] + s[1],)),
        _step("a_than_b", "ask", _TWO, "answer = {a} - {b}", _ahead(0, 1), lambda s, n: (s[0] - s[1],)),
        _step("b_than_a", "ask", _TWO, "answer = {b} - {a}", _ahead(1, 0), lambda s, n: (s[1] - s[0],)),
        _step("a_now", "ask", _TWO, "answer = {a}", _none, lambda s, n: (s[0],), 0),
        _step("b_now", "ask", _TWO, "answer = {b}", _none, lambda s, n: (s[1],), 0),
        _step(
            "share_all",
            "ask",
            _TWO,
            "total = {a} + {b}; answer = total // {n}",
            _divisor,
            lambda s, n: ((s[0] + s[1]) // n[0],),
            2,
        ),
        # two things of one person
        _step("two", "open", _PAIR, "{x} = {n}; {y} = {k}", _numbers(_N, _N), lambda s, n: (n[0], n[1]), 0),
        _step(
            "two_more",
            "open",
            _PAIR,
            "{x} = {n}; {y} = {x} + {k}",
            _numbers(_N, _SMALL),
            lambda s, n: (n[0], n[0] + n[1]),
        ),
        _step(
            "x_gain", "change", _PAIR, "{x} = {x} + {n}", _numbers(_SMALL), lambda s, n: (s[0] + n[0], s[1])
        ),
        _step(
            "y_gain", "change", _PAIR, "{y} = {y} + {n}", _numbers(_SMALL), lambda s, n: (s[0], s[1] + n[0])
        ),
        _step("x_lose", "change", _PAIR, "{x} = {x} - {n}", _up_to(0), lambda s, n: (s[0] - n[0], s[1])),
        _step("y_lose", "change", _PAIR, "{y} = {y} - {n}", _up_to(1), lambda s, n: (s[0], s[1] - n[0])),
        _step("total", "ask", _PAIR, "answer = {x} + {y}", _none, lambda s, n: (s[0] + s[1],)),
        _step("x_than_y", "ask", _PAIR, "answer = {x} - {y}", _ahead(0, 1), lambda s, n: (s[0] - s[1],)),
        _step(
            "cost",
            "ask",
            _PAIR,
            "first = {x} * {n}; second = {y} * {k}; answer = first + second",
            _numbers(_TINY, _TINY),
            lambda s, n: (s[0] * n[0] + s[1] * n[1],),
            3,
        ),
    )
}

Skeleton = tuple[str, ...]
MOST_WORK = 4
HELD_OUT_EVERY, PAIR_HELD_OUT_EVERY = 8, 8


def _held_out_pair(first: str, second: str) -> bool:
    return first != second and zlib.crc32(f"pair {first} {second}".encode()) % PAIR_HELD_OUT_EVERY == 0


def is_held_out(skeleton: Skeleton) -> bool:
    """Whether a skeleton is for testing only.

    Test skeletons are one in eight by a stable hash, and all those in which one of the held-out ordered
    pairs of changes follows each other: training never shows such a pair, although it shows both members.
    Skeletons without a change (an opening and a question) are the alphabet itself and stay in training.
    """
    changes = skeleton[1:-1]
    if not changes:
        return False
    if any(_held_out_pair(first, second) for first, second in itertools.pairwise(changes)):
        return True
    return zlib.crc32("|".join(skeleton).encode()) % HELD_OUT_EVERY == 0


@cache
def skeletons(held_out: bool) -> dict[tuple[str, int], tuple[Skeleton, ...]]:
    """All skeletons on one side of the split, by (family, number of changes)."""
    out: dict[tuple[str, int], list[Skeleton]] = {}
    for family in (_ONE, _TWO, _PAIR):
        names = {
            role: [s.name for s in STEPS.values() if s.family == family and s.role == role]
            for role in ("open", "change", "ask")
        }
        middles = [
            (),
            *((c,) for c in names["change"]),
            *((c, d) for c in names["change"] for d in names["change"]),
        ]
        for opening in names["open"]:
            for middle in middles:
                for ask in names["ask"]:
                    skeleton = (opening, *middle, ask)
                    work = sum(STEPS[name].work for name in skeleton)
                    if 1 <= work <= MOST_WORK and is_held_out(skeleton) == held_out:
                        out.setdefault((family, len(middle)), []).append(skeleton)
    return {key: tuple(value) for key, value in out.items()}


_BOXED = frozenset({"groups", "rate", "gain_groups", "lose_groups"})
_SORTED = frozenset({"share", "bags", "left_over", "price"})
_NOT_IN = {
    "coins": frozenset({"price"}),
    "pond": _BOXED | _SORTED,
    "bus": _BOXED | _SORTED | {"double", "triple"},
    "shop": _BOXED,
    "garden": _BOXED,
}


def scene_allows(scene: Scene, skeleton: Skeleton) -> bool:
    """Ducks are not sold in boxes, coins do not cost coins, and people compare toys and food alone."""
    if STEPS[skeleton[0]].family != _ONE and scene.name not in ("toys", "food"):
        return False
    return _NOT_IN.get(scene.name, frozenset()).isdisjoint(skeleton)


@cache
def scenes_for(skeleton: Skeleton) -> tuple[Scene, ...]:
    return tuple(scene for scene in SCENES if scene_allows(scene, skeleton))


def draw_numbers(skeleton: Skeleton, rng: Random) -> tuple[tuple[tuple[int, ...], ...], int] | None:
    """Numbers for each step and the true answer, or None where this attempt hit a wall.

    All numbers of a problem differ from each other and from the constants of its steps, so that every
    literal of a right program can be traced to one place in the question.
    """
    used = {constant for name in skeleton for constant in STEPS[name].constants}
    state: State = ()
    numbers: list[tuple[int, ...]] = []
    for name in skeleton:
        step = STEPS[name]
        for _ in range(6):
            drawn = step.draw(rng, state)
            if drawn is not None and len(set(drawn)) == len(drawn) and used.isdisjoint(drawn):
                break
        else:
            return None
        state = step.apply(state, drawn)
        if min(state) < 1 or (step.role != "ask" and max(state) > LARGEST):
            return None
        used.update(drawn)
        numbers.append(drawn)
    return tuple(numbers), state[0]


def evaluate(skeleton: Skeleton, numbers: tuple[tuple[int, ...], ...]) -> int:
    """The true answer of a plan."""
    state: State = ()
    for name, values in zip(skeleton, numbers, strict=True):
        state = STEPS[name].apply(state, values)
    return state[0]
