"""The filter of phi-1 on a pool whose truth is known."""

import json
from pathlib import Path

import pytest

from hornbook.curate.annotated import choose_educational, fit_on_ratings
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.lm.base import Request
from hornbook.lm.simulated import SimulatedModel
from hornbook.synth.steps import write_python_pool


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)


def test_a_sample_of_ratings_finds_the_instructive_documents_of_the_pool(run: Run) -> None:
    pool = run.step(write_python_pool, rows=900)
    classifier = run.step(fit_on_ratings, corpus=pool, count=400, turned=0.1)
    assert classifier.facts["rated"] == 400
    kept = run.step(choose_educational, corpus=pool, educational=classifier, share=0.2)
    rows = [json.loads(row["meta"]) for row in Corpus.open(kept.path).iter_rows(["meta"])]
    right = sum(row["educational"] for row in rows)
    whole = sum(json.loads(row["meta"])["educational"] for row in Corpus.open(pool.path).iter_rows(["meta"]))
    assert kept.facts["rows"] == len(rows) == 180
    assert kept.facts["precision"][0] == right / len(rows) > 0.5
    assert kept.facts["recall"][0] == right / whole
    assert kept.facts["kinds"]["settings"] < 0.05


def test_a_language_model_may_rate_and_its_name_is_in_the_card(run: Run) -> None:
    pool = run.step(write_python_pool, rows=300)

    def grade(request: Request) -> str:
        assert request.messages is not None
        return "Grade: 5" if '"""' in request.messages[-1].content else "Grade: 0"

    rater = SimulatedModel("grader", grade)
    classifier = run.step(fit_on_ratings, corpus=pool, count=200, rater=rater)
    assert "grader" in classifier.facts["labels_by"]
    assert classifier.facts["labelling"] == "rater"


def test_what_cannot_be_rated_is_refused_with_a_way_out(run: Run, tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "plain", "documents", {}) as writer:
        writer.write_rows({"text": f"text {i}", "source": "s", "meta": "{}"} for i in range(50))
    with pytest.raises(HornbookError, match=r"do not say in meta.educational .* name a rater"):
        run.step(fit_on_ratings, corpus=tmp_path / "plain", count=40)
    with pytest.raises(HornbookError, match=r"turned is 0\.7"):
        run.step(fit_on_ratings, corpus=tmp_path / "plain", count=40, turned=0.7)
    with pytest.raises(HornbookError, match="share is 0"):
        run.step(choose_educational, corpus=tmp_path / "plain", educational=tmp_path / "plain", share=0)
