"""AI-assisted generation of difficult math questions (Shah et al. 2024): MATH^2.

Skills are drawn from a set of questions, a model writes questions that need two of them, and five steps and
then people sift them. What accuracy on such questions follows from accuracy on single skills? The paper finds
its square. Here small students are really trained on single skills and asked for pairs they never saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from hornbook.evals.math_squared.pipeline import Pipeline
from hornbook.evals.math_squared.square_law import PUBLISHED, SquareLaw, fit_square_law
from hornbook.evals.math_squared.steps import examine_squares, extract_skills, write_math_squared
from hornbook.evals.math_squared.students import MathStudent, teach_mathematics
from hornbook.lab.claim import Claim, over_seeds
from hornbook.lab.report import Sample, Series
from hornbook.lab.run import Run
from hornbook.synth.teacher import SIMULATED

TITLE = "MATH²: two skills in one question"
PAPER = "Shah, Yu, Lyu, Park, Yu, He, Ke, Mozer, Bengio, Arora, Goyal 2024, arXiv 2407.21009"

KNOWN = (
    "greatest_common_divisors",
    "remainders",
    "base_conversion",
    "units_digits",
    "divisor_counts",
    "quadratic_equations",
    "distances",
    "perimeters",
)
TESTED = (
    "least_common_multiples",
    "function_composition",
    "areas",
    "combinations",
    "probabilities",
    "percentages",
    "arithmetic_sequences",
    "linear_equations",
)
"""Skills whose results range widely: where they do not (a remainder, a digit), a guess is often right."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    data: Path | None = None
    """A folder with the MATH data set, whose skills are extracted; None: questions of our own."""
    teacher: str = SIMULATED
    """Who names skills and writes, doubts, judges and solves questions: a model, or a program of known
    error."""
    questions: int = 320
    """Questions from which skills are extracted."""
    candidates: int = 200
    """Questions written, a seed."""
    pipeline: Pipeline = field(default_factory=Pipeline)

    known: tuple[str, ...] = KNOWN
    """Skills whose pairs the students learn from."""
    tested: tuple[str, ...] = TESTED
    """Skills that the students never see together."""
    sizes: tuple[int, ...] = (32, 48, 64)
    """Hidden sizes of the students."""
    student: MathStudent = field(default_factory=MathStudent)
    checkpoints: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
    """Shares of a student's training after which it is examined."""
    exam: int = 200
    examinee: str = ""
    """A language model to ask the same kind of questions; empty: none."""
    examinee_questions: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)


SCALES = {
    "smoke": Settings(
        questions=80,
        candidates=24,
        sizes=(16,),
        student=MathStudent(layers=1, steps=4, rows=16, questions=300),
        checkpoints=(0.5, 1.0),
        exam=12,
        seeds=(0, 1),
    ),
    "quick": Settings(),
    "gpu": Settings(
        candidates=1000,
        sizes=(32, 64, 128, 256),
        student=MathStudent(layers=4, heads=4, steps=4000, rows=512, questions=200_000),
        exam=1000,
        examinee="smollm2",
        seeds=(0, 1, 2, 3, 4),
    ),
}


def recipe(run: Run, settings: Settings) -> None:
    """Skills, questions of two of them, and what trained students make of such questions."""
    s = settings
    skills, written, blind = [], [], []
    for seed in s.seeds:
        found = run.step(extract_skills, data=s.data, model=s.teacher, count=s.questions, seed=seed)
        skills.append(found)
        if s.data is not None and s.teacher == SIMULATED:
            continue  # the program knows its own questions alone; MATH takes a model that can read it
        arm: dict[str, Any] = {"repository": found, "teacher": s.teacher, "count": s.candidates, "seed": seed}
        corpus = run.step(write_math_squared, pipeline=s.pipeline, **arm)
        written.append(corpus)
        if s.teacher == SIMULATED:
            blind.append(run.step(write_math_squared, pipeline=replace(s.pipeline, attempt=False), **arm))
        if seed == s.seeds[0]:
            run.output(questions=corpus)
    taught = {
        (size, seed): run.step(
            teach_mathematics,
            student=replace(s.student, hidden_size=size),
            known=s.known,
            tested=s.tested,
            exam=s.exam,
            checkpoints=s.checkpoints,
            seed=seed,
        )
        for size in s.sizes
        for seed in s.seeds
    }
    examinee = (
        run.step(examine_squares, model=s.examinee, count=s.examinee_questions, seed=s.seeds[0])
        if s.examinee
        else None
    )

    run.report.title = TITLE
    _published(run)
    _square(run, s, {key: made.facts for key, made in taught.items()})
    _questions(run, s, *([made.facts for made in part] for part in (skills, written, blind)))
    if examinee is not None:
        _language_model(run, examinee.facts)


