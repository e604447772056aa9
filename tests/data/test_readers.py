"""Readers: every kind of file gives its text; every bad one a sentence."""

import gzip
import json
import subprocess
import sys
import types
import zlib
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from hornbook.data.corpus import CorpusWriter
from hornbook.data.html_text import html_text
from hornbook.data.readers import read_source
from hornbook.errors import HornbookError

PARAGRAPH = (
    "The river rose in the night and took the little bridge with it,"
    " and nobody in the village heard a sound. "
)


def texts(spec, **options):
    return [row["text"] for row in read_source(spec, **options)]


@pytest.mark.parametrize("suffix", [".txt", ".md", ".rst", ".py", ".txt.gz"])
def test_text_files(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    data = "\ufeffnaïve\r\nline\rend".encode()
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    (row,) = read_source(path)
    assert row == {"id": path.name, "text": "naïve\nline\nend", "source": path.name, "meta": "{}"}


def test_a_text_file_of_many_stories_is_split(tmp_path):
    (tmp_path / "a.txt").write_text("one\n<|endoftext|>\ntwo\n<|endoftext|>\n")
    assert texts(tmp_path / "a.txt") == ["one", "two"]


def test_invalid_utf8_is_repaired_when_rare_and_refused_when_not(tmp_path):
    (tmp_path / "rare.txt").write_bytes(b"word " * 1000 + b"\xff end")
    assert texts(tmp_path / "rare.txt")[0].endswith("\ufffd end")
    (tmp_path / "latin.txt").write_bytes("é à ü ".encode("latin-1") * 50)
    (tmp_path / "nul.txt").write_bytes(b"a\x00b")
    for name in ("latin", "nul"):
        with pytest.raises(HornbookError, match=f"{name}.txt is not"):
            texts(tmp_path / f"{name}.txt")
    (tmp_path / "wide.txt").write_bytes("wide ü".encode("utf-16"))
    assert texts(tmp_path / "wide.txt") == ["wide ü"]
    skipped = {}
    assert len(texts(tmp_path, skipped=skipped)) == 2  # in a folder they are left out, and said
    assert len(skipped) == 2


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_json_lines_find_their_text(tmp_path, suffix):
    rows = [{"id": 7, "url": "u", "content": "a\u2028b", "n": 1}, {"id": 8, "url": "v", "content": "c"}]
    data = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode() + b"\n\n"
    pack = {".jsonl": bytes, ".jsonl.gz": gzip.compress, ".jsonl.zst": zstandard.compress}[suffix]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(pack(data))
    found = list(read_source(path))
    assert [(r["id"], r["text"], r["source"]) for r in found] == [
        ("7", "a\u2028b", path.name),
        ("8", "c", path.name),
    ]
    assert json.loads(found[0]["meta"]) == {"url": "u"}


def test_bad_json_lines_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    good = json.dumps({"text": "fine"})
    for bad, words in (
        ("{oops", "line 3, is not JSON"),
        ("[1]", "line 3, is not a JSON object but a list"),
        ('{"text": 5}', "line 3, has no text in the field 'text'"),
    ):
        path.write_text(f"{good}\n{good}\n{bad}\n")
        with pytest.raises(HornbookError, match=words):
            texts(path)
    path.write_text('{"a": "x", "b": "y"}\n')
    with pytest.raises(HornbookError, match=r"which field is the text.*'a', 'b'"):
        texts(path)
    assert texts(path, text_field="b") == ["y"]
    path.write_text('{"story_of": "x", "n": 1}\n')
    assert texts(path) == ["x"]  # the only string there is
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(("\n".join([good] * 20_000)).encode())[:-20])
    with pytest.raises(HornbookError, match=r"b\.jsonl\.gz is damaged after line \d+"):
        texts(packed)


