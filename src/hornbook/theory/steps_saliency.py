"""Saliency as steps: a small network to explain, and the scores of every method on it."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hornbook.errors import HornbookError
from hornbook.lab.step import StepContext, step
from hornbook.theory import toy_language as language
from hornbook.theory.picture_network import folded, picture_set, small_network, train_network
from hornbook.theory.saliency import (
    MaskSettings,
    Predict,
    certificate,
    every_label,
    frozen,
    learn_masks,
    score,
)
from hornbook.theory.saliency_baselines import BASELINES, Map
from hornbook.theory.saliency_captum import PREFIX, captum_map
from hornbook.theory.saliency_text import WordPredictor
from hornbook.theory.steps_kernel import load_toy_model
from hornbook.theory.threads import one_thread

WEIGHTS = "weights.pt"
SHOWN = "shown.npz"
RANDOM_FILLS = 4  # draws that a certificate with random fill is averaged over


@step(version="1", makes="checkpoint")
def train_picture_network(
    ctx: StepContext, *, data: Path | None, width: int, training: int, epochs: int, batch: int, seed: int
) -> dict[str, Any]:
    """A classifier of pictures. Facts: its shape, accuracy on 500 other pictures, names of the classes."""
    torch.manual_seed(seed)
    pictures = picture_set(data, training, 500, seed)
    channels, classes = pictures.x.shape[1], len(pictures.names)
    network = small_network(width, channels, classes)
    progress = ctx.progress(epochs, "epochs")
    with one_thread():
        train_network(network, pictures.x, pictures.y, epochs=epochs, batch=batch, progress=progress.advance)
        frozen(network)
        right = network(pictures.shown).argmax(1) == pictures.truth
    torch.save(network.state_dict(), ctx.folder / WEIGHTS)
    return {
        "shape": [width, channels, classes],
        "training": training,
        "names": pictures.names,
        "accuracy": float(right.double().mean()),
    }


@step(version="1")
def picture_saliency(
    ctx: StepContext,
    *,
    network: Any,
    data: Path | None,
    pictures: int,
    pool: int,
    masks: Mapping[str, MaskSettings],
    baselines: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Every method on new pictures and all labels.

    Facts: "grey" and "random" (what fills the places left out) -> method -> score -> one number a picture;
    beside the scores, "inside": the share of the best-ranked places on the object, as many as it has.
    `shown.npz` holds pictures and maps for the label the network gives and for its second choice.
    """
    width, channels, classes = network.facts["shape"]
    model = small_network(width, channels, classes)
    model.load_state_dict(torch.load(network / WEIGHTS, weights_only=True))
    model = folded(model)
    frozen(model)

    def predict(x: Tensor) -> Tensor:
        out: Tensor = model(x).softmax(-1)
        return out

    drawn = picture_set(data, network.facts["training"], 500, seed)
    subject = Subject(
        predict=predict,
        module=model,
        inputs=drawn.shown[:pictures],
        labels=classes,
        pool=drawn.x[:pool],
        fill=None,
        where=None if drawn.where is None else drawn.where[:pictures],
    )
    with one_thread():
        facts, maps, certificates = _all_methods(ctx, subject, masks, baselines, seed)
    p = predict(subject.inputs)
    first, second = p.topk(2, dim=1).indices.T
    rows = torch.arange(len(p))
    np.savez_compressed(
        ctx.folder / SHOWN,
        pictures=_as_pixels(subject.inputs),
        labels=torch.stack([first, second], 1).numpy(),
        p=torch.stack([p[rows, first], p[rows, second]], 1).numpy(),
        q=np.stack(
            [torch.stack([q[rows, first], q[rows, second]], 1).numpy() for q in certificates.values()]
        ),
        maps=np.stack(
            [torch.stack([m[rows, first], m[rows, second]], 1).half().numpy() for m in maps.values()]
        ),
        methods=np.array(list(maps)),
    )
    return facts


def _as_pixels(x: Tensor) -> Any:
    """(n, channels, h, w) standardised to (n, h, w, 3) uint8, two deviations around grey."""
    shown = ((x.clamp(-2, 2) + 2) / 4 * 255).round().to(torch.uint8)
    return shown.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


