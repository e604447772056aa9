"""Pages are filled from the run itself: every number of a claim or table, nothing else touched."""

import json
from dataclasses import dataclass

import pytest

from hornbook.cli import main
from hornbook.errors import HornbookError
from hornbook.lab.claim import Claim, over_seeds
from hornbook.lab.history import latest_run
from hornbook.lab.report import Bar
from hornbook.lab.report_markdown import fill, run_markdown
from hornbook.lab.run import Run


@dataclass(frozen=True, kw_only=True)
class Settings:
    seeds: tuple[int, ...] = (0, 1, 2)


@pytest.fixture
def home(tmp_path):
    run = Run(tmp_path / "runs", recipe="demo", scale="quick", settings=Settings(), quiet=True)
    run.claim(over_seeds("gain", "It gains.", [0.5, 0.6, 0.7], above=0.0, unit="points", paper_value="more"))
    run.claim(Claim(id="open", sentence="A | in a cell.", why="Nothing was run."))
    run.report.section("What was found")
    run.report.table(["arm", "rate"], [["a|b", 0.12345], ["c", 12345]], title="Rates", note="Of all.")
    run.report.bars("Bars", [Bar(label="one", value=0.5, interval=(0.25, 0.75))])
    run.report.heat_map("Heat", ["r"], ["x", "y"], [[0.5, None]])
    run.finish()
    return tmp_path / "runs"


def command(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert not stop.value.code


def cells(line):
    return [cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")]


def test_claims_and_tables_are_well_formed_markdown(home):
    text = run_markdown(latest_run(home))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert ["It gains.", "more", "0.6 [0.352, 0.848] points", "holds"] in [cells(row) for row in rows]
    assert "3 seeds" in text
    assert "Nothing was run." in text
    assert ["a\0b", "0.123"] in [cells(row) for row in rows]
    assert ["c", "12,345"] in [cells(row) for row in rows]
    assert ["one", "0.5", "0.25 to 0.75"] in [cells(row) for row in rows]
    assert ["r", "0.5", ""] in [cells(row) for row in rows]
    assert "Settings at scale" not in text


def test_places_are_filled_again_and_again_and_the_rest_stays(home, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Demo\n\nBefore.\n\n<!-- run demo-quick: claims -->\nstale\n<!-- end of run -->\n\nBetween.\n"
        "<!-- run demo-quick: Rates -->\n<!-- end of run -->\nAfter.\n"
    )
    assert fill(page, home) == ["demo-quick: claims", "demo-quick: Rates"]
    once = page.read_text()
    assert "stale" not in once
    assert once.startswith("# Demo\n\nBefore.\n")
    assert once.endswith("<!-- end of run -->\nAfter.\n")
    assert "It gains." in once
    assert "| c | 12,345 |" in once
    fill(page, home)
    assert page.read_text() == once


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "keeps no place"),
        ("<!-- run demo-quick: claims -->\nopen", "no line <!-- end of run -->"),
        ("<!-- run demo-gpu: claims -->\n<!-- end of run -->", "there are: demo-quick"),
        ("<!-- run demo-quick: Rats -->\n<!-- end of run -->", "it has: claims, Rates, Bars, Heat"),
    ],
)
def test_a_place_that_cannot_be_filled_leaves_the_page_and_says_why(home, tmp_path, text, said):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(HornbookError, match=said):
        fill(page, home)
    assert page.read_text() == text


def test_the_command_prints_and_fills(home, tmp_path, capsys):
    command("report", "demo", "--markdown", "--home", str(home))
    assert capsys.readouterr().out == run_markdown(latest_run(home))
    page = tmp_path / "page.md"
    page.write_text("<!-- run demo-quick: Heat -->\n<!-- end of run -->\n")
    command("report", "--fill", str(page), "--home", str(home))
    assert "demo-quick: Heat" in capsys.readouterr().out
    assert "| r | 0.5 |  |" in page.read_text()


def test_a_scale_that_was_not_run_is_named(home, capsys):
    with pytest.raises(SystemExit):
        main(["report", "demo", "--scale", "gpu", "--home", str(home)])
    assert "at scale 'gpu'" in capsys.readouterr().err


def test_a_lost_report_is_a_sentence(home):
    (home / "demo-quick" / "report.json").write_text(json.dumps({})[:1])
    with pytest.raises(HornbookError, match="Run the recipe again"):
        run_markdown(latest_run(home))
