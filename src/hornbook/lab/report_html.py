"""Sets a report's plain data as one self-contained HTML page, like a well-made book."""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files as package_files
from typing import Any

from hornbook.lab import charts
from hornbook.lab.charts import number, responsive
from hornbook.lab.files import human_bytes, human_seconds
from hornbook.lab.markup import Child, Html, join, style, tag
from hornbook.lab.step import artifact_references

Block = Mapping[str, Any]


def render(report: Mapping[str, Any]) -> str:
    """The whole page of a report's `to_json()`."""
    css = (package_files("hornbook.lab") / "report.css").read_text("utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="Hornbook"),
        tag("title", report["title"]),
        style(css),
    )
    written = f"Written by Hornbook on {report['written'][:10]}." if "written" in report else ""
    top = tag(
        "header",
        tag("h1", report["title"]),
        tag("p", report["subtitle"], class_="subtitle") if report["subtitle"] else None,
    )
    body = tag(
        "body",
        tag(
            "main",
            top,
            _contents(report["blocks"]),
            _sections(report["blocks"]),
        ),
        tag("footer", tag("p", f"{written} One file, no network, no script.".strip())),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def render_blocks(blocks: Sequence[Block]) -> Html:
    """Blocks alone, for a page that brings `report.css` itself."""
    return _sections(blocks)


def _contents(blocks: Sequence[Block]) -> Html | None:
    titles = [block["title"] for block in blocks if block["kind"] == "section"]
    if len(titles) < 3:
        return None
    links = [tag("li", tag("a", title, href=f"#s{i}")) for i, title in enumerate(titles, 1)]
    return tag("nav", tag("ol", *links), aria_label="Contents")


def _sections(blocks: Sequence[Block]) -> Html:
    """Blocks grouped under their section's heading."""
    groups: list[list[Html]] = [[]]
    for block in blocks:
        if block["kind"] == "section":
            groups.append([tag("h2", block["title"])])
            if block["lead"]:
                groups[-1].append(tag("p", _inline(block["lead"]), class_="lead"))
        else:
            groups[-1].append(_RENDERERS[block["kind"]](block))
    opening = tag("section", *groups[0]) if groups[0] else None
    return join(opening, *[tag("section", *group, id=f"s{i}") for i, group in enumerate(groups[1:], 1)])


def _figure(block: Block, *content: Child, class_: str | None = None) -> Html:
    """A block with its title above and its note below."""
    title = block.get("title")
    note = block.get("note")
    return tag(
        "figure",
        tag("figcaption", title, class_="title") if title else None,
        *content,
        tag("p", _inline(note), class_="note") if note else None,
        class_=class_,
    )


_SPAN = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<bold>[^*]+)\*\*|\*(?P<italic>[^*\s][^*]*)\*"
    r"|\[(?P<name>[^\]]+)\]\((?P<link>(?:https?://|\#)[^)\s]+)\)"
)


def _inline(text: str) -> Html:
    """Code, bold, italic and links; everything else is escaped as it is."""
    parts: list[Child] = []
    at = 0
    for match in _SPAN.finditer(text):
        parts.append(text[at : match.start()])
        at = match.end()
        if match["code"]:
            parts.append(tag("code", match["code"]))
        elif match["bold"]:
            parts.append(tag("strong", _inline(match["bold"])))
        elif match["italic"]:
            parts.append(tag("em", _inline(match["italic"])))
        else:
            parts.append(tag("a", match["name"], href=match["link"], rel="noreferrer"))
    parts.append(text[at:])
    return join(*parts)


def _text(block: Block) -> Html:
    parts = []
    for paragraph in re.split(r"\n\s*\n", block["text"].strip()):
        lines = paragraph.strip().splitlines()
        if lines and all(line.lstrip().startswith("- ") for line in lines):
            parts.append(tag("ul", *[tag("li", _inline(line.lstrip()[2:])) for line in lines]))
        else:
            parts.append(tag("p", _inline(" ".join(line.strip() for line in lines))))
    return join(*parts)


def _figures(block: Block) -> Html:
    tiles = []
    for figure in block["figures"]:
        value = figure["value"] if isinstance(figure["value"], str) else number(figure["value"])
        note = tag("small", figure["note"]) if figure["note"] else None
        tiles.append(tag("div", tag("dt", figure["label"]), tag("dd", value, note)))
    return tag("dl", *tiles, class_="tiles")


