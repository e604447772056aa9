"""Answers drawn from a model: kept as they finish, the same after an interruption."""

from pathlib import Path

import pytest

from hornbook.align.rollouts import draw_answers
from hornbook.errors import HornbookError
from hornbook.infer.language_model import LocalModel
from hornbook.lm.base import Message, Request, Sampling

REQUESTS = ["one?", "two apples?", "three cats?", "four?", "five red balls?"]
SAMPLING = Sampling(temperature=1.0, max_tokens=12, seed=3)


@pytest.fixture
def model(checkpoint: Path) -> LocalModel:
    return LocalModel.open(checkpoint, weights="fp32", max_rows=4)


def test_an_interrupted_drawing_asks_only_what_is_not_answered(model: LocalModel, tmp_path: Path) -> None:
    whole = draw_answers(model, REQUESTS, SAMPLING, 3, kept=tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines()
    assert len(lines) == len(REQUESTS)
    (tmp_path / "torn.jsonl").write_text("\n".join(lines[:2]) + "\n" + lines[2][:20])
    prompts: list[int] = []
    generate = model.engine.generate

    def counting(asked: list[list[int]], *args: object, **kwargs: object) -> object:
        prompts.append(len(asked))
        return generate(asked, *args, **kwargs)  # type: ignore[arg-type]

    model.engine.generate = counting  # type: ignore[method-assign, assignment]
    resumed = draw_answers(model, REQUESTS, SAMPLING, 3, kept=tmp_path / "torn.jsonl")
    assert prompts == [3]
    assert [[a.tokens for a in own] for own in resumed] == [[a.tokens for a in own] for own in whole]
    again = draw_answers(model, REQUESTS, SAMPLING, 3, kept=tmp_path / "torn.jsonl")
    assert prompts == [3]
    assert again == resumed
    with pytest.raises(HornbookError, match="answers to other requests"):
        draw_answers(model, REQUESTS[::-1], SAMPLING, 3, kept=tmp_path / "torn.jsonl")


def test_answers_are_those_of_the_language_model(model: LocalModel) -> None:
    drawn = draw_answers(model, REQUESTS, SAMPLING, 2, max_tokens=[3, 4, 5, 6, 7])
    for n, request in enumerate(REQUESTS):
        sampling = Sampling(temperature=1.0, max_tokens=3 + n, seed=3)
        results = model.complete(
            [
                Request(messages=(Message("user", request),), sampling=sampling, sample_index=i)
                for i in range(2)
            ]
        )
        assert [a.text for a in drawn[n]] == [r.text for r in results]  # type: ignore[union-attr]
        assert all(a.tokens <= 3 + n for a in drawn[n])
        assert all(a.finished == (r.finish_reason == "stop") for a, r in zip(drawn[n], results, strict=True))  # type: ignore[union-attr]
