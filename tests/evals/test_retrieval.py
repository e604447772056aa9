"""Retrieval against readers whose reach is known exactly."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.evals.retrieval import DEPTHS, Item, fact, is_right, items, measure, retrieve
from hornbook.lab.run import Run
from hornbook.lm.base import Failure, Request
from hornbook.lm.simulated import SimulatedModel
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.hf import save_checkpoint

_STATED = re.compile(r"The special number of the (\w+) is (\d+)\.")
_ASKED = re.compile(r"special number of the (\w+)(?:\?| is$)")


def words(text: str) -> int:
    """A tokenizer of a kind: words and marks."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def text_of(request: Request) -> str:
    return request.prompt if request.prompt is not None else request.messages[-1].content  # type: ignore[index]


def reader(reach: int | None = None) -> SimulatedModel:
    """Answers from what it sees: everything, or the last `reach` characters."""

    def answer(request: Request) -> str:
        text = text_of(request)
        seen = text if reach is None else text[-reach:]
        key = _ASKED.findall(text)[-1]
        return dict(_STATED.findall(seen)).get(key, "I do not know; perhaps 00000")

    return SimulatedModel(f"reader {reach}", answer)


@given(
    length=st.integers(120, 900),
    depth=st.floats(0, 1),
    other_keys=st.integers(0, 3),
    seed=st.integers(0, 1000),
    opened=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_prompts_have_their_length_and_the_sentence_its_place(
    length: int, depth: float, other_keys: int, seed: int, opened: bool
) -> None:
    (item,) = items(
        words, lengths=[length], depths=[depth], per_cell=1, other_keys=other_keys, seed=seed, opened=opened
    )
    assert length - 15 < words(item.prompt) <= length
    stated = _STATED.findall(item.prompt)
    assert len(stated) == other_keys + 1
    assert len({number for _, number in stated}) == other_keys + 1
    key = _ASKED.findall(item.prompt)[-1]
    assert dict(stated)[key] == item.answer
    body = item.prompt.split("\n\n")[1]
    sentences = re.findall(r"[^.]+\.", body)
    place = next(i for i, sentence in enumerate(sentences) if item.answer in sentence)
    assert place / max(1, len(sentences) - 1) == pytest.approx(depth, abs=1.5 / len(sentences))


def test_the_same_arguments_give_the_same_questions_and_others_differ() -> None:
    first = items(words, lengths=[200, 400], per_cell=3, seed=1)
    assert first == items(words, lengths=[200, 400], per_cell=3, seed=1)
    assert len(first) == 2 * len(DEPTHS) * 3
    assert len({item.id for item in first}) == len({item.prompt for item in first}) == len(first)
    assert first != items(words, lengths=[200, 400], per_cell=3, seed=2)


@pytest.mark.parametrize("opened", [False, True])
def test_a_reader_of_everything_is_right_everywhere(opened: bool) -> None:
    questions = items(words, lengths=[150, 600], other_keys=3, per_cell=2, opened=opened)
    found = measure(reader(), questions, opened=opened)
    assert found.by_length() == {150: 1.0, 600: 1.0}
    assert found.effective_length() == 600
    assert all(cell.interval[1] == pytest.approx(1.0) for cell in found.cells)


def test_a_reader_with_a_short_reach_fails_exactly_where_it_cannot_see() -> None:
    questions = items(words, lengths=[100, 300, 900], other_keys=2, per_cell=4)
    reach = 1200
    found = measure(reader(reach), questions)
    for item, outcome in zip(questions, found.outcomes, strict=True):
        begins = item.prompt.index(fact(_ASKED.findall(item.prompt)[-1], item.answer))
        assert outcome == (len(item.prompt) - begins <= reach)
    shares = found.by_length()
    assert shares[100] == 1.0 > shares[300] > shares[900]
    assert found.effective_length() == 100
    assert found.effective_length(threshold=0.0) == 900


def test_another_keys_number_and_longer_numbers_are_wrong() -> None:
    item = Item(id="x", length=100, depth=0.5, prompt="", answer="12345")
    assert is_right("It is 12345.", item)
    assert is_right("12345, not 54321", item)
    assert not is_right("54321, not 12345", item)
    assert not is_right("123456", item)
    assert not is_right("", item)


def test_failed_calls_are_counted_apart() -> None:
    questions = items(words, lengths=[150], depths=[0.0, 1.0], per_cell=2)

    def answer(request: Request) -> Failure | str:
        if text_of(request) == questions[0].prompt:
            return Failure(kind="server", message="no")
        return "nothing"

    found = measure(SimulatedModel("broken", answer), questions)
    assert found.outcomes == (None, False, False, False)
    assert [(cell.right, cell.asked, cell.unscored) for cell in found.cells] == [(0, 1, 1), (0, 2, 0)]
    assert found.effective_length() == 0


def test_the_step_asks_a_checkpoint_and_says_how_far_it_reads(tmp_path: Path) -> None:
    texts = [" ".join(fact(key, str(n)) for n in range(10_000, 10_020)) for key in ("tower", "garden")]
    tokenizer = Tokenizer.train(texts, 300, tmp_path / "model")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "layers": 1, "heads": 1, "intermediate_size": 16, "max_position": 512}
    save_checkpoint(Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **shape)), tmp_path / "model")
    run = Run(tmp_path / "home", recipe="reads", scale="smoke", settings=None, quiet=True)
    made = run.step(
        retrieve, model=tmp_path / "model", lengths=[300, 400], depths=[0.5], per_cell=2, opened=True
    )
    assert made.facts["by_length"] == {"300": 0.0, "400": 0.0}  # random weights name no five-digit number
    assert made.facts["effective_length"] == 0
    assert [cell["asked"] for cell in made.facts["cells"]] == [2, 2]


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(HornbookError, match="20 tokens are too few"):
        items(words, lengths=[20])
    with pytest.raises(HornbookError, match=r"depth is 1\.5"):
        items(words, lengths=[200], depths=[1.5])
    with pytest.raises(HornbookError, match="other_keys is 99"):
        items(words, lengths=[200], other_keys=99)
