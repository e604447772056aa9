"""Token files: what is written is read; what is damaged, unfinished or impossible is named."""

import subprocess
import sys

import numpy as np
import pytest

from hornbook.data.tokens import TokenFile, TokenWriter
from hornbook.errors import HornbookError


@pytest.mark.parametrize(("vocab", "dtype"), [(300, np.uint16), (65_536, np.uint16), (65_537, np.uint32)])
def test_round_trip_in_the_narrowest_type(tmp_path, vocab, dtype):
    random = np.random.default_rng(0)
    documents = [random.integers(0, vocab, n) for n in (3, 0, 1, 500)] + [np.array([vocab - 1])]
    masks = [random.integers(0, 2, len(d)) for d in documents]
    with TokenWriter(tmp_path, vocab, with_mask=True, facts={"bytes": 7}) as writer:
        for ids, mask in zip(documents[:2], masks[:2]):
            writer.write(ids, mask)
        rest = np.concatenate(documents[2:])
        writer.write_many(rest, [len(d) for d in documents[2:]], np.concatenate(masks[2:]))
    file = TokenFile.open(tmp_path)
    assert file.tokens.dtype == dtype
    assert (len(file), file.token_count, file.facts) == (5, 505, {"bytes": 7})
    for i, (ids, mask) in enumerate(zip(documents, masks)):
        assert np.array_equal(file.document(i), ids)
        assert np.array_equal(file.document_mask(i), mask)
    file.verify()


def test_equal_contents_have_equal_hashes_and_others_not(tmp_path):
    for name, ids in (("a", [1, 2, 3]), ("b", [1, 2, 3]), ("c", [1, 2, 4])):
        with TokenWriter(tmp_path / name, 10) as writer:
            writer.write(ids)
    a, b, c = (TokenFile.open(tmp_path / n).sha256 for n in "abc")
    assert a == b != c


def test_nothing_readable_after_an_error(tmp_path):
    writer = TokenWriter(tmp_path, 10)
    with pytest.raises(ZeroDivisionError), writer:
        writer.write([1, 1 // 0])
    with pytest.raises(HornbookError, match="no finished token file"):
        TokenFile.open(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with TokenWriter(tmp_path, 10) as writer:
        writer.write([1, 2])
    assert TokenFile.open(tmp_path).token_count == 2


@pytest.mark.parametrize("bad", [[10], [-1], [3, 10**9]])
def test_an_id_outside_the_vocabulary_is_refused(tmp_path, bad):
    with (
        pytest.raises(HornbookError, match="does not fit a vocabulary of 10"),
        TokenWriter(tmp_path, 10) as writer,
    ):
        writer.write(bad)


def test_a_mask_is_given_exactly_when_promised(tmp_path):
    with pytest.raises(HornbookError, match="without a mask"), TokenWriter(tmp_path, 10) as writer:
        writer.write([1], [1])
    with pytest.raises(HornbookError, match="with a mask"), TokenWriter(tmp_path, 10, True) as writer:
        writer.write([1])


def test_a_finished_file_is_not_overwritten(tmp_path):
    with TokenWriter(tmp_path, 10) as writer:
        writer.write([1])
    with pytest.raises(HornbookError, match="already holds"), TokenWriter(tmp_path, 10):
        pass
    assert TokenFile.open(tmp_path).token_count == 1


@pytest.mark.parametrize("name", ["tokens.bin", "mask.bin", "documents.npy", "tokens.json"])
def test_damage_is_named(tmp_path, name):
    with TokenWriter(tmp_path, 10, True) as writer:
        writer.write([1, 2, 3], [0, 1, 1])
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(HornbookError, match=name):
        TokenFile.open(tmp_path)
    path.unlink()
    with pytest.raises(HornbookError, match=name):
        TokenFile.open(tmp_path)


def test_a_flipped_bit_is_found_by_verify(tmp_path):
    with TokenWriter(tmp_path, 10) as writer:
        writer.write([1, 2, 3])
    path = tmp_path / "tokens.bin"
    data = bytearray(path.read_bytes())
    data[0] ^= 2
    path.write_bytes(data)
    with pytest.raises(HornbookError, match=r"tokens\.bin is damaged"):
        TokenFile.open(tmp_path).verify()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(HornbookError, match="does not exist"):
        TokenFile.open(tmp_path / "nowhere")


def test_loading_imports_numpy_alone():
    code = (
        "import sys, hornbook.data.packing, hornbook.data.chat\n"
        "print([m for m in ('torch', 'pyarrow', 'tokenizers', 'polars', 'jinja2') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
