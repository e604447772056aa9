"""Enhanced convolutional neural tangent kernels (Li, Wang, Yu, Du, Hu, Salakhutdinov, Arora 2019).

Kernel regression with the kernels of infinitely wide convolutional networks, with no pooling, with local
average pooling (LAP) and with global average pooling (GAP). LAP should win.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hornbook.lab.claim import over_seeds
from hornbook.lab.run import Run
from hornbook.theory.steps_cntk import kernel_accuracies

TITLE = "Enhanced CNTK: local average pooling in kernel space"
PAPER = "Li, Wang, Yu, Du, Hu, Salakhutdinov, Arora 2019, arXiv 1911.00809"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    data: Path | None = None
    """An .npz with x (n, h, w[, c]) uint8 and y (n,), such as CIFAR-10; without it scikit-learn's digits."""
    image_size: int = 8
    """Images are averaged down to this many pixels a side."""
    train: int = 150
    test: int = 600
    """Half of them choose the pooling, half judge it."""
    depths: tuple[int, ...] = (1, 3, 5)
    pools: tuple[int, ...] = (0, 1, 2, 3, 8)
    """The last must be the image size: GAP."""
    flips: bool = False
    """Average with mirrored images; wrong for digits, right for photographs."""
    ridges: tuple[float, ...] = (5e-5, 1e-3, 1e-2)
    """Candidates, added to the unit diagonal; the validation images choose. The paper's is 5e-5."""
    patches: int = 32
    """Random patches of the training images as filters, for a second table; 0 leaves it out."""
    patch_size: int = 3
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


SCALES = {
    "smoke": Settings(train=20, test=20, depths=(1, 2), pools=(0, 1, 8), patches=2, seeds=(0, 1)),
    "quick": Settings(),
    "gpu": Settings(
        image_size=32,
        train=2000,
        test=2000,
        depths=(5, 8),
        pools=(0, 4, 8, 12, 32),
        flips=True,
        patches=256,
        patch_size=5,
    ),
    "paper": Settings(
        image_size=32,
        train=50_000,
        test=10_000,
        depths=(5, 8, 11, 14),
        pools=(0, 4, 8, 12, 16, 20, 24, 28, 32),
        flips=True,
        patches=2048,
        patch_size=5,
        seeds=(0,),
    ),
}


def recipe(run: Run, settings: Settings) -> None:
    """One step computes every kernel in one pass; the claims compare pooling sizes over seeds."""
    s = settings
    common: dict[str, Any] = {
        "data": s.data,
        "image_size": s.image_size,
        "train": s.train,
        "test": s.test,
        "depths": s.depths,
        "flips": s.flips,
        "patch_size": s.patch_size,
        "ridges": s.ridges,
        "seeds": s.seeds,
    }
    facts = run.step(kernel_accuracies, pools=s.pools, patches=0, **common).facts
    run.report.title = TITLE
    _report(run, facts, s, s.image_size)
    _claims_of_pooling(run, facts)
    if s.patches:
        # Features are smaller than the pictures; GAP is the size of the features.
        size = s.image_size - s.patch_size + 1
        pools = (*[c for c in s.pools if c < size - 1], size)
        richer = run.step(kernel_accuracies, pools=pools, patches=s.patches, **common).facts
        _report(run, richer, s, size)
        _claim_of_patches(run, facts, richer)


def _report(run: Run, facts: Mapping[str, Any], s: Settings, size: int) -> None:
    run.report.section(
        "Random patch features" if "patches" in facts["data"] else "Pixels",
        f"Test accuracy in percent on {facts['data']}, mean over {len(s.seeds)} draws of {s.train} "
        "training images.",
    )
    for kernel, rows in facts["accuracies"]["test"].items():
        run.report.heat_map(
            kernel.upper(),
            [f"{depth} layers" for depth in s.depths],
            [_pool_name(c, size) for c in facts["pools"]],
            [[100 * sum(cell) / len(cell) for cell in row] for row in rows],
            unit="%",
        )


def _claim_of_patches(run: Run, pixels: Mapping[str, Any], patches: Mapping[str, Any]) -> None:
    for kernel in ("cntk", "cnn-gp"):
        ours, theirs = (_best(facts, kernel, range(len(facts["pools"]))) for facts in (patches, pixels))
        gains = [100 * (a - b) for a, b in zip(ours, theirs, strict=True)]
        run.claim(
            over_seeds(
                f"{kernel}-patches-beat-pixels",
                f"With {kernel.upper()}, random patch features are more accurate than pixels.",
                gains,
                above=0.0,
                unit="percentage points",
                why="The paper gains 7 points on CIFAR-10, with 2,048 patches; here it is "
                f"{patches['data']}.",
            )
        )


def _claims_of_pooling(run: Run, facts: Mapping[str, Any]) -> None:
    for kernel in ("cntk", "cnn-gp"):
        chosen, none, whole = _test_accuracies(facts, kernel)
        for rival, name, words in ((none, "none", "no pooling"), (whole, "gap", "global average pooling")):
            gains = [100 * (a - b) for a, b in zip(chosen, rival, strict=True)]
            run.claim(
                over_seeds(
                    f"{kernel}-lap-beats-{name}",
                    f"With {kernel.upper()}, local average pooling is more accurate than {words}.",
                    gains,
                    above=0.0,
                    unit="percentage points",
                    why="The paper gains 2 to 14 points on CIFAR-10 and 1 to 2 on Fashion-MNIST; here it is "
                    f"{facts['data']}.",
                )
            )


def _pool_name(c: int, size: int) -> str:
    return "none" if c == 0 else "GAP" if c >= size else f"LAP {c}"


def _test_accuracies(facts: Mapping[str, Any], kernel: str) -> tuple[list[float], list[float], list[float]]:
    """Per seed: LAP with depth and c chosen on validation; no pooling and GAP, each at its best depth."""
    last = len(facts["pools"]) - 1
    lap, none, gap = (_best(facts, kernel, p) for p in (range(1, last), range(1), range(last, last + 1)))
    return lap, none, gap


def _best(facts: Mapping[str, Any], kernel: str, pools: range) -> list[float]:
    """Test accuracy of each seed at the depth and the one of `pools` that are best on validation images."""
    validation, test = (facts["accuracies"][part][kernel] for part in ("validation", "test"))
    out = []
    for seed in range(len(test[0][0])):
        cells = [(d, p) for d in range(len(test)) for p in pools]
        depth, pool = max(cells, key=lambda at: validation[at[0]][at[1]][seed])
        out.append(test[depth][pool][seed])
    return out
