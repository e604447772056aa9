"""A whole corpus examined, anywhere, once: what is examined is kept, and not examined again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from hornbook.curate.examined import Examined
from hornbook.curate.pieces import ROWS, Piece, pieces_of
from hornbook.curate.pipeline import ATTRIBUTES, Examiner, own_faults
from hornbook.curate.places import Place, examine
from hornbook.data.corpus import Corpus
from hornbook.lab.files import sha256_of


class Advances(Protocol):
    """The part of a progress display that is needed here."""

    def advance(self, n: float = 1, /) -> object: ...


def examine_corpus(
    corpus: Corpus,
    examiner: Examiner,
    folder: Path,
    place: Place,
    *,
    progress: Advances,
    say: Callable[[str], None] = lambda sentence: None,
) -> pa.Table:
    """The attributes of every document, in order (columns `pipeline.ATTRIBUTES`).

    folder: where examinations are kept, one file for each corpus and `Examiner.key`. A second call, after an
    interruption or with other rules, examines what is missing and nothing else. The attributes of documents
    that rules remove now may or may not be there: see `decision.decide`, which does not look at them.

    Raises:
        HornbookError: a damaged shard; documents that end every worker.
    """
    pieces = list(pieces_of(corpus))
    name = sha256_of([corpus.sha256, examiner.key, ROWS])[:16]
    with Examined(folder / f"{name}.arrow") as kept:

        def keep(piece: Piece, data: bytes) -> None:
            kept.add(piece.number, data)
            progress.advance(piece.rows)

        missing = [piece for piece in pieces if piece.number not in kept]
        progress.advance(corpus.rows - sum(piece.rows for piece in missing))
        if missing:
            if len(missing) < len(pieces):
                say(f"{len(pieces) - len(missing)} of {len(pieces)} pieces were examined before")
            examine(examiner, missing, place, keep, say)
        # Rules may have been loosened since: what they now let through is looked at closely.
        again = [piece for piece in pieces if _lacking(kept.batches([piece.number])[0], examiner)]
        if again:
            say(f"the rules let more through than before: {len(again)} pieces are examined again")
            thorough = replace(examiner, thorough=True)
            examine(thorough, again, place, lambda piece, data: kept.add(piece.number, data), say)
        return pa.Table.from_batches(kept.batches([piece.number for piece in pieces]), ATTRIBUTES)


def _lacking(attributes: pa.RecordBatch, examiner: Examiner) -> bool:
    """Whether a document that nothing removes was not looked at closely."""
    alive = own_faults(attributes, examiner.settings).stage < 0
    close: Any = np.asarray(attributes["close"].is_valid())
    return bool((alive & ~close).any())
