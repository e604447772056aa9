"""Corpora: what is written is read, whole or not at all; a damaged shard is named."""

import json
import resource
import subprocess
import sys
import textwrap

import polars
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.data.corpus import Corpus, CorpusWriter, content_id
from hornbook.errors import HornbookError


def rows(n, start=0):
    return [
        {
            "id": f"d{i}",
            "text": f"text {i} " * (i % 7 + 1),
            "source": "ab"[i % 2],
            "meta": json.dumps({"n": i}),
        }
        for i in range(start, start + n)
    ]


@pytest.fixture
def corpus(tmp_path):
    with CorpusWriter(tmp_path / "c", "documents", {"step": "test"}, shard_rows=10) as writer:
        writer.write_rows(rows(35))
    return Corpus.open(tmp_path / "c")


def test_rows_come_back_in_order_in_shards(corpus):
    assert (corpus.rows, corpus.schema, corpus.lineage, len(corpus.shards)) == (
        35,
        "documents",
        {"step": "test"},
        4,
    )
    assert list(corpus.iter_rows()) == rows(35)
    assert corpus.read().to_pylist() == rows(35)
    assert corpus.read(["meta", "id"]).column_names == ["meta", "id"]
    assert [b.num_rows for b in corpus.iter_batches(["id"], rows=4)] == [4, 4, 2] * 3 + [4, 1]
    assert corpus.bytes == sum(len(r["text"]) for r in rows(35))
    assert corpus.sources == {"a": 18, "b": 17}
    corpus.verify()
    # The ecosystem reads it as it is.
    assert polars.read_parquet(corpus.folder / "part-*.parquet")["id"].to_list() == [
        f"d{i}" for i in range(35)
    ]


