"""What goes wrong is said in one sentence: what, where, what to do. Nothing that was finished is lost."""

import errno
import functools
import json
import os
import signal
import subprocess
import sys

import pytest
from command_line import MICRO, call, write_notes
from mock_openai import MockOpenAI

from hornbook.data.corpus import Corpus
from hornbook.lm import endpoint
from hornbook.lm.endpoint_settings import EndpointSettings

STORIES = """
from dataclasses import dataclass
from hornbook.synth.steps import write_stories

TITLE, PAPER = "Stories", "a test"

@dataclass(frozen=True, kw_only=True)
class Settings:
    teacher: str = "simulated"
    rows: int = 12

SCALES = {"smoke": Settings()}

def recipe(run, settings):
    run.step(write_stories, rows=5)  # done before the teacher is asked
    run.output(stories=run.step(write_stories, rows=settings.rows, seed=1, teacher=settings.teacher))
"""
STORY = (
    "Tim had a red ball. He liked to play with the ball every day. One day Tim saw a small dog. "
    "The dog wanted to play too. They played all day and were happy."
)


@pytest.fixture
def mine(tmp_path):
    """(recipe file, home) of the recipe that `hornbook new` writes."""
    assert call("new", tmp_path / "mine.py")[0] == 0
    return tmp_path / "mine.py", tmp_path / "runs"


@pytest.fixture
def taught(tmp_path, monkeypatch):
    """Runs the recipe of stories with a teacher, patient for half a second."""
    hurried = functools.partial(
        EndpointSettings, timeout_seconds=0.5, deadline_seconds=2.0, max_attempts=2, backoff_seconds=0.0
    )
    monkeypatch.setattr(endpoint, "EndpointSettings", hurried)
    (tmp_path / "stories.py").write_text(STORIES)

    def run(url, *arguments):
        teacher = f"{url}#teacher" if url else "simulated"
        home = tmp_path / "runs"
        return call("run", tmp_path / "stories.py", "--scale", "smoke", "--teacher", teacher, "--home", home, *arguments)  # fmt: skip # noqa: E501

    run.home = tmp_path / "runs"
    return run


def fails(result, *expected):
    """The command failed with one sentence that holds the expected words; returns it."""
    code, _, said = result
    last = said.strip().splitlines()[-1]
    assert code == 1, said
    assert last.startswith("hornbook: ")
    assert "Traceback" not in said
    for words in expected:
        assert words in last
    return last


def finished(home):
    """The names of the finished steps below a home."""
    folders = [path.parent.name for path in (home / "steps").glob("*/step.json")]
    return sorted(name.rpartition("-")[0] for name in folders if "." not in name)


# ------------------------------------------------------------------------- files


def test_a_missing_file(mine, tmp_path):
    recipe, home = mine
    fails(call("run", recipe, *MICRO, "--source", tmp_path / "nowhere", "--home", home), "nowhere")


def test_an_empty_corpus(mine, tmp_path):
    recipe, home = mine
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "picture.png").write_bytes(b"\x89PNG\r\n")
    fails(call("run", recipe, *MICRO, "--source", tmp_path / "empty", "--home", home), "gather", "empty")


def test_a_single_document_cannot_be_split_and_says_so(mine, tmp_path):
    recipe, home = mine
    (tmp_path / "one.txt").write_text("A hornbook was a child's first book. " * 200)
    last = fails(call("run", recipe, *MICRO, "--source", tmp_path / "one.txt", "--home", home), "1 row")
    assert "several files" in last
    assert finished(home) == ["gather"]


