"""Each bad program ends in a named outcome, and the host goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from hornbook.errors import HornbookError
from hornbook.sandbox import Job, Limits, Sandbox, backends, run_program, self_test
from hornbook.sandbox.backends import choose_backend
from hornbook.sandbox.limits import Outcome, Status

SHORT = Limits(cpu_seconds=0.3, wall_seconds=1.5, memory_bytes=160 << 20)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1) as made:
        yield made


def facts(outcome):
    return (outcome.status, outcome.value, outcome.value_kind, outcome.stdout, outcome.stderr, outcome.cut)


def test_a_function_is_called_and_its_value_comes_back(sandbox):
    source = "def solution(a, b):\n    print('hello')\n    return [a + b, 'x', None, {'k': 1.5}]"
    outcome = sandbox.run(Job(source=source, entry="solution", args=(2, 3)))
    assert (outcome.status, outcome.value, outcome.value_kind) == ("ok", [5, "x", None, {"k": 1.5}], "json")
    assert outcome.stdout == "hello\n"


def test_stdin_and_stdout(sandbox):
    outcome = sandbox.run(Job(source="print(input()[::-1]); print('é')", stdin="abc\nrest"))
    assert facts(outcome) == ("ok", None, "none", "cba\né\n", "", False)


@pytest.mark.parametrize(
    ("expression", "kind", "value"),
    [
        ("(1, 2)", "json", [1, 2]),
        ("10**30", "json", 10**30),
        ("True", "json", True),
        ("{1}", "repr", "{1}"),
        ("{1: 2}", "repr", "{1: 2}"),  # JSON would turn the key into text
        ("1j", "repr", "1j"),
        ("None", "none", None),
    ],
)
def test_values_are_faithful_or_say_they_are_not(sandbox, expression, kind, value):
    outcome = sandbox.run(Job(source=f"def f(): return {expression}", entry="f"))
    assert (outcome.status, outcome.value_kind, outcome.value) == ("ok", kind, value)


BAD = {
    "infinite loop": ("while True: pass", "cpu_limit"),
    "C-level loop": ("x = 9 ** 9 ** 9", "cpu_limit"),
    "sleep": ("import time\ntime.sleep(1000)", "wall_limit"),
    "memory": ("x = [0] * 10**10", "memory"),
    "memory by growth": ("x = []\nwhile True: x.append(bytearray(1 << 24))", "memory"),
    "deep recursion": ("def f(n): return f(n + 1)\nf(0)", "error"),
    "no stack limit": ("import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1) + 1\nf(0)", None),
    "sys.exit": ("import sys\nsys.exit(0)", "error"),
    "os._exit": ("import os\nos._exit(0)", "error"),
    "socket": ("import socket\nsocket.socket()", "error"),
    "fork": ("import os\nos.fork()", "error"),
    "fork bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "cpu_limit"),
    "subprocess": ("import subprocess\nsubprocess.run(['/bin/true'])", "error"),
    "write elsewhere": ("open('/tmp/hornbook-escape', 'w').write('x')", "error"),
    "read passwords": ("open('/etc/passwd').read()", "error"),
    "kill the keeper": ("import os\nos.kill(os.getppid(), 9)", "error"),
    "kill everybody": ("import os\nos.kill(-1, 9)", "error"),
    "raise its limits": ("import resource as r\nr.setrlimit(r.RLIMIT_CPU, (-1, -1))", "error"),
    "fill the disk": ("i = 0\nwhile [i := i + 1]: open(f'{i}', 'wb').write(bytes(1 << 20))", "refused"),
    "segmentation fault": ("import ctypes\nctypes.string_at(0)", "error"),
    "hostile exception": ("class E(Exception):\n    def __str__(self): raise self\nraise E", "error"),
    "endless exception": ("class E(Exception):\n def __str__(self):\n  while 1: pass\nraise E", "cpu_limit"),
    "syntax": ("def f(:", "error"),
    "nested too deeply": ("x = " + "(" * 5000 + ")" * 5000, None),
    "null byte": ("x = 1\x00", "error"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_program(sandbox, name):
    source, status = BAD[name]
    job = Job(source=source + "\ndef solution(): return 1", entry="solution")
    # Touching memory costs CPU time: enough of it, or the wrong limit is met first.
    outcome = sandbox.run(job, limits=replace(SHORT, cpu_seconds=10) if "growth" in name else SHORT)
    assert outcome.status == status or (status is None and outcome.status != "ok"), outcome
    assert outcome.value is None
    assert sandbox.run(Job(source="def f(): return 7", entry="f")).value == 7
    assert not Path("/tmp/hornbook-escape").exists()


def test_an_output_flood_is_cut_and_the_program_goes_on(sandbox):
    source = "def f():\n    for i in range(10**5): print('x' * 99)\n    return 'done'"
    outcome = sandbox.run(Job(source=source, entry="f"))
    assert (outcome.status, outcome.value, outcome.cut) == ("ok", "done", True)
    assert len(outcome.stdout) == Limits().output_bytes
    raw = sandbox.run(Job(source="import os\nwhile True: os.write(1, b'x' * 65536)"), limits=SHORT)
    assert (raw.status, raw.cut) == ("error", True)


def test_printing_a_result_is_not_returning_one(sandbox):
    forged = "import os, sys\nfor fd in range(3, 20):\n    try: os.write(fd, b'ok json 42 ok json 42')\n"
    forged += "    except OSError: pass\nprint('0 ok json 42')\nos._exit(0)"
    outcome = sandbox.run(Job(source=forged, entry="f"))
    assert (outcome.status, outcome.value) == ("error", None)


def test_a_program_leaves_nothing_for_the_next(sandbox):
    leave = "import os, builtins, math\nos.makedirs('a/b/c')\nopen('a/b/c/x', 'w').write('1')\n"
    leave += "os.chmod('a/b', 0)\nbuiltins.len = lambda x: 42\nmath.pi = 3\nprint(os.listdir('.'))"
    assert sandbox.run(Job(source=leave)).stdout == "['a']\n"
    check = "import os, math\nprint(os.listdir('.'), len(''), math.pi > 3)"
    assert sandbox.run(Job(source=check)).stdout == "[] 0 True\n"


def test_the_same_program_has_the_same_outcome(sandbox):
    source = "import random\nprint(random.random(), {str(i) for i in range(20)})"
    assert sandbox.run(Job(source=source)).stdout == sandbox.run(Job(source=source)).stdout
    with Sandbox(workers=1) as other:
        assert other.run(Job(source=source)).stdout == sandbox.run(Job(source=source)).stdout


def test_many_keep_their_order_and_do_not_depend_on_sharing(sandbox):
    jobs = [Job(source=f"def f(a): return {i} + a", entry="f", args=(i,)) for i in range(40)]
    names = ["infinite loop", "memory", "deep recursion", "os._exit", "syntax", "nested too deeply"]
    for i, name in enumerate(names):
        jobs[7 + 2 * i] = Job(source=BAD[name][0])
    jobs[3] = Job(source="print('é' * 40000)\nx = 1 / 0")
    shared = sandbox.run_many(jobs, limits=SHORT)
    alone = sandbox.run_many(jobs, limits=SHORT, share=False)
    assert [facts(o) for o in shared] == [facts(o) for o in alone]
    assert [o.value for o in shared][20:] == [2 * i for i in range(20, 40)]
    assert shared[3].stderr.endswith("ZeroDivisionError: division by zero\n")
    assert shared[3].cut


def test_a_limit_is_cpu_time_and_does_not_depend_on_load(sandbox):
    # The machine is kept busy; a program that needs 0.2 s of CPU stays inside a limit of 0.6.
    spin = "import time\nend = time.time() + 20\nwhile time.time() < end: pass"
    hogs = [subprocess.Popen([sys.executable, "-I", "-S", "-c", spin]) for _ in range(4)]
    try:
        work = "import time\nwhile time.process_time() < 0.2: pass\nprint('done')"
        outcome = sandbox.run(Job(source=work), limits=Limits(cpu_seconds=0.6, wall_seconds=20))
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert (outcome.status, outcome.stdout) == ("ok", "done\n")
    assert 0.15 < outcome.cpu_seconds < 0.6


def test_a_dead_worker_is_replaced_and_its_programs_run(sandbox):
    jobs = [Job(source=f"import time\ntime.sleep(0.02)\ndef f(): return {i}", entry="f") for i in range(30)]
    with Sandbox(workers=1) as doomed:
        doomed.run(jobs[0])
        [worker] = doomed._idle

        def kill():
            time.sleep(0.2)
            worker.process.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        outcomes = doomed.run_many(jobs)
        thread.join()
    assert [o.value for o in outcomes] == list(range(30))


def test_closing_leaves_no_process_and_no_folder():
    made = Sandbox(workers=1)
    made.run(Job(source="1"))
    [worker] = made._idle
    folder = worker.folder
    raised = []

    def endless():
        try:
            made.run(Job(source="while True: pass"), limits=Limits(cpu_seconds=60))
        except HornbookError as error:
            raised.append(error)

    busy = threading.Thread(target=endless)
    busy.start()
    time.sleep(0.3)
    made.close()
    busy.join(20)
    assert "closed while" in str(raised[0])
    assert not os.path.exists(folder)
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert folder not in processes


def test_the_death_of_the_host_ends_the_programs(tmp_path):
    code = "from hornbook.sandbox import *\ns = Sandbox(workers=1)\ns.run(Job(source='1'))\n"
    code += "print(s._idle[0].folder, flush=True)\n"
    code += "s.run(Job(source='import time\\ntime.sleep(1000)'), limits=Limits(wall_seconds=500))"
    host = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    folder = host.stdout.readline().strip()
    time.sleep(0.3)
    os.kill(host.pid, signal.SIGKILL)
    host.wait()
    host.stdout.close()
    for _ in range(50):
        if folder not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a program outlived its host")
    Path(folder).rmdir()


@pytest.mark.parametrize("backend", ["sandlock", "bubblewrap"])
def test_seven_attacks_work_outside_and_fail_inside(backend):
    why = {"sandlock": backends._why_not_sandlock, "bubblewrap": backends._why_not_bubblewrap}[backend]()
    if why is not None:
        pytest.skip(why)
    result = self_test(sandbox=Sandbox(workers=1, backend=backend))
    assert [a.name for a in result.attacks if not a.open_outside] == []
    assert [a.name for a in result.attacks if not a.blocked] == []
    assert result.computes
    assert result.passed


def test_the_self_test_sees_an_open_sandbox():
    result = self_test(sandbox=Sandbox(workers=1, backend="unsafe"))
    assert not result.passed
    assert not result.attacks[0].blocked  # nothing guards files there
    assert result.computes


def test_without_a_sandbox_nothing_runs_unless_the_user_says_so(monkeypatch):
    monkeypatch.setattr(backends, "_found", lambda: (None, ("no kernel support", "no bwrap")))
    monkeypatch.delenv("HORNBOOK_UNSAFE_EXECUTION", raising=False)
    with pytest.raises(HornbookError, match="no bwrap.*HORNBOOK_UNSAFE_EXECUTION=1"):  # noqa: RUF043
        choose_backend()
    monkeypatch.setenv("HORNBOOK_UNSAFE_EXECUTION", "1")
    assert choose_backend() == "unsafe"


def test_the_shared_sandbox_and_wrong_limits():
    assert run_program("def f(x): return x + 1", entry="f", args=[1]).value == 2
    with pytest.raises(HornbookError, match="cpu_seconds is -1"):
        Limits(cpu_seconds=-1)
    with pytest.raises(HornbookError, match="workers is 0"):
        Sandbox(workers=0)


def test_what_went_wrong_is_one_line() -> None:
    assert Outcome(status="ok").sentence == ""
    assert Outcome(status="cpu_limit").sentence.startswith("it ran until its processor time was used up")
    assert Outcome(status="error", stderr="Traceback\nValueError: no\n").sentence == "ValueError: no"
    assert all(Outcome(status=status).sentence for status in get_args(Status) if status != "ok")
