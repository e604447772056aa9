"""phi-2: does a larger model that begins as a smaller one learn faster than one that begins with nothing?

"Phi-2: The surprising power of small language models" (Microsoft Research, December 2023): scaled up from
phi-1.5 with knowledge transfer, said to converge faster and to score higher; how was never published. Here
the well-understood way (Net2Net, bert2BERT, LEMON: `train/growth.py`), at the size of a laptop: a small
phi-1.5 on textbooks and filtered web, larger ones that begin as it or with random weights.

    hornbook run phi2 --scale quick
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from hornbook.curate.annotated import choose_educational, fit_on_ratings
from hornbook.data.steps import split, tokenize, train_tokenizer
from hornbook.errors import HornbookError
from hornbook.evals.commonsense import examine_commonsense
from hornbook.lab.claim import over_seeds
from hornbook.lab.report import Series
from hornbook.lab.run import Run
from hornbook.lab.statistics import shown_over_seeds
from hornbook.lab.step import Artifact
from hornbook.model.config import ModelConfig
from hornbook.model.presets import preset
from hornbook.synth.steps import write_commonsense, write_commonsense_web
from hornbook.train.pretrain import PhasePlan
from hornbook.train.probes import train_probes
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

TITLE = "phi-2: scaled up from a smaller model"
PAPER = "Microsoft Research 2023, Phi-2: The surprising power of small language models"

SMALL, SCRATCH, GROWN, LONGER = "phi-1.5", "from nothing", "grown", "from nothing, longer"
"""The small one; the large ones, and one that is given the small one's computation, too."""
BOTH = {"textbooks": 0.5, "filtered": 0.5}
TESTED = 1
"""Seed of the items."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    textbooks: int = 6_000
    """Textbook passages."""
    web: int = 30_000
    """Posts of the web, of which a filter keeps `share`."""
    rated: int = 1_000
    share: float = 0.2
    validation: float = 0.05
    """Share of both that is held out."""
    items: int = 400
    vocab_size: int = 1024
    head_size: int = 32
    small_width: int = 32
    small_layers: int = 2
    large_width: int = 64
    large_layers: int = 4
    small_tokens: int = 600_000
    tokens: int = 600_000
    """Training tokens of a large one."""
    shares: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Lengths of training, as shares of `tokens`: each a training of its own, whose rate falls at its end."""
    rows: int = 8
    time: int = 256
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            optimizer=OptimizerSettings(kind="muon", learning_rate=5e-3),
            schedule=Schedule(kind="wsd", warmup=0.03, decay=0.4),
            processes=1,
            checkpoint_seconds=30,
        )
    )
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    workers: int = 2

    def __post_init__(self) -> None:
        for name in ("small_width", "large_width"):
            if getattr(self, name) % self.head_size:
                raise HornbookError(f"{name} is {getattr(self, name)}, no multiple of head_size.")
        if not {0.5, 1.0} <= set(self.shares) or min(self.shares) <= 0 or max(self.shares) > 1:
            raise HornbookError(
                f"shares is {self.shares}; shares above 0 are accepted, 0.5 and 1 among them, none above 1."
            )

    def shape(self, width: int, layers: int) -> ModelConfig:
        """phi-2 in small: parallel blocks, LayerNorm, biases, part of each head rotated."""
        return replace(
            preset("phi-2"),
            vocab_size=self.vocab_size,
            hidden_size=width,
            layers=layers,
            heads=width // self.head_size,
            kv_heads=0,
            head_dim=self.head_size,
            intermediate_size=4 * width,
            rotary_fraction=0.5,
            max_position=2 * self.time,
            residual_dropout=0.0,
            bos_id=0,
            eos_ids=(0,),
        )

    @property
    def small(self) -> ModelConfig:
        return self.shape(self.small_width, self.small_layers)

    @property
    def large(self) -> ModelConfig:
        return self.shape(self.large_width, self.large_layers)

    def _plan(self, tokens: float) -> list[PhasePlan]:
        return [PhasePlan(name="all", mixture=BOTH, tokens=round(tokens), rows=self.rows, time=self.time)]

    def small_arms(self) -> dict[str, list[PhasePlan]]:
        return {SMALL: self._plan(self.small_tokens)}

    def large_arms(self) -> dict[str, list[PhasePlan]]:
        """Both beginnings at every length; and from nothing with the computation that the small one took
        besides (6 operations a weight and token)."""
        more = self.small_tokens * self.small.parameters() / self.large.parameters()
        arms = {
            arm_of(begun, share): self._plan(share * self.tokens)
            for begun in (SCRATCH, GROWN)
            for share in self.shares
        }
        return arms | {LONGER: self._plan(self.tokens + more)}


