"""Saliency that is complete and sound (Gupta, Saunshi, Yu, Lyu, Arora 2022).

A mask that shows a network what it needs to see proves little if such masks exist for wrong labels too. The
paper scores both sides; smooth, coarse masks prove true labels and fewer false ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hornbook.lab.claim import Claim
from hornbook.lab.report import Picture
from hornbook.lab.run import Run
from hornbook.lab.statistics import bootstrap_interval, paired_bootstrap
from hornbook.lab.step import Artifact
from hornbook.theory.saliency import MaskSettings
from hornbook.theory.steps_kernel import pretrain_on_toy_language
from hornbook.theory.steps_saliency import SHOWN, picture_saliency, prompt_saliency, train_picture_network

TITLE = "Saliency maps that prove the true and not the false"
PAPER = "Gupta, Saunshi, Yu, Lyu, Arora 2022, arXiv 2211.02912"

FINE, SMOOTH, COARSE, BOTH = "mask", "mask + TV", "coarse mask", "coarse mask + TV"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    data: Path | None = None
    """An .npz with x (n, h, w[, c]) uint8 and y (n,), such as CIFAR-10; None: generated pictures."""
    width: int = 16
    """Channels of the network's first layer; the others have two and four times as many."""
    training_pictures: int = 4000
    epochs: int = 8
    pictures: int = 8
    """Pictures explained for each network, each for all labels."""
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
    """Ours, and with Captum installed `captum: guided backpropagation`, `captum: grad-cam` and others."""
    sentences: int = 100
    pretraining_steps: int = 500
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the networks."""


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
        seeds=(0,),
    ),
    "quick": Settings(),
    "gpu": Settings(width=64, training_pictures=50_000, epochs=20, pictures=100, steps=1000, fills=10),
}


def recipe(run: Run, settings: Settings) -> None:
    """Picture networks and a language model, every method on each, then the claims."""
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
    networks, explained = [], []
    for seed in s.seeds:
        network = run.step(
            train_picture_network,
            data=s.data,
            width=s.width,
            training=s.training_pictures,
            epochs=s.epochs,
            batch=64,
            seed=seed,
        )
        networks.append(network)
        explained.append(
            run.step(
                picture_saliency,
                network=network,
                data=s.data,
                pictures=s.pictures,
                pool=s.pool,
                masks=masks,
                baselines=s.baselines,
                seed=seed,
            )
        )
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
        baselines=tuple(n for n in s.baselines if n != "occlusion" and not n.startswith("captum")),
        seed=s.seeds[0],
    ).facts
    grey, random = (_joined([made.facts[fill] for made in explained]) for fill in ("grey", "random"))
    right = [network.facts["accuracy"] for network in networks]
    run.report.title = TITLE
    _grid(run, explained[0], networks[0].facts["names"])
    lead = (
        f"{len(s.seeds)} networks, right on {_mean(right):.1%} of new pictures; {s.pictures} pictures each."
    )
    _table(run, "Pictures, the rest grey", lead, grey)
    _table(run, "Pictures, the rest from other pictures", lead, random)
    _words(run, words)
    _table(
        run, "Words of a prompt", "The same measures: places left out get the mean embedding.", words["grey"]
    )
    _claims(run, grey, words["grey"])


def _claims(run: Run, pictures: Mapping[str, Any], words: Mapping[str, Any]) -> None:
    proof = pictures[FINE]["false_proof"]
    low, high = bootstrap_interval(proof)
    run.claim(
        Claim(
            id="complete-maps-can-prove-the-false",
            sentence="Unregularised masks convince the network of labels it does not believe.",
            measured=_mean(proof),
            interval=(low, high),
            unit="largest certificate of a wrong label",
            rule="the 95 % bootstrap interval over pictures lies above 0.5",
            holds=low > 0.5,
            noise=low <= 0.5 <= high,
        )
    )
    for name, better, worse, sentence in (
        ("tv-adds-soundness", SMOOTH, FINE, "Total variation makes masks sounder."),
        ("coarseness-adds-soundness", COARSE, FINE, "Learning masks at low resolution makes them sounder."),
        ("both-add-soundness", BOTH, FINE, "Coarse masks with total variation are sounder than free ones."),
    ):
        _compare(run, name, sentence, pictures, "wrong_soundness", better, worse)
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
        unit="share of the best-ranked words that carry the label",
    )


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Scores of several networks, one list for all their pictures."""
    return {
        method: {name: [value for part in parts for value in part[method][name]] for name in scores}
        for method, scores in parts[0].items()
    }


