"""How varied a corpus is, for those who show it: coverage as it grew, and what was hit or never hit."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hornbook.data.corpus import Corpus
from hornbook.lab.report import Report
from hornbook.lab.step import Artifact
from hornbook.synth.coverage import growth
from hornbook.synth.teaching import FOLLOWED
from hornbook.synth.writing import row_facets, text_of

_SHOWN = 8
_VARIES = re.compile(r'\d+(?:\.\d+)?|(?<=")[^"]*(?=")')


@dataclass(frozen=True, kw_only=True)
class Facets:
    """One kind of facet (topic, audience, ...): values `hit` by the rows, of those `known` and `asked` for
    (None: nobody was asked), and examples never hit."""

    kind: str
    hit: int
    asked: int | None = None
    known: int | None = None
    never_hit: Sequence[str] = ()

    @property
    def sentence(self) -> str:
        """`topic: 31 of 37 hit; never: a loop, a set`."""
        assert self.known is not None
        missed = ", ".join(self.never_hit[:_SHOWN])
        more = ", ..." if self.known - self.hit > len(self.never_hit[:_SHOWN]) else ""
        return f"{self.kind}: {self.hit:,} of {self.known:,} hit" + (
            f"; never: {missed}{more}" if missed else ""
        )


@dataclass(frozen=True, kw_only=True)
class Variety:
    """`growth` as of `coverage.growth`, and each kind of facet."""

    growth: Sequence[Mapping[str, float]]
    facets: Sequence[Facets]

    @property
    def sentences(self) -> list[str]:
        """A line for the texts, and one for each kind of facet of which it is known what there is."""
        lines = []
        if self.growth:
            first, last = self.growth[0], self.growth[-1]
            earlier = f" ({first['near_duplicates']:.1%} of the first {first['texts']:.0f})"
            lines.append(
                f"{last['grams']:,.0f} different 4-grams ({last['distinct_4']:.0%} of all), "
                f"{last['cells']:,.0f} cells of the embedding, {last['near_duplicates']:.1%} near duplicates"
                + (earlier if len(self.growth) > 1 else "")
            )
        lines += [one.sentence for one in self.facets if one.known is not None]
        counted = ", ".join(f"{one.kind} {one.hit:,}" for one in self.facets if one.known is None)
        return [*lines, f"different values of its plans: {counted}"] if counted else lines


def variety_of(made: Artifact) -> Variety:
    """From the facts of a written corpus; of a longer one than they follow, from its first 10,000 rows."""
    facts = made.facts
    found = facts.get("growth") or []
    rows = min(int(facts.get("rows", 0)), FOLLOWED)
    if rows > 1 and (not found or found[-1]["texts"] < rows):
        read = list(islice(Corpus.open(made.path).iter_rows(), rows))
        found = growth([text_of(row) for row in read], [row_facets(row) for row in read])
    return Variety(growth=found, facets=facets_of(facts, found))


def facets_of(facts: Mapping[str, Any], grown: Sequence[Mapping[str, float]]) -> list[Facets]:
    """What a teacher was asked about and what came; without a teacher, what the rows say they are about."""
    asked = facts.get("facets") or {}
    if asked:
        return [
            Facets(
                kind=kind, hit=one["hit"], asked=one["asked"], known=one.get("known", one["asked"]),
                never_hit=one["never_hit"],
            )
            for kind, one in asked.items()
        ]  # fmt: skip
    texts = {"texts", "grams", "distinct_4", "near_duplicates", "cells"}
    return [
        Facets(kind=kind, hit=round(count))
        for kind, count in (grown[-1].items() if grown else ())
        if kind not in texts and math.isfinite(count)
    ]


def grouped(removed: Mapping[str, int]) -> list[tuple[str, int]]:
    """Reasons that differ only in numbers, quotations or what they list, as one; the commonest first."""
    counts: Counter[str] = Counter()
    shown: dict[str, str] = {}
    for reason, count in removed.items():
        head, colon, listed = reason.partition(": ")
        if len(head.split()) > 2 and colon:
            listed = "..."
        key = _VARIES.sub("...", head + colon + listed)
        shown[key] = key if key in shown else reason
        counts[key] += count
    return [(shown[key], count) for key, count in counts.most_common()]


def report_variety(report: Report, variety: Variety) -> None:
    """The section of a report, where there is anything to say."""
    if not variety.growth:
        return
    report.section(
        "Diversity", "How coverage grows with the number of texts, in the order they were written."
    )
    report.table(
        ["texts", "different 4-grams", "of all 4-grams", "embedding cells", "near duplicates"],
        [
            [
                round(line["texts"]), round(line["grams"]), f"{line['distinct_4']:.1%}", round(line["cells"]),
                f"{line['near_duplicates']:.1%}",
            ]
            for line in variety.growth
        ],
    )  # fmt: skip
    report.curves(
        "Near duplicates as the corpus grows",
        {"near duplicates": [(line["texts"], 100 * line["near_duplicates"]) for line in variety.growth]},
        x_label="texts",
        y_label="% that nearly repeat an earlier text",
    )
    if variety.facets:
        report.table(
            ["facet", "values known", "asked for", "hit", "never hit (some)"],
            [
                [
                    one.kind, one.known if one.known is not None else "", one.asked or "", one.hit,
                    ", ".join(one.never_hit[:_SHOWN]),
                ]
                for one in variety.facets
            ],
        )  # fmt: skip