def arm_of(begun: str, share: float) -> str:
    """The name of an arm: how it begins, and the share of the tokens that it reads."""
    return f"{begun}, {share:.0%}"


QUICK = Settings()
SCALES = {
    "smoke": replace(
        QUICK,
        textbooks=80,
        web=400,
        rated=200,
        items=8,
        vocab_size=320,
        head_size=16,
        small_width=16,
        small_layers=1,
        large_width=32,
        large_layers=2,
        small_tokens=8_192,
        tokens=8_192,
        shares=(0.5, 1.0),
        seeds=(0,),
        workers=1,
    ),
    "quick": QUICK,
    "gpu": replace(
        QUICK,
        textbooks=200_000,
        web=1_000_000,
        rated=20_000,
        items=4_000,
        vocab_size=4096,
        head_size=64,
        small_width=512,
        small_layers=12,
        large_width=1024,
        large_layers=24,
        small_tokens=60_000_000,
        tokens=120_000_000,
        rows=64,
        workers=1,
    ),
}


def recipe(run: Run, settings: Settings) -> None:
    """Textbooks and filtered web; small ones; large ones that begin as them or with nothing; the claims."""
    s = settings
    # 1. What phi-1.5 and phi-2 read: textbooks, and what a filter keeps of the web.
    web = run.step(write_commonsense_web, rows=s.web)
    classifier = run.step(fit_on_ratings, corpus=web, count=s.rated)
    parts = {
        "textbooks": run.step(
            split, corpus=run.step(write_commonsense, rows=s.textbooks), share=s.validation
        ),
        "filtered": run.step(
            split,
            corpus=run.step(choose_educational, corpus=web, educational=classifier, share=s.share),
            share=s.validation,
        ),
    }
    tokenizer = run.step(
        train_tokenizer, corpora=[part / "train" for part in parts.values()], vocab_size=s.vocab_size
    )
    tokens, held_out = (
        {name: run.step(tokenize, corpus=part / side, tokenizer=tokenizer) for name, part in parts.items()}
        for side in ("train", "validation")
    )

    # 2. Small ones; and large ones, half of which begin as the small one of their seed.
    training = {
        "tokens": tokens,
        "seeds": s.seeds,
        "settings": s.train,
        "tokenizer": tokenizer,
        "validation": held_out,
        "workers": s.workers,
    }
    small = run.step(train_probes, model=s.small, arms=s.small_arms(), **training)
    large = run.step(
        train_probes,
        model=s.large,
        arms=s.large_arms(),
        grown_from={
            f"{arm_of(GROWN, share)}-{seed}": small / f"{SMALL}-{seed}"
            for share in s.shares
            for seed in s.seeds
        },
        **training,
    )
    run.output(model=large / f"{arm_of(GROWN, 1)}-{s.seeds[0]}")

    # 3. Items on what no text tells of.
    examined = run.step(
        examine_commonsense,
        students={
            **{f"{SMALL}/{seed}": small / f"{SMALL}-{seed}" for seed in s.seeds},
            **{f"{arm}/{seed}": large / f"{arm}-{seed}" for arm in s.large_arms() for seed in s.seeds},
        },
        count=s.items,
        seed=TESTED,
    )
    bits = {**_bits(small), **_bits(large)}
    right = {
        arm: [examined.facts[f"{arm}/{seed}"]["accuracy"] for seed in s.seeds]
        for arm in (SMALL, *s.large_arms())
    }
    _claims(run, s, bits, right)
    _report(run, s, bits, right)


