"""The suite's own items are what decontamination is shown: copies planted among organic text are removed."""

import json
from pathlib import Path

from hornbook.curate.pipeline import STAGES, CurateSettings
from hornbook.curate.steps import curate
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.evals.suite import TASKS
from hornbook.evals.suite_items import SEED, evaluation_sets
from hornbook.lab.run import Run
from hornbook.lm.base import Request
from hornbook.lm.simulated import SimulatedModel
from hornbook.synth.stories import story_rows


def test_what_the_suite_asks_is_what_decontamination_is_shown() -> None:
    asked: list[str] = []

    def answer(request: Request) -> str:
        assert request.messages is not None
        asked.append(request.messages[-1].content)
        return "def solution():\n    return 1"

    for name, items in evaluation_sets(8).items():
        asked.clear()
        TASKS[name.removeprefix("suite: ")].run(SimulatedModel("m", answer), 8, SEED)
        assert [item.question for item in items] == asked


def test_planted_copies_of_suite_items_are_removed_and_stories_are_kept(tmp_path: Path) -> None:
    sets = evaluation_sets(20)
    clean = [row["text"] for row in story_rows(5, 150)]
    around = iter([row["text"] for row in story_rows(6, 400)])  # prose that no rule of quality removes
    planted = {
        name: [
            f"{next(around)} {item.question} {item.answer} {next(around)}"
            for item in items
            if len(item.question.split()) > 15
        ]
        for name, items in sets.items()
    }
    rows = [{"text": text, "source": "clean"} for text in clean]
    rows += [{"text": text, "source": name} for name, texts in planted.items() for text in texts]
    with CorpusWriter(tmp_path / "corpus", "documents", {}) as writer:
        writer.write_rows({**row, "meta": "{}"} for row in rows)
    run = Run(tmp_path / "runs", recipe="t", scale="smoke", settings={}, quiet=True)
    made = run.step(
        curate, corpus=tmp_path / "corpus", evaluation_sets=sets, settings=CurateSettings(rules=(), near=None)
    )
    removed = Corpus.open(made.path / "removed")
    reasons = removed.read_attributes("curation").to_pylist()
    caught = {
        row["text"]
        for row, why in zip(removed.iter_rows(), reasons)
        if STAGES[why["stage"]] == "contaminated"
    }
    wanted = [text for name in ("suite: word-problems", "suite: exercises") for text in planted[name]]
    kept = {row["text"] for row in Corpus.open(made.path).iter_rows()}
    assert len(wanted) >= 20
    assert not kept & set(wanted)
    assert sum(text in caught for text in wanted) >= 0.9 * len(wanted)
    assert not caught & set(clean)
    assert json.dumps(made.facts["evaluation_sets"]) == json.dumps({n: len(i) for n, i in sets.items()})
