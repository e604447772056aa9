"""Preview first, a budget that stops cleanly, and the command that shows both to a user."""

import json
import re
from pathlib import Path

import pytest
from command_line import call
from story_server import Teacher, serving

from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.lm.base import Usage, ask
from hornbook.lm.ledger import ANY, BudgetExceeded, Ledger, Price, current_ledger, read_price, spending
from hornbook.lm.simulated import SimulatedModel
from hornbook.lm.store import CallStore
from hornbook.synth.remembered import RememberedModel
from hornbook.synth.session import Session, read_options
from hornbook.synth.writers import WRITERS, writer


def write(teacher: Teacher, home: Path, *more: object) -> tuple[int, str, str]:
    return call(
        "write", "stories", "--teacher", f"{teacher.url}#m", "--home", home, "--price", "1000/2000", *more
    )


def test_ten_rows_and_the_whole_cost_come_first_and_nothing_else_is_asked(tmp_path: Path) -> None:
    with serving() as teacher:
        code, said, _ = write(teacher, tmp_path, "--rows", 400, "--preview")
        asked = dict(teacher.answered)
    assert code == 0
    assert len(asked) == 10
    assert said.count("\n--- taught-story-") + said.startswith("--- taught-story-") == 10
    line = next(line for line in said.splitlines() if line.startswith("400 rows"))
    tokens_in = 40 * sum(len(prompt.split()) for prompt in asked)
    calls, shown_in, shown_out, money = (
        float(text.replace(",", ""))
        for text in re.findall(r"([\d,.]+) (?:calls|tokens in|tokens out|in money)", line)[:4]
    )
    assert calls == 400
    assert shown_in == tokens_in
    assert money == pytest.approx((tokens_in * 1000 + shown_out * 2000) / 1e6, abs=0.01)


def test_a_large_job_is_not_begun_unasked(tmp_path: Path) -> None:
    with serving() as teacher:
        code, _, complaint = write(teacher, tmp_path, "--rows", 50)
        assert (code, teacher.answered.total()) == (1, 10)
        assert "--yes" in complaint
        code, said, _ = write(teacher, tmp_path, "--rows", 50, "--yes")
        assert code == 0, said
        assert teacher.answered.total() == 50
        assert set(teacher.answered.values()) == {1}
    assert "40 calls paid now, 10 from before" in said
    assert "hornbook data show" in said
    page = (tmp_path / "write-stories-50-rows" / "report.html").read_text()
    for words in ("Diversity", "near duplicates", "never hit", "The first rows", "Cost"):
        assert words in page


@pytest.mark.parametrize("budget", [("--budget-tokens", 6000, 60_000), ("--budget-usd", 9, 90)])
def test_a_budget_stops_and_the_same_command_with_a_larger_one_goes_on(
    tmp_path: Path, budget: tuple[str, int, int]
) -> None:
    flag, little, enough = budget
    with serving() as teacher:
        code, _, complaint = write(teacher, tmp_path, "--rows", 60, "--yes", flag, little)
        assert code == 1
        paid = teacher.answered.total()
        assert 10 <= paid < 60
        assert "budget" in complaint
        assert "larger budget" in complaint
        assert complaint.rstrip().splitlines()[-1].count("hornbook:") == 1
        code, _, _ = write(teacher, tmp_path, "--rows", 60, "--yes", flag, little)
        assert (code, teacher.answered.total()) == (1, paid), "the same budget is not spent a second time"
        code, said, complaint = write(teacher, tmp_path, "--rows", 60, "--yes", flag, enough)
        assert code == 0, complaint
        assert teacher.answered.total() == 60
        assert set(teacher.answered.values()) == {1}, "no answer was paid for twice"
    assert "60 rows" in said


def test_a_recipe_keeps_the_budget_too(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from dataclasses import dataclass\n"
        "from hornbook.synth.steps import write_stories\n"
        "TITLE, PAPER = 'Mine', 'none'\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Settings:\n    teacher: str = ''\n"
        "SCALES = {'smoke': Settings()}\n"
        "def recipe(run, settings):\n    run.step(write_stories, rows=60, teacher=settings.teacher)\n"
    )
    with serving() as teacher:
        common = (
            "run",
            recipe,
            "--scale",
            "smoke",
            "--home",
            tmp_path / "runs",
            "--teacher",
            f"{teacher.url}#m",
        )
        code, _, complaint = call(*common, "--budget-tokens", 6000)
        assert code == 1
        assert "larger budget" in complaint
        assert teacher.answered.total() < 60
        code, _, complaint = call(*common)
        assert code == 0, complaint
        assert set(teacher.answered.values()) == {1}
    assert "What the calls cost" in (tmp_path / "runs" / "mine-smoke" / "report.html").read_text()


