"""Saliency that is complete and sound (Gupta, Saunshi, Yu, Lyu, Arora 2022).

A mask that shows a network what it needs to see proves little if such masks exist for wrong labels too. The
paper scores both sides; smooth, coarse masks prove true labels and fewer false ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hornbook.lab.claim import Claim
from hornbook.lab.run import Run
from hornbook.lab.statistics import paired_bootstrap
from hornbook.theory.saliency import MaskSettings
from hornbook.theory.steps_kernel import pretrain_on_toy_language
from hornbook.theory.steps_saliency import picture_saliency, prompt_saliency, train_on_scenes

TITLE = "Saliency maps that prove the true and not the false"
PAPER = "Gupta, Saunshi, Yu, Lyu, Arora 2022, arXiv 2211.02912"

FINE, SMOOTH, COARSE, BOTH = "mask", "mask + TV", "coarse mask", "coarse mask + TV"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    width: int = 16
    """Channels of the network's first layer; the others have two and four times as many."""
    training_pictures: int = 4000
    epochs: int = 8
    pictures: int = 20
    """Pictures explained, each for all six labels."""
    pool: int = 100
    """Pictures that fill in what a mask leaves out."""
    steps: int = 120
    """Of learning a mask."""
    fills: int = 2
    coarse: int = 4
    """Coarse masks are learned at 1/coarse of the resolution."""
    total_variation: float = 0.01
    baselines: tuple[str, ...] = (
        "gradient",
        "gradient x input",
        "integrated gradients",
        "occlusion",
        "random",
    )
    sentences: int = 100
    pretraining_steps: int = 500
    seed: int = 0


SCALES = {
    "smoke": Settings(
        width=4,
        training_pictures=64,
        epochs=1,
        pictures=3,
        pool=5,
        steps=2,
        baselines=("gradient", "random"),
        sentences=3,
        pretraining_steps=3,
    ),
    "quick": Settings(),
    "gpu": Settings(width=64, training_pictures=50_000, epochs=20, pictures=300, steps=1000, fills=10),
}


def recipe(run: Run, settings: Settings) -> None:
    """A picture network and a language model, every method on both, then the claims."""
    s = settings
    masks = {
        name: MaskSettings(steps=s.steps, fills=s.fills, upsample=coarse, total_variation=variation)
        for name, coarse, variation in (
            (FINE, 1, 0.0),
            (SMOOTH, 1, s.total_variation),
            (COARSE, s.coarse, 0.0),
            (BOTH, s.coarse, s.total_variation),
        )
    }
    network = run.step(
        train_on_scenes, width=s.width, pictures=s.training_pictures, epochs=s.epochs, batch=64, seed=s.seed
    )
    pictures = run.step(
        picture_saliency,
        network=network,
        pictures=s.pictures,
        pool=s.pool,
        masks=masks,
        baselines=s.baselines,
        seed=s.seed,
    ).facts
    model = run.step(
        pretrain_on_toy_language,
        hidden_size=64,
        layers=2,
        steps=s.pretraining_steps,
        batch=64,
        learning_rate=2e-3,
        seed=0,
    )
    words = run.step(
        prompt_saliency,
        model=model,
        sentences=s.sentences,
        pool=s.pool,
        masks={
            FINE: MaskSettings(steps=s.steps, fills=s.fills, upsample=1, total_variation=0.0, sparsity=0.01)
        },
        baselines=tuple(name for name in s.baselines if name != "occlusion"),
        seed=s.seed,
    ).facts
    run.report.title = TITLE
    _table(
        run, "Pictures", f"The network is right on {network.facts['accuracy']:.1%} of new pictures.", pictures
    )
    _table(run, "Words of a prompt", "Which words made the language model praise or blame.", words)

    proof = _mean(pictures[FINE]["false_proof"])
    run.claim(
        Claim(
            id="complete-maps-can-prove-the-false",
            sentence="Unregularised masks convince the network of labels it does not believe.",
            measured=proof,
            unit="largest certificate of a wrong label, mean over pictures",
            rule="above 0.5",
            holds=proof > 0.5,
        )
    )
    for name, better, worse, words_ in (
        ("tv-adds-soundness", SMOOTH, FINE, "Total variation makes masks sounder."),
        ("coarseness-adds-soundness", COARSE, FINE, "Learning masks at low resolution makes them sounder."),
        ("both-add-soundness", BOTH, FINE, "Coarse masks with total variation are sounder than free ones."),
    ):
        _compare(run, name, words_, pictures, "wrong_soundness", better, worse)
    for rival in ("gradient", "random"):
        _compare(
            run,
            f"masks-are-more-complete-than-{rival}",
            f"Learned masks are more complete than {rival} maps.",
            pictures,
            "completeness",
            BOTH,
            rival,
        )
    _compare(
        run,
        "masks-find-the-words",
        "For a language model's answer, learned masks rank the words that carry it above a random order.",
        words,
        "inside",
        FINE,
        "random",
    )


def _table(run: Run, title: str, lead: str, facts: Mapping[str, Any]) -> None:
    columns = [
        "completeness",
        "worst_completeness",
        "wrong_soundness",
        "worst_soundness",
        "false_proof",
        "inside",
    ]
    run.report.section(title, lead).table(
        ["map", *[column.replace("_", " ") for column in columns]],
        [[name, *[round(_mean(scores[c]), 3) for c in columns]] for name, scores in facts.items()],
    )


def _compare(
    run: Run, name: str, sentence: str, facts: Mapping[str, Any], what: str, better: str, worse: str
) -> None:
    gain = paired_bootstrap(facts[better][what], facts[worse][what])
    run.claim(
        Claim(
            id=name,
            sentence=sentence,
            measured=gain.difference,
            interval=(gain.low, gain.high),
            unit=what.replace("_", " "),
            rule="the 95 % bootstrap interval over inputs lies above 0",
            holds=gain.low > 0,
            why=f"{better}: {_mean(facts[better][what]):.3f}, {worse}: {_mean(facts[worse][what]):.3f}.",
        )
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
