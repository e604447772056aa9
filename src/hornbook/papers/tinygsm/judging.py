"""What the recipe `tinygsm` makes of its figures: claims with intervals over seeds, and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hornbook.lab.claim import Claim, over_seeds
from hornbook.lab.report import Bar, Sample
from hornbook.lab.run import Run
from hornbook.lab.statistics import shown_over_seeds

SMALL, LARGE = "small", "large"


@dataclass(frozen=True, kw_only=True)
class Study:
    """The facts of the run's steps. `teachers`: share of right programs by corpus; `agreed`: share of
    problems on which all solutions of the teacher agree."""

    seeds: Sequence[int]
    sizes: Sequence[str]
    shares: Mapping[str, float]
    grid: Mapping[str, Any]
    arms: Mapping[str, Any]
    judged: Mapping[str, Any]
    verifiers: Mapping[str, Any]
    teachers: Mapping[str, float]
    agreed: float
    planted: Mapping[str, Any]
    samples: int

    def chosen(self, generator: str, choice: str) -> list[float]:
        """Accuracy of a way to choose among a generator's answers, one number a seed."""
        return [fmean(self.grid[f"{generator}-{seed}"]["right"][choice]) for seed in self.seeds]

    def arm(self, name: str, *, changes: int | None = None) -> list[float]:
        """Greedy accuracy of a small generator raised on other data, one number a seed.

        changes: only questions whose plan has so many steps between opening and end.
        """
        found = []
        for seed in self.seeds:
            facts = self.arms[f"{name}-{seed}"]
            pairs = zip(facts["right"]["greedy"], facts["changes"], strict=True)
            found.append(fmean([right for right, has in pairs if changes is None or has == changes] or [0.0]))
        return found


