"""Each bad program ends in a named outcome, and the host goes on."""

import pytest

from hornbook.sandbox import Job, Limits, Outcome, Sandbox

SHORT = Limits(cpu_seconds=0.3, wall_seconds=1.5)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1) as made:
        yield made


def test_a_function_is_called_and_its_value_comes_back(sandbox):
    source = "def solution(a, b):\n    print('hello')\n    return [a + b, 'x', None, {'k': 1.5}]"
    outcome = sandbox.run(Job(source=source, entry="solution", args=(2, 3)))
    assert (outcome.status, outcome.value, outcome.value_kind) == ("ok", [5, "x", None, {"k": 1.5}], "json")
    assert outcome.stdout == "hello\n"


BAD = {
    "infinite loop": ("while True: pass", "cpu_limit"),
    "C-level loop": ("x = 9 ** 9 ** 9", "cpu_limit"),
    "sleep": ("import time\ntime.sleep(1000)", "wall_limit"),
    "memory": ("x = [0] * 10**10", "memory"),
    "deep recursion": ("def f(n): return f(n + 1)\nf(0)", "error"),
    "sys.exit": ("import sys\nsys.exit(0)", "error"),
    "os._exit": ("import os\nos._exit(0)", "error"),
    "socket": ("import socket\nsocket.socket()", "error"),
    "fork": ("import os\nos.fork()", "error"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_program(sandbox, name):
    source, status = BAD[name]
    outcome = sandbox.run(Job(source=source + "\ndef solution(): return 1", entry="solution"), limits=SHORT)
    assert outcome.status == status, outcome
    assert outcome.value is None
    assert sandbox.run(Job(source="def f(): return 7", entry="f")).value == 7


def test_many_keep_their_order_and_do_not_depend_on_sharing(sandbox):
    jobs = [Job(source=f"def f(a): return {i} + a", entry="f", args=(i,)) for i in range(40)]
    jobs[7] = Job(source="while True: pass")
    shared = sandbox.run_many(jobs, limits=SHORT)
    alone = sandbox.run_many(jobs, limits=SHORT, share=False)
    facts = [(o.status, o.value, o.stdout, o.stderr) for o in shared]
    assert facts == [(o.status, o.value, o.stdout, o.stderr) for o in alone]
    assert [o.value for o in shared] == [None if i == 7 else 2 * i for i in range(40)]
    assert isinstance(shared[0], Outcome)
