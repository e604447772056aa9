"""Pages, search and coverage give what reading the whole corpus would give, and read only what they need."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hornbook.data import browse
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.data.inspect import row_text
from hornbook.errors import HornbookError


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """30,000 documents in shards of 9,000: four shards, five row groups."""
    rng = random.Random(3)
    rows = [
        {
            "id": f"d{i}",
            "text": f"Text {i} {'Needle' if i % 4999 == 7 else 'hay'} {rng.random()}",
            "source": f"s{i % 3}",
            "meta": json.dumps({"plan": {"plot": f"p{i % 5}"}, "tags": [f"t{i % 2}"], "index": i}),
        }
        for i in range(30_000)
    ]
    folder = tmp_path_factory.mktemp("browse") / "corpus"
    with CorpusWriter(folder, "documents", lineage={}, shard_rows=9_000) as writer:
        writer.write_rows(rows)
    corpus = Corpus.open(folder)
    corpus.write_attributes("scores", [pa.table({"score": [i / 2 for i in range(30_000)]})])
    return corpus, rows


@pytest.mark.parametrize(
    ("offset", "count"), [(0, 5), (8190, 5), (8_995, 10), (17_999, 3), (29_998, 10), (30_000, 4)]
)
def test_a_page_is_the_slice_of_the_whole(large, offset, count):
    corpus, rows = large
    assert browse.page(corpus, offset=offset, rows=count) == rows[offset : offset + count]
    attributes = browse.attributes_page(corpus, "scores", offset=offset, rows=count)
    assert [row["score"] for row in attributes] == [i / 2 for i in range(offset, min(30_000, offset + count))]


def test_rows_by_number_are_those_of_the_whole(large):
    corpus, rows = large
    numbers = [29_999, 0, 8192, 8191, 9_000, 17]
    assert browse.rows_at(corpus, numbers) == [rows[i] for i in sorted(numbers)]
    assert browse.rows_at(corpus, []) == []
    with pytest.raises(HornbookError, match="0 to 29999"):
        browse.rows_at(corpus, [30_000])


def test_a_page_reads_one_row_group_and_hashes_nothing(large, monkeypatch):
    corpus, _ = large
    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, i, **k: read.append(i) or original(self, i, **k)
    )
    monkeypatch.setattr("hornbook.data.corpus.sha256_file", lambda path: pytest.fail("a shard was hashed"))
    browse.page(Corpus.open(corpus.folder), offset=20_000, rows=20)
    assert len(read) == 1


def test_a_search_goes_on_until_it_has_found_all(large):
    corpus, rows = large
    expected = [i for i, row in enumerate(rows) if "needle" in row["text"].lower()]
    found, start = [], 0
    while start is not None:
        part = browse.search(corpus, "nEEdle", start=start, rows=2, seconds=0)  # no time: a group at a time
        found += part.rows
        start = part.next
    assert [number for number, _ in found] == expected
    assert all(rows[number] == row for number, row in found)
    only = browse.search(corpus, "needle", source="s1", rows=100)
    assert [number for number, _ in only.rows] == [i for i in expected if i % 3 == 1]


def test_search_looks_into_messages_and_both_answers(tmp_path):
    messages = [{"role": "user", "content": "Where is the KEY?"}, {"role": "assistant", "content": "Here."}]
    rows = [
        {"id": "a", "messages": messages, "chosen": "one", "rejected": "two", "source": "s", "meta": "{}"},
        {
            "id": "b",
            "messages": [messages[1]],
            "chosen": "x",
            "rejected": "the key",
            "source": "s",
            "meta": "{}",
        },
        {
            "id": "c",
            "messages": [{"role": "user", "content": "?"}],
            "chosen": "x",
            "rejected": "y",
            "source": "s",
            "meta": "{}",
        },
    ]
    with CorpusWriter(tmp_path / "c", "preferences", lineage={}) as writer:
        writer.write_rows(rows)
    corpus = Corpus.open(tmp_path / "c")
    for text in ("key", "here", "x", "zzz"):
        expected = [i for i, row in enumerate(rows) if text in row_text({**row, "id": ""}).lower()]
        assert [number for number, _ in browse.search(corpus, text).rows] == expected, text


def test_coverage_counts_pairs_and_shows_the_missing_ones(tmp_path):
    with CorpusWriter(tmp_path / "c", "documents", lineage={}) as writer:
        writer.write_rows(
            [
                {"id": str(i), "text": "t", "source": "s", "meta": json.dumps({"a": a, "b": {"c": c}})}
                for i, (a, c) in enumerate([("x", 1), ("x", 1), ("x", 2), ("y", 2)])
            ]
        )
    found = browse.coverage(Corpus.open(tmp_path / "c"), "a", "b.c")
    assert (found.rows, found.looked_at, found.of) == (["x", "y"], 4, 4)
    cells = {
        (a, b): found.counts[i][j] for i, a in enumerate(found.rows) for j, b in enumerate(found.columns)
    }
    assert cells == {("x", "1"): 2, ("x", "2"): 1, ("y", "1"): 0, ("y", "2"): 1}


def test_fields_worth_crossing_are_those_with_a_few_values(large):
    corpus, _ = large
    assert browse.fields(corpus) == {"plan.plot": 5, "source": 3, "tags": 2}
    sampled = browse.coverage(corpus, "plan.plot", "source")
    assert sampled.looked_at <= 20_000 + 8
    assert sum(map(sum, sampled.counts)) == sampled.looked_at


def test_a_damaged_shard_is_named_and_wrong_numbers_are_refused(tmp_path):
    with CorpusWriter(tmp_path / "c", "documents", lineage={}) as writer:
        writer.write_rows([{"id": "1", "text": "t", "source": "s", "meta": "{}"}])
    corpus = Corpus.open(tmp_path / "c")
    path = tmp_path / "c" / "part-00000.parquet"
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(HornbookError, match="part-00000"):
        browse.page(corpus)
    with pytest.raises(HornbookError, match="offset"):
        browse.page(corpus, offset=-1)
