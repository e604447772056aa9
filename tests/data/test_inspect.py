"""ls, show, stats and diff against counts made by hand."""

import pytest

from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.data.inspect import compare, list_corpora, show, statistics
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError


def write(folder, rows, schema="documents"):
    with CorpusWriter(folder, schema) as writer:
        writer.write_rows(rows)
    return Corpus.open(folder, allow_empty=True)


ROWS = [
    {"id": "1", "text": "The Cat sat.", "source": "a"},
    {"id": "2", "text": "A dog ran.", "source": "b"},
    {"id": "3", "text": "The Cat sat.", "source": "b"},
    {"id": "3", "text": "é", "source": "b"},
]


def test_ls_finds_every_corpus_and_says_what_is_broken(tmp_path):
    write(tmp_path / "x" / "one", ROWS)
    two = write(tmp_path / "two", [])
    write(tmp_path / "x" / "bad", ROWS)
    (tmp_path / "x" / "bad" / "part-00000.parquet").unlink()
    found = list_corpora(tmp_path)
    assert [e["path"] for e in found] == [
        str(two.folder),
        str(tmp_path / "x" / "bad"),
        str(tmp_path / "x" / "one"),
    ]
    assert found[0]["rows"] == 0
    assert "part-00000.parquet" in found[1]["error"]
    assert (found[2]["rows"], found[2]["schema"], found[2]["bytes"]) == (4, "documents", 36)
    with pytest.raises(HornbookError, match="no folder"):
        list_corpora(tmp_path / "none")


def test_show_by_number_id_and_search(tmp_path):
    corpus = write(tmp_path, ROWS)
    assert [r["id"] for r in show(corpus, rows=2, offset=1)] == ["2", "3"]
    assert [r["text"] for r in show(corpus, ids=("2",))] == ["A dog ran."]
    assert [r["id"] for r in show(corpus, search="CAT")] == ["1", "3"]
    assert [r["id"] for r in show(corpus, search="cat", offset=1)] == ["3"]
    assert show(corpus, search="horse") == []
    with pytest.raises(HornbookError, match="no row with id 9"):
        show(corpus, ids=("9", "1"))
    with pytest.raises(HornbookError, match="rows is 0"):
        show(corpus, rows=0)
    talk = write(tmp_path / "t", [{"messages": [{"role": "user", "content": "Tell me"}]}], "conversations")
    assert len(show(talk, search="tell")) == 1


def test_statistics_by_hand(tmp_path):
    corpus = write(tmp_path, ROWS)
    found = statistics(corpus)
    assert (found["rows"], found["bytes"], found["duplicate_share"], found["repeated_ids"]) == (
        4,
        36,
        0.25,
        1,
    )
    assert found["sources"] == {"b": {"rows": 3, "bytes": 24}, "a": {"rows": 1, "bytes": 12}}
    assert found["bytes_quantiles"]["0.0"] == 2
    assert found["bytes_quantiles"]["0.5"] == 11
    tokenizer = Tokenizer.train(["The cat sat. A dog ran."] * 5, 280)
    found = statistics(corpus, tokenizer)
    assert found["tokens"] == sum(len(tokenizer.encode(r["text"])) for r in ROWS)
    assert found["sources"]["a"]["tokens"] == len(tokenizer.encode("The Cat sat."))
    assert found["bytes_per_token"] == pytest.approx(36 / found["tokens"])
    assert statistics(write(tmp_path / "e", []))["rows"] == 0


def test_compare_by_id_and_content(tmp_path):
    a = write(tmp_path / "a", [{"id": str(i), "text": f"t{i}"} for i in range(6)])
    b = write(
        tmp_path / "b",
        [
            {"id": "0", "text": "t0"},
            {"id": "1", "text": "new"},
            {"id": "x", "text": "t4"},
            {"id": "y", "text": "z"},
        ],
    )
    found = compare(a, b)
    assert {k: v for k, v in found.items() if k != "examples"} == {
        "rows_a": 6,
        "rows_b": 4,
        "same": 1,
        "changed": 1,
        "only_a": 4,
        "only_b": 2,
        "moved": 1,
    }
    assert found["examples"] == {
        "changed": ["1"],
        "only_a": ["2", "3", "4", "5"],
        "only_b": ["x", "y"],
        "moved": ["x"],
    }
    assert compare(a, a)["same"] == 6
    talk = write(tmp_path / "t", [{"messages": [{"role": "user", "content": "q"}]}], "conversations")
    with pytest.raises(HornbookError, match="cannot be compared"):
        compare(a, talk)
