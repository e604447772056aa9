"""Which answers make a pair, and what the step says about them."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_students import context

from hornbook.align import pairs as pairs_module
from hornbook.align.pairs import Side, choose_pair, verified_pairs
from hornbook.align.questions import Question, Verdict
from hornbook.align.rollouts import Answer
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.errors import HornbookError
from hornbook.synth.word_problems import problem_rows

QUESTION = Question(id="1", kind="program", request="?")
RIGHT, WRONG, UNKNOWN = (Verdict(right=right, why=str(right)) for right in (True, False, None))
GOOD = Side(text="good", by="written", why="right", tokens=5)
BAD = Side(text="bad", by="written", why="wrong", tokens=5)


def said(text: str, tokens: int = 10, finished: bool = True) -> Answer:
    return Answer(text=text, tokens=tokens, finished=finished)


def test_of_several_answers_the_pair_of_most_equal_length_is_taken() -> None:
    lengths = [3, 9, 14, 30, 31, 52]
    for rights in range(1, 2 ** len(lengths) - 1):
        verdicts = [RIGHT if rights >> i & 1 else WRONG for i in range(len(lengths))]
        answers = [said(f"a{length}", length) for length in lengths]
        pair = choose_pair(QUESTION, answers, verdicts, [GOOD, BAD])
        assert pair is not None
        assert pair.by_model == 2
        best = min(
            abs(a - b)
            for (a, v), (b, w) in itertools.product(zip(lengths, verdicts, strict=True), repeat=2)
            if v.right and not w.right
        )
        assert abs(pair.chosen.tokens - pair.rejected.tokens) == best


def test_written_answers_stand_in_only_where_the_model_has_none() -> None:
    own = [said("x"), said("y")]
    both_right = choose_pair(QUESTION, own, [RIGHT, RIGHT], [GOOD, BAD])
    assert both_right is not None
    assert (both_right.chosen.by, both_right.rejected) == ("model", BAD)
    both_wrong = choose_pair(QUESTION, own, [WRONG, WRONG], [GOOD, BAD])
    assert both_wrong is not None
    assert (both_wrong.chosen, both_wrong.rejected.by) == (GOOD, "model")
    assert choose_pair(QUESTION, own, [RIGHT, RIGHT], [GOOD, None]) is None
    unknown = choose_pair(QUESTION, own, [UNKNOWN, UNKNOWN], [GOOD, BAD])
    assert unknown is not None
    assert unknown.by_model == 0


def test_an_answer_that_was_cut_off_or_is_blank_is_on_no_side() -> None:
    own = [said("cut", finished=False), said(" \n"), said("whole")]
    pair = choose_pair(QUESTION, own, [RIGHT, RIGHT, WRONG], [GOOD, BAD])
    assert pair is not None
    assert (pair.chosen, pair.rejected.text) == (GOOD, "whole")


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    with CorpusWriter(tmp_path / "problems", "documents", lineage={}) as writer:
        writer.write_rows(list(problem_rows(5, 12)))
    return tmp_path / "problems"


def scripted(monkeypatch: pytest.MonkeyPatch, problems: Path) -> None:
    """The model answers problem n rightly in n % 3 of 2 samples, refuses every policy request once in two,
    and never refuses a harmless one."""
    rows = {json.loads(row["meta"])["question"]: json.loads(row["meta"]) for row in problem_rows(5, 12)}
    order = {question: n for n, question in enumerate(rows)}

    def draw(model: Any, requests: Sequence[str], *args: Any, **kwargs: Any) -> list[list[Answer]]:
        answers = []
        for request in requests:
            if request in rows:
                right, wrong = rows[request]["program"], "def solution():\n    return -1"
                count = order[request] % 3
                texts = [right] * count + [wrong] * (2 - count)
            else:
                texts = ["I cannot help with that.", "Take a stick and go."]
                if "policy" not in kinds[request]:
                    texts = ["Turn it slowly.", "Pull it."]
            answers.append([Answer(text=text, tokens=len(text), finished=True) for text in texts])
        return answers

    kinds = {
        question.request: question.kind
        for kind in ("policy", "helpful")
        for question in pairs_module.policy_questions(kind, 6, 0)
    }
    monkeypatch.setattr(pairs_module, "draw_answers", draw)


def test_the_step_counts_what_it_asked_and_who_wrote_the_pairs(
    checkpoint: Path, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, problems)
    ask = {"program": 12, "policy": 6, "helpful": 6}
    facts = verified_pairs(
        context(tmp_path / "step"), model=checkpoint, ask=ask, problems=problems, samples=2
    )
    assert facts["asked"] == ask
    assert facts["pass_rate"] == {"program": 0.5, "policy": 0.5, "helpful": 1.0}
    # problems: 4 never right, 4 right by turns, 4 always right; policy: by turns; helpful: written
    assert facts["sides_by_model"] == {"2": 10, "1": 8, "0": 6}
    assert facts["share_on_policy"] == pytest.approx(10 / 24)
    rows = list(Corpus.open(tmp_path / "step").iter_rows())
    assert len(rows) == facts["rows"] == 24
    assert sum(facts["pairs"].values()) == 24
    for row in rows:
        assert row["chosen"] != row["rejected"]
        meta = json.loads(row["meta"])
        if meta["kind"] == "program":
            [problem] = [
                found
                for found in (json.loads(r["meta"]) for r in problem_rows(5, 12))
                if found["question"] == row["messages"][0]["content"]
            ]
            scope: dict[str, Any] = {}
            exec(row["chosen"], scope)  # the simulated teacher's own program
            assert scope["solution"]() == problem["answer"]
            assert row["rejected"] != problem["program"]


def test_pairs_that_are_not_the_models_own_can_be_kept_out(
    checkpoint: Path, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, problems)
    inputs: dict[str, Any] = {"model": checkpoint, "problems": problems, "samples": 2}
    ask = {"program": 12, "helpful": 6}
    counts = {}
    for written in ("never", "one side", "both sides"):
        folder = tmp_path / written.replace(" ", "-")
        facts = verified_pairs(context(folder), **inputs, ask=ask, written=written)
        counts[written] = (facts["rows"], facts["no_pair"])
    assert counts == {
        "never": (4, {"program": 8, "helpful": 6}),
        "one side": (12, {"helpful": 6}),
        "both sides": (18, {}),
    }
    with pytest.raises(HornbookError, match="None of 6 requests gave a pair"):
        verified_pairs(context(tmp_path / "none"), **inputs, ask={"helpful": 6}, written="never")


def test_wrong_settings_are_named(checkpoint: Path, tmp_path: Path) -> None:
    inputs: dict[str, Any] = {"model": checkpoint}
    for changed, message in (
        ({"ask": {"poem": 3}}, "poem"),
        ({"ask": {"program": 3}}, "problems is not given"),
        ({"ask": {"policy": 0}}, "at least one request"),
        ({"ask": {"policy": 1}, "samples": 0}, "samples is 0"),
        ({"ask": {"policy": 1}, "written": "often"}, "written is 'often'"),
    ):
        with pytest.raises(HornbookError, match=message):
            verified_pairs(context(tmp_path / "step"), **inputs, **changed)