def test_parquet_and_corpora(tmp_path):
    pq.write_table(pa.table({"id": [1, 2], "text": ["a", "b"], "x": [0.1, 0.2]}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["a", "b"]
    with pytest.raises(HornbookError, match="no column of text 'x'"):
        texts(tmp_path / "a.parquet", text_field="x")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(HornbookError, match=r"bad\.parquet is not Parquet"):
        texts(tmp_path / "bad.parquet")
    with CorpusWriter(tmp_path / "c", "documents") as writer:
        writer.write_rows([{"id": "k", "text": "from a corpus", "source": "s", "meta": {"q": 1}}])
    assert list(read_source(tmp_path / "c")) == [
        {"id": "k", "text": "from a corpus", "source": "s", "meta": '{"q": 1}'}
    ]


PAGE = f"""<!doctype html><html><head><title>A  flood</title><style>p {{}}</style>
<script>var x = "<p>no</p>";</script></head><body>
<nav><a href=/>Home</a> <a href=/news>News from everywhere</a></nav>
<div class="cookie-consent">We use cookies to make this site better, please accept all of them now.</div>
<h1>The bridge</h1><p>{PARAGRAPH}&amp; <b>bold</b>ly so.<p>{PARAGRAPH}
<pre>if x:
    y = 1 &lt; 2</pre>
<p>{PARAGRAPH}</p>
<ul><li><a href=a>Another story about floods</a><li><a href=b>And one more story</a></ul>
<footer>Copyright 2024 by the paper. All rights reserved, everywhere.</footer></body></html>"""


def test_html_keeps_the_text_and_drops_the_rest(tmp_path):
    (tmp_path / "a.html").write_text(PAGE)
    (row,) = read_source(tmp_path / "a.html")
    text = row["text"]
    assert text.split("\n\n")[0] == "The bridge"
    assert text.count("The river rose") == 2  # the block that stands there twice counts once
    assert "& boldly so." in text
    assert "if x:\n    y = 1 < 2" in text
    for gone in ("Home", "cookies", "no</p>", "Another story", "Copyright", "var x"):
        assert gone not in text
    assert json.loads(row["meta"]) == {"title": "A flood"}


def test_teasers_notices_and_second_copies_stay_out():
    main = "".join(
        f"<p>Paragraph {i} of the article says what happened there and why it matters to all of us.</p>"
        for i in range(9)
    )
    lead = "A sentence that stands in the page head and once more above the text, word for word."
    page = (
        "<body><p>This website uses cookies, and by reading on you agree to all of them being kept.</p>"
        f"<h1>Title</h1><article><p>{lead}</p><p>{lead}</p><p>Jane Doe</p><figure><figcaption>A "
        f"photograph of the harbour and ships in the evening.</figcaption></figure>{main}</article><article>"
        "<p>Another story is only teased here so that readers click on it and stay for longer.</p></article>"
    )
    _, text = html_text(page)
    assert text.count(lead) == 1
    assert "Paragraph 8" in text
    for noise in ("cookies", "Jane Doe", "photograph", "teased"):
        assert noise not in text


def test_a_page_inside_one_form_is_still_read(tmp_path):
    (tmp_path / "a.html").write_text(f"<form><div class='sidebar'><p>{PARAGRAPH * 2}</p></div></form>")
    assert texts(tmp_path / "a.html")[0].startswith("The river")


def record(kind, block, **more):
    header = {"WARC-Type": kind, "Content-Length": len(block), "WARC-Target-URI": "http://x/", **more}
    lines = "".join(f"{k}: {v}\r\n" for k, v in header.items())
    return f"WARC/1.0\r\n{lines}\r\n".encode() + block + b"\r\n\r\n"


def response(body, head="Content-Type: text/html; charset=iso-8859-1", status="200 OK"):
    return record("response", f"HTTP/1.1 {status}\r\n{head}\r\n\r\n".encode() + body)


@pytest.mark.parametrize("packed", [False, True])
def test_warc(tmp_path, packed):
    page = f"<p>café {PARAGRAPH}</p>".encode("latin-1")
    half = len(page) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (page[:half], page[half:])) + b"0\r\n\r\n"
    latin = "Content-Type: text/html; charset=iso-8859-1"
    records = [
        record("warcinfo", b"software: x"),
        response(page),
        response(b"gone", status="404 Not Found"),
        response(chunks, latin + "\r\nTransfer-Encoding: chunked"),
        response(gzip.compress(page), latin + "\r\nContent-Encoding: gzip"),
        response(b"\x89PNG", "Content-Type: image/png"),
        response("plain ü".encode(), "Content-Type: text/plain"),
    ]
    path = tmp_path / ("a.warc.gz" if packed else "a.warc")
    path.write_bytes(b"".join(gzip.compress(r) if packed else r for r in records))
    found = texts(path)
    assert found == [f"café {PARAGRAPH}".strip()] * 3 + ["plain ü"]
    assert json.loads(next(read_source(path))["meta"])["url"] == "http://x/"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(HornbookError, match="is damaged at record 7"):
        texts(path)
    path.write_bytes(zlib.compress(b"x") * 20)
    with pytest.raises(HornbookError, match="is damaged at record 1"):
        texts(path)


def test_folders_are_read_recursively_and_limits_hold(tmp_path):
    for i in range(30):
        (tmp_path / f"d{i % 3}").mkdir(exist_ok=True)
        (tmp_path / f"d{i % 3}" / f"{i}.txt").write_text("x" * 100)
    (tmp_path / ".hidden.txt").write_text("no")
    ids = [row["id"] for row in read_source(tmp_path)]
    assert len(ids) == 30
    assert ids == sorted(ids)
    limited = [row["id"] for row in read_source(tmp_path, limit_bytes=950, seed=1)]
    assert len(limited) == 10
    assert limited == [row["id"] for row in read_source(tmp_path, limit_bytes=950, seed=1)]
    assert limited != [row["id"] for row in read_source(tmp_path, limit_bytes=950, seed=2)]


def test_what_cannot_be_read_is_a_sentence(tmp_path):
    with pytest.raises(HornbookError, match="no file or folder"):
        texts(tmp_path / "nowhere")
    (tmp_path / "a.xyz").write_text("?")
    with pytest.raises(HornbookError, match=r"of a kind that is not read\. Hornbook reads \.txt"):
        texts(tmp_path / "a.xyz")
    (tmp_path / "empty.txt").write_text(" \n")
    for spec in ("empty.txt", "."):
        with pytest.raises(HornbookError, match="holds no text"):
            texts(tmp_path / spec)
    with pytest.raises(HornbookError, match="limit_bytes is 0"):
        texts("python", limit_bytes=0)


def test_the_hub_is_streamed(monkeypatch):
    calls = []

    def load_dataset(name, config, *, split, streaming):
        calls.append((name, config, split, streaming))
        return ({"text": f"row {i}", "url": "u"} for i in range(10**9))

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    found = list(islice(read_source("hub:a/b:en:test"), 3))
    assert [r["text"] for r in found] == ["row 0", "row 1", "row 2"]
    assert found[0]["source"] == "hub:a/b"
    assert len(texts("hub:a/b", limit_bytes=50)) == 10
    assert calls == [("a/b", "en", "test", True), ("a/b", None, "train", True)]

    def offline(*_, **__):
        raise ConnectionError("Couldn't reach the Hub\nmore")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=offline))
    with pytest.raises(
        HornbookError, match=r"Could not read hub:a/b: Couldn't reach the Hub\. Check the name"
    ):
        texts("hub:a/b")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(HornbookError, match="pip install"):
        texts("hub:a/b")