def _cell(value: object) -> tuple[str, bool]:
    """(text, whether it is a number)."""
    if isinstance(value, bool):
        return ("yes" if value else "no"), False
    if isinstance(value, int):
        return (f"{value:,}".replace(",", "\u2009").replace("-", "−")), True
    if isinstance(value, float):
        return number(value), True
    return ("–" if value is None else value if isinstance(value, str) else str(value)), value is None


def _grid(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
    cells = [[_cell(value) for value in row] for row in rows]
    right = [
        bool(cells) and all(row[i][1] for row in cells) and any(row[i][0] != "–" for row in cells)
        for i in range(len(columns))
    ]
    head = [tag("th", name, scope="col", class_="n" if right[i] else None) for i, name in enumerate(columns)]
    lines = []
    for row in cells:
        first = tag("th", row[0][0], scope="row", class_="n" if right[0] else None)
        rest = [tag("td", text, class_="n" if right[i] else None) for i, (text, _) in enumerate(row) if i > 0]
        lines.append(tag("tr", first, *rest))
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *lines))
    return _scroll(table)


def _scroll(table: Html) -> Html:
    """Wide tables scroll on their own; by keyboard too."""
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="table")


def _table(block: Block) -> Html:
    return _figure(block, _grid(block["columns"], block["rows"]))


def _curves(block: Block) -> Html:
    rows = []
    for line in block["series"]:
        real = [p for p in line["points"] if p[1] is not None]
        if real:
            low = min(real, key=lambda p: p[1])
            rows.append([line["name"], len(real), float(real[0][1]), float(low[1]), float(real[-1][1])])
    data = tag(
        "details", tag("summary", "Numbers"), _grid(["line", "points", "first", "lowest", "last"], rows)
    )
    return _figure(block, charts.legend(block), responsive(charts.curves, block), data, class_="chart")


def _bars(block: Block) -> Html:
    unit = f" ({block['unit']})" if block["unit"] else ""
    rows = [[bar["label"], bar["value"], *(bar["interval"] or (None, None))] for bar in block["bars"]]
    table = _grid(["", f"value{unit}", "low", "high"], rows)
    data = tag("details", tag("summary", "Numbers"), table)
    return _figure(block, responsive(charts.bars, block), data, class_="chart")


def _histogram(block: Block) -> Html:
    return _figure(block, responsive(charts.histogram, block), class_="chart")


def _heat_map(block: Block) -> Html:
    return _figure(block, _scroll(charts.heat_map(block)))


def _pictures(block: Block) -> Html:
    head = tag("tr", tag("td"), *[tag("th", column, scope="col") for column in block["columns"]])
    rows = [
        tag(
            "tr",
            tag("th", row["name"], scope="row"),
            *[
                tag(
                    "td",
                    tag(
                        "img",
                        src=picture.get("uri")
                        or f"data:image/png;base64,{picture['png']}",  # reports of before
                        alt=f"{row['name']}, {column}: {picture['caption']}",
                    ),
                    tag("small", picture["caption"]),
                )
                for column, picture in zip(block["columns"], row["pictures"])
            ],
        )
        for row in block["rows"]
    ]
    table = tag(
        "table",
        tag("thead", head),
        tag("tbody", *rows),
        class_="pictures large" if block.get("large") else "pictures",
    )
    return _figure(block, _scroll(table))


def _samples(block: Block) -> Html:
    shown = block["shown"]
    cards = [_sample(sample) for sample in block["samples"]]
    more = cards[shown:]
    rest = tag("details", tag("summary", f"{len(more)} more"), *more, class_="more") if more else None
    return _figure(block, *cards[:shown], rest)


def _sample(sample: Mapping[str, Any]) -> Html:
    scores = [
        tag("li", tag("span", name), " ", number(value, 3) if isinstance(value, int | float) else value)
        for name, value in (sample["scores"] or {}).items()
    ]
    head = tag(
        "header",
        tag("strong", sample["label"]) if sample["label"] else None,
        tag("ul", *scores, class_="scores") if scores else None,
    )
    note = tag("p", _inline(sample["note"]), class_="note") if sample["note"] else None
    text = tag("pre", sample["text"], class_="code" if sample["code"] else None)
    if len(sample["text"]) > 1_200:
        text = tag("details", tag("summary", sample["text"][:300], "…"), text, class_="long")
    return tag("article", head if sample["label"] or scores else None, text, note, class_="sample")


