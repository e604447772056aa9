"""Tensor Programs VI: feature learning in infinite-depth neural networks (Yang, Yu, Zhu, Hayou 2023).

The learning rate is tuned on a residual network of 4 blocks; does it serve many more? Under Depth-muP it
should, and depth should then pay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hornbook.lab.claim import Claim, over_seeds
from hornbook.lab.report import Series
from hornbook.lab.run import Run
from hornbook.lab.statistics import interval_over_seeds
from hornbook.theory.residual import ResidualSettings
from hornbook.theory.steps_depth import depth_check, layer_diversity, learning_rate_sweep, width_sweep

TITLE = "Depth-muP: one learning rate for every depth"
PAPER = "Yang, Yu, Zhu, Hayou 2023, arXiv 2310.02244"

NAMES = {
    "depth_mup": "Depth-muP (branch k^-1/2, rate k^-1/2)",
    "branch_only": "branch k^-1/2, rate unchanged",
    "mup": "nothing scaled with depth",
    "completep": "branch k^-1, rate unchanged (ODE, CompleteP)",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    data: Path | None = None
    """An .npz with x (n, h, w[, c]) uint8 and y (n,), such as MNIST; without it scikit-learn's digits."""
    image_size: int = 8
    examples: int = 1797
    width: int = 64
    depths: tuple[int, ...] = (4, 16, 64)
    widths: tuple[int, ...] = (64, 128, 256)
    """For transfer across width, at the first depth; the first is the base."""
    learning_rate_exponents: tuple[int, ...] = (-1, 0, 1, 2, 3, 4, 5)
    """Learning rates are 1e-3 times 2 to these powers."""
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    steps: int = 100
    long_steps: int = 200
    """For nonlinearities and block depths, which differ only once training is long."""
    batch: int = 64
    noise: float = 0.5
    """Standard deviation of noise added to the pixels in every step, so that the digits are not memorised."""


SCALES = {
    "smoke": Settings(
        width=16,
        depths=(4, 16),
        widths=(16, 32),
        learning_rate_exponents=(0, 2, 4),
        seeds=(0, 1),
        steps=5,
        long_steps=5,
        batch=16,
    ),
    "quick": Settings(),
    "gpu": Settings(width=256, depths=(8, 64, 512), steps=2000, long_steps=4000, seeds=(0, 1, 2, 3, 4)),
    "paper": Settings(
        width=256,
        depths=(8, 16, 32, 64, 128, 256, 512, 1024),
        steps=39_000,
        long_steps=39_000,
        seeds=(0, 1, 2, 3, 4),
    ),
}


