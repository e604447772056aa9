"""Textbook passages: what they say a program prints is what it prints."""

import json
import re
import subprocess
import sys

from hornbook.synth.concepts_science import CONCEPTS
from hornbook.synth.textbooks import textbook_rows, write_passage


def test_printed_outputs_are_true() -> None:
    """All programs in one other interpreter, each output compared with the passage."""
    passages = [p for p in (write_passage(1, index) for index in range(400)) if p.code]
    assert len(passages) > 150
    mark = "\n=====\n"
    program = "\n".join(f"exec({p.code!r}, {{}})\nprint({mark!r}, end='')" for p in passages)
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    for passage, output in zip(passages, printed.split(mark)):
        assert output.strip("\n") == passage.output
        assert passage.output in passage.text.split(passage.code)[1]
        assert passage.code in passage.text


def test_every_concept_is_taught_and_no_slot_is_left() -> None:
    passages = [write_passage(2, index) for index in range(1500)]
    assert {p.concept for p in passages} == {concept.name for concept in CONCEPTS}
    for passage in passages:
        prose = (
            passage.text.replace(passage.code, "").replace(passage.output, "")
            if passage.code
            else passage.text
        )
        assert not set("{}|") & set(prose), passage.text


def test_held_out_plans_are_never_taught_and_cover_every_concept() -> None:
    train = {p.plan for p in (write_passage(3, i) for i in range(3000))}
    test = {p.plan for p in (write_passage(3, i, held_out=True) for i in range(600))}
    assert not train & test
    assert {plan.split("/")[0] for plan in test} == {concept.name for concept in CONCEPTS}


def test_worked_numbers_are_right() -> None:
    """Every `a + b = c` of a scene, by an independent reading of the text."""
    checked = 0
    for index in range(1500):
        for left, sign, right, result in re.findall(
            r"(\d+) ([-+*/]) (\d+) = (\d+)", write_passage(5, index).text
        ):
            a, b = int(left), int(right)
            assert int(result) == {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[sign]
            checked += 1
    assert checked > 100


def test_rows_are_the_same_for_a_seed() -> None:
    rows = list(textbook_rows(4, 12))
    assert rows[5:] == list(textbook_rows(4, 12, start=5))
    assert json.loads(rows[0]["meta"])["writer"].startswith("textbooks-")
