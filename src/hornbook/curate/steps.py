"""The steps of curation: choose the documents of a corpus, and fit the classifier that helps to choose."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hornbook.curate.decision import decide
from hornbook.curate.educational import EducationalModel, EducationalSettings, fit
from hornbook.curate.evaluation_sets import EvaluationSource, read_evaluation_set
from hornbook.curate.examination import examine_corpus
from hornbook.curate.pipeline import CurateSettings, prepare
from hornbook.curate.places import SMALL, place_of
from hornbook.curate.writing import write
from hornbook.data.corpus import Corpus
from hornbook.data.shards import MANIFEST
from hornbook.errors import HornbookError
from hornbook.lab.progress import Progress
from hornbook.lab.step import Artifact, Estimate, StepContext, step

Source = Artifact | Path | str
# Documents whose word frequencies tell decontamination which words inform.
_BACKGROUND = 2000


def _folder(source: Source) -> Path:
    return source.path if isinstance(source, Artifact) else Path(source)


def documents(folder: Path) -> Corpus:
    """The corpus of documents in `folder`; HornbookError for any other."""
    corpus = Corpus.open(folder)
    if corpus.schema != "documents":
        raise HornbookError(f"{corpus.folder} holds {corpus.schema}; curation works on documents.")
    return corpus


def estimate(
    *, corpus: Source, settings: CurateSettings | None = None, workers: int | None = None, **_: object
) -> Estimate:
    """About 2 MB a second and core for all stages, and half a kilobyte a document in memory."""
    opened = Corpus.open(_folder(corpus))
    cores = workers or (min(os.cpu_count() or 1, 8) if opened.bytes > SMALL else 1)
    return Estimate(
        seconds=2 + opened.bytes / 2e6 / cores,
        memory_bytes=3e8 * cores + 2000.0 * opened.rows,
        disk_bytes=opened.bytes / 2,
    )


@step(version="2", makes="corpus", estimate=estimate)
def curate(
    ctx: StepContext,
    *,
    corpus: Source,
    evaluation_sets: Mapping[str, EvaluationSource] | None = None,
    educational: Source | None = None,
    settings: CurateSettings | None = None,
    workers: int | None = None,
    cluster: str | None = None,
) -> Mapping[str, Any]:
    """Run all stages over a corpus of documents.

    Args:
        corpus: documents. evaluation_sets: {name: questions} that no kept document may give away.
        educational: what `fit_educational` made, or None for no such stage.
        workers: processes (None chooses by size and cores). cluster: address of a Ray cluster instead (see
            `cluster.Cluster`). The result is the same byte for byte.

    Writes the kept corpus (attributes `curation`) and, under `removed/`, what was removed (attributes
    `curation` with stage, reason, score and the document it duplicates). Facts: rows and bytes in and out,
    `funnel` (one row a stage: in, out, share), `reasons`, `languages`, `kinds`, `sources`, `personal_data`,
    `samples` (ten kept and ten removed), `labelling` of the educational classifier.

    Raises:
        HornbookError: an empty corpus; nothing left, with the rule that removed most.
    """
    # An earlier attempt may have been cut off between the two corpora.
    (ctx.folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(ctx.folder / "attributes", ignore_errors=True)
    examined = ctx.folder / "examined"
    facts = curate_corpus(
        documents(_folder(corpus)),
        ctx.folder,
        examined=examined,
        evaluation_sets=evaluation_sets,
        educational=None if educational is None else _folder(educational),
        settings=settings,
        workers=workers,
        cluster=cluster,
        progress=ctx.progress,
        say=ctx.say,
    )
    shutil.rmtree(examined)
    return facts


def curate_corpus(
    corpus: Corpus,
    folder: Path,
    *,
    examined: Path,
    evaluation_sets: Mapping[str, EvaluationSource] | None = None,
    educational: Path | None = None,
    settings: CurateSettings | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    progress: Callable[[float, str, str], Progress],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """As the step `curate`, into `folder`; what is examined is kept in the folder `examined`, so that the
    next call with other rules takes a moment."""
    settings = settings or CurateSettings()
    sets = {name: read_evaluation_set(given) for name, given in (evaluation_sets or {}).items()}
    model = EducationalModel.load(educational) if educational is not None else None
    examiner = prepare(settings, sets, _sample(corpus, _BACKGROUND), model)
    attributes = examine_corpus(
        corpus,
        examiner,
        examined,
        place_of(workers, cluster, corpus.bytes),
        progress=progress(corpus.rows, "documents", "examine"),
        say=say,
    )
    decision = decide(attributes, settings)
    if not decision.kept.any():
        reason, count = next(iter(decision.reasons().items()))
        raise HornbookError(
            f"Curation removed all {corpus.rows} documents of {corpus.folder}: "
            f"{count} of them for {reason!r}. Loosen that rule in CurateSettings, or give it other documents."
        )
    done = progress(corpus.rows, "documents", "write")
    facts = write(folder, corpus, attributes, decision, settings, done)
    say(
        f"kept {facts['rows_out']} of {corpus.rows} documents, "
        f"{facts['bytes_out'] / max(corpus.bytes, 1):.0%} of the text"
    )
    return facts | {
        "evaluation_sets": {name: len(items) for name, items in sets.items()},
        "labelling": model.card["labelling"] if model is not None else None,
    }


def _sample(source: Corpus, count: int) -> list[str]:
    """Every k-th text, k chosen so that there are about `count`."""
    stride = max(1, source.rows // count)
    texts: list[str] = []
    row = 0
    for batch in source.iter_batches(["text"], rows=2048):
        first = -row % stride
        texts += [
            t[:20_000]
            for t in batch.column("text").take(pa.array(range(first, len(batch), stride))).to_pylist()
        ]
        row += len(batch)
    return texts


_GRADE = re.compile(r"grade\s*[:=]\s*([0-5])\b", re.IGNORECASE)
RUBRIC = (
    "You grade how much a student who wants to learn would gain from reading a text. Consider whether it "
    "explains, stands on its own, shows a computation or idea worth knowing, and is written with care. "
    "Set-up code, tables of constants, boilerplate and fragments teach nothing. First write one sentence of "
    "reasons, then a last line 'Grade: n' with n from 0 (nothing to learn) to 5 (as good as a textbook page)."
)


def rate(model: Any, texts: Sequence[str], *, longest_characters: int = 4000) -> list[int | None]:
    """Grades 0 to 5 by a language model fit to grade; None where it failed or gave no readable grade."""
    from hornbook.lm.base import Completion, Sampling, ask

    sampling = Sampling(temperature=0.0, max_tokens=200)
    requests = [ask(text[:longest_characters], system=RUBRIC, sampling=sampling) for text in texts]
    grades: list[int | None] = []
    for answer in model.complete(requests):
        found = _GRADE.findall(answer.text) if isinstance(answer, Completion) else []
        grades.append(int(found[-1]) if found else None)
    return grades


def _texts(sources: Sequence[Source], most: int, seed: int) -> list[str]:
    """At most `most` texts of several corpora, drawn without regard to their order."""
    texts = [t for source in sources for t in _iter_texts(source)]
    if len(texts) <= most:
        return texts
    chosen: npt.NDArray[Any] = np.random.default_rng(seed).choice(len(texts), most, replace=False)
    return [texts[i] for i in np.sort(chosen)]


def _iter_texts(source: Source) -> Iterator[str]:
    for batch in documents(_folder(source)).iter_batches(["text"]):
        yield from batch.column("text").to_pylist()


@step(version="1", makes="classifier")
def fit_educational(
    ctx: StepContext,
    *,
    high: Sequence[Source],
    low: Sequence[Source],
    check_high: Sequence[Source] = (),
    check_low: Sequence[Source] = (),
    labels_by: str = "textbook-like sources against random organic documents",
    most: int = 2000,
    settings: EducationalSettings | None = None,
) -> Mapping[str, Any]:
    """Fit the educational classifier by contrast of corpora (phi-1, section 2.1; see `educational` for the
    caveat).

    Args:
        high, low: corpora of textbook-like and of organic documents. check_high, check_low: an independent
        check
            (see `educational.fit`). labels_by: what the contrast is between, for the card. most: documents
            a side.

    Facts: the model's card: labelling, held-out precision, recall, AUC and calibration, top features.
    """
    settings = settings or EducationalSettings()
    groups = [_texts(sources, most, settings.seed) for sources in (high, low, check_high, check_low)]
    model = fit(
        groups[0],
        groups[1],
        labelling="contrast",
        settings=settings,
        check_high=groups[2],
        check_low=groups[3],
        labels_by=labels_by,
    )
    model.save(ctx.folder)
    return model.card
