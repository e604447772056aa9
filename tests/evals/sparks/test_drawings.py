"""Drawings are read as written, rendered from shapes alone, and graded by where things are."""

import numpy as np
import pytest

from hornbook.evals.sparks.canvas import COLOURS, Drawing, Shape, fitted, pixels
from hornbook.evals.sparks.drawing import Animal, Layout, Restore, read_drawing
from hornbook.evals.sparks.probe import Trial, trials
from hornbook.evals.sparks.svg import Unreadable, read_svg


def box(text: str, at: int = 0) -> list[float]:
    return [round(v, 3) for v in read_drawing(text).shapes[at].box]


def test_rectangles_circles_and_lines_have_the_boxes_they_say() -> None:
    svg = '<svg viewBox="0 0 9 9"><rect x="1" y="2" width="3" height="4"/><circle cx="5" cy="5" r="2"/></svg>'
    assert box(svg) == [1, 2, 4, 6]
    assert box(svg, 1) == pytest.approx([3, 3, 7, 7], abs=0.02)
    tikz = (
        r"\draw (1,2) rectangle (4,6); \fill[red] (0,0) circle (1cm); \draw (0,0) -- (2,1) -- (1,3) -- cycle;"
    )
    assert box(tikz) == [1, -6, 4, -2]
    assert box(tikz, 1) == pytest.approx([-1, -1, 1, 1], abs=0.02)
    assert box(tikz, 2) == [0, -3, 2, 0]


def test_transforms_are_those_of_the_standard() -> None:
    inner = '<rect width="2" height="1"/>'
    assert box(f'<svg><g transform="translate(3 4) scale(2)">{inner}</g></svg>') == [3, 4, 7, 6]
    assert box(f'<svg><g transform="rotate(90)">{inner}</g></svg>') == [-1, 0, 0, 2]
    assert box(f'<svg><g transform="rotate(180 1 1)">{inner}</g></svg>') == [0, 1, 2, 2]
    assert box(f'<svg><g transform="matrix(1 0 0 1 5 6)">{inner}</g></svg>') == [5, 6, 7, 7]


def test_paths_turn_where_they_say() -> None:
    assert box('<svg><path d="M1 1h2v3H1z"/></svg>') == [1, 1, 3, 4]
    assert box('<svg><path d="m1,1 l2,0 0,3 -2,0z"/></svg>') == [1, 1, 3, 4]
    half = read_svg('<svg><path d="M0 0 A 5 5 0 0 1 10 0 Z"/></svg>').shapes[0]
    assert [round(v, 1) for v in half.box] == [0, -5, 10, 0]
    curve = read_svg('<svg><path d="M0 0 Q 5 10 10 0" fill="none"/></svg>').shapes[0]
    assert curve.box[3] == pytest.approx(5, abs=0.01)  # a parabola reaches half of its control point


def test_relative_coordinates_of_tikz_and_its_comments() -> None:
    assert box("\\draw (1,1) -- ++(2,0) -- +(0,1);") == [1, -2, 3, -1]
    assert box("% \\draw (9,9) circle (1);\n\\draw (0,0) circle [radius=2];") == pytest.approx(
        [-2, -2, 2, 2], abs=0.02
    )
    assert box("\\draw (0:1) -- (90:1);") == [0, -1, 1, 0]


def test_pixels_lie_inside_the_shape() -> None:
    picture = Drawing(
        shapes=(
            Shape(
                kind="polygon", points=((0, 0), (10, 0), (10, 10), (0, 10)), fill=COLOURS["red"], stroke=None
            ),
        ),
        view=(0, 0, 20, 10),
    )
    image = pixels(picture, 40)
    assert image.shape == (20, 40, 3)
    red = (image == COLOURS["red"]).all(2)
    assert red[:, :20].all()
    assert not red[:, 20:].any()