def _minus(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def _claim(
    run: Run, name: str, sentence: str, gains: Sequence[float], *, paper: str | None = None, why: str = ""
) -> None:
    """A difference of accuracies, one number a seed."""
    run.claim(
        over_seeds(
            name, sentence, gains, above=0.0, paper_value=paper, unit="difference of accuracies", why=why
        )
    )


def judge_claims(run: Run, study: Study) -> None:
    """The sentences of the paper that can be asked at this size."""
    n = study.samples
    verified = {size: study.chosen(size, size) for size in study.sizes}
    greedy = {size: study.chosen(size, "greedy") for size in study.sizes}
    for rival, sentence, paper in (
        ("greedy", f"A verifier's pick of {n} beats the greedy answer.", "+5.8, +5.4, +13.3 points of 48"),
        (
            "mean",
            f"A verifier's pick of {n} beats a random sample.",
            "over +10 points (sampling costs so much)",
        ),
        ("majority", f"A verifier's pick of {n} beats the majority.", "majority does not help"),
        ("shortest", f"A verifier's pick of {n} beats the shortest program.", None),
        ("likeliest", f"A verifier's pick of {n} beats the generator's likeliest.", None),
    ):
        for size in study.sizes:
            _claim(
                run,
                f"verifier-beats-{rival}-{size}",
                f"{sentence[:-1]} ({size} on {size}).",
                _minus(verified[size], study.chosen(size, rival)),
                paper=paper,
                why=f"{fmean(verified[size]):.3f} against {fmean(study.chosen(size, rival)):.3f}; "
                f"oracle {fmean(study.chosen(size, 'oracle')):.3f}.",
            )
    _claim(
        run,
        "token-level",
        "The label at every token trains a better verifier than at the last alone.",
        _minus(study.chosen(SMALL, SMALL), study.chosen(SMALL, "last token")),
        paper="better (no figure)",
    )
    _claim(
        run,
        "checkpoint-mix",
        "Answers of three checkpoints train a better verifier than as many of the last.",
        _minus(study.chosen(SMALL, SMALL), study.chosen(SMALL, "one checkpoint")),
        paper="+2.6 points (78.9 to 81.5)",
    )
    by_verifier = _minus(study.chosen(SMALL, LARGE), study.chosen(SMALL, SMALL))
    by_generator = _minus(study.chosen(LARGE, SMALL), study.chosen(SMALL, SMALL))
    _claim(
        run,
        "verifier-size",
        "Growing the verifier gains more than growing the generator.",
        _minus(by_verifier, by_generator),
        paper="+7.2 against +5.1 points",
        why=f"Verifier {fmean(by_verifier):+.3f}, generator {fmean(by_generator):+.3f} (greedy alone: "
        f"{fmean(_minus(greedy[LARGE], greedy[SMALL])):+.3f}).",
    )
    _claim(
        run,
        "data-scaling",
        "From one third to two thirds of the data gains more than the last third.",
        _minus(
            _minus(study.arm("two thirds"), study.arm("third")),
            _minus(study.arm("all"), study.arm("two thirds")),
        ),
        paper="about +10 points, then marginal",
        why=", ".join(f"{name} {fmean(study.arm(name)):.3f}" for name in (*study.shares, "all")) + ".",
    )
    _claim(
        run,
        "pretraining",
        "A generator that was pretrained on other text beats one from random weights.",
        _minus(study.arm("pretrained"), study.arm("all")),
        paper="63.3 against 53.1",
    )
    _claim(
        run,
        "running-filter",
        "Leaving out programs that do not run trains a better generator.",
        _minus(study.arm("all"), study.arm("unfiltered")),
        paper="done throughout (no figure)",
        why=f"{fmean(study.arm('all')):.3f} against {fmean(study.arm('unfiltered')):.3f}, as many problems.",
    )
    kept = [
        noisy / clean - study.teachers["noisier"] if clean else 0.0
        for noisy, clean in zip(study.arm("noisier"), study.arm("exact"), strict=True)
    ]
    _claim(
        run,
        "errors-average-out",
        "Of a clean teacher's student a noisy teacher's keeps more than that teacher gets right.",
        kept,
        why=f"Teacher right on {study.teachers['noisier']:.1%}; its student "
        f"{fmean(study.arm('noisier')):.3f}, the clean one's {fmean(study.arm('exact')):.3f}.",
    )
    _claim(
        run,
        "passes-its-teacher",
        "The large generator with its verifier is right more often than the teacher on the benchmark.",
        [value - study.teachers["benchmark"] for value in verified[LARGE]],
        paper="81.5 against 77.4",
        why=f"{fmean(verified[LARGE]):.3f} against {study.teachers['benchmark']:.3f}.",
    )
    _claim(
        run,
        "agreement-filter-does-not-help",
        "Keeping only problems on which the teacher agrees with itself costs accuracy on long problems.",
        _minus(study.arm("all", changes=2), study.arm("agreed", changes=2)),
        paper="such a filter removes the useful part (no figure)",
        why=f"It keeps {study.agreed:.0%} of the problems and raises the teacher from "
        f"{study.teachers['all']:.1%} to {study.teachers['agreed']:.1%} right.",
    )
    found = study.planted["13-gram"]["recall"]
    near, far = found["other numbers"], found["told again"]
    run.claim(
        Claim(
            id="decontamination",
            sentence="13-grams without digits catch copies with other numbers and miss a plan told again.",
            paper_value="22 of 11.0 million questions removed",
            measured=near[0] - far[0],
            unit="difference of recalls",
            rule="the interval of the one recall lies above 0.9, that of the other below 0.1",
            holds=near[1] > 0.9 and far[2] < 0.1,
            why=f"Recall {near[0]:.1%} and {far[0]:.1%}.",
        )
    )


def write_report(run: Run, study: Study) -> None:
    """Tables of everything, and some questions with what was chosen."""
    report = run.report
    report.title = "TinyGSM: generator and verifier"
    report.section(
        "Choosing among answers",
        f"Benchmark questions whose skeletons no training problem has; {study.samples} samples a question, "
        "half at each temperature. Right: under two assignments of numbers. Means over seeds.",
    )
    choices = ("greedy", "mean", "majority", "shortest", "likeliest", *study.sizes, "oracle")
    report.table(
        ["generator", *[f"{c} verifier" if c in study.sizes else c for c in choices]],
        [
            [size, *[shown_over_seeds(study.chosen(size, choice)) for choice in choices]]
            for size in study.sizes
        ],
        title="Choosing among answers",
        note=f"After the mean, half the width of the 95 % interval over {len(study.seeds)} seeds. The "
        f"teacher itself is right on {study.teachers['benchmark']:.1%} of benchmark questions.",
    )
    report.bars(
        "The small generator's answers, chosen by",
        [
            Bar.over_seeds(choice, values, scale=100)
            for choice in (*choices, "last token", "one checkpoint")
            if (values := study.chosen(SMALL, choice))
        ],
        unit="%",
    )
    report.table(
        ["verifier", "right", "AUC", "AUC within a question", "loss", "solutions", "of them right"],
        [
            [
                f"{kind} on {generator}",
                shown_over_seeds(study.chosen(generator, kind)),
                _mean(study.grid[f"{generator}-{s}"]["auc"][kind] for s in study.seeds),
                _mean(study.grid[f"{generator}-{s}"]["auc_within"][kind] for s in study.seeds),
                *(
                    _mean(study.verifiers[f"{generator}-{s}/{kind}"][what] for s in study.seeds)
                    for what in ("loss", "answers", "right")
                ),
            ]
            for generator in study.sizes
            for kind in study.grid[f"{generator}-{study.seeds[0]}"]["auc"]
        ],
        title="Verifiers",
        note="Tokens that right and wrong programs share cannot be told apart, so the loss has a floor above "
        "0: ranking counts.",
    )
    _data(run, study)
    first = study.grid[f"{LARGE}-{study.seeds[0]}"]
    report.samples(
        "Questions, and what the large verifier chose",
        [
            Sample(
                text=f"{one['question']}\n\n{one['chosen'][LARGE]}",
                label="right"
                if dict(zip(one["candidates"], one["right"]))[one["chosen"][LARGE]]
                else "wrong",
                note=f"{sum(one['right'])} of {len(one['right'])} samples are right",
                code=True,
            )
            for one in first["shown"]
        ],
        shown=2,
    )


def _data(run: Run, study: Study) -> None:
    """The ablations of data, and planted contamination."""
    run.report.section("Data", "Small generators of equal length, greedy answers.")
    run.report.table(
        ["data", "teacher right", "accuracy", "one change", "two changes"],
        [
            [
                name,
                f"{study.teachers.get(name, study.teachers['all']):.1%}",
                shown_over_seeds(study.arm(name)),
                *[shown_over_seeds(study.arm(name, changes=count)) for count in (1, 2)],
            ]
            for name in (*study.shares, "all", "unfiltered", "pretrained", "exact", "noisier", "agreed")
        ],
        title="Generators by their data",
        note="Changes: steps of the plan between the opening and the question.",
    )
    run.report.table(
        ["rule", *(f"recall: {kind}" for kind in study.planted["scored"]["recall"]), "precision"],
        [
            [
                rule,
                *(f"{r[0]:.1%} [{r[1]:.1%}, {r[2]:.1%}]" for r in facts["recall"].values()),
                "none flagged" if facts["precision"] is None else f"{facts['precision']:.1%}",
            ]
            for rule, facts in study.planted.items()
            if isinstance(facts, dict)
        ],
        title="Planted contamination",
        note=f"{study.planted['planted']} copies of each kind among {study.planted['clean']} training "
        "problems, which may come close to a benchmark question without copying it.",
    )


def _mean(values: Any) -> float | str:
    known = [value for value in values if value is not None]
    return round(fmean(known), 3) if known else "none"
