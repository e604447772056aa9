"""Inline SVG charts: lines with bands, bars with intervals, histograms, heat maps.

Each chart is a pure function of its block (see `report.Report`) and a width in pixels; colours and
fonts come from the page's style sheet by class, so that one drawing serves light and dark.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hornbook.lab.markup import Html, join, tag

SERIES_COLOURS = 6
_DASHES = (None, "7 3", "2 3", "9 3 2 3", "12 4", "4 2")
_CHARACTER = 7.3  # pixels a letter of a wide 12 px sans takes, on average
_MAX_POINTS = 600  # of one line: more cannot be seen


def number(value: float | None, digits: int = 4) -> str:
    """A number for people: `digits` significant digits, thin thousands, no trailing zeros."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e9 or size < 1e-4:
        mantissa, _, power = f"{value:.{max(digits - 2, 0)}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}·10{_superscript(int(power))}".replace("-", "−")
    places = max(0, digits - 1 - math.floor(math.log10(size)))
    text = f"{value:,.{places}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace(",", "\u2009").replace("-", "−")


def _superscript(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A scale from values to pixels, linear or logarithmic, with its ticks."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (at - low) / (high - low) * (self.end - self.start)


def axis(values: Sequence[float], start: float, end: float, *, log: bool = False, count: int = 5) -> Axis:
    """An axis over `values` (only positive ones count when `log`), widened to round ticks."""
    usable = [v for v in values if v is not None and math.isfinite(v) and (not log or v > 0)]
    low, high = (min(usable), max(usable)) if usable else ((1.0, 10.0) if log else (0.0, 1.0))
    if log:
        ticks = _log_ticks(low, high)
    else:
        if low == high:
            pad = abs(low) / 2 or 0.5
            low, high = low - pad, high + pad
        ticks = _linear_ticks(low, high, count)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    return Axis(low=low, high=high, start=start, end=end, log=log, ticks=tuple(ticks))


def _linear_ticks(low: float, high: float, count: int) -> list[float]:
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    if last - first > 2:
        stride = max(1, math.ceil((last - first) / 7))
        return [10.0**power for power in range(first, last + stride, stride)]
    steps = [m * 10.0**power for power in range(first - 1, last + 1) for m in (1, 2, 5)]
    below = [tick for tick in steps if tick <= low * 1.0001] or steps[:1]
    above = [tick for tick in steps if tick >= high * 0.9999] or steps[-1:]
    chosen = [tick for tick in steps if below[-1] <= tick <= above[0]]
    return chosen if len(chosen) > 1 else [below[-1], below[-1] * 10]


def _svg(width: float, height: float, label: str, *parts: Html) -> Html:
    return tag("svg", *parts, viewBox=f"0 0 {width:g} {height:g}", width=width, role="img", aria_label=label)


def _text(x: float, y: float, text: str, anchor: str = "start", class_: str | None = None) -> Html:
    return tag("text", text, x=x, y=y, text_anchor=anchor, class_=class_)


def _frame(
    x: Axis, y: Axis, x_label: str, y_label: str, x_ticks: Sequence[float] | None = None
) -> list[Html]:
    """Horizontal grid lines, tick numbers and axis labels; the vertical label stands on top."""
    parts = []
    for tick in y.ticks:
        at = y(tick)
        parts.append(tag("line", x1=x.start, x2=x.end, y1=at, y2=at, class_="grid"))
        parts.append(_text(x.start - 8, at + 4, number(tick), "end"))
    for tick in x.ticks if x_ticks is None else x_ticks:
        at = x(tick)
        parts.append(tag("line", x1=at, x2=at, y1=y.start, y2=y.start + 4, class_="axis"))
    parts += _tick_labels(x, x.ticks if x_ticks is None else x_ticks, y.start + 18)
    parts.append(tag("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"))
    if x_label:
        parts.append(_text((x.start + x.end) / 2, y.start + 36, x_label, "middle", "label"))
    if y_label:
        parts.append(_text(0, 12, y_label, "start", "label"))
    return parts


def _tick_labels(x: Axis, ticks: Sequence[float], y: float) -> list[Html]:
    """Numbers below a horizontal axis; every second one (or third, ...) where they would touch."""
    texts = [number(tick) for tick in ticks]
    for stride in range(1, len(ticks) + 1):
        kept = [(x(tick), text) for tick, text in zip(ticks, texts)][::stride]
        room = [
            right[0] - left[0] - _CHARACTER * (len(left[1]) + len(right[1])) / 2
            for left, right in pairwise(kept)
        ]
        if min(room, default=9.0) >= 8:
            return [_text(at, y, text, "middle") for at, text in kept]
    return []


def curves(block: Mapping[str, Any], width: int) -> Html:
    """Lines and bands of a `curves` block."""
    keep = _keeper(block["log_x"], block["log_y"])
    xs, ys, drawn = [], [], []
    for line in block["series"]:
        points = [(p[0], p[1]) if keep(*p) else None for p in line["points"]]
        band = [b for b in line["band"] if keep(b[0], b[1]) and keep(b[0], b[2])]
        drawn.append((thinned(points), band))
        xs += [p[0] for p in points if p] + [b[0] for b in band]
        ys += [p[1] for p in points if p] + [v for b in band for v in b[1:]]
    height = 300 if width > 500 else 240
    y = axis(ys, height - 44, 24, log=block["log_y"])
    left = 16 + _CHARACTER * max(len(number(tick)) for tick in y.ticks)
    x = _tight(axis(xs, left, width - 12, log=block["log_x"], count=6 if width > 500 else 4), xs)
    parts = _frame(
        x, y, block["x_label"], block["y_label"], [t for t in x.ticks if x.low <= t <= x.high * 1.0001]
    )
    for i, (_, band) in enumerate(drawn):
        if band:
            edge = [(x(b[0]), y(b[2])) for b in band] + [(x(b[0]), y(b[1])) for b in reversed(band)]
            parts.append(tag("polygon", points=_coordinates(edge), class_=f"band c{i % SERIES_COLOURS}"))
    for i, (points, _) in enumerate(drawn):
        for stretch in _stretches(points):
            place = [(x(px), y(py)) for px, py in stretch]
            look = f"c{i % SERIES_COLOURS}"
            if len(place) == 1:
                parts.append(tag("circle", cx=place[0][0], cy=place[0][1], r=3, class_=f"dot {look}"))
            else:
                parts.append(
                    tag(
                        "polyline",
                        points=_coordinates(place),
                        class_=f"line {look}",
                        stroke_dasharray=_DASHES[i % len(_DASHES)],
                    )
                )
    return _svg(width, height, _curves_label(block), *parts)


def _tight(made: Axis, values: Sequence[float]) -> Axis:
    """An x axis that ends where the data ends."""
    usable = [v for v in values if not made.log or v > 0]
    low, high = (min(usable), max(usable)) if usable else (made.low, made.high)
    if low == high:
        return made
    return Axis(low=low, high=high, start=made.start, end=made.end, log=made.log, ticks=made.ticks)


def _keeper(log_x: bool, log_y: bool) -> Callable[[float | None, float | None], bool]:
    def keep(x: float | None, y: float | None) -> bool:
        if x is None or y is None or not (math.isfinite(x) and math.isfinite(y)):
            return False
        return not (log_x and x <= 0) and not (log_y and y <= 0)

    return keep


Place = tuple[float, float]


def thinned(points: Sequence[Place | None]) -> list[Place | None]:
    """At most about 600 points: of each stretch the lowest and the highest, so that spikes stay."""
    if len(points) <= _MAX_POINTS:
        return list(points)
    size = math.ceil(len(points) / (_MAX_POINTS // 2))
    kept: list[Place | None] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        real = [i for i, p in enumerate(part) if p is not None]
        if not real:
            kept.append(None)
            continue
        ends = {0} if start == 0 else set()
        ends |= {len(part) - 1} if start + size >= len(points) else set()
        low = min(real, key=lambda i: part[i][1])  # type: ignore[index]
        high = max(real, key=lambda i: part[i][1])  # type: ignore[index]
        kept += [part[i] for i in sorted({low, high} | (ends & set(real)))]
    return kept


def _stretches(points: Sequence[Place | None]) -> list[list[Place]]:
    """Runs of points without a gap."""
    runs: list[list[Place]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _coordinates(points: Sequence[Place]) -> str:
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in points)


def _curves_label(block: Mapping[str, Any]) -> str:
    ends = []
    for line in block["series"]:
        real = [p[1] for p in line["points"] if p[1] is not None and math.isfinite(p[1])]
        if real:
            ends.append(f"{line['name']} from {number(real[0])} to {number(real[-1])}")
    return f"Line chart: {block['title']}. {'; '.join(ends)}."


def legend(block: Mapping[str, Any]) -> Html:
    """The keys of a `curves` block: a short stroke in the line's colour and dash, then its name."""
    keys = []
    for i, line in enumerate(block["series"]):
        stroke = tag(
            "line", x1=0, x2=26, y1=6, y2=6, class_=f"line c{i % SERIES_COLOURS}",
            stroke_dasharray=_DASHES[i % len(_DASHES)],
        )  # fmt: skip
        key = tag("svg", stroke, viewBox="0 0 26 12", width=26, height=12, aria_hidden="true")
        keys.append(tag("li", key, line["name"]))
    return tag("ul", *keys, class_="legend") if len(keys) > 1 else Html("")


def bars(block: Mapping[str, Any], width: int) -> Html:
    """Horizontal bars of a `bars` block, with intervals and a reference line."""
    items = block["bars"]
    values = [bar["value"] for bar in items] + [v for bar in items for v in bar["interval"] or ()]
    reference = block["reference"]
    values += [0.0] + ([reference] if reference is not None else [])
    longest = max((len(bar["label"]) for bar in items), default=0)
    room = int(width * (0.34 if width > 500 else 0.38) / _CHARACTER)
    left = min(longest, room) * _CHARACTER + 12
    shown = [_bar_text(bar, block["unit"]) for bar in items]
    right = max((len(text) for text in shown), default=0) * _CHARACTER + 14
    row, top = 30, 26 if reference is not None else 8
    height = top + row * len(items) + 30
    x = axis(values, left, max(left + 60, width - right), count=5 if width > 500 else 3)
    bottom = top + row * len(items)
    parts = []
    for tick in x.ticks:
        at = x(tick)
        parts.append(tag("line", x1=at, x2=at, y1=top, y2=bottom, class_="grid"))
    parts += _tick_labels(x, x.ticks, bottom + 18)
    zero = x(0.0)
    for i, bar in enumerate(items):
        middle, value = top + row * i + row / 2, bar["value"]
        name = bar["label"] if len(bar["label"]) <= room else bar["label"][: room - 1] + "…"
        parts.append(_text(left - 10, middle + 4, name, "end", "name"))
        if value is not None and math.isfinite(value):
            end = x(value)
            parts.append(
                tag("rect", x=min(zero, end), y=middle - 8, width=abs(end - zero), height=16, class_="bar")
            )
        if bar["interval"] and all(v is not None for v in bar["interval"]):
            low, high = (x(v) for v in bar["interval"])
            whisker = f"M{low:.1f} {middle - 4:g}v8m0-4H{high:.1f}m0-4v8"
            parts.append(tag("path", d=whisker, class_="whisker"))
        parts.append(_text(width - right + 12, middle + 4, shown[i], "start", "value"))
    parts.append(tag("line", x1=zero, x2=zero, y1=top, y2=bottom, class_="axis"))
    if reference is not None:
        at = x(reference)
        parts.append(tag("line", x1=at, x2=at, y1=top - 6, y2=bottom, class_="reference"))
        text = f"{block['reference_label'] or 'reference'} {number(reference)}"
        half = len(text) * _CHARACTER / 2
        parts.append(_text(min(max(at, half), width - half), 14, text, "middle", "label"))
    label = "; ".join(f"{bar['label']} {text}" for bar, text in zip(items, shown))
    return _svg(width, height, f"Bar chart: {block['title']}. {label}.", *parts)


def _bar_text(bar: Mapping[str, Any], unit: str) -> str:
    unit = f" {unit}" if unit and len(unit) <= 3 else ""
    return f"{number(bar['value'], 3)}{unit}"


def histogram(block: Mapping[str, Any], width: int) -> Html:
    """Columns of a `histogram` block."""
    counts, edges = block["counts"], block["edges"]
    height = 240 if width > 500 else 210
    floor = 0.5 if block["log_y"] else 0.0
    y = axis([floor or 0.0, *[c for c in counts if c > 0]], height - 44, 24, log=block["log_y"], count=4)
    left = 16 + _CHARACTER * max(len(number(tick)) for tick in y.ticks)
    x = axis(edges, left, width - 12, count=6 if width > 500 else 4)
    if edges:
        x = _tight(x, edges)
    parts = _frame(x, y, block["x_label"], "count", [t for t in x.ticks if x.low <= t <= x.high])
    for count, low, high in zip(counts, edges, edges[1:]):
        if count > 0:
            top = y(count)
            gap = 1 if x(high) - x(low) > 3 else 0
            parts.append(
                tag("rect", x=x(low), y=top, width=x(high) - x(low) - gap, height=y.start - top, class_="bar")
            )
    total = sum(counts)
    span = f"{number(total)} values from {number(edges[0])} to {number(edges[-1])}" if edges else "no values"
    return _svg(width, height, f"Histogram: {block['title']}. {span}.", *parts)


def heat_map(block: Mapping[str, Any]) -> Html:
    """A `heat_map` block as a real table whose cells are shaded; readable by eye and by screen reader."""
    values = [v for line in block["values"] for v in line if v is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    signed = low < 0 < high
    reach = max(abs(low), abs(high)) if signed else (high - low) or 1.0
    head = tag("tr", tag("td"), *[tag("th", column, scope="col") for column in block["columns"]])
    rows = []
    for name, line in zip(block["rows"], block["values"]):
        cells = []
        for value in line:
            if value is None:
                cells.append(tag("td", "–", class_="empty"))
                continue
            share = abs(value) / reach if signed else (value - low) / reach
            cells.append(tag("td", number(value, 3), **shade(share, signed and value < 0)))
        rows.append(tag("tr", tag("th", name, scope="row"), *cells))
    return tag("table", tag("thead", head), tag("tbody", *rows), class_="heat")


def shade(share: float, second: bool = False) -> dict[str, str]:
    """Attributes that tint a cell by `share` in 0..1; the text stays readable at any of them."""
    percent = round(70 * min(1.0, max(0.0, share)))
    return {"class_": "tint second" if second else "tint", "style": f"--t:{percent}%"}


def responsive(draw: Callable[[Mapping[str, Any], int], Html], block: Mapping[str, Any]) -> Html:
    """The same chart for wide and for narrow pages; the style sheet shows one of them."""
    return join(tag("div", draw(block, 680), class_="wide"), tag("div", draw(block, 340), class_="narrow"))
