"""Instruction reversal: code that exists gets the instruction that would have asked for it (phi-4, 2.2).

The instruction alone is then given back for a solution; only if that does what the original does is the pair
kept, in the order instruction, code. "Does what the original does" is tested by running both on the same
calls.
"""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from hornbook.lm.parse import extract_code
from hornbook.sandbox import Job, run_many
from hornbook.synth import checks
from hornbook.synth.exercises import compose, draw_composition
from hornbook.synth.phrase import pick
from hornbook.synth.primitives import BY_NAME
from hornbook.synth.scripts import Rejected, Row, Script, Scripted, Work, read_json
from hornbook.synth.stories import meta, rng_for

VERSION = "phi4-reversal-1"
SOURCE = "synth/phi4/reversal"

_INSTRUCT = """\
Here is a Python function:

```python
{code}
```

Write the instruction to which it is the answer, so exact that somebody who has never seen the code would
write a function that does the same. Do not quote the code. Give three to five calls of it that show what it
does. Answer with one JSON object: {{"instruction": "...", "calls": ["{name}(...)", "..."]}}.
"""
_SOLVE = """\
{instruction}

Name the function `{name}`; its first line is `{signature}`. Answer with one Python code block.
"""
_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["instruction", "calls"],
    "properties": {
        "instruction": {"type": "string"},
        "calls": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 8},
    },
}


