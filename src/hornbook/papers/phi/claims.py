"""The claims of the recipe `phi`, each with the rule that was fixed before the run."""

from hornbook.evals.choices import difference
from hornbook.lab.claim import Claim
from hornbook.lab.run import Run
from hornbook.lab.statistics import PairedDifference, paired_bootstrap
from hornbook.lab.step import Artifact


def judge_claims(
    run: Run, *, probed: Artifact, before: Artifact, after: Artifact, exported: Artifact
) -> None:
    """Claims (a) to (d); `before` and `after`: examinations of the student without and with preferences."""
    chosen_beats_raw(run, probed)
    two_phases_beat_one(run, probed)
    preferences_help(run, before, after)
    four_bits_are_enough(run, exported)


def chosen_beats_raw(run: Run, probed: Artifact) -> None:
    """phi-1, figure 2.1: the same model and tokens, raw against chosen and written data."""
    tasks = ["problems", "stories"]
    gain, interval = difference(probed.facts["verdicts"], "two phases", "raw", tasks)
    run.claim(
        Claim(
            id="chosen-beats-raw",
            sentence="At equal training tokens, a student raised on chosen and written data beats the same "
            "student raised on raw organic text on held-out tasks.",
            paper_value="12 % to 20 % on HumanEval (350M parameters, raw code to textbooks)",
            measured=100 * gain,
            interval=(100 * interval[0], 100 * interval[1]),
            unit="points",
            rule="the 95 % interval of the paired difference lies above 0",
            holds=interval[0] > 0,
            why=_seeds(probed, "two phases", "raw", tasks),
        )
    )


def two_phases_beat_one(run: Run, probed: Artifact) -> None:
    """phi-3 section 2: web first, then filtered web and synthetic data; here against one mixture of both."""
    kinds = list(probed.facts["items"])
    gain, interval = difference(probed.facts["verdicts"], "two phases", "one mixture", kinds)
    run.claim(
        Claim(
            id="two-phases",
            sentence="Two phases (organic-heavy, then synthetic) beat one phase that mixes the same data.",
            paper_value="not ablated",
            measured=100 * gain,
            interval=(100 * interval[0], 100 * interval[1]),
            unit="points",
            rule="the 95 % interval of the paired difference lies above 0; it is noise if it contains 0",
            holds=interval[0] > 0,
            noise=interval[0] <= 0 <= interval[1],
            why=_seeds(probed, "two phases", "one mixture", kinds),
        )
    )


def _seeds(probed: Artifact, better: str, worse: str, kinds: list[str]) -> str:
    accuracy = probed.facts["accuracy"]
    lines = []
    for arm in (better, worse):
        by_seed = [
            sum(values) / len(values) for values in zip(*(accuracy[arm][kind] for kind in kinds), strict=True)
        ]
        lines.append(f"{arm}: " + ", ".join(f"{value:.1%}" for value in by_seed))
    return (
        "Accuracy in telling right from wrong continuations (chance is 50 %), by seed: "
        f"{'; '.join(lines)}. Items are resampled, seeds averaged."
    )


def preferences_help(run: Run, before: Artifact, after: Artifact) -> None:
    """phi-3 section 2 and phi-4 section 4: DPO after SFT; here on verified pairs."""
    solved = _gain(before, after, "word-problems", "accuracy")
    kept = _gain(before, after, "policy", "refusal")
    [over] = [score for score in after.facts["policy"]["scores"] if score["name"] == "over-refusal"]
    raised = solved.low > 0 or kept.low > 0
    better = solved if solved.low > 0 or kept.low <= 0 else kept
    what = "word problems" if better is solved else "policy"
    noise = solved.low <= 0 <= solved.high and kept.low <= 0 <= kept.high and over["value"] <= 0.05
    run.claim(
        Claim(
            id="preferences-help",
            sentence="DPO on verified pairs raises word-problem accuracy or policy keeping without raising "
            "over-refusal above 5 %.",
            paper_value="fewer harmful answers (figure, no number)",
            measured=100 * better.difference,
            interval=(100 * better.low, 100 * better.high),
            unit=f"points ({what})",
            rule="the 95 % interval of one of the two paired gains lies above 0, and over-refusal is at "
            "most 5 %",
            holds=raised and over["value"] <= 0.05,
            noise=noise,
            why=f"Word problems {_points(solved)}, refusals {_points(kept)}, over-refusal after "
            f"{over['value']:.1%} [{over['interval'][0]:.1%}, {over['interval'][1]:.1%}].",
        )
    )


def _gain(before: Artifact, after: Artifact, task: str, score: str) -> PairedDifference:
    return paired_bootstrap(
        after.facts[task]["outcomes"][score],
        before.facts[task]["outcomes"][score],
    )


def _points(gain: PairedDifference) -> str:
    return f"{100 * gain.difference:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def four_bits_are_enough(run: Run, exported: Artifact) -> None:
    """phi-3 section 2: the model runs quantised to four bits on a phone."""
    loss = exported.facts["kinds"]["q4_0"]["loss"]["mean"]
    run.claim(
        Claim(
            id="four-bits",
            sentence="The 4-bit model loses less than 3 % in bits per byte.",
            paper_value="no loss reported",
            measured=100 * loss["loss"],
            interval=(100 * loss["low"], 100 * loss["high"]),
            unit="%",
            rule="the upper end of the 95 % interval lies below 3",
            holds=loss["high"] < 0.03,
            why="Mean over held-out domains; paired bootstrap over documents, measured on the written file.",
        )
    )
