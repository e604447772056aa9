"""The report of the recipe `tinystories`: size against quality, growth, instructions, copying, stories."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from hornbook.evals.stories.exam import NGRAM, TEACHER
from hornbook.evals.stories.neurons import PURE
from hornbook.lab.report import Bar, Report, Sample, Series
from hornbook.lab.run import Run
from hornbook.lab.statistics import shown_over_seeds
from hornbook.model.presets import student
from hornbook.papers.tinystories.claims import HELD_OUT, TRAINING
from hornbook.papers.tinystories.study import GRAMMAR, LABELS, TRACKING, Cell, Study, name_of

ASPECTS = {
    "grammar": "grammar",
    "sound": "consistency",
    "creative": "creativity",
    "consistent": "consistent to the end",
}


def write_report(run: Run, study: Study) -> None:
    """Pictures first; then the tables behind them, the stories, and how good the grader is."""
    report = run.report
    report.title = "TinyStories: how small a storyteller can be"
    report.subtitle = (
        "Graded by exact programs over a world whose truth is known; means over seeds, 95 % intervals."
    )
    _size(report, study)
    _growth(report, study)
    _instructions(report, study)
    _data(report, study)
    _memory(report, study)
    _neurons(report, study)
    _stories(report, study)
    _grader(report, study)
    if study.judged is not None:
        _judge(report, study.judged)
    if study.real is not None:
        _real(report, study.real)


def _size(report: Report, study: Study) -> None:
    s = study.settings
    report.section("Size against quality", f"Each student read {s.tokens:,} tokens.")
    _heat_map(report, study, "Loss", lambda cell: study.bits[cell], unit="bits per byte")
    for aspect, title in ASPECTS.items():
        _heat_map(report, study, title.capitalize(), partial(_grade_of, study, aspect))
    _heat_map(
        report,
        study,
        "Keeping track of who and what",
        lambda cell: study.told_apart(name_of(cell), TRACKING),
        note="Which of two continuations is likelier, the sound one or one with a confusion; chance 50 %.",
    )
    _heat_map(report, study, "Instructions followed", lambda cell: study.follows(name_of(cell), *LABELS))
    cells = [(width, depth) for width in s.widths for depth in s.depths]
    rows: list[list[object]] = []
    for cell in cells:
        name = name_of(cell)
        shape = student(hidden_size=cell[0], layers=cell[1], heads=s.heads(cell[0]), vocab_size=s.vocab_size)
        total = shape.parameters()
        rows.append(
            [
                name,
                total - s.vocab_size * cell[0],
                total,
                shown_over_seeds(study.bits[cell]),
                *[shown_over_seeds(study.grade(name, aspect)) for aspect in ASPECTS],
                shown_over_seeds(study.told_apart(name, TRACKING)),
                shown_over_seeds(study.told_apart(name, GRAMMAR)),
                *[shown_over_seeds(study.follows(name, label)) for label in LABELS],
            ]
        )
    for control in (TEACHER, NGRAM):
        grades = [
            "one ending a story"
            if (control, aspect) == (TEACHER, "creative")
            else f"{study.control(control, aspect):.3f}"
            for aspect in ASPECTS
        ]
        rows.append([control, "", "", "", *grades, *[""] * (2 + len(LABELS))])
    report.table(
        [
            *("width x depth", "parameters without embedding", "with", "bits per byte"),
            *ASPECTS.values(),
            *("tracking, of two", "grammar, of two", *LABELS),
        ],
        rows,
        title="All cells",
        note=f"\u00b1 half the width of the 95 % interval over {len(s.seeds)} seeds. Grammar: share of "
        "sentences without a fault of form; consistency: in which nobody and nothing is confused, too. "
        f"Creativity: of {s.samples} continuations of one beginning, different courses without a fault of "
        "grammar.",
    )


def _by_name(study: Study, aspect: str, name: str) -> list[float]:
    return study.grade(name, aspect)


def _told_apart(study: Study, fault: str, name: str) -> list[float]:
    return study.told_apart(name, (fault,))


def _grade_of(study: Study, aspect: str, cell: Cell) -> list[float]:
    return study.grade(name_of(cell), aspect)


def _heat_map(
    report: Report,
    study: Study,
    title: str,
    values: Callable[[Cell], Sequence[float]],
    *,
    unit: str = "%",
    note: str = "",
) -> None:
    """Width by depth, the means over seeds; percents unless another unit is named."""
    s = study.settings
    factor, digits = (100, 1) if unit == "%" else (1, 3)
    report.heat_map(
        title,
        [f"width {width}" for width in s.widths],
        [f"depth {depth}" for depth in s.depths],
        [[round(factor * fmean(values((width, depth))), digits) for depth in s.depths] for width in s.widths],
        unit=unit,
        note=note,
    )


def _growth(report: Report, study: Study) -> None:
    s = study.settings
    moments = s.moments()
    report.section("What comes first", f"The largest student, {name_of(s.largest)}, as it grows.")

    def line(of: Callable[[str], Sequence[float]]) -> Series:
        return Series.over_seeds((done * s.tokens, of(name)) for name, done in moments.items())

    report.curves(
        "Grades as the student grows",
        {title: line(partial(_by_name, study, aspect)) for aspect, title in ASPECTS.items()},
        x_label="training tokens",
        y_label="share",
        log_x=True,
        note="Weights of one training, whose learning rate falls in its last part.",
    )
    report.curves(
        "Faults told from sound stories",
        {
            fault: line(partial(_told_apart, study, fault))
            for fault in (*GRAMMAR, *TRACKING)
            if all(fault in found for found in study.choices.values())
        },
        x_label="training tokens",
        y_label="accuracy, of two",
        log_x=True,
        note="Chance is 0.5.",
    )


def _instructions(report: Report, study: Study) -> None:
    s = study.settings
    report.section(
        "Instructions",
        "One at a time; then the words and the summary together, which no training record holds.",
    )
    bars = []
    for cell in dict.fromkeys([(s.widths[-1], depth) for depth in s.depths]):
        name = name_of(cell)
        for title, keys in (
            ("alone", ("Words", "Summary")),
            ("together", ("Words, together", "Summary, together")),
            ("by chance", ("Words, together by chance", "Summary, together by chance")),
        ):
            values = study.follows(name, *keys)
            bars.append(Bar.over_seeds(f"{name}, {title}", values, scale=100))
    report.bars("Words and summary followed", bars, unit="%")
    shown = study.followed[f"{name_of(s.largest)}/{s.seeds[0]}"]["shown"]
    report.samples(
        f"Instructed stories of {name_of(s.largest)}",
        [
            Sample(
                text=f"{one['prompt']}\n{one['story']}",
                scores={label: round(value, 2) for label, value in one["followed"].items()},
            )
            for one in shown
        ],
        shown=3,
    )


def _data(report: Report, study: Study) -> None:
    report.section("What random words are for", f"Students of {name_of(study.settings.middle)}.")
    report.table(
        ["stories", "bits per byte on held-out stories", *ASPECTS.values()],
        [
            [
                arm,
                shown_over_seeds(study.bits_of_arms[arm]),
                *[shown_over_seeds(study.grade(arm, aspect)) for aspect in ASPECTS],
            ]
            for arm in study.settings.arms()
        ],
        title="Random words against favourites",
        note="Favourites: the teacher takes the n-th of its words, names and places 1 / n^2 as often as the "
        "first. Beginnings and test stories come from random words that no training story combines.",
    )


def _memory(report: Report, study: Study) -> None:
    report.section("Copying", "Endings against all training stories.")
    figures = ("nearest", "copied", "to_truth", "alike")
    rows: list[list[object]] = []
    for beginnings in (HELD_OUT, TRAINING):
        for who in ("student", "memoriser"):
            unseen: Any = study.copies(beginnings, who, "unseen")
            values = [shown_over_seeds(study.copies(beginnings, who, what)) for what in figures]
            new = [f"{fmean(one[k] for one in unseen):.3f}" for k in "246"]
            rows += [[beginnings, who, *values, *new]]
        own = study.copied[beginnings][TEACHER]
        rows.append(
            [
                beginnings,
                TEACHER,
                *[f"{own[what]:.3f}" for what in figures],
                *[f"{own['unseen'][k]:.3f}" for k in "246"],
            ]
        )
    report.table(
        [
            *(
                "beginnings of",
                "endings by",
                "nearest story",
                "copied",
                "true ending",
                "nearest other ending",
            ),
            *(f"new {k}-grams" for k in "246"),
        ],
        rows,
        title="Nearness to training stories",
        note="Rouge-2 precision against the nearest training story (copied: above 0.7) and the true ending; "
        "Rouge-2 F against the nearest ending of another story; shares of k-grams that are new.",
    )
    seed = study.settings.seeds[0]
    report.histogram(
        "Nearest training story of a student's endings",
        [value for s in study.settings.seeds for value in study.copied[HELD_OUT][f"student/{s}"]["values"]],
        bins=20,
        x_label="Rouge-2 precision",
    )
    report.samples(
        "Nearest to a training story",
        [
            Sample(
                text=f"{one['beginning']} |{one['ending']}\n\nTraining story: {one['training']}",
                label=who,
                scores={"Rouge-2": round(one["nearest"], 2)},
            )
            for who in ("student", "memoriser")
            for one in study.copied[TRAINING][f"{who}/{seed}"]["closest"][:1]
        ],
    )


def _neurons(report: Report, study: Study) -> None:
    s = study.settings
    report.section(
        "Neurons and heads",
        "Of each neuron the ten different words at which it is strongest: the share of the commonest kind. "
        "Of each head the share of its attention's variance that the distance to the word explains.",
    )
    cells = [name_of((width, depth)) for width in s.widths for depth in s.depths]
    rows: list[list[object]] = []
    for name in cells:
        own = [study.neurons[f"{name}/{seed}"] for seed in s.seeds]
        kinds: Counter[str] = Counter()
        for one in own:
            kinds.update(one["pure"])
        everyone = sum(one["neurons"] for one in own)
        heads = [head["distance"] for one in own for head in one["heads"]]
        rows.append(
            [
                name,
                *[shown_over_seeds(study.neuron(name, key)) for key in ("purity", "fresh", "chance")],
                ", ".join(f"{kind} {count / everyone:.0%}" for kind, count in kinds.most_common(3)) or "none",
                *[shown_over_seeds(study.neuron(name, "named", key)) for key in ("cost", "others")],
                f"{min(heads):.2f} to {max(heads):.2f}",
            ]
        )
    report.table(
        [
            *("width x depth", "of one kind", "in fresh weights", "dealt out", "neurons of a kind"),
            *("cost of the name neuron", "of others", "heads: by distance"),
        ],
        rows,
        title="Neurons by size",
        note=f"Neurons of a kind: at least {PURE:.0%} of the ten words. Cost: nats that a name loses when "
        "one neuron is silenced. Words that belong to no kind (the, and, suddenly) are left out.",
    )
    name = name_of(s.shallow)
    one = study.neurons[f"{name}/{s.seeds[0]}"]
    report.table(
        ["layer, neuron", "of one kind", "strongest words"],
        [
            [
                f"{row['layer']}, {row['neuron']}",
                f"{row['purity']:.0%} {row['kind']}",
                ", ".join(row["words"]),
            ]
            for row in one["strongest"]
        ],
        title=f"Some of the purest neurons of {name}",
    )
    report.tokens(
        f"The name neuron of {name}, over a story",
        [(text, value) for text, value in one["shown"]],
        label="layer {layer}, neuron {neuron}: highest where a name comes next".format(**one["named"]),
    )


def _stories(report: Report, study: Study) -> None:
    s = study.settings
    report.section("The stories", "One beginning at every size; the bar marks where the student begins.")
    samples = []
    for width in s.widths:
        for depth in s.depths:
            one = study.graded[f"{name_of((width, depth))}/{s.seeds[0]}"]["shown"][0]
            faults = "; ".join(f"{kind}: {what}" for kind, what in one["faults"][:3])
            samples.append(
                Sample(
                    text=f"{one['beginning']} |{one['ending']}",
                    label=name_of((width, depth)),
                    scores={
                        "grammar": round(one["grammar"], 2),
                        "consistent": "yes" if one["consistent"] else "no",
                    },
                    note=faults,
                )
            )
    report.samples("How it goes on", samples[::-1], shown=3)


def _grader(report: Report, study: Study) -> None:
    report.section("How good the grader is", "Held-out stories of the teacher, as they are and damaged.")
    report.bars(
        "Damage found",
        [
            Bar(
                label=kind,
                value=100 * value,
                interval=tuple(100 * end for end in study.grader["intervals"][kind]),
            )
            for kind, value in study.grader["recall"].items()
        ],
        unit="%",
        note=f"Sound stories faulted: {study.grader['false_alarms']:.1%} of {study.grader['sound']}.",
    )


def _judge(report: Report, judged: Any) -> None:
    report.section(f"Graded by {judged['judge']}", "Out of ten; two turns, as in the paper.")
    aspects = ("grammar", "creativity", "consistency", "plot")
    report.table(
        ["endings of", *aspects, "age groups", "not read"],
        [
            [
                name,
                *[
                    "none"
                    if told[aspect]["value"] is None
                    else "{:.1f} [{:.1f}, {:.1f}]".format(told[aspect]["value"], *told[aspect]["interval"])
                    for aspect in aspects
                ],
                ", ".join(f"{age} {count}" for age, count in told["ages"].items()),
                told["missing"],
            ]
            for name, told in judged["marks"].items()
        ],
        title="Grades of the judge",
        note="Intervals: bootstrap over beginnings.",
    )
    report.table(
        ["what the judge is worth", "value"],
        [
            ["two grades of one text differ by", _or_none(judged["self_difference"])],
            *[
                [f"grades the teacher above the {name}, with probability", _or_none(value)]
                for name, value in judged["tells"].items()
            ],
            ["correlation of its grades with length", _or_none(judged["with_length"])],
        ],
        title="What the judge is worth",
        note="A judge that does not read has 0.5 in the middle rows.",
    )


def _real(report: Report, real: Any) -> None:
    report.section("Stories of yours", "Loss and copying alone: of this world the programs know nothing.")
    students = [value for name, value in real["copied"].items() if name != TEACHER]
    own = real["copied"][TEACHER]
    report.table(
        ["bits per byte", "nearest story", "copied", "held-out: nearest", "copied "],
        [
            [
                shown_over_seeds(real["bits"]),
                shown_over_seeds([one["nearest"] for one in students]),
                shown_over_seeds([one["copied"] for one in students]),
                f"{own['nearest']:.3f}",
                f"{own['copied']:.3f}",
            ]
        ],
        title="A student on these stories",
    )
    report.samples(
        "Nearest to a training story",
        [
            Sample(
                text=f"{one['beginning']} |{one['ending']}\n\nTraining story: {one['training']}",
                scores={"Rouge-2": round(one["nearest"], 2)},
            )
            for one in students[0]["closest"]
        ],
        shown=1,
    )


def _or_none(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
