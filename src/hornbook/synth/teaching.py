"""A real teacher's work on a corpus: which plans it is called for, what came of them, and the rows written.

Every writer hands over its tasks by number. Steered, more plans are drawn than calls are made, and each batch
of calls goes to those whose facets are thinly covered by what was written before it (see `coverage`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.step import StepContext
from hornbook.lm.base import LanguageModel, Usage
from hornbook.lm.ledger import Ledger
from hornbook.lm.line import Streaming
from hornbook.synth.coverage import Facet, Facets, choose_steered, facets_in, write_steered
from hornbook.synth.plans import Choices, Drawn, batches
from hornbook.synth.safety import unsafe_problem
from hornbook.synth.scripts import Row, Task, perform
from hornbook.synth.writing import text_of, write_corpus

PREVIEW = 10
"""Rows written before a larger job, to show what they are like and what all will cost."""
STEERED_WIDTH = 4
"""Plans drawn for each call of a steered session: a plan costs no call."""
FOLLOWED = 10_000
"""Rows of a real teacher whose coverage is followed as they grow in number."""
_LEAST_DRAWN = 1000  # plans drawn to know what there is to be hit
_NAMED = 20


@dataclass(kw_only=True)
class _Facets:
    """By facet: was it drawn only (0), asked for (1), or did a row come of it (2)?"""

    fates: dict[Facet, int]

    def of(self, task: Task) -> Facets:
        for facet in facets_in(task.facets):
            self.fates.setdefault(facet, 0)
        return task.facets

    def end(self, task: Task, came: bool) -> None:
        for facet in facets_in(task.facets):
            self.fates[facet] = max(self.fates.get(facet, 0), 2 if came else 1)

    def facts(self) -> dict[str, dict[str, Any]]:
        """For each kind how many values were drawn, asked for and hit, and examples of those never hit: first
        the ones that were asked for in vain."""
        kinds = dict.fromkeys(kind for kind, _ in self.fates)
        found = {}
        for kind in kinds:
            own = {value: fate for (k, value), fate in self.fates.items() if k == kind}
            missed = sorted((value for value, fate in own.items() if fate < 2), key=lambda v: -own[v])
            found[kind] = {
                "known": len(own),
                "asked": sum(fate > 0 for fate in own.values()),
                "hit": len(own) - len(missed),
                "never_hit": missed[:_NAMED],
            }
        return found


def teach(
    ctx: StepContext,
    teacher: LanguageModel,
    tasks: Sequence[Task],
    calls: int | None = None,
    *,
    steered: bool = False,
) -> tuple[list[Row], list[Row], dict[str, Any]]:
    """Rows, removed rows with reasons, and the lineage and counts of a real teacher's work.

    When the first `PREVIEW` rows of a large job have come, its cost is said. `corrected` counts rows that
    were right only after their correction turn, `facets` which topics, names... were drawn, asked for, came
    out.

    Args:
        tasks: what may be written, by number; without end for a writer that draws its plans (`Drawn`).
        calls: how many tasks are done (None: all).
        steered: spend the calls where what is written so far is thin, rather than on the first tasks. What
            was chosen is kept beside the call store: the same command goes on with the same plans.

    Raises:
        BudgetExceeded: the budget is used up; the same command with a larger one goes on.
    """
    calls = len(tasks) if calls is None else min(calls, len(tasks))
    progress = ctx.progress(calls, "texts", teacher.identity)
    rows: list[Row] = []
    removed: list[Row] = []
    corrected = 0
    facets = _Facets(fates={})
    ledger: Ledger | None = getattr(teacher, "ledger", None)
    first = PREVIEW if ledger is not None and calls >= 10 * PREVIEW else 0
    seen: list[tuple[Usage, float]] = []
    done = 0

    texts: list[str] = []

    def write(numbers: Iterable[int | None]) -> list[str]:
        nonlocal corrected, done
        begun = len(texts)
        asked = (None if number is None else tasks[number] for number in numbers)
        for written in perform(teacher, asked, progress=progress):
            done += 1
            if ledger is not None and done <= first:
                seen.extend(written.spent)
                if done == first:
                    cost = ledger.forecast_of(_account_of(teacher), seen, calls / first)
                    ctx.say(f"All {calls:,} rows will take {cost}.")
            safe = list[Row]()
            for row in written.rows:  # whatever of its calls a row was put together from
                text = text_of(row)
                if unsafe := unsafe_problem(text):
                    removed.append({"reason": unsafe, "id": row["id"], "text": text})
                else:
                    safe.append(row)
            texts.append("\n".join(map(text_of, safe)))
            facets.end(written.task, bool(safe))
            rows.extend(safe)
            corrected += written.corrected and bool(safe)
            if not written.rows:
                removed.append({"reason": written.problem, "id": written.task.id, "text": written.text})
        return texts[begun:]

    if steered and calls:
        plans = [task.id for task in tasks[:PREVIEW]]
        chosen = Choices(ctx.folder.parent.parent / "steering", [teacher.identity, plans])
        drawn = Drawn(lambda number: facets.of(tasks[number]), len(tasks))
        told: dict[str, Any] = {
            "batch": batches(PREVIEW),
            "width": STEERED_WIDTH,
            "remembered": chosen.read(),
            "remember": chosen.add,
        }
        if isinstance(teacher, Streaming):  # the next batch is chosen while one is on its way
            picked = choose_steered(drawn, calls, texts, ahead=1, **told)
            write(chain.from_iterable([None] if batch is None else batch for batch in picked))
        else:
            write_steered(drawn, calls, write, **told)
    else:
        alone = 0 if isinstance(teacher, Streaming) else first  # others say nothing before a whole wave
        write(range(alone))
        write(range(alone, calls))
    for task in tasks[:_LEAST_DRAWN]:
        facets.of(task)
    return rows, removed, {"teacher": teacher.identity, "corrected": corrected, "facets": facets.facts()}


def _account_of(teacher: LanguageModel) -> str:
    """The name under which its calls are counted: an endpoint's model, or a local model."""
    name = getattr(teacher, "model", None)
    return name if isinstance(name, str) else teacher.identity


def write_taught(
    ctx: StepContext,
    teacher: LanguageModel,
    tasks: Sequence[Task],
    calls: int | None = None,
    *,
    steered: bool = False,
    writer: str,
    seed: int,
    schema: str = "documents",
    rows: int | None = None,
    **lineage: Any,
) -> dict[str, Any]:
    """Has a teacher do the tasks (see `teach`) and writes what came of them, of several rows a call at most
    `rows`.

    Raises:
        HornbookError: there is no task.
    """
    if not tasks:
        raise HornbookError("There is nothing to write from: the seeds hold no text of the kind needed.")
    kept, removed, counts = teach(ctx, teacher, tasks, calls, steered=steered)
    how = {"writer": writer, "seed": seed, "steered": steered, **lineage, **counts}
    total = rows or (len(tasks) if calls is None else min(calls, len(tasks)))
    return write_corpus(
        ctx, kept[:rows], total=total, schema=schema, lineage=how, removed=removed, follow=FOLLOWED
    )


def not_steered(steered: bool) -> None:
    """Refuses to steer the simulated teacher."""
    if steered:
        raise HornbookError(
            "steered=True chooses what a teacher is called for next; the simulated teacher is not called and "
            "draws its plans evenly. Name a teacher, or leave steered out."
        )
