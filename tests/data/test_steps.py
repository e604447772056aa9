"""From a source to token files, through the lab: facts against counts made by hand."""

import json

import numpy as np
import pytest

from hornbook.data.chat import ChatTemplate
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.data.packing import PackedLoader
from hornbook.data.steps import as_source, gather, is_validation, split, tokenize, train_tokenizer
from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenFile
from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.lab.step import StepContext

SENTENCE = "the cat sat on a mat and saw 12 birds while seven dogs ran over green hills"
WORDS = SENTENCE.split()


def text(seed, words=60):
    random = np.random.default_rng(seed)
    return " ".join(random.choice(WORDS) for _ in range(words)) + f" {seed}."


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "runs", recipe="test", scale="smoke", settings={})


@pytest.fixture
def ctx(tmp_path):
    (tmp_path / "step").mkdir()
    return StepContext(
        folder=tmp_path / "step", name="test", key="0" * 64, resuming=False, run_metrics=None, quiet=True
    )


def folder_of(tmp_path, numbers, name="source"):
    (tmp_path / name).mkdir()
    for i in numbers:
        (tmp_path / name / f"{i}.txt").write_text(text(i))
    return tmp_path / name


def test_from_source_to_batches(run, tmp_path):
    source = folder_of(tmp_path, range(120))
    (source / "photo.png").write_bytes(b"\x89PNG")
    gathered = run.step(gather, source=as_source(str(source)))
    assert (gathered.facts["rows"], gathered.facts["skipped"]) == (120, 1)
    parts = run.step(split, corpus=gathered, share=0.2)
    tool = run.step(train_tokenizer, corpora=[parts / "train"], vocab_size=300)
    made = run.step(tokenize, corpus=parts / "train", tokenizer=tool)
    file, tokenizer = TokenFile.open(made.path), Tokenizer.load(tool.path)
    file.verify()
    texts = [row["text"] for row in Corpus.open(parts / "train").iter_rows()]
    assert [tokenizer.decode(file.document(i)) for i in range(len(file))] == [
        t + "<|endoftext|>" for t in texts
    ]
    assert made.facts["documents"] == len(texts) == parts.facts["train"]["rows"]
    assert made.facts["tokens"] == made.facts["learned_tokens"] == file.token_count
    size = sum(map(len, texts))
    assert made.facts["bytes_per_token"] == pytest.approx(size / file.token_count)
    assert sum(s["tokens"] for s in made.facts["sources"].values()) == file.token_count
    assert PackedLoader([(file, 1.0)], 4, 64, 0).batch(3).inputs.max() < tokenizer.vocab_size
    # The same inputs are not made twice; changed files are gathered again.
    assert run.step(gather, source=source).key == gathered.key
    (source / "1.txt").write_text("something else entirely, and long enough")
    assert run.step(gather, source=source).key != gathered.key


def test_the_validation_split_never_changes_when_data_is_added(run, tmp_path):
    few = run.step(gather, source=folder_of(tmp_path, range(100)))
    parts = run.step(split, corpus=few, share=0.3)
    held = {row["text"] for row in Corpus.open(parts / "validation").iter_rows()}
    kept = {row["text"] for row in Corpus.open(parts / "train").iter_rows()}
    more = run.step(gather, source=folder_of(tmp_path, range(50, 400), "more"))
    again = run.step(split, corpus=more, share=0.3)
    held_again = {row["text"] for row in Corpus.open(again / "validation").iter_rows()}
    kept_again = {row["text"] for row in Corpus.open(again / "train").iter_rows()}
    assert not held & kept_again
    assert not kept & held_again
    assert held & held_again
    assert kept & kept_again
    assert len(held_again) == pytest.approx(0.3 * 350, abs=40)


def test_equal_texts_are_on_one_side(ctx, tmp_path):
    with CorpusWriter(tmp_path / "c", "documents") as writer:
        writer.write_rows({"id": i, "text": text(i % 50)} for i in range(300))
    facts = split(ctx, corpus=tmp_path / "c", share=0.3)
    sides = [
        {row["text"] for row in Corpus.open(ctx.folder / n).iter_rows()} for n in ("train", "validation")
    ]
    assert not sides[0] & sides[1]
    assert facts["train"]["rows"] + facts["validation"]["rows"] == 300
    split(ctx, corpus=tmp_path / "c", share=0.3, by="id")  # and a second attempt in the same folder
    ids = [{row["id"] for row in Corpus.open(ctx.folder / n).iter_rows()} for n in ("train", "validation")]
    assert len(ids[0]) + len(ids[1]) == 300
    assert ids[1] == {str(i) for i in range(300) if is_validation(str(i), 0.3)}


@pytest.mark.parametrize("share", [1e-9, 0.3, 1 - 1e-9])
def test_a_handful_of_documents_is_split_too(ctx, tmp_path, share):
    with CorpusWriter(tmp_path / "c", "documents") as writer:
        writer.write_rows({"id": i, "text": text(i % 3)} for i in range(6))
    facts = split(ctx, corpus=tmp_path / "c", share=share)
    sides = [
        [row["text"] for row in Corpus.open(ctx.folder / n).iter_rows()] for n in ("train", "validation")
    ]
    assert [len(side) for side in sides] == [facts[n]["rows"] for n in ("train", "validation")]
    assert sides[0]
    assert sides[1]
    assert not set(sides[0]) & set(sides[1])
    assert sorted(sides[0] + sides[1]) == sorted(text(i % 3) for i in range(6))


