"""`hornbook data curate` as a user meets it: from bad documents to a corpus, and again with other rules."""

import json

from command_line import call

from hornbook.data.corpus import Corpus

GOOD = (
    "The miller of {0} had a {1} that was known to all who came with their corn. In the evening they sat "
    "with him and he told of the {2} that was lost in the river, and of the {3} which was never found. "
    "It was said that they would have to be there before the {4} rose, and that the road to {5} was long."
)


def documents():
    rows = [
        {"id": f"good-{i}", "text": GOOD.format(*(f"{'abcdefghij'[i]}{'klmnop'[j]}ra" for j in range(6)))}
        for i in range(10)
    ]
    rows += [
        {"id": "huge", "text": "word " * 1_200_000},
        {"id": "one", "text": "x"},
        {"id": "nul", "text": "\x00" * 200},
        {"id": "half", "text": "good\x00" * 100},
        {"id": "broken", "text": "caf\udce9 " * 50},  # a byte that is no UTF-8, as Python reads it
        {"id": "loop", "text": "the same line again and that is all of it\n" * 3000},
    ]
    return rows


QUESTION = (
    "Seven blue kettles and nine copper pans hang over every stove in Kamala's shop; each needs two nails, "
    "and she has bought forty nails already. How many more nails does Kamala need?"
)


def test_documents_of_every_bad_kind_leave_with_a_reason(tmp_path):
    source = tmp_path / "documents.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in documents()))
    code, out, err = call("data", "curate", source, "--out", tmp_path / "out")
    assert code == 0, err
    assert "kept 10 of 16 documents" in out
    kept, removed = (Corpus.open(tmp_path / "out" / name) for name in ("curated", "curated/removed"))
    assert sorted(row["id"] for row in kept.iter_rows(["id"])) == [f"good-{i}" for i in range(10)]
    why = removed.read_attributes("curation", ["reason"])["reason"].to_pylist()
    reasons = dict(zip((row["id"] for row in removed.iter_rows(["id"])), why))
    assert reasons["huge"] == "too_long"
    assert reasons["one"] == reasons["nul"] == "language_und"
    assert all(reasons[name] for name in ("half", "broken", "loop"))
    texts = {row["id"]: row["text"] for row in removed.iter_rows()}
    assert len(texts["huge"]) == 6_000_000  # nothing is lost by being removed
    assert texts["nul"] == "\x00" * 200


def test_a_second_run_decides_anew_and_a_question_given_away_leaves(tmp_path):
    source = tmp_path / "documents.jsonl"
    rows = [row for row in documents() if row["id"] != "huge"]
    rows[3]["text"] += f" {QUESTION}"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = tmp_path / "questions.jsonl"
    items.write_text(json.dumps({"question": QUESTION, "answer": "4"}) + "\n")
    flags = ["--against", items, "--json"]
    code, out, err = call("data", "curate", source, "--out", tmp_path / "out", *flags)
    assert code == 0, err
    facts = json.loads(out)
    assert facts["rows_out"] == 9
    assert facts["reasons"]["contaminated"] == 1
    flags = ["--against", items, "--rules", "none", "--languages", "any", "--repeated-lines", "1", "--json"]
    code, out, err = call("data", "curate", source, "--out", tmp_path / "out", *flags)
    assert code == 0
    assert json.loads(out)["rows_out"] == 14
    assert "examined again" in err
    code, out, err = call("data", "curate", source, "--out", tmp_path / "out", *flags)
    assert "examined again" not in err
    assert json.loads(out)["rows_out"] == 14


def test_what_is_wrong_is_said(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"answer": "4"}\n')
    (tmp_path / "text.txt").write_text("The text of a file. " * 50)
    for arguments, words in [
        ([tmp_path], "takes one source and --out"),
        ([tmp_path / "none.txt", "--out", tmp_path / "o"], "There is no file or folder"),
        ([tmp_path / "text.txt", "--out", tmp_path / "o", "--against", "gsm"], "no evaluation set gsm"),
        (
            [tmp_path / "text.txt", "--out", tmp_path / "o", "--against", tmp_path / "bad.jsonl"],
            "line 1, has no question",
        ),
        ([tmp_path / "text.txt", "--out", tmp_path / "o", "--languages", "xx"], "keep names 'xx'"),
        ([tmp_path / "text.txt", "--out", tmp_path / "o", "--workers", "0"], "workers is 0"),
    ]:
        code, _, err = call("data", "curate", *arguments)
        assert code == 1
        assert words in err
        assert "Traceback" not in err
