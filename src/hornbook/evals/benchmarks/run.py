"""Runs one card on one model: by likelihood or by generation, item by item, kept as it goes."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hornbook.errors import HornbookError
from hornbook.evals.asking import converses, parts
from hornbook.evals.result import BITS_PER_BYTE, Result, Score, both_sides, not_answered, score_of
from hornbook.evals.sample_store import SampleStore, run_key
from hornbook.lab.statistics import Interval
from hornbook.lm.base import Advances, Failure, LanguageModel, Message
from hornbook.lm.base import Score as Likelihood

from .card import Card
from .generate import AT_ONCE, generate
from .items import Item, make_items
from .source import read_rows, read_worked

_SHOWN = 2000
"""Characters of a question that are kept for people; examples stand before them."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a benchmark is asked.

    items:  a sample of so many; None: all.
    shots:  examples before each question; None: as the card says.
    seed:   of the sample.
    chat:   ask in turns where the model can; None: as the card says (likelihoods: only when told to).
    data:   the user's folder of benchmark files.
    online: fetch from the hub what is not here.
    """

    items: int | None = None
    shots: int | None = None
    seed: int = 0
    chat: bool | None = None
    data: Path | None = None
    online: bool = False


def load_items(card: Card, asking: Asking) -> list[Item]:
    """The items a card is asked with, examples included."""
    shots = card.shots if asking.shots is None else asking.shots
    rows = read_rows(card, card.source.split, data=asking.data, online=asking.online)
    shot_rows: list[Mapping[str, Any]] = []
    if shots:
        if not card.source.shots_split:
            raise HornbookError(f"{card.name} has no split for examples; use --shots 0.")
        try:
            shot_rows = read_rows(card, card.source.shots_split, data=asking.data, online=asking.online)
        except HornbookError as error:
            raise HornbookError(f"{error} It holds the {shots} examples; --shots 0 asks without.") from None
    items = make_items(
        card,
        rows,
        count=asking.items,
        shots=shots,
        shot_rows=shot_rows,
        worked=_worked(card, asking),
        seed=asking.seed,
    )
    if not items:
        raise HornbookError(f"{card.name}: the split {card.source.split!r} has no items that can be asked.")
    return items


def _worked(card: Card, asking: Asking) -> dict[str, str]:
    return {} if asking.shots == 0 else read_worked(card, asking.data)


def _in_turns(card: Card, model: LanguageModel, asking: Asking) -> bool:
    """Whether the chat template is used.

    Raises:
        HornbookError: it was asked for, and the card or the model has no place for it.
    """
    if card.kind == "generate":
        return (card.generate.chat if asking.chat is None else asking.chat) and converses(model)
    if not asking.chat:
        return False
    if card.kind not in ("choice", "true-share"):
        raise HornbookError(
            f"{card.name} is scored on running text, where a chat template has no place; leave --chat out."
        )
    if not (hasattr(model, "score_answers") and converses(model)):
        raise HornbookError(
            f"{model.identity} cannot score answers after a chat template: that needs a checkpoint on this "
            "machine whose tokenizer has one. Leave --chat out."
        )
    return True


def run_card(
    card: Card,
    model: LanguageModel,
    asking: Asking,
    *,
    store: SampleStore | None = None,
    progress: Advances | None = None,
    items: Sequence[Item] | None = None,
) -> Result:
    """Measures a model on a benchmark.

    Args:
        store: what is known is taken from it, and what is found is put there every 256 items.
        items: instead of those of the card's source.

    Raises:
        HornbookError: the items cannot be read; the model cannot score and the card needs it; none of the
            items was answered.
    """
    began = time.perf_counter()
    if card.kind != "generate" and not model.capabilities.can_score:
        raise HornbookError(
            f"{card.name} is graded by log-likelihoods, which {model.identity} does not tell: that needs a "
            "model on this machine. Endpoints are graded by what they write: gsm8k, math, ifeval..."
        )
    items = load_items(card, asking) if items is None else items
    chat = _in_turns(card, model, asking)
    shots = card.shots if asking.shots is None else asking.shots
    told: dict[str, Any] = {
        "model": model.identity,
        "task": card.name,
        "card": card.fingerprint,
        "shots": shots,
        "chat": chat,
    }
    if _worked(card, asking):
        told["worked"] = True
    run = store.begin(told) if store else ""
    known = store.known(run, [item.id for item in items]) if store else {}
    todo = [item for item in items if item.id not in known]
    if progress is not None and len(items) > len(todo):
        progress.advance(len(items) - len(todo))
    asked = {item.id: item for item in todo}

    def keep(found: Mapping[str, Mapping[str, Any]]) -> None:
        whole = {
            name: {
                **sample,
                "asked": asked[name].questions[0][-_SHOWN:],
                "reference": _reference(asked[name]),
            }
            for name, sample in found.items()
        }
        known.update(whole)
        if store:
            store.put(run, whole)

    failures: dict[str, Failure] = {}
    if card.kind == "generate":
        failures = generate(card, model, todo, chat=chat, keep=keep, progress=progress)
    else:
        for part in parts(todo, AT_ONCE):
            keep(_likelihoods(card, model, part, chat))
            if progress is not None:
                progress.advance(len(part))
    done = [(item, known[item.id]) for item in items if item.id in known]
    if not done:
        first = next(iter(failures.values()), None)
        why = f" ({first.kind}: {first.message})" if first else ""
        if first and first.kind == "bad_request" and (shots or "worked" in told):
            why += ". Fewer examples make questions shorter: --shots 0"
        raise HornbookError(f"{model.identity} answered none of the {len(items)} items of {card.name}{why}.")
    details = {**told, "run": run_key(told)}
    return _summary(card, done, failures, details, time.perf_counter() - began)


def _likelihoods(
    card: Card, model: LanguageModel, items: Sequence[Item], chat: bool
) -> dict[str, dict[str, Any]]:
    """{item: its log-likelihoods and values}; every continuation of a question in one call.

    In turns the question is the user's and the choice, without the delimiter, the answer.
    """
    if card.kind == "text":
        return _bits(model, items)
    pairs: list[tuple[str, str]] = []
    spans = []
    for item in items:
        begin = len(pairs)
        if card.kind == "pair":
            pairs += [("", choice) for choice in item.choices]
        elif len(item.questions) > 1:
            pairs += [(question, item.choices[0]) for question in item.questions]
        else:
            pairs += [(item.questions[0], choice) for choice in item.choices]
        spans.append((begin, len(pairs)))
    scores = _score_in_turns(card, model, pairs) if chat else model.score(pairs)
    found: dict[str, dict[str, Any]] = {}
    for item, (begin, end) in zip(items, spans):
        own = scores[begin:end]
        logprobs = [score.logprob for score in own]
        values = _likelihood_values(card, item, logprobs, own[0].greedy)
        best = max(range(len(logprobs)), key=lambda i: logprobs[i])
        options = item.questions if len(item.questions) > 1 else item.choices
        found[item.id] = {
            "values": values,
            "logprobs": logprobs,
            "read": options[best].strip() if options else "",
        }
        if any(score.cut for score in own):
            found[item.id]["cut"] = True
    return found


def _score_in_turns(card: Card, model: Any, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
    system = (Message("system", card.ask.system),) if card.ask.system else ()
    found: list[Likelihood] = model.score_answers(
        [((*system, Message("user", asked)), end.removeprefix(card.ask.delimiter)) for asked, end in pairs]
    )
    return found


def _bits(model: LanguageModel, items: Sequence[Item]) -> dict[str, dict[str, Any]]:
    """{item: the bits its text takes}; texts beyond the context are read in overlapping windows."""
    from hornbook.evals.likelihood import document_bits
    from hornbook.infer.language_model import LocalModel

    texts = [item.questions[0] for item in items]
    if isinstance(model, LocalModel):
        found = document_bits(model.engine, model.tokenizer, texts)
    else:
        scores = model.score([("", text) for text in texts])
        found = [(-s.logprob / math.log(2), len(text.encode())) for s, text in zip(scores, texts)]
    return {
        item.id: {"values": {"bits": bits, "bytes": float(size)}, "read": ""}
        for item, (bits, size) in zip(items, found)
    }


def _likelihood_values(card: Card, item: Item, logprobs: Sequence[float], greedy: bool) -> dict[str, float]:
    """The numbers of one item from its continuations' log-likelihoods (natural logarithm).

    acc: the likeliest choice is right. acc_norm: the same, likelihood per character of the choice.
    """
    if card.kind == "last-word":
        return {"acc": float(greedy), "nats": -logprobs[0]}
    likelihood = np.asarray(logprobs)
    if card.kind == "true-share":
        share = np.exp(likelihood - likelihood.max())
        return {"mc2": float(share[: item.gold].sum() / share.sum())}
    values = {"acc": float(likelihood.argmax() == item.gold)}
    if len(item.questions) == 1 and card.kind == "choice":
        lengths = np.asarray([len(choice) - len(card.ask.delimiter) for choice in item.choices])
        values["acc_norm"] = float((likelihood / np.maximum(lengths, 1)).argmax() == item.gold)
    return values


def _summary(
    card: Card,
    done: Sequence[tuple[Item, Mapping[str, Any]]],
    failures: Mapping[str, Failure],
    told: Mapping[str, Any],
    seconds: float,
) -> Result:
    scored = [(item, sample) for item, sample in done if sample["values"]]
    outcomes: dict[str, list[float]] = {}
    for _, sample in scored:
        for name, value in sample["values"].items():
            outcomes.setdefault(name, []).append(float(value))
    clusters = tuple(item.cluster or item.id for item, _ in scored) if card.ask.cluster else ()
    scores = [
        score_of(name, values, clusters=clusters if len(clusters) == len(values) else ())
        for name, values in outcomes.items()
        if name not in ("bits", "bytes", "nats")
    ]
    if card.kind == "text":
        scores.append(_bits_per_byte(outcomes))
    scores.sort(key=lambda score: score.name != card.metric)
    unscored = len(done) - len(scored)
    details: dict[str, Any] = {**told, "published": card.published, "unscored": unscored}
    if cut := sum(bool(sample.get("cut")) for _, sample in done):
        details["cut"] = cut
    if clusters:
        details["clusters"] = len(set(clusters))
    if "nats" in outcomes:
        details["perplexity"] = float(np.exp(np.mean(outcomes["nats"])))
    groups = sorted({item.group for item, _ in scored} - {""})
    if groups and card.metric in outcomes:
        details["groups"] = {
            group: float(np.mean([s["values"][card.metric] for item, s in scored if item.group == group]))
            for group in groups
        }
    samples = tuple(
        {
            "request": sample["asked"],
            "answer": sample.get("text", sample["read"]),
            "right": sample["values"].get(card.metric, 0.0) > 0.5,
            "note": sample.get("note", "") or f"reference: {sample['reference']}",
        }
        for _, sample in scored
    )
    unfinished = ""
    if failures:
        unfinished = not_answered(failures, len(failures) + len(done))
    return Result(
        task=card.name,
        items=len(scored),
        seconds=seconds,
        scores=tuple(scores),
        outcomes=outcomes,
        samples=both_sides(samples),
        details=details,
        unfinished=unfinished,
        ids=tuple(item.id for item, _ in scored),
        clusters=clusters,
    )


def _reference(item: Item) -> str:
    if isinstance(item.gold, int) and item.choices:
        options = item.questions if len(item.questions) > 1 else item.choices
        return options[item.gold].strip()[:200] if item.gold < len(options) else str(item.gold)
    return str(item.gold)[:200]


def _bits_per_byte(outcomes: Mapping[str, Sequence[float]]) -> Score:
    from hornbook.evals.likelihood import summarize

    pairs = [(bits, int(size)) for bits, size in zip(outcomes["bits"], outcomes["bytes"], strict=True)]
    found = summarize(pairs)
    return Score(
        name=BITS_PER_BYTE, value=found.value, interval=Interval(found.low, found.high), better="lower"
    )
