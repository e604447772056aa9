"""Educational value (phi-1, sections 2 and 2.1): a classifier spreads a judgement of some documents over all.

Where the judgement comes from is part of the model and of its report:

- `labelling = "rater"`: a language model fit to grade (a teacher behind an endpoint) graded a sample.
- `labelling = "contrast"`: no such model is at hand; documents from textbook-like sources count as high,
  random organic ones as low, as public classifier-filtered corpora do. What is learned is then likeness
  to textbooks.

Features: frequencies of hashed words and word pairs, weighted by inverse document frequency and reduced by
truncated SVD (the embedding), and a few shares of characters and lines. A random forest, as in the paper,
or logistic regression, whichever has the higher held-out AUC. Saved as npz and JSON; inference needs numpy
alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hornbook.curate.features import Arrays, arrays_key, embed, fit_embedding
from hornbook.curate.heuristics import measure
from hornbook.curate.repetition import F64, per_document, share
from hornbook.curate.words import I64, Words, split
from hornbook.errors import HornbookError

# Shape of the text beside its words. Length is left out on purpose: it would be the easiest thing to learn.
SHAPE = (
    "mean_word_length",
    "alphabetic_words",
    "terminal_punctuation",
    "short_lines",
    "alphanumeric",
    "letters",
    "mean_line_length",
    "hash_ratio",
    "duplicate_lines",
)
LABELLINGS = ("rater", "contrast")


@dataclass(frozen=True, kw_only=True)
class EducationalSettings:
    """dimensions: of the embedding. trees, depth, leaf: of the forest. held_out: share of the labelled
    documents kept for the report. seed: of the split, the SVD and the forest.
    """

    dimensions: int = 64
    trees: int = 100
    depth: int = 12
    leaf: int = 3
    held_out: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dimensions", "trees", "depth", "leaf"):
            if getattr(self, name) < 1:
                raise HornbookError(f"educational: {name} = {getattr(self, name)}; it must be at least 1.")
        if not 0.05 <= self.held_out <= 0.9:
            raise HornbookError(f"educational: held_out = {self.held_out}; it must lie between 0.05 and 0.9.")


@dataclass(frozen=True, kw_only=True)
class EducationalModel:
    """A fitted classifier: arrays for inference, and `card`, what is known about it.

    arrays: idf (buckets,), components (buckets, dimensions), shape_mean and shape_scale; and for "forest":
    feature, threshold, left, right, value (trees, nodes) and for "logistic": weights, bias.
    """

    arrays: dict[str, npt.NDArray[Any]]
    card: dict[str, Any]

    @property
    def key(self) -> str:
        """Names what the classifier computes: equal keys, equal scores."""
        return f"{self.card['classifier']}-{arrays_key(self.arrays)}"

    def features(self, words: Words) -> F64:
        """(documents, dimensions + shape) embedding and shape of a batch."""
        embedded = embed(words, self.arrays)
        shape = (_shape(words) - self.arrays["shape_mean"]) / self.arrays["shape_scale"]
        return np.concatenate([embedded, shape], axis=1)

    def score(self, words: Words) -> F64:
        """(documents,) estimated probability of high educational value, between 0 and 1."""
        return self._classify(self.features(words))

    def _classify(self, x: F64) -> F64:
        if self.card["classifier"] == "logistic":
            z = x @ self.arrays["weights"] + self.arrays["bias"]
            return np.asarray(1 / (1 + np.exp(-np.clip(z, -50, 50))), np.float64)
        return forest_scores(self.arrays, x)

    def save(self, folder: str | Path) -> None:
        """Write `model.npz` and `card.json`."""
        from hornbook.lab.files import write_atomic, write_json

        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        import io

        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **self.arrays)
        write_atomic(target / "model.npz", buffer.getvalue())
        write_json(target / "card.json", self.card)

    @classmethod
    def load(cls, folder: str | Path) -> "EducationalModel":
        """Read what `save` wrote. Raises HornbookError where there is no such model."""
        source = Path(folder)
        try:
            card = json.loads((source / "card.json").read_text(encoding="utf-8"))
            with np.load(source / "model.npz", allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError) as error:
            raise HornbookError(f"{source} holds no educational classifier: {error}.") from None
        return cls(arrays=arrays, card=card)


def _shape(words: Words) -> F64:
    measures = measure(words)
    columns = [measures[name] for name in SHAPE]
    columns[SHAPE.index("mean_line_length")] = np.log1p(columns[SHAPE.index("mean_line_length")])
    long = share(per_document(words.lengths > 8, words.offsets), words.counts)
    return np.stack([*columns, long], axis=1)


def forest_scores(arrays: dict[str, npt.NDArray[Any]], x: F64) -> F64:
    """(documents,) mean over trees of the leaf values; all trees and documents step down together."""
    feature, threshold = arrays["feature"], arrays["threshold"]
    trees = np.arange(len(feature))[None, :]
    node = np.zeros((len(x), len(feature)), np.int64)
    rows = np.arange(len(x))[:, None]
    for _ in range(int(arrays["depth"])):
        split_on = feature[trees, node]
        right = x[rows, np.maximum(split_on, 0)].astype(np.float32) > threshold[trees, node]
        child = np.where(right, arrays["right"][trees, node], arrays["left"][trees, node])
        node = np.where(split_on >= 0, child, node)
    return np.asarray(arrays["value"][trees, node].mean(axis=1), np.float64)


def fit(
    high: Sequence[str],
    low: Sequence[str],
    *,
    labelling: str,
    settings: EducationalSettings | None = None,
    check_high: Sequence[str] = (),
    check_low: Sequence[str] = (),
    labels_by: str = "",
) -> EducationalModel:
    """Train on documents of high and low educational value.

    Args:
        labelling: "rater" or "contrast"; written into the card with `labels_by` (the rater's identity, or
            what the contrast was between).
        check_high, check_low: documents of an independent check, from sources not trained on, for example
            reference pages against configuration: a high AUC on the held-out split and a low one here means
            that the classifier learned its sources' templates.

    Raises:
        HornbookError: fewer than 20 documents of either kind.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    settings = settings or EducationalSettings()
    if labelling not in LABELLINGS:
        raise HornbookError(f"educational: labelling = {labelling!r}; it is one of {', '.join(LABELLINGS)}.")
    for name, texts in (("high", high), ("low", low)):
        if len(texts) < 20:
            raise HornbookError(
                f"educational: {len(texts)} documents of {name} value; at least 20 are needed."
            )
    words = split([*high, *low])
    y = np.array([1] * len(high) + [0] * len(low))
    order = np.random.default_rng(settings.seed).permutation(len(y))
    cut = round(len(y) * settings.held_out)
    test, train = order[:cut], order[cut:]
    arrays = _embedding(words, train, settings)
    draft = EducationalModel(arrays=arrays, card={})
    x = draft.features(words).astype(np.float32).astype(np.float64)
    forest = RandomForestClassifier(
        n_estimators=settings.trees,
        max_depth=settings.depth,
        min_samples_leaf=settings.leaf,
        class_weight="balanced",
        random_state=settings.seed,
    ).fit(x[train], y[train])
    linear = LogisticRegression(C=1.0, class_weight="balanced", max_iter=2000).fit(x[train], y[train])
    models = {
        "forest": EducationalModel(arrays=arrays | _forest_arrays(forest), card={"classifier": "forest"}),
        "logistic": EducationalModel(
            arrays=arrays | {"weights": linear.coef_[0], "bias": linear.intercept_},
            card={"classifier": "logistic"},
        ),
    }
    held_out = {name: report(model._classify(x[test]), y[test]) for name, model in models.items()}
    best = max(held_out, key=lambda name: held_out[name]["auc"])
    card: dict[str, Any] = {
        "classifier": best,
        "labelling": labelling,
        "labels_by": labels_by,
        "high": len(high),
        "low": len(low),
        "held_out": held_out[best] | {"documents": cut},
        "auc_by_classifier": {name: numbers["auc"] for name, numbers in held_out.items()},
        "top_features": _top_features(words, train, y),
    }
    model = EducationalModel(arrays=models[best].arrays, card=card)
    if len(check_high) and len(check_low):
        scores = model.score(split([*check_high, *check_low]))
        truth = np.array([1] * len(check_high) + [0] * len(check_low))
        card["independent_check"] = report(scores, truth) | {"documents": len(truth)}
    return model


