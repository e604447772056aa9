"""Exporting as a step: every file is read back, made to generate, and its loss in bits per byte measured."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenFile
from hornbook.errors import HornbookError
from hornbook.evals.likelihood import document_bits, mean_paired_loss, paired_loss, summarize
from hornbook.infer.language_model import LocalModel
from hornbook.infer.open import open_local
from hornbook.infer.speed import measure_speed
from hornbook.infer.weights import Weights
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.lm.base import Sampling
from hornbook.model.hf import load_checkpoint
from hornbook.serve.card import Card
from hornbook.serve.export import HF, export_model, parse_kinds, size_bytes

Bits = Mapping[str, list[tuple[float, int]]]
Text = Sequence[str] | TokenFile

PROMPTS = ("Tell me a story about a fox.", "What is 2 + 3?", "Who are you?")
_LEAST_DOCUMENTS = 16
_SPEED_WEIGHTS: tuple[Weights, ...] = ("auto", "int4")


def _estimate(*, model: Artifact | Path, validation: Mapping[str, Any], **other: Any) -> Estimate:
    return Estimate(seconds=20 + 15 * len(validation), memory_bytes=1.5e9, disk_bytes=200e6)


@step(version="2", makes="model", estimate=_estimate)
def export(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    validation: Mapping[str, Artifact | Path | Sequence[str]],
    kinds: Sequence[str] = (HF, "q8_0", "q4_0"),
    name: str | None = None,
    card: Mapping[str, Any] | None = None,
    prompts: Sequence[str] = PROMPTS,
    tokens_per_domain: int = 16_384,
) -> dict[str, Any]:
    """Writes the formats of `kinds` below `artifact / "export"` and checks each.

    A Hugging Face folder must hold the same numbers; a GGUF file must cut text into the same tokens, and its
    numbers, as its blocks round them, are run in fp32 on the validation documents beside the original.

    Args:
        model: a checkpoint folder, or an artifact that holds one as "model" or is one.
        validation: by domain: a corpus of documents, a token file made with this model's tokenizer, or texts.
        card: fields of `hornbook.serve.card.Card`.
        prompts: user messages (or texts to continue) that each export answers greedily.
        tokens_per_domain: how much of each domain is read; documents longer than a sixteenth of it are cut.

    Facts:
        bits_per_byte: of the original, by domain and "all".
        kinds: for each kind its file, bytes, answers and (GGUF) `bits_per_byte`, `same_tokens` (the share of
            answer tokens up to the first that differs from the original's) and `loss`. {"loss", "low",
            "high"} is the fraction of bits per byte lost, with a 95 % interval by paired bootstrap over
            documents: by domain, over "all" documents (long and badly predicted ones weigh most) and as
            the "mean" of the domains (each counts the same).
        speed: by weights of the engine, see `hornbook.infer.speed.Speed`.
        documents, bytes: how much was read.

    Raises:
        HornbookError: an export that does not read back as it should.
    """
    source = _checkpoint(model)
    wanted = parse_kinds(kinds)
    out = ctx.folder / "export"
    paths = export_model(source, out, kinds=wanted, name=name, card=Card(**dict(card or {})))
    original = open_local(source, weights="fp32", max_rows=8)
    texts = {
        domain: _take(domain, given, original.tokenizer, tokens_per_domain)
        for domain, given in validation.items()
    }
    total = sum(count for _, count in texts.values()) * (1 + sum(kind != HF for kind in wanted))
    progress = ctx.progress(total, "documents")
    base = _bits(original, texts, progress.advance)
    answers = [_answer(original, prompt) for prompt in prompts]
    facts: dict[str, Any] = {}
    for kind, path in zip(wanted, paths, strict=True):
        entry: dict[str, Any] = {"path": path.relative_to(ctx.folder).as_posix(), "bytes": size_bytes(path)}
        read_back = open_local(path, weights="fp32", max_rows=8)
        _same_text(original.tokenizer, read_back.tokenizer, texts, path)
        own = [_answer(read_back, prompt) for prompt in prompts]
        entry["answers"] = [read_back.tokenizer.decode(ids) for ids in own]
        if kind == HF:
            _same_numbers(source, path)
        else:
            bits = _bits(read_back, texts, progress.advance)
            entry["same_tokens"] = _agreement(answers, own)
            entry["bits_per_byte"] = {d: summarize(pairs).value for d, pairs in bits.items()}
            entry["loss"] = {d: paired_loss(base[d], pairs) for d, pairs in bits.items()}
            entry["loss"]["mean"] = mean_paired_loss({d: base[d] for d in texts}, bits)
            loss = entry["loss"]["mean"]
            ctx.say(
                f"{path.name}: {100 * loss['loss']:.2f} % more bits per byte, mean of {len(texts)} domains "
                f"(95 % interval {100 * loss['low']:.2f} to {100 * loss['high']:.2f})."
            )
        facts[kind] = entry
    return {
        "bits_per_byte": {domain: summarize(pairs).as_json() for domain, pairs in base.items()},
        "documents": len(base["all"]),
        "bytes": sum(size for _, size in base["all"]),
        "kinds": facts,
        "speed": _speed(source, prompts[0]),
    }


def _checkpoint(model: Artifact | Path) -> Path:
    """The folder with config.json that `model` is or holds."""
    folder = model.path if isinstance(model, Artifact) else model
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").is_file():
            return candidate
    raise HornbookError(f"{folder} holds no checkpoint (config.json) to export.")


def _take(
    domain: str, given: Artifact | Path | Sequence[str], tokenizer: Tokenizer, tokens: int
) -> tuple[Text, int]:
    """The first documents of a domain, long ones cut, that have about `tokens` tokens together."""
    if isinstance(given, Artifact):
        given = given.path
    most = max(256, tokens // _LEAST_DOCUMENTS)  # no document outweighs the others
    texts: list[str] = []
    left = tokens
    if isinstance(given, Path) and (given / "tokens.json").is_file():
        file = TokenFile.open(given)
        if file.mask is not None:
            return file, max(1, int((file.documents[1:] <= tokens).sum()))
        rows: Iterable[str] = (
            tokenizer.decode(file.document(i)[:most], skip_specials=True) for i in range(len(file))
        )
    else:
        rows = _rows(given) if isinstance(given, Path) else given
    for text in rows:
        ids = tokenizer.encode(text)
        texts.append(text if len(ids) <= most else tokenizer.decode(ids[:most]))
        left -= min(len(ids), most)
        if left <= 0:
            break
    if not texts:
        raise HornbookError(f"The validation domain {domain!r} holds no documents.")
    return texts, len(texts)


def _rows(folder: Path) -> Iterator[str]:
    corpus = Corpus.open(folder)
    if corpus.schema != "documents":
        raise HornbookError(
            f"{folder} holds {corpus.schema}; bits per byte are measured on documents or token files."
        )
    return (row["text"] for row in corpus.iter_rows(columns=["text"]))


def _bits(model: LocalModel, texts: Mapping[str, tuple[Text, int]], advance: Callable[[int], object]) -> Bits:
    bits = {
        domain: document_bits(model.engine, model.tokenizer, source, max_documents=count, advance=advance)
        for domain, (source, count) in texts.items()
    }
    return {**bits, "all": [pair for pairs in bits.values() for pair in pairs]}


def _answer(model: LocalModel, prompt: str) -> list[int]:
    """24 tokens at most, the likeliest each time."""
    tokenizer = model.tokenizer
    if tokenizer.chat_template:
        ids = model.chat.encode([{"role": "user", "content": prompt}])
    else:
        ids = [tokenizer.end_of_text, *tokenizer.encode(prompt)]
    return model.engine.generate([ids], Sampling(temperature=0.0, max_tokens=24))[0][0].tokens


def _agreement(expected: Sequence[list[int]], found: Sequence[list[int]]) -> float:
    """Share of expected tokens that come before the first difference."""
    same = 0
    for a, b in zip(expected, found, strict=True):
        same += next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return same / max(1, sum(map(len, expected)))


def _same_text(
    expected: Tokenizer, found: Tokenizer, texts: Mapping[str, tuple[Text, int]], path: Path
) -> None:
    for source, count in texts.values():
        if isinstance(source, TokenFile):
            sample = [expected.decode(source.document(i), skip_specials=True) for i in range(min(count, 50))]
        else:
            sample = list(source[:50])
        for text, a, b in zip(sample, expected.encode_batch(sample), found.encode_batch(sample)):
            if a != b:
                raise HornbookError(
                    f"The tokenizer in {path} cuts text into other tokens than the model's, for instance "
                    f"{text[:60]!r}. The file is of no use; please report this."
                )


def _same_numbers(source: Path, path: Path) -> None:
    ours, theirs = load_checkpoint(source).state_dict(), load_checkpoint(path).state_dict()
    wrong = [name for name in ours if name not in theirs or not torch.equal(ours[name], theirs[name])]
    if wrong or len(ours) != len(theirs):
        raise HornbookError(
            f"{path} does not hold the model's numbers ({', '.join(wrong[:3])}); export it again."
        )


def _speed(source: Path, prompt: str) -> dict[str, dict[str, float]]:
    speeds: dict[str, dict[str, float]] = {}
    for weights in _SPEED_WEIGHTS:
        model = open_local(source, weights=weights, max_rows=1)
        ids = model.tokenizer.encode(prompt * 8)[:64] or [model.tokenizer.end_of_text]
        room = max(1, model.engine.config.max_position // 2)
        speeds[model.engine.weights] = measure_speed(model.engine, ids[:room]).as_json()
    return speeds
