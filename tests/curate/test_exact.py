"""Exact duplicates of documents and lines against dictionaries."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornbook.curate.exact import digests, first_of_equals, line_keys, repeated_share
from hornbook.curate.words import split


def test_case_white_space_and_composition_do_not_matter():
    same = ["A b\n\tC é", " a  B c e\u0301 ", "a b c É"]
    keys = digests(pa.array([*same, "a b c e", "a+b", "a-b", None, ""]))
    assert first_of_equals(keys).tolist() == [0, 0, 0, 3, 4, 5, 6, 6]


@given(st.lists(st.text(alphabet="aB \n", max_size=3), max_size=20))
def test_first_of_equals_is_a_dictionary(texts):
    first = {}
    expected = [first.setdefault(" ".join(t.lower().split()), i) for i, t in enumerate(texts)]
    assert first_of_equals(digests(texts)).tolist() == expected


lines = st.lists(
    st.sampled_from(["copied line of text", "another copied one", "short", "own 1", "own 22", ""]), max_size=6
)


@given(st.lists(lines, max_size=5), st.integers(2, 3))
def test_repeated_share_equals_sets(batch, copies):
    texts = ["\n".join(rows) for rows in batch]
    keys = line_keys(split(texts), shortest=6)
    got = repeated_share(*keys, len(texts), copies=copies)
    seen = set()
    for d, rows in enumerate(batch):
        rows = [r for r in rows if len(r) >= 6]
        common = [r for r in rows if r in seen and sum(r in other for other in batch) >= copies]
        expected = sum(map(len, common)) / sum(map(len, rows)) if rows else 0
        assert got[d] == pytest.approx(expected)
        seen |= set(rows)


def test_paragraph_keys():
    words = split(
        ["one line\nsecond line\n\nother paragraph here", "One line\nsecond line", "second line\none line"]
    )
    hashes, lengths, document = line_keys(words, unit="paragraph", shortest=5)
    assert document.tolist() == [0, 0, 1, 2]
    assert hashes[0] == hashes[2] != hashes[3]
    assert lengths.tolist() == [19, 20, 19, 19]
    with pytest.raises(ValueError, match="unit"):
        line_keys(words, unit="sentence")