def _bits(raised: Artifact) -> dict[str, list[float]]:
    return {arm: domains["all"] for arm, domains in raised.facts["bits_per_byte"].items()}


def _claims(
    run: Run, s: Settings, bits: Mapping[str, Sequence[float]], right: Mapping[str, Sequence[float]]
) -> None:
    """Differences between arms, one number a seed: bits per byte of held-out text, or share of right ends."""

    def compare(
        name: str, sentence: str, more: Sequence[float], less: Sequence[float], unit: str, paper: str = ""
    ) -> None:
        run.claim(
            over_seeds(
                name,
                sentence,
                [a - b for a, b in zip(more, less, strict=True)],
                above=0.0,
                paper_value=paper or None,
                unit=unit,
                why=f"{fmean(more):.3f} against {fmean(less):.3f}.",
            )
        )

    whole, grown = bits[arm_of(SCRATCH, 1)], bits[arm_of(GROWN, 1)]
    compare(
        "transfer-lowers-loss",
        "Begun as the small one, the large one is better than begun with nothing, on as many tokens.",
        whole,
        grown,
        "bits per byte gained",
        "faster convergence (a figure)",
    )
    compare(
        "transfer-pays",
        "It is better, too, than one from nothing that is given the small one's computation besides.",
        bits[LONGER],
        grown,
        "bits per byte gained",
    )
    compare(
        "converges-faster",
        "On half the tokens the grown one is better than the other on all of them.",
        whole,
        bits[arm_of(GROWN, 0.5)],
        "bits per byte gained",
        "faster convergence (a figure)",
    )
    compare(
        "benchmarks-rise",
        "The grown one has more common sense.",
        right[arm_of(GROWN, 1)],
        right[arm_of(SCRATCH, 1)],
        "difference of accuracy",
        "a clear boost in benchmark scores (a figure)",
    )
    first = min(s.shares)
    early = [a - b for a, b in zip(bits[arm_of(SCRATCH, first)], bits[arm_of(GROWN, first)], strict=True)]
    late = [a - b for a, b in zip(whole, grown, strict=True)]
    compare(
        "head-start-wears-off",
        "The head start is largest where training is shortest.",
        early,
        late,
        "bits per byte of head start",
    )


def _report(
    run: Run, s: Settings, bits: Mapping[str, Sequence[float]], right: Mapping[str, Sequence[float]]
) -> None:
    report = run.report
    report.title = TITLE
    report.section(
        "Students",
        f"Small: {s.small.parameters():,} parameters, {s.small_tokens:,} tokens. Large: "
        f"{s.large.parameters():,} parameters, up to {s.tokens:,} tokens. {s.items} items on pairs of thing "
        "and question that no text tells of; chance is 0.5.",
    )
    lengths = {SMALL: s.small_tokens} | {arm: plan[0].tokens for arm, plan in s.large_arms().items()}
    report.table(
        ["student", "tokens", "bits per byte, held out", "right ends"],
        [
            [arm, f"{count:,}", shown_over_seeds(bits[arm]), shown_over_seeds(right[arm])]
            for arm, count in lengths.items()
        ],
        title="Students by their beginning",
    )
    for title, unit, values in (
        ("Loss on held-out text", "bits per byte", bits),
        ("Common sense", "share of right ends", right),
    ):
        report.curves(
            title,
            {
                begun: Series.over_seeds(
                    (share * s.tokens, values[arm_of(begun, share)]) for share in s.shares
                )
                for begun in (SCRATCH, GROWN)
            },
            x_label="training tokens of the large one",
            y_label=unit,
            note="Every point is a training of its own; Student's 95 % interval over seeds.",
        )
