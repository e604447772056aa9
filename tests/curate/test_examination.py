"""Examination in one process and in a pool: equal bytes, nothing lost, nothing asked twice."""

import itertools
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from bombs import WORD, Bomb

from hornbook.curate import heuristics
from hornbook.curate.examination import examine_corpus
from hornbook.curate.examined import Examined, pack, unpack
from hornbook.curate.pieces import Piece, pieces_of
from hornbook.curate.pipeline import CurateSettings, prepare
from hornbook.curate.places import Here, Pool, WorkerLost, examine, place_of, work
from hornbook.curate.steps import curate_corpus
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.errors import HornbookError
from hornbook.lab.progress import NullProgress


def texts(count, bomb=None):
    """Sentences of words that occur nowhere else, between real function words."""
    generator = np.random.default_rng(3)
    syllables = ["ka", "lo", "mi", "ran", "tes", "vor", "dul", "pen", "sim", "tra"]

    def sentence():
        words = ["".join(generator.choice(syllables, 3)) for _ in range(7)]
        return "The {} of {} and {} was with {} in {} that {} have to {}.".format(*words)

    made = [" ".join(sentence() for _ in range(8)) for _ in range(count)]
    if bomb is not None:
        made[bomb] += f" {WORD}"
    return made


@pytest.fixture
def corpus(tmp_path):
    return written(tmp_path / "corpus", texts(30, bomb=17))


def written(folder, rows):
    with CorpusWriter(folder, "documents", shard_rows=13) as writer:
        writer.write_rows({"id": str(i), "text": text, "source": "t"} for i, text in enumerate(rows))
    return Corpus.open(folder)


def small_pieces(corpus):
    return list(pieces_of(corpus, rows=4))


def collect(examiner, pieces, place, say=lambda sentence: None):
    found = {}

    def keep(piece, data):
        assert piece.number not in found
        found[piece.number] = data

    examine(examiner, pieces, place, keep, say)
    return found


def test_pieces_cover_the_corpus_in_order(corpus):
    pieces = small_pieces(corpus)
    assert [p.number for p in pieces] == list(range(len(pieces)))
    assert [p.first for p in pieces] == [0, *itertools.accumulate(p.rows for p in pieces)][:-1]
    read = [text for p in pieces for text in p.read().column("text").to_pylist()]
    assert read == [row["text"] for row in corpus.iter_rows()]


def test_long_documents_make_small_pieces(tmp_path):
    corpus = written(
        tmp_path / "long", ["".join(chr(97 + (i * j) % 26) for j in range(40_000)) for i in range(9)]
    )
    assert [p.rows for p in pieces_of(corpus, rows=4)] == [4, 4, 1]
    with CorpusWriter(tmp_path / "huge", "documents") as writer:
        writer.write_rows({"text": str(i) * 9_000_000} for i in range(5))
    assert max(p.rows for p in pieces_of(Corpus.open(tmp_path / "huge"))) < 1024


def test_a_worker_that_dies_loses_nothing(corpus, tmp_path):
    pieces = small_pieces(corpus)
    plain = prepare(CurateSettings(), {})
    bomb = Bomb(settings=plain.settings, marks=(str(tmp_path / "first"),))
    said = []
    assert collect(bomb, pieces, Pool(2), said.append) == collect(plain, pieces, Here())
    assert said == [
        "A worker was lost (a process of the pool ended). What it had in hand is done again; nothing else is."
    ]


def test_documents_that_end_every_worker_are_named_and_the_rest_is_kept(corpus):
    pieces = small_pieces(corpus)
    bomb = Bomb(settings=CurateSettings())
    found = {}
    with pytest.raises(HornbookError, match=r"rows 17 to 20 end every process.*goes on from there"):
        examine(bomb, pieces, Pool(2), lambda piece, data: found.__setitem__(piece.number, data))
    assert found  # and what it had is good:
    assert all(found[n] == work(prepare(CurateSettings(), {}), pieces[n]) for n in found)


def test_a_place_without_workers_is_given_up_with_a_sentence(corpus):
    class Desert:
        def examine(self, examiner, pieces):
            raise WorkerLost((), "no node answers")
            yield

    with pytest.raises(HornbookError, match=r"lost 3 times without a result \(no node answers\)"):
        collect(prepare(CurateSettings(), {}), small_pieces(corpus), Desert())


def test_a_missing_shard_says_what_workers_must_see(tmp_path):
    lost = Piece(number=0, path=str(tmp_path / "gone.parquet"), group=0, start=0, rows=1, first=0)
    with pytest.raises(HornbookError, match=r"gone\.parquet could not be read.*shared folder"):
        lost.read()


