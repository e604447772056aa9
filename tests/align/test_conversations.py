"""What is learned of a conversation, by brute force against the rendered string."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_students import chat, conversations

from hornbook.align.conversations import encode_fitting, write_conversations
from hornbook.data.chat import ChatTemplate
from hornbook.data.corpus import Corpus
from hornbook.data.packing import PackedLoader
from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenFile
from hornbook.errors import HornbookError

PHI3 = ChatTemplate("phi3")
STOP = "<|end|>"
# Between an assistant's header and its stop token, in text written by the template alone.
ASSISTANT = re.compile(r"<\|assistant\|>\n(.*?<\|end\|>)", re.DOTALL)

WORDS = st.text(alphabet="abc d\n.0é", max_size=24)
TALKS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4)


def learned(tokenizer: Tokenizer, ids: list[int], mask: list[int]) -> str:
    """The targets that carry loss, as text."""
    return tokenizer.decode([i for i, m in zip(ids[1:], mask[1:], strict=True) if m])


@given(turns=TALKS, system=WORDS)
@settings(max_examples=60, deadline=None)
def test_the_answers_and_their_stop_tokens_are_learned_and_nothing_else(
    tokenizer: Tokenizer, turns: list[tuple[str, str]], system: str
) -> None:
    messages = chat(*(text for turn in turns for text in turn), system=system)
    ids, mask, fit = encode_fitting(tokenizer, PHI3, messages, 4096)
    rendered = PHI3.render(messages)
    assert tokenizer.decode(ids) == rendered
    assert fit == "whole"
    assert learned(tokenizer, ids, mask) == "".join(ASSISTANT.findall(rendered))
    stop = tokenizer.special(STOP)
    trained_stops = sum(1 for i, m in zip(ids, mask, strict=True) if m and i == stop)
    assert trained_stops == len(turns)


@given(turns=TALKS, time=st.integers(2, 120))
@settings(max_examples=150, deadline=None)
def test_a_conversation_that_is_too_long_ends_with_a_whole_turn_or_without_a_stop(
    tokenizer: Tokenizer, turns: list[tuple[str, str]], time: int
) -> None:
    messages = chat(*(text for turn in turns for text in turn))
    whole, whole_mask = PHI3.encode(tokenizer, messages)
    ids, mask, fit = encode_fitting(tokenizer, PHI3, messages, time)
    assert len(ids) <= time + 1
    assert ids == whole[: len(ids)]
    assert mask == whole_mask[: len(mask)]
    stop = tokenizer.special(STOP)
    ends = [i for i, (token, m) in enumerate(zip(whole, whole_mask, strict=True)) if m and token == stop]
    if fit == "whole":
        assert len(whole) <= time + 1
    elif fit == "shortened":
        assert len(ids) - 1 == max(end for end in ends if end <= time)
    elif fit == "cut":
        assert ends[0] > time
        assert any(mask[1:])
        assert not any(m and token == stop for token, m in zip(ids, mask, strict=True))
    else:
        assert not any(whole_mask[1 : time + 1])
        assert ids == []


def test_an_answer_that_spells_a_special_token_does_not_become_one(tokenizer: Tokenizer) -> None:
    ids, mask, _ = encode_fitting(tokenizer, PHI3, chat("say <|end|>", "<|end|><|user|>no"), 500)
    stop = tokenizer.special(STOP)
    assert [i for i, (token, m) in enumerate(zip(ids, mask, strict=True)) if m and token == stop] == [
        len(ids) - 3
    ]


def test_packed_rows_carry_the_answers_of_every_conversation_once(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    talks = [chat(f"question {n}", f"answer {n}", "and?" * (n % 3), f"more {n}") for n in range(40)]
    corpus = Corpus.open(conversations(tmp_path / "corpus", talks))
    counts = write_conversations(corpus, tokenizer, PHI3, tmp_path / "tokens", time=96)
    file = TokenFile.open(tmp_path / "tokens")
    loader = PackedLoader([(file, 1.0)], rows=2, time=96, seed=0)
    found = []
    for step in range(-(-loader.rows_per_epoch[0] // 2)):
        batch = loader.batch(step)
        for row in range(2):
            for document in np.unique(batch.document[row]):
                targets = batch.targets[row][batch.document[row] == document]
                if (targets >= 0).any():
                    found.append(tokenizer.decode(targets[targets >= 0]))
                    # a piece that began in mid-answer would have its first target learned
                    assert targets[0] == -100
    expected = ["".join(ASSISTANT.findall(PHI3.render(talk))) for talk in talks]
    assert counts["whole"] == 40
    assert sorted(set(found)) == sorted(expected)


def test_the_counts_say_what_did_not_fit(tokenizer: Tokenizer, tmp_path: Path) -> None:
    talks = [
        chat("hi", "yes"),
        chat("hi", "yes", "and now?" * 5, "x" * 60),
        chat("hi", "x y " * 60),
        chat("why " * 60, "no"),
    ]
    corpus = Corpus.open(conversations(tmp_path / "corpus", talks))
    counts = write_conversations(corpus, tokenizer, PHI3, tmp_path / "tokens", time=40)
    assert [counts[k] for k in ("rows", "whole", "shortened", "cut", "left_out")] == [4, 1, 1, 1, 1]
    file = TokenFile.open(tmp_path / "tokens")
    assert len(file) == 3
    assert max(len(file.document(i)) for i in range(3)) <= 41


def test_conversations_that_cannot_be_learned_from_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    corpus = Corpus.open(conversations(tmp_path / "corpus", [chat("why " * 60, "no")]))
    with pytest.raises(HornbookError, match="None of the 1 conversations"):
        write_conversations(corpus, tokenizer, PHI3, tmp_path / "tokens", time=40)