def test_filling_agrees_with_a_count_of_crossings() -> None:
    """Brute force: a point is inside when a ray crosses the outline an odd number of times."""
    corners = [(1, 1), (9, 2), (4, 4), (8, 9), (2, 7)]
    shape = Shape(kind="polygon", points=tuple(corners), fill=(0, 0, 0), stroke=None)
    image = pixels(Drawing(shapes=(shape,), view=(0, 0, 10, 10)), 100)
    wrong = 0
    for row in range(0, 100, 3):
        for column in range(0, 100, 3):
            x, y = (column + 0.5) / 10, (row + 0.5) / 10
            inside = False
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1]):
                if (y0 <= y) != (y1 <= y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                    inside = not inside
            wrong += inside != bool(image[row, column].mean() < 128)
    assert wrong <= 12  # of 1,156: pixels that the outline cuts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "draws nothing"),
        ("A unicorn is a fine animal.", "draws nothing"),
        ("<svg><rect", "not well formed"),
        ("<svg><rect width='1' height='1'/></svg" + "<g>" * 3, "not well formed"),
        ("<svg></svg>", "draws nothing"),
        ("<svg>" + "<g>" * 60 + "</g>" * 60 + "</svg>", "nested deeper"),
        ("<svg>" + "<rect width='1' height='1'/>" * 2_100 + "</svg>", "more than 2000 shapes"),
        ("<svg><rect x='1e300' width='1' height='1'/></svg>", "no finite number"),
        ("<svg>" + "a" * 200_000, "characters"),
        ("\\draw (1,1) circle (1);" * 2_100, "more than 2000 shapes"),
        ("\\draw (99999999,1) circle (1);", "too large"),
    ],
)
def test_what_is_no_drawing_is_said_to_be_none(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read_drawing(text)


def test_entities_are_refused_before_they_grow() -> None:
    bomb = '<svg><!DOCTYPE x [<!ENTITY a "aa">]>&a;</svg>'
    with pytest.raises(Unreadable):
        read_svg(bomb)
    with pytest.raises(Unreadable, match="entity"):
        read_svg_with_doctype()


def read_svg_with_doctype() -> None:
    """An entity declared before the picture never reaches the reader: only what begins with <svg is read."""
    from xml.parsers import expat

    from hornbook.evals.sparks import svg

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = svg._no_entities
    parser.Parse(b'<!DOCTYPE svg [<!ENTITY a "aaaa">]><svg>&a;</svg>', True)


def test_scripts_and_links_draw_nothing() -> None:
    drawn = read_svg(
        '<svg><script>alert(1)</script><a href="javascript:x"><rect width="1" height="1"/></a>'
        '<foreignObject><body/></foreignObject><image href="http://x"/><style>rect{fill:url(x)}</style></svg>'
    )
    assert [shape.kind for shape in drawn.shapes] == ["rect"]


def test_a_huge_stroke_or_a_thin_view_is_drawn_in_bounded_memory() -> None:
    wide = read_svg("<svg><line x1='0' x2='9' y2='1' stroke='red' stroke-width='1e6'/></svg>")
    assert max(pixels(wide).shape) <= 162
    assert max(pixels(fitted([])).shape) <= 162
    assert np.isfinite(pixels(read_svg("<svg viewBox='0 0 0 0'><rect width='3' height='1'/></svg>"))).all()


def graded(probe: Animal | Restore | Layout, trial: Trial, text: str) -> dict[str, float]:
    return dict(probe.mark(trial, [[text]]).values)


def test_an_animal_with_a_leg_too_few_is_not_right() -> None:
    probe = Animal()
    for trial in trials(probe, 6, 0):
        good = probe.solve(trial, 0, [])
        lines = good.split("\n")
        leg = next(i for i, line in enumerate(lines) if "0.1);" in line or 'height="110"' in line)
        less = "\n".join(lines[:leg] + lines[leg + 1 :])
        assert graded(probe, trial, good)["solved"] == 1
        assert graded(probe, trial, less)["solved"] == 0
        assert graded(probe, trial, less)["checks"] == pytest.approx(0.8)


def test_a_horn_put_back_may_change_nothing_else() -> None:
    probe = Restore()
    for trial in trials(probe, 6, 0):
        good = probe.solve(trial, 0, [])
        assert graded(probe, trial, good)["solved"] == 1
        assert graded(probe, trial, trial.told["code"])["solved"] == 0
        first, _, rest = good.partition("\n")
        assert graded(probe, trial, rest)["solved"] == 0
        assert graded(probe, trial, f"{first}\n{rest}\n\\draw (0,0) circle (1);")["solved"] == 0
        x, y, r = trial.told["head"]
        elsewhere = f"\\draw ({x},{y - 9 * r}) -- ({x + r / 5},{y - 9 * r}) -- ({x},{y - 8 * r}) -- cycle;"
        assert graded(probe, trial, f"{trial.told['code']}\n{elsewhere}")["solved"] == 0


def test_buttons_in_another_order_are_wrong() -> None:
    probe = Layout()
    [trial] = trials(probe, 1, 0)
    good = probe.solve(trial, 0, [])
    a, b = trial.told["buttons"][:2]
    swapped = good.replace(f'"{a}"', "@").replace(f'"{b}"', f'"{a}"').replace("@", f'"{b}"')
    assert probe.mark(trial, [[good]]).note == ""
    assert probe.mark(trial, [[swapped]]).note == "four buttons in order"