def test_python_source_on_packages_made_here(tmp_path):
    from hornbook.data.python_source import read_python

    code = "import os\n\n\n" + "".join(
        f"def f{i}(value):\n    return os.path.join(value, 'part')\n\n\n" for i in range(20)
    )
    doc = '"""' + PARAGRAPH * 3 + '"""\n\nclass Thing:\n    """' + PARAGRAPH + '"""\n\n'
    doc += "".join(
        f'    def m{i}(self, a=(1, 2), b=")"):\n        r"""{PARAGRAPH * 3}\n\n        More.\n        """\n\n'
        for i in range(6)
    )
    files = {
        "pkg/code.py": code,
        "pkg/copy.py": code,
        "pkg/docs.py": doc,
        "pkg/tests/a.py": code + "# test",
        "pkg/_vendor/a.py": code + "# vendored",
        "pkg/table.py": "T = [\n" + "".join(f"    {i}, 'name',\n" for i in range(900)) + "]\n",
        "pkg/made.py": "# Automatically generated by tool. DO NOT EDIT\n" + code,
        "pkg/licensed.py": "#!/usr/bin/python\n# Copyright 2024 A. Person\n#\n\n# Licensed to all\n\n"
        + code[::-1],
        "pkg/guide.rst": PARAGRAPH * 4,
        "pkg/LICENSE.txt": PARAGRAPH * 5,
        "other-1.0.dist-info/METADATA": "Name: other\nVersion: 1\n\n" + PARAGRAPH * 6,
        "pydoc_data/topics.py": "topics = {'if': " + repr("   " + PARAGRAPH * 7) + "}\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    rows = list(read_python(roots=[tmp_path]))
    found = {row["id"]: row for row in rows}
    assert found.keys() - {"python/pkg/code.py", "python/pkg/copy.py"} == {
        "python/pkg/docs.py",
        "python/pkg/licensed.py",
        "python/pkg/guide.rst",
        "python/other-1.0.dist-info/METADATA",
        "python/pydoc_data/topics/if",
    }
    assert len(rows) == 6  # the copy of the code is left out
    assert found["python/pkg/licensed.py"]["text"] == code[::-1].strip("\n") + "\n"
    assert found["python/other-1.0.dist-info/METADATA"]["text"].startswith("The river")
    page = found["python/pkg/docs.py"]
    assert page["source"] == "python/docstrings"
    assert "class Thing" in page["text"]
    assert 'Thing.m5(self, a=(1, 2), b=")")' in page["text"]
    assert "\n    More." in page["text"]
    assert [r["id"] for r in read_python(roots=[tmp_path])] == [r["id"] for r in rows]


def test_this_installation_has_variety():
    rows = list(read_source("python", limit_bytes=3_000_000, seed=0))
    size = {}
    for row in rows:
        size[row["source"]] = size.get(row["source"], 0) + len(row["text"])
        assert row["text"].strip()
    assert set(size) == {"python/code", "python/docstrings", "python/docs"}
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({json.loads(row["meta"])["package"] for row in rows}) > 20
    assert max(size.values()) < 0.8 * sum(size.values())


def test_readers_need_no_heavy_import():
    code = (
        "import sys, hornbook.data.readers\n"
        "print([m for m in ('torch', 'pyarrow', 'datasets') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
