"""A writing session as a user meets it: ten rows and the whole cost first, then the corpus, within a budget.

session = Session(run, writer("textbooks"), rows=20_000, teacher="http://localhost:11434/v1#qwen3:8b")
preview = session.preview()          # ten rows, and what all will cost
corpus = session.write()             # stops at the budget; the same call with a larger one goes on
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from hornbook.data.corpus import Corpus
from hornbook.data.steps import as_source, gather
from hornbook.errors import HornbookError
from hornbook.lab.report import Sample
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.lm.ledger import Ledger, Price, spending
from hornbook.synth.judging import keep_judged
from hornbook.synth.phi4.steps import choose_seeds
from hornbook.synth.steps import write_stories
from hornbook.synth.teacher import SIMULATED
from hornbook.synth.teaching import PREVIEW
from hornbook.synth.variety import Variety, grouped, report_variety, variety_of
from hornbook.synth.writers import Writer
from hornbook.synth.writing import NothingPassed, text_of


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The first rows, why others of them were removed, and what all rows will cost (empty: nothing is
    called)."""

    rows: list[dict[str, Any]]
    removed: Mapping[str, int]
    cost: str


@dataclass(kw_only=True)
class Session:
    """One corpus to be written.

    Args:
        teacher: `simulated`, `embedded`, a checkpoint or an endpoint; the writer's default where it is empty.
        source: organic text for writers that need it (see `read_source`), of at most `source_bytes`.
        seeds: a corpus of passages instead of those that the rules choose from the source.
        judge: a model that grades every row (see `judging`); only rows with no low grade are kept.
        budget, budget_tokens: the most money and tokens that all rows may cost, earlier answers included.
        options: further arguments of the writer's step; a real teacher's calls are steered to where coverage
            is thin unless `steered` is False here.

    After `preview` and `write`, `variety` says how varied what they wrote is.
    """

    run: Run
    writer: Writer
    rows: int
    seed: int = 0
    teacher: str = ""
    source: str = "python"
    source_bytes: int = 20_000_000
    seeds: Path | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    budget: float | None = None
    budget_tokens: int | None = None
    judge: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise HornbookError(f"rows is {self.rows}; a corpus has at least 1 row.")
        if self.budget is not None and not any(price.known for price in self.prices.values()):
            raise HornbookError("A budget of money needs a price: --price IN/OUT, per million tokens.")
        self.teacher = self.teacher or self.writer.default_teacher
        given = dict(self.options)
        if self.teacher != SIMULATED and self.writer.model and self.writer.takes("steered"):
            given.setdefault("steered", True)
        self._arguments = self.writer.arguments(teacher=self.teacher, given=given)
        self.ledger = self._new_ledger()
        self.variety = Variety(growth=[], facets=[])

    @property
    def calls_a_model(self) -> bool:
        """Whether anything is asked of a model: then a large job deserves a preview."""
        return bool(self.judge) or (self.writer.model and self.teacher != SIMULATED)

    def preview(self, rows: int = PREVIEW) -> Preview:
        """The first `rows` rows, which the whole corpus will hold too, and the cost of all."""
        first = min(rows, self.rows)
        self.ledger = self._new_ledger()
        try:
            made = self._write(first)
            shown, removed = _first(made, rows), made.facts["removed"]
            self.variety = variety_of(made)
        except HornbookError as error:
            if not isinstance(error.__cause__, NothingPassed):
                raise
            shown, removed = [], error.__cause__.reasons
        cost = self.ledger.forecast(self.rows / first) if self.calls_a_model else ""
        return Preview(rows=shown, removed=removed, cost=cost)

    def write(self) -> Artifact:
        """The corpus, and a report of it in the run.

        Raises:
            HornbookError: the budget is used up; everything written is kept for the same call with a larger
            one.
        """
        self.ledger = self._new_ledger()
        made = self._write(self.rows)
        self.run.output(corpus=made)
        self.variety = variety_of(made)
        report_writing(self.run, self.writer, made, self.ledger, self.variety)
        return made

    def _new_ledger(self) -> Ledger:
        return Ledger(self.prices, budget=self.budget, budget_tokens=self.budget_tokens)

    def _write(self, rows: int) -> Artifact:
        inputs: dict[str, Any] = dict(self._arguments)
        if self.writer.takes("rows"):
            inputs["rows"] = rows
        with spending(self.ledger):
            if self.writer.needs:
                inputs[self.writer.needs] = self._read(rows)
            made = self.run.step(self.writer.step, seed=self.seed, **inputs)
            return self.run.step(keep_judged, corpus=made, judge=self.judge) if self.judge else made

    def _read(self, rows: int) -> Artifact | Path:
        if self.writer.needs == "stories":
            steered = self.teacher != SIMULATED
            return self.run.step(
                write_stories, rows=rows, seed=self.seed, teacher=self.teacher, steered=steered
            )
        if self.writer.needs == "seeds" and self.seeds is not None:
            return self.seeds
        documents = self.run.step(gather, source=as_source(self.source), limit_bytes=self.source_bytes)
        if self.writer.needs == "documents":
            return documents
        return self.run.step(choose_seeds, documents=documents, rows=100_000)


def _first(made: Artifact, rows: int) -> list[dict[str, Any]]:
    return list(islice(Corpus.open(made.path).iter_rows(), rows))


def report_writing(run: Run, writer: Writer, made: Artifact, ledger: Ledger, variety: Variety) -> None:
    """What was written and removed, what it cost, and how varied it is."""
    report, facts = run.report, made.facts
    report.title = f"Written: {writer.name}"
    report.section("Rows", f"{writer.summary[:1].upper()}{writer.summary[1:]} ({writer.paper}).")
    figures = [(name, f"{facts[name]:,}") for name in ("rows", "words") if name in facts]
    report.figures([*figures, ("teacher", str(facts.get("teacher", "simulated")))])
    if facts["removed"]:
        report.table(["removed because", "rows"], [list(one) for one in grouped(facts["removed"])[:20]])
    shown = [Sample(text=text_of(row), label=str(row["id"])) for row in _first(made, PREVIEW)]
    report.samples("The first rows", shown, shown=3)
    if ledger.accounts:
        report.section("Cost").table(*ledger.table())
    report_variety(report, variety)


def read_options(pairs: list[str]) -> dict[str, Any]:
    """`name=value` pairs of a command; values are JSON, or plain words.

    Raises:
        HornbookError: a pair without "=".
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise HornbookError(f"The option {pair!r} has no value; write name=value, such as samples=7.")
        try:
            options[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            options[name.replace("-", "_")] = value
    return options
