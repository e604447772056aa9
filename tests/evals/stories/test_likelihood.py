"""Shuffling keeps the words and changes the order; the judge's own numbers are tested with the likelihood."""

from random import Random

from hornbook.evals.stories.likelihood import shuffled
from hornbook.synth.stories import sentences, write_story


def test_shuffling_keeps_the_sentences_and_changes_their_order() -> None:
    for index in range(20):
        text = write_story(3, index).text
        other = shuffled(text, Random(index))
        assert sorted(sentences(other)) == sorted(sentences(text))
        assert other != text


def test_one_sentence_cannot_be_shuffled() -> None:
    assert shuffled("A dog ran.", Random(0)) == "A dog ran."
