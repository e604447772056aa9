"""A report is one page that needs nothing else, says what its JSON twin says, and escapes all text."""

import base64
import json
import math
import xml.etree.ElementTree as ET
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.lab import charts
from hornbook.lab.appendix import complete_report
from hornbook.lab.claim import Claim
from hornbook.lab.markup import escape, tag
from hornbook.lab.report import Bar, Picture, Report, Sample, Series
from hornbook.lab.report_html import render
from hornbook.lab.statistics import student_t_interval

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></svg></title><b>",
    "&lt;already&gt; &amp;",
    "[click](javascript:alert(1))",
    "**<b>**",
    "`<i>`",
    "\x00\x1b[31m\ud800",
    "<!-- -->]]>",
]
VOID = {"meta", "br", "hr"}


class Outline(HTMLParser):
    """Collects elements, attributes and visible text, and checks that tags are balanced."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], []

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self.open, f"</{name}> closes nothing"
        assert self.open.pop() == name

    def handle_data(self, data):
        self.text.append(data)


def outline(page):
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def step_entry(name, key, inputs=None):
    return {
        "name": name,
        "key": key,
        "makes": name,
        "cached": False,
        "inputs": inputs or {},
        "seconds": 1.0,
        "cpu_seconds": 1.0,
        "peak_memory_bytes": 1,
        "peak_gpu_memory_bytes": 0,
        "disk_bytes": 1,
    }


def full_report(text="plain"):
    report = Report(text, text)
    report.text(text).figures([(text, text), (text, 1.5, text)])
    report.section(text, text)
    report.table([text, "b"], [[text, 1], [text, None]], title=text, note=text)
    report.curves(text, {text: [(1, 2), (2, 3)], "b": Series(points=[(1, 1)])}, x_label=text, y_label=text)
    report.bars(
        text, [Bar(label=text, value=1, interval=(0.5, 2))], unit=text, reference=1, reference_label=text
    )
    report.histogram(text, [1, 2, 3], x_label=text, note=text)
    report.heat_map(text, [text], [text], [[1.0]])
    report.pictures(text, [text], [(text, [Picture(pixels=np.zeros((2, 2), np.uint8), caption=text)])])
    report.samples(text, [Sample(text=text, label=text, scores={text: text}, note=text)] * 5)
    report.samples(text, [text * 500])
    report.tokens(text, [(text, 0.5), (text, None)], label=text)
    report.transcript(text, [{"role": text, "content": text, "note": text}])
    report.lineage([step_entry(text, "k" * 64)])
    report.claims([Claim(id="x", sentence=text, paper_value=text, rule=text, why=text, unit=text)])
    return report.costs([(text, text, text)])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element_and_no_attribute(text):
    plain = outline(full_report("plain").html())
    hostile = outline(full_report(text).html())
    allowed = {"strong", "em", "code", "a", "p", "ul", "li"}  # what `text` may make of its Markdown
    assert {name for name, _ in hostile.elements} <= {name for name, _ in plain.elements} | allowed
    names = {key for _, attributes in plain.elements for key in attributes} | {"href", "rel"}
    for name, attributes in hostile.elements:
        assert name not in {"script", "img", "b"} - {e for e, _ in plain.elements}
        assert set(attributes) <= names
        assert not any(key.startswith("on") for key in attributes)
        assert attributes.get("href", "#").startswith(("#", "https://"))
        assert name != "img" or attributes["src"].startswith("data:image/png;base64,iVBOR")


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_text_is_shown_as_it_is(text):
    shown = outline(tag("p", text, title=text))
    visible = "".join(shown.text)
    controls = {chr(c) for c in [*range(32), 127]} - set("\t\n\r")
    if not controls & set(text):
        # parsers see CR as LF
        assert visible.replace("\r\n", "\n").replace("\r", "\n") == text.replace("\r\n", "\n").replace(
            "\r", "\n"
        )
    assert [name for name, _ in shown.elements] == ["p"]
    str(escape(text)).encode()  # never a lone surrogate


def test_the_page_needs_no_network_and_no_script():
    page = full_report().html()
    assert page.count("src=") == page.count('src="data:image/png;base64,') == 1
    for word in ("<script", "@import", "url(", "<link", "http://"):
        assert word not in page
    assert page.startswith("<!doctype html>")
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_json_twin_holds_the_same_content_and_makes_the_same_page(tmp_path):
    report = full_report("twin")
    path = report.write(tmp_path)
    data = json.loads((tmp_path / "report.json").read_text())
    assert render(data) == path.read_text()
    assert data["blocks"] == report.to_json()["blocks"]


def test_the_page_is_accessible_in_its_bones():
    elements = outline(full_report().html()).elements
    names = [name for name, _ in elements]
    assert names.count("h1") == 1
    assert names.count("main") == 1
    for name, attributes in elements:
        if name == "th":
            assert attributes["scope"] in ("row", "col")
        if name == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes["aria-label"]
        if name == "html":
            assert attributes["lang"] == "en"
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def contrast(one, two):
    """WCAG 2 contrast ratio of two #rrggbb colours."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_read_in_light_and_dark():
    import re

    page = full_report().html()
    palettes = [
        dict(re.findall(r"--([\w]+): (#\w{6})", part)) for part in re.findall(r":root \{(.*?)\}", page, re.S)
    ]
    assert len(palettes) == 2
    for palette in palettes:
        for name in ("ink", "quiet", "accent", "second", "good", "bad", "even"):
            assert contrast(palette[name], palette["paper"]) >= 4.5, name
        for i in range(charts.SERIES_COLOURS):
            assert contrast(palette[f"c{i}"], palette["paper"]) >= 4.5


