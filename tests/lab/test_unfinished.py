"""A step that lacks something: the run ends with the rest and says so, and the next goes on from there."""

import json

import pytest

from hornbook.cli import main
from hornbook.lab.run import Run
from hornbook.lab.step import StepContext, step

RECIPE = """
from dataclasses import dataclass
from pathlib import Path
from hornbook.lab.step import step

TITLE, PAPER = "Asking", "none"

@dataclass(frozen=True, kw_only=True)
class Settings:
    broken: str = "broken"

SCALES = {"quick": Settings()}

@step(version="1")
def ask(ctx, *, broken):
    found = ctx.folder / "found.txt"
    had = found.read_text().split() if found.exists() else []
    for item in ("a", "b", "c"):
        if item not in had and not (item == "b" and Path(broken).exists()):
            had.append(item)
            with open("asked.txt", "a") as file:
                file.write(item)
    found.write_text(" ".join(had))
    if len(had) < 3:
        ctx.unfinished("item b was not answered: status 500")
    return {"found": had}

def recipe(run, settings):
    found = run.step(ask, broken=settings.broken)
    run.report.section("Found").text(" ".join(found.facts["found"]))
"""


def hornbook(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def test_the_run_ends_with_the_rest_says_which_exits_1_and_goes_on(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asking.py").write_text(RECIPE)
    (tmp_path / "broken").touch()
    assert hornbook("run", "./asking.py") == 1
    assert "unfinished: ask: item b was not answered: status 500" in capsys.readouterr().err
    folder = tmp_path / "runs" / "asking-quick"
    report = (folder / "report.html").read_text()
    assert "item b was not answered" in report
    assert "a c" in report
    assert json.loads((folder / "run.json").read_text())["unfinished"]

    (tmp_path / "broken").unlink()
    assert hornbook("run", "./asking.py") == 0
    assert (tmp_path / "asked.txt").read_text() == "acb"  # nothing twice
    assert "not answered" not in (folder / "report.html").read_text()
    assert hornbook("run", "./asking.py") == 0
    assert (tmp_path / "asked.txt").read_text() == "acb"  # and now it is done


@step()
def half(ctx: StepContext) -> dict[str, int]:
    ctx.unfinished("one of two is missing")
    return {"rows": 1}


@step()
def sum_of(ctx: StepContext, *, source) -> dict[str, int]:
    return {"rows": source.facts["rows"]}


def test_nothing_is_made_of_a_part_as_if_it_were_the_whole(tmp_path) -> None:
    run = Run(tmp_path, recipe="demo", scale="quick", settings={}, quiet=True)
    part = run.step(half)
    assert part.facts["rows"] == 1
    assert part.path.is_dir()
    with pytest.raises(ValueError, match="input 'source' is unfinished: one of two is missing"):
        run.step(sum_of, source=part)
