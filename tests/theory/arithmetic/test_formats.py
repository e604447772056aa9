"""Every format against a slow reference that follows the sheet with Python numbers and strings."""

import numpy as np
import pytest

from hornbook.errors import HornbookError
from hornbook.theory.arithmetic.formats import (
    Table,
    all_cells,
    draw_lines,
    draw_problems,
    held_out,
    random_cells,
    scratchpad_columns,
    write,
)
from hornbook.theory.arithmetic.lines import SIGNS, spread


def reference(operation, form, a, b, digits):
    """(prompt, answer) as the sheet has them."""
    sign, c = ("*", a * b) if operation == "multiplication" else ("+", a + b)
    x, y, z = str(a), str(b), str(c)
    if form in ("scratchpad", "carries"):
        return f"{x}+{y}=", slow_scratchpad(a, b, restate=form == "scratchpad")
    if form.startswith("padded"):
        wide = 2 * digits if operation == "multiplication" else digits + 1
        x, y, z = x.zfill(digits), y.zfill(digits), z.zfill(wide)
    if form.endswith("reversed"):
        z = z[::-1]
    return f"{x}{sign}{y}=", z


def slow_scratchpad(a, b, *, restate=True):
    """Adds as at school, one digit a line, units first."""
    x, y = str(a)[::-1], str(b)[::-1]
    carry, done, text = 0, "", ""
    for t in range(max(len(x), len(y))):
        total = carry + int(x[t : t + 1] or 0) + int(y[t : t + 1] or 0)
        carry, done = total // 10, str(total % 10) + done
        left, right = x[t + 1 :], y[t + 1 :]
        text += ";" + (f"{left}+{right}" if restate and (left or right) else "") + f"C{carry}:{done}"
    return f"{text};#{a + b}"


CASES = [
    *[("multiplication", form) for form in ("basic", "reversed", "padded", "padded_reversed")],
    *[("addition", form) for form in ("basic", "reversed", "padded", "padded_reversed")],
    *[("addition", form) for form in ("scratchpad", "carries")],
]


@pytest.mark.parametrize(("operation", "form"), CASES)
@pytest.mark.parametrize("digits", [1, 3, 5, 12])
def test_lines_are_the_references(operation, form, digits):
    rng = np.random.default_rng(7)
    lines = draw_lines(operation, form, random_cells(300, digits, rng), rng, digits=digits)
    for row in range(len(lines)):
        prompt, answer = lines.text(row)
        a, b = (int(text) for text in prompt[:-1].split("*" if operation == "multiplication" else "+"))
        assert (prompt, answer) == reference(operation, form, a, b, digits)
        stop = int(lines.length[row])
        assert lines.tokens[row, stop - 1] == SIGNS.end
        assert (lines.tokens[row, stop:] == SIGNS.end).all()
        assert lines.cell[row].tolist() == [len(str(a)), len(str(b))]


def test_the_worked_example_of_the_scratchpad():
    """239 + 821 leaves 32 + 28 after its first line (the fragment of the paper that is known)."""
    assert slow_scratchpad(239, 821) == ";32+28C1:0;2+8C0:60;C1:060;#1060"
    rng = np.random.default_rng(0)
    lines = draw_lines("addition", "scratchpad", np.full((40_000, 2), 3), rng, digits=3, part="train")
    texts = dict(lines.text(row) for row in range(len(lines)))
    assert texts.get("239+821=", slow_scratchpad(239, 821)) == slow_scratchpad(239, 821)


def test_the_scratchpads_grammar_has_its_three_flags():
    table = Table((0, 4, 8, 16, 20))
    names = [*(f"a{i}" for i in range(4)), *(f"b{i}" for i in range(4)), *(f"c{i}" for i in range(8))]
    names += [*(f"k{i}" for i in range(4)), *SIGNS.symbols]

    def shown(**flags):
        return "".join(names[column] for column in scratchpad_columns(table, (2, 2, 3), **flags)[1])

    assert shown() == ";a1+b1Ck0:c0;Ck1:c1c0;#c2c1c0"
    assert shown(show_carry=False) == ";a1+b1:c0;:c1c0;#c2c1c0"
    assert shown(restate=False) == ";Ck0:c0;Ck1:c1c0;#c2c1c0"
    wide = scratchpad_columns(table, (3, 3, 4), reversed_operands=False)[1]
    assert "".join(names[column] for column in wide).startswith(";a2a1+b2b1C")


