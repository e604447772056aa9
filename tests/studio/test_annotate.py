"""Annotating over HTTP: strokes are kept across a restart, pairs stay blind, exports carry their origin."""

import json

import pytest
from starlette.testclient import TestClient
from studio_home import SCRIPT

from hornbook.data.corpus import CorpusWriter
from hornbook.studio.app import create_app
from hornbook.studio.settings import StudioSettings


@pytest.fixture
def home(tmp_path):
    messages = [{"role": "user", "content": f"Which? {SCRIPT}"}]
    with CorpusWriter(tmp_path / "steps" / "pairs-1", "preferences", lineage={}) as writer:
        writer.write_rows(
            [
                {
                    "id": f"p{i}",
                    "messages": messages,
                    "chosen": f"good {i} {SCRIPT}",
                    "rejected": f"bad {i} {SCRIPT}",
                    "source": "s",
                    "meta": "{}",
                }
                for i in range(30)
            ]
        )
    with CorpusWriter(tmp_path / "steps" / "texts-1", "documents", lineage={}) as writer:
        writer.write_rows(
            [{"id": f"t{i}", "text": f"text {i}", "source": "s", "meta": "{}"} for i in range(9)]
        )
    return tmp_path


def studio(home):
    return TestClient(
        create_app(StudioSettings(home=home)), base_url="http://127.0.0.1", headers={"accept": "text/html"}
    )


def make(client, **form):
    given = {
        "name": "q1",
        "corpus": "steps/texts-1",
        "question": "?",
        "labels": "yes, no",
        "items": 6,
        **form,
    }
    return client.post("/annotate", data=given, follow_redirects=False)


def test_strokes_survive_a_restart_and_the_export_says_where_texts_come_from(home):
    with studio(home) as client:
        answer = make(client)
        assert answer.headers["location"] == "/annotate/work?queue=q1"
        seen = client.get("/annotate/task.json", params={"queue": "q1", "annotator": "ann"}).json()
        for _ in range(4):
            body = {"queue": "q1", "number": seen["task"]["number"], "annotator": "ann", "label": "yes"}
            seen = client.post("/annotate/stroke", json=body).json()
        assert seen["done"] == 4
    with studio(home) as client:  # the server was started again
        seen = client.get("/annotate/task.json", params={"queue": "q1", "annotator": "ann"}).json()
        assert seen["done"] == 4
        lines = client.get("/annotate/export.jsonl", params={"queue": "q1"}).text.splitlines()
    assert len(lines) == 4
    row = json.loads(lines[0])
    assert row["provenance"]["corpus"] == "steps/texts-1"
    assert row["content"]["text"] == f"text {row['provenance']['row']}"
    assert row["judgements"][0]["label"] == "yes"


def test_pairs_show_no_name_of_their_origin_and_the_verdict_reaches_the_right_text(home):
    with studio(home) as client:
        make(client, name="blind", corpus="steps/pairs-1", labels="", items=12)
        lefts = set()
        for _ in range(12):
            seen = client.get("/annotate/task.json", params={"queue": "blind", "annotator": "bob"}).json()
            texts = dict(seen["task"]["content"])
            assert not {"chosen", "rejected", "first", "second"} & set(texts)
            left = texts["left"].split()[0]
            lefts.add(left)
            label = "first" if left == "good" else "second"
            body = {"queue": "blind", "number": seen["task"]["number"], "annotator": "bob", "label": label}
            client.post("/annotate/stroke", json=body)
        assert lefts == {"good", "bad"}
        page = client.get("/annotate/work", params={"queue": "blind", "annotator": "bob"}).text
        lines = client.get("/annotate/export.jsonl", params={"queue": "blind"}).text.splitlines()
    assert "12</td>" in page
    assert all(json.loads(line)["judgements"][0]["label"] == "first" for line in lines)


def test_names_and_texts_are_never_markup(home):
    with studio(home) as client:
        make(client, name=f"q{SCRIPT}"[:80], question=SCRIPT, labels=f"a,{SCRIPT}")
        name = f"q{SCRIPT}"[:80].strip()
        for params in (
            {"queue": name},
            {"queue": name, "annotator": SCRIPT},
            {"queue": name, "annotator": "x"},
        ):
            text = client.get("/annotate/work", params=params).text
            assert "<script>document" not in text
            assert "<img src=x" not in text
            assert "&lt;script&gt;document" in text
        listing = client.get("/annotate").text
        assert "<script>document" not in listing


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"label": "maybe"}, 400),
        ({"number": 99}, 400),
        ({"queue": "none"}, 404),
        ({"annotator": ""}, 400),
        ({"extra": 1}, 400),
    ],
)
def test_a_stroke_that_makes_no_sense_is_refused(home, change, status):
    with studio(home) as client:
        make(client)
        body = {"queue": "q1", "number": 0, "annotator": "ann", "label": "yes", **change}
        assert client.post("/annotate/stroke", json=body).status_code == status
        assert make(client).status_code == 400  # the name is taken
        assert make(client, name="q2", labels="").status_code == 400
        assert make(client, name="q2", items=0).status_code == 400
        assert make(client, name="q2", corpus="../x").status_code == 404