COLUMNS = {
    "completeness": "completeness",
    "worst_completeness": "worst completeness",
    "wrong_soundness": "soundness, wrong labels",
    "worst_soundness": "worst soundness",
    "false_proof": "best proof of a wrong label",
    "certified": "certifies the answer",
    "inside": "inside the object",
}


def _table(run: Run, title: str, lead: str, facts: Mapping[str, Any]) -> None:
    columns = [column for column in COLUMNS if column in next(iter(facts.values()))]
    run.report.section(title, lead).table(
        ["map", *[COLUMNS[column] for column in columns]],
        [[name, *[round(_mean(scores[c]), 3) for c in columns]] for name, scores in facts.items()],
        note="Worst: least over all labels, mean over inputs. Complete and sound is 1.",
    )


def _grid(run: Run, made: Artifact, names: Sequence[str]) -> None:
    """Pictures beside their maps, for the label the network gives and for its second choice."""
    with np.load(made / SHOWN) as file:
        shown = {name: file[name] for name in file.files}
    methods = [str(name) for name in shown["methods"]]
    rows = []
    for i, picture in enumerate(shown["pictures"][:4]):
        for place, which in enumerate(("answer", "second choice")):
            label, p = names[int(shown["labels"][i, place])], float(shown["p"][i, place])
            maps = [
                Picture(
                    pixels=_shaded(shown["maps"][m, i, place]), caption=f"q = {shown['q'][m, i, place]:.2f}"
                )
                for m in range(len(methods))
            ]
            rows.append((f"{which}: {label}", [Picture(pixels=picture, caption=f"p = {p:.2f}"), *maps]))
    run.report.section(
        "Pictures, masks and scores",
        "Each map is for the label of its row: p is what the network gives it, q what the map proves by "
        "showing its best places first. Complete: q reaches p for the answer. Sound: q stays at p for the "
        "second choice.",
    ).pictures("Maps of the first network", ["picture", *methods], rows)


def _shaded(values: Any) -> Any:
    """A map as grey levels from its least to its largest value (learned masks: from 0 to 1)."""
    values = values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1 and high > 0.05:
        low, high = 0.0, 1.0
    return ((values - low) / (high - low if high > low else 1) * 255).round().astype(np.uint8)


def _words(run: Run, words: Mapping[str, Any]) -> None:
    section = run.report.section("Which words made the language model answer")
    for example in words["examples"]:
        section.tokens(
            f"\u201c{example['answer']}\u201d, probability {example['probability']:.2f}",
            [(f"{word} ", value) for word, value in zip(example["words"], example["mask"], strict=True)],
            label="learned mask",
            low=0.0,
            high=1.0,
        )


def _compare(
    run: Run,
    name: str,
    sentence: str,
    facts: Mapping[str, Any],
    what: str,
    better: str,
    worse: str,
    unit: str = "",
) -> None:
    if what not in facts[better] or worse not in facts:
        return
    gain = paired_bootstrap(facts[better][what], facts[worse][what])
    run.claim(
        Claim(
            id=name,
            sentence=sentence,
            measured=gain.difference,
            interval=(gain.low, gain.high),
            unit=unit or COLUMNS[what],
            rule="the 95 % bootstrap interval over inputs lies above 0",
            holds=gain.low > 0,
            noise=gain.low <= 0 <= gain.high,
            why=f"{better}: {_mean(facts[better][what]):.3f}, {worse}: {_mean(facts[worse][what]):.3f}.",
        )
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
