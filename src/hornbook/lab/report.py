"""A report as it is written: sections of plain data, kept as JSON and set as one HTML file."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from numpy.typing import NDArray

from hornbook.lab.claim import Claim
from hornbook.lab.files import plain, write_atomic, write_json
from hornbook.lab.png import data_uri, png

Role = Literal["system", "user", "assistant", "tool"]
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a `curves` chart.

    Attributes:
        points: (x, y) pairs; a y that is not finite leaves a gap.
        band: (x, low, high) triples around the line, such as a 95 % interval.
    """

    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()

    @classmethod
    def over_seeds(cls, places: Iterable[tuple[float, Sequence[float]]]) -> Self:
        """Of (x, one number a seed): the means, and Student's 95 % interval around them."""
        from hornbook.lab.statistics import interval_over_seeds

        points, band = [], []
        for x, values in places:
            points.append((x, sum(values) / len(values)))
            if (interval := interval_over_seeds(values)) is not None:
                band.append((x, *interval))
        return cls(points=points, band=band)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: a value, and the interval around it."""

    label: str
    value: float
    interval: tuple[float, float] | None = None

    @classmethod
    def over_seeds(cls, label: str, values: Sequence[float], *, scale: float = 1.0) -> Self:
        """The mean of one number a seed with Student's 95 % interval, both times `scale`."""
        from hornbook.lab.statistics import interval_over_seeds

        scaled = [scale * value for value in values]
        return cls(label=label, value=sum(scaled) / len(scaled), interval=interval_over_seeds(scaled))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One text with a label and scores; `code` sets it in a fixed width."""

    text: str
    label: str = ""
    scores: Mapping[str, float | str] | None = None
    note: str = ""
    code: bool = False


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Pixels, uint8 (height, width) or (height, width, 3), or the bytes of a picture file; and what stands
    below them."""

    pixels: NDArray[Any] | bytes
    caption: str = ""

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return data_uri(self.pixels if isinstance(self.pixels, bytes) else png(self.pixels))


