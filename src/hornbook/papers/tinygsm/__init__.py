"""TinyGSM: a small generator of programs, and a verifier that chooses among its answers.

Liu et al., "TinyGSM: achieving >80% on GSM8k with small language models" (arXiv 2312.09241), at the size of a
laptop: an unchecked teacher writes word problems with programs; generators of two sizes learn them; verifiers
of two sizes learn from what several checkpoints of a generator answer at several temperatures; the benchmark
is made of skeletons that no training problem has. Then the ablations.

    hornbook run tinygsm --scale quick
    hornbook run tinygsm --scale quick --seeds 0 1 2 3 4
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hornbook.align.solutions import draw_solutions, tokenize_solutions
from hornbook.align.verifier import VerifierPlan, train_verifiers
from hornbook.data.steps import tokenize, train_tokenizer
from hornbook.errors import HornbookError
from hornbook.evals.best_of_n import best_of_n
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.model.presets import student
from hornbook.papers.tinygsm.judging import Study, judge_claims, write_report
from hornbook.synth.planted import planted_contamination
from hornbook.synth.steps import write_exercises, write_textbooks, write_word_problems
from hornbook.train.pretrain import PhasePlan
from hornbook.train.probes import train_probes
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

TITLE = "TinyGSM: generator and verifier"
PAPER = "Liu et al. 2023, arXiv 2312.09241"

BENCHMARK, TEST = 101, 102
"""Seeds of the benchmark's training questions (verifiers) and of its test questions."""
CHECKPOINTS = ("early", "middle", "late")
SHARES = {"ninth": 1 / 9, "third": 1 / 3, "two thirds": 2 / 3}
"""Smaller shares of the arms' problems, trained on for as long."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A student's shape."""

    hidden_size: int
    heads: int
    layers: int = 2


