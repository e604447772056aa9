"""Examiners that end the process which runs them: importable by workers."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from hornbook.curate.pipeline import Examiner

WORD = "detonator"


@dataclass(frozen=True, kw_only=True)
class Bomb(Examiner):
    """Kills its process at the first piece that holds `WORD`, as often as `marks` allow (None: always)."""

    marks: tuple[str, ...] | None = None

    def examine_piece(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if any(WORD in text for text in batch.column("text").to_pylist()):
            fresh = [Path(mark) for mark in self.marks or () if not Path(mark).exists()]
            if fresh:
                fresh[0].touch()
            if fresh or self.marks is None:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().examine_piece(batch)
