r"""TikZ as models write it, read into shapes: \draw, \fill, \filldraw of lines, circles, boxes.

No TeX runs. Loops, macros, arcs and curves are outside: a picture that needs them is judged by its rest,
and one of which nothing is left cannot be read.
"""

import math
import re
from dataclasses import dataclass, field

from hornbook.evals.sparks.canvas import (
    COLOURS,
    MOST_SHAPES,
    Colour,
    Drawing,
    Point,
    Shape,
    ellipse,
    fitted,
)
from hornbook.evals.sparks.svg import Unreadable

_LONGEST = 100_000
_COMMAND = re.compile(r"\\(draw|fill|filldraw|path)\b\s*(?:\[([^\]]*)\])?([^;]*);")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
_TOKEN = re.compile(
    rf"(?P<at>(?P<plus>\+{{0,2}})\(\s*(?P<x>{_NUMBER})\s*(?:cm)?\s*,\s*(?P<y>{_NUMBER})\s*(?:cm)?\s*\))"
    rf"|(?P<polar>(?P<pplus>\+{{0,2}})\(\s*(?P<angle>{_NUMBER})\s*:\s*(?P<length>{_NUMBER})\s*(?:cm)?\s*\))"
    r"|(?P<word>--|cycle|rectangle|circle|ellipse|node)"
    rf"|(?P<radii>\(\s*(?P<r1>{_NUMBER})\s*(?:cm)?\s*(?:(?:and|/)\s*(?P<r2>{_NUMBER})\s*(?:cm)?)?\s*\))"
    r"|\[(?P<options>[^\]]*)\]|(?P<label>\{[^{}]*\})"
)
_RADIUS = re.compile(rf"(x radius|y radius|radius)\s*=\s*({_NUMBER})")


def read_tikz(text: str) -> Drawing:
    """The shapes of a TikZ picture; upwards is upwards.

    Raises:
        Unreadable: no command that draws, or too long.
    """
    if len(text) > _LONGEST:
        raise Unreadable(f"the picture has {len(text)} characters; at most {_LONGEST} are read")
    source = re.sub(r"(?<!\\)%[^\n]*", "", text)
    shapes: list[Shape] = []
    for verb, options, body in _COMMAND.findall(source):
        shapes += _Command(verb, options).read(body)
        if len(shapes) > MOST_SHAPES:
            raise Unreadable(f"more than {MOST_SHAPES} shapes")
    if not shapes:
        raise Unreadable("the answer draws nothing in TikZ")
    return fitted(shapes)


@dataclass
class _Command:
    """One path, read from left to right."""

    verb: str
    options: str
    line: list[Point] = field(default_factory=list)
    at: Point = (0.0, 0.0)
    shapes: list[Shape] = field(default_factory=list)

    def read(self, body: str) -> list[Shape]:
        waiting = ""
        for token in _TOKEN.finditer(body):
            if token["at"] or token["polar"]:
                spot = self._spot(token)
                if waiting == "rectangle":
                    self._rectangle(spot)
                elif waiting == "--":
                    self.line = [*(self.line or [self.at]), spot]
                else:
                    self._end_line()
                    self.line = [spot]
                self.at, waiting = spot, ""
            elif token["word"] == "cycle":
                self._end_line(closed=True)
                waiting = ""
            elif token["word"]:
                waiting = token["word"]
            elif token["radii"] and waiting in ("circle", "ellipse"):
                r1 = float(token["r1"])
                self._round(r1, float(token["r2"]) if token["r2"] else r1)
                waiting = ""
            elif token["options"] is not None and waiting in ("circle", "ellipse"):
                radii = {name: float(value) for name, value in _RADIUS.findall(token["options"])}
                if radii:
                    both = radii.get("radius", 0.0)
                    self._round(radii.get("x radius", both), radii.get("y radius", both))
                    waiting = ""
        self._end_line()
        return self.shapes

    def _spot(self, token: re.Match[str]) -> Point:
        if token["at"]:
            x, y, plus = float(token["x"]), -float(token["y"]), token["plus"]
        else:
            angle, length = math.radians(float(token["angle"])), float(token["length"])
            x, y, plus = length * math.cos(angle), -length * math.sin(angle), token["pplus"]
        if not (abs(x) < 1e6 and abs(y) < 1e6):
            raise Unreadable("a coordinate is too large")
        return (x + self.at[0], y + self.at[1]) if plus else (x, y)

    def _rectangle(self, other: Point) -> None:
        (x0, y0), (x1, y1) = self.at, other
        self.line = []
        self._add("rect", [(x0, y0), (x1, y0), (x1, y1), (x0, y1)])

    def _round(self, rx: float, ry: float) -> None:
        if 0 < rx < 1e6 and 0 < ry < 1e6:
            self._add("ellipse", list(ellipse(self.at, rx, ry)))
        self.line = []

    def _end_line(self, closed: bool = False) -> None:
        if len(self.line) > 1:
            whole = (closed or self.verb != "draw") and len(self.line) > 2
            self._add("polygon" if whole else "line", self.line)
        self.line = []

    def _add(self, kind: str, points: list[Point]) -> None:
        fill, stroke = _paint(self.verb, self.options)
        self.shapes.append(
            Shape(kind=kind, points=tuple(points), fill=fill, stroke=stroke, width=0.03)  # type: ignore[arg-type]
        )


def _paint(verb: str, options: str) -> tuple[Colour | None, Colour | None]:
    """(fill, stroke) of a command."""
    named = dict(re.findall(r"(fill|draw|color)\s*=\s*([\w!]+)", options))
    bare = next((word for word in re.findall(r"(?<![=\w!])([a-z]+)(?:![\d]+)?(?![\w=])", options)
                 if word in COLOURS), "black")  # fmt: skip
    plain = named.get("color", bare)
    fill = named.get("fill", plain) if verb in ("fill", "filldraw") or "fill" in named else None
    stroke = named.get("draw", plain) if verb in ("draw", "filldraw") or "draw" in named else None
    return _colour(fill), _colour(stroke)


def _colour(name: str | None) -> Colour | None:
    """A colour by name; `red!30` is so much of it on white."""
    if name is None or name == "none":
        return None
    base, _, share = name.partition("!")
    found = COLOURS.get(base, (128, 128, 128))
    part = min(100, int(share)) / 100 if share.isdigit() else 1.0
    return (
        round(255 + (found[0] - 255) * part),
        round(255 + (found[1] - 255) * part),
        round(255 + (found[2] - 255) * part),
    )