def test_leading_zeros_are_shown_by_padded_formats_alone():
    rng = np.random.default_rng(5)
    for operation, form in CASES:
        lines = draw_lines(operation, form, random_cells(400, 3, rng), rng, digits=3)
        starts = [lines.text(row)[0] for row in range(len(lines))]
        shows = any(text[0] == "0" and text[1].isdigit() for text in starts)
        assert shows == form.startswith("padded")
        assert lines.fixed == form.startswith("padded")


def test_training_and_test_never_meet_and_small_tables_are_in_both():
    rng = np.random.default_rng(2)
    cells = all_cells((1, 2, 3), 3_000)
    seen, asked = (
        draw_lines("multiplication", "basic", cells, rng, digits=3, part=part) for part in ("train", "test")
    )
    known = {seen.text(row)[0] for row in range(len(seen))}
    large = asked.cell.sum(1) > 3
    for row in range(len(asked)):
        if large[row]:
            assert asked.text(row)[0] not in known
    assert len({asked.text(row)[0] for row in range(len(asked)) if asked.cell[row].tolist() == [1, 1]}) == 100
    problems = draw_problems("addition", np.full((50_000, 2), 4), rng)
    assert 0.055 < held_out(problems).mean() < 0.07


def test_a_problem_drawn_anew_keeps_no_limb_of_the_old_one():
    """Redrawn pairs of a chunk with longer numbers must be whole: the product is checked by Python."""
    rng = np.random.default_rng(11)
    cells = np.concatenate([np.full((500, 2), 2), np.full((500, 2), 14)])
    lines = draw_lines("multiplication", "basic", cells, rng, digits=14, part="test")
    for row in range(len(lines)):
        prompt, answer = lines.text(row)
        a, b = prompt[:-1].split("*")
        assert int(a) * int(b) == int(answer)


def test_cells_keep_their_order_over_chunks():
    rng = np.random.default_rng(0)
    cells = random_cells(90_000, 10, rng)
    lines = draw_lines("addition", "basic", cells, rng, digits=10)
    assert np.array_equal(lines.cell, cells)
    for row in (0, 40_000, 89_999):
        a, b = lines.text(row)[0][:-1].split("+")
        assert [len(a), len(b)] == cells[row].tolist()


def test_random_spaces_stand_behind_prompt_tokens_with_halving_odds():
    rng = np.random.default_rng(4)
    lines = draw_lines("addition", "basic", random_cells(40_000, 5, rng), rng, digits=5)
    spaced = spread(lines, rng)
    gaps = []
    for row in range(0, 40_000, 97):
        (prompt, answer), (wide, same) = lines.text(row), spaced.text(row)
        assert wide.replace(" ", "") == prompt
        assert same == answer
        assert not wide.startswith(" ")
        gaps += [len(piece) for piece in "".join(c if c == " " else "|" for c in wide).split("|")[1:]]
    share = np.bincount(gaps, minlength=5) / len(gaps)
    assert share[4:].sum() == 0
    assert np.abs(share[:4] - [0.5, 0.25, 0.125, 0.125]).max() < 0.04
    assert (spaced.length - lines.length == spaced.prompt - lines.prompt).all()


def test_random_spaces_of_many_lines_are_those_of_each():
    rng = np.random.default_rng(4)
    lines = draw_lines("addition", "basic", random_cells(70_000, 3, rng), rng, digits=3)
    spaced = spread(lines, rng)
    for row in (0, 32_767, 32_768, 69_999):
        assert spaced.text(row)[0].replace(" ", "") == lines.text(row)[0]


def test_bad_input_is_a_sentence():
    rng = np.random.default_rng(0)
    cells = random_cells(10, 3, rng)
    problems = draw_problems("multiplication", np.full((4, 2), 6), rng)
    with pytest.raises(HornbookError, match="operands of 6 digits do not fit the padded format of 5"):
        write(problems, "padded", digits=5)
    with pytest.raises(HornbookError, match="'scratchpad' is for additions"):
        write(problems, "scratchpad", digits=6)
    with pytest.raises(HornbookError, match="format is 'roman'; accepted are basic, reversed"):
        write(problems, "roman", digits=6)
    with pytest.raises(HornbookError, match="operation is 'division'; accepted are multiplication, addition"):
        draw_lines("division", "basic", cells, rng, digits=3)
    with pytest.raises(HornbookError, match="digits is 0; operands have"):
        random_cells(10, 0, rng)
