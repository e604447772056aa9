"""Semantic duplicates: planted rewordings, a brute-force count, and groups that find what all pairs find."""

import numpy as np
import pytest

from hornbook.curate import semantic
from hornbook.curate.decision import decide
from hornbook.curate.examined import unpack
from hornbook.curate.pipeline import ATTRIBUTES, CurateSettings, prepare
from hornbook.curate.places import work
from hornbook.curate.semantic import Embedder, SemanticSettings, clusters, cosines
from hornbook.curate.words import split
from hornbook.errors import HornbookError

SYLLABLES = ["ka", "lo", "mi", "ran", "tes", "vor", "dul", "pen", "sim", "tra", "hel", "ost"]
COMMON = ["the", "of", "and", "to", "in", "a", "that", "was", "for", "on", "with", "his", "at", "from", "by"]


def topics(count, seed=0):
    """Documents of 60 sentences' worth of words: each of one topic with words of its own."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        names = ["".join(generator.choice(SYLLABLES, 3)) for _ in range(12)]
        made.append([[*generator.choice(names, 5), *generator.choice(COMMON, 6)] for _ in range(14)])
    return made


def said(document, generator):
    """The document in another order of sentences and of words, with other small words."""
    sentences = [[w for w in s if w not in COMMON] + list(generator.choice(COMMON, 6)) for s in document]
    generator.shuffle(sentences)
    for sentence in sentences:
        generator.shuffle(sentence)
    return ". ".join(" ".join(s) for s in sentences) + "."


@pytest.fixture(scope="module")
def planted():
    generator = np.random.default_rng(1)
    documents = topics(120)
    return [said(d, generator) for d in documents] + [said(d, generator) for d in documents[:30]]


def test_reworded_documents_are_found_and_strangers_are_not(planted):
    settings = SemanticSettings(threshold=0.85, dimensions=100)
    vectors = Embedder.fit(planted, settings).embed(split(planted))
    found = clusters(vectors, settings)
    hits = [found[120 + i] == found[i] for i in range(30)]
    assert np.mean(hits) >= 0.9  # recall
    wrong = [i for i in range(120) if found[i] != i]
    assert len(wrong) <= 3  # precision: hardly any two different topics are one
    rows = np.arange(30)
    assert cosines(vectors, rows, rows + 120).mean() > 0.85


def test_articles_among_thousands_of_one_liners_are_not_taken_for_one_another(planted):
    generator = np.random.default_rng(3)
    lines = [" ".join(generator.choice(COMMON, 6)) + f" {word}" for word in SYLLABLES * 100]
    settings = SemanticSettings(threshold=0.85, dimensions=100)
    vectors = Embedder.fit([*lines, *planted], settings).embed(split(planted))
    found = clusters(vectors, settings)
    assert sum(found[i] != i for i in range(120)) <= 3
    assert np.mean([found[120 + i] == found[i] for i in range(30)]) >= 0.9


def test_clusters_equal_the_components_of_all_pairs(planted):
    settings = SemanticSettings(threshold=0.6)
    vectors = Embedder.fit(planted, settings).embed(split(planted))
    near = vectors.astype(np.float32) @ vectors.astype(np.float32).T >= settings.threshold
    reached = np.linalg.matrix_power((near | np.eye(len(near), dtype=bool)).astype(float), 1) > 0
    while True:
        more = (reached.astype(float) @ reached.astype(float)) > 0
        if (more == reached).all():
            break
        reached = more
    assert clusters(vectors, settings).tolist() == reached.argmax(axis=1).tolist()


def test_groups_of_k_means_find_what_all_pairs_find(planted, monkeypatch):
    settings = SemanticSettings(threshold=0.85, dimensions=100)
    vectors = Embedder.fit(planted, settings).embed(split(planted))
    whole = clusters(vectors, settings)
    monkeypatch.setattr(semantic, "_GROUP", 30)
    groups = semantic._groups(vectors, 0)
    assert len(groups) > 3
    assert sorted(np.concatenate(groups).tolist()) == sorted(2 * list(range(len(vectors))))
    assert all((np.diff(rows) > 0).all() for rows in groups)
    parts = clusters(vectors, settings)
    together = [(i, 120 + i) for i in range(30) if whole[i] == whole[120 + i]]
    assert np.mean([parts[a] == parts[b] for a, b in together]) >= 0.9


def test_the_stage_removes_the_second_telling_and_names_the_first(planted):
    import pyarrow as pa

    settings = CurateSettings(
        language=None, rules=(), near=None, semantic=SemanticSettings(threshold=0.85, dimensions=100)
    )
    examiner = prepare(settings, {}, planted)

    class Whole:
        def read(self):
            return pa.RecordBatch.from_pydict({"text": planted})

    decision = decide(pa.Table.from_batches([unpack(work(examiner, Whole()))], ATTRIBUTES), settings)
    gone = [i for i in range(150) if decision.reason[i] == "semantic_duplicate"]
    assert len([i for i in gone if i >= 120]) >= 27
    assert all(decision.cluster[i] == i - 120 and decision.score[i] >= 0.85 for i in gone if i >= 120)


def test_too_little_text_and_wrong_settings_are_sentences():
    with pytest.raises(HornbookError, match="3 documents are too few"):
        Embedder.fit(["a", "b", "c"], SemanticSettings())
    for field, value in [("threshold", 0), ("threshold", 1.5), ("dimensions", 1)]:
        with pytest.raises(HornbookError, match=f"{field} = "):
            SemanticSettings(**{field: value})
