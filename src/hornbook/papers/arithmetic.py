"""Positional Description Matters for Transformers Arithmetic (Shen, Bubeck, Eldan, Lee, Li, Zhang 2023).

Three tasks in which a small model fails because it takes a digit's place in the line for its place in the
number: multiplication, addition of longer numbers than it was taught, addition inside dialogues. Each is
learned once as it is usually written and once with that description changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hornbook.lab.claim import Claim, over_seeds
from hornbook.lab.report import Sample
from hornbook.lab.run import Run
from hornbook.lab.statistics import interval_over_seeds
from hornbook.lab.step import Artifact
from hornbook.theory.arithmetic.steps import Lesson, Pupil, accuracy, examine, teach, training
from hornbook.train.settings import OptimizerSettings

TITLE = "Positional description matters for transformers' arithmetic"
PAPER = "Shen, Bubeck, Eldan, Lee, Li, Zhang 2023, arXiv 2311.14737"

FORMATS = {
    "basic": "as usually written",
    "reversed": "product reversed",
    "padded": "padded with zeros",
    "padded_reversed": "padded and reversed",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    digits: int = 4
    """Of the first factor, at most."""
    second_digits: int = 1
    """Of the second factor, at most; 0 for as many as the first."""
    sum_digits: int = 3
    """Of operands of additions in training; the exam asks for two more."""
    string_letters: int = 8
    """Of strings to be reversed in training; the exam asks for up to four more."""
    dialogue_digits: int = 1
    """Of operands of additions inside dialogues in training."""
    bare_digits: int = 3
    """Of operands of additions outside dialogues, which the exam then asks for inside them."""
    small_talk: int = 1
    """Sentences before the question of a dialogue, at most."""
    sums: Literal["basic", "reversed"] = "reversed"
    """How sums are written: as usual, or from the units upwards, which small models learn far sooner."""
    samples: int = 60_000
    """Lines drawn for the training of one model."""
    each: int = 100
    """Questions of the exam, a cell."""
    product_steps: int = 300
    sum_steps: int = 300
    string_steps: int = 200
    dialogue_steps: int = 200
    pupil: Pupil = field(default_factory=Pupil)
    seeds: tuple[int, ...] = (0, 1, 2)
    product_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """For multiplication, where two ways of writing may differ less than two seeds do."""


SCALES = {
    "smoke": Settings(
        digits=2,
        second_digits=2,
        sum_digits=2,
        string_letters=3,
        bare_digits=2,
        samples=400,
        each=4,
        product_steps=2,
        sum_steps=2,
        string_steps=2,
        dialogue_steps=2,
        pupil=Pupil(hidden_size=32, layers=2, rows=16),
        seeds=(0, 1),
        product_seeds=(0, 1),
    ),
    "quick": Settings(),
    "gpu": Settings(
        digits=5,
        second_digits=0,
        sum_digits=5,
        string_letters=10,
        dialogue_digits=2,
        bare_digits=4,
        small_talk=3,
        sums="basic",
        samples=120_000,
        product_steps=6_000,
        sum_steps=3_000,
        string_steps=1_500,
        dialogue_steps=3_000,
        pupil=Pupil(hidden_size=256, layers=6, heads=4, tag_size=64, rows=512),
    ),
    # The paper's sizes; its optimizer, epochs and wording are not known to us.
    "paper": Settings(
        digits=15,
        second_digits=0,
        sum_digits=10,
        string_letters=16,
        dialogue_digits=3,
        bare_digits=5,
        small_talk=3,
        sums="basic",
        samples=300_000,
        product_steps=58_000,
        sum_steps=23_000,
        string_steps=12_000,
        dialogue_steps=23_000,
        pupil=Pupil(
            hidden_size=768,
            layers=12,
            heads=12,
            tag_size=64,
            rows=512,
            training=training(OptimizerSettings(kind="adamw", learning_rate=2e-4, weight_decay=0.01)),
        ),
    ),
}


def lessons(s: Settings) -> dict[str, dict[str, Lesson]]:
    """Every lesson by task and name; each is taught to one pupil a seed."""
    product = Lesson(task="multiplication", digits=s.digits, second_digits=s.second_digits, samples=s.samples)
    total = Lesson(
        task="addition",
        format=s.sums,
        joint=True,
        digits=s.sum_digits,
        asked=s.sum_digits + 2,
        samples=s.samples,
    )
    string = Lesson(task="reverse", digits=s.string_letters, asked=s.string_letters + 4, samples=s.samples)
    talk = Lesson(
        task="dialogue",
        digits=s.dialogue_digits,
        asked=s.bare_digits,
        bare_digits=s.bare_digits,
        small_talk=s.small_talk,
        format=s.sums,
        joint=True,
        samples=s.samples,
    )
    return {
        "multiplication": {name: replace(product, format=name) for name in FORMATS},  # type: ignore[arg-type]
        "addition": {
            "usual": total,
            "random spaces": replace(total, spaces=True),
            "scratchpad": replace(total, format="scratchpad", positions="tags"),
            "no positions": replace(total, positions="none"),
            "random tags": replace(total, positions="tags"),
        },
        "reversal": {
            name: replace(string, positions=kind)  # type: ignore[arg-type]
            for name, kind in (
                ("learned positions", "learned"),
                ("no positions", "none"),
                ("random tags", "tags"),
            )
        },
        "dialogue": {
            name: replace(talk, positions=kind)  # type: ignore[arg-type]
            for name, kind in (
                ("learned positions", "learned"),
                ("no positions", "none"),
                ("random tags", "tags"),
            )
        },
    }


def recipe(run: Run, settings: Settings) -> None:
    """Teaches every lesson to one pupil a seed; then compares what they can do."""
    s = settings
    steps = {
        "multiplication": s.product_steps,
        "addition": s.sum_steps,
        "reversal": s.string_steps,
        "dialogue": s.dialogue_steps,
    }
    taught = {
        task: {
            name: [
                run.step(
                    teach,
                    lesson=lesson,
                    pupil=replace(s.pupil, steps=steps[task]),
                    each=s.each,
                    seed=seed,
                )
                for seed in (s.product_seeds if task == "multiplication" else s.seeds)
            ]
            for name, lesson in named.items()
        }
        for task, named in lessons(s).items()
    }
    run.report.title = TITLE
    _multiplication(run, s, taught["multiplication"])
    _addition(run, s, taught["addition"])
    _reversal(run, s, taught["reversal"])
    bare = Lesson(task="addition", format=s.sums, joint=True, digits=s.bare_digits)
    outside = {
        name: [
            run.step(examine, model=artifact / "model", lesson=bare, each=s.each, seed=seed)
            for seed, artifact in zip(s.seeds, artifacts, strict=True)
        ]
        for name, artifacts in taught["dialogue"].items()
    }
    _dialogue(run, s, taught["dialogue"], outside)


Arms = Mapping[str, Sequence[Artifact]]
Cells = Sequence[tuple[int, int]]


def _each(artifacts: Sequence[Artifact], cells: Cells) -> list[float]:
    """Accuracy over some cells, one number a seed."""
    return [accuracy(artifact.facts, cells) for artifact in artifacts]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _gain(
    run: Run, name: str, sentence: str, better: Sequence[float], worse: Sequence[float], **more: Any
) -> None:
    """A claim that one arm is more accurate than another, paired by seed."""
    gains = [a - b for a, b in zip(better, worse, strict=True)]
    more.setdefault("why", f"{_mean(better):.2f} against {_mean(worse):.2f}.")
    run.claim(over_seeds(name, sentence, gains, above=0.0, unit="gain in accuracy", **more))


def _level(
    run: Run,
    name: str,
    sentence: str,
    values: Sequence[float],
    *,
    below: float = 2,
    above: float = -1,
    learned: float = 1.0,
    **more: Any,
) -> None:
    """A claim that an arm's accuracy lies below or above a bound in every seed.

    learned: accuracy within training; below one half there is nothing that could fail, and nothing is judged.
    """
    bound = f"below {below}" if below <= 1 else f"at least {above}"
    interval = interval_over_seeds(values)
    run.claim(
        Claim(
            id=name,
            sentence=sentence,
            measured=_mean(values),
            interval=None if interval is None else (max(0.0, interval.low), min(1.0, interval.high)),
            unit="accuracy",
            rule=f"{bound} in every seed; judged where training itself was learned (0.5)",
            holds=None if learned < 0.5 else max(values) < below and min(values) >= above,
            **more,
        )
    )


def _shown(run: Run, title: str, artifact: Artifact) -> None:
    run.report.samples(
        title,
        [
            Sample(
                text=f"{line['prompt']} {line['given']}",
                label="right" if line["right"] else f"wrong: {line['wanted']} was asked for",
                code=True,
            )
            for line in artifact.facts["shown"][::-1]
        ],
    )


def _multiplication(run: Run, s: Settings, arms: Arms) -> None:
    """Tables 1 to 3 of the paper: every pair of numbers of digits, in four ways of writing."""
    second = s.second_digits or s.digits
    largest = [(s.digits, second)]
    hard = [(a, b) for a in range(1, s.digits + 1) for b in range(1, second + 1) if a + b > 3]
    run.report.section(
        "Multiplication",
        "Exact answers in percent by digits of the factors, mean over seeds. Cells of more than 1,000 pairs "
        "hold a sixteenth of them out of training, and only those are asked; smaller ones are known tables.",
    )
    if second == 1:  # a column each: side by side they read better
        firsts = range(1, s.digits + 1)
        run.report.heat_map(
            "By digits of the first factor; the second has one",
            [FORMATS[name] for name in arms],
            [f"{a} x 1" for a in firsts],
            [[100 * _mean(_each(artifacts, [(a, 1)])) for a in firsts] for artifacts in arms.values()],
            unit="%",
        )
    for name, artifacts in arms.items() if second > 1 else ():
        grid = [
            [100 * _mean(_each(artifacts, [(a, b)])) for b in range(1, second + 1)]
            for a in range(1, s.digits + 1)
        ]
        run.report.heat_map(
            FORMATS[name].capitalize(),
            [f"{a} digit{'s' * (a > 1)}" for a in range(1, s.digits + 1)],
            [f"x {b}" for b in range(1, second + 1)],
            grid,
            unit="%",
        )
    places = max(len(artifact.facts["digits"]) for artifacts in arms.values() for artifact in artifacts)
    run.report.heat_map(
        "Digits right, by place of the product (units first)",
        [FORMATS[name] for name in arms],
        [f"10^{place}" for place in range(places)],
        [[_digit(artifacts, place) for place in range(places)] for artifacts in arms.values()],
        unit="%",
        note="Padded formats are asked for leading zeros too, the others only for the digits a product has.",
    )
    _shown(run, "Answers of one pupil, padded and reversed", arms["padded_reversed"][0])
    scores = {name: _each(artifacts, hard) for name, artifacts in arms.items()}
    over = f"over the {len(hard)} cells with held-out pairs"
    _gain(
        run,
        "both-beat-basic",
        f"Padded and reversed, multiplication is learned better than as usually written ({over}).",
        scores["padded_reversed"],
        scores["basic"],
        paper_value="to 12 digits instead of below 4",
    )
    for name, words in (("padded", "Padding alone"), ("reversed", "Reversal alone")):
        _gain(run, f"{name}-helps", f"{words} helps ({over}).", scores[name], scores["basic"])
    either = [max(pair) for pair in zip(scores["padded"], scores["reversed"], strict=True)]
    _gain(
        run,
        "both-are-needed",
        f"Padding and reversal together do better than the better of the two ({over}).",
        scores["padded_reversed"],
        either,
    )
    _level(
        run,
        "basic-fails",
        f"As usually written, {s.digits} by {second} digits fails.",
        _each(arms["basic"], largest),
        below=0.5,
        paper_value="fails at 4 x 4",
    )
    _level(
        run,
        "both-are-nearly-perfect",
        f"Padded and reversed, {s.digits} by {second} digits is nearly always right.",
        _each(arms["padded_reversed"], largest),
        above=0.95,
        paper_value="0.99 or more to 12 digits",
        why="The paper trains 100M parameters on 300,000 lines for many epochs; see the settings for ours.",
    )


def _digit(artifacts: Sequence[Artifact], place: int) -> float | None:
    found = [
        artifact.facts["digits"][place] for artifact in artifacts if place < len(artifact.facts["digits"])
    ]
    return 100 * sum(right for right, _ in found) / sum(asked for _, asked in found) if found else None


def _by_length(run: Run, title: str, arms: Arms, lengths: range, trained: int, unit: str) -> None:
    run.report.heat_map(
        title,
        list(arms),
        [f"{n}{'' if n <= trained else ' (longer)'}" for n in lengths],
        [[100 * _mean(_each(artifacts, [(n, n)])) for n in lengths] for artifacts in arms.values()],
        unit="%",
        note=f"Columns: {unit}. Training goes to {trained}.",
    )


def _addition(run: Run, s: Settings, arms: Arms) -> None:
    """Section 3.2: sums of longer numbers than any in training."""
    trained, longer = [(s.sum_digits, s.sum_digits)], [(s.sum_digits + 1, s.sum_digits + 1)]
    run.report.section("Addition of longer numbers", "Exact answers in percent, mean over seeds.")
    _by_length(run, "By digits", arms, range(1, s.sum_digits + 3), s.sum_digits, "digits of both operands")
    for name in ("usual", "scratchpad"):
        _shown(run, f"Answers of one pupil, {name}", arms[name][0])
    usual = _each(arms["usual"], longer)
    _level(
        run,
        "usual-does-not-extrapolate",
        f"As usually written and with learned positions, {longer[0][0]}-digit sums fail after training to "
        f"{s.sum_digits} digits.",
        usual,
        below=0.05,
        paper_value="fails at 11 after 10",
        why=f"At {s.sum_digits} digits it is right in {_mean(_each(arms['usual'], trained)):.2f}.",
    )
    for name, words in (
        ("random spaces", "Random spaces in the prompt"),
        ("scratchpad", "A recursive scratchpad (with random tags)"),
        ("random tags", "Random tags in place of positions"),
    ):
        own = _each(arms[name], trained)
        _gain(
            run,
            f"{name.replace(' ', '-')}-extrapolate",
            f"{words} let{'s' * name.startswith('scr')} sums be found one digit beyond training.",
            _each(arms[name], longer),
            usual,
            paper_value="to 12 after 10",
            why=f"{_mean(_each(arms[name], longer)):.2f} against {_mean(usual):.2f}; {_mean(own):.2f} at the "
            "longest of training" + (": not learned in so few steps." if _mean(own) < 0.5 else "."),
        )
    _level(
        run,
        "no-positions-fail-from-random-weights",
        "Without positions and from random weights, longer sums fail.",
        _each(arms["no positions"], longer),
        below=0.5,
        learned=_mean(_each(arms["no positions"], trained)),
        why="In the paper they work when training starts from a pre-trained model; this recipe has none.",
    )


def _reversal(run: Run, s: Settings, arms: Arms) -> None:
    """The toy task of section 4.2: strings of letters that differ, longer than in training."""
    n = s.string_letters
    longer = [(n + more, n + more) for more in range(1, 5)]
    run.report.section("Reversal of longer strings", "Exact answers in percent, mean over seeds.")
    _by_length(run, "By letters", arms, range(1, n + 5), n, "letters of the string")
    learned = _each(arms["learned positions"], longer)
    for name in ("random tags", "no positions"):
        _gain(
            run,
            f"reversal-{name.replace(' ', '-')}",
            f"Longer strings are reversed better with {name} than with learned positions.",
            _each(arms[name], longer),
            learned,
        )


def _dialogue(run: Run, s: Settings, arms: Arms, outside: Arms) -> None:
    """Section 4: does arithmetic that was learned outside dialogues serve inside them?"""
    beyond = [(n, n) for n in range(s.dialogue_digits + 1, s.bare_digits + 1)]
    run.report.section(
        "Addition inside dialogues",
        f"Dialogues in training have operands of up to {s.dialogue_digits} digits, bare additions besides of "
        f"up to {s.bare_digits}. Exact answers in new wordings, in percent, mean over seeds.",
    )
    _by_length(
        run, "By digits", arms, range(1, s.bare_digits + 1), s.dialogue_digits, "digits of both operands"
    )
    lengths = range(1, s.bare_digits + 1)
    _by_length(run, "The same pupils outside dialogues", outside, lengths, s.bare_digits, "digits")
    _shown(run, "Answers of one pupil, random tags", arms["random tags"][0])
    learned = _each(arms["learned positions"], beyond)
    _level(
        run,
        "dialogue-is-not-joined-by-learned-positions",
        "With learned positions, longer sums that were learned outside dialogues fail inside them.",
        learned,
        below=0.5,
        paper_value="right to 3 of 5 digits",
        learned=_mean(_each(outside["learned positions"], beyond)),
        why=_outside(outside["learned positions"], beyond),
    )
    for name in ("random tags", "no positions"):
        _gain(
            run,
            f"dialogue-is-joined-by-{name.replace(' ', '-')}",
            f"With {name}, they are found more often.",
            _each(arms[name], beyond),
            learned,
            paper_value="nearly perfect to 5",
            why=f"{_mean(_each(arms[name], beyond)):.2f} against {_mean(learned):.2f}. "
            + _outside(outside[name], beyond),
        )


def _outside(artifacts: Sequence[Artifact], cells: Cells) -> str:
    """How well bare sums of these lengths were learned, without which there is nothing to join."""
    level = _mean(_each(artifacts, cells))
    return f"Outside dialogues sums of these lengths are right in {level:.2f}" + (
        ": not learned in so few steps." if level < 0.5 else "."
    )
