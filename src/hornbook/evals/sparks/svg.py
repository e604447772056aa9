"""SVG as models write it, read into shapes. A subset without links, scripts, styles sheets and entities.

What is not drawn (metadata, gradients, filters, unknown tags) is left out and counted, so that a drawing is
judged by what can be seen. Nothing of the text reaches a page.
"""

import math
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from xml.parsers import expat

from hornbook.evals.sparks.canvas import (
    COLOURS,
    IDENTITY,
    MOST_POINTS,
    MOST_SHAPES,
    Affine,
    Colour,
    Drawing,
    Point,
    Shape,
    apply,
    compose,
    ellipse,
    fitted,
)

_LONGEST = 100_000
_DEEPEST = 40
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_CALL = re.compile(r"(\w+)\s*\(([^()]*)\)")
_PATH = re.compile(r"[MmLlHhVvCcSsQqTtAaZz]|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_NEEDS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}
_CURVE = 12
_UNSEEN = {"defs", "metadata", "title", "desc", "style", "script", "clipPath", "mask", "symbol", "filter"}


class Unreadable(ValueError):
    """The text is no drawing; the message says why."""


def find_svg(text: str) -> str:
    """The first `<svg ...>` to its end, out of an answer with prose or fences around it."""
    begin = re.search(r"<svg\b", text)
    if begin is None:
        raise Unreadable("the answer holds no <svg>")
    end = text.find("</svg>", begin.start())
    return text[begin.start() : end + 6 if end >= 0 else len(text)]


def read_svg(text: str) -> Drawing:
    """The shapes of an SVG picture.

    Raises:
        Unreadable: not well formed, too long, too deep, entities, or nothing drawn.
    """
    source = find_svg(text)
    if len(source) > _LONGEST:
        raise Unreadable(f"the picture has {len(source)} characters; at most {_LONGEST} are read")
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.EntityDeclHandler = _no_entities
    try:
        parser.Parse(source.encode("utf-8", errors="replace"), True)
    except expat.ExpatError as error:
        raise Unreadable(f"the SVG is not well formed: {error}") from None
    if not reader.shapes:
        raise Unreadable("the SVG draws nothing")
    if reader.view is not None:
        return Drawing(shapes=tuple(reader.shapes), view=reader.view)
    return fitted(reader.shapes)


def _no_entities(*_: object) -> None:
    raise Unreadable("the SVG declares an entity")


class _Reader:
    """Collects shapes while the parser walks; inherited paint and transforms lie on a stack."""

    def __init__(self) -> None:
        self.shapes: list[Shape] = []
        self.view: tuple[float, float, float, float] | None = None
        self.points = 0
        self._stack: list[tuple[Affine, dict[str, str]]] = [(IDENTITY, {})]
        self._unseen = 0
        self._text: list[str] | None = None
        self._text_at: dict[str, str] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.split(":")[-1]
        if len(self._stack) > _DEEPEST:
            raise Unreadable(f"the SVG is nested deeper than {_DEEPEST}")
        place, paint = self._stack[-1]
        told = {**attributes, **_declared(attributes.get("style", ""))}
        own = {**paint, **{k: v for k, v in told.items() if k in _PAINT}}
        self._stack.append((compose(place, _transform(attributes.get("transform", ""))), own))
        if self._unseen or name in _UNSEEN:
            self._unseen += 1
        elif name == "svg" and len(self._stack) == 2:
            self.view = _view(attributes)
        elif name in ("text", "tspan"):
            if name == "text":
                self._text, self._text_at = [], told
        else:
            self._shape(name, told)

    def end(self, name: str) -> None:
        if self._unseen:
            self._unseen -= 1
        elif name.split(":")[-1] == "text" and self._text is not None:
            words = " ".join("".join(self._text).split())[:80]
            if words:
                size = _length(self._text_at.get("font-size", "16"), 16.0)
                x, y = (_length(self._text_at.get(n, "0")) for n in ("x", "y"))
                if self._text_at.get("text-anchor", "") == "middle":
                    x -= 0.35 * size * len(words)
                self._add("text", [(x, y)], text=words, size=size)
            self._text = None
        self._stack.pop()

    def characters(self, data: str) -> None:
        if self._text is not None and not self._unseen:
            self._text.append(data)

    def _shape(self, name: str, told: Mapping[str, str]) -> None:
        def value(key: str, default: float = 0.0) -> float:
            return _length(told.get(key, ""), default)

        if name == "rect":
            x, y, w, h = value("x"), value("y"), value("width"), value("height")
            if w > 0 and h > 0:
                self._add("rect", [(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
        elif name in ("circle", "ellipse"):
            rx = value("r") or value("rx")
            ry = value("r") or value("ry") or rx
            if rx > 0 and ry > 0:
                self._add("ellipse", list(ellipse((value("cx"), value("cy")), rx, ry)))
        elif name == "line":
            self._add("line", [(value("x1"), value("y1")), (value("x2"), value("y2"))])
        elif name in ("polygon", "polyline"):
            numbers = [float(n) for n in _NUMBER.findall(told.get("points", ""))]
            points = list(zip(numbers[::2], numbers[1::2]))
            if len(points) > 1:
                self._add("polygon" if name == "polygon" and len(points) > 2 else "line", points)
        elif name == "path":
            for points, closed in _path(told.get("d", "")):
                filled = closed or self._stack[-1][1].get("fill", "none") != "none"
                self._add("polygon" if filled and len(points) > 2 else "line", points)

    def _add(self, kind: str, points: list[Point], *, text: str = "", size: float = 16.0) -> None:
        place, paint = self._stack[-1]
        self.points += len(points)
        if len(self.shapes) >= MOST_SHAPES or self.points > MOST_POINTS:
            raise Unreadable(f"more than {MOST_SHAPES} shapes or {MOST_POINTS} points")
        moved = [apply(place, point) for point in points]
        if not all(math.isfinite(x) and math.isfinite(y) and abs(x) + abs(y) < 1e7 for x, y in moved):
            raise Unreadable("a coordinate is no finite number")
        default = "none" if kind == "line" else "black"
        scale = math.sqrt(abs(place[0] * place[3] - place[1] * place[2]))
        self.shapes.append(
            Shape(
                kind=kind,  # type: ignore[arg-type]
                points=tuple(moved),
                fill=colour(paint.get("fill", default)),
                stroke=colour(paint.get("stroke", "none")),
                width=_length(paint.get("stroke-width", "1"), 1.0) * scale,
                text=text,
                size=size * scale,
            )
        )


_PAINT = ("fill", "stroke", "stroke-width")


def _declared(style: str) -> dict[str, str]:
    """The declarations of a style attribute."""
    pairs = (part.split(":", 1) for part in style.split(";") if ":" in part)
    return {name.strip(): value.strip() for name, value in pairs}


def colour(text: str) -> Colour | None:
    """A colour by name, #rgb, #rrggbb or rgb(...); none and transparent are None, unknown ones grey."""
    text = text.strip().lower()
    if text in ("none", "transparent", ""):
        return None
    if re.fullmatch(r"#[0-9a-f]{3}", text):
        return (17 * int(text[1], 16), 17 * int(text[2], 16), 17 * int(text[3], 16))
    if re.fullmatch(r"#[0-9a-f]{6}", text):
        return (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16))
    if text.startswith("rgb"):
        parts = [min(255, max(0, int(float(n)))) for n in _NUMBER.findall(text)[:3]]
        if len(parts) == 3:
            return (parts[0], parts[1], parts[2])
    return COLOURS.get(text, (128, 128, 128))


def _length(text: str, default: float = 0.0) -> float:
    match = _NUMBER.match(text.strip())
    value = float(match.group()) if match else default
    return value if math.isfinite(value) else default


def _view(attributes: Mapping[str, str]) -> tuple[float, float, float, float] | None:
    box = [float(n) for n in _NUMBER.findall(attributes.get("viewBox", ""))]
    if len(box) != 4:
        box = [0.0, 0.0, _length(attributes.get("width", "")), _length(attributes.get("height", ""))]
    good = box[2] > 0 and box[3] > 0 and max(map(abs, box)) < 1e6 and 0.02 < box[2] / box[3] < 50
    return (box[0], box[1], box[2], box[3]) if good else None


def _transform(text: str) -> Affine:
    """translate, scale, rotate and matrix, one after another; others are left out."""
    made = IDENTITY
    for name, told in _CALL.findall(text)[:20]:
        n = [float(x) for x in _NUMBER.findall(told)]
        if name == "translate" and n:
            made = compose(made, (1, 0, 0, 1, n[0], n[1] if len(n) > 1 else 0))
        elif name == "scale" and n:
            made = compose(made, (n[0], 0, 0, n[1] if len(n) > 1 else n[0], 0, 0))
        elif name == "matrix" and len(n) == 6:
            made = compose(made, (n[0], n[1], n[2], n[3], n[4], n[5]))
        elif name == "rotate" and n:
            cos, sin = math.cos(math.radians(n[0])), math.sin(math.radians(n[0]))
            x, y = (n[1], n[2]) if len(n) > 2 else (0.0, 0.0)
            made = compose(made, (cos, sin, -sin, cos, x - cos * x + sin * y, y - sin * x - cos * y))
    return made


def _path(text: str) -> Iterator[tuple[list[Point], bool]]:
    """The parts of a path as (points, closed); curves and arcs become short lines."""
    signs = _PATH.findall(text)
    at, command = 0, ""
    points: list[Point] = []
    x = y = 0.0
    control: Point | None = None
    while at < len(signs):
        if signs[at].isalpha():
            command, at = signs[at], at + 1
        elif not command:
            return
        big, own = command.upper(), command.islower()
        if big == "Z":
            if len(points) > 1:
                x, y = points[0]
                yield points, True
            points, control, command = [(x, y)], None, ""
            continue
        needs = _NEEDS[big]
        if at + needs > len(signs) or any(s.isalpha() for s in signs[at : at + needs]):
            break
        n = [float(s) for s in signs[at : at + needs]]
        at += needs
        dx, dy = (x, y) if own else (0.0, 0.0)
        if big == "M":
            if len(points) > 1:
                yield points, False
            x, y = n[0] + dx, n[1] + dy
            points, control, command = [(x, y)], None, "l" if own else "L"
            continue
        points = points or [(x, y)]
        if big == "H":
            end = (n[0] + dx, y)
        elif big == "V":
            end = (x, n[0] + dy)
        else:
            end = (n[-2] + dx, n[-1] + dy)
        bends = [(n[i] + dx, n[i + 1] + dy) for i in range(0, needs - 2, 2)] if big in "CSQ" else []
        if big in "ST":
            mirrored = (2 * x - control[0], 2 * y - control[1]) if control else (x, y)
            bends = [mirrored, *bends]
        control = bends[-1] if bends else None
        points += _arc((x, y), n, end) if big == "A" else _bend([(x, y), *bends, end])
        x, y = end
    if len(points) > 1:
        yield points, False


def _bend(corners: list[Point]) -> list[Point]:
    """A line, or a Bezier curve (de Casteljau) as short lines; without its first point."""
    if len(corners) == 2:
        return [corners[1]]
    found = []
    for i in range(1, _CURVE + 1):
        t, layer = i / _CURVE, corners
        while len(layer) > 1:
            layer = [((1 - t) * a + t * c, (1 - t) * b + t * d) for (a, b), (c, d) in pairwise(layer)]
        found.append(layer[0])
    return found


def _arc(begin: Point, n: list[float], end: Point) -> list[Point]:
    """An elliptical arc (SVG 1.1, appendix F.6.5) as short lines; without its first point."""
    rx, ry, turn = abs(n[0]), abs(n[1]), math.radians(n[2])
    large, sweep = n[3] != 0, n[4] != 0
    if rx == 0 or ry == 0 or begin == end:
        return [end]
    cos, sin = math.cos(turn), math.sin(turn)
    hx, hy = (begin[0] - end[0]) / 2, (begin[1] - end[1]) / 2
    px, py = cos * hx + sin * hy, -sin * hx + cos * hy
    grow = math.sqrt(max(1.0, (px / rx) ** 2 + (py / ry) ** 2))
    rx, ry = rx * grow, ry * grow
    below = (rx * py) ** 2 + (ry * px) ** 2
    root = math.sqrt(max(0.0, (rx * ry) ** 2 - below) / below) * (-1 if large == sweep else 1)
    mx, my = root * rx * py / ry, -root * ry * px / rx
    first = math.atan2((py - my) / ry, (px - mx) / rx)
    last = math.atan2((-py - my) / ry, (-px - mx) / rx)
    swing = last - first
    if sweep and swing < 0:
        swing += 2 * math.pi
    elif not sweep and swing > 0:
        swing -= 2 * math.pi
    cx = cos * mx - sin * my + (begin[0] + end[0]) / 2
    cy = sin * mx + cos * my + (begin[1] + end[1]) / 2
    found = []
    for i in range(1, _CURVE + 1):
        t = first + swing * i / _CURVE
        u, v = rx * math.cos(t), ry * math.sin(t)
        found.append((cos * u - sin * v + cx, sin * u + cos * v + cy))
    return found
