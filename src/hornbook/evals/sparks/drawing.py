"""Drawing: an animal to order, a part put back, a layout, a figure of letters (sections 1 and 2).

All are graded by geometry alone: whether people find a drawing good is asked of people, side by side.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

from hornbook.evals.sparks.canvas import COLOURS, Drawing, Point, Shape
from hornbook.evals.sparks.probe import Mark, Probe, Trial, Turns
from hornbook.evals.sparks.svg import Unreadable, read_svg
from hornbook.evals.sparks.tikz import read_tikz

_NAMES = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 1: "one", 0: "no"}


def read_drawing(text: str) -> Drawing:
    """The SVG of an answer, else its TikZ.

    Raises:
        Unreadable: there is neither; the message says what was wrong.
    """
    return read_svg(text) if "<svg" in text else read_tikz(text)


class _Drawn(Probe):
    """Reads the drawing; solved is what passes every check."""

    max_tokens = 700

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        try:
            drawing = read_drawing(answers[0][-1])
        except Unreadable as error:
            return Mark(values={"solved": 0.0, "checks": 0.0, "readable": 0.0}, note=str(error))
        checks = self.checks(trial, drawing)
        failed = [name for name, good in checks.items() if not good]
        return Mark(
            values={
                "solved": float(not failed),
                "checks": 1 - len(failed) / len(checks),
                "readable": 1.0,
            },
            read=f"{len(drawing.shapes)} shapes",
            note=", ".join(failed),
            picture=drawing,
        )

    @abstractmethod
    def checks(self, trial: Trial, drawing: Drawing) -> dict[str, bool]:
        """Whether each thing that was asked for is there, by its name."""


class Animal(_Drawn):
    """An animal that is in no zoo: so many legs and horns, looking one way."""

    name = "animal"
    section = "1, 2.2"
    sentence = "Draw an animal with given legs and horns in SVG or TikZ: are the parts there, and in place?"

    def draw(self, rng: Random) -> Trial:
        told: dict[str, Any] = {
            "legs": rng.choice([2, 3, 4, 5, 6]),
            "horns": rng.choice([1, 2, 3]),
            "side": rng.choice(["left", "right"]),
            "language": rng.choice(["SVG", "TikZ"]),
            "body": rng.choice(["brown", "gray", "pink", "yellow", "green", "orange"]),
        }
        opening = (
            f"Draw an imaginary animal in {told['language']}, seen from the side and looking to the "
            f"{told['side']}. Use one ellipse filled with {told['body']} for the body, one circle for the "
            "head, "
            f"{_NAMES[told['legs']]} separate thin vertical legs below the body (lines or rectangles), and "
            f"{_NAMES[told['horns']]} separate narrow triangle{'s' * (told['horns'] > 1)} on top of the "
            "head as "
            f"horn{'s' * (told['horns'] > 1)}. Give only the code."
        )
        return Trial(id="", openings=(opening,), told=told)

    def checks(self, trial: Trial, drawing: Drawing) -> dict[str, bool]:
        told = trial.told
        round_ones = sorted((s for s in drawing.shapes if s.kind == "ellipse"), key=_area)
        if len(round_ones) < 2:
            return {"a body and a head": False}
        body = round_ones[-1]
        head = max(
            round_ones[:-1], key=lambda s: _area(s) if s.middle[1] < body.middle[1] + 1e-9 else -_area(s)
        )
        way = head.middle[0] - body.middle[0]
        horns = [s for s in drawing.shapes if s.kind == "polygon" and is_horn(s, head)]
        legs = [s for s in drawing.shapes if s not in (body, head) and is_leg(s, body)]
        return {
            "a body and a head": _area(body) > _area(head),
            f"looks to the {told['side']}": (way < 0) == (told["side"] == "left") and way != 0,
            f"the body is {told['body']}": body.fill == COLOURS[told["body"]],
            f"{told['legs']} legs": len(legs) == told["legs"],
            f"{told['horns']} horns": len(horns) == told["horns"],
        }

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        told = trial.told
        sign = -1 if told["side"] == "left" else 1
        head = 200 + sign * 95
        legs = [130 + 140 * i / max(1, told["legs"] - 1) for i in range(told["legs"])]
        horns = [head - 20 + 20 * i for i in range(told["horns"])]
        if told["language"] == "TikZ":
            lines = [
                f"\\filldraw[fill={told['body']},draw=black] (2,1.5) ellipse (0.9 and 0.5);",
                f"\\filldraw[fill=tan] ({head / 100},2.2) circle (0.3);",
                *(f"\\draw ({x / 100:.2f},1.2) -- ({x / 100:.2f},0.1);" for x in legs),
                *(
                    f"\\filldraw[fill=gold] ({x / 100 - 0.04:.2f},2.4) -- ({x / 100 + 0.04:.2f},2.4) -- "
                    f"({x / 100:.2f},2.9) -- cycle;"
                    for x in horns
                ),
            ]
            return "\\begin{tikzpicture}\n" + "\n".join(lines) + "\n\\end{tikzpicture}"
        parts = [
            f'<ellipse cx="200" cy="150" rx="90" ry="50" fill="{told["body"]}"/>',
            f'<circle cx="{head}" cy="80" r="30" fill="tan"/>',
            *(f'<rect x="{x:.0f}" y="180" width="6" height="110" fill="black"/>' for x in legs),
            *(f'<polygon points="{x - 4},60 {x + 4},60 {x},10" fill="gold"/>' for x in horns),
        ]
        return '<svg viewBox="0 0 400 300">\n' + "\n".join(parts) + "\n</svg>"


def _area(shape: Shape) -> float:
    return shape.extent[0] * shape.extent[1]


def is_horn(shape: Shape, head: Shape) -> bool:
    """A narrow triangle whose base is at the head's upper half and whose tip is above the head."""
    corners = list(dict.fromkeys(shape.points))
    if len(corners) != 3:
        return False
    sides = sorted(math.dist(a, b) for a, b in ((corners[0], corners[1]), (corners[1], corners[2]),
                                                (corners[2], corners[0])))  # fmt: skip
    tip = min(corners, key=lambda p: p[1])
    base = [p for p in corners if p != tip]
    left, top, right, _ = head.box
    middle = ((base[0][0] + base[1][0]) / 2, (base[0][1] + base[1][1]) / 2)
    reach = max(right - left, 1e-9) / 2
    near = math.dist(middle, head.middle) <= 1.35 * reach and middle[1] <= head.middle[1]
    return sides[0] <= 0.75 * sides[1] and near and tip[1] < top


