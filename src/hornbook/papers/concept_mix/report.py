"""The report of ConceptMix: pictures first, then what the numbers say of them."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from hornbook.evals.concept_mix.protocol import CATEGORIES
from hornbook.lab.png import read_png
from hornbook.lab.report import Picture, Report, Series
from hornbook.lab.step import Artifact
from hornbook.papers.concept_mix.settings import Settings

_SIDE = 240
"""Pixels of an endpoint's picture in the report, about."""
_DRAWN = (1, 3, 5, 7)


def write_report(
    report: Report,
    title: str,
    raised: Mapping[str, Sequence[Artifact]],
    examined: Mapping[str, Sequence[Artifact]],
    judged: Sequence[Artifact],
    artist: Artifact | None,
    settings: Settings,
) -> None:
    """Fills the report from the facts and pictures of the steps."""
    names = {
        "few": f"taught k {_span(settings.few)}",
        "many": f"taught k {_span(settings.many)}",
        "small": f"small, taught k {_span(settings.many)}",
    }
    report.title = title
    if artist is not None:
        _artist(report, artist)
    report.section(
        "What the painters drew", "Pictures of the first seed with their prompts, as read exactly."
    )
    _pictures(report, "Painters", {names[n]: examined[n][0] for n in ("few", "many")})
    report.section("Full marks", f"Means of {len(settings.seeds)} seeds with Student's 95 % interval.")
    for field, heading, label in (
        ("full", "Pictures with all k + 1 properties", "share with full marks"),
        ("fraction", "Properties shown", "share of properties"),
    ):
        lines = {names[name]: _line(found, field) for name, found in examined.items()}
        report.curves(heading, lines, x_label="k, concepts besides the object", y_label=label)
    _categories(report, names, examined)
    _independence(report, names, examined)
    _captions(report, names, raised)
    _judges(report, judged)


def _span(ks: Sequence[int]) -> str:
    return f"{ks[0]} to {ks[-1]}"


def _line(found: Sequence[Artifact], field: str) -> Series:
    return Series.over_seeds(
        (float(level["k"]), [one.facts["levels"][place][field] for one in found])
        for place, level in enumerate(found[0].facts["levels"])
    )


def _pictures(report: Report, title: str, rows: Mapping[str, Artifact]) -> None:
    """The first picture of some k for each row."""
    first = next(iter(rows.values())).facts["shown"]
    known = sorted({item["k"] for item in first})
    ks = [k for k in known if k in _DRAWN] or known
    made = []
    for name, artifact in rows.items():
        pictures = []
        for k in ks:
            item = next((i for i in artifact.facts["shown"] if i["k"] == k), None)
            if item is None:
                pictures.append(Picture(pixels=_BLANK, caption="not drawn"))
            else:
                data = (artifact / item["file"]).read_bytes()
                pictures.append(Picture(pixels=_smaller(data), caption=_caption(item)))
        made.append((name, pictures))
    report.pictures(title, [f"k = {k}" for k in ks], made, large=True)


_BLANK = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01"
    b"\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
"""One white pixel."""


