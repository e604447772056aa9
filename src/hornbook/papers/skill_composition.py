"""Can models learn skill composition from examples? (Zhao, Kaur, Yu, Goyal, Arora 2024).

A student is fine-tuned on texts that show one, two or three skills of some categories. Does it then put four
and five together, and skills of categories it saw no such texts of? Everything is graded by exact programs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from hornbook.align.sft import finetune
from hornbook.errors import HornbookError
from hornbook.evals.skill_mix.composition import TRAINED_CATEGORIES
from hornbook.evals.skill_mix.composition_steps import (
    SIDES,
    Composer,
    examine_composition,
    learn_composition,
    raise_composer,
    write_compositions,
)
from hornbook.infer.open import checkpoint_folder
from hornbook.lab.claim import over_seeds
from hornbook.lab.report import Sample, Series
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.synth.teacher import SIMULATED
from hornbook.train.pretrain import PhasePlan

TITLE = "Learning to compose skills from examples"
PAPER = "Zhao, Kaur, Yu, Goyal, Arora 2024, arXiv 2409.19808"

BASE = "base"
LONGER = ", as many tokens"
"""Behind the name of an arm that is trained until it has seen as many tokens as the widest."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    teacher: str = SIMULATED
    """Who writes the texts: a model, or a program; only texts with full marks are learned from."""
    texts: int = 2000
    """Texts for each k."""
    arms: tuple[tuple[int, ...], ...] = ((1,), (1, 2), (1, 2, 3))
    """What each arm is fine-tuned on."""
    ks: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Skills at once in the exam."""
    exam: int = 100
    """Combinations for each k and side."""
    categories: tuple[str, ...] = TRAINED_CATEGORIES
    """Of the skills in training; the others are held out."""
    composer: Composer = field(default_factory=Composer)
    student: str = ""
    """A language model (smollm2, or a checkpoint folder) that is fine-tuned on the arms' conversations too,
    and asked with Skill-Mix's prompts; empty: none."""
    student_tokens: int = 2_000_000
    """Positions of one arm's fine-tuning of it."""
    student_rows: int = 8
    student_time: int = 1024
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5)

    def __post_init__(self) -> None:
        if len(self.arms) < 2 or not all(self.arms):
            raise HornbookError(
                f"arms is {self.arms}; at least two are compared, each with at least one k, the widest last."
            )
        if max(self.ks) <= max(self.arms[-1]):
            raise HornbookError(
                f"ks is {self.ks}; the exam needs a k above {max(self.arms[-1])}, the largest in training."
            )


SCALES = {
    "smoke": Settings(
        texts=60,
        exam=6,
        ks=(1, 2, 4),
        composer=Composer(hidden_size=16, layers=1, base_steps=4, steps=3, rows=16, texts=200),
        seeds=(0, 1),
    ),
    "quick": Settings(),
    "gpu": Settings(
        texts=10_000,
        exam=500,
        composer=Composer(
            hidden_size=256, layers=6, heads=4, rows=512, base_steps=3000, steps=2000, texts=200_000
        ),
        student="smollm2",
        seeds=(0, 1, 2, 3, 4),
    ),
}


def recipe(run: Run, settings: Settings) -> None:
    """For each seed: texts, a base, and the arms that are fine-tuned from it."""
    s = settings
    names = [BASE, *map(_name, s.arms), _name(s.arms[-2]) + LONGER]
    raised: dict[str, list[Artifact]] = {name: [] for name in names}
    written = []
    large: dict[str, Artifact] = {}
    for seed in s.seeds:
        texts = run.step(
            write_compositions,
            teacher=s.teacher,
            ks=sorted({k for arm in s.arms for k in arm}),
            each=s.texts,
            categories=s.categories,
            seed=seed,
        )
        written.append(texts)
        same: dict[str, Any] = {
            "composer": s.composer,
            "categories": s.categories,
            "exam": s.exam,
            "ks": s.ks,
            "seed": seed,
        }
        base = run.step(raise_composer, **same)
        raised[BASE].append(base)
        for arm in s.arms:  # the widest is the last
            made = run.step(learn_composition, base=base, texts=texts, learned=arm, **same)
            raised[_name(arm)].append(made)
            if seed == s.seeds[0] and arm == s.arms[-1]:
                run.output(model=made / "model", texts=texts)
        # Texts of more skills are longer: the rival of the widest arm is also given its tokens.
        longer = run.step(
            learn_composition, base=base, texts=texts, learned=s.arms[-2], as_long_as=made, **same
        )
        raised[_name(s.arms[-2]) + LONGER].append(longer)
        if s.student and seed == s.seeds[0]:
            large = _language_model(run, s, texts, seed)
    marks = {name: [made.facts for made in own] for name, own in raised.items()}
    _claims(run, s, marks)
    _report(run, s, marks, [made.facts for made in written])
    if large:
        _report_language_model(run, s, {name: made.facts for name, made in large.items()})


def _language_model(run: Run, s: Settings, texts: Artifact, seed: int) -> dict[str, Artifact]:
    """Conversations of each arm for a model that already writes: fine-tuned, and asked as the paper asks."""
    start = checkpoint_folder(s.student, say=run.say)
    exam: dict[str, Any] = {"categories": s.categories, "exam": s.exam, "ks": s.ks, "seed": seed}
    examined = {BASE: run.step(examine_composition, model=start, **exam)}
    for arm in s.arms:
        sources = {f"k{k}": texts / f"k{k}" for k in arm}
        plan = PhasePlan(
            name="texts",
            mixture=dict.fromkeys(sources, 1.0),
            tokens=s.student_tokens,
            rows=s.student_rows,
            time=s.student_time,
        )
        tuned = run.step(finetune, model=start, sources=sources, phases=[plan], seed=seed)
        examined[_name(arm)] = run.step(examine_composition, model=tuned / "model", **exam)
    return examined