def _training(learning_rate: float) -> TrainSettings:
    return TrainSettings(
        optimizer=OptimizerSettings(kind="muon", learning_rate=learning_rate),
        schedule=Schedule(kind="wsd", warmup=0.03, decay=0.5),
        processes=1,
        checkpoint_seconds=30,
        base_width=64,  # of the small generator: `--parametrization` scales from it
        base_depth=2,
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    problems: int = 13_000
    """Problems that the erring teacher writes for the generators."""
    wrong_each: float = 0.1
    """Chance that the teacher gets an arithmetic operation of a problem wrong."""
    broken_share: float = 0.05
    """Programs of the teacher that do not run."""
    sizes: Mapping[str, Size] = field(
        default_factory=lambda: {
            "small": Size(hidden_size=64, heads=1),
            "large": Size(hidden_size=96, heads=2),
        }
    )
    """Two sizes, of generators and of verifiers."""
    vocab_size: int = 1024
    tokens: int = 1_300_000
    """Training tokens of a generator."""
    checkpoints: tuple[float, float] = (0.7, 0.85)
    """Where in the training the earlier checkpoints lie that give verifier data."""
    arm_problems: int = 4_500
    arm_tokens: int = 800_000
    """Problems and training tokens of the small generators that compare data."""
    rows: int = 8
    time: int = 256
    train: TrainSettings = field(default_factory=lambda: _training(5e-3))

    benchmark: int = 1_400
    """Benchmark questions with answers, for verifiers alone."""
    draws: int = 6
    """Solutions a question for the verifier's data: an equal share of each checkpoint and temperature."""
    temperatures: tuple[float, float] = (0.5, 0.7)
    verifier_tokens: int = 1_800_000
    verifier_train: TrainSettings = field(default_factory=lambda: _training(3e-3))

    test: int = 300
    samples: int = 8
    """Answers a test question that a verifier chooses among."""
    planted: int = 200
    """Near copies of each kind planted among as many times ten clean problems."""
    seeds: tuple[int, ...] = (0, 1, 2)
    workers: int = 2

    def __post_init__(self) -> None:
        if self.draws % (2 * len(CHECKPOINTS)):
            raise HornbookError(
                f"draws is {self.draws}; it must be a multiple of {2 * len(CHECKPOINTS)} "
                "(three checkpoints at two temperatures)."
            )
        if not 0 < self.checkpoints[0] < self.checkpoints[1] < 1:
            raise HornbookError(
                f"checkpoints is {self.checkpoints}; two growing shares between 0 and 1 are accepted."
            )

    def _phase(self, name: str, mixture: Mapping[str, float], tokens: int) -> PhasePlan:
        return PhasePlan(name=name, mixture=mixture, tokens=tokens, rows=self.rows, time=self.time)

    def main_phases(self) -> list[PhasePlan]:
        """One training in three stretches, whose ends are kept."""
        ends = (0.0, *self.checkpoints, 1.0)
        return [
            self._phase(name, {"problems": 1.0}, round((end - begin) * self.tokens))
            for name, begin, end in zip(CHECKPOINTS, ends, ends[1:])
        ]

    def arms(self) -> dict[str, list[PhasePlan]]:
        """Small generators of equal length on other data; "pretrained" reads other data before."""
        names = ("all", *SHARES, "exact", "noisier", "agreed", "unfiltered")
        arms = {name: [self._phase("problems", {name: 1.0}, self.arm_tokens)] for name in names}
        before = self._phase("pretraining", {"exercises": 0.5, "textbooks": 0.5}, self.arm_tokens // 3)
        arms["pretrained"] = [before, *arms["all"]]
        return arms


QUICK = Settings()
SCALES = {
    "smoke": replace(
        QUICK,
        problems=120,
        sizes={
            "small": Size(hidden_size=16, heads=1, layers=1),
            "large": Size(hidden_size=32, heads=1, layers=1),
        },
        vocab_size=320,
        tokens=12_000,
        arm_problems=60,
        arm_tokens=4_096,
        benchmark=12,
        verifier_tokens=6_000,
        test=8,
        samples=2,
        planted=10,
        seeds=(0,),
        workers=1,
    ),
    "quick": QUICK,
    "gpu": replace(
        QUICK,
        problems=400_000,
        sizes={
            "small": Size(hidden_size=256, heads=4, layers=6),
            "large": Size(hidden_size=512, heads=8, layers=12),
        },
        vocab_size=4096,
        tokens=60_000_000,
        arm_problems=300_000,
        arm_tokens=25_000_000,
        rows=128,
        benchmark=7_473,
        draws=48,
        verifier_tokens=30_000_000,
        test=1_319,
        samples=48,
        workers=1,
    ),
}


def recipe(run: Run, settings: Settings) -> None:
    """Data, generators, verifiers, the grid; the ablations; the claims."""
    s = settings
    # 1. The teacher's problems, unchecked but for running; the benchmark, of other skeletons.
    noise = {"wrong_each": s.wrong_each, "broken_share": s.broken_share}
    problems = run.step(write_word_problems, rows=s.problems, **noise)
    benchmark = run.step(write_word_problems, rows=s.benchmark, seed=BENCHMARK, held_out=True)
    test = run.step(write_word_problems, rows=s.test, seed=TEST, held_out=True)
    teacher = run.step(
        write_word_problems, rows=4 * s.test, seed=TEST, held_out=True, executed=False, **noise
    )
    other = {  # for the ablations
        "exact": run.step(write_word_problems, rows=s.arm_problems),
        "noisier": run.step(
            write_word_problems,
            rows=s.arm_problems,
            wrong_each=min(1.0, 2.5 * s.wrong_each),
            broken_share=s.broken_share,
        ),
        "agreed": run.step(write_word_problems, rows=2 * s.arm_problems, solutions=3, **noise),
        "unfiltered": run.step(write_word_problems, rows=s.arm_problems, executed=False, **noise),
    }
    generic = {
        "exercises": run.step(write_exercises, rows=s.problems // 4),
        "textbooks": run.step(write_textbooks, rows=s.problems // 4),
    }

    # 2. Tokens: loss on the programs alone.
    tokenizer = run.step(train_tokenizer, corpora=[problems, *generic.values()], vocab_size=s.vocab_size)

    def tokens(corpus: Artifact, limit: int | None = None) -> Artifact:
        return run.step(tokenize_solutions, corpus=corpus, tokenizer=tokenizer, limit=limit)

    files = {
        "problems": tokens(problems),
        "all": tokens(problems, s.arm_problems),
        **{name: tokens(problems, round(s.arm_problems * share)) for name, share in SHARES.items()},
        **{name: tokens(corpus, s.arm_problems) for name, corpus in other.items()},
        **{name: run.step(tokenize, corpus=corpus, tokenizer=tokenizer) for name, corpus in generic.items()},
    }

    # 3. Generators: two sizes, with checkpoints on the way; then small ones on other data.
    def generators(size: str, arms: Mapping[str, Sequence[PhasePlan]], keep: bool = False) -> Artifact:
        mixed = {name for plan in arms.values() for phase in plan for name in phase.mixture}
        return run.step(
            train_probes,
            model=student(**asdict(s.sizes[size]), vocab_size=s.vocab_size, max_position=2 * s.time),
            tokens={name: files[name] for name in sorted(mixed)},
            arms=arms,
            seeds=s.seeds,
            settings=s.train,
            tokenizer=tokenizer,
            validation={},
            workers=s.workers,
            keep_phases=keep,
        )

    raised = {size: generators(size, {"main": s.main_phases()}, keep=True) for size in s.sizes}
    compared = generators("small", s.arms())

    # 4. What the generators answer on benchmark questions that they never saw: the verifiers' data.
    judged = run.step(
        draw_solutions,
        generators={
            f"{size}-{seed}-{data}": {
                name: (checkpoints(raised[size], seed)[name], s.draws // (2 * len(names))) for name in names
            }
            for size in s.sizes
            for seed in s.seeds
            for data, names in (("mixed", CHECKPOINTS), ("single", CHECKPOINTS[-1:]))
            if data == "mixed" or size == "small"
        },
        questions=benchmark,
        temperatures=s.temperatures,
        workers=s.workers,
    )

    # 5. Verifiers: every size for every generator; and three that differ in one thing from small on small.
    def plan(verifier: str, generator: str, seed: int, data: str = "mixed", **more: Any) -> VerifierPlan:
        return VerifierPlan(
            start=checkpoints(raised[verifier], seed)[CHECKPOINTS[-1]],
            solutions=judged / f"{generator}-{seed}-{data}",
            seed=seed,
            **more,
        )

    plans = {
        f"{generator}-{seed}": {
            **{size: plan(size, generator, seed) for size in s.sizes},
            **(
                {
                    "last token": plan("small", "small", seed, supervision="last token"),
                    "one checkpoint": plan("small", "small", seed, data="single"),
                }
                if generator == "small"
                else {}
            ),
        }
        for generator in s.sizes
        for seed in s.seeds
    }
    verifiers = run.step(
        train_verifiers,
        verifiers={f"{name}/{kind}": one for name, kinds in plans.items() for kind, one in kinds.items()},
        tokens=s.verifier_tokens,
        rows=s.rows,
        time=s.time,
        settings=s.verifier_train,
        workers=s.workers,
    )

    # 6. The benchmark.
    grid = run.step(
        best_of_n,
        generators={
            f"{size}-{seed}": checkpoints(raised[size], seed)[CHECKPOINTS[-1]]
            for size in s.sizes
            for seed in s.seeds
        },
        questions=test,
        verifiers={
            name: {kind: verifiers / f"{name}/{kind}" for kind in kinds} for name, kinds in plans.items()
        },
        samples=s.samples,
        temperatures=s.temperatures,
        workers=s.workers,
    )
    arms = run.step(
        best_of_n,
        generators={f"{arm}-{seed}": compared / f"{arm}-{seed}" for arm in s.arms() for seed in s.seeds},
        questions=test,
        workers=s.workers,
    )
    planted = run.step(planted_contamination, clean=10 * s.planted, planted=s.planted)

    run.output(model=checkpoints(raised["large"], s.seeds[0])[CHECKPOINTS[-1]])
    study = Study(
        seeds=s.seeds,
        sizes=tuple(s.sizes),
        shares=SHARES,
        grid=grid.facts,
        arms=arms.facts,
        judged=judged.facts,
        verifiers=verifiers.facts,
        teachers={
            "all": problems.facts["teacher_right"],
            "exact": 1.0,
            "noisier": other["noisier"].facts["teacher_right"],
            "agreed": other["agreed"].facts["teacher_right"],
            "unfiltered": other["unfiltered"].facts["teacher_right"],
            "benchmark": teacher.facts["teacher_right"],
        },
        agreed=other["agreed"].facts["rows"] / other["agreed"].facts["asked"],
        planted=planted.facts,
        samples=s.samples,
    )
    judge_claims(run, study)
    write_report(run, study)


def checkpoints(raised: Artifact, seed: int) -> dict[str, Path]:
    """The checkpoints of one generator, from the first to the finished one."""
    folder = raised / f"main-{seed}"
    return {name: folder / "after" / name for name in CHECKPOINTS}
