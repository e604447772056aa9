"""Steps are computed once, resumed inside themselves, never half there; runs keep what they did."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.lab.claim import Claim
from hornbook.lab.execute import StepFailed
from hornbook.lab.history import latest_claims, latest_run, load_artifact
from hornbook.lab.run import Run
from hornbook.lab.step import Estimate, StepContext, step

CALLS: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Settings:
    rows: int = 3
    name: str = "x"


@step(version="1", makes="table")
def write(ctx: StepContext, *, rows, text="a"):
    CALLS.append("write")
    (ctx.folder / "table.txt").write_text(text * rows)
    return {"rows": rows, "text": text}


@step(version="1", makes="table")
def double(ctx: StepContext, *, source, factor=2):
    CALLS.append("double")
    text = (source / "table.txt").read_text()
    (ctx.folder / "table.txt").write_text(text * factor)
    return {"rows": source.facts["rows"] * factor}


@pytest.fixture
def run(tmp_path):
    CALLS.clear()
    return Run(tmp_path, recipe="demo", scale="quick", settings=Settings(), quiet=True)


def again(run, **changes):
    return Run(run.home, recipe="demo", scale="quick", settings=Settings(), quiet=True, **changes)


def test_a_finished_step_is_not_computed_again_and_tells_the_same(run):
    first = run.step(write, rows=3)
    second = again(run).step(write, rows=3)
    assert CALLS == ["write"]
    assert first.path == second.path
    assert first.facts == second.facts == {"rows": 3, "text": "a"}
    assert (second / "table.txt").read_text() == "aaa"


def test_facts_are_the_same_object_kinds_before_and_after_caching(run):
    import numpy as np

    @step(name="kinds")
    def kinds(ctx):
        return {"pair": (1, 2), "mean": np.float32(0.5), "bad": float("nan"), "array": np.arange(2)}

    first, second = run.step(kinds), again(run).step(kinds)
    assert first.facts == second.facts == {"pair": [1, 2], "mean": 0.5, "bad": None, "array": [0, 1]}


def test_defaults_count_as_if_they_were_given(run):
    assert run.step(write, rows=3).key == run.step(write, rows=3, text="a").key


def test_inputs_version_and_artifacts_change_the_key(run):
    base = run.step(write, rows=3)
    other = run.step(write, rows=4)
    assert base.key != other.key
    assert run.step(double, source=base).key != run.step(double, source=other).key

    renewed = step(version="2", name="write")(write.function)
    assert run.step(renewed, rows=3).key != base.key


def test_key_is_the_same_in_another_process_and_for_another_order_of_keys():
    program = textwrap.dedent(
        """
        from hornbook.lab.step import step
        @step(name="s")
        def s(ctx, *, settings, names): return {}
        inputs = dict(settings={"b": 1.5, "a": [1, {"y": None, "x": True}]}, names={"u", "v", "w", "é"})
        print(s.key(s.input_forms(s.bind(inputs))))
        """
    )

    def key(seed):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True
        ).stdout

    @step(name="s")
    def s(ctx, *, settings, names):
        return {}

    inputs = {"names": {"é", "w", "v", "u"}, "settings": {"a": [1, {"x": True, "y": None}], "b": 1.5}}
    here = s.key(s.input_forms(s.bind(inputs)))
    assert key("1").strip() == key("2").strip() == here


def test_values_that_look_alike_have_different_keys():
    @step(name="s")
    def s(ctx, *, value):
        return {}

    values = [1, 1.0, True, "1", None, "None", [1], {"1": 1}, float("nan"), float("inf"), 0.1, 0.1 + 2**-56]
    keys = [s.key(s.input_forms({"value": value})) for value in values]
    assert len(set(keys)) == len(values)


def test_a_path_counts_by_content_wherever_it_lies(run, tmp_path):
    @step(name="read")
    def read(ctx, *, path):
        return {"text": path.read_text()}

    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("same")
    two.write_text("same")
    assert run.step(read, path=one).key == run.step(read, path=two).key
    two.write_text("other")
    assert run.step(read, path=two).facts == {"text": "other"}
    (tmp_path / "one.md").write_text("same")  # the suffix says how to read it
    assert run.step(read, path=tmp_path / "one.md").key != run.step(read, path=one).key


def test_a_folder_counts_by_its_files_names_and_content(tmp_path):
    @step(name="s")
    def s(ctx, *, value):
        return {}

    def key():
        return s.key(s.input_forms({"value": tmp_path / "folder"}))

    (tmp_path / "folder/sub").mkdir(parents=True)
    (tmp_path / "folder/a").write_text("1")
    before = key()
    (tmp_path / "folder/a").rename(tmp_path / "folder/b")
    renamed = key()
    (tmp_path / "folder/b").write_text("2")
    assert len({before, renamed, key()}) == 3


def test_a_path_below_an_artifact_counts_by_the_artifact_even_before_it_is_made(run):
    @step(name="lines")
    def lines(ctx, *, path):
        return {"text": path.read_text()}

    plan = again(run, planning=True)
    planned = plan.step(lines, path=plan.step(write, rows=2) / "table.txt")
    made = run.step(lines, path=run.step(write, rows=2) / "table.txt")
    assert planned.key == made.key


def test_nested_artifacts_settings_and_models_count(run):
    class Model:
        def __init__(self, identity):
            self.identity = identity

    @step(name="s")
    def s(ctx, *, value):
        return {}

    def key(value):
        return s.key(s.input_forms({"value": value}))

    a, b = run.step(write, rows=1), run.step(write, rows=2)
    assert key([{"source": a}]) != key([{"source": b}])
    assert key(Settings(rows=1)) != key(Settings(rows=2))
    assert key(Model("m1")) == key(Model("m1")) != key(Model("m2"))


def test_a_value_without_json_form_and_a_missing_path_are_named(run, tmp_path):
    with pytest.raises(TypeError, match=r"step 'write', input 'text'.*object"):
        run.step(write, rows=1, text=object())
    with pytest.raises(HornbookError, match=r"step 'write', input 'text'.*gone.txt"):
        run.step(write, rows=1, text=tmp_path / "gone.txt")
    with pytest.raises(TypeError, match=r"step 'write'.*rows"):
        run.step(write)
    with pytest.raises(TypeError, match="colour"):
        run.step(write, rows=1, colour="red")


def test_two_functions_must_not_share_a_name(run):
    @step(name="write")
    def other(ctx, *, rows):
        return {}

    run.step(write, rows=1)
    with pytest.raises(ValueError, match="two steps are named 'write'"):
        run.step(other, rows=1)


def test_a_step_that_raises_keeps_its_folder_and_resumes_inside_itself(run):
    seen = []

    @step(name="fragile")
    def fragile(ctx):
        seen.append(ctx.resuming)
        half = ctx.folder / "half.txt"
        if not half.exists():
            half.write_text("half")
            raise RuntimeError("the lamp fell")
        return {"found": half.read_text()}

    with pytest.raises(StepFailed, match=r"'fragile'.*the lamp fell.*fragile-\w{16}\.partial") as failure:
        run.step(fragile)
    assert isinstance(failure.value.__cause__, RuntimeError)
    partial = next(run.steps_folder.glob("fragile-*.partial"))
    assert "the lamp fell" in (partial / "error.txt").read_text()
    artifact = again(run).step(fragile)
    assert artifact.facts == {"found": "half"}
    assert seen == [False, True]
    assert not partial.exists()
    assert artifact.record["attempts"] == 2
    assert set(artifact.record["files"]) == {"half.txt"}


def test_facts_that_json_cannot_hold_are_a_failure_not_an_artifact(run):
    @step(name="bad")
    def bad(ctx):
        return {"thing": object()}

    with pytest.raises(StepFailed, match=r"'bad'.*thing"):
        run.step(bad)
    assert not [path for path in run.steps_folder.glob("bad-*") if path.suffix != ".partial"]


def test_a_full_disk_is_a_sentence(run):
    @step(name="big")
    def big(ctx):
        (ctx.folder / "kept.txt").write_text("kept")
        raise OSError(28, "No space left on device")

    with pytest.raises(HornbookError, match=r"Step 'big': The disk is full.*free there"):
        run.step(big)
    assert list(run.steps_folder.glob("big-*.partial/kept.txt"))


def test_ctrl_c_says_how_to_go_on(run, capsys):
    @step(name="long")
    def long(ctx):
        (ctx.folder / "part").write_text("1")
        raise KeyboardInterrupt

    loud = Run(run.home, recipe="demo", scale="quick", settings=None)
    with pytest.raises(KeyboardInterrupt):
        loud.step(long)
    said = capsys.readouterr().err
    assert "Stopped in step 'long'" in said
    assert "same command" in said
    assert list(run.steps_folder.glob("long-*.partial/part"))


@pytest.mark.parametrize("damage", ["torn", "missing", "shorter", "foreign"])
def test_a_damaged_artifact_is_named_kept_aside_and_made_again(run, capsys, damage):
    artifact = run.step(write, rows=3)
    record = artifact / "step.json"
    if damage == "torn":
        record.write_text(record.read_text()[:40])
    elif damage == "missing":
        record.unlink()
    elif damage == "shorter":
        (artifact / "table.txt").write_text("a")
    else:
        record.write_text(json.dumps({**json.loads(record.read_text()), "key": "0" * 64}))
    loud = Run(run.home, recipe="demo", scale="quick", settings=None)
    renewed = loud.step(write, rows=3)
    said = capsys.readouterr().err
    assert "damaged" in said
    assert artifact.path.name in said
    assert CALLS == ["write", "write"]
    assert (renewed / "table.txt").read_text() == "aaa"
    assert artifact.path.with_name(artifact.path.name + ".damaged").is_dir()


STEPS = """
import sys, time
from pathlib import Path
from hornbook.lab.run import Run
from hornbook.lab.step import step

