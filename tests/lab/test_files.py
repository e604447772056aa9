"""Files are whole or not there; hashes are those of the content."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.lab import files


def test_write_atomic_writes_bytes_and_text_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "deep/er/file.txt"
    files.write_atomic(path, "häuser\n")
    assert path.read_bytes() == "häuser\n".encode()
    files.write_atomic(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HornbookError, match=r"disk is full.*free there.*Free some space"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_really_full_is_a_sentence():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    full = pytest.raises(HornbookError, match="disk is full")
    with full, files.disk_guard(Path("/dev")), open("/dev/full", "wb") as file:
        file.write(b"x" * 100_000)


def test_other_errors_pass_the_guard():
    with pytest.raises(PermissionError), files.disk_guard(Path("/")):
        raise PermissionError(errno.EACCES, "no")


def test_killed_writers_never_leave_half_a_file(tmp_path):
    path = tmp_path / "file"
    program = (
        "import sys; from pathlib import Path; from hornbook.lab.files import write_atomic\n"
        "while True:\n"
        "    for c in 'ab': write_atomic(Path(sys.argv[1]), c * 3_000_000)\n"
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", program, str(path)])
        try:
            process.wait(timeout=0.7)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if path.exists():
            text = path.read_text()
            assert len(text) == 3_000_000
            assert len(set(text)) == 1
    assert path.exists()


def test_sha256_file_is_that_of_its_bytes(tmp_path):
    path = tmp_path / "f"
    content = os.urandom(3_000_001)
    path.write_bytes(content)
    assert files.sha256_file(path) == hashlib.sha256(content).hexdigest()


def test_sha256_of_is_that_of_sorted_json():
    expected = hashlib.sha256(b'{"a":[1,2.5,null],"b":"\\u00e9"}').hexdigest()
    assert files.sha256_of({"b": "é", "a": (1, 2.5, None)}) == expected


def test_keys_that_would_become_one_are_refused():
    with pytest.raises(TypeError, match="would become one"):
        files.canonical_json({1: "a", "1": "b"})
    with pytest.raises(TypeError, match=r"value\['x'\]\[1\]"):
        files.canonical_json({"x": [1, object()]})


def test_sizes_and_times_for_people():
    assert [files.human_bytes(x) for x in (0, 1023, 1024, 1536, 10**9, 5 * 2**40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "954 MiB",
        "5.0 TiB",
    ]
    assert [files.human_seconds(x) for x in (0.04, 9.94, 59.6, 75, 3600, 90_000, 200_000)] == [
        "0.0 s",
        "9.9 s",
        "1 min 00 s",
        "1 min 15 s",
        "1 h 00 min",
        "25 h 00 min",
        "2 d 7 h",
    ]


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path):
    assert files.free_bytes(tmp_path / "not/yet") > 0
