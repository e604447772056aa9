"""A real Ray cluster on this machine, driven by Daft: the bytes of one process; dead workers lose nothing."""

import os
import sys
from pathlib import Path

import pytest
from bombs import WORD, Bomb

from hornbook.curate.cluster import Cluster
from hornbook.curate.pieces import pieces_of
from hornbook.curate.pipeline import CurateSettings, prepare
from hornbook.curate.places import Here, examine
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.errors import HornbookError

LINE = "The {} of the house was with them and they had to be there for the {} that came in the evening. "


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    pytest.importorskip("daft")
    # Workers find what this process finds: Hornbook, and the module with the bombs.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    place = Cluster("local")
    try:
        place.connect()
    except HornbookError as error:  # a container without shared memory, say: no fault of ours
        pytest.skip(str(error))
    yield place
    ray.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def pieces(tmp_path):
    with CorpusWriter(tmp_path / "corpus", "documents") as writer:
        for i in range(40):
            text = "\n".join(LINE.format(f"thing{i}{j}", f"guest{i * j}") for j in range(7))
            writer.write_rows([{"id": str(i), "text": text + (WORD if i == 17 else "")}])
    return list(pieces_of(Corpus.open(tmp_path / "corpus"), rows=4))


def collect(examiner, pieces, place):
    found = {}
    examine(examiner, pieces, place, lambda piece, data: found.__setitem__(piece.number, data))
    return found


@pytest.mark.oracle
def test_a_cluster_gives_the_bytes_of_one_process(cluster, pieces):
    examiner = prepare(CurateSettings(), {})
    assert collect(examiner, pieces, cluster) == collect(examiner, pieces, Here())


@pytest.mark.oracle
def test_a_cluster_worker_that_dies_loses_nothing(cluster, pieces, tmp_path):
    marks = tuple(str(tmp_path / f"mark{i}") for i in range(2))
    found = collect(Bomb(settings=CurateSettings(), marks=marks), pieces, cluster)
    assert Path(marks[0]).exists()
    assert found == collect(prepare(CurateSettings(), {}), pieces, Here())


@pytest.mark.oracle
def test_what_a_worker_says_reaches_the_user(cluster, pieces):
    Path(pieces[0].path).unlink()
    with pytest.raises(HornbookError, match="a shared folder"):
        collect(prepare(CurateSettings(), {}), pieces, cluster)


def test_without_the_packages_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "daft", None)
    with pytest.raises(HornbookError, match=r"pip install 'hornbook\[cluster\]'"):
        Cluster("local").connect()