def _published(run: Run) -> None:
    law = fit_square_law([x / 100 for _, _, x in PUBLISHED], [y / 100 for _, y, _ in PUBLISHED])
    low, high = law.exponent_interval
    run.claim(
        Claim(
            id="published-square",
            sentence="Over the paper's 25 models, accuracy on MATH² is the square of accuracy on MATH.",
            paper_value="Y = X²",
            measured=law.exponent,
            interval=(low, high),
            unit="exponent b of Y = X^b",
            rule="the 95 % bootstrap interval over models holds 2 and neither 1.7 nor 2.3",
            holds=low <= 2 <= high and low > 1.7 and high < 2.3,
            why="Fitted to the paper's own table, not measured here; its models share families and are not "
            f"independent. Y = {law.factor:.3f} X² explains {law.explained:.1%}; mean |Y - X²| is "
            f"{law.deviation:.3f}.",
        )
    )


def _square(run: Run, s: Settings, students: Mapping[tuple[int, int], Any]) -> None:
    """The square law on students that were trained here."""
    every = [(key, point) for key, facts in students.items() for point in facts["points"]]
    by_seed = {seed: [p for (_, own), p in every if own == seed] for seed in s.seeds}
    laws = {seed: _law(points) for seed, points in by_seed.items()}
    usable = [law for law in laws.values() if law is not None]
    run.claim(
        over_seeds(
            "pairs-are-harder",
            "Every student is less accurate on pairs of skills than on single skills.",
            [min(p["x"] - p["y"] for p in points) for points in by_seed.values()],
            paper_value="all 25 models",
            unit="least X - Y of any student",
            why="Students are trained here; a checkpoint counts as a student.",
            above=0.0,
        )
    )
    run.claim(
        over_seeds(
            "square-beats-line-and-cube",
            "The square of X is nearer to Y than X and than its cube.",
            [law.deviation - min(law.deviation_from_x, law.deviation_from_cube) for law in usable],
            paper_value="Y = X²",
            unit="mean |Y - X²| less the smaller of the other two",
            why=_means(usable),
            below=0.0,
        )
    )
    run.claim(
        over_seeds(
            "square-is-near",
            "The square of X is within 0.05 of Y.",
            [law.deviation for law in usable],
            paper_value=0.020,
            unit="mean |Y - X²|",
            why=f"Exponents of the seeds: {', '.join(f'{law.exponent:.2f}' for law in usable)}.",
            below=0.05,
        )
    )
    run.claim(
        over_seeds(
            "halves-predict-pairs",
            "A pair is right as often as both of its halves are when asked singly, within 0.05.",
            [fmean(abs(p["y"] - p["both"]) for p in points) for points in by_seed.values()],
            unit="mean |Y - both halves|",
            why="What is left is composition itself: halves that are known and yet not put together.",
            below=0.05,
        )
    )
    run.claim(
        over_seeds(
            "one-skill-twice-is-above",
            "Where both halves need the same skill, and so fail together, Y lies above X².",
            [fmean(p["same_both"] - p["same_x"] ** 2 for p in points) for points in by_seed.values()],
            unit="both halves less X²",
            why="The negative control: X² is the law of independent skills, E[s_i s_j] that of any.",
            above=0.0,
        )
    )
    section = run.report.section(
        "Trained students",
        "Decoders of several sizes learn single skills, and pairs with at least one skill of another list; "
        "two tested skills never meet in training. X: halves of the questions asked singly. Y: the questions "
        "of two tested skills.",
    )
    lines = {
        f"{size} wide": Series(
            points=sorted(
                (p["x"], p["y"])
                for (own, _), facts in students.items()
                if own == size
                for p in facts["points"]
            )
        )
        for size in s.sizes
    }
    lines["X²"] = Series(points=[(i / 20, (i / 20) ** 2) for i in range(21)])
    section.curves(
        "Y against X",
        lines,
        x_label="X, accuracy on single skills",
        y_label="Y, accuracy on pairs",
        note=f"Checkpoints of {len(s.seeds)} seeds.",
    )
    section.table(
        [
            "hidden size",
            "step",
            "X",
            "X²",
            "both halves",
            "Y",
            "pairs seen in training",
            "one skill twice: Y",
        ],
        [
            [
                size,
                int(rows[0]["step"]),
                *[round(_mean(rows, name), 3) for name in ("x",)],
                round(_mean(rows, "x") ** 2, 3),
                *[round(_mean(rows, name), 3) for name in ("both", "y", "known_y", "same_y")],
            ]
            for size in s.sizes
            for rows in zip(*(students[size, seed]["points"] for seed in s.seeds), strict=True)
        ],
        note=f"Means of {len(s.seeds)} seeds.",
    )
    largest = students[max(s.sizes), s.seeds[0]]
    section.bars("Halves right by skill, largest student, at the end", largest["by_skill"])
    section.samples(
        "What it answers",
        [
            Sample(text=f"{row['question']}\n{row['given']}", label=f"wanted: {row['wanted']}")
            for row in largest["shown"]
        ],
    )
    overall = _law([p for _, p in every], [f"{key}" for key, _ in every])
    if overall is not None:
        section.table(
            ["fit over all students", "value", "95 %"],
            [
                ["b of Y = X^b", round(overall.exponent, 3), _span(overall.exponent_interval)],
                ["a of Y = a X²", round(overall.factor, 3), _span(overall.factor_interval)],
                ["mean |Y - X²|", round(overall.deviation, 3), _span(overall.deviation_interval)],
            ],
            note="Students are drawn anew for the intervals, with all their checkpoints.",
        )


