"""MinHash, LSH and clusters against sets and graph search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornbook.curate import near
from hornbook.curate.near import NearSettings, clusters, connect, estimate, keep_one, pairs, signatures
from hornbook.curate.words import split
from hornbook.errors import HornbookError


def random_documents(generator, count, length=200, vocabulary=5000):
    return [list(map(str, generator.integers(0, vocabulary, length))) for _ in range(count)]


def changed(generator, document, share):
    copy = list(document)
    for place in generator.choice(len(copy), int(len(copy) * share), replace=False):
        copy[place] = f"new{generator.integers(1 << 30)}"
    return copy


def jaccard(a, b, n=5):
    first = {tuple(a[i : i + n]) for i in range(len(a) - n + 1)}
    second = {tuple(b[i : i + n]) for i in range(len(b) - n + 1)}
    return len(first & second) / len(first | second)


@pytest.fixture(scope="module")
def planted():
    """600 documents; document 2k + 1 is a copy of 2k with 0 to 20 % of its words changed."""
    generator = np.random.default_rng(3)
    documents = []
    for document in random_documents(generator, 300):
        documents += [document, changed(generator, document, generator.uniform(0, 0.2))]
    similarity = np.array([jaccard(documents[i], documents[i + 1]) for i in range(0, 600, 2)])
    return signatures(split([" ".join(d) for d in documents])), similarity


def test_estimates_have_the_standard_error_of_112_hashes(planted):
    signature, truth = planted
    error = estimate(signature[::2], signature[1::2]) - truth
    spread = np.sqrt(np.maximum(truth * (1 - truth), 1e-3) / 112)
    assert abs((error / spread).mean()) < 0.2
    assert 0.8 < (error / spread).std() < 1.2


def test_recall_follows_the_banding_curve_and_no_stranger_matches(planted):
    signature, truth = planted
    found = {tuple(p) for p in pairs(signature).tolist()}
    hit = np.array([(2 * k, 2 * k + 1) in found for k in range(300)])
    expected = 1 - (1 - truth**8) ** 14
    assert all((b == a + 1) and a % 2 == 0 for a, b in found)
    assert hit[truth >= 0.8].mean() > 0.95
    assert abs(hit.mean() - expected.mean()) < 4 * np.sqrt((expected * (1 - expected)).sum()) / 300
    verified = {tuple(p) for p in pairs(signature, NearSettings(verify=0.8)).tolist()}
    assert verified < found


def test_a_signature_does_not_depend_on_the_batch_or_the_tile(monkeypatch):
    generator = np.random.default_rng(0)
    texts = [" ".join(d) for length in (0, 1, 3, 5, 40, 700) for d in random_documents(generator, 3, length)]
    whole = signatures(split(texts))
    monkeypatch.setattr(near, "_TILE", 64)
    assert np.array_equal(whole, signatures(split(texts)))
    assert np.array_equal(whole, np.concatenate([signatures(split([t])) for t in texts]))


def test_short_documents_match_only_equal_ones():
    texts = ["", "", "hello world", "Hello, world!", "world hello", "a b c d e", "a b c d e"]
    assert clusters(signatures(split(texts))).tolist() == [0, 1, 2, 2, 4, 5, 5]


@given(st.integers(1, 25), st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), max_size=40))
def test_components_equal_graph_search(documents, edges):
    edges = [(a % documents, b % documents) for a, b in edges]
    neighbours = {d: set() for d in range(documents)}
    for a, b in edges:
        neighbours[a].add(b)
        neighbours[b].add(a)
    expected = [-1] * documents
    for start in range(documents):
        queue = [start] if expected[start] < 0 else []
        while queue:
            node = queue.pop()
            if expected[node] < 0:
                expected[node] = start
                queue += neighbours[node]
    got = connect(documents, np.array(edges, np.int64).reshape(-1, 2))
    assert got.tolist() == expected


def test_a_long_chain_is_one_component():
    order = np.random.default_rng(1).permutation(5000)
    edges = np.stack([order[:-1], order[1:]], axis=1)
    assert not connect(5000, edges).any()


def test_keep_one_prefers_the_longest_then_the_first():
    cluster = np.array([0, 1, 0, 1, 4, 0])
    assert keep_one(cluster).tolist() == [True, True, False, False, True, False]
    assert keep_one(cluster, np.array([3, 5, 9, 5, 1, 9])).tolist() == [False, True, True, False, True, False]


def test_wrong_settings_are_refused():
    with pytest.raises(HornbookError, match="bands = 0"):
        NearSettings(bands=0)
    with pytest.raises(HornbookError, match=r"verify = 1\.5"):
        NearSettings(verify=1.5)
