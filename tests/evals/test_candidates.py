"""Choosing among candidates, held against counting by hand; drawing, against executing every program."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from hornbook.align.solutions import draw_solutions, tokenize_solutions
from hornbook.align.verifier import VerifierPlan, train_verifiers
from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenFile
from hornbook.evals.best_of_n import best_of_n
from hornbook.evals.candidates import Candidate, auc, best, majority
from hornbook.evals.word_problems import grade
from hornbook.lab.run import Run
from hornbook.model.decoder import Decoder
from hornbook.model.hf import save_checkpoint
from hornbook.model.presets import student
from hornbook.synth.steps import write_word_problems
from hornbook.train.settings import TrainSettings


def candidate(value: float | None, *, finished: bool = True, right: bool = False) -> Candidate:
    return Candidate(text="", tokens=(1,), finished=finished, right=right, value=value, logprob=0.0)


def test_the_best_is_the_first_of_the_highest_and_never_one_cut_off_beside_a_whole_one() -> None:
    found = [candidate(1), candidate(2), candidate(3), candidate(4, finished=False)]
    assert best(found, [0.0, 2.0, 2.0, 9.0]) is found[1]
    assert best(found[3:] * 2, [1.0, 2.0]) is found[3]


def test_the_majority_counts_numbers_and_programs_without_one_have_no_vote() -> None:
    found = [candidate(None), candidate(None), candidate(None), candidate(5), candidate(8), candidate(8.0001)]
    assert majority(found) is found[4]
    assert majority(found[:2]) is found[0]


def test_auc_is_the_share_of_pairs_in_order() -> None:
    scores, right = [0.1, 0.4, 0.4, 0.9, 0.4, 0.2], [False, True, False, True, True, False]
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for (a, x), (b, y) in itertools.product(zip(scores, right), repeat=2)
        if x and not y
    ]
    assert auc(scores, right) == pytest.approx(sum(pairs) / len(pairs))
    assert auc([1.0, 2.0], [True, True]) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("runs"), recipe="test", scale="smoke", settings={}, quiet=True)


def test_from_questions_to_a_choice_every_figure_agrees_with_the_programs_that_were_drawn(
    run: Run, tmp_path: Path
) -> None:
    problems = run.step(write_word_problems, rows=40, held_out=True)
    folder = tmp_path / "student"
    tokenizer = Tokenizer.train((row["text"] for row in Corpus.open(problems.path).iter_rows()), 400)
    torch.manual_seed(0)
    shape = student(hidden_size=32, layers=1, heads=1, vocab_size=tokenizer.vocab_size, max_position=256)
    save_checkpoint(Decoder(shape), folder)
    tokenizer.save(folder)

    tokens = run.step(tokenize_solutions, corpus=problems, tokenizer=folder, limit=30)
    file = TokenFile.open(tokens.path)
    first = json.loads(next(iter(Corpus.open(problems.path).iter_rows()))["meta"])
    learned = [int(i) for i, m in zip(file.document(0), file.document_mask(0)) if m]
    assert len(file) == 30
    assert tokenizer.decode(learned[:-1]) == first["program"]
    assert learned[-1] == tokenizer.end_of_text

    judged = run.step(
        draw_solutions,
        generators={"g": {"early": (folder, 1), "late": (folder, 2)}},
        questions=problems,
        temperatures=[0.5, 1.0],
        max_tokens=12,
    )
    rows = [json.loads(row["meta"]) for row in Corpus.open(judged / "g").iter_rows()]
    assert judged.facts["g"]["drawn"] == 40 * 2 * 3
    assert len({(row["question"], row["program"]) for row in rows}) == len(rows) == judged.facts["g"]["rows"]
    metas = {
        m["question"]: m for m in (json.loads(r["meta"]) for r in Corpus.open(problems.path).iter_rows())
    }
    graded = grade([row["program"] for row in rows], [metas[row["question"]] for row in rows])
    cut = [len(row["tokens"]) >= 12 and row["tokens"][-1] not in (0, 4) for row in rows]
    assert [row["right"] for row in rows] == [item.robust and not c for item, c in zip(graded.items, cut)]

    verifiers = run.step(
        train_verifiers,
        verifiers={"v": VerifierPlan(start=folder, solutions=judged / "g")},
        tokens=2048,
        rows=4,
        time=128,
        settings=TrainSettings(),
    )
    assert verifiers.facts["v"]["answers"] + verifiers.facts["v"]["left_out"] == len(rows)
    facts = run.step(
        best_of_n,
        generators={"g": folder},
        questions=problems,
        verifiers={"g": {"v": verifiers / "v"}},
        samples=4,
        max_tokens=12,
    ).facts["g"]
    for choice in ("greedy", "mean", "majority", "shortest", "likeliest", "oracle", "v"):
        assert len(facts["right"][choice]) == 40
    for one, oracle, mean in zip(facts["shown"], facts["right"]["oracle"], facts["right"]["mean"]):
        assert oracle == any(one["right"])
        assert mean == sum(one["right"]) / 4
        assert one["chosen"]["v"] in one["candidates"]