class Report:
    """Builds a report from top to bottom; every method adds below what is there and returns the report.

    What is added is plain data (`to_json`), and the HTML is made from that data alone, so the two
    files always hold the same content. All text is escaped; `text` understands a little Markdown.

    Args:
        title: the report's name.
        subtitle: one sentence below it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self.blocks: list[dict[str, Any]] = []

    def _add(self, kind: str, **content: Any) -> Self:
        self.blocks.append(plain({"kind": kind, **content}))
        return self

    def section(self, title: str, lead: str = "") -> Self:
        """Starts a section, with an optional opening sentence."""
        return self._add("section", title=title, lead=lead)

    def text(self, markdown: str) -> Self:
        """Paragraphs (blank lines between), `- ` lists, **bold**, *italic*, `code`, [links](https://...)."""
        return self._add("text", text=markdown)

    def figures(self, figures: Sequence[tuple[str, str | float] | tuple[str, str | float, str]]) -> Self:
        """Key figures side by side: (label, value) or (label, value, note)."""
        return self._add(
            "figures",
            figures=[
                {"label": figure[0], "value": figure[1], "note": figure[2] if len(figure) > 2 else ""}
                for figure in figures
            ],
        )

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "", note: str = ""
    ) -> Self:
        """A table; columns of numbers are set to the right."""
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(f"table {title!r}: a row has {len(row)} cells for {len(columns)} columns")
        return self._add("table", columns=columns, rows=rows, title=title, note=note)

    def curves(
        self,
        title: str,
        series: Mapping[str, Series | Sequence[Point]],
        *,
        x_label: str = "",
        y_label: str = "",
        log_x: bool = False,
        log_y: bool = False,
        note: str = "",
    ) -> Self:
        """Lines over a common x axis; points that a logarithmic axis cannot hold are left out."""
        lines = []
        for name, line in series.items():
            line = line if isinstance(line, Series) else Series(points=line)
            lines.append(
                {"name": name, "points": [list(p) for p in line.points], "band": [list(b) for b in line.band]}
            )
        return self._add(
            "curves",
            title=title,
            series=lines,
            x_label=x_label,
            y_label=y_label,
            log_x=log_x,
            log_y=log_y,
            note=note,
        )

    def bars(
        self,
        title: str,
        bars: Sequence[Bar | tuple[str, float]] | Mapping[str, float],
        *,
        unit: str = "",
        reference: float | None = None,
        reference_label: str = "",
        note: str = "",
    ) -> Self:
        """Horizontal bars from zero with error bars, and an optional reference line (the paper's value)."""
        items = list(bars.items()) if isinstance(bars, Mapping) else list(bars)
        made = [bar if isinstance(bar, Bar) else Bar(label=bar[0], value=bar[1]) for bar in items]
        return self._add(
            "bars",
            title=title,
            bars=made,
            unit=unit,
            reference=reference,
            reference_label=reference_label,
            note=note,
        )

    def histogram(
        self,
        title: str,
        values: Sequence[float],
        *,
        bins: int = 30,
        x_label: str = "",
        log_y: bool = False,
        note: str = "",
    ) -> Self:
        """How often values fall between edges; values that are not finite are counted in the note."""
        import numpy as np

        data = np.asarray(values, dtype=np.float64)
        finite = data[np.isfinite(data)]
        counts, edges = np.histogram(finite, bins=bins) if finite.size else (np.zeros(0), np.zeros(0))
        left_out = int(data.size - finite.size)
        if left_out:
            note = f"{note} Left out as not finite: {left_out:,}.".strip()
        return self._add(
            "histogram",
            title=title,
            counts=counts.astype(int),
            edges=edges,
            x_label=x_label,
            log_y=log_y,
            note=note,
        )

    def heat_map(
        self,
        title: str,
        rows: Sequence[str],
        columns: Sequence[str],
        values: Sequence[Sequence[float | None]],
        *,
        unit: str = "",
        note: str = "",
    ) -> Self:
        """A grid of shaded cells with their numbers; None is an empty cell."""
        if len(values) != len(rows) or any(len(line) != len(columns) for line in values):
            raise ValueError(
                f"heat map {title!r}: the values do not fit {len(rows)} rows x {len(columns)} columns"
            )
        return self._add(
            "heat_map", title=title, rows=rows, columns=columns, values=values, unit=unit, note=note
        )

    def pictures(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[tuple[str, Sequence[Picture]]],
        *,
        large: bool = False,
        note: str = "",
    ) -> Self:
        """A grid of pictures, each row with its name; single pixels stay visible.

        large: to be looked at, with captions of a sentence; otherwise many fit a row.
        """
        if any(len(pictures) != len(columns) for _, pictures in rows):
            raise ValueError(f"pictures {title!r}: a row has not {len(columns)} pictures")
        made = [
            {
                "name": name,
                "pictures": [{"uri": p.uri, "caption": p.caption} for p in pictures],
            }
            for name, pictures in rows
        ]
        return self._add("pictures", title=title, columns=columns, rows=made, large=large, note=note)

    def samples(self, title: str, samples: Sequence[Sample | str], *, shown: int = 3, note: str = "") -> Self:
        """Texts as they were, with labels and scores; beyond the first `shown` they open on a click."""
        made = [sample if isinstance(sample, Sample) else Sample(text=sample) for sample in samples]
        return self._add("samples", title=title, samples=made, shown=shown, note=note)

    def tokens(
        self,
        title: str,
        tokens: Sequence[tuple[str, float | None]],
        *,
        label: str = "",
        low: float | None = None,
        high: float | None = None,
        note: str = "",
    ) -> Self:
        """A text token by token, each shaded by its value between `low` and `high` (the values' own ends).

        With `low` below zero and `high` above, negative values take the second colour.
        """
        return self._add(
            "tokens",
            title=title,
            tokens=[{"text": text, "value": value} for text, value in tokens],
            label=label,
            low=low,
            high=high,
            note=note,
        )

    def transcript(self, title: str, messages: Sequence[Mapping[str, str]], *, note: str = "") -> Self:
        """A conversation: messages with `role` and `content` (and optionally `note`)."""
        return self._add("transcript", title=title, messages=messages, note=note)

    def lineage(self, steps: Sequence[Mapping[str, Any]], *, title: str = "") -> Self:
        """Steps in order, what each was made from, time, memory, disk and key (entries of `run.json`)."""
        return self._add("lineage", title=title, steps=steps)

    def claims(self, claims: Sequence[Claim]) -> Self:
        """The claims: the paper's value, the value measured here, the verdict and why."""
        return self._add("claims", claims=[claim.to_json() for claim in claims])

    def costs(self, costs: Sequence[tuple[str, str | float] | tuple[str, str | float, str]]) -> Self:
        """What the run took: (what, amount) or (what, amount, note)."""
        return self._add(
            "costs",
            costs=[
                {"what": cost[0], "amount": cost[1], "note": cost[2] if len(cost) > 2 else ""}
                for cost in costs
            ],
        )

    def to_json(self) -> dict[str, Any]:
        """The whole content as plain data."""
        return {"title": self.title, "subtitle": self.subtitle, "blocks": self.blocks}

    def html(self) -> str:
        """One self-contained page: no network, no script."""
        from hornbook.lab.report_html import render

        return render(self.to_json())

    def write(self, folder: Path) -> Path:
        """Writes `report.json` and `report.html`; returns the path of the latter."""
        data = {
            **self.to_json(),
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        from hornbook.lab.report_html import render

        write_json(folder / "report.json", data)
        write_atomic(folder / "report.html", render(data))
        return folder / "report.html"