@step(name="count")
def count(ctx, *, total):
    calls = Path(sys.argv[2])
    with open(calls, "a") as file:
        file.write("called\\n")
    done = ctx.folder / "done.txt"
    begun = len(done.read_text()) if done.exists() else 0
    for i in range(begun, total):
        with open(done, "a") as file:
            file.write("x")
        ctx.log(step=i, value=i * i)
        if len(sys.argv) > 3:
            time.sleep(float(sys.argv[3]))
    return {"begun": begun, "total": total}

run = Run(Path(sys.argv[1]), recipe="demo", scale="quick", settings=None)
artifact = run.step(count, total=20)
print(artifact.facts["begun"], artifact.facts["total"])
"""


def start(tmp_path, *words):
    command = [sys.executable, "-c", STEPS, str(tmp_path / "runs"), str(tmp_path / "calls"), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_kill_9_in_the_middle_then_the_same_command_goes_on(tmp_path):
    def done():
        return sum(len(path.read_text()) for path in tmp_path.glob("runs/steps/count-*.partial/done.txt"))

    process = start(tmp_path, "0.1")
    wait_until(lambda: done() >= 5)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    begun = done()
    assert 5 <= begun < 20
    assert not [path for path in tmp_path.glob("runs/steps/count-*") if path.suffix != ".partial"]

    process = start(tmp_path)
    out, err = process.communicate(timeout=60)
    assert out.split() == [str(begun), "20"], err
    assert "going on where it was stopped" in err
    (folder,) = tmp_path.glob("runs/steps/count-*")
    assert (folder / "done.txt").read_text() == "x" * 20
    values = [line["value"] for line in load_artifact(folder).metrics()]
    assert values == [i * i for i in range(20)]


def test_two_processes_at_one_step_make_it_once_and_say_who_holds_it(tmp_path):
    first = start(tmp_path, "0.1")
    wait_until(lambda: list(tmp_path.glob("runs/steps/count-*.partial/done.txt")))
    second = start(tmp_path, "0.1")
    out1, err1 = first.communicate(timeout=60)
    out2, err2 = second.communicate(timeout=60)
    assert out1 == out2 == "0 20\n", err1 + err2
    assert (tmp_path / "calls").read_text() == "called\n"
    assert f"process {first.pid}" in err2


RANKS = """
import os, sys, time
from pathlib import Path
from hornbook.lab.run import Run
from hornbook.lab.step import step

