"""Repetition measures against plain loops over one document."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.curate.repetition import _ordered, candidates, groups, measure_repetition
from hornbook.curate.words import split

words_of = st.lists(st.sampled_from(["a", "bb", "ccc", "a", "bb", "d", ".", ",", "?", "e"]), max_size=40).map(
    " ".join
)
documents = st.lists(st.lists(st.one_of(words_of, st.just("")), max_size=6).map("\n".join), max_size=4)


def naive(text):
    import re

    out = {}
    lines = [line.strip() for line in text.split("\n")]
    full = [line for line in lines if line]
    paragraphs = [p for p in re.split(r"\n{2,}", "\n".join(lines).strip("\n")) if p]
    for name, units in (("line", full), ("paragraph", paragraphs)):
        seen, repeated, characters = set(), 0, 0
        for unit in units:
            if unit in seen:
                repeated += 1
                characters += len(unit.replace("\n", ""))
            seen.add(unit)
        out[f"duplicate_{name}s"] = repeated / len(units) if units else 0
        out[f"duplicate_{name}_characters"] = characters / len(text) if text else 0
    tokens = re.findall(r"\w+", text)
    for n in range(2, 11):
        grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        if n <= 4:
            counted = Counter(grams)
            most = max(counted.values(), default=0)
            size = max((len(" ".join(g)) * c for g, c in counted.items() if c == most), default=0)
            out[f"top_{n}gram"] = size / len(text) if most > 1 else 0
        else:
            seen, covered = set(), set()
            for i, gram in enumerate(grams):
                if gram in seen:
                    covered |= set(range(i, i + n))
                seen.add(gram)
            out[f"duplicate_{n}gram"] = sum(len(tokens[i]) for i in covered) / len(text) if text else 0
    return out


@settings(max_examples=200, deadline=None)
@given(documents)
def test_equals_plain_loops(batch):
    got = measure_repetition(split(batch))
    for d, text in enumerate(batch):
        for name, value in naive(text).items():
            assert got[name][d] == pytest.approx(value, abs=1e-12), (name, text)


def test_repeats_do_not_cross_documents():
    text = "one two three four five six seven eight nine ten eleven\n\nother line"
    got = measure_repetition(split([text, text]))
    assert all(not values.any() for values in got.values())


@given(st.lists(st.integers(0, 5), max_size=30))
def test_groups_are_the_keys_that_occur_twice(keys):
    keys = np.array(keys, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    positions, group, rank = groups(keys)
    counted = Counter(keys.tolist())
    assert sorted(positions.tolist()) == [i for i, k in enumerate(keys.tolist()) if counted[k] > 1]
    assert set(positions.tolist()) <= set(candidates(keys).tolist())
    seen = Counter()
    for p, r in sorted(zip(positions.tolist(), rank.tolist())):
        assert seen[keys[p]] == r
        seen[keys[p]] += 1
    assert len(set(zip(group.tolist(), keys[positions].tolist()))) == len(set(group.tolist()))


def test_ordering_by_one_number_is_the_stable_order_where_keys_differ_in_their_last_bits_alone() -> None:
    random = np.random.default_rng(0)
    for size in (0, 1, 2, 3, 8, 9, 1000):
        for top in (2, 5, 2**40, 2**63):
            for shift in (0, 20):
                keys = random.integers(0, top, size, dtype=np.uint64) << np.uint64(shift)
                assert (_ordered(keys) == np.argsort(keys, kind="stable")).all()