def _smaller(data: bytes) -> Any:
    """A PNG of many pixels, thinned; what cannot be read here goes into the report as it is."""
    try:
        pixels = read_png(data)
    except ValueError:
        return data
    every = max(1, max(pixels.shape[:2]) // _SIDE)
    return pixels[::every, ::every]


def _caption(item: Mapping[str, Any]) -> str:
    right = sum(answer is True for answer in item["answers"])
    asked = list(zip(item["properties"], item["answers"], strict=True))
    tail = f" {right} of {len(asked)}."
    for answer, words in ((False, "Not"), (None, "Unanswered")):
        lacking = [name for name, given in asked if given is answer]
        tail += f" {words}: {', '.join(lacking)}." if lacking else ""
    return f"{item['caption']}{tail}"


def _categories(report: Report, names: Mapping[str, str], examined: Mapping[str, Sequence[Artifact]]) -> None:
    report.section("What is hard", "Right answers by category and k, all seeds together.")
    for name, found in examined.items():
        ks = [level["k"] for level in found[0].facts["levels"]]
        grid = [[_rate(found, place, category) for place in range(len(ks))] for category in CATEGORIES]
        report.heat_map(f"Painter {names[name]}", CATEGORIES, [f"k = {k}" for k in ks], grid)


def _rate(found: Sequence[Artifact], place: int, category: str) -> float | None:
    counts = [one.facts["levels"][place]["categories"].get(category, (0, 0)) for one in found]
    trials = sum(own for _, own in counts)
    return round(sum(hits for hits, _ in counts) / trials, 2) if trials else None


def _independence(
    report: Report, names: Mapping[str, str], examined: Mapping[str, Sequence[Artifact]]
) -> None:
    rows: list[list[object]] = []
    for name, found in examined.items():
        for place, level in enumerate(found[0].facts["levels"]):
            own = [one.facts["levels"][place] for one in found]
            rows.append(
                [
                    names[name],
                    level["k"],
                    *(_mean([one[f] for one in own]) for f in ("full", "expected", "expected_singly")),
                ]
            )
    report.section(
        "Is the whole more than its parts?",
        "Full marks beside what independent properties would have: with the rates of the same k, and with "
        "the rates that single concepts (the first k) have.",
    )
    report.table(["painter", "k", "full marks", "from the rates at this k", "from the rates at k = 1"], rows)


def _mean(values: Sequence[float | None]) -> float | str:
    known = [value for value in values if value is not None]
    return round(fmean(known), 3) if known else "unknown"


def _captions(report: Report, names: Mapping[str, str], raised: Mapping[str, Sequence[Artifact]]) -> None:
    found = {name: own[0].facts["categories"] for name, own in raised.items() if name != "small"}
    counts = sorted({int(count) for own in found.values() for count in own})
    rows = [
        [count, *(f"{own.get(str(count), 0) / sum(own.values()):.1%}" for own in found.values())]
        for count in counts
    ]
    report.section("What the painters were taught", "How many different categories the training briefs hold.")
    report.table(
        ["categories", *(f"painter {names[name]}" for name in found)],
        rows,
        note="The paper counted about 900 captions of LAION: 1: 50, 2: 305, 3: 365, 4: 130, 5: 25, 6: 5.",
    )
    rejected = raised["many"][0].facts["rejected"]
    report.table(
        ["k", "plans thrown away"],
        [[k, f"{share:.1%}"] for k, share in rejected.items()],
        note="For want of room on the sheet, or because relations contradict each other.",
    )


def _judges(report: Report, judged: Sequence[Artifact]) -> None:
    facts = judged[0].facts
    report.section("A judge beside the truth", f"The judge {facts['judge']['identity']}.")
    _judge_table(report, facts["judge"])
    rows: list[tuple[object, ...]] = []
    for place in range(len(facts["levels"])):
        for one in judged:
            level = one.facts["levels"][place]
            seen = one.facts["judge"]["levels"][str(level["k"])]
            rows.append(
                (
                    level["k"],
                    round(level["full"], 3),
                    "nothing decided" if seen["full"] is None else round(seen["full"], 3),
                    _estimate(seen, "corrected"),
                    _estimate(seen, "powered"),
                )
            )
    report.table(
        ["k", "true", "as the judge saw it", "corrected by its error", "with the truth of some"],
        rows,
        title="Full marks, one row a seed",
        note="Corrected: by sensitivity and specificity measured on other pictures (Rogan and Gladen). With "
        f"the truth of {facts['judge']['levels'][str(facts['levels'][0]['k'])]['labelled']} of the pictures: "
        "prediction-powered. Both with 95 % intervals that carry the noise of the judge's error.",
    )


def _judge_table(report: Report, judge: Mapping[str, Any]) -> None:
    rows = [
        [name, *(f"{hits / trials:.2f} of {trials}" if trials else "not seen" for hits, trials in rates)]
        for name, rates in judge["categories"].items()
    ]
    columns = judge["columns"]
    report.table(
        ["category", "says yes where it is so", "says no where it is not"],
        rows,
        title="The judge's error on pictures of known truth",
        note=f"{columns['unscored']} of {columns['verdicts']} verdicts unread; same answer in both orders of "
        f"the words: {columns['position'] or 0:.1%}; agreement with the truth: "
        f"{columns['agreement'] or 0:.1%}.",
    )


def _estimate(level: Mapping[str, Any], name: str) -> str:
    value = level.get(name)
    if value is None:
        return "cannot be told"
    low, high = level[f"{name}_interval"]
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _artist(report: Report, artist: Artifact) -> None:
    facts = artist.facts
    judge = facts["judge"]
    report.section("The endpoint's pictures", f"{facts['artist']}, graded by {judge['identity']}.")
    _pictures(report, "Some of its pictures", {"endpoint": artist})
    rows = []
    for level in facts["levels"]:
        low, high = level["full_interval"]
        rows.append(
            [
                level["k"],
                level["pictures"],
                f"{level['full'] or 0:.3f} [{low:.3f}, {high:.3f}]",
                _estimate(judge["levels"][str(level["k"])], "corrected"),
                round(level["fraction"], 3),
                _mean([level["expected"]]),
                level["unanswered"],
            ]
        )
    report.table(
        ["k", "pictures", "full marks", "corrected", "properties", "if independent", "unanswered questions"],
        rows,
        note="Corrected by the judge's error on our own pictures, half of which show their prompt whole. "
        "That it errs alike on the endpoint's pictures is an assumption, and no interval covers it.",
    )
    report.bars(
        "Right answers by category",
        {
            category: sum(level["categories"].get(category, (0, 0))[0] for level in facts["levels"])
            / max(1, sum(level["categories"].get(category, (0, 0))[1] for level in facts["levels"]))
            for category in CATEGORIES
            if any(category in level["categories"] for level in facts["levels"])
        },
    )
    _judge_table(report, judge)
