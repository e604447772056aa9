"""The steps that bring text from a source to token files: gather, split, train a tokeniser, tokenise."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hornbook.data.chat import ChatTemplate
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.data.inspect import row_text
from hornbook.data.readers import read_source
from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenWriter
from hornbook.errors import HornbookError
from hornbook.lab.progress import Progress
from hornbook.lab.step import Artifact, Estimate, StepContext, step

_ROWS = 512
"""Rows handled at a time: enough to keep all cores busy, little enough to keep memory small."""

_MEASURED_BYTES = 1_000_000

Facts = Mapping[str, Any]


def as_source(spec: str) -> str | Path:
    """A source as a step takes it: `python` and `hub:NAME` as they are, a path as a `Path`.

    A `Path` counts by its content in the step's key, so changed files are gathered again.
    """
    return spec if spec == "python" or spec.startswith("hub:") else Path(spec).expanduser()


def _gather_estimate(
    *, source: str | Path, limit_bytes: int | None, seed: int, text_field: str | None
) -> Estimate:
    size = limit_bytes or 200_000_000
    return Estimate(seconds=1 + size / 8e6, memory_bytes=300e6, disk_bytes=size / 3)


@step(version="1", makes="corpus", estimate=_gather_estimate)
def gather(
    ctx: StepContext,
    *,
    source: str | Path,
    limit_bytes: int | None = None,
    seed: int = 0,
    text_field: str | None = None,
) -> Facts:
    """Read a source (see `read_source`; give paths through `as_source`) into a corpus of documents.

    Facts: rows, bytes, sources {name: rows}, skipped (files of a folder that are not text) and, of those,
    examples.
    """
    lineage = _lineage(ctx, source=str(source), limit_bytes=limit_bytes, seed=seed)
    progress = ctx.progress(limit_bytes, "bytes", str(source))
    options = {"limit_bytes": limit_bytes, "seed": seed, "text_field": text_field}
    facts = gather_into(ctx.folder, source, lineage, progress, **options)
    if facts["skipped"]:
        ctx.say(f"{facts['skipped']} files were left out: they are not text, or of a kind that is not read.")
    return facts


def gather_into(
    folder: Path, source: str | Path, lineage: Mapping[str, Any], progress: Progress, **options: Any
) -> dict[str, Any]:
    """The corpus of a source in `folder`, and the facts of `gather`; `options` are those of `read_source`."""
    _start_over(folder, "corpus.json")
    skipped: dict[str, str] = {}
    rows = read_source(source, skipped=skipped, **options)
    with CorpusWriter(folder, "documents", lineage) as writer:
        ids: Counter[str] = Counter()
        for chunk in _chunks(rows):
            for row in chunk:
                ids[row["id"]] += 1
                if ids[row["id"]] > 1:
                    row["id"] = f"{row['id']}~{ids[row['id']]}"
            before = writer.bytes
            writer.write_rows(chunk)
            progress.advance(writer.bytes - before)
    corpus = Corpus.open(folder)
    return {
        "rows": corpus.rows,
        "bytes": corpus.bytes,
        "sources": corpus.sources,
        "repaired": writer.repaired,
        "skipped": len(skipped),
        "skipped_examples": dict(list(skipped.items())[:10]),
    }


@step(version="1", makes="corpora")
def split(ctx: StepContext, *, corpus: Artifact | Path, share: float = 0.02, by: str = "content") -> Facts:
    """Set rows apart for validation: two corpora, `train` and `validation`, below the artifact.

    A row's side depends on the hash of its content (or of its id) alone: it stays when other rows come or go,
    and equal texts are always on the same side. Only where a small corpus would leave one side empty, the
    row that is nearest to that side goes there.

    Args:
        share: expected share of validation rows, between 0 and 1.
        by: "content" or "id".
    """
    if not 0 < share < 1:
        raise HornbookError(f"share is {share}; it must lie between 0 and 1.")
    if by not in ("content", "id"):
        raise HornbookError(f"by is {by!r}; it must be 'content' or 'id'.")
    source = open_corpus(corpus)
    lineage = _lineage(ctx, corpus=str(source.folder), corpus_sha256=source.sha256, share=share, by=by)
    facts, places = _split_at(ctx, source, lineage, by, share * 2**64)
    if not (facts["train"]["rows"] and facts["validation"]["rows"]):
        lowest, highest = min(places, default=0), max(places, default=0)
        if lowest == highest:
            raise HornbookError(
                f"The corpus {source.folder} has {source.rows} row{'s' * (source.rows != 1)}, no two of them "
                "different, so nothing can be held out. Gather more, or cut it into several files or rows."
            )
        ctx.say(f"{source.rows} rows are few for a share of {share}: one of them is set apart.")
        cut = highest if facts["validation"]["rows"] else lowest + 1
        facts, _ = _split_at(ctx, source, lineage, by, cut)
    return facts


def _split_at(
    ctx: StepContext, source: Corpus, lineage: Mapping[str, Any], by: str, cut: float
) -> tuple[Facts, list[int]]:
    """Writes both sides, cut at one place of all hashes; gives their sizes and the outermost places seen."""
    for name in ("train", "validation"):
        shutil.rmtree(ctx.folder / name, ignore_errors=True)
    progress = ctx.progress(source.rows, "rows")
    ends: list[int] = []
    with (
        CorpusWriter(ctx.folder / "train", source.schema, lineage) as train,
        CorpusWriter(ctx.folder / "validation", source.schema, lineage) as validation,
    ):
        for batch in source.iter_batches():
            places = [_place(row["id"] if by == "id" else row_text(row)) for row in batch.to_pylist()]
            held_out = pa.array([place < cut for place in places], pa.bool_())
            table = pa.Table.from_batches([batch])
            validation.write_table(table.filter(held_out))
            train.write_table(table.filter(pc.invert(held_out)))
            progress.advance(len(places))
            ends = [min([*ends, *places]), max([*ends, *places])] if places else ends
    writers = (("train", train), ("validation", validation))
    return {name: {"rows": writer.rows, "bytes": writer.bytes} for name, writer in writers}, ends


def _place(key: str) -> int:
    """Where the hash of this content (or id) lies among all hashes, from 0 to 2**64."""
    digest = hashlib.sha256(b"hornbook-validation\x00" + key.encode()).digest()
    return int.from_bytes(digest[:8], "big")


def is_validation(key: str, share: float) -> bool:
    """Whether the row with this content (or id) is held out: its hash is in the first `share` of all."""
    return _place(key) < share * 2**64


def _train_tokenizer_estimate(
    *, corpora: Sequence[Any], vocab_size: int, seed: int, sample_bytes: int, chat_template: str
) -> Estimate:
    return Estimate(seconds=2 + sample_bytes / 4e6, memory_bytes=500e6 + 3 * sample_bytes, disk_bytes=2e6)


@step(version="1", makes="tokenizer", estimate=_train_tokenizer_estimate)
def train_tokenizer(
    ctx: StepContext,
    *,
    corpora: Sequence[Artifact | Path],
    vocab_size: int,
    seed: int = 0,
    sample_bytes: int = 40_000_000,
    chat_template: str = "phi3",
) -> Facts:
    """Train a tokeniser on a sample of the corpora; `Tokenizer.load(artifact.path)` opens it.

    Args:
        corpora: each gives an equal part of the sample, or all of itself when it is smaller.
        sample_bytes: text to learn from, about; more changes little and takes longer.

    Facts: vocab_size, sampled_bytes, bytes_per_token by corpus and source (over about a megabyte of each).
    """
    if not corpora:
        raise HornbookError("corpora is empty: name at least one corpus to train the tokeniser on.")
    opened = [open_corpus(corpus) for corpus in corpora]
    budgets = _budgets([corpus.bytes for corpus in opened], sample_bytes)
    progress = ctx.progress(sum(budgets), "bytes", "read")
    texts = [
        text
        for number, corpus in enumerate(opened)
        for text in _sample(corpus, budgets[number], f"{seed} {number}", progress)
    ]
    ctx.say(f"learning {vocab_size} tokens from {sum(map(len, texts)) / 1e6:.1f} MB of text")
    tokenizer = Tokenizer.train(texts, vocab_size, ctx.folder, chat_template=chat_template)
    if tokenizer.vocab_size < vocab_size:
        ctx.say(f"the text gave {tokenizer.vocab_size} tokens, fewer than the {vocab_size} asked for")
    return {
        "vocab_size": tokenizer.vocab_size,
        "sampled_bytes": sum(len(text.encode()) for text in texts),
        "bytes_per_token": {
            f"{number}:{source}": tokenizer.bytes_per_token(sample)
            for number, corpus in enumerate(opened)
            for source, sample in _by_source(corpus).items()
        },
    }


def _tokenize_estimate(*, corpus: Any, tokenizer: Any, template: str) -> Estimate:
    size = 5e6  # not there yet: a corpus of a laptop's run
    if isinstance(corpus, Path) or getattr(corpus, "finished", False):
        size = open_corpus(corpus).bytes
    return Estimate(seconds=1 + size / 4e6, memory_bytes=400e6, disk_bytes=size / 1.5)


@step(version="1", makes="tokens", estimate=_tokenize_estimate)
def tokenize(
    ctx: StepContext, *, corpus: Artifact | Path, tokenizer: Artifact | Path, template: str = "phi3"
) -> Facts:
    """Turn a corpus into a token file; `TokenFile.open(artifact.path)` opens it.

    Documents end with the end-of-text token, which is learned like the others. Conversations are written by
    `template`, with a mask that is 1 on the assistant's words and stop tokens alone.

    Facts: documents, tokens, learned_tokens, bytes, bytes_per_token, vocab_size, end_of_text and `sources`
    {name: {documents, tokens, bytes, bytes_per_token}}.
    """
    source = open_corpus(corpus)
    if source.schema == "preferences":
        raise HornbookError(
            f"The corpus {source.folder} holds preferences, which train on pairs: they are tokenised by the"
            " preference objective, not into a token file."
        )
    chat = source.schema == "conversations"
    tool = Tokenizer.load(tokenizer if isinstance(tokenizer, Path) else tokenizer.path)
    form = ChatTemplate(template)
    _start_over(ctx.folder, "tokens.json")
    progress = ctx.progress(source.bytes, "bytes")
    sources: dict[str, Counter[str]] = {}
    learned = 0
    facts: dict[str, Any] = {"end_of_text": tool.end_of_text, "corpus_sha256": source.sha256}
    with TokenWriter(ctx.folder, tool.vocab_size, with_mask=chat, facts=facts) as writer:
        for batch in source.iter_batches(rows=_ROWS):
            rows = batch.to_pylist()
            if chat:
                ids, mask = _conversations(tool, form, rows)
                learned += int(mask.sum())
            else:
                ids, mask = _documents(tool, [row["text"] for row in rows]), None
            writer.write_many(np.concatenate(ids), [len(document) for document in ids], mask)
            for row, document in zip(rows, ids, strict=True):
                size = _content_size(row)
                sources.setdefault(row["source"], Counter()).update(
                    documents=1, tokens=len(document), bytes=size
                )
            progress.advance(sum(_content_size(row) for row in rows))
        total: Counter[str] = sum(sources.values(), Counter())
        facts = writer.facts | {
            "vocab_size": tool.vocab_size,
            "learned_tokens": learned if chat else total["tokens"],
            **_counted(total),
            "sources": {name: _counted(count) for name, count in sorted(sources.items())},
        }
        writer.facts = facts
    return facts


def open_corpus(corpus: Artifact | Path, part: str = "") -> Corpus:
    """The corpus an artifact made, or the one in a folder."""
    folder = corpus if isinstance(corpus, Path) else corpus.path
    return Corpus.open(folder / part)


def _documents(tool: Tokenizer, texts: Sequence[str]) -> list[Any]:
    end = tool.end_of_text
    return [np.array([*ids, end], np.int64) for ids in tool.encode_batch(texts)]


def _conversations(
    tool: Tokenizer, form: ChatTemplate, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[Any], Any]:
    ids, masks = [], []
    for row in rows:
        if all(message["role"] != "assistant" for message in row["messages"]):
            raise HornbookError(
                f"The conversation {row['id']} has no assistant turn: there is nothing to learn in it."
            )
        tokens, mask = form.encode(tool, row["messages"])
        ids.append(np.array(tokens, np.int64))
        masks.append(np.array(mask, np.uint8))
    return ids, np.concatenate(masks)


def _counted(count: Mapping[str, int]) -> dict[str, Any]:
    return {
        "documents": count["documents"],
        "tokens": count["tokens"],
        "bytes": count["bytes"],
        "bytes_per_token": count["bytes"] / max(1, count["tokens"]),
    }


def _content_size(row: Mapping[str, Any]) -> int:
    return sum(len(text.encode()) for text in _contents(row))


def _contents(row: Mapping[str, Any]) -> list[str]:
    if "text" in row:
        return [row["text"]]
    extra = [row[name] for name in ("chosen", "rejected") if name in row]
    return [message["content"] for message in row["messages"]] + extra


def _budgets(sizes: Sequence[int], total: int) -> list[int]:
    """Equal parts of `total`, what a small corpus leaves going to the others."""
    budgets = [0] * len(sizes)
    left = total
    for place, number in enumerate(sorted(range(len(sizes)), key=lambda i: sizes[i])):
        budgets[number] = min(sizes[number], left // (len(sizes) - place))
        left -= budgets[number]
    return budgets


def _sample(corpus: Corpus, budget: int, salt: str, progress: Any) -> Iterator[str]:
    """About `budget` bytes of texts, chosen by hash so that the choice is spread over the corpus."""
    chance = budget / max(1, corpus.bytes)
    for row in corpus.iter_rows():
        if chance < 1 and not _chosen(f"{salt} {row['id']}", chance):
            continue
        for text in _contents(row):
            progress.advance(len(text))
            yield text


def _chosen(key: str, chance: float) -> bool:
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < chance * 2**64


def _by_source(corpus: Corpus) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    taken: Counter[str] = Counter()
    for row in corpus.iter_rows():
        if taken[row["source"]] < _MEASURED_BYTES:
            found = _contents(row)
            taken[row["source"]] += sum(map(len, found))
            texts.setdefault(row["source"], []).extend(found)
    return dict(list(texts.items())[:32])


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows by the thousand, or by the 16 MB of text."""
    chunk: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row["text"])
        if len(chunk) >= 1000 or size >= 16_000_000:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _start_over(folder: Path, manifest: str) -> None:
    """An interrupted attempt may have closed its files just before it was recorded as finished."""
    (folder / manifest).unlink(missing_ok=True)


def _lineage(ctx: StepContext, **inputs: Any) -> dict[str, Any]:
    return {"step": ctx.name, "key": ctx.key, "inputs": inputs}
