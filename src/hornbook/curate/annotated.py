"""The filter of phi-1 (section 2.1): a rater grades a sample, a classifier spreads the grades over the pool.

A rater is a language model fit to grade, or for pools whose rows carry the truth in `meta.educational` that
truth with some labels turned, as a rater of known reliability would give it.
"""

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hornbook.curate.educational import EducationalModel, EducationalSettings, fit
from hornbook.curate.words import split
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.errors import HornbookError
from hornbook.lab.statistics import wilson_interval
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import LanguageModel

TRUTH = "truth"
_HIGH = 3  # the least of the grades 0 to 5 that counts as high
_BATCH = 512


def _corpus(source: Artifact | Path) -> Corpus:
    return Corpus.open(source.path if isinstance(source, Artifact) else source)


@step(version="1", makes="classifier")
def fit_on_ratings(
    ctx: StepContext,
    *,
    corpus: Artifact | Path,
    count: int,
    rater: str | LanguageModel = TRUTH,
    turned: float = 0.1,
    settings: EducationalSettings | None = None,
    seed: int = 0,
) -> Mapping[str, Any]:
    """Has `count` documents rated and fits the classifier of educational value on the ratings.

    Args:
        corpus: the pool.
        rater: a language model, a name that `open_model` understands, or "truth": `meta.educational`, with a
            share `turned` of the labels the wrong way round.

    Facts: the card (held-out precision, recall, AUC, calibration), `rated`, `high` (share), `unrated`.
    """
    pool = _corpus(corpus)
    if not 0 <= turned < 0.5:
        raise HornbookError(f"turned is {turned}; a rater is wrong less often than right: 0 up to 0.5.")
    chosen = sorted(random.Random(seed).sample(range(pool.rows), min(count, pool.rows)))
    wanted = set(chosen)
    rows = [row for number, row in enumerate(pool.iter_rows(["text", "meta"])) if number in wanted]
    if rater == TRUTH:
        flip = random.Random(f"turned {seed}")
        labels: list[bool | None] = [bool(_truth(row, pool)) != (flip.random() < turned) for row in rows]
        by = f"what the pool says of itself, {turned:.0%} of the labels turned"
    else:
        from hornbook.curate.steps import rate
        from hornbook.infer.open import open_model

        model = open_model(rater) if isinstance(rater, str) else rater
        grades = rate(model, [row["text"] for row in rows])
        labels = [None if grade is None else grade >= _HIGH for grade in grades]
        by = model.identity
    sides = {
        side: [row["text"] for row, label in zip(rows, labels, strict=True) if label is side]
        for side in (True, False)
    }
    model_ = fit(sides[True], sides[False], labelling="rater", settings=settings, labels_by=by)
    model_.save(ctx.folder)
    rated = len(sides[True]) + len(sides[False])
    return {**model_.card, "rated": rated, "high": len(sides[True]) / rated, "unrated": len(rows) - rated}


@step(version="1", makes="corpus")
def choose_educational(
    ctx: StepContext, *, corpus: Artifact | Path, educational: Artifact | Path, share: float
) -> Mapping[str, Any]:
    """Keeps the `share` of a pool that the classifier scores highest.

    Facts: rows_in, rows, `threshold`, `kinds` (kept share by `meta.kind`); where the rows carry the truth,
    `precision` and `recall` with 95 % intervals.
    """
    if not 0 < share <= 1:
        raise HornbookError(f"share is {share}; it must be above 0 and at most 1.")
    pool = _corpus(corpus)
    model = EducationalModel.load(educational.path if isinstance(educational, Artifact) else educational)
    scores = np.zeros(pool.rows)
    at = 0
    with ctx.progress(pool.rows, "documents", "score") as progress:
        for batch in pool.iter_batches(["text"], rows=_BATCH):
            texts = batch.column("text").to_pylist()
            scores[at : at + len(texts)] = model.score(split(texts))
            at += len(texts)
            progress.advance(len(texts))
    order = np.argsort(-scores, kind="stable")
    keep = np.zeros(pool.rows, bool)
    keep[order[: max(1, round(share * pool.rows))]] = True
    for old in ("corpus.json",):
        (ctx.folder / old).unlink(missing_ok=True)
    shutil.rmtree(ctx.folder / "attributes", ignore_errors=True)
    kinds: dict[str, list[int]] = {}
    truths: list[bool | None] = []
    lineage = {"made_by": "choose_educational", "from": pool.sha256, "share": share}
    with CorpusWriter(ctx.folder, "documents", lineage) as writer:
        for number, row in enumerate(pool.iter_rows()):
            known = json.loads(row["meta"])
            truths.append(known.get("educational"))
            tally = kinds.setdefault(str(known.get("kind", "all")), [0, 0])
            tally[0] += int(keep[number])
            tally[1] += 1
            if keep[number]:
                writer.write_rows([row])
    facts: dict[str, Any] = {
        "rows_in": pool.rows,
        "rows": int(keep.sum()),
        "threshold": float(scores[order[int(keep.sum()) - 1]]),
        "kinds": {kind: kept / whole for kind, (kept, whole) in sorted(kinds.items())},
    }
    if all(truth is not None for truth in truths):
        true = np.array(truths, bool)
        hits = int((true & keep).sum())
        for name, whole in (("precision", int(keep.sum())), ("recall", int(true.sum()))):
            if whole:
                facts[name] = [hits / whole, *wilson_interval(hits, whole)]
    return facts


def _truth(row: Mapping[str, Any], pool: Corpus) -> bool:
    known = json.loads(row["meta"])
    if "educational" not in known:
        raise HornbookError(
            f"The rows of {pool.folder} do not say in meta.educational what is instructive; name a rater: a "
            'language model such as "http://localhost:11434/v1#model".'
        )
    return bool(known["educational"])
