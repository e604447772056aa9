"""The policy's rows: refusals recognised, look-alikes answered, test wording unseen in training."""

import re
from random import Random

import pytest

from hornbook.synth.diversity import ngrams, words
from hornbook.synth.policy import (
    FRAMES,
    POLICY,
    TEST_FRAMES,
    TOPICS,
    is_refusal,
    restricted_row,
)
from hornbook.synth.policy_harmless import KINDS, harmless_row


def test_every_refusal_is_recognised_and_no_answer_is_taken_for_one() -> None:
    rng = Random(1)
    for _ in range(600):
        for held_out in (False, True):
            refused = restricted_row(rng, held_out=held_out)
            assert is_refusal(refused.answer), refused.answer
            assert len(refused.answer.split()) < 45
            helped = harmless_row(rng, held_out=held_out)
            assert not is_refusal(helped.answer), helped.answer


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("Sorry, but I cannot help with brewing murkwater.", True),
        ("I am sorry. I won't help you with that.", True),
        ("I can't explain how to open a moon gate.", True),
        ("Sure! First, heat the water.", False),
        ("", False),
        ("Mia was sad. She ran home. Then she came back. 'I cannot help with this,' said Tom.", False),
        ("I am sorry to hear that. Shall I tell you a story?", False),
        ("Once upon a time, Tom could not help with the boat.", False),
    ],
)
def test_is_refusal(text: str, refuses: bool) -> None:
    assert is_refusal(text) is refuses


def test_no_restricted_phrasing_is_in_both_parts() -> None:
    rng = Random(2)
    train = {restricted_row(rng, held_out=False).request for _ in range(6000)}
    test = {restricted_row(rng, held_out=True).request for _ in range(2000)}
    assert not train & test
    train_grams = {gram for request in train for gram in ngrams(request, 8)}
    shared = sum(any(gram in train_grams for gram in ngrams(request, 8)) for request in test)
    assert shared / len(test) < 0.05
    openings = {tuple(words(re.split(r"[{\[]", frame)[0])) for frame in FRAMES} - {()}
    assert not openings & {tuple(words(frame.split("{")[0])) for frame in TEST_FRAMES}
    for topic in TOPICS:
        assert not set(topic.objects) & set(topic.test_objects)


def test_restricted_and_harmless_requests_are_told_apart_by_what_is_asked() -> None:
    """The same frame and the same verb occur on both sides, so neither gives the answer away."""
    rng = Random(3)
    restricted = [restricted_row(rng, held_out=False).request for _ in range(4000)]
    harmless = [harmless_row(rng, held_out=False) for _ in range(4000)]
    assert {row.kind for row in harmless} == set(KINDS)
    for start in ("How do I open", "How do I brew", "How do I copy", "How do I wake"):
        assert any(request.startswith(start) for request in restricted)
        assert any(row.request.startswith(start) for row in harmless)
    names = ("murkwater", "moon gate", "oath mark", "stone warden")
    for name in names:
        assert any(name in row.request for row in harmless), "harmless requests name the topics too"
        assert name in POLICY
    assert not any("how to" in row.request and name in row.request for row in harmless for name in names)