def is_leg(shape: Shape, body: Shape) -> bool:
    """Thin, upright, begins at the body (or a little below) and ends below it."""
    width, height = shape.extent
    left, top, right, bottom = body.box
    begin, end = shape.box[1], shape.box[3]
    upright = height > 0 and width <= 0.5 * height
    within = left - 0.1 * (right - left) <= shape.middle[0] <= right + 0.1 * (right - left)
    return upright and within and top < begin <= bottom + 0.25 * height and end > bottom


class Restore(_Drawn):
    """The paper's horn: taken away, coordinates changed, comments stripped; where does it belong?"""

    name = "restore"
    section = "2.2"
    sentence = (
        "A horn is missing from a TikZ animal whose coordinates were changed: put back, all else unchanged?"
    )

    def draw(self, rng: Random) -> Trial:
        scale, dx, dy = rng.choice([0.5, 0.8, 1.3, 2.0]), rng.randint(-4, 4), rng.randint(-4, 4)
        flip = rng.choice([-1, 1])

        def at(x: float, y: float) -> str:
            return f"({round(flip * scale * x + dx, 2)},{round(scale * y + dy, 2)})"

        lines = [
            f"\\draw {at(2, 1.5)} ellipse ({round(0.9 * scale, 2)} and {round(0.5 * scale, 2)});",
            f"\\draw {at(3, 2.3)} circle ({round(0.3 * scale, 2)});",
            *(f"\\draw {at(x, 1.1)} -- {at(x, 0.1)};" for x in (1.4, 1.8, 2.2, 2.6)),
            f"\\draw {at(1.1, 1.6)} -- {at(0.7, 1.1)};",
            f"\\fill {at(3.1, 2.35)} circle ({round(0.04 * scale, 2)});",
        ]
        rng.shuffle(lines)
        told = {
            "code": "\n".join(lines),
            "head": [round(flip * scale * 3 + dx, 2), round(scale * 2.3 + dy, 2), round(0.3 * scale, 2)],
        }
        opening = (
            "This TikZ code draws a unicorn from the side, but its horn is missing.\n\n"
            f"{told['code']}\n\nAdd the horn as one closed narrow triangle on top of the head. Change "
            "nothing "
            "else. Give the whole code."
        )
        return Trial(id="", openings=(opening,), told=told)

    def checks(self, trial: Trial, drawing: Drawing) -> dict[str, bool]:
        before = [_key(s) for s in read_tikz(trial.told["code"]).shapes]
        after = list(drawing.shapes)
        for key in before:
            same = next((s for s in after if _key(s) == key), None)
            if same is None:
                return {"the rest is unchanged": False, "one narrow triangle on the head": False}
            after.remove(same)
        x, y, r = trial.told["head"]
        head = Shape(kind="rect", points=((x - r, -y - r), (x + r, -y + r)))
        return {
            "the rest is unchanged": True,
            "one narrow triangle on the head": len(after) == 1 and is_horn(after[0], head),
        }

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        x, y, r = trial.told["head"]
        horn = (
            f"\\draw ({x - 0.15 * r:.3f},{y + 0.9 * r:.3f}) -- ({x + 0.15 * r:.3f},{y + 0.9 * r:.3f}) -- "
            f"({x:.3f},{y + 2.2 * r:.3f}) -- cycle;"
        )
        return f"{trial.told['code']}\n{horn}"