def test_tables_and_rows_mix_across_shards(tmp_path):
    table = pa.Table.from_pylist(rows(23, 5)).select(["text", "meta", "source", "id"])
    with CorpusWriter(tmp_path, "documents", shard_rows=10) as writer:
        writer.write_rows(iter(rows(5)))
        writer.write_table(table)
        writer.write_table(table.to_batches()[0].slice(0, 0))
        writer.write_rows([])
    corpus = Corpus.open(tmp_path)
    assert list(corpus.iter_rows()) == rows(28)
    assert [pa.parquet.read_metadata(tmp_path / s).num_rows for s in corpus.shards] == [10, 10, 8]


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=30))
def test_any_text_comes_back_exactly(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("c")
    with CorpusWriter(folder, "documents", shard_rows=7) as writer:
        writer.write_rows({"text": text} for text in texts)
    assert [row["text"] for row in Corpus.open(folder).iter_rows()] == texts
    assert writer.repaired == 0


def test_awkward_texts(tmp_path):
    """NUL is kept, lone surrogates replaced and counted; one character and 100 MB are documents."""
    texts = ["\x00a\x00", "x", "", "\ud800 lone \udfff", "日" * 35_000_000, "after"]
    with CorpusWriter(tmp_path, "documents") as writer:
        writer.write_rows({"id": i, "text": text} for i, text in enumerate(texts))
    corpus = Corpus.open(tmp_path)
    read = [row["text"] for row in corpus.iter_rows()]
    assert read[:3] == texts[:3]
    assert "lone" in read[3]
    assert "\ufffd" in read[3]
    assert read[4:] == texts[4:]
    assert corpus.manifest["repaired"] == 1


def test_conversations_and_preferences(tmp_path):
    talk = [{"role": "user", "content": "Hi é"}, {"role": "assistant", "content": "\udc00 hello"}]
    with CorpusWriter(tmp_path / "c", "conversations") as writer:
        writer.write_rows([{"messages": talk, "meta": {"k": 1}}])
    (row,) = Corpus.open(tmp_path / "c").iter_rows()
    assert row["messages"][0] == talk[0]
    assert row["messages"][1]["content"].endswith(" hello")
    assert json.loads(row["meta"]) == {"k": 1}
    assert row["id"] == content_id("user", "Hi é", "assistant", "\udc00 hello")
    assert Corpus.open(tmp_path / "c").bytes == sum(len(m["content"].encode()) for m in row["messages"])
    with CorpusWriter(tmp_path / "p", "preferences") as writer:
        writer.write_rows([{"messages": talk[:1], "chosen": "yes", "rejected": "no"}])
    (row,) = Corpus.open(tmp_path / "p").iter_rows()
    assert (row["chosen"], row["rejected"], row["messages"]) == ("yes", "no", talk[:1])


def test_the_corpus_appears_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "c"
    with pytest.raises(ZeroDivisionError), CorpusWriter(folder, "documents", shard_rows=5) as writer:
        writer.write_rows([*rows(12), 1 // 0])
    assert list(folder.iterdir()) == []
    with pytest.raises(HornbookError, match=r"not a finished corpus: it has no corpus\.json"):
        Corpus.open(folder)


def test_what_a_killed_writer_left_is_cleaned(tmp_path):
    program = f"""
        import os, signal
        from hornbook.data.corpus import CorpusWriter
        with CorpusWriter({str(tmp_path / "c")!r}, "documents", shard_rows=5) as writer:
            writer.write_rows({{"text": str(i)}} for i in range(12))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert (tmp_path / "c" / "part-00001.parquet").exists()
    with pytest.raises(HornbookError, match="not a finished corpus"):
        Corpus.open(tmp_path / "c")
    with CorpusWriter(tmp_path / "c", "documents") as writer:
        writer.write_rows(rows(3))
    assert list(Corpus.open(tmp_path / "c").iter_rows()) == rows(3)
    assert len(list((tmp_path / "c").glob("*.parquet"))) == 1


@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
def test_a_damaged_shard_is_named_and_never_skipped(corpus, how):
    path = corpus.folder / "part-00002.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(data if how == "flipped" else data[:-1])
    with pytest.raises(HornbookError, match=r"part-00002\.parquet.*(damaged|missing).*make it again"):
        list(Corpus(corpus.folder, corpus.manifest).iter_rows())
    with pytest.raises(HornbookError, match=r"part-00002\.parquet"):
        corpus.verify()
    if how != "flipped":
        with pytest.raises(HornbookError, match=r"part-00002\.parquet"):
            Corpus.open(corpus.folder)


def test_a_damaged_manifest_is_named(corpus):
    path = corpus.folder / "corpus.json"
    for text in ("{", '{"format": 1}', '{"format": 9}', '{"format": 1, "schema": []}'):
        path.write_text(text)
        with pytest.raises(HornbookError, match=r"corpus\.json is damaged|format 9"):
            Corpus.open(corpus.folder)


def test_missing_and_empty_corpora_are_errors(tmp_path):
    with pytest.raises(HornbookError, match="does not exist"):
        Corpus.open(tmp_path / "nowhere")
    with CorpusWriter(tmp_path / "e", "documents"):
        pass
    with pytest.raises(HornbookError, match="empty"):
        Corpus.open(tmp_path / "e")
    empty = Corpus.open(tmp_path / "e", allow_empty=True)
    assert list(empty.iter_rows()) == []
    assert empty.read().column_names == ["id", "text", "source", "meta"]


def test_a_finished_corpus_is_not_overwritten(corpus):
    with (
        pytest.raises(HornbookError, match="already holds a corpus"),
        CorpusWriter(corpus.folder, "documents"),
    ):
        pass
    corpus.verify()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "x7"}, r"Row 2 \(id x7\) .* no text"),
        ({"text": None}, "Row 2 of a corpus of documents has no text"),
        ({"text": "a", "score": 1}, "column 'score'"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, words):
    with pytest.raises(HornbookError, match=words), CorpusWriter(tmp_path, "documents") as writer:
        writer.write_rows([*rows(2), row])


def test_bad_messages_tables_and_settings_are_named(tmp_path):
    for bad in ([], [{"role": "user"}], "hello", [{"role": "user", "content": 3}], None):
        with (
            pytest.raises(HornbookError, match="messages"),
            CorpusWriter(tmp_path, "conversations") as writer,
        ):
            writer.write_rows([{"messages": bad}])
    for table, words in (
        (pa.table({"text": ["a"]}), "lacks id, source, meta"),
        (pa.Table.from_pylist(rows(1)).append_column("x", [[1]]), "unknown columns x"),
        (
            pa.table({"id": ["a"], "text": [None], "source": [""], "meta": ["{}"]}),
            "empty values in the column 'text'",
        ),
    ):
        with pytest.raises(HornbookError, match=words), CorpusWriter(tmp_path, "documents") as writer:
            writer.write_table(table)
    with pytest.raises(HornbookError, match="must be one of documents, conversations, preferences"):
        CorpusWriter(tmp_path, "books")
    with pytest.raises(HornbookError, match="shard_rows is 0"):
        CorpusWriter(tmp_path, "documents", shard_rows=0)


def test_unknown_columns_are_named(corpus):
    with pytest.raises(HornbookError, match="no column 'texts'; it has id, text, source, meta"):
        list(corpus.iter_rows(["texts"]))


def test_attributes_lie_beside_the_rows(corpus):
    scores = pa.table({"score": [i / 2 for i in range(35)], "keep": [i % 3 == 0 for i in range(35)]})
    corpus.write_attributes("quality", [scores.slice(0, 8), *scores.slice(8).to_batches(max_chunksize=9)])
    again = Corpus.open(corpus.folder)
    assert again.attributes == ("quality",)
    assert again.read_attributes("quality") == scores
    assert again.read_attributes("quality", ["keep"]).column_names == ["keep"]
    shard = corpus.folder / "attributes" / "quality" / "part-00003.parquet"
    assert pa.parquet.read_metadata(shard).num_rows == 5  # same rows as the shard beside it
    corpus.write_attributes("quality", [scores.select(["keep"])])
    assert corpus.read_attributes("quality").column_names == ["keep"]
    with pytest.raises(HornbookError, match=r"34 rows; the corpus .* has 35"):
        corpus.write_attributes("other", [scores.slice(1)])
    assert corpus.attributes == ("quality",)
    with pytest.raises(HornbookError, match="no attributes 'other'; it has quality"):
        corpus.read_attributes("other")
    with pytest.raises(HornbookError, match="no column 'nope'"):
        corpus.read_attributes("quality", ["nope"])
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(HornbookError, match=r"quality/part-00003\.parquet"):
        Corpus.open(corpus.folder).verify()


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path):
    program = f"""
        import random, resource, signal
        from hornbook.data.corpus import CorpusWriter
        from hornbook.errors import HornbookError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            with CorpusWriter({str(tmp_path)!r}, "documents", shard_rows=1000) as writer:
                writer.write_rows({{"text": random.randbytes(99).hex()}} for _ in range(3000))
        except HornbookError as error:
            print(error)
    """
    assert resource  # the limit stands in for a full disk: the write fails with OSError
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert "Could not write" in out.stdout
    assert list(tmp_path.iterdir()) == []