def test_curves_are_drawn_where_the_numbers_say():
    block = Report("t").curves("c", {"line": [(0, 0), (5, 5), (10, 10)]}).blocks[0]
    svg = ET.fromstring(charts.curves(block, 680))
    (line,) = [e for e in svg.iter() if e.tag == "polyline"]
    places = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
    assert places[1][0] == pytest.approx((places[0][0] + places[2][0]) / 2, abs=0.11)
    assert places[1][1] == pytest.approx((places[0][1] + places[2][1]) / 2, abs=0.11)
    assert places[0][1] > places[2][1]  # up is more


def test_a_logarithmic_axis_puts_factors_at_equal_distances_and_leaves_out_what_it_cannot_hold():
    points = [(1, 1e-2), (10, 1e-1), (100, 1.0), (1000, 0.0), (0, 5.0), (50, math.nan)]
    block = Report("t").curves("c", {"line": points}, log_x=True, log_y=True).blocks[0]
    svg = ET.fromstring(charts.curves(block, 680))
    (line,) = [e for e in svg.iter() if e.tag == "polyline"]
    places = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
    assert len(places) == 3
    assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=0.21)
    assert places[1][1] - places[0][1] == pytest.approx(places[2][1] - places[1][1], abs=0.21)


def test_gaps_break_a_line_and_thinning_keeps_spikes():
    block = Report("t").curves("c", {"line": [(0, 1), (1, 2), (2, math.nan), (3, 1), (4, 2)]}).blocks[0]
    svg = ET.fromstring(charts.curves(block, 680))
    assert len([e for e in svg.iter() if e.tag == "polyline"]) == 2
    points = [(float(i), 0.0) for i in range(100_000)]
    points[54_321] = (54_321.0, 9.0)
    thin = charts.thinned(points)
    assert len(thin) <= 700
    assert (54_321.0, 9.0) in thin
    assert thin[0] == points[0]
    assert thin[-1] == points[-1]


def test_bars_have_lengths_in_proportion_and_negative_ones_point_left():
    block = Report("t").bars("b", {"one": 1.0, "two": 2.0, "minus": -1.0}).blocks[0]
    svg = ET.fromstring(charts.bars(block, 680))
    one, two, minus = [e for e in svg.iter() if e.tag == "rect"]
    assert float(two.get("width")) == pytest.approx(2 * float(one.get("width")), abs=0.02)
    assert float(minus.get("x")) < float(one.get("x"))


@pytest.mark.parametrize("width", [680, 340])
@pytest.mark.parametrize(
    "points",
    [
        [],
        [(1, 1)],
        [(1, 5), (2, 5)],
        [(0, 0), (1, 0)],
        [(1, math.nan)],
        [(1, -1e-12), (2, 1e12)],
        [(1e9, 1), (1e9 + 1, 2)],
    ],
)
@pytest.mark.parametrize("log", [False, True])
def test_odd_data_still_makes_a_chart(points, width, log):
    report = Report("t").curves("c", {"a": points}, log_x=log, log_y=log)
    report.histogram("h", [p[1] for p in points], log_y=log).bars("b", [(str(p[0]), p[1]) for p in points])
    for block in report.blocks:
        draw = getattr(charts, block["kind"])
        svg = ET.fromstring(draw(block, width))
        for element in svg.iter():
            for value in element.attrib.values():
                assert "nan" not in value.split()
                assert "inf" not in value.split()