def _key(shape: Shape) -> tuple[str, tuple[tuple[float, float], ...]]:
    return shape.kind, tuple((round(x, 2), round(y, 2)) for x, y in shape.points)


class Layout(_Drawn):
    """Zones and colours (section 2.2's game scene): a river, a pyramid, buttons in order."""

    name = "layout"
    section = "2.2"
    sentence = "Lay out a river, a pyramid and coloured buttons on a canvas: is each in its zone?"

    def draw(self, rng: Random) -> Trial:
        buttons = rng.sample(["red", "green", "yellow", "purple", "orange", "pink", "black"], 4)
        told = {
            "side": rng.choice(["left", "right"]),
            "rows": rng.choice(["top", "bottom"]),
            "buttons": buttons,
            "pyramid": rng.choice(["gold", "brown", "gray"]),
        }
        opening = (
            "Make an SVG picture of 400 by 300. A blue river (one rectangle filled with blue) runs from the "
            "left edge to the right edge across the middle of the picture. A pyramid (one triangle as a "
            "polygon "
            f"filled with {told['pyramid']}) stands above the river in the {told['side']} half. At the very "
            f"{told['rows']} are four square buttons (rectangles) in one row, from left to right "
            f"{', '.join(buttons[:-1])} and {buttons[-1]}. Nothing overlaps. Give only the code."
        )
        return Trial(id="", openings=(opening,), told=told)

    def checks(self, trial: Trial, drawing: Drawing) -> dict[str, bool]:
        told = trial.told
        left, top, width, height = drawing.view
        boxes = [
            (s.fill, s.kind, _unit(s, left, top, width, height))
            for s in drawing.shapes
            if s.fill is not None and s.kind != "text"
        ]
        rivers = [b for f, k, b in boxes if f == COLOURS["blue"] and k == "rect"]
        river = bool(rivers) and _covers(rivers[0])
        pyramids = [b for f, k, b in boxes if f == COLOURS[told["pyramid"]] and k == "polygon"]
        squares = {name: next((b for f, k, b in boxes if k == "rect" and f == COLOURS[name]), None)
                   for name in told["buttons"]}  # fmt: skip
        found = [b for b in squares.values() if b is not None]
        ordered = len(found) == 4 and all(a[2] <= b[0] + 0.01 for a, b in pairwise(found))
        edge = all(b[3] <= 0.3 if told["rows"] == "top" else b[1] >= 0.7 for b in found)
        alike = len(found) == 4 and max(b[1] for b in found) - min(b[1] for b in found) < 0.02
        things = [*rivers[:1], *pyramids[:1], *found]
        apart = all(not _overlap(a, b) for i, a in enumerate(things) for b in things[i + 1 :])
        return {
            "a river from edge to edge": river,
            f"a pyramid in the {told['side']} half": len(pyramids) == 1
            and (pyramids[0][2] <= 0.52 if told["side"] == "left" else pyramids[0][0] >= 0.48),
            "the pyramid is above the river": bool(pyramids and rivers)
            and pyramids[0][3] <= rivers[0][1] + 0.02,
            "four buttons in order": ordered and alike,
            f"buttons at the {told['rows']}": bool(found) and edge,
            "nothing overlaps": len(things) == 6 and apart,
        }

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        told = trial.told
        x = 60 if told["side"] == "left" else 260
        y = 5 if told["rows"] == "top" else 265
        parts = [
            '<rect x="0" y="150" width="400" height="40" fill="blue"/>',
            f'<polygon points="{x},145 {x + 80},145 {x + 40},50" fill="{told["pyramid"]}"/>',
            *(
                f'<rect x="{100 + 50 * i}" y="{y}" width="30" height="30" fill="{name}"/>'
                for i, name in enumerate(told["buttons"])
            ),
        ]
        return '<svg viewBox="0 0 400 300">' + "".join(parts) + "</svg>"