def _embedding(words: Words, train: I64, settings: EducationalSettings) -> Arrays:
    shape = _shape(words)[train]
    scale = shape.std(axis=0)
    return fit_embedding(words, train, settings.dimensions, settings.seed) | {
        "shape_mean": shape.mean(axis=0),
        "shape_scale": np.where(scale > 0, scale, 1.0),
    }


def _forest_arrays(forest: Any) -> dict[str, npt.NDArray[Any]]:
    trees = [tree.tree_ for tree in forest.estimators_]
    nodes = max(tree.node_count for tree in trees)
    out: dict[str, npt.NDArray[Any]] = {
        "feature": np.full((len(trees), nodes), -1, np.int32),
        "threshold": np.zeros((len(trees), nodes), np.float64),
        "left": np.zeros((len(trees), nodes), np.int32),
        "right": np.zeros((len(trees), nodes), np.int32),
        "value": np.zeros((len(trees), nodes), np.float64),
        "depth": np.array(max(tree.max_depth for tree in trees)),
    }
    for i, tree in enumerate(trees):
        n = tree.node_count
        leaf = tree.children_left < 0
        out["feature"][i, :n] = np.where(leaf, -1, tree.feature)
        out["threshold"][i, :n] = tree.threshold
        out["left"][i, :n] = np.maximum(tree.children_left, 0)
        out["right"][i, :n] = np.maximum(tree.children_right, 0)
        value = tree.value[:, 0, :]
        out["value"][i, :n] = value[:, 1] / value.sum(axis=1)
    return out


