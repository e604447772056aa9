"""Words, lines and counts of a batch against plain Python on each document."""

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.curate import words as w
from hornbook.curate.words import BLOCK, HashSet, hash_words, ngram_offsets, ngrams, split

UNSPACED = "一丁七万中国日本語ひらがなカタカナกขค"


def naive_words(text):
    """One regular expression's idea of a word, with marks, and one word for each unspaced character."""
    out, run = [], ""
    for c in text:
        mark = unicodedata.category(c).startswith("M")
        single = any(a <= ord(c) <= b for a, b in w._UNSPACED) and (c.isalnum() or mark)
        if single:
            if run:
                out.append(run)
            out.append(c)
            run = ""
        elif c.isalnum() or c == "_" or mark:
            run += c
        elif run:
            out.append(run)
            run = ""
    return [*out, run] if run else out


def naive_lines(text):
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.strip(w_space) for line in lines]


w_space = "".join(chr(c) for c in range(0x110000) if chr(c).isspace()) + "\0"

texts = st.text(
    alphabet=st.one_of(
        st.sampled_from("abcAB xyz  \n\n.,'_-019\t\r\0"),
        st.sampled_from("éÉßẞİıКириΩ“”…—\u00a0\u0301नमस्ते" + UNSPACED + "🎉𝒳"),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(texts, max_size=6))
def test_batch_equals_plain_python(batch):
    got = split(batch)
    assert got.documents == len(batch)
    for d, text in enumerate(batch):
        a, b = got.offsets[d : d + 2]
        assert [got.text(s, e) for s, e in zip(got.starts[a:b], got.ends[a:b])] == naive_words(text)
        a, b = got.lines.offsets[d : d + 2]
        spans = zip(got.lines.starts[a:b], got.lines.ends[a:b])
        assert [got.text(s, e) for s, e in spans] == naive_lines(text)
        assert got.characters[d + 1] - got.characters[d] == len(text)
        assert got.digits[d] == sum(c.isdigit() for c in text)
        assert got.uppers[d] == sum(c.isupper() for c in text)
        assert got.spaces[d] == sum(c.isspace() or c == "\0" for c in text)


@settings(max_examples=60, deadline=None)
@given(texts, texts)
def test_a_hash_depends_on_the_word_alone(first, second):
    """Same words, same hashes: whatever stands around them and whether the batch is ASCII or not."""
    alone = [hash_words(word) for word in naive_words(first)]
    together = split([second, first, "é" + second])
    a, b = together.offsets[1:3]
    expected = np.concatenate(alone) if alone else np.zeros(0, np.uint64)
    assert np.array_equal(together.hashes[a:b], expected)


def test_case_does_not_matter_and_letters_do():
    assert hash_words("Straße ÉTÉ").tolist() == hash_words("sTRASSE été".replace("SS", "ß")).tolist()
    assert hash_words("ab")[0] != hash_words("ba")[0]
    assert (
        hash_words("\u212a")[0] == hash_words("k")[0]
    )  # the Kelvin sign is an ASCII letter when lower-cased


def test_no_collision_among_many_words():
    vocabulary = [f"{a}{b}{i}" for a in ("x", "word", "é") for b in ("", "_") for i in range(20_000)]
    assert len(np.unique(split([" ".join(vocabulary)]).hashes)) == len(vocabulary)


@pytest.mark.parametrize("filler", ["word other\n", "word other ", "x"])
def test_documents_longer_than_a_block(filler):
    text = filler * (3 * BLOCK // len(filler))
    for prefix in ("", "é "):
        got = split(["short one", prefix + text, "last"])
        a, b = got.offsets[1:3]
        if filler != "x":
            assert b - a == len(re.findall(r"\w+", prefix + text))
            assert len(np.unique(got.hashes[a:b])) == 2 + bool(prefix)
        assert got.letters[1] == sum(c.isalpha() for c in prefix + text)
        assert got.offsets[3] - got.offsets[2] == 1


def test_very_long_runs_of_spaces_are_stripped():
    got = split([" " * 3_000_000 + "a" + " " * 3_000_000, " " * 2_000_000])
    assert got.lines.lengths.tolist() == [1, 0]


def test_inputs_of_every_kind():
    array = pa.array(["ab cd", None, "é"])
    for given_texts in (
        array,
        array.cast(pa.large_string()),
        pa.chunked_array([array[:1], array[1:]]),
        array[0:3],
    ):
        assert split(given_texts).counts.tolist() == [2, 0, 1]
    assert split(array[1:]).counts.tolist() == [0, 1]
    assert split([]).documents == 0
    assert split(pa.chunked_array([], pa.string())).documents == 0
    assert split(["", ""]).counts.tolist() == [0, 0]


def test_ngrams_stay_inside_documents():
    batch = split(["a b c d", "e", "f g h"])
    hashes, first = ngrams(batch.hashes, batch.offsets, 3)
    assert first.tolist() == [0, 1, 5]
    assert ngram_offsets(batch.offsets, 3).tolist() == [0, 2, 2, 3]
    other = split(["x b c d"])
    assert ngrams(other.hashes, other.offsets, 3)[0][1] == hashes[1]
    assert len(ngrams(batch.hashes, batch.offsets, 9)[0]) == 0


def test_hash_set_equals_membership():
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 1 << 63, 1000, dtype=np.uint64)
    known = HashSet(np.concatenate([hashes[::7], hashes[::7], hash_words("a b c")]))
    where, index = known.find(hashes)
    assert where.tolist() == np.flatnonzero(np.isin(hashes, known.sorted)).tolist()
    assert np.array_equal(known.sorted[index], hashes[where])
    assert len(HashSet(np.zeros(0, np.uint64)).find(hashes)[0]) == 0
