"""Judged answers as batches, held against loops over documents."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hornbook.data.packing import Batch
from hornbook.errors import HornbookError
from hornbook.infer.verifying import score_answers
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.train.objectives import TokenVerifier, token_verifier
from hornbook.train.settings import OptimizerSettings, Phase, TrainSettings
from hornbook.train.trainer import Trainer
from hornbook.train.verifier import (
    Judged,
    VerifierLoader,
    labels_of,
    load_verifier,
    save_verifier,
    write_judged,
)

CONFIG = ModelConfig(
    vocab_size=16, hidden_size=16, layers=2, heads=2, intermediate_size=32, max_position=64, init_std=0.2
)


def answers(count: int = 60) -> list[Judged]:
    """An answer is right when it holds a 7."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        body = random.choice([2, 3, 4, 5, 6], 5).tolist()
        if number % 2:
            body[int(random.integers(5))] = 7
        question = random.integers(8, 16, int(random.integers(2, 6))).tolist()
        made.append(Judged(question, [*body, 1], bool(number % 2)))
    return made


@pytest.mark.parametrize("supervision", ["every token", "last token"])
def test_every_answer_carries_its_label_where_it_should_and_the_model_never_reads_it(
    tmp_path: Path, supervision: str
) -> None:
    made = answers()
    file = write_judged(tmp_path, made, vocab_size=16, supervision=supervision)  # type: ignore[arg-type]
    loader = VerifierLoader(file, rows=4, time=32, seed=3)
    found = []
    for step in range(-(-loader.rows_per_epoch[0] // 4)):
        batch = loader.batch(step)
        for row in range(4):
            for document in np.unique(batch.document[row]):
                places = batch.document[row] == document
                found.append((batch.inputs[row, places].tolist(), batch.labels[row, places].tolist()))
    for one in made:
        text = [*one.question, *one.answer]
        loss_at = len(one.answer) if supervision == "every token" else 1
        labels = [-100] * (len(text) - loss_at) + [int(one.right)] * loss_at
        assert (text, labels) in found


def test_labels_of_rows_of_many_documents_agree_with_a_loop() -> None:
    random = np.random.default_rng(5)
    document = np.sort(random.integers(0, 4, (8, 20)), axis=1)
    targets = np.where(random.random((8, 20)) < 0.4, -100, random.integers(0, 9, (8, 20)))
    expected = np.full_like(targets, -100)
    for row in range(8):
        for place in range(20):
            if targets[row, place] != -100:
                last = max(np.flatnonzero(document[row] == document[row, place]))
                expected[row, place] = targets[row, last]
    batch = Batch(targets, targets, document, document)
    np.testing.assert_array_equal(labels_of(batch), expected)


def test_an_answer_longer_than_a_row_is_refused_because_its_label_would_be_lost(tmp_path: Path) -> None:
    file = write_judged(tmp_path / "a", [Judged([8] * 10, [2] * 10, True)], vocab_size=16)
    VerifierLoader(file, rows=1, time=20, seed=0)
    with pytest.raises(HornbookError, match="has 20 tokens, with its question; rows hold 19"):
        VerifierLoader(file, rows=1, time=19, seed=0)
    with pytest.raises(HornbookError, match="supervision is 'sometimes'"):
        write_judged(tmp_path / "b", [], vocab_size=16, supervision="sometimes")  # type: ignore[arg-type]


def test_scores_of_a_padded_batch_equal_those_of_answers_alone_and_survive_saving(tmp_path: Path) -> None:
    torch.manual_seed(0)
    verifier = TokenVerifier(Decoder(CONFIG)).eval()
    torch.nn.init.normal_(verifier.head.weight)
    made = answers(7)
    together = score_answers(verifier, [a.question for a in made], [a.answer for a in made])
    for one, score in zip(made, together):
        with torch.no_grad():
            hidden = verifier.decoder(torch.tensor([[*one.question, *one.answer]]))
        assert verifier.head(hidden[0, -1]).item() == pytest.approx(score, abs=1e-4)
    save_verifier(verifier, tmp_path / "v")
    again = load_verifier(tmp_path / "v")
    assert score_answers(again, [a.question for a in made], [a.answer for a in made]) == pytest.approx(
        together
    )
    (tmp_path / "v" / "verifier.safetensors").unlink()
    with pytest.raises(HornbookError, match="is not a verifier"):
        load_verifier(tmp_path / "v")


def test_a_verifier_learns_what_makes_an_answer_right(tmp_path: Path) -> None:
    torch.manual_seed(0)
    verifier = TokenVerifier(Decoder(CONFIG))
    made = answers(200)
    file = write_judged(tmp_path / "data", made[:160], vocab_size=16)
    settings = TrainSettings(
        optimizer=OptimizerSettings(learning_rate=1e-2, weight_decay=0.0),
        precision="fp32",
        processes=1,
        checkpoint_seconds=0,
    )
    loader = VerifierLoader(file, rows=8, time=32, seed=0)
    Trainer(
        verifier,
        token_verifier,
        Phase(name="verify", loader=loader, steps=45),
        settings,
        tmp_path / "run",
        save_model=save_verifier,  # type: ignore[arg-type]
    ).run(say=lambda sentence: None)
    unseen = made[160:]
    odds = score_answers(
        load_verifier(tmp_path / "run"), [a.question for a in unseen], [a.answer for a in unseen]
    )
    assert sum((odd > 0) == one.right for odd, one in zip(odds, unseen)) >= 34
