"""Greedy answers against full decoding, and marks against hand-made answers."""

import numpy as np
import pytest
import torch

from hornbook.errors import HornbookError
from hornbook.infer.greedy import greedy
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.theory.arithmetic.exam import answers, by_cell, by_digit, mark
from hornbook.theory.arithmetic.formats import all_cells, draw_lines, random_cells
from hornbook.theory.arithmetic.lines import SIGNS


def decoder(positions="learned", vocab_size=19, **changes):
    torch.manual_seed(2)
    model = Decoder(
        ModelConfig(
            vocab_size=vocab_size,
            hidden_size=32,
            layers=2,
            heads=2,
            intermediate_size=48,
            positions=positions,
            tag_size=8 if positions == "tags" else 0,
            **{"max_position": 80, **changes},
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)  # decisive scores, so that rounding does not choose
    return model.eval()


def some(form="basic", digits=4, each=3):
    rng = np.random.default_rng(0)
    return draw_lines("addition", form, all_cells(range(1, digits + 1), each), rng, digits=digits)


@pytest.mark.parametrize("positions", ["learned", "none", "rotary"])
@pytest.mark.parametrize("batch", [7, 500])
def test_cached_answers_are_those_of_reading_everything_anew(positions, batch):
    """Whatever is answered together; each answer is cut four tokens behind the wanted one's end."""
    model, lines = decoder(positions), some(digits=3, each=2)
    given = answers(model, lines, batch=batch)
    for row in range(len(lines)):
        tokens = lines.tokens[row, : lines.prompt[row]].tolist()
        for expected in given[row].tolist():
            found = int(model.logits(model(torch.tensor([tokens]))[0, -1]).argmax())
            assert found == expected
            tokens.append(found)
            if found == SIGNS.end or len(tokens) == lines.length[row] + 4:
                break
        assert (given[row, len(tokens) - int(lines.prompt[row]) :] == SIGNS.end).all()


def test_rows_that_end_early_leave_the_others_alone():
    """Dropping finished rows from the cache must not mix rows up."""
    model = decoder("none")
    with torch.no_grad():
        model.embed_tokens.weight.mul_(0.3)
    lines = some(each=12)
    prompts = torch.from_numpy(lines.tokens[:, :3].astype(np.int64))
    free = torch.zeros(len(lines), dtype=torch.long)
    whole = greedy(model, prompts, free, steps=25)
    stop = int(torch.bincount(whole.flatten(), minlength=len(SIGNS)).argsort(descending=True)[2])
    stopped = greedy(model, prompts, free, steps=25, stop=stop)
    ends = 0
    for long, short in zip(whole.tolist(), stopped.tolist(), strict=True):
        cut = long.index(stop) if stop in long else 25
        ends += cut < 25
        assert short == long[:cut] + [stop] * (25 - cut)
    assert 0 < ends < len(lines)


def test_tags_are_drawn_by_the_seed_and_leave_the_callers_random_numbers_alone():
    model, lines = decoder("tags"), some()
    torch.manual_seed(9)
    before = torch.get_rng_state()
    first, again, other = (answers(model, lines, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def perfect(lines, spare=3):
    width = int((lines.length - lines.prompt).max()) + spare
    out = np.full((len(lines), width), SIGNS.end, np.uint8)
    for row in range(len(lines)):
        answer = lines.tokens[row, lines.prompt[row] : lines.length[row]]
        out[row, : len(answer)] = answer
    return out


@pytest.mark.parametrize("form", ["basic", "reversed", "padded", "padded_reversed", "scratchpad"])
def test_the_right_answer_is_right_in_every_format(form):
    lines = some(form)
    marks = mark(lines, perfect(lines))
    assert marks.right.all()
    assert set(np.unique(marks.digit)) <= {1, -1}
    assert by_cell(lines, marks)[2, 3] == (3, 3)
    assert all(right == asked for right, asked in by_digit(marks))
    sums = [sum(map(int, lines.text(row)[0][:-1].split("+"))) for row in range(len(lines))]
    shown = 5 if lines.fixed else 0
    lengths = [max(shown, len(str(value))) for value in sums]
    assert by_digit(marks)[2][1] == sum(length > 2 for length in lengths)


@pytest.mark.parametrize("form", ["basic", "reversed", "padded", "padded_reversed", "scratchpad"])
def test_a_wrong_digit_is_found_at_its_place(form):
    rng = np.random.default_rng(0)
    lines = draw_lines("addition", form, np.full((50, 2), 4), rng, digits=4)
    given = perfect(lines, 0)
    for row in range(50):
        stop = int(lines.length[row] - lines.prompt[row]) - 1
        place = 2 if form.endswith("reversed") else stop - 3
        given[row, place] = (given[row, place] + 1) % 10
    marks = mark(lines, given)
    assert not marks.right.any()
    assert (marks.digit[:, 2] == 0).all()
    assert (np.delete(marks.digit, 2, axis=1) != 0).all()


def test_length_errors_count_in_unpadded_formats_alone():
    for form in ("basic", "reversed", "padded_reversed"):
        rng = np.random.default_rng(0)
        lines = draw_lines("addition", form, np.full((20, 2), 3), rng, digits=3)
        longer, endless = perfect(lines), perfect(lines)
        for row in range(20):
            longer[row, int(lines.length[row] - lines.prompt[row]) - 1] = 0
        endless[endless == SIGNS.end] = SIGNS.ids["+"]
        assert mark(lines, longer).right.all() == lines.fixed
        assert mark(lines, endless).right.all() == lines.fixed
        shorter = perfect(lines)
        shorter[:, 2:] = SIGNS.end
        assert not mark(lines, shorter).right.any()


def test_of_a_scratchpad_only_the_number_behind_the_last_sign_counts():
    lines = some("scratchpad")
    given = perfect(lines)
    given[:, 0] = SIGNS.ids["C"]
    assert mark(lines, given).right.all()
    given[given == SIGNS.ids["#"]] = SIGNS.ids[";"]
    assert not mark(lines, given).right.any()


def test_what_does_not_fit_is_a_sentence():
    lines = some()
    with pytest.raises(
        HornbookError, match=r"vocabulary of 12 tokens and this task 19 symbols.*vocab_size=19"
    ):
        answers(decoder(vocab_size=12), lines)
    with pytest.raises(HornbookError, match="do not fit a model with 12 learned positions"):
        answers(decoder(max_position=12), lines)
    broken = decoder()
    with torch.no_grad():
        broken.norm.weight.fill_(float("nan"))
    with pytest.raises(HornbookError, match="not finite"):
        answers(broken, lines)
    rng = np.random.default_rng(0)
    empty = draw_lines("addition", "basic", random_cells(0, 3, rng), rng, digits=3)
    assert answers(decoder(), empty).shape[0] == 0
