"""Saliency as steps: a small network to explain, and the scores of every method on it."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.lab.step import StepContext, step
from hornbook.theory import toy_language as language
from hornbook.theory.saliency import (
    MaskSettings,
    Predict,
    certificate,
    every_label,
    frozen,
    learn_masks,
    score,
)
from hornbook.theory.saliency_baselines import BASELINES
from hornbook.theory.saliency_text import WordPredictor
from hornbook.theory.scenes import CLASSES, draw_scenes
from hornbook.theory.steps_kernel import load_toy_model

WEIGHTS = "weights.pt"


def small_network(width: int) -> nn.Sequential:
    """Three strided convolutions with batch norm, global average pooling, a linear layer."""
    sizes = (3, width, 2 * width, 4 * width)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, len(CLASSES)))


@step(version="1", makes="checkpoint")
def train_on_scenes(
    ctx: StepContext, *, width: int, pictures: int, epochs: int, batch: int, seed: int
) -> dict[str, Any]:
    """A classifier of generated pictures. Facts: width, accuracy on 500 new pictures."""
    torch.manual_seed(seed)
    network = small_network(width)
    scenes = draw_scenes(pictures, seed=seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    total = epochs * (pictures // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=max(2, total))
    progress = ctx.progress(epochs, "epochs")
    for _ in range(epochs):
        for rows in torch.randperm(pictures).split(batch):  # type: ignore[no-untyped-call]
            if len(rows) < batch:
                continue
            loss = F.cross_entropy(network(scenes.x[rows]), scenes.y[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        progress.advance(1)
    frozen(network)
    fresh = draw_scenes(500, seed=seed + 1)
    torch.save(network.state_dict(), ctx.folder / WEIGHTS)
    return {"width": width, "accuracy": float((network(fresh.x).argmax(1) == fresh.y).double().mean())}


@step(version="1")
def picture_saliency(
    ctx: StepContext,
    *,
    network: Any,
    pictures: int,
    pool: int,
    masks: Mapping[str, MaskSettings],
    baselines: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Every method on new pictures and all labels. Facts: method -> score -> one number a picture.

    Beside the scores: "inside", the share of the best-ranked places on the object, as many as it has.
    """
    model = small_network(network.facts["width"])
    model.load_state_dict(torch.load(network / WEIGHTS, weights_only=True))
    frozen(model)

    def predict(x: Tensor) -> Tensor:
        out: Tensor = model(x).softmax(-1)
        return out

    scenes = draw_scenes(pictures, seed=seed + 2)
    fills = draw_scenes(pool, seed=seed + 3).x
    progress = ctx.progress(len(masks) + len(baselines), "methods")
    return _all_methods(
        predict,
        scenes.x,
        len(CLASSES),
        fills,
        masks,
        baselines,
        fill=None,
        places=scenes.where,
        seed=seed,
        progress=progress,
    )


@step(version="1")
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

    "inside": the share of the three best-ranked words (for the predicted label) that are polar.
    """
    predict = WordPredictor(frozen(load_toy_model(model)), (language.BLAME, language.PRAISE))  # type: ignore[arg-type]
    tokens, _ = language.draw(sentences, torch.Generator().manual_seed(seed)).prompted()
    others, _ = language.draw(pool, torch.Generator().manual_seed(seed + 1)).prompted()
    fills = predict.embed(others)
    polar = (tokens >= language.PRAISE - language.NEUTRAL - 2 * language.POLAR) & (
        tokens < language.PRAISE - language.NEUTRAL
    )
    progress = ctx.progress(len(masks) + len(baselines), "methods")
    return _all_methods(
        predict,
        predict.embed(tokens),
        2,
        fills,
        masks,
        baselines,
        fill=fills.mean(0),
        places=polar,
        seed=seed,
        progress=progress,
    )


def _all_methods(
    predict: Predict,
    x: Tensor,
    labels: int,
    fills: Tensor,
    masks: Mapping[str, MaskSettings],
    baselines: Sequence[str],
    *,
    fill: Tensor | None,
    places: Tensor,
    seed: int,
    progress: Any,
) -> dict[str, Any]:
    inputs, wanted = every_label(x, labels)
    with torch.no_grad():
        p = predict(x)
    methods: dict[str, Any] = {
        name: functools.partial(_learned, pool=fills, settings=settings, seed=seed)
        for name, settings in masks.items()
    }
    methods.update({name: BASELINES[name] for name in baselines})
    found: dict[str, Any] = {}
    fractions = min(14, places[0].numel())
    for name, method in methods.items():
        maps = method(predict, inputs, wanted)
        q = certificate(predict, inputs, wanted, maps, fill=fill, fractions=fractions, seed=seed)
        scores = score(p, q.view(len(x), labels))
        own = maps.view(len(x), labels, -1)[torch.arange(len(x)), p.argmax(1)]
        found[name] = {key: value.tolist() for key, value in vars(scores).items()}
        found[name]["inside"] = _inside(own, places.flatten(1))
        progress.advance(1)
    return found


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
