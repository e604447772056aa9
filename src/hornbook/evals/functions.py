"""Function completion by students that were trained on code alone: exercises here, and HumanEval and MBPP.

phi-1 section 3: greedy pass@1 in the sandbox. The student is given signature and docstring, up to the closing
quotes: the line break belongs to the body, as its tokens were trained.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.evals import exercises
from hornbook.evals.candidates import MAX_ROWS
from hornbook.lab.files import write_json
from hornbook.lab.statistics import wilson_interval
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lab.workers import side_by_side
from hornbook.lm.base import Sampling


def complete(folder: Path, prompts: Sequence[str], *, max_tokens: int) -> list[str]:
    """What a checkpoint writes after each prompt, greedily, up to its end of text."""
    from hornbook.infer.engine import Engine
    from hornbook.model.hf import load_checkpoint

    tokenizer = Tokenizer.load(folder)
    engine = Engine(load_checkpoint(folder), tokenizer, max_rows=MAX_ROWS)
    room = engine.config.max_position - max_tokens
    ids = [tokenizer.encode(prompt.rstrip("\n"))[-room:] for prompt in prompts]
    answers = engine.generate(ids, Sampling(temperature=0.0, max_tokens=max_tokens))
    return [found[0].text for found in answers]


@step(version="1", makes="table")
def examine_functions(
    ctx: StepContext,
    *,
    students: Mapping[str, Path],
    corpus: Artifact | Path,
    max_tokens: int = 96,
    workers: int = 1,
) -> dict[str, Any]:
    """pass@1 of checkpoints on exercises that none of them was trained on.

    Args:
        students: checkpoint folders by name.
        corpus: what `write_exercises` made, held out.

    Facts: by student `passed` (0 or 1 an exercise), `reasons` of failure, `samples`.
    """
    folder = corpus.path if isinstance(corpus, Artifact) else corpus
    jobs = {
        name: partial(_examine, ctx.folder / f"{name.replace('/', '-')}.json", student, folder, max_tokens)
        for name, student in students.items()
    }
    progress = ctx.progress(Corpus.open(folder).rows * len(students), "exercises")
    return dict(side_by_side(jobs, workers=workers, progress=progress))


def _examine(kept: Path, student: Path, corpus: Path, max_tokens: int, *, progress: Any) -> dict[str, Any]:
    """One student, in a process of its own; a finished one is read from `kept`."""
    import torch

    rows = list(Corpus.open(corpus).iter_rows(["meta"]))
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
    else:
        torch.set_num_threads(1)
        prompts = [json.loads(row["meta"])["prompt"] for row in rows]
        texts = complete(student, prompts, max_tokens=max_tokens)
        score = exercises.grade(texts, rows)
        found = {
            "passed": [int(ok) for ok in score.passed],
            "reasons": score.reasons,
            "samples": [
                {"prompt": prompt, "text": text, "passed": ok}
                for prompt, text, ok in list(zip(prompts, texts, score.passed))[:6]
            ],
        }
        write_json(kept, found)
    progress.advance(len(rows))
    return found


@step(version="1", makes="table")
def examine_benchmarks(
    ctx: StepContext, *, student: Path, files: Sequence[Path], max_tokens: int = 200
) -> dict[str, Any]:
    """HumanEval and MBPP files (JSON Lines, as published) on one checkpoint: a check of the plumbing.

    A small student passes nothing; so each reference solution goes through the same grader, which must pass
    it.

    Facts: by file name `passed`, `items`, `pass_at_1` with its interval, `references` (share that passes).
    """
    facts: dict[str, Any] = {}
    for file in files:
        tasks = [_task(row, file) for row in _lines(file)]
        texts = complete(student, [task["prompt"] for task in tasks], max_tokens=max_tokens)
        passed = run_tests(tasks, [program_of(*pair) for pair in zip(tasks, texts, strict=True)])
        references = run_tests(tasks, [task["reference"] for task in tasks])
        facts[file.name] = {
            "items": len(tasks),
            "passed": sum(passed),
            "pass_at_1": [fmean(passed), *wilson_interval(sum(passed), len(passed))],
            "references": fmean(references),
        }
    return facts


def program_of(task: Mapping[str, str], text: str) -> str:
    """The program a student's completion makes: what stands before the function, and the function."""
    opening = f"def {task['name']}("
    before, _, prompt = task["prompt"].rpartition(opening)
    return before + exercises.assemble(opening + prompt, text, task["name"])


def run_tests(tasks: Sequence[Mapping[str, str]], programs: Sequence[str]) -> list[bool]:
    """Whether each program passes its task's tests in the sandbox."""
    sources = [f"{program}\n\n{task['test']}\n" for task, program in zip(tasks, programs, strict=True)]
    return [good for good, _ in exercises.run_to_the_end(sources)]


def _lines(file: Path) -> list[dict[str, Any]]:
    import gzip

    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    rows = [json.loads(line) for line in data.decode("utf-8").split("\n") if line.strip()]
    if not rows:
        raise HornbookError(f"{file} holds no task.")
    return rows


def _task(row: Mapping[str, Any], file: Path) -> dict[str, str]:
    """HumanEval as it is; MBPP in its form: the text as docstring under the reference's signature."""
    if "entry_point" in row:
        name = str(row["entry_point"])
        return {
            "prompt": row["prompt"],
            "name": name,
            "test": f"{row['test']}\ncheck({name})",
            "reference": row["prompt"] + row["canonical_solution"],
        }
    if "test_list" in row and "code" in row:
        import ast

        code = str(row["code"]).replace("\r\n", "\n")
        called = str(row["test_list"][0])
        functions = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)]
        wanted = [f for f in functions if f"{f.name}(" in called] or functions[-1:]
        if not wanted:
            raise HornbookError(f"{file}: the reference of task {row.get('task_id')} defines no function.")
        arguments = ast.unparse(wanted[0].args)
        prompt = f'def {wanted[0].name}({arguments}):\n    """{row["text"]}\n\n    {called}\n    """\n'
        test = "\n".join([str(row.get("test_setup_code", "")), *map(str, row["test_list"])])
        return {"prompt": prompt, "name": wanted[0].name, "test": test, "reference": code}
    raise HornbookError(
        f"{file} is neither HumanEval (prompt, entry_point, test) nor MBPP (text, code, test_list): its rows "
        f"have {', '.join(sorted(row))}."
    )