def test_records_survive_a_torn_end(tmp_path):
    batches = [pa.RecordBatch.from_pydict({"n": [i] * 3}) for i in range(4)]
    path = tmp_path / "log.arrow"
    with Examined(path) as log:
        for i, batch in enumerate(batches):
            log.add(i, pack(batch))
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 100, len(whole) - len(whole) // 4 + 5):
        path.write_bytes(whole[:cut])
        with Examined(path) as log:
            assert 3 not in log
            assert log.batches([0, 1, 2]) == batches[:3]
            log.add(3, pack(batches[3]))
        assert Examined(path).batches([0, 1, 2, 3]) == batches
    spoiled = bytearray(whole)
    spoiled[80] ^= 1  # in the first record
    path.write_bytes(spoiled)
    assert 0 not in Examined(path)


def test_the_newest_record_of_a_piece_counts(tmp_path):
    old, new = (pa.RecordBatch.from_pydict({"n": [i]}) for i in range(2))
    with Examined(tmp_path / "log.arrow") as log:
        log.add(5, pack(old))
        log.add(5, pack(new))
        assert log.batches([5]) == [new]
    assert unpack(pack(new)) == new


class Counting(Here):
    def __init__(self):
        object.__setattr__(self, "seen", [])

    def examine(self, examiner, pieces):
        for number, data in super().examine(examiner, pieces):
            self.seen.append(number)
            yield number, data


def curated(corpus, folder, examined, settings, place=None, monkeypatch=None):
    if place is not None:
        monkeypatch.setattr("hornbook.curate.steps.place_of", lambda *_: place)
    return curate_corpus(
        corpus,
        folder,
        examined=examined,
        settings=settings,
        progress=lambda total, unit, label: NullProgress(total, unit, label),
        say=lambda sentence: None,
    )


def files(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_other_rules_read_no_text_again_and_loosened_ones_read_what_they_let_in(tmp_path, monkeypatch):
    rows = texts(30) + ["The and of to be that have with too short."] * 3
    corpus = written(tmp_path / "corpus", rows)
    strict, place = CurateSettings(repeated_lines=1, near=None), Counting()
    examined = tmp_path / "examined"
    first = curated(corpus, tmp_path / "a", examined, strict, place, monkeypatch)
    assert place.seen == [0, 1, 2]
    again = curated(
        corpus, tmp_path / "b", examined, replace(strict, personal_data="off"), place, monkeypatch
    )
    assert place.seen == [0, 1, 2]
    assert again["rows_out"] == first["rows_out"] == 30
    loose = replace(strict, rules=(), exact=False)
    all_in = curated(corpus, tmp_path / "c", examined, loose, place, monkeypatch)
    assert all_in["rows_out"] == 33
    assert place.seen == [0, 1, 2, 2]  # the piece that holds the short ones
    # Back again, the result is that of the first time, byte for byte, and so is a fresh examination's.
    curated(corpus, tmp_path / "d", examined, strict, place, monkeypatch)
    assert place.seen == [0, 1, 2, 2]
    assert files(tmp_path / "d") == files(tmp_path / "a")
    curated(corpus, tmp_path / "e", tmp_path / "fresh", loose)
    assert files(tmp_path / "e") == files(tmp_path / "c")


def test_what_changes_attributes_changes_the_key(tmp_path):
    plain = prepare(CurateSettings(), {})
    rules = (heuristics.Rule(name="r", measure="words", at_least=3),)
    for change in (
        {"rules": rules},
        {"educational_share": 0.1},
        {"personal_data": "off"},
        {"language": None},
    ):
        assert prepare(CurateSettings(**change), {}).key == plain.key
    for change in ({"longest_characters": 9}, {"near": None}):
        assert prepare(CurateSettings(**change), {}).key != plain.key


KILLED = """
import os, sys, time
from pathlib import Path
from hornbook.curate.examination import examine_corpus
from hornbook.curate.pipeline import CurateSettings, prepare
from hornbook.curate.places import Here
from hornbook.data.corpus import Corpus
from hornbook.lab.progress import NullProgress
class Slow(Here):
    def examine(self, examiner, pieces):
        for result in super().examine(examiner, pieces):
            yield result
            print(result[0], flush=True)
            time.sleep(0.2)
corpus = Corpus.open(sys.argv[1])
examine_corpus(corpus, prepare(CurateSettings(), {}), Path(sys.argv[2]), Slow(), progress=NullProgress(1))
"""


def test_a_killed_examination_goes_on_where_it_was(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    folder = tmp_path / "examined"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(corpus.folder), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "0\n"
    deadline = time.monotonic() + 20
    while not list(folder.glob("*.arrow")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait(10)
    place = Counting()
    examiner = prepare(CurateSettings(), {})
    table = examine_corpus(corpus, examiner, folder, place, progress=NullProgress(1))
    assert 0 not in place.seen
    assert len(place.seen) < 3
    fresh = examine_corpus(corpus, examiner, tmp_path / "fresh", Here(), progress=NullProgress(1))
    assert table.equals(fresh)


@pytest.mark.parametrize(("workers", "cluster", "words"), [(2, "auto", "not both"), (0, None, "at least 1")])
def test_a_wrong_place_is_refused(workers, cluster, words):
    with pytest.raises(HornbookError, match=words):
        place_of(workers, cluster, 1)
