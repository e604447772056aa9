"""The recipe `phi`, whole, at a scale of seconds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hornbook.lab.run import Run
from hornbook.papers import phi
from hornbook.papers.phi.settings import SCALES


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(home: Path) -> Run:
    return run(home)


def run(home: Path) -> Run:
    settings = replace(SCALES["smoke"], items=4, probe_seeds=(0,), probe_workers=1)
    made = Run(home, recipe="phi", scale="smoke", settings=settings)
    phi.recipe(made, settings)
    made.finish()
    return made


def test_it_runs_from_gathering_to_report(finished: Run, home: Path) -> None:
    folder = home / "phi-smoke"
    claims = json.loads((folder / "claims.json").read_text())["claims"]
    assert [claim["id"] for claim in claims] == [
        "chosen-beats-raw",
        "two-phases",
        "preferences-help",
        "four-bits",
    ]
    outputs = json.loads((folder / "run.json").read_text())["outputs"]
    assert (folder / outputs["model"] / "model.safetensors").is_file()
    assert {path.suffix for path in (folder / outputs["export"]).rglob("*.gguf")} == {".gguf"}
    page = (folder / "report.html").read_text()
    for title in ("Data chosen", "Data written", "What it can do", "Exported"):
        assert title in page


def test_a_second_run_makes_nothing_again(finished: Run, home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.glob("steps/*/step.json")}
    run(home)
    assert {path: path.stat().st_mtime_ns for path in home.glob("steps/*/step.json")} == before


def test_no_held_out_text_was_trained_on(finished: Run) -> None:
    from hornbook.data.corpus import Corpus

    by_side: dict[bool, set[str]] = {True: set(), False: set()}
    for done in finished.steps:
        if done.artifact.step.startswith("write-") and "held_out" in done.artifact.inputs:
            rows = Corpus.open(done.artifact.path).iter_rows()
            texts = {row.get("text") or row["messages"][0]["content"] for row in rows}
            by_side[bool(done.artifact.inputs["held_out"])] |= texts
    assert by_side[True]
    # Small talk has no plan: a greeting is a greeting on both sides.
    shared = {text for text in by_side[True] & by_side[False] if len(text.split()) > 12}
    assert not shared
