"""`hornbook doctor`: the facts it prints are this machine's, and what does not work is said and counted."""

import importlib.metadata
import json
import os
import shutil
import sys

import pytest

from hornbook.cli import main
from hornbook.errors import HornbookError
from hornbook.sandbox import backends
from hornbook.sandbox.self_test import Attack, SelfTest


def doctor(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["doctor", *arguments])
    return stop.value.code, capsys.readouterr().out


def attack(name, *, open_outside=True, blocked=True):
    return Attack(name, open_outside, blocked, "said no")


def test_the_facts_are_those_of_this_machine(capsys, tmp_path):
    code, said = doctor(capsys, "--quick", "--json", "--home", str(tmp_path / "not there yet"))
    found = json.loads(said)
    assert code in (0, 1)
    assert 1 <= found["machine"]["cores"] <= (os.cpu_count() or 1)
    assert found["machine"]["torch"] == importlib.metadata.version("torch")
    free = shutil.disk_usage(tmp_path).free
    assert abs(found["machine"]["disk_free"] - free) < 1 << 30
    assert not (tmp_path / "not there yet").exists()


def test_no_sandbox_is_said_and_fails(capsys, monkeypatch):
    def refuse():
        raise HornbookError("no sandbox here; install sandlock")

    monkeypatch.setattr(backends, "choose_backend", refuse)
    code, said = doctor(capsys, "--quick")
    assert code == 1
    assert "install sandlock" in said


@pytest.mark.parametrize(
    ("attacks", "computes", "code", "expected"),
    [
        ([attack("read"), attack("fork")], True, 0, "All that the recipes need works here."),
        ([attack("read"), attack("fork", blocked=False)], True, 1, "OPEN      fork"),
        ([attack("read", open_outside=False)], True, 1, "not shown read"),
        ([attack("read")], False, 1, "an honest program does not compute"),
    ],
)
def test_every_attack_must_be_shown_to_be_stopped(
    capsys, monkeypatch, tmp_path, attacks, computes, code, expected
):
    monkeypatch.setenv("HORNBOOK_CACHE", str(tmp_path))
    monkeypatch.setattr(backends, "choose_backend", lambda: "sandlock")
    result = SelfTest("sandlock", True, tuple(attacks), computes)
    monkeypatch.setattr(sys.modules["hornbook.sandbox.self_test"], "self_test", lambda: result)
    found, said = doctor(capsys)
    assert found == code
    assert expected in said