def _tokens(block: Block) -> Html:
    values = [token["value"] for token in block["tokens"] if token["value"] is not None]
    low = block["low"] if block["low"] is not None else min(values, default=0.0)
    high = block["high"] if block["high"] is not None else max(values, default=1.0)
    signed = low < 0 < high
    spans = []
    for token in block["tokens"]:
        value = token["value"]
        if value is None:
            spans.append(tag("span", token["text"]))
            continue
        share = abs(value) / max(abs(low), abs(high)) if signed else (value - low) / ((high - low) or 1.0)
        spans.append(
            tag("span", token["text"], title=number(value), **charts.shade(share, signed and value < 0))
        )
    scale = tag(
        "p", f"{block['label'] or 'value'}: ",
        tag("span", number(low, 3), **charts.shade(float(signed), signed)),
        " to ", tag("span", number(high, 3), **charts.shade(1.0)), class_="note",
    )  # fmt: skip
    return _figure(block, tag("div", *spans, class_="tokens"), scale)


def _transcript(block: Block) -> Html:
    turns = []
    for message in block["messages"]:
        role = message["role"]
        known = role if role in ("system", "user", "assistant", "tool") else "other"
        note = tag("p", message["note"], class_="note") if message.get("note") else None
        turns.append(tag("li", tag("b", role), tag("div", message["content"]), note, class_=known))
    return _figure(block, tag("ol", *turns, class_="transcript"))


def _lineage(block: Block) -> Html:
    numbers = {f"{step['name']}-{step['key'][:16]}": i for i, step in enumerate(block["steps"], 1)}
    rows = []
    for i, step in enumerate(block["steps"], 1):
        sources = dict.fromkeys(artifact_references(step["inputs"]))
        made_from = ", ".join(str(numbers[name]) for name in sources if name in numbers)
        rows.append(
            [
                str(i),
                step["name"],
                step["makes"],
                made_from or "–",
                human_seconds(step["seconds"]) + (" (kept)" if step["cached"] else ""),
                human_bytes(step["peak_memory_bytes"]),
                human_bytes(step["disk_bytes"]),
                step["key"][:16],
            ]
        )
    columns = ["no.", "step", "makes", "from", "time", "peak memory", "disk", "key"]
    return _figure(block, _grid(columns, rows), class_="lineage")


_BADGES = {"holds": ("✓", "holds"), "fails": ("✗", "fails"), "noise": ("≈", "noise")}


def _claims(block: Block) -> Html:
    rows = []
    for claim in block["claims"]:
        mark, class_ = _BADGES.get(claim["verdict"], ("○", "open"))
        verdict = tag("span", mark, " ", claim["verdict"], class_=f"badge {class_}")
        paper = claim["paper_value"]
        measured = tag("strong", _with_unit(claim["measured"], claim["unit"]))
        interval = None
        if claim["interval"]:
            low, high = claim["interval"]
            interval = tag("small", f"[{number(low)}, {number(high)}]")
        why = [
            tag("p", tag("i", "Rule: "), claim["rule"]) if claim["rule"] else None,
            tag("p", claim["why"]) if claim["why"] else None,
        ]
        rows.append(
            tag(
                "tr",
                tag("th", tag("p", _inline(claim["sentence"])), *why, scope="row"),
                tag("td", _with_unit(paper, claim["unit"]), data_label="paper"),
                tag("td", measured, interval, data_label="here"),
                tag("td", verdict, data_label="verdict"),
            )
        )
    head = [tag("th", name, scope="col") for name in ("claim", "paper", "measured here", "verdict")]
    return _figure(block, tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), class_="claims"))


def _with_unit(value: float | str | None, unit: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    space = "\u00a0" if len(unit) <= 8 else " "  # a long unit may go on the next line
    return f"{number(value)}{space}{unit}" if unit else number(value)


def _costs(block: Block) -> Html:
    rows = [[cost["what"], cost["amount"], cost["note"]] for cost in block["costs"]]
    return _figure(block, _grid(["what", "amount", "note"], rows))


_RENDERERS: dict[str, Callable[[Block], Html]] = {
    "text": _text,
    "figures": _figures,
    "table": _table,
    "curves": _curves,
    "bars": _bars,
    "histogram": _histogram,
    "heat_map": _heat_map,
    "pictures": _pictures,
    "samples": _samples,
    "tokens": _tokens,
    "transcript": _transcript,
    "lineage": _lineage,
    "claims": _claims,
    "costs": _costs,
}