@step(name="alone")
def alone(ctx):
    (ctx.folder / f"rank{os.environ['RANK']}").write_text("x")
    time.sleep(0.3)
    return {"by": os.environ["RANK"]}

@step(name="together", every_rank=True)
def together(ctx, *, source):
    ctx.log(step=0, rank=int(os.environ["RANK"]))
    (ctx.folder / f"rank{os.environ['RANK']}").write_text("x")
    barrier = Path(sys.argv[1]) / "barrier"  # such a step ends with one; it outlives the step's folder
    barrier.mkdir(exist_ok=True)
    (barrier / os.environ["RANK"]).write_text("x")
    while len(list(barrier.iterdir())) < 3:
        time.sleep(0.02)
    return {"by": os.environ["RANK"]}

run = Run(Path(sys.argv[1]), recipe="demo", scale="quick", settings=None)
first = run.step(alone)
second = run.step(together, source=first)
print(first.facts["by"], second.facts["by"], len(second.metrics()), run.finish() is not None)
"""


def test_under_torchrun_rank_0_makes_and_the_others_follow(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANKS, str(tmp_path)],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (2, 1, 0)
    ]
    results = [process.communicate(timeout=60) for process in processes]
    assert [out for out, _ in results] == ["0 0 1 False\n", "0 0 1 False\n", "0 0 1 True\n"], results
    assert results[0][1] == results[1][1] == ""  # followers do not talk
    assert [p.name for p in tmp_path.glob("steps/alone-*/rank*")] == ["rank0"]
    assert len(list(tmp_path.glob("steps/together-*/rank*"))) == 3


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HornbookError, match=r"folder of runs .*file.*Choose another folder"):
        Run(tmp_path / "file", recipe="demo", scale="quick", settings=None)


def test_planning_does_nothing_and_ends_where_facts_are_needed(tmp_path):
    home = tmp_path / "runs"

    @step(name="costly", estimate=lambda size: Estimate(seconds=90, memory_bytes=size, disk_bytes=2**20))
    def costly(ctx, *, size):
        return {"rows": 5}

    @step(name="after", estimate=lambda source: Estimate(seconds=source.facts["rows"]))
    def after(ctx, *, source):
        return {}

    def recipe(run, settings):
        first = run.step(costly, size=settings.rows)
        run.step(after, source=first)
        run.report.section("x")
        run.claim(Claim(id="c", sentence="s"))
        if first.facts["rows"] > 2:
            run.step(after, source=run.step(write, rows=first.facts["rows"]))
        run.finish()

    planner = Run(home, recipe="demo", scale="quick", settings=Settings(rows=2**60), planning=True)
    plan = planner.plan(recipe)
    assert not home.exists()
    assert [s.name for s in plan.steps] == ["costly", "after"]
    assert plan.ended_at == "costly"
    assert plan.seconds == 90
    shown = plan.render()
    assert "will not fit in memory: it needs" in shown
    assert "1 step without an estimate" in shown

    recipe(Run(home, recipe="demo", scale="quick", settings=None, quiet=True), Settings())
    plan = Run(home, recipe="demo", scale="quick", settings=Settings(), planning=True).plan(recipe)
    assert plan.ended_at is None
    assert [(s.name, s.cached) for s in plan.steps] == [
        ("costly", True),
        ("after", True),
        ("write", True),
        ("after", True),
    ]
    assert plan.seconds == 0
    assert plan.problems() == []


def test_a_plan_tells_steps_of_one_name_apart(run):
    def recipe(run, settings):
        for rows in (1, 2):
            run.step(double, source=run.step(write, rows=rows), factor=7)

    names = [row[0] for row in again(run, planning=True).plan(recipe).rows()]
    assert names == ["write (rows 1)", "double", "write (rows 2)", "double"]


def test_a_plan_ends_where_a_recipe_opens_a_file_that_is_not_made_yet(run):
    def recipe(run, settings):
        (run.step(write, rows=1) / "table.txt").read_text()

    def broken(run, settings):
        run.step(write, rows=1)
        raise ZeroDivisionError("a mistake of the recipe")

    assert again(run, planning=True).plan(recipe).ended_at == "write"
    with pytest.raises(ZeroDivisionError):
        again(run, planning=True).plan(broken)


def test_finish_keeps_settings_steps_outputs_claims_and_metrics(run):
    @step(name="train")
    def train(ctx, *, source):
        for i in range(3):
            ctx.log(step=i, loss=3.0 - i)
        return {}

    first = run.step(write, rows=3)
    trained = run.step(train, source=first)
    run.output(model=trained / "checkpoint")
    run.claim(Claim(id="c", sentence="It holds.", measured=1.5, interval=(1.0, 2.0), holds=True))
    run.report.title = "A demo"
    report = run.finish()
    assert report.read_text().startswith("<!doctype html>")
    data = json.loads((run.folder / "run.json").read_text())
    assert data["settings"] == {"rows": 3, "name": "x"}
    assert [(s["name"], s["cached"]) for s in data["steps"]] == [("write", False), ("train", False)]
    assert data["steps"][1]["peak_memory_bytes"] > 2**20
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [3.0, 2.0, 1.0]

    later = again(run)
    later.step(train, source=later.step(write, rows=3))
    later.finish()
    record = latest_run(run.home)
    assert [s["cached"] for s in record.data["steps"]] == [True, True]
    assert len((run.folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert record.artifacts()["train"].path == trained.path


def test_outputs_move_with_the_folder(run, tmp_path):
    run.output(model=run.step(write, rows=1))
    run.finish()
    moved = run.home.with_name("moved")
    run.home.rename(moved)
    assert (latest_run(moved, "demo").outputs["model"] / "table.txt").read_text() == "a"


def test_claims_last_measured_prefer_judged_ones(tmp_path):
    def measure(recipe, scale, value):
        run = Run(tmp_path, recipe=recipe, scale=scale, settings=None, quiet=True)
        run.claim(Claim(id="c", sentence="s", measured=value, holds=True))
        run.finish()

    measure("phi", "quick", 1.0)
    measure("phi", "smoke", 2.0)
    measure("other", "smoke", 3.0)
    claims = latest_claims(tmp_path)
    assert [(name, c[0].measured, c[0].verdict) for name, c in sorted(claims.items())] == [
        ("other", 3.0, "not judged at this scale"),
        ("phi", 1.0, "holds"),
    ]
    assert latest_run(tmp_path, "phi").scale == "smoke"
    assert latest_run(tmp_path, "none") is None
    assert latest_claims(tmp_path / "nowhere") == {}


def test_a_run_broken_off_does_not_hide_the_finished_one(run):
    run.step(write, rows=1)
    run.finish()
    again(run).step(write, rows=2)  # never finished
    assert len(latest_run(run.home).data["steps"]) == 1


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden"])
def test_names_that_are_no_folder_are_refused(tmp_path, name):
    with pytest.raises(HornbookError, match="recipe name"):
        Run(tmp_path, recipe=name, scale="quick", settings=None)


MEASURE = """
import sys
from pathlib import Path
from hornbook.lab.run import Run
from hornbook.lab.step import step

@step(name="big")
def big(ctx):
    block = bytearray(300 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    return {"size": len(block)}

@step(name="small")
def small(ctx):
    return {}

run = Run(Path(sys.argv[1]), recipe="memory", scale="quick", settings=None, quiet=True)
print(*(run.step(step).record["peak_memory_bytes"] for step in (big, small)))
"""


def test_peak_memory_is_that_of_the_step_not_of_the_process(tmp_path):
    # In a process of its own: after training, this one's C library keeps what is freed.
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    large, little = (int(word) for word in out.split())
    assert large > 300 * 2**20
    if Path("/proc/self/clear_refs").exists():
        assert little < large - 200 * 2**20


def test_memory_of_child_processes_counts(run):
    if not Path("/proc/self/task").exists():
        pytest.skip("child memory is sampled on Linux only")

    @step(name="parent")
    def parent(ctx):
        code = "b = bytearray(200 * 2**20); b[::4096] = b'x' * len(b[::4096]); import time; time.sleep(1.0)"
        subprocess.run([sys.executable, "-c", code], check=True)
        return {}

    assert run.step(parent).record["peak_memory_bytes"] > 200 * 2**20
