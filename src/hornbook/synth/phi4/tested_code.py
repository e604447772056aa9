"""Code with tests, validated in a loop: what fails goes back with what the run said (phi-4, 2.2, validation).

Tests must also be able to fail: they are run on mutants of the solution (a step changed, the result thrown
away), and tests that pass for all of those test nothing.
"""

import ast
from random import Random
from typing import Any

from hornbook.lm.parse import extract_code
from hornbook.sandbox import run_many
from hornbook.synth.exercises import compose, draw_composition
from hornbook.synth.phrase import pick
from hornbook.synth.scripts import Row, Script, Scripted, Work
from hornbook.synth.stories import meta, rng_for

VERSION = "phi4-tested-code-1"
SOURCE = "synth/phi4/tested_code"
LEAST_KILLED = 0.5
MUTANTS = 5

TASKS = (
    "counts, groups or ranks things in a list", "reads a small text format", "searches in a sorted structure",
    "plans with dates or times of day", "works on a grid of cells", "follows the links of a small graph",
    "turns one notation into another", "keeps a running statistic", "checks whether a rule is kept",
    "packs or splits things into groups", "simulates a queue, a stack or a simple machine",
    "does exact arithmetic with fractions, remainders or digits",
)  # fmt: skip
SETTINGS = (
    "a library",
    "a kitchen",
    "a bus line",
    "a garden",
    "a school",
    "a warehouse",
    "a game",
    "a weather station",
)
_PROMPT = """\
Write one Python function that {task}, for {setting}. Choose a clear name, give it a docstring of one or two
sentences, and use nothing but the standard library. Below it write `def test():` with four to eight asserts
on different cases, edge cases among them. Answer with one Python code block that holds both functions.
"""

_SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


def mutants(program: str, *, most: int = MUTANTS) -> list[str]:
    """The program with one thing changed outside `test`: first a result thrown away, then operators
    swapped."""
    tree = ast.parse(program)
    places: list[tuple[ast.AST, str, Any]] = []
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef) or function.name == "test":
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and node.value is not None:
                places.append((node, "value", ast.Constant(None)))
            elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in _SWAPS:
                places.append((node, "op", _SWAPS[type(node.op)]()))
            elif isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPS:
                places.append((node, "ops", [_SWAPS[type(node.ops[0])](), *node.ops[1:]]))
    returns = [place for place in places if place[1] == "value"][-1:]
    others = Random(program).sample(
        swaps := [p for p in places if p[1] != "value"], min(len(swaps), most - 1)
    )
    found = []
    for node, name, other in [*returns, *others]:
        before = getattr(node, name)
        setattr(node, name, other)
        found.append(ast.unparse(ast.fix_missing_locations(tree)))
        setattr(node, name, before)
    return found


def tested_problem(program: str) -> tuple[str, float]:
    """What is wrong with a program and its `test`, and the share of mutants that the tests catch."""
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError, RecursionError) as error:
        return f"The program does not parse: {error}.", 0.0
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    asserts = sum(isinstance(node, ast.Assert) for node in ast.walk(functions.get("test", ast.Pass())))
    if len(functions) < 2 or asserts < 3:
        return "Give the function and `def test():` with at least three asserts.", 0.0
    changed = mutants(program)
    outcomes = run_many([f"{source}\n\ntest()\n" for source in (program, *changed)], share=False)
    if not outcomes[0].ok:
        return f"The tests do not pass: {outcomes[0].sentence}. Correct the function or the test.", 0.0
    killed = sum(not outcome.ok for outcome in outcomes[1:]) / len(changed) if changed else 1.0
    if killed < LEAST_KILLED:
        return "The tests pass even when the function is changed; test what it gives on more cases.", killed
    return "", killed


def tested_task(seed: int, index: int) -> Scripted:
    """A function with tests on a drawn kind of task."""
    rng = rng_for(VERSION, seed, index, False)
    task, setting = pick(rng, TASKS), pick(rng, SETTINGS)

    def read(text: str) -> tuple[Row | None, str]:
        program = extract_code(text) or ""
        problem, killed = tested_problem(program)
        row = tested_row(f"tested-{seed}-{index}", program, killed, seed, index, writer=VERSION, task=task)
        return (None, problem) if problem else (row, "")

    def steps(work: Work) -> Script:
        return (yield from work.write(_PROMPT.format(task=task, setting=setting), read))

    return Scripted(id=f"tested-{seed}-{index}", steps=steps, facets={"task": task, "setting": setting})


def tested_row(id: str, program: str, killed: float, seed: int, index: int, **facts: Any) -> Row:
    """A row of a documents corpus: the function and its test."""
    lineage = meta(
        facts.pop("writer"), seed, index, mutants_caught=round(killed, 3), verified="tests", **facts
    )
    return {"id": id, "text": program, "source": SOURCE, "meta": lineage}


def simulated_tested(seed: int, index: int) -> tuple[Row | None, str]:
    """An exercise whose hidden cases are its tests; it is run, and so are its mutants."""
    rng = rng_for(VERSION, seed, index, False)
    exercise = compose(draw_composition(rng, 2, False), rng)
    lines = "".join(
        f"    assert {exercise.name}({value!r}) == {truth!r}\n" for value, truth in exercise.cases
    )
    program = f"{exercise.solution}\n\n\ndef test():\n{lines}"
    problem, killed = tested_problem(program)
    id = f"tested-{seed}-{index}"
    row = tested_row(id, program, killed, seed, index, writer=f"{VERSION}/simulated", name=exercise.name)
    return (None, problem) if problem else (row, "")
