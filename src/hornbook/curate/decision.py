"""What stays: one decision a document from the attributes of a whole corpus, stage after stage.

Cheap beside the examination, so it may be taken as often as one likes: other rules, other shares, other
languages need no text to be read again.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hornbook.curate import exact, near, semantic
from hornbook.curate.pipeline import STAGES, CurateSettings, own_faults
from hornbook.curate.words import I64

_PLACE = {name: i for i, name in enumerate(STAGES)}
# Copies of a line or paragraph in different documents from which on it counts.
_COPIES = 3


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What happens to each document, in corpus order.

    stage: (documents,) index into STAGES of the stage that removes it, -1 for a kept one. reason: name of
    the rule. score: number behind it. cluster: index of the first document of its cluster of duplicates
    (itself if alone).
    """

    stage: npt.NDArray[np.int64]
    reason: list[str | None]
    score: list[float | None]
    cluster: npt.NDArray[np.int64]

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        return np.less(self.stage, 0)

    def funnel(self) -> list[dict[str, Any]]:
        """One row a stage: {stage, in, out, share} where share is out / in (1 where nothing came in)."""
        rows, left = [], len(self.stage)
        for i, name in enumerate(STAGES):
            gone = int((self.stage == i).sum())
            rows.append(
                {
                    "stage": name,
                    "in": left,
                    "out": left - gone,
                    "share": (left - gone) / left if left else 1.0,
                }
            )
            left -= gone
        return rows

    def reasons(self) -> dict[str, int]:
        """{reason: removed documents}, most first."""
        counts: dict[str, int] = {}
        for reason in self.reason:
            if reason is not None:
                counts[reason] = counts.get(reason, 0) + 1
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


class _Open:
    """A decision while it is taken."""

    def __init__(self, attributes: pa.Table, settings: CurateSettings) -> None:
        own = own_faults(attributes, settings)
        self.attributes, self.settings = attributes, settings
        self.stage, self.reason, self.score = own.stage.copy(), own.reason, own.score
        self.cluster = np.arange(attributes.num_rows)

    @property
    def alive(self) -> I64:
        return np.flatnonzero(self.stage < 0)

    def remove(self, rows: I64, stage: str, scores: npt.NDArray[Any]) -> None:
        self.stage[rows], self.reason[rows], self.score[rows] = _PLACE[stage], stage, scores

    def bytes_of(self, name: str, rows: I64) -> bytes:
        """The values of a binary column of equal lengths, one after the other."""
        return b"".join(self.attributes[name].take(pa.array(rows)).to_pylist())

    def one_of_each(self, found: I64, alive: I64) -> tuple[npt.NDArray[np.bool_], I64]:
        """(alive,) which document of each cluster stays, and for each document the one that stays for it."""
        prefer = None
        if self.settings.prefer == "longest":
            prefer = np.asarray(self.attributes["words"].take(pa.array(alive)))
        keep = near.keep_one(found, prefer)
        chosen = np.arange(len(alive))
        chosen[found[keep]] = np.flatnonzero(keep)
        return keep, chosen[found]


def decide(attributes: pa.Table, settings: CurateSettings) -> Decision:
    """Combine the attributes of a whole corpus into one decision a document; stages act in the order of
    STAGES.
    """
    now = _Open(attributes, settings)
    for stage in (_exact, _near, _semantic, _repeated, _educational, _contaminated):
        if len(now.alive):
            stage(now)
    return Decision(
        stage=now.stage,
        reason=now.reason.tolist(),
        score=[None if np.isnan(value) else value for value in now.score.tolist()],
        cluster=now.cluster,
    )


def _exact(now: _Open) -> None:
    if not now.settings.exact:
        return
    alive = now.alive
    keys = np.frombuffer(now.bytes_of("digest", alive), exact.DIGEST)
    first = alive[exact.first_of_equals(keys)]
    now.cluster[alive] = first
    copies = alive[first != alive]
    now.remove(copies, "exact_duplicate", np.ones(len(copies)))


def _near(now: _Open) -> None:
    settings = now.settings.near
    if settings is None:
        return
    alive = now.alive
    raw = now.bytes_of("signature", alive)
    signature = np.frombuffer(raw, np.uint32).reshape(len(alive), settings.hashes)
    found = near.clusters(signature, settings)
    keep, stays = now.one_of_each(found, alive)
    now.cluster[alive] = alive[found]
    gone = np.flatnonzero(~keep)
    now.remove(alive[gone], "near_duplicate", near.estimate(signature[gone], signature[stays[gone]]))


def _semantic(now: _Open) -> None:
    settings = now.settings.semantic
    if settings is None:
        return
    alive = now.alive
    vectors = np.frombuffer(now.bytes_of("embedding", alive), np.float16).reshape(len(alive), -1)
    found = semantic.clusters(vectors, settings)
    keep, stays = now.one_of_each(found, alive)
    now.cluster[alive] = np.where(found == np.arange(len(alive)), now.cluster[alive], alive[found])
    gone = np.flatnonzero(~keep)
    now.remove(alive[gone], "semantic_duplicate", semantic.cosines(vectors, gone, stays[gone]))


def _repeated(now: _Open) -> None:
    for unit in ("line", "paragraph"):
        most = getattr(now.settings, f"repeated_{unit}s")
        alive = now.alive
        if most >= 1 or not len(alive):
            continue
        rows = pa.array(alive)
        lines = now.attributes[f"{unit}s"].take(rows).combine_chunks()
        lengths = now.attributes[f"{unit}_lengths"].take(rows).combine_chunks()
        shares = exact.repeated_share(
            np.asarray(lines.flatten()).astype(np.uint64),
            np.asarray(lengths.flatten()).astype(np.int64),
            np.repeat(np.arange(len(alive)), np.diff(np.asarray(lines.offsets))),
            len(alive),
            copies=_COPIES,
        )
        over = shares > most
        now.remove(alive[over], f"repeated_{unit}s", shares[over])


def _educational(now: _Open) -> None:
    alive = now.alive
    values = now.attributes["educational"].take(pa.array(alive))
    if values.null_count or now.settings.educational_share >= 1:
        return
    scores = np.asarray(values)
    quota = max(1, round(len(alive) * now.settings.educational_share))
    low = np.sort(np.argsort(-scores, kind="stable")[quota:])
    now.remove(alive[low], "educational", scores[low])


def _contaminated(now: _Open) -> None:
    if now.settings.decontamination is None:
        return
    alive = now.alive
    scores = now.attributes["match_score"].take(pa.array(alive))
    matched = np.flatnonzero(np.asarray(scores.is_valid()))
    now.remove(alive[matched], "contaminated", np.asarray(scores.take(pa.array(matched))))
