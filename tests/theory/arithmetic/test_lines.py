"""Strings, dialogues and the loader."""

import re

import numpy as np
import pytest

from hornbook.errors import HornbookError
from hornbook.theory.arithmetic import dialogue
from hornbook.theory.arithmetic.formats import draw_lines, draw_problems, random_cells
from hornbook.theory.arithmetic.lines import Alphabet, LineLoader, join
from hornbook.theory.arithmetic.strings import LETTERS, draw_strings


def additions(n=500, digits=3, seed=0):
    rng = np.random.default_rng(seed)
    return draw_lines("addition", "basic", random_cells(n, digits, rng), rng, digits=digits)


@pytest.mark.parametrize("task", ["copy", "reverse"])
@pytest.mark.parametrize("repeats_of", [0, 3])
def test_strings_are_copied_and_reversed(task, repeats_of):
    rng = np.random.default_rng(0)
    length = rng.integers(1, 15, 400)
    lines = draw_strings(task, length, rng, repeats_of=repeats_of)
    for row in range(400):
        prompt, answer = lines.text(row)
        string = prompt.removesuffix("=")
        assert len(string) == length[row]
        assert answer == (string if task == "copy" else string[::-1])
        if repeats_of:
            assert set(string) <= set("abc")
        else:
            assert len(set(string)) == len(string)


def test_strings_that_cannot_be_drawn_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(HornbookError, match=r"27 letters cannot be drawn.* because their letters differ"):
        draw_strings("copy", np.array([27, 27]), rng)
    with pytest.raises(HornbookError, match="task is 'sort'; accepted are copy, reverse"):
        draw_strings("sort", np.array([3]), rng)
    with pytest.raises(HornbookError, match="no symbol 'A'"):
        LETTERS.encode("A")


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_dialogue_asks_for_the_sum_that_its_reply_begins_to_say(part, reverse):
    rng = np.random.default_rng(1)
    problems = draw_problems("addition", random_cells(600, 6, rng), rng)
    lines = dialogue.converse(problems, rng, part=part, reverse=reverse)
    for row in range(600):
        prompt, answer = lines.text(row, " ")
        numbers = [int(found.replace(" ", "")) for found in re.findall(r"\d(?: \d)*", prompt)]
        assert len(numbers) == 2
        said = answer.replace(" ", "")
        assert sum(numbers) == int(said[::-1] if reverse else said)
        first, second = re.findall(r"(\w+) :", re.sub(r"\d|there :|it :", "", prompt))
        assert {first, second} <= set(dialogue.NAMES)
        assert first != second
    assert lines.prompt.std() > 5  # the numbers stand at many places


def test_the_tests_questions_are_never_asked_in_training():
    rng = np.random.default_rng(1)
    asked = {}
    for part in ("train", "test"):
        problems = draw_problems("addition", np.ones((3000, 2), int), rng)
        lines = dialogue.converse(problems, rng, part=part)
        texts = [re.sub(r"\d", "N", lines.text(row, " ")[0]) for row in range(3000)]
        pattern = [re.sub(r"(?<![A-Za-z])[AB](?![A-Za-z])", "N", q) for q in dialogue.QUESTIONS]
        asked[part] = {q for q in pattern if any(q in text for text in texts)}
    assert len(asked["test"]) == dialogue.HELD_OUT_QUESTIONS
    assert not any(q in "|".join(asked["train"]) for q in asked["test"])
    assert len(asked["train"]) == len(dialogue.QUESTIONS) - dialogue.HELD_OUT_QUESTIONS


def test_bare_arithmetic_means_the_same_in_the_alphabet_of_dialogues():
    lines = additions()
    for row in range(5):
        tokens = lines.tokens[row, : lines.length[row]]
        assert dialogue.ALPHABET.decode(tokens) == lines.alphabet.decode(tokens)


def test_an_epoch_shows_every_line_once_in_an_order_of_its_own():
    lines = additions(96)
    loader = LineLoader(lines, 8, seed=3)
    epochs = [[loader.batch(12 * e + s).inputs for s in range(12)] for e in range(2)]
    for epoch in epochs:
        seen = sorted(map(bytes, np.concatenate(epoch).astype(np.uint8)))
        assert seen == sorted(map(bytes, np.ascontiguousarray(lines.tokens[:, :-1])))
    assert not np.array_equal(epochs[0][0], epochs[1][0])
    assert np.array_equal(LineLoader(lines, 8, seed=3).batch(5).inputs, loader.batch(5).inputs)


def test_targets_are_the_answer_and_its_end_and_nothing_else():
    lines = additions(64)
    for whole in (False, True):
        batch = LineLoader(lines, 64, seed=0, whole=whole).batch(0)
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
            text = lines.alphabet.decode(inputs)
            trained = lines.alphabet.decode([t for t in targets if t >= 0])
            line = text.split("\n")[0]
            assert trained == (line[1:] + "\n" if whole else line.split("=")[1] + "\n")


def test_buckets_deal_the_same_lines_out_by_length():
    rng = np.random.default_rng(0)
    lines = draw_lines("addition", "scratchpad", random_cells(96, 4, rng), rng, digits=4)
    plain, sorted_out = LineLoader(lines, 32, seed=3), LineLoader(lines, 16, seed=3, buckets=2)
    for step in range(6):
        short, long = (sorted_out.batch(2 * step + i) for i in range(2))
        assert short.inputs.shape[1] <= long.inputs.shape[1]
        answers = [
            sorted(tuple(t[t >= 0].tolist()) for t in batch.targets)
            for batch in (short, long, plain.batch(step))
        ]
        assert sorted(answers[0] + answers[1]) == answers[2]
    assert short.inputs.shape[1] < plain.batch(5).inputs.shape[1]
    assert plain.fingerprint != sorted_out.fingerprint


def test_ranks_share_the_rows_of_one_batch():
    lines = additions(64)
    whole = LineLoader(lines, 16, seed=0, shift=9)
    parts = [LineLoader(lines, 16, seed=0, shift=9, rank=rank, world=2) for rank in range(2)]
    for name in ("inputs", "targets", "position"):
        together = np.stack([getattr(part.batch(2), name) for part in parts], 1)
        expected = getattr(whole.batch(2), name)
        assert np.array_equal(together.reshape(expected.shape), expected)
    assert whole.fingerprint == parts[1].fingerprint != LineLoader(lines, 16, seed=1, shift=9).fingerprint


def test_shifted_positions_start_anywhere_and_count_on():
    lines = additions(64)
    batch = LineLoader(lines, 64, seed=0, shift=7).batch(0)
    assert set(batch.position[:, 0].tolist()) == set(range(8))
    assert (np.diff(batch.position, axis=1) == 1).all()


def test_what_does_not_fit_together_is_refused():
    lines = additions(20)
    with pytest.raises(HornbookError, match="1 batches of 32 rows cannot be drawn from 20 lines"):
        LineLoader(lines, 32, seed=0)
    with pytest.raises(ValueError, match="one alphabet"):
        join([lines, draw_strings("copy", np.array([2]), np.random.default_rng(0))])
    with pytest.raises(HornbookError, match="at most 255 symbols"):
        Alphabet([chr(300 + i) for i in range(250)])