def test_a_damaged_shard_is_named_and_the_step_before_it_stays(mine, tmp_path):
    recipe, home = mine
    notes = write_notes(tmp_path / "notes")
    flags = [*MICRO, "--source", notes, "--home", home]
    # Stop behind the first step, then damage what it made without changing its size.
    fails(call("run", recipe, *flags, "--vocab-size", "3"), "vocab_size")
    [shard] = (home / "steps").glob("gather-*/*.parquet")
    content = bytearray(shard.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    shard.write_bytes(content)
    code, _, _ = call("data", "ls", shard.parent)
    assert code == 0
    fails(call("data", "stats", shard.parent), shard.name)
    assert "gather" in finished(home)


def test_a_truncated_artifact_is_made_again_and_kept_aside(micro, tmp_path):
    import shutil

    home, recipe, notes = micro
    other = tmp_path / "runs"
    shutil.copytree(home, other)
    [shard] = (other / "steps").glob("gather-*/*.parquet")
    shard.write_bytes(shard.read_bytes()[:-10])
    code, _, said = call("run", recipe, *MICRO, "--source", notes, "--home", other)
    assert code == 0, said
    assert "damaged" in said
    assert list((other / "steps").glob("gather-*.damaged"))


# ---------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--vocab-size", "3"], ["vocab_size", "3"]),
        (["--layers", "0"], ["layers", "0"]),
        (["--hidden-size", "-64"], ["hidden_size", "-64"]),
        (["--rows", "0"], ["rows", "0"]),
        (["--tokens", "0"], ["tokens", "0"]),
        (["--limit-bytes", "0"], ["limit_bytes", "0"]),
        (["--train.optimizer.learning-rate", "-1"], ["learning_rate", "-1"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(mine, tmp_path, flags, expected):
    recipe, home = mine
    notes = write_notes(tmp_path / "notes")
    fails(call("run", recipe, *MICRO, "--source", notes, "--home", home, *flags), *expected)


def test_a_setting_that_does_not_exist(mine):
    code, _, said = call("run", mine[0], "--scale", "smoke", "--voacb-size", "300")
    assert code not in (0, None)
    assert "voacb-size" in said
    assert "Traceback" not in said


def test_a_scale_that_does_not_exist(mine):
    fails(call("run", mine[0], "--scale", "enormous"), "enormous", "smoke, quick")


@pytest.mark.parametrize("command", [["chat", "--once", "hello"], ["eval"]])
def test_an_unknown_model_name(tmp_path, command):
    fails(call(*command, "gpt-17", "--home", tmp_path), "gpt-17", "Accepted is")


def test_a_folder_that_is_no_model(tmp_path):
    fails(call("chat", tmp_path, "--once", "hello"), "config.json")


def test_a_model_file_that_is_cut_short(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    fails(call("chat", tmp_path / "model.gguf", "--once", "hello"), "model.gguf")


# ----------------------------------------------------------------------- teachers


def test_a_teacher_that_times_out(taught):
    with MockOpenAI(hang=1.0, only_first=False) as server:
        fails(taught(server.url), "failed on", "timeout", server.url)
    assert finished(taught.home) == ["write-stories"]


def test_a_teacher_that_is_not_there(taught):
    with MockOpenAI() as server:
        url = server.url
    fails(taught(url), url)


def test_a_teacher_that_refuses(taught):
    with MockOpenAI(reply="", finish="content_filter") as server:
        fails(taught(server.url), "none of 12 rows passed", "refusal")
    assert finished(taught.home) == ["write-stories"]


def test_a_teacher_that_writes_nonsense(taught):
    with MockOpenAI(reply="I would rather not say.") as server:
        fails(taught(server.url), "none of 12 rows passed the checks")


def test_a_teacher_that_sends_malformed_json(taught):
    with MockOpenAI(garbage=1.0, only_first=False) as server:
        fails(taught(server.url), "none of 12 rows passed", "malformed", server.url)


def test_a_wrong_key(taught):
    with MockOpenAI(status=401) as server:
        last = fails(taught(server.url), server.url)
    assert "key" in last.lower()


def test_a_teacher_that_dies_half_way_is_not_paid_twice(taught, monkeypatch):
    from hornbook.synth import scripts

    monkeypatch.setattr(
        endpoint, "EndpointSettings", functools.partial(endpoint.EndpointSettings, max_concurrency=2)
    )
    look, paid, judged = scripts._read_safely, [], []
    with MockOpenAI(reply=STORY) as server:
        bodies = server.server.bodies

        def pull_the_plug(text, read):
            judged.append(text)
            if len(judged) == 4:
                paid.extend(bodies)
                server.set(status=503)
            return look(text, read)

        with monkeypatch.context() as patched:
            patched.setattr(scripts, "_read_safely", pull_the_plug)
            fails(taught(server.url), "failed on", "503", "the same command")
        assert finished(taught.home) == ["write-stories"]
        assert 4 <= len(paid) < 12
        before = len(bodies)
        server.set(status=200)
        taught(server.url)  # whatever the checks say of these texts
        assert len(bodies) > before
        assert not [body for body in bodies[before:] if body in paid]


# ----------------------------------------------------------------- disk and memory


def test_a_full_disk(mine, tmp_path, monkeypatch):
    recipe, home = mine
    notes = write_notes(tmp_path / "notes")
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        fails(call("run", recipe, *MICRO, "--source", notes, "--home", home), "The disk is full", str(home))
    code, _, said = call("run", recipe, *MICRO, "--source", notes, "--home", home)
    assert code == 0, said
    for folder in (home / "steps").glob("gather-*"):
        assert Corpus.open(folder).rows == 8


GREEDY = """
from dataclasses import dataclass
from hornbook.lab.step import step

TITLE, PAPER = "Greedy", "a test"

@dataclass(frozen=True, kw_only=True)
class Settings:
    library: str = "torch"

SCALES = {"smoke": Settings()}

@step(name="modest")
def modest(ctx):
    return {}

@step(name="greedy")
def greedy(ctx, *, library):
    if library == "torch":
        import torch
        torch.empty(2**46)
    elif library == "numpy":
        import numpy
        numpy.empty(2**46)
    else:
        raise MemoryError
    return {}

def recipe(run, settings):
    run.step(modest)
    run.step(greedy, library=settings.library)
"""


@pytest.mark.parametrize("library", ["torch", "numpy", "python"])
def test_no_memory(tmp_path, library):
    recipe, home = tmp_path / "greedy.py", tmp_path / "runs"
    recipe.write_text(GREEDY)
    command = ("run", recipe, "--scale", "smoke", "--home", home, "--library", library)
    fails(call(*command), "'greedy' ran out of memory", "smaller")
    assert finished(home) == ["modest"]


# ------------------------------------------------------------------ stop and go on


STOP = """
import os, signal, sys
from hornbook.train import checkpoint

how, save = int(sys.argv[1]), checkpoint.save

def save_and_stop(folder, step, snapshot):
    path = save(folder, step, snapshot)
    if how and step == 10:
        os.kill(os.getpid(), how)
    return path

checkpoint.save = save_and_stop
from hornbook.cli import main
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Runs the micro recipe in a process of its own, stopped by a signal behind its tenth step, or not."""
    folder = tmp_path_factory.mktemp("long")
    recipe, notes = folder / "mine.py", write_notes(folder / "notes")
    assert call("new", recipe)[0] == 0
    flags = [*MICRO, "--source", str(notes), "--tokens", "6000", "--train.checkpoint-steps", "10"]
    flags += ["--train.processes", "1"]

    def run(home, how=0):
        command = [sys.executable, "-c", STOP, str(int(how)), "run", str(recipe), *flags, "--home", str(home)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, timeout=150, env=environment)

    done = run(folder / "straight")
    assert done.returncode == 0, done.stderr
    [model] = folder.glob("straight/steps/pretrain-*/model/model.safetensors")
    return run, model.read_bytes()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_training_and_started_again_nothing_is_done_twice(long, tmp_path, how):
    """The resumed model equals, byte for byte, the one that was never stopped."""
    run, straight = long
    stopped = run(tmp_path, how)
    if how == signal.SIGINT:
        assert stopped.returncode == 130
        assert "same command" in stopped.stderr
        assert "Traceback" not in stopped.stderr
    else:
        assert stopped.returncode == -how
    assert "tokenize" in finished(tmp_path)
    assert "pretrain" not in finished(tmp_path)
    again = run(tmp_path)
    assert again.returncode == 0, again.stderr
    for name in ("gather", "split", "train-tokenizer", "tokenize"):
        assert f"{name}: done before" in again.stderr
    assert "pretrain: going on where it was stopped" in again.stderr
    [model] = tmp_path.glob("steps/pretrain-*/model/model.safetensors")
    assert model.read_bytes() == straight
    [metrics] = tmp_path.glob("steps/pretrain-*/metrics.jsonl")
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines() if "loss" in line]
    assert len(steps) == len(set(steps))