def test_every_writer_is_listed_and_what_it_cannot_is_said(tmp_path: Path) -> None:
    code, said, _ = call("write")
    assert code == 0
    assert set(WRITERS) == {line.split()[0] for line in said.splitlines() if not line.startswith(" ")}
    for arguments, says in (
        (("haiku",), "There is no writer 'haiku'. Writers: stories"),
        (("word-problems", "--teacher", "embedded"), "not fit to write word-problems"),
        (("preferences", "--teacher", "http://localhost:1/v1#m"), "simulated teacher alone"),
        (("stories", "--rows", "0"), "at least 1 row"),
        (("stories", "--budget-usd", "3"), "--price"),
        (("stories", "--price", "cheap"), "'cheap' cannot be read"),
        (("plurality", "--set", "depth=3"), "has no option 'depth'; it has: questions, samples, wrong_each"),
        (("revised", "--teacher", "simulated"), "needs a model"),
        (("plurality", "--set", "samples"), "write name=value"),
    ):
        code, _, complaint = call("write", *arguments, "--home", tmp_path)
        assert code == 1
        assert says in complaint
        assert "Traceback" not in complaint


def test_writers_without_a_model_write_at_once(tmp_path: Path) -> None:
    code, said, complaint = call(
        "write", "plurality", "--rows", 60, "--set", "samples=3", "--home", tmp_path, "--seed", 4
    )
    assert code == 0, complaint
    assert re.search(r"^\d\d rows, [\d,]+ words", said, re.M)
    assert read_options(["k=2", "held-out=true", "about=stories"]) == {
        "k": 2,
        "held_out": True,
        "about": "stories",
    }
    assert writer("revised").default_teacher == "embedded"


def test_a_teacher_whose_first_rows_all_fail_is_not_given_the_rest(tmp_path: Path) -> None:
    with serving() as teacher:
        teacher.mode = "refuse"
        code, said, complaint = write(teacher, tmp_path, "--rows", 500, "--yes")
        assert teacher.answered.total() == 10
    assert code == 1
    assert "removed 10: call failed: refusal" in said
    assert "500 rows: m: about 500 calls" in said
    assert "name another teacher" in complaint


def test_every_writer_that_needs_no_model_writes_and_reports(tmp_path: Path) -> None:
    text = (
        "A hook is a bent piece of iron. If the hook is warm, the wax on it melts. It holds 3 coats, "
        "because it is "
        "made of iron. Therefore a hook of wax is the wrong thing, since it bends when 2 coats hang on it. "
        "A nail is a straight piece of iron, and it holds because the wood grips it on all 4 sides. "
    )
    source = tmp_path / "notes"
    source.mkdir()
    for page in range(3):
        (source / f"{page}.txt").write_text("\n\n".join(f"Note {page}{n}. {text}" for n in range(3)))
    run = Run(tmp_path / "runs", recipe="t", scale="smoke", settings={}, quiet=True)
    for name, one in WRITERS.items():
        if one.simulated:
            made = Session(run=run, writer=one, rows=12, source=str(source)).write()
            rows = list(Corpus.open(made.path).iter_rows())
            assert rows, name
            assert made.facts["rows"] == len(rows), name
            assert all("writer" in json.loads(row["meta"]) for row in rows), name
    assert run.finish() is not None


def test_a_ledger_projects_by_the_mean_and_counts_what_the_store_gave() -> None:
    ledger = Ledger(
        {ANY: Price(input_per_million=1.0), "dear": Price(output_per_million=10.0)}, budget_tokens=1000
    )
    assert ledger.room_for("m", 0)
    assert not ledger.room_for("m", 1), "the first call goes alone"
    ledger.add("m", Usage(100, 200), seconds=2.0)
    ledger.add("m", Usage(100, 200, cached=True), seconds=4.0)
    projected = ledger.project(5)
    assert (projected.calls, projected.prompt_tokens, projected.completion_tokens) == (10, 1000, 2000)
    assert (projected.money, projected.seconds) == (pytest.approx(1e-3), 30.0)
    assert ledger.room_for("m", 0)
    assert not ledger.room_for("m", 1), "two more of 300 tokens each would pass 1000"
    assert "300" not in str(ledger.exceeded())
    assert "1,000 tokens (600 used)" in str(ledger.exceeded())
    assert read_price("gpt=0.5/2") == {"gpt": Price(input_per_million=0.5, output_per_million=2.0)}
    with spending(ledger):
        assert current_ledger() is ledger
    assert current_ledger() is not ledger
    with pytest.raises(HornbookError, match="Nothing to project"):
        Ledger().project(1, model="m")
    assert json.loads(json.dumps(ledger.as_json()))["m"]["cached_calls"] == 1


def test_a_local_teacher_keeps_a_budget_of_tokens_and_its_kept_answers_count(tmp_path: Path) -> None:
    model = SimulatedModel("local", lambda request: "ten words " * 20)
    requests = [ask(f"Say {n}.", salt=str(n)) for n in range(40)]
    with CallStore(tmp_path / "calls.sqlite") as store:
        little = Ledger(budget_tokens=500)
        with pytest.raises(BudgetExceeded, match="larger budget"):
            RememberedModel(model, store, ledger=little).complete(requests)
        (account,) = little.accounts.values()
        assert account.paid_calls == 16, "one batch, after which 500 tokens are used up"
        enough = Ledger()
        answers = RememberedModel(model, store, ledger=enough).complete(requests)
        (account,) = enough.accounts.values()
    assert (account.paid_calls, account.cached_calls) == (24, 16)
    assert [answer.cached for answer in answers] == [True] * 16 + [False] * 24
    assert account.tokens == 40 * (answers[0].usage.total_tokens)