@pytest.fixture
def questions(home):
    meta = {
        "question": f"What is 2 + 2? {SCRIPT}", "solution": "It is 4.", "answer": "4", "skills": ["a", "b"],
        "exemplars": {"a": [{"question": "1 + 1?", "solution": "s", "answer": "2"}]},
    }  # fmt: skip
    row = {"text": meta["question"], "source": "math_squared", "meta": json.dumps(meta)}
    with CorpusWriter(home / "steps" / "questions-1", "documents", lineage={}) as writer:
        writer.write_rows([{"id": f"m{i}", **row} for i in range(4)])
    return home


def test_questions_are_mended_and_both_texts_are_exported(questions):
    with studio(questions) as client:
        made = make(client, corpus="steps/questions-1", labels="", overlap="50")
        assert made.status_code == 303
        seen = client.get("/annotate/task.json", params={"queue": "q1", "annotator": "ann"}).json()["task"]
        shown = dict(seen["content"])
        assert shown["solution"] == "It is 4."
        assert "1 + 1?" in shown["questions on a"]
        edit = {"queue": "q1", "number": seen["number"], "annotator": "ann"}
        edit |= {"field": "solution", "text": "Four."}
        after = client.post("/annotate/edit", json=edit).json()["task"]
        assert after["edits"] == {"solution": "Four."}
        stroke = {"queue": "q1", "number": seen["number"], "annotator": "ann", "label": "accept"}
        client.post("/annotate/stroke", json=stroke)
        [row] = map(
            json.loads, client.get("/annotate/export.jsonl", params={"queue": "q1"}).text.splitlines()
        )
        assert row["content"]["solution"] == "It is 4."
        assert row["judgements"][0]["final"]["solution"] == "Four."
        assert row["provenance"]["row_sha256"]
        assert "<script>document" not in client.get("/annotate/work", params={"queue": "q1"}).text
        assert client.post("/annotate/edit", json={**edit, "field": "skills"}).status_code == 400


def test_answers_are_compared_as_mathematics(home):
    with studio(home) as client:
        for first, second, same in (("1/2", "0.5", True), ("\\frac{3}{4}", "0.7", False)):
            answer = client.post("/annotate/same", json={"first": first, "second": second})
            assert answer.json() == {"same": same}


def test_graded_texts_are_checked_against_a_verdict_that_is_not_shown(home):
    folder = home / "steps" / "examine-skill-mix-1"
    folder.mkdir()
    rows = [
        {"task": f"k2-{i}", "k": 2, "skills": ["simile", "litotes"], "topic": "sailing", "generation": 0,
         "text": f"text {i}", "points": None if i == 9 else [1, i % 2, 1, 1, 1]}
        for i in range(10)
    ]  # fmt: skip
    (folder / "pieces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with studio(home) as client:
        assert "pieces:examine-skill-mix-1" in client.get("/annotate").text
        make(client, corpus="pieces:examine-skill-mix-1", labels="", items="6", overlap="0")
        for _ in range(6):
            told = client.get("/annotate/task.json", params={"queue": "q1", "annotator": "ann"}).json()[
                "task"
            ]
            assert set(dict(told["content"])) == {"asked for", "text"}
            assert "points" not in json.dumps(told)
            odd = int(dict(told["content"])["text"][-1]) % 2
            stroke = {
                "queue": "q1",
                "number": told["number"],
                "annotator": "ann",
                "label": "full marks" if odd else "not",
            }
            client.post("/annotate/stroke", json=stroke)
        page = client.get("/annotate/work", params={"queue": "q1", "annotator": "ann"}).text
        assert "100.0 % equal on 6 items" in page
        assert "kappa 1." in page
        for name in ("pieces:../steps/examine-skill-mix-1", "pieces:nothing", "pieces:"):
            assert make(client, name="q2", corpus=name, labels="").status_code == 404