def test_numbers_for_people():
    assert charts.number(0) == "0"
    assert charts.number(1234567) == "1\u2009234\u2009567"
    assert charts.number(0.123456) == "0.1235"
    assert charts.number(-2.50) == "−2.5"
    assert charts.number(1.5e-7) == "1.5·10⁻⁷"
    assert charts.number(1e12) == "1·10¹²"
    assert charts.number(float("nan")) == "–"


def test_ragged_tables_and_heat_maps_are_refused():
    with pytest.raises(ValueError, match="2 cells for 1 columns"):
        Report("t").table(["a"], [[1, 2]])
    with pytest.raises(ValueError, match="heat map 'h'"):
        Report("t").heat_map("h", ["a"], ["b"], [[1, 2]])
    with pytest.raises(ValueError, match="pictures 'p': a row has not 2 pictures"):
        Report("t").pictures("p", ["a", "b"], [("r", [Picture(pixels=np.zeros((2, 2), np.uint8))])])


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3)])
def test_pictures_hold_the_pixels_given(shape):
    """Read back by the format's own rules: chunks with checksums, lines with filter 0."""
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    report = Report("t").pictures("p", ["a"], [("r", [Picture(pixels=pixels, caption="c")])])
    (block,) = report.to_json()["blocks"]
    data = base64.b64decode(block["rows"][0]["pictures"][0]["uri"].partition(",")[2])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        name, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert zlib.crc32(name + content) == int.from_bytes(data[at + 8 + size : at + 12 + size], "big")
        chunks[name], at = content, at + 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert chunks[b"IHDR"] == bytes([0, 0, 0, 5, 0, 0, 0, 3, 8, 2 if len(shape) == 3 else 0, 0, 0, 0])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(3, -1)
    assert not lines[:, 0].any()
    np.testing.assert_array_equal(lines[:, 1:].reshape(shape), pixels)
    assert f'src="data:image/png;base64,{base64.b64encode(data).decode()}"' in report.html()


def test_pictures_that_are_no_pixels_are_refused():
    for wrong in (np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(3, np.uint8)):
        with pytest.raises(ValueError, match="wanted are uint8"):
            Report("t").pictures("p", ["a"], [("r", [Picture(pixels=wrong)])])


def test_the_run_adds_claims_after_the_opening_and_its_own_pages_at_the_end():
    report = Report("t").text("opening").section("Data").text("more")
    run = {
        "scale": "quick",
        "steps": [
            step_entry("a", "1" * 64),
            step_entry("b", "2" * 64, {"x": {"$artifact": "a-" + "1" * 64}}),
        ],
        "seconds": 3.0,
        "settings": {"train": {"rows": 3}, "names": ["x", "y"], "none": None},
        "machine": {"cpu": "c", "cores": 2, "memory_total": 1, "gpu": None, "bf16": True, "system": "s"},
        "versions": {"torch": "2"},
        "finished": "2026-01-01T00:00:00.000+00:00",
        "commit": None,
    }
    claims = [
        Claim(id="a", sentence="s", measured=1, holds=True),
        Claim(id="b", sentence="s", measured=1, noise=True),
        Claim(id="c", sentence="s"),
    ]
    full = complete_report(report, claims, run)
    titles = [b["title"] for b in full.blocks if b["kind"] == "section"]
    assert titles == ["Claims", "Data", "Steps", "Costs", "Settings and machine"]
    assert "Of 3 claims: 1 holds, 1 is noise, 1 not judged at this scale." in full.html()
    assert "train.rows" in full.html()
    assert len(report.blocks) == 3  # the recipe's own is as it was


def test_lines_and_bars_over_seeds_are_means_with_students_interval():
    line = Series.over_seeds([(1.0, [0.2, 0.4, 0.9]), (2.0, [0.5])])
    assert line.points == [(1.0, pytest.approx(0.5)), (2.0, 0.5)]
    [(x, low, high)] = line.band  # one seed has no interval
    assert x == 1.0
    assert (low, high) == pytest.approx(student_t_interval([0.2, 0.4, 0.9]))
    bar = Bar.over_seeds("right", [0.2, 0.4, 0.9], scale=100)
    assert bar.value == pytest.approx(50)
    assert bar.interval == pytest.approx((100 * low, 100 * high))
    assert Bar.over_seeds("right", [0.2]) == Bar(label="right", value=0.2)