def report(scores: F64, truth: npt.NDArray[Any], threshold: float = 0.5) -> dict[str, Any]:
    """AUC, precision and recall at `threshold`, expected calibration error over ten equal bins."""
    positive = truth == 1
    hit = scores >= threshold
    bins = np.minimum((scores * 10).astype(int), 9)
    gaps = [
        abs(scores[bins == b].mean() - positive[bins == b].mean()) * (bins == b).mean()
        for b in range(10)
        if (bins == b).any()
    ]
    return {
        "auc": round(auc(scores, positive), 4),
        "precision": round(float(positive[hit].mean()), 4) if hit.any() else None,
        "recall": round(float(hit[positive].mean()), 4) if positive.any() else None,
        "calibration_error": round(float(sum(gaps)), 4),
    }


def auc(scores: F64, positive: npt.NDArray[np.bool_]) -> float:
    """Probability that a positive scores above a negative, ties counted half; 0.5 where one kind is
    missing.
    """
    _, rank, count = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count - 1) / 2
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return 0.5
    return float((middle[rank][positive].sum() - n * (n + 1) / 2) / (n * m))


def _top_features(words: Words, train: I64, y: npt.NDArray[Any], count: int = 15) -> dict[str, list[str]]:
    """Words whose document frequency differs most between the two kinds: what a reader should look at for
    leaks.
    """
    chosen = np.zeros(words.documents, np.bool_)
    chosen[train] = True
    document = words.document
    use = chosen[document] & words.alphabetic
    vocabulary, one, index = np.unique(words.hashes[use], return_index=True, return_inverse=True)
    pairs = np.unique(np.stack([index, document[use]]), axis=1)
    label = y[pairs[1]]
    high = np.bincount(pairs[0][label == 1], minlength=len(vocabulary)) + 0.5
    low = np.bincount(pairs[0][label == 0], minlength=len(vocabulary)) + 0.5
    odds = np.log(high / (y[train] == 1).sum()) - np.log(low / (y[train] == 0).sum())
    weight = odds * np.sqrt(np.minimum(high + low, len(train)))
    order = np.argsort(weight, kind="stable")
    where = np.flatnonzero(use)[one]

    def name(i: int) -> str:
        return words.text(words.starts[where[i]], words.ends[where[i]]).lower()

    return {"high": [name(i) for i in order[::-1][:count]], "low": [name(i) for i in order[:count]]}