def _report_language_model(run: Run, s: Settings, marks: Mapping[str, Any]) -> None:
    section = run.report.section(
        "A language model",
        f"{s.student}, fine-tuned on the same texts as conversations and asked with Skill-Mix's prompts; one "
        "seed, greedy, no replay.",
    )
    for side in SIDES:
        section.table(
            [f"{side} categories", *[f"k = {k}" for k in s.ks], "unfinished"],
            [
                [name, *[round(row["full"], 3) for row in facts["sides"][side]], facts["unfinished"]]
                for name, facts in marks.items()
            ],
        )


def _name(arm: Sequence[int]) -> str:
    return f"k = {', '.join(map(str, arm))}"


def _full(
    facts: Sequence[Mapping[str, Any]], side: str, ks: Sequence[int], what: str = "full"
) -> list[float]:
    """Mean full marks over some k, one number a seed."""
    return [fmean(row[what] for row in own["sides"][side] if row["k"] in ks) for own in facts]


def _claims(run: Run, s: Settings, marks: Mapping[str, list[Any]]) -> None:
    widest, middle, narrowest = (_name(arm) for arm in (s.arms[-1], s.arms[-2], s.arms[0]))
    beyond = tuple(k for k in s.ks if k > max(s.arms[-1]))
    trained, held = SIDES

    def gain(
        name: str, sentence: str, arm: str, rival: str, side: str, ks: Sequence[int], **more: Any
    ) -> None:
        a, b = _full(marks[arm], side, ks), _full(marks[rival], side, ks)
        at = " and ".join(map(str, ks))
        run.claim(
            over_seeds(
                name,
                sentence,
                [x - y for x, y in zip(a, b, strict=True)],
                unit=f"gain in full marks at k = {at}",
                why=f"{arm}: {fmean(a):.2f}; {rival}: {fmean(b):.2f}.",
                **({"above": 0.0} | more),
            )
        )

    gain(
        "composition-extrapolates",
        "Texts with up to three skills teach to show four and five, which no text had.",
        widest,
        BASE,
        trained,
        beyond,
        paper_value="yes (13B, 7B)",
    )
    gain(
        "three-teach-more-than-two",
        "Texts with up to three skills teach four and five better than texts with up to two.",
        widest,
        middle,
        trained,
        beyond,
        paper_value="yes",
    )
    gain(
        "three-teach-more-than-two-at-equal-tokens",
        "They do so at equally many tokens, too.",
        widest,
        middle + LONGER,
        trained,
        beyond,
    )
    gain(
        "two-teach-three",
        "Texts with up to two skills teach to show three.",
        middle,
        narrowest,
        trained,
        [k for k in s.ks if k == 3] or [max(s.ks)],
        paper_value="yes",
    )
    gain(
        "one-teaches-no-composition",
        "Texts with one skill teach no composition: at two and three skills nothing is gained over the base.",
        narrowest,
        BASE,
        trained,
        [k for k in s.ks if k in (2, 3)],
        above=None,
        below=0.05,
    )
    gain(
        "held-out-skills-gain",
        "Skills of categories that were never composed in training are composed better, too.",
        widest,
        BASE,
        held,
        [k for k in s.ks if k > 1],
        paper_value="yes",
    )
    gain(
        "held-out-beyond-training",
        "Held-out skills are shown four and five at once better than by the base.",
        widest,
        BASE,
        held,
        beyond,
        paper_value="yes",
    )
    gain(
        "held-out-three-over-two",
        "For held-out skills, too, texts with up to three skills teach more than texts with up to two.",
        widest,
        middle,
        held,
        [k for k in s.ks if k > 2],
        paper_value="yes",
    )


def _report(run: Run, s: Settings, marks: Mapping[str, list[Any]], written: Sequence[Any]) -> None:
    report = run.report
    report.title = TITLE
    report.section(
        "Texts", f"Written by {written[0]['teacher']}; only those with full marks are kept."
    ).table(
        ["k", "asked for", "kept"],
        [[int(k), row["asked"], row["kept"]] for k, row in written[0]["by_k"].items()],
    )
    for side in SIDES:
        section = report.section(
            f"Skills of {side} categories",
            "Greedy texts of the small student on held-out topics, graded by programs; arms see equally many "
            "texts, but for the one that sees as many tokens as the widest.",
        )
        section.curves(
            "Full marks",
            {name: _line(facts, side) for name, facts in marks.items()},
            x_label="k, skills at once",
            y_label="share with full marks",
            note=f"Mean of {len(s.seeds)} seeds with Student's 95 % interval.",
        )
        section.table(
            ["fine-tuned on", *[f"k = {k}" for k in s.ks], "skill fraction at the last", "tokens"],
            [
                [
                    name,
                    *[round(fmean(_full(facts, side, (k,))), 3) for k in s.ks],
                    round(fmean(_full(facts, side, s.ks[-1:], "fraction")), 3),
                    round(fmean(own["tokens"] for own in facts)),
                ]
                for name, facts in marks.items()
            ],
        )
        section.samples(
            f"Texts of one student, {_name(s.arms[-1])}",
            [
                Sample(
                    text=shown["text"],
                    label=f"{', '.join(shown['skills'])}; {shown['topic']}: "
                    + ("full marks" if shown["full"] else "not"),
                )
                for row in marks[_name(s.arms[-1])][0]["sides"][side]
                for shown in row["shown"][:1]
            ],
        )


def _line(facts: Sequence[Any], side: str) -> Series:
    return Series.over_seeds(
        (float(row["k"]), [own["sides"][side][place]["full"] for own in facts])
        for place, row in enumerate(facts[0]["sides"][side])
    )