def functions_of(text: str, *, least: int = 4, most: int = 30) -> list[str]:
    """Top-level functions of a Python text that stand alone: no decorator, nothing from outside but
    builtins."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return []
    found = []
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.decorator_list or not node.args.args:
            continue
        source = ast.get_source_segment(text, node) or ""
        if least <= source.count("\n") + 1 <= most and _alone(node):
            found.append(without_docstring(source))
    return found


def _alone(function: ast.FunctionDef) -> bool:
    import builtins

    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    known = {node.id for node in names if isinstance(node.ctx, ast.Store)} | {function.name}
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            known.add(node.arg)
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Yield | ast.Global):
            return False
    returns = any(isinstance(node, ast.Return) and node.value for node in ast.walk(function))
    return returns and all(node.id in known or hasattr(builtins, node.id) for node in names)


def without_docstring(source: str) -> str:
    """The function as it is, less its docstring: the instruction is to say what it does."""
    tree = ast.parse(source)
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    if ast.get_docstring(function) is None or len(function.body) == 1:
        return source
    first = function.body[0]
    lines = source.split("\n")
    return "\n".join(lines[: first.lineno - 1] + lines[first.end_lineno :])


def compared(first: str, second: str, calls: Sequence[str]) -> str:
    """Why two programs are not the same on these calls, or nothing. Both run in the sandbox."""
    for call in calls:
        try:
            ast.parse(call, mode="eval")
        except (SyntaxError, ValueError, RecursionError):
            return f"The call {call[:60]!r} does not parse."
    tries = "".join(
        f"    try:\n        found.append(repr({call}))\n    except Exception as error:\n"
        f"        found.append(type(error).__name__ + '!')\n"
        for call in calls
    )
    check = f"\n\ndef calls_of_both():\n    found = []\n{tries}    return found\n"
    one, two = run_many(
        [Job(source=code + check, entry="calls_of_both") for code in (first, second)], share=False
    )
    if not one.ok or not two.ok:
        return f"A program does not run ({one.status}, {two.status})."
    if sum(not value.endswith("!") for value in one.value) < 2:
        return "Fewer than two of the calls work; give calls that the function can take."
    if one.value != two.value:
        at = next(n for n, (a, b) in enumerate(zip(one.value, two.value, strict=True)) if a != b)
        return f"On {calls[at]} the original gives {one.value[at][:40]}, the other {two.value[at][:40]}."
    return ""


def _name_of(code: str) -> str:
    return next(node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef))


def reversal_task(id: str, code: str, *, seed: int = 0, facets: Mapping[str, str] | None = None) -> Scripted:
    """A function, its instruction, and the check that the instruction says enough."""
    name, signature = _name_of(code), code.split("\n", 1)[0]

    def read(text: str) -> tuple[dict[str, Any] | None, str]:
        value, problem = read_json(text, _SCHEMA)
        if value is None:
            return None, problem
        problem = checks.length_problem(value["instruction"], 6, 200)
        problem = problem or checks.language_problem(value["instruction"])
        copied = any(
            line.strip() in value["instruction"] for line in code.split("\n")[1:] if len(line.strip()) > 12
        )
        problem = problem or ("The instruction quotes the code; say it in words." if copied else "")
        problem = problem or compared(code, code, value["calls"])
        return (None, problem) if problem else (value, "")

    def steps(work: Work) -> Script:
        asked = yield from work.write(_INSTRUCT.format(code=code, name=name), read, schema=_SCHEMA)
        prompt = _SOLVE.format(instruction=asked["instruction"], name=name, signature=signature)
        solution = extract_code((yield from work.ask(prompt, temperature=0.2))) or ""
        problem = checks.program_problem(solution, name) or compared(code, solution, asked["calls"])
        if problem:
            raise Rejected(f"not the same again: {problem}", asked["instruction"])
        return _row(id, asked["instruction"], code, seed=seed, writer=VERSION, examples=asked["calls"])

    return Scripted(id=f"reversal-{id}", steps=steps, facets={"name": name, **(facets or {})})


def own_task(seed: int, index: int) -> Scripted:
    """The same for a function of ours, where no code is given: the solution of an exercise."""
    rng = rng_for(VERSION, seed, index, False)
    exercise = compose(draw_composition(rng, 2, False), rng)
    facets = {f"step {at}": step for at, step in enumerate(exercise.composition)}
    return reversal_task(f"{seed}-{index}", without_docstring(exercise.solution), seed=seed, facets=facets)


def _row(id: str, instruction: str, code: str, *, seed: int, **facts: Any) -> Row:
    turns = [{"role": "user", "content": instruction}, {"role": "assistant", "content": code}]
    lineage = meta(facts.pop("writer"), seed, facts.pop("index", 0), verified="regenerated", **facts)
    return {"id": f"reversal-{id}", "messages": turns, "source": SOURCE, "meta": lineage}


def simulated_pair(seed: int, index: int, *, vague: float = 0.2) -> tuple[Row | None, str]:
    """A function and an instruction by a simulated teacher, who with chance `vague` leaves out or mistakes a
    step.

    The instruction is read back into operations and both programs are run, as with a real teacher.
    """
    rng = rng_for(VERSION, seed, index, False)
    exercise = compose(draw_composition(rng, 2, False), rng)
    code = without_docstring(exercise.solution)
    said = [BY_NAME[step].says for step in exercise.composition]
    if rng.random() < vague:
        at = rng.randrange(len(said))
        if rng.random() < 0.5:
            del said[at]
        else:
            kind = BY_NAME[exercise.composition[at]]
            said[at] = pick(
                rng, [o.says for o in BY_NAME.values() if (o.takes, o.gives) == (kind.takes, kind.gives)]
            )
    instruction = f"Write a Python function {exercise.name}: {', then '.join(said)}."
    solution = _by_words(instruction, exercise.name, code.split("\n", 1)[0])
    calls = [f"{exercise.name}({value!r})" for value, _ in exercise.cases]
    problem = compared(code, solution, calls)
    if problem:
        return None, f"not the same again: {problem}"
    return _row(
        f"{seed}-{index}", instruction, code, seed=seed, index=index, writer=f"{VERSION}/simulated"
    ), ""


_BY_SAYING = {operation.says: operation for operation in BY_NAME.values()}


def _by_words(instruction: str, name: str, signature: str) -> str:
    """The program that an instruction of the simulated teacher asks for, from its words alone."""
    argument = signature[signature.index("(") + 1 : signature.index(")")]
    lines, variable = [], argument
    for words in instruction.split(": ", 1)[1].rstrip(".").split(", then "):
        lines.append(f"    result = {_BY_SAYING[words].line.format(v=variable)}")
        variable = "result"
    return "\n".join([signature, *lines, "    return result"])
