"""What lies on the disk: whole lines, one attack a folder, nothing edited."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import Scripted, counting_attacker, exact, pattern, task

from hornbook.errors import HornbookError
from hornbook.redteam.attack import Campaign, attack
from hornbook.redteam.tasks import AttackSettings, Task, read_tasks, redacted

SETTINGS = AttackSettings(max_rounds=3, max_backtracks=1, runs_per_task=2)


def run(folder: Path, target: Scripted | None = None, **changes: object) -> Campaign:
    return attack(
        [task(0), task(1)],
        attacker=counting_attacker(),
        target=target or Scripted(pattern(".x", jackpot_at=3)),
        judges=exact(),
        folder=folder,
        settings=replace(SETTINGS, **changes),  # type: ignore[arg-type]
    )


def test_every_attempt_is_stored_with_what_the_judges_said(tmp_path: Path) -> None:
    made = run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "transcripts.jsonl").read_text().splitlines()]
    assert len(lines) == sum(len(c.attempts) for c in made.conversations)
    declined = [line["attempt"] for line in lines if line["attempt"]["backtracked"]]
    assert len(declined) == 4
    assert all(a["refused"] is True and a["reply"] == "No." and not a["kept"] for a in declined)
    assert json.loads((tmp_path / "campaign.json").read_text())["target"] == "scripted-target"


def test_a_line_torn_by_a_crash_is_asked_again_and_nothing_else(tmp_path: Path) -> None:
    wanted = [c.attempts for c in run(tmp_path).conversations]
    path = tmp_path / "transcripts.jsonl"
    whole = path.read_bytes()
    for cut in (1, 5, 60):
        path.write_bytes(whole[:-cut])
        target = Scripted(lambda key, number, request: pattern(".x", jackpot_at=3)(key, 3, request))
        assert [c.attempts for c in run(tmp_path, target).conversations] == wanted
        assert sum(len(asked) for asked in target.asked.values()) == 1
        assert path.read_bytes() == whole


def test_another_attack_does_not_write_into_the_folder(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(HornbookError, match=r"holds another attack \(different: settings\)"):
        run(tmp_path, max_rounds=4)
    run(tmp_path, at_once=1)  # the size of batches changes no outcome


def test_an_edited_transcript_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / "transcripts.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"backtracked": true', '"backtracked": false', 1))
    with pytest.raises(HornbookError, match="does not follow its own rules"):
        run(tmp_path)
    path.write_text(text.replace("{", "", 1))
    with pytest.raises(HornbookError, match="line 1 is damaged"):
        run(tmp_path)


def test_shared_transcripts_withhold_what_succeeded(tmp_path: Path) -> None:
    made = run(tmp_path).conversations[0]
    shown = redacted(made.attempts)
    assert "jackpot0" in made.attempts[-1].reply
    assert not any("jackpot0" in attempt.reply for attempt in shown)
    assert shown[-1].reply.startswith("[withheld: 9 characters, sha256 ")
    assert shown[0] == made.attempts[0]


def test_tasks_are_read_from_a_file_and_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    row = {"id": "a", "category": "c", "objective": "o", "request": "r", "licence": "kept by the owner"}
    path.write_text(json.dumps(row) + "\n\n" + json.dumps({**row, "id": "b", "expected": ["x"]}) + "\n")
    assert read_tasks(path) == [
        Task(id="a", category="c", objective="o", request="r"),
        Task(id="b", category="c", objective="o", request="r", expected=("x",)),
    ]
    for text, fault in (
        ('{"id": "a"}', "line 1 is not a task"),
        ("[1]", "line 1 is not a task"),
        ("", "no task"),
        ("\n".join([json.dumps(row)] * 2), "Two tasks have the id 'a'"),
        (json.dumps({**row, "request": " "}), "empty request"),
    ):
        path.write_text(text)
        with pytest.raises(HornbookError, match=fault):
            read_tasks(path)
