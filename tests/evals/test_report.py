"""The page of an evaluation: scores with intervals, what is missing, drawings; text stays text."""

import json
from pathlib import Path

from hornbook.evals import suite
from hornbook.evals.comparison import compare
from hornbook.evals.report import write_report
from hornbook.lm.base import Failure, Request
from hornbook.lm.simulated import Answer, SimulatedModel

SCRIPT = "<script>alert(1)</script>"


def draws(request: Request) -> str:
    return f'<svg viewBox="0 0 9 9"><rect width="5" height="5"/></svg>{SCRIPT}'


def fails_once(request: Request) -> Answer:
    text = str(request.messages)
    return Failure(kind="timeout", message="too late") if "gold" in text else draws(request)


def test_scores_differences_drawings_and_what_is_missing(tmp_path: Path) -> None:
    models = {"one": SimulatedModel("one", draws), "two": SimulatedModel("two", fails_once)}
    tasks = ["sparks-layout", "sparks-acrostic", "word-problems"]
    measured = {name: suite.evaluate(model, tasks=tasks, items=6) for name, model in models.items()}
    assert any(result.unfinished for result in measured["two"])
    differences = compare(measured["one"], measured["two"])
    page = write_report(measured, tmp_path / "report", differences).read_text()
    assert SCRIPT not in page
    assert "&lt;script&gt;" in page
    assert page.count("data:image/png;base64,") >= 6
    assert "Not everything was answered" in page
    assert "one minus two" in page
    blocks = json.loads((tmp_path / "report" / "report.json").read_text())["blocks"]
    shown = {(row[0], row[1]): row[2:5] for b in blocks if b.get("title") == "one" for row in b["rows"]}
    for result in measured["one"]:
        for score in result.scores:
            assert shown[result.task, score.name] == [score.value, *score.interval]