def test_the_share_of_validation_is_right():
    held = sum(is_validation(str(i), 0.02) for i in range(50_000))
    assert held == pytest.approx(1000, abs=5 * 31.3)


def test_conversations_are_masked(ctx, tmp_path):
    talks = [
        [
            {"role": "user", "content": f"say {text(i, 5)}"},
            {"role": "assistant", "content": text(i, 8)},
            {"role": "user", "content": "again <|end|>"},
            {"role": "assistant", "content": text(i, 3)},
        ]
        for i in range(20)
    ]
    with CorpusWriter(tmp_path / "c", "conversations") as writer:
        writer.write_rows({"messages": talk, "source": "s"} for talk in talks)
    tokenizer = Tokenizer.train([text(i) for i in range(30)], 300, tmp_path / "t")
    facts = tokenize(ctx, corpus=tmp_path / "c", tokenizer=tmp_path / "t")
    file = TokenFile.open(ctx.folder)
    for i, talk in enumerate(talks):
        ids, mask = ChatTemplate("phi3").encode(tokenizer, talk)
        assert file.document(i).tolist() == ids
        assert file.document_mask(i).tolist() == mask
    assert facts["learned_tokens"] == int(file.mask.sum())
    said = sum(len(tokenizer.encode(m["content"])) + 1 for t in talks for m in t if m["role"] == "assistant")
    assert facts["learned_tokens"] == said
    assert facts["bytes"] == sum(len(m["content"]) for t in talks for m in t)


def test_nothing_to_learn_and_wrong_schemas_are_named(ctx, tmp_path):
    Tokenizer.train([text(0)], 280, tmp_path / "t")
    with CorpusWriter(tmp_path / "c", "conversations") as writer:
        writer.write_rows([{"id": "lonely", "messages": [{"role": "user", "content": "hello"}]}])
    with pytest.raises(HornbookError, match="conversation lonely has no assistant"):
        tokenize(ctx, corpus=tmp_path / "c", tokenizer=tmp_path / "t")
    with CorpusWriter(tmp_path / "p", "preferences") as writer:
        writer.write_rows([{"messages": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b"}])
    with pytest.raises(HornbookError, match="holds preferences"):
        tokenize(ctx, corpus=tmp_path / "p", tokenizer=tmp_path / "t")
    with pytest.raises(HornbookError, match="share is 1"):
        split(ctx, corpus=tmp_path / "c", share=1)
    with pytest.raises(HornbookError, match="has 1 row, no two of them different"):
        split(ctx, corpus=tmp_path / "c", share=0.5)
    with pytest.raises(HornbookError, match="corpora is empty"):
        train_tokenizer(ctx, corpora=[], vocab_size=300)


def test_the_tokeniser_hears_small_corpora_too(ctx, tmp_path):
    """Each corpus gives an equal part, so a small one is not drowned by a large one."""
    with CorpusWriter(tmp_path / "large", "documents") as writer:
        writer.write_rows({"id": i, "text": text(i)} for i in range(2000))
    with CorpusWriter(tmp_path / "small", "documents") as writer:
        writer.write_rows({"id": i, "text": "zyzzyva quokka " * 20} for i in range(20))
    facts = train_tokenizer(
        ctx, corpora=[tmp_path / "large", tmp_path / "small"], vocab_size=330, sample_bytes=30_000
    )
    assert facts["sampled_bytes"] == pytest.approx(30_000, rel=0.25)
    tokenizer = Tokenizer.load(ctx.folder)
    assert len(tokenizer.encode(" zyzzyva")) <= 2
    assert facts["vocab_size"] == tokenizer.vocab_size
    assert facts["bytes_per_token"].keys() == {"0:", "1:"}


def test_ids_are_unique_after_gathering(ctx, tmp_path):
    lines = [json.dumps({"id": "same", "text": text(i)}) for i in range(3)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    gather(ctx, source=tmp_path / "x.jsonl")
    assert [row["id"] for row in Corpus.open(ctx.folder).iter_rows()] == ["same", "same~2", "same~3"]


def test_an_attempt_cut_off_after_writing_is_made_again(ctx, tmp_path):
    """Killed between closing its files and being recorded, a step starts over in the same folder."""
    source = folder_of(tmp_path, range(20))
    assert gather(ctx, source=source) == gather(ctx, source=source)
    tokenizer = Tokenizer.train([text(i) for i in range(30)], 300, tmp_path / "t")
    corpus = ctx.folder.rename(tmp_path / "corpus")
    ctx.folder.mkdir()
    first = tokenize(ctx, corpus=corpus, tokenizer=tmp_path / "t")
    hashed = TokenFile.open(ctx.folder).sha256
    assert tokenize(ctx, corpus=corpus, tokenizer=tmp_path / "t") == first
    assert TokenFile.open(ctx.folder).sha256 == hashed
    assert first["vocab_size"] == tokenizer.vocab_size