def _law(points: Sequence[Mapping[str, float]], groups: Sequence[object] | None = None) -> SquareLaw | None:
    if len(points) < 3 or not any(0 < p["x"] < 1 for p in points):
        return None
    if groups is not None and len(set(groups)) < 3:
        groups = None
    return fit_square_law([p["x"] for p in points], [p["y"] for p in points], groups=groups)


def _means(laws: Sequence[SquareLaw]) -> str:
    if not laws:
        return "No student between 0 and 1."
    line, square, cube = (
        fmean(getattr(law, name) for law in laws)
        for name in ("deviation_from_x", "deviation", "deviation_from_cube")
    )
    return f"Mean distance of Y from X {line:.3f}, from X² {square:.3f}, from X³ {cube:.3f}."


def _mean(rows: Sequence[Mapping[str, float]], name: str) -> float:
    return fmean(row[name] for row in rows)


def _span(interval: Sequence[float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def _questions(
    run: Run, s: Settings, skills: Sequence[Any], written: Sequence[Any], blind: Sequence[Any]
) -> None:
    """Extraction and the five steps."""
    section = run.report.section("Skills", f"Extracted by {skills[0]['model']} from {s.questions} questions.")
    section.table(
        ["seed", "fine names", "skills kept", "dropped", "V-measure", "purity", "V by chance"],
        [
            [
                seed,
                facts["fine"],
                len(facts["skills"]),
                len(facts["dropped"]),
                round(facts["v_measure"], 3),
                round(facts["purity"], 3),
                round(facts["chance"]["v_measure"], 3),
            ]
            for seed, facts in zip(s.seeds, skills, strict=True)
        ],
        note=f"Held against {skills[0]['truth']}.",
    )
    run.claim(
        over_seeds(
            "skills-are-found",
            "Skills extracted from questions agree with those the questions were made of."
            if s.data is None
            else "Skills extracted from questions agree with their types.",
            [facts["v_measure"] - facts["chance"]["v_measure"] for facts in skills],
            unit="V-measure above chance",
            why=f"V-measure {fmean(f['v_measure'] for f in skills):.2f}, by chance "
            f"{fmean(f['chance']['v_measure'] for f in skills):.2f}; {skills[0]['model']}.",
            above=0.5 if s.data is None else 0.1,
        )
    )
    if not written:
        run.report.section(
            "Questions of two skills", "None: for questions of your own name a model with --teacher."
        )
        return
    section = run.report.section("Questions of two skills", f"Written by {written[0]['teacher']}.")
    section.table(
        ["seed", *written[0]["funnel"]],
        [[seed, *facts["funnel"].values()] for seed, facts in zip(s.seeds, written, strict=True)],
        note="Candidates by the step that rejected them; the last column passed all and waits for people: "
        "hornbook studio, Annotate.",
    )
    section.samples(
        "Candidates",
        [
            Sample(
                text=row["question"] or "(no question)",
                label=f"{', '.join(row['skills'])}: "
                + (
                    f"accepted, {row['answer']}"
                    if row["stage"] == "accepted"
                    else f"{row['stage']}: {row['why']}"
                ),
            )
            for row in written[0]["shown"]
        ],
    )
    if not blind:
        return
    about = "The teacher is a program of known error: this is what the protocol makes of such errors."
    section.table(
        ["arm", "flawed as written", "flaws caught by votes", "sound ones rejected", "flawed among accepted"],
        [
            [
                name,
                *(
                    round(_known(facts, column), 3)
                    for column in ("flawed", "flaws_caught", "sound_rejected", "accepted_flawed")
                ),
            ]
            for name, facts in (("with the sceptic's attempt", written), ("votes alone", blind))
        ],
        note=about,
    )
    run.claim(
        over_seeds(
            "the-sceptic-helps",
            "Votes that see a sceptic's attempt catch more flawed questions.",
            [a["flaws_caught"] - b["flaws_caught"] for a, b in _both(written, blind, "flaws_caught")],
            unit="more of the flawed caught",
            why=about,
            above=0.0,
        )
    )
    run.claim(
        over_seeds(
            "four-solutions-help",
            "The answer that most of four solutions give is wrong less often than the first one's.",
            [f["first_wrong"] - f["voted_wrong"] for f, _ in _both(written, written, "first_wrong")],
            unit="fewer wrong of sound questions",
            why=f"{_known(written, 'first_wrong'):.3f} against {_known(written, 'voted_wrong'):.3f}. {about}",
            above=0.0,
        )
    )


def _both(first: Sequence[Any], second: Sequence[Any], name: str) -> list[tuple[Any, Any]]:
    pairs = zip(first, second, strict=True)
    return [(a, b) for a, b in pairs if a[name] is not None and b[name] is not None]


def _known(facts: Sequence[Any], name: str) -> float:
    return fmean([f[name] for f in facts if f[name] is not None] or [0.0])


def _language_model(run: Run, facts: Any) -> None:
    section = run.report.section("A language model", f"{facts['model']} {facts['unfinished']}")
    section.table(
        ["asked", "right", "95 %", "questions"],
        [
            [
                told,
                round(facts[name], 3),
                _span(facts[f"{name}_interval"]),
                facts[f"{name}_asked"],
            ]
            for name, told in (("x", "halves, singly"), ("both", "both halves"), ("y", "pairs"))
            if facts[name] is not None
        ],
    )
    section.samples(
        "Its answers",
        [
            Sample(
                text=f"{row['question']}\n{row['given']}",
                label=f"{'right' if row['right'] else 'wrong'}: {row['wanted']}",
            )
            for row in facts["shown"]
        ],
    )
