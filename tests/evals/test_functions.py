"""HumanEval and MBPP as they are published: prompts, assembly and tests, on tasks of our own."""

import json
from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.evals.functions import _lines, _task, program_of, run_tests

HUMAN = {
    "task_id": "Own/0",
    "prompt": "from typing import List\n\nimport math\n\n\ndef roots(values: List[float]) -> List[float]:\n"
    '    """The square root of each.\n    >>> roots([4.0])\n    [2.0]\n    """\n',
    "entry_point": "roots",
    "canonical_solution": "    return [math.sqrt(v) for v in values]\n",
    "test": "\n\ndef check(candidate):\n    assert candidate([4.0, 9.0]) == [2.0, 3.0]\n",
}
MBPP = {
    "text": "Write a function to count the capitals of a word.",
    "code": "import string\r\ndef count_up(word):\r\n  return sum(c in string.ascii_uppercase for c in word)",
    "task_id": 1,
    "test_setup_code": "",
    "test_list": ['assert count_up("aBC") == 2', 'assert count_up("") == 0'],
}
FILE = Path("tasks.jsonl")


def test_reference_solutions_pass_and_wrong_ones_do_not() -> None:
    tasks = [_task(HUMAN, FILE), _task(MBPP, FILE)]
    assert run_tests(tasks, [task["reference"] for task in tasks]) == [True, True]
    wrong = [program_of(tasks[0], "\n    return values"), "def count_up(word):\n    return 0"]
    assert run_tests(tasks, wrong) == [False, False]


def test_a_completion_keeps_what_stands_before_its_function() -> None:
    task = _task(HUMAN, FILE)
    completion = "\n    return [math.sqrt(v) for v in values]\n\nprint('more')\n"
    program = program_of(task, completion)
    assert program.startswith("from typing import List")
    assert "more" not in program
    assert run_tests([task], [program]) == [True]
    assert 'def count_up(word):\n    """Write' in _task(MBPP, FILE)["prompt"]


def test_files_that_hold_something_else_are_named(tmp_path: Path) -> None:
    with pytest.raises(HornbookError, match=r"tasks.jsonl is neither HumanEval .* rows have question"):
        _task({"question": "?"}, FILE)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(HornbookError, match="holds no task"):
        _lines(empty)
    (tmp_path / "one.jsonl").write_text(json.dumps(MBPP) + "\n")
    assert len(_lines(tmp_path / "one.jsonl")) == 1
