"""An endpoint that fails: the run ends with the rest, says which, exits with 1, pays nothing twice."""

import json
import threading
from pathlib import Path

import pytest
from mock_openai import MockOpenAI

from hornbook.cli import main
from hornbook.errors import HornbookError
from hornbook.evals.benchmarks import generate
from hornbook.evals.benchmarks.card import cards
from hornbook.evals.benchmarks.run import Asking, run_card
from hornbook.evals.sample_store import SampleStore
from hornbook.lm.endpoint import EndpointModel
from hornbook.lm.endpoint_settings import EndpointSettings
from hornbook.lm.store import CallStore

HASTY = EndpointSettings(max_attempts=1, backoff_seconds=0.0, max_backoff_seconds=0.01)


def problems(folder: Path, count: int) -> Path:
    rows = [{"Body": f"There are {n} owls.", "Question": "How many?", "Answer": n} for n in range(count)]
    (folder / "svamp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def command(words: list[str]) -> int:
    with pytest.raises(SystemExit) as left:
        main(words)
    return int(left.value.code or 0)


def test_an_endpoint_that_fails_for_some_items(tmp_path: Path) -> None:
    data = problems(tmp_path, 60)
    with (
        MockOpenAI(server_errors=0.2, reply="It is 7.") as server,
        SampleStore(tmp_path / "s.sqlite") as store,
    ):
        model = EndpointModel(server.url, "m", settings=HASTY)
        result = run_card(cards()["svamp"], model, Asking(data=data), store=store)
        lost = 60 - result.items
        assert 0 < lost < 60
        assert f"{lost} of 60 items were not answered (" in result.unfinished
        assert sum(server.answered.values()) == result.items
        again = run_card(cards()["svamp"], model, Asking(data=data), store=store)
        assert (again.items, again.unfinished) == (60, "")
        assert set(server.answered.values()) == {1}
        assert sum(again.outcomes["exact"]) == 1


def test_the_command_exits_with_one_and_then_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One benchmark is missing, the other is measured; then nothing is paid again, not even when the graded
    answers are lost."""
    data = problems(tmp_path, 12)
    with MockOpenAI(reply="7") as server:
        words = ["eval", f"{server.url}#m", "--tasks", "svamp,medqa", "--items", "all", "--data", str(data)]
        words += ["--home", str(tmp_path / "runs")]
        assert command(words) == 1
        told = capsys.readouterr()
        assert "medqa: the split 'test' was not found" in told.err
        assert "svamp" in told.out
        assert sum(server.answered.values()) == 12
        (tmp_path / "runs" / "samples.sqlite").unlink()  # graded answers lost: paid ones are not
        assert command([*words[:3], "svamp", *words[4:]]) == 0
        assert sum(server.answered.values()) == 12


def test_answers_are_graded_while_others_are_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[int] = []
    own = generate.grade

    def grade(*arguments: object) -> object:
        answered.append(sum(server.answered.values()))
        return own(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(generate, "grade", grade)
    data = problems(tmp_path, 300)
    with MockOpenAI(latency=0.002, reply="7") as server:
        result = run_card(cards()["svamp"], EndpointModel(server.url, "m"), Asking(data=data))
    assert result.items == 300
    assert answered[0] < 300


def test_what_was_paid_before_a_break_is_kept(tmp_path: Path) -> None:
    """The endpoint turns the key away in the middle: the run says so, and what it had is graded and kept."""
    data = problems(tmp_path, 40)
    with (
        MockOpenAI(reply="7", latency=0.01) as server,
        SampleStore(tmp_path / "s.sqlite") as store,
        CallStore(tmp_path / "calls.sqlite") as calls,
    ):
        model = EndpointModel(server.url, "m", store=calls, settings=EndpointSettings(max_concurrency=2))
        stopper = threading.Timer(0.08, lambda: server.set(status=401))
        stopper.start()
        with pytest.raises(HornbookError, match="401"):
            run_card(cards()["svamp"], model, Asking(data=data), store=store)
        stopper.join()
        [run] = store.runs()
        assert run["samples"] == sum(server.answered.values()) < 40
        server.set(status=200)
        result = run_card(cards()["svamp"], model, Asking(data=data), store=store)
        assert result.items == 40
        assert set(server.answered.values()) == {1}


def test_a_grader_that_breaks_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise HornbookError("the sandbox is gone")

    monkeypatch.setattr(generate, "grade", broken)
    with MockOpenAI(reply="7") as server, pytest.raises(HornbookError, match="the sandbox is gone"):
        run_card(cards()["svamp"], EndpointModel(server.url, "m"), Asking(data=problems(tmp_path, 3)))