def recipe(run: Run, settings: Settings) -> None:
    """Sweeps for four parametrizations, four kinds of blocks and two block depths; then the claims."""
    s = settings
    rates = [1e-3 * 2.0**exponent for exponent in s.learning_rate_exponents]
    # The output is 10 classes; images come as vectors of image_size^2 numbers a channel.
    network = ResidualSettings(inputs=_inputs(s), outputs=10, width=s.width, base_depth=s.depths[0])
    data: dict[str, Any] = {"data": s.data, "image_size": s.image_size, "examples": s.examples}
    sweep: dict[str, Any] = {**data, "seeds": s.seeds, "batch": s.batch, "noise": s.noise}
    ends = (s.depths[0], s.depths[-1])
    middle = rates[1:-1] if len(rates) > 4 else rates  # the long runs: only where the optimum was

    checks = {
        name: run.step(
            depth_check,
            network=replace(network, parametrization=name),
            depths=s.depths,
            learning_rate=4e-3,
            seeds=s.seeds,
            **data,
        )
        for name in NAMES
    }
    sweeps = {
        name: run.step(
            learning_rate_sweep,
            network=replace(network, parametrization=name),
            depths=s.depths,
            learning_rates=rates,
            steps=s.steps,
            **sweep,
        )
        for name in NAMES
    }
    blocks = {
        name: run.step(
            learning_rate_sweep,
            network=replace(network, **change),
            depths=ends[1:],
            learning_rates=middle,
            steps=s.long_steps,
            **sweep,
        )
        for name, change in BLOCKS.items()
    }
    halved = replace(network, block_depth=2, base_depth=max(1, ends[0] // 2))
    deep_blocks = run.step(
        learning_rate_sweep,
        network=halved,
        depths=[depth // 2 for depth in ends],
        learning_rates=rates,
        steps=s.long_steps,
        **sweep,
    )
    wide = {
        name: run.step(
            width_sweep,
            network=replace(network, parametrization=name, depth=ends[0], base_width=s.widths[0]),
            widths=s.widths,
            learning_rates=rates,
            steps=s.steps,
            **sweep,
        )
        for name in WIDTH_NAMES
    }
    kappas = {
        name: run.step(
            layer_diversity,
            network=replace(network, parametrization=name, depth=ends[1], nonlinearity="abs"),
            learning_rate=2e-3,
            seeds=s.seeds,
            steps=s.steps,
            batch=s.batch,
            **data,
        )
        for name in ("depth_mup", "completep")
    }

    facts = {name: made.facts for name, made in sweeps.items()}
    _report(run, facts, s)
    _report_blocks(run, {name: made.facts for name, made in blocks.items()}, deep_blocks.facts, ends[1])
    widening = {name: made.facts for name, made in wide.items()}
    _report_widths(run, widening, ends[0])
    _claim_of_coordinates(run, {name: made.facts for name, made in checks.items()})
    _claims_of_transfer(run, facts, ends)
    _claim_of_width(run, widening)
    _claim_of_better(
        run,
        "abs-beats-relu",
        "abs, whose derivative decorrelates the layers' gradients, trains deep networks better than relu.",
        _best_deep(blocks["relu"].facts),
        _best_deep(blocks["abs"].facts),
    )
    _claim_of_better(
        run,
        "relu-behind-the-weights-beats-relu-before",
        "A nonlinearity behind the block's weights trains deep networks better than one before them.",
        _best_deep(blocks["relu before the weights"].facts),
        _best_deep(blocks["relu"].facts),
    )
    _claim_of_better(
        run,
        "one-layer-blocks-beat-two",
        "At equal numbers of layers, blocks of one layer train better than blocks of two.",
        _best_deep(deep_blocks.facts),
        _best_deep(blocks["relu"].facts),
    )
    diverse, smooth = (kappas[name].facts["kappa"] for name in ("depth_mup", "completep"))
    interval = interval_over_seeds(diverse)
    holds = None
    if interval is not None:
        holds = interval.low > 0.4 and interval.high < 0.6
        holds = holds and all(a > b for a, b in zip(diverse, smooth, strict=True))
    run.claim(
        Claim(
            id="layers-stay-diverse",
            sentence="Trained under Depth-muP, features differ over depth like a random walk (kappa = 1/2).",
            paper_value=0.5,
            measured=sum(diverse) / len(diverse),
            interval=interval,
            rule="the 95 % interval within 0.1 of 1/2, and above the ODE scaling's in every seed",
            holds=holds,
            why=f"The ODE scaling gives {sum(smooth) / len(smooth):.2f}; it falls to 0 with depth.",
        )
    )


BLOCKS: dict[str, dict[str, Any]] = {
    "relu": {},
    "abs": {"nonlinearity": "abs"},
    "tanh": {"nonlinearity": "tanh"},
    "relu before the weights": {"order": "pre"},
}


def _claim_of_coordinates(run: Run, checks: Mapping[str, Mapping[str, Any]]) -> None:
    last = {
        name: [seed[-1] for seed in facts["changes"] if seed[-1] is not None]
        for name, facts in checks.items()
    }
    interval = interval_over_seeds(last["depth_mup"])
    run.claim(
        Claim(
            id="coordinates-do-not-move-with-depth",
            sentence="Under Depth-muP features change as much in the first four steps at every depth.",
            paper_value=0.0,
            measured=_average(last["depth_mup"]),
            interval=interval,
            unit="log-log slope over depth",
            rule="the 95 % interval over seeds within 0.15 of 0",
            holds=None if interval is None else interval.low > -0.15 and interval.high < 0.15,
            why=f"Without the rate factor the slope is {_average(last['branch_only']):.2f}.",
        )
    )


WIDTH_NAMES = {"depth_mup": "muP", "standard": "standard"}


def _report_widths(run: Run, sweeps: Mapping[str, Mapping[str, Any]], depth: int) -> None:
    section = run.report.section("Across width", f"The same sweep at {depth} blocks.")
    for name, facts in sweeps.items():
        section.curves(
            f"{WIDTH_NAMES[name]}: training loss against the learning rate, one line a width",
            {f"width {width}": _line(c) for width, c in zip(facts["widths"], facts["curves"], strict=True)},
            x_label="learning rate at the base width",
            y_label="log of the training loss",
            log_x=True,
        )


def _claim_of_width(run: Run, sweeps: Mapping[str, Mapping[str, Any]]) -> None:
    ours, theirs = ([_finite(p) for p in sweeps[name]["penalty"]] for name in ("depth_mup", "standard"))
    more = [b - a for a, b in zip(ours, theirs, strict=True)]
    interval = interval_over_seeds(more)
    first, last = sweeps["depth_mup"]["widths"][0], sweeps["depth_mup"]["widths"][-1]
    run.claim(
        Claim(
            id="the-rate-transfers-across-width",
            sentence=f"A rate tuned at width {first} costs loss at width {last}, and not under muP.",
            measured=_average(more),
            interval=interval,
            unit="log loss paid at the transferred rate, beyond muP's",
            rule="the 95 % interval over seeds lies above 0 and muP pays less than 0.1 on average",
            holds=None if interval is None else interval.low > 0 and _average(ours) < 0.1,
            noise=interval is not None and interval.low <= 0 <= interval.high,
            why=f"muP pays {_average(ours):.2f}.",
        )
    )
    lost = {name: [_finite(None if g is None else -g) for g in sweeps[name]["gain"]] for name in sweeps}
    _claim_of_better(
        run,
        "width-pays-under-mup",
        f"At the rate tuned at width {first}, width {last} gains more loss under muP than in standard form.",
        lost["standard"],
        lost["depth_mup"],
        unit="log loss gained by width, beyond standard's",
    )


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _inputs(settings: Settings) -> int:
    from hornbook.theory.images import load_images

    channels = load_images(settings.data, limit=1).x.shape[1]
    return channels * settings.image_size**2


def _report(run: Run, sweeps: Mapping[str, Mapping[str, Any]], s: Settings) -> None:
    run.report.title = TITLE
    for name, facts in sweeps.items():
        run.report.section(NAMES[name]).curves(
            "Training loss against the learning rate, one line a depth",
            {f"{curve['depth']} blocks": _line(curve) for curve in facts["curves"]},
            x_label=f"learning rate at {s.depths[0]} blocks",
            y_label="log of the training loss",
            log_x=True,
            note=f"Mean and 95 % interval of {len(s.seeds)} seeds, last quarter of {s.steps} steps. Rates "
            "at which a seed diverged are left out.",
        )


def _line(curve: Mapping[str, Any]) -> Series:
    by_rate = zip(curve["learning_rates"], zip(*curve["log_loss"], strict=True), strict=True)
    kept = [(rate, losses) for rate, losses in by_rate if _mean(losses) is not None]
    return Series.over_seeds(kept)


def _report_blocks(
    run: Run, blocks: Mapping[str, Mapping[str, Any]], deep: Mapping[str, Any], layers: int
) -> None:
    lines = {name: _line(facts["curves"][-1]) for name, facts in blocks.items()}
    lines["relu, blocks of two layers"] = _line(deep["curves"][-1])
    run.report.section("Kinds of blocks", f"Depth-muP at {layers} layers, longer training.").curves(
        "Training loss against the learning rate",
        lines,
        x_label="learning rate at the base depth",
        y_label="log of the training loss",
        log_x=True,
    )


def _mean(losses: Sequence[float | None]) -> float | None:
    known = [loss for loss in losses if loss is not None]
    return _average(known) if len(known) == len(losses) else None


def _claims_of_transfer(run: Run, sweeps: Mapping[str, Mapping[str, Any]], ends: tuple[int, int]) -> None:
    shifts = sweeps["depth_mup"]["shift"]
    known = [shift for shift in shifts if shift is not None]
    middle = sum(known) / len(known) if known else None
    interval = interval_over_seeds(known)
    run.claim(
        Claim(
            id="the-best-rate-stays",
            sentence=f"The best learning rate at {ends[1]} blocks is that at {ends[0]} blocks.",
            paper_value=0.0,
            measured=middle,
            interval=interval,
            unit="log2 of the ratio of best rates",
            rule="the 95 % interval over seeds lies within a factor of two (1), no seed diverged",
            holds=None
            if len(shifts) < 2
            else len(known) == len(shifts) and interval is not None and max(map(abs, interval)) <= 1,
        )
    )
    own = [_finite(p) for p in sweeps["depth_mup"]["penalty"]]
    for other, wanted in (("branch_only", "without the rate factor"), ("mup", "without any depth rule")):
        theirs = [_finite(p) for p in sweeps[other]["penalty"]]
        more = [b - a for a, b in zip(own, theirs, strict=True)]
        capped = any(p >= DIVERGED for p in theirs)
        interval = interval_over_seeds(more)
        run.claim(
            Claim(
                id=f"transfer-fails-{other.replace('_', '-')}",
                sentence=f"Transferring the rate costs loss {wanted}, and not under Depth-muP.",
                measured=sum(more) / len(more),
                interval=interval,
                unit="log loss paid at the transferred rate, beyond Depth-muP's",
                rule="the 95 % interval over seeds lies above 0 and Depth-muP pays less than 0.1 on average",
                holds=None if interval is None else interval.low > 0 and _average(own) < 0.1,
                why=f"Depth-muP pays {_average(own):.2f}."
                + (f" A run that diverged or did not learn counts as {DIVERGED:g}." if capped else ""),
            )
        )
    gains = [_finite(-g if g is not None else None) for g in sweeps["depth_mup"]["gain"]]
    run.claim(
        over_seeds(
            "depth-pays",
            "At the transferred rate, the deeper network reaches the lower training loss.",
            [-gain for gain in gains],
            above=0.0,
            unit="log loss gained",
        )
    )


DIVERGED = 3.0
"""What a diverged run counts in differences of log losses."""


def _finite(value: float | None) -> float:
    return DIVERGED if value is None else min(float(value), DIVERGED)


def _best_deep(facts: Mapping[str, Any]) -> list[float]:
    """The deepest network's best log loss over rates, one number a seed."""
    return [
        min((loss for loss in row if loss is not None), default=DIVERGED)
        for row in facts["curves"][-1]["log_loss"]
    ]


def _claim_of_better(
    run: Run,
    name: str,
    sentence: str,
    worse: list[float],
    better: list[float],
    unit: str = "log loss gained, each at its best rate",
) -> None:
    gains = [a - b for a, b in zip(worse, better, strict=True)]
    run.claim(over_seeds(name, sentence, gains, above=0.0, unit=unit))
