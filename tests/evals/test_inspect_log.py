"""Our logs open in inspect, item by item, with the scores and samples that were measured."""

import json
from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.evals import suite
from hornbook.evals.benchmarks.run import Asking
from hornbook.evals.inspect_log import write_logs
from hornbook.evals.result import Result
from hornbook.evals.sample_store import SampleStore
from hornbook.lm.simulated import SimulatedModel


def measured(folder: Path, store: SampleStore) -> list[Result]:
    rows = [{"Body": f"There are {n} owls.", "Question": "How many?", "Answer": n % 3} for n in range(9)]
    (folder / "svamp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return suite.evaluate(
        SimulatedModel("two", lambda request: "It is 2, \0 \u2028 <b>&amp;</b>"),
        tasks=["svamp", "sparks-sum-direct", "word-problems"],
        items=9,
        benchmarks=Asking(data=folder),
        store=store,
    )


@pytest.mark.oracle
def test_inspect_reads_what_was_measured(tmp_path: Path) -> None:
    log = pytest.importorskip("inspect_ai.log")
    with SampleStore(tmp_path / "s.sqlite") as store:
        results = measured(tmp_path, store)
        paths = write_logs(results, "simulated:two", tmp_path / "logs", store)
    assert len(paths) == 3
    for result, path in zip(results, paths, strict=True):
        found = log.read_eval_log(str(path))
        assert found.status == "success"
        assert found.eval.task == result.task
        scores = {score.name: score.metrics["mean"].value for score in found.results.scores}
        assert scores == {score.name: pytest.approx(score.value) for score in result.scores}
    benchmark, probe, own = (log.read_eval_log(str(path)) for path in paths)
    assert len(benchmark.samples) == 9
    first = results[0].scores[0].name
    values = dict(zip(results[0].ids, results[0].outcomes[first]))
    assert {sample.id: sample.scores[first].value for sample in benchmark.samples} == values
    assert "owls" in benchmark.samples[0].input
    assert "<b>&amp;</b>" in benchmark.samples[0].output.completion
    assert {sample.id for sample in probe.samples} == set(results[1].ids)
    assert len(own.samples) == len(results[2].samples)
    headers = log.list_eval_logs(str(tmp_path / "logs"))  # what `inspect view` lists
    assert {header.task for header in headers} == {result.task for result in results}


def test_without_inspect_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with (
        SampleStore(tmp_path / "s.sqlite") as store,
        pytest.raises(HornbookError, match=r"hornbook\[inspect\]"),
    ):
        write_logs([], "m", tmp_path, store)