Box = tuple[float, float, float, float]


def _unit(shape: Shape, left: float, top: float, width: float, height: float) -> Box:
    """The box in shares of the view."""
    x0, y0, x1, y1 = shape.box
    return (x0 - left) / width, (y0 - top) / height, (x1 - left) / width, (y1 - top) / height


def _covers(box: Box) -> bool:
    """From edge to edge, and across the middle of the picture."""
    return (
        box[0] <= 0.01 and box[2] >= 0.99 and box[1] > 0.2 and box[3] < 0.8 and box[1] < 0.65 and box[3] > 0.4
    )


def _overlap(a: Box, b: Box) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > 0.005 and min(a[3], b[3]) - max(a[1], b[1]) > 0.005


class Letters(_Drawn):
    """A figure put together from capital letters, as the paper's Y, O and H."""

    name = "letters"
    section = "2.2"
    sentence = (
        "Build a standing figure from capital letters as SVG text: head above trunk above legs, in line?"
    )

    def draw(self, rng: Random) -> Trial:
        head, trunk, legs = rng.choice("OQCD"), rng.choice("YTVXI"), rng.choice("HANM")
        hat = rng.choice(["", "V", "Z", "W"])
        told = {"parts": [*([hat] if hat else []), head, trunk, legs]}
        names = f"{head} as its head, {trunk} as its trunk and arms, {legs} as its legs"
        opening = (
            f"Make a standing figure out of capital letters in SVG: {names}"
            f"{f', and {hat} as a hat' if hat else ''}. Each letter is one <text> element, upright, one "
            "above "
            "another in a line, close together but not on top of each other. Give only the code."
        )
        return Trial(id="", openings=(opening,), told=told)

    def checks(self, trial: Trial, drawing: Drawing) -> dict[str, bool]:
        parts = trial.told["parts"]
        texts = [s for s in drawing.shapes if s.kind == "text"]
        if sorted(s.text.strip() for s in texts) != sorted(parts):
            return {"exactly these letters": False, "in order": False, "in line": False, "apart": False}
        texts.sort(key=lambda s: s.points[0][1])
        middles: list[Point] = [s.middle for s in texts]
        pairs = list(pairwise(texts))
        return {
            "exactly these letters": True,
            "in order": [s.text.strip() for s in texts] == parts,
            "in line": max(x for x, _ in middles) - min(x for x, _ in middles) <= 0.5 * texts[0].size,
            "apart": all(b.points[0][1] - a.points[0][1] >= 0.6 * b.size for a, b in pairs)
            and all(b.points[0][1] - a.points[0][1] <= 2.0 * b.size for a, b in pairs),
        }

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        rows = [
            f'<text x="50" y="{40 + 36 * i}" font-size="40">{letter}</text>'
            for i, letter in enumerate(trial.told["parts"])
        ]
        return '<svg viewBox="0 0 140 200">' + "".join(rows) + "</svg>"
