"""A judge over a corpus: rows whose grades are too low go, with the grade as the reason."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import LanguageModel
from hornbook.synth.rubric import DRAFT, VERSION
from hornbook.synth.scripts import Rejected, Row, Script, Scripted, Work
from hornbook.synth.teaching import teach
from hornbook.synth.writing import not_by_the_small_one, open_for, text_of, write_corpus


@step(version=VERSION, makes="corpus")
def keep_judged(
    ctx: StepContext, *, corpus: Artifact | Path, judge: str | LanguageModel, least: int = 3
) -> Mapping[str, Any]:
    """Rows that a judge grades at least `least` (of 5) on every criterion of `rubric.DRAFT`.

    Facts: as of a written corpus, and `grades`, the mean of each criterion over the kept rows.

    Raises:
        HornbookError: the judge is simulated or the embedded model, which was measured unfit to judge.
    """
    source = Corpus.open(corpus.path if isinstance(corpus, Artifact) else corpus)
    model = open_for(ctx, judge)
    if isinstance(model, str):
        raise HornbookError('The simulated teacher grades nothing; name a judge: "http://host/v1#model".')
    not_by_the_small_one(model, "judgements")
    bounds = dict.fromkeys(DRAFT.criteria, least)

    def task(row: Row) -> Scripted:
        def steps(work: Work) -> Script:
            grades = yield from DRAFT.grade(work, text_of(row))
            low = grades.low(bounds)
            if low:
                raise Rejected(f"judge: {low}", text_of(row))
            known = json.loads(row["meta"] or "{}") | {"grades": dict(grades.scores)}
            return {**row, "meta": json.dumps(known, ensure_ascii=False)}

        return Scripted(id=f"judge-{row['id']}", steps=steps)

    kept, removed, counts = teach(ctx, model, [task(row) for row in source.iter_rows()])
    lineage = {"writer": VERSION, "from": source.sha256, "judge": counts["teacher"], "least": least}
    facts = write_corpus(
        ctx,
        kept,
        total=source.rows,
        schema=source.schema,
        lineage=lineage,
        drop_repeats=False,
        removed=removed,
    )
    graded = [json.loads(row["meta"])["grades"] for row in kept]
    facts["grades"] = {name: sum(g[name] for g in graded) / len(graded) for name in DRAFT.criteria}
    return facts
