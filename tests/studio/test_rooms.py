"""Evaluations, red team and pivotal tokens: the numbers are those on the disk, and text stays text."""

import re

import pytest
from studio_home import SCRIPT

from hornbook.lab.statistics import paired_bootstrap
from hornbook.redteam.transcripts import read_transcripts
from hornbook.studio.pages import shown_number


def escaped(answer):
    assert answer.status_code == 200
    assert "<script>document" not in answer.text
    assert "<img src=x" not in answer.text
    assert "&lt;script&gt;document" in answer.text
    return answer.text


def only(folder, pattern):
    return sorted(path.name for path in folder.glob(pattern))


@pytest.fixture(scope="module")
def examined(client, hostile):
    """Names of the two evaluations."""
    names = set(re.findall(r"name=(examine-hostile-[0-9a-f]+)", client.get("/evaluations").text))
    assert len(names) == 2
    return sorted(names)


def test_two_models_are_compared_item_by_item(client, examined):
    text = client.get("/evaluations", params={"a": examined[0], "b": examined[1]}).text
    found = paired_bootstrap([float(i % 10 >= 3) for i in range(40)], [float(i % 10 >= 9) for i in range(40)])
    assert shown_number(abs(found.difference)) in text  # 0.6, whichever comes first
    assert "is better" in text
    assert "≈ noise" not in text


def test_items_and_samples_of_a_task_are_shown(client, examined):
    text = escaped(
        client.get("/evaluations/task", params={"name": examined[0], "task": "sums", "b": examined[1]})
    )
    assert text.count("<li class=") >= 40
    assert text.count("gained") + text.count("lost") == 24  # of 40 items, those from 3 to 8 of each ten
    assert "✗ wrong" in text
    assert client.get("/evaluations/task", params={"name": examined[0], "task": SCRIPT}).status_code == 404
    assert client.get("/evaluations", params={"a": SCRIPT, "b": "x"}).status_code == 404


def test_campaigns_and_conversations_show_what_was_taken_back(client, hostile):
    listing = escaped(client.get("/redteam"))
    assert "50.0 %" in listing
    [name] = set(re.findall(r"red-team-[0-9a-f]+/crescendo", listing))
    text = escaped(client.get("/redteam/campaign", params={"name": name}))
    assert "120 conversations, page 1 of 3" in text
    broken = client.get("/redteam/campaign", params={"name": name, "outcome": "success"}).text
    assert "60 conversations" in broken
    told = read_transcripts(hostile.home / "steps" / name)
    assert len(told) == 120
    assert (told[0].outcome, told[1].outcome, told[0].backtracks, told[0].best_score) == (
        "success",
        "failure",
        1,
        100,
    )
    page = escaped(client.get("/redteam/conversation", params={"name": name, "id": told[0].id}))
    assert page.count("taken back") == 1
    assert "be good" in page
    for wrong in ({"name": name, "id": "x"}, {"name": "../..", "id": "x"}, {"name": "red-team-x", "id": "x"}):
        assert client.get("/redteam/conversation", params=wrong).status_code == 404


def test_a_token_leads_to_the_rollouts_behind_it(client, hostile):
    page = escaped(client.get("/pivotal"))
    [search] = only(hostile.home / "steps", "search-pivotal-tokens-*")
    assert page.count('class="pivot tint') == 4
    # those drawn behind two tokens say nothing of the chance behind one
    for position, count, right in ((1, 5, 2), (2, 5, 2), (3, 0, 0)):
        found = client.get(f"/pivotal/rollouts.json?search={search}&picture=0&position={position}").json()
        assert (found["count"], found["right"]) == (count, right), position
    first = client.get(f"/pivotal/rollouts.json?search={search}&picture=0&position=1").json()["rollouts"]
    assert any(one["text"] == "two" for one in first)
    assert client.get(f"/pivotal/rollouts.json?search={search}&picture=9&position=1").status_code == 404
    assert client.get("/pivotal/rollouts.json?search=../x&picture=0&position=1").status_code == 404


def test_a_model_is_only_exported_from_the_list_and_by_a_plain_name(client):
    good = {"model": "smollm2", "name": "mine", "kinds": "hf"}
    for change in ({"model": "/etc"}, {"name": "../x"}, {"name": "-x"}, {"kinds": "exe"}, {"name": ""}):
        assert client.post("/export", data={**good, **change}).status_code in (400, 404), change
    assert client.get("/export/../etc/passwd").status_code == 404
    assert client.get("/export/%2e%2e/x").status_code == 404