@step(version="2")
def prompt_saliency(
    ctx: StepContext,
    *,
    model: Any,
    sentences: int,
    pool: int,
    masks: Mapping[str, MaskSettings],
    baselines: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Which words made the model of the toy language answer: facts as in `picture_saliency`.

    "inside": the share of the three best-ranked words (for the predicted label) that are polar. "examples":
    words, the mask of the first method for the answer, and the answer's probability.
    """
    predict = WordPredictor(frozen(load_toy_model(model)), (language.BLAME, language.PRAISE))  # type: ignore[arg-type]
    tokens, _ = language.draw(sentences, torch.Generator().manual_seed(seed)).prompted()
    others, _ = language.draw(pool, torch.Generator().manual_seed(seed + 1)).prompted()
    fills = predict.embed(others)
    subject = Subject(
        predict=predict,
        module=None,
        inputs=predict.embed(tokens),
        labels=2,
        pool=fills,
        fill=fills.mean(0),
        where=language.is_polar(tokens),
    )
    with one_thread():
        facts, maps, _ = _all_methods(ctx, subject, masks, baselines, seed)
        p = predict(subject.inputs)
    answers = p.argmax(1)
    name, found = next(iter(maps.items()))
    return facts | {
        "examples": [
            {
                "words": language.spelled(tokens[i]),
                "mask": found[i, answers[i]].tolist(),
                "answer": language.spelled(torch.tensor([(language.BLAME, language.PRAISE)[answers[i]]]))[0],
                "probability": float(p[i].max()),
                "method": name,
            }
            for i in range(min(3, sentences))
        ]
    }


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is explained: a network, its inputs, what fills the places left out, and where the reasons are.

    module: from inputs to logits, for baselines that need one. fill: (channels, *places); None: zeros.
    where: (n, *places) bool, or None if not known.
    """

    predict: Predict
    module: nn.Module | None
    inputs: Tensor
    labels: int
    pool: Tensor
    fill: Tensor | None
    where: Tensor | None


def _all_methods(
    ctx: StepContext,
    subject: Subject,
    masks: Mapping[str, MaskSettings],
    baselines: Sequence[str],
    seed: int,
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Facts; maps (n, labels, *places) and certificates with the plain fill (n, labels), by method."""
    x, labels = subject.inputs, subject.labels
    inputs, wanted = every_label(x, labels)
    with torch.no_grad():
        p = subject.predict(x)
    methods: dict[str, Map] = {
        name: functools.partial(_learned, pool=subject.pool, settings=settings, seed=seed)
        for name, settings in masks.items()
    }
    methods.update({name: _baseline(name, subject.module) for name in baselines})
    progress = ctx.progress(len(methods), "methods")
    places = x[0, 0].numel()
    rank = functools.partial(certificate, fractions=min(14, places), seed=seed)
    facts: dict[str, Any] = {"grey": {}, "random": {}}
    maps, certificates = {}, {}
    for name, method in methods.items():
        made = method(subject.predict, inputs, wanted)
        plain = rank(subject.predict, inputs, wanted, made, fill=subject.fill)
        drawn = torch.zeros_like(plain)
        for draw in range(RANDOM_FILLS):
            picks = torch.randint(len(subject.pool), (len(x),), generator=_generator(seed + draw))
            behind = subject.pool[picks].repeat_interleave(labels, 0)
            drawn += rank(subject.predict, inputs, wanted, made, fill=behind) / RANDOM_FILLS
        maps[name] = made.view(len(x), labels, *made.shape[1:])
        certificates[name] = plain.view(len(x), labels)
        for fill, q in (("grey", plain), ("random", drawn)):
            scores = score(p, q.view(len(x), labels))
            facts[fill][name] = {key: value.tolist() for key, value in vars(scores).items()}
            if subject.where is not None:
                own = maps[name][torch.arange(len(x)), p.argmax(1)].flatten(1)
                facts[fill][name]["inside"] = _inside(own, subject.where.flatten(1))
        progress.advance(1)
    return facts, maps, certificates


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _baseline(name: str, module: nn.Module | None) -> Map:
    if name in BASELINES:
        return BASELINES[name]
    if module is not None and name.startswith(PREFIX):
        return captum_map(name.removeprefix(PREFIX), module)
    known = ", ".join(repr(one) for one in BASELINES)
    raise HornbookError(f"baseline is {name!r}; accepted are {known}, and for pictures '{PREFIX}...'.")


def _learned(
    predict: Predict, inputs: Tensor, labels: Tensor, *, pool: Tensor, settings: MaskSettings, seed: int
) -> Tensor:
    return learn_masks(predict, inputs, labels, pool, settings, seed=seed)


def _inside(maps: Tensor, places: Tensor) -> list[float]:
    """Share of each map's best-ranked places (as many as are wanted) that are wanted places."""
    shares = []
    for values, where in zip(maps, places, strict=True):
        count = max(1, int(where.sum()))
        shares.append(float(where[values.argsort(descending=True)[:count]].double().mean()))
    return shares
