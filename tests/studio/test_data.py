"""Corpora on pages: rows, removed ones with reasons, lineage to seed and call, nothing outside the home."""

import json

import pyarrow as pa
import pytest
from studio_home import SCRIPT

from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.lab.run import Run
from hornbook.lm.simulated import SimulatedModel
from hornbook.lm.store import CallStore
from hornbook.studio.data import CALLS_FILE
from hornbook.synth.steps import write_dialogue

KEY = "ab" * 32


@pytest.fixture(scope="module")
def curated(hostile):
    """A corpus with removed rows, one of them written by a stored call."""
    folder = hostile.home / "steps" / "choose-0000"
    for path, text in ((folder, "kept"), (folder / "removed", "removed")):
        with CorpusWriter(path, "documents", lineage={"note": SCRIPT}) as writer:
            writer.write_rows(
                [
                    {
                        "id": f"{text}{i}{SCRIPT}",
                        "text": f"{text} {SCRIPT} {i}",
                        "source": "taught",
                        "meta": json.dumps(
                            {
                                "seed": 5,
                                "index": i,
                                "kind": ["a", "b"][i % 2],
                                "half": i < 20,
                                "call": KEY,
                                "x": SCRIPT,
                            }
                        ),
                    }
                    for i in range(45)
                ]
            )
        reasons = pa.table({"reason": [f"too short {SCRIPT}"] * 45, "score": [i / 10 for i in range(45)]})
        Corpus.open(path).write_attributes("curation", [reasons])
    with CallStore(hostile.home / CALLS_FILE) as store:
        store.put(KEY, model=f"teacher-7 {SCRIPT}", request={"messages": SCRIPT}, response=f"said {SCRIPT}")
    return "steps/choose-0000"


def escaped(answer):
    assert answer.status_code == 200
    assert "<script>document" not in answer.text
    assert "<img src=x" not in answer.text
    assert "&lt;script&gt;document" in answer.text
    return answer.text


def test_rows_are_shown_in_pages_with_their_scores(client, curated):
    text = escaped(client.get("/data/view", params={"corpus": curated, "offset": 20}))
    assert "kept20" in text
    assert "kept39" in text
    assert "kept40" not in text
    assert "rows 20 to 39 of 45" in text
    assert "removed, with reasons" in text


def test_removed_rows_say_why(client, curated):
    text = escaped(client.get("/data/view", params={"corpus": f"{curated}/removed"}))
    assert "too short" in text
    row = escaped(client.get("/data/row", params={"corpus": f"{curated}/removed", "number": 3}))
    assert "Why it was removed" in row
    assert "0.3" in row


def test_a_row_leads_back_to_its_seed_and_its_call(client, curated):
    text = escaped(client.get("/data/row", params={"corpus": curated, "number": 7}))
    assert "teacher-7" in text
    assert "said" in text
    assert "<code>5</code>" in text


def test_a_corpus_leads_back_through_its_steps(client, hostile):
    name = f"steps/{hostile.corpus.name}"
    text = escaped(client.get("/data/view", params={"corpus": name}))
    assert "write-hostile" in text
    assert "seed <code>7</code>" in text
    assert hostile.corpus.name in client.get("/data", params={"run": "hostile-quick"}).text


def test_search_finds_and_says_when_that_is_all(client, curated):
    text = escaped(client.get("/data/view", params={"corpus": curated, "q": f"{SCRIPT} 44"}))
    assert "kept44" in text
    assert "That is all." in text
    assert "Nothing found" in client.get("/data/view", params={"corpus": curated, "q": "zzz"}).text


def test_the_coverage_map_counts(client, curated):
    text = client.get("/data/coverage", params={"corpus": curated, "first": "kind", "second": "half"}).text
    for count in (10, 10, 13, 12):  # even and odd numbers below 20, and from 20 to 44
        assert f">{count}</td>" in text


def test_the_map_says_how_coverage_grew_and_what_was_never_hit(client, hostile):
    run = Run(hostile.home, recipe="write-talk", scale="smoke", settings={}, quiet=True)
    teacher = SimulatedModel(
        "talker", lambda request: f"I say {sum(map(ord, request.salt))} things to you today."
    )
    made = run.step(write_dialogue, rows=6, teacher=teacher, taught_share=1.0, steered=True)
    corpus = f"steps/{made.path.name}"
    text = client.get("/data/coverage", params={"corpus": corpus}).text
    facets, grown = made.facts["facets"]["kind"], made.facts["growth"][-1]
    assert f'<th scope="row">kind</th><td class="n">{facets["known"]}</td>' in text
    assert ", ".join(facets["never_hit"][:8]) in text
    assert facets["never_hit"]
    assert f'<td class="n">{grown["grams"]:.0f}</td>' in text


@pytest.mark.parametrize("name", ["../", "/etc", "steps/../../..", "steps/none", "", "\x00", SCRIPT])
def test_nothing_outside_the_home_is_shown(client, name):
    for page in ("view", "coverage", "row"):
        answer = client.get(f"/data/{page}", params={"corpus": name, "number": 0})
        assert answer.status_code == 404
        assert "<script>document" not in answer.text


def test_numbers_out_of_range_are_not_an_error_of_ours(client, curated):
    assert client.get("/data/view", params={"corpus": curated, "offset": 10**9}).status_code == 200
    assert client.get("/data/view", params={"corpus": curated, "offset": -5}).status_code == 200
    assert client.get("/data/row", params={"corpus": curated, "number": 45}).status_code == 404
    assert client.get("/data/row", params={"corpus": curated, "number": "x"}).status_code == 400
