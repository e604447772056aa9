"""The loader against brute force: pairs once, documents apart, ranks and resume exact, mixtures exact."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.data.packing import IGNORE, PackedLoader, SequentialLoader, merged
from hornbook.data.tokens import TokenFile, TokenWriter
from hornbook.errors import HornbookError

VOCAB = 70_000


def token_file(folder: Path, lengths, *, mask=False, first=1, seed=0) -> TokenFile:
    """Documents whose every token is unique, so that a place in a batch names its place in the file."""
    random = np.random.default_rng(seed)
    at = first
    with TokenWriter(folder, VOCAB, mask) as writer:
        for length in lengths:
            ids = np.arange(at, at + length)
            writer.write(ids, random.integers(0, 2, length) if mask else None)
            at += length
    return TokenFile.open(folder)


def same(a, b):
    return all(
        np.array_equal(getattr(a, n), getattr(b, n)) for n in ("inputs", "targets", "document", "position")
    )


def check_rows(batch, file, first=1):
    """Brute force over every place of a batch; returns the (input, target) places seen."""
    owner = np.repeat(np.arange(len(file)), np.diff(file.documents))
    seen = Counter()
    for row in range(len(batch.inputs)):
        for column in range(batch.inputs.shape[1]):
            target = batch.targets[row, column]
            new = column == 0 or batch.document[row, column] != batch.document[row, column - 1]
            assert batch.position[row, column] == (0 if new else batch.position[row, column - 1] + 1)
            if column:
                assert batch.document[row, column] - batch.document[row, column - 1] in (0, 1)
            else:
                assert batch.document[row, 0] == 0
            token = batch.inputs[row, column]
            if token == 0:
                assert target == IGNORE  # padding
                continue
            if not new:
                assert token == batch.inputs[row, column - 1] + 1  # the document goes on
            masked = file.mask is not None and file.mask[token - first + 1] == 0
            assert target == (IGNORE if masked else token + 1)
            # Isolation: the target is in the document of the input.
            assert owner[token - first] == owner[token - first + 1]
            seen[int(token)] += 1
    return seen


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=40),
    rows=st.integers(1, 5),
    time=st.integers(2, 17),
    mask=st.booleans(),
)
def test_every_pair_of_every_document_once_an_epoch(tmp_path_factory, lengths, rows, time, mask):
    file = token_file(tmp_path_factory.mktemp("t"), lengths, mask=mask)
    expected = Counter()
    for i in range(len(file)):
        expected.update(int(t) for t in file.document(i)[:-1])
    if not expected:
        with pytest.raises(HornbookError, match="nothing to learn"):
            PackedLoader([(file, 1.0)], rows, time, 0)
        return
    loader = PackedLoader([(file, 1.0)], rows, time, seed=3)
    for epoch in range(2):
        seen = Counter()
        for row in range(epoch * loader.rows_per_epoch[0], (epoch + 1) * loader.rows_per_epoch[0]):
            step, at = divmod(row, rows)
            batch = loader.batch(step)
            one = type(batch)(
                *(getattr(batch, n)[at : at + 1] for n in ("inputs", "targets", "document", "position"))
            )
            seen += check_rows(one, file)
        assert seen == expected
    seen = Counter()
    for batch in SequentialLoader(file, rows, time):
        seen += check_rows(batch, file)
    assert seen == expected


def test_packed_documents_are_isolated_and_whole_when_they_fit(tmp_path):
    lengths = [2, 3, 9, 17, 5, 30, 4, 16] * 20
    file = token_file(tmp_path, lengths)
    loader = PackedLoader([(file, 1.0)], 4, 32, seed=0)
    whole = Counter()
    for step in range(-(-loader.rows_per_epoch[0] // 4)):
        batch = loader.batch(step)
        check_rows(batch, file)
        for row in range(4):
            ids, counts = np.unique(batch.document[row][batch.targets[row] != IGNORE], return_counts=True)
            assert len(ids)
            whole.update(counts.tolist())
    assert set(whole) == {n - 1 for n in lengths}
    assert loader.fill > 0.97


def test_packing_needs_hardly_more_rows_than_the_bound(tmp_path):
    random = np.random.default_rng(1)
    lengths = np.clip(random.lognormal(4.5, 1.0, 600), 2, 4000).astype(int)
    lengths = lengths[np.cumsum(lengths) < VOCAB]
    file = token_file(tmp_path, lengths)
    loader = PackedLoader([(file, 1.0)], 1, 256, seed=0)
    assert loader.rows_per_epoch[0] <= 1.02 * np.ceil((lengths - 1).sum() / 256) + 1


def two_sources(tmp_path):
    a = token_file(tmp_path / "a", [5, 9, 13, 40, 3] * 30)
    b = token_file(tmp_path / "b", [7, 21, 2] * 11, mask=False, first=30_000)
    return a, b


def test_world_size_does_not_change_the_tokens(tmp_path):
    a, b = two_sources(tmp_path)
    alone = PackedLoader([(a, 0.7), (b, 0.3)], 12, 24, seed=5)
    for world in (2, 3, 4):
        parts = [PackedLoader([(a, 0.7), (b, 0.3)], 12, 24, 5, rank, world) for rank in range(world)]
        for step in (0, 1, 17, 400):
            whole = alone.batch(step)
            shares = [part.batch(step) for part in parts]
            for name in ("inputs", "targets", "document", "position"):
                assert np.array_equal(
                    getattr(whole, name), np.concatenate([getattr(s, name) for s in shares])
                )
        assert {p.fingerprint for p in parts} == {alone.fingerprint}


def test_resuming_is_seeking(tmp_path):
    a, b = two_sources(tmp_path)
    straight = PackedLoader([(a, 2), (b, 1)], 4, 24, seed=5)
    batches = [straight.batch(step) for step in range(60)]
    for step in (59, 0, 31, 30):
        assert same(PackedLoader([(a, 2), (b, 1)], 4, 24, seed=5).batch(step), batches[step])


def test_another_seed_and_another_epoch_give_another_order(tmp_path):
    file = token_file(tmp_path, [5, 9, 13, 40, 3] * 30)
    loader = PackedLoader([(file, 1)], 4, 24, seed=1)
    assert not same(loader.batch(0), PackedLoader([(file, 1)], 4, 24, seed=2).batch(0))
    one = PackedLoader([(file, 1)], 1, 24, seed=1)
    rows = one.rows_per_epoch[0]
    assert any(not same(one.batch(r), one.batch(r + rows)) for r in range(5))
    assert one.epochs(rows) == [1.0]
    assert one.epochs(5 * rows // 2)[0] == pytest.approx(2.5, abs=0.1)


@settings(max_examples=200, deadline=None)
@given(
    weights=st.lists(st.sampled_from([0.0, 1e-4, 0.1, 0.3, 1 / 3, 1.0, 7.0]), min_size=1, max_size=6).filter(
        sum
    ),
    first=st.integers(0, 3000),
    count=st.integers(0, 60),
)
def test_mixture_windows_agree_with_the_sequence_from_the_start(weights, first, count):
    share = np.array(weights) / sum(weights)
    source, index = merged(list(share), first, count)
    # Brute force: the next row goes to the source whose next time (k + 1/2) / w is smallest.
    taken = np.zeros(len(share), int)
    expected = []
    for _ in range(first + count):
        times = [(k + 0.5) / w if w > 0 else np.inf for k, w in zip(taken, share)]
        s = int(np.argmin(times))
        expected.append((s, int(taken[s])))
        taken[s] += 1
    assert list(zip(source.tolist(), index.tolist())) == expected[first:]
    before = Counter(s for s, _ in expected[:first])
    _, state = merged(list(share), first, 0, state=True)
    assert state.tolist() == [before[s] for s in range(len(share))]


def test_mixture_proportions_are_exact_over_time(tmp_path):
    a, b = two_sources(tmp_path)
    loader = PackedLoader([(a, 0.37), (b, 0.63)], 8, 24, seed=0)
    rows = [0, 0]
    for step in range(250):
        batch = loader.batch(step)
        from_b = int((batch.inputs[:, 0] >= 30_000).sum())
        rows[0] += 8 - from_b
        rows[1] += from_b
        assert abs(rows[1] - 0.63 * sum(rows)) <= 1
    shares = [e * r for e, r in zip(loader.epochs(250), loader.rows_per_epoch)]
    assert shares == pytest.approx(rows)


def test_far_steps_cost_no_walk(tmp_path):
    a, b = two_sources(tmp_path)
    loader = PackedLoader([(a, 1), (b, 1e-3)], 8, 24, seed=0)
    batch = loader.batch(10**8)
    assert batch.inputs.shape == (8, 24)
    assert loader.epochs(10**8)[0] > 10**6


def test_masked_targets_carry_no_loss(tmp_path):
    file = token_file(tmp_path, [6, 6, 6], mask=True)
    batch = PackedLoader([(file, 1)], 1, 15, seed=0).batch(0)
    learned = sum(int(file.document_mask(i)[1:].sum()) for i in range(3))
    assert batch.target_count == learned
    assert learned < 15


def test_fingerprint_tells_other_data_weights_shape_and_seed(tmp_path):
    a, b = two_sources(tmp_path)
    base = PackedLoader([(a, 1), (b, 1)], 4, 24, seed=0)
    others = [
        PackedLoader([(b, 1), (a, 1)], 4, 24, seed=0),
        PackedLoader([(a, 1)], 4, 24, seed=0),
        PackedLoader([(a, 1), (b, 2)], 4, 24, seed=0),
        PackedLoader([(a, 1), (b, 1)], 8, 24, seed=0),
        PackedLoader([(a, 1), (b, 1)], 4, 25, seed=0),
        PackedLoader([(a, 1), (b, 1)], 4, 24, seed=1),
    ]
    assert len({base.fingerprint, *(o.fingerprint for o in others)}) == 7
    assert PackedLoader([(a, 2), (b, 2)], 4, 24, seed=0).fingerprint == base.fingerprint


def test_document_ids_name_the_document_of_every_place(tmp_path):
    file = token_file(tmp_path, [5, 1, 0, 30, 7, 7])
    loader = SequentialLoader(file, 2, 8)
    owner = np.repeat(np.arange(len(file)), np.diff(file.documents))
    for index, batch in enumerate(loader):
        expected = np.where(batch.inputs > 0, owner[batch.inputs - 1], -1)
        assert np.array_equal(loader.document_ids(index), expected)


def test_sequential_ranks_make_the_whole(tmp_path):
    file = token_file(tmp_path, [5, 9, 13, 40, 3] * 7)
    alone = SequentialLoader(file, 4, 16)
    parts = [SequentialLoader(file, 4, 16, rank, 2) for rank in range(2)]
    for index, whole in enumerate(alone):
        assert np.array_equal(whole.targets, np.concatenate([p.batch(index).targets for p in parts]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": 0}, "rows is 0"),
        ({"time": 1}, "time is 1"),
        ({"rows": 5, "world": 2}, "does not divide"),
        ({"rank": 2, "world": 2}, "rank is 2"),
        ({"seed": -1}, "seed is -1"),
        ({"weight": -0.5}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"weight": 0}, "Every weight"),
    ],
)
def test_wrong_settings_are_named(tmp_path, change, words):
    file = token_file(tmp_path, [5, 9])
    use = {"rows": 4, "time": 8, "seed": 0, "rank": 0, "world": 1, "weight": 1.0} | change
    with pytest.raises(HornbookError, match=words):
        PackedLoader([(file, use.pop("weight"))], **use)


def test_sources_of_different_vocabularies_are_refused(tmp_path):
    file = token_file(tmp_path / "a", [5])
    with TokenWriter(tmp_path / "b", 100) as writer:
        writer.write([1, 2, 3])
    with pytest.raises(HornbookError, match="different vocabularies"):
        PackedLoader([(file, 1), (TokenFile.open(tmp_path / "b"), 1)], 2, 8, 0)
    with pytest.raises(HornbookError, match="no source"):
        PackedLoader([], 2, 8, 0)
