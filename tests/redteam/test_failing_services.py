"""What a user reads, and keeps, when the service of an attack misbehaves: refuses, limits, cuts, changes."""

import json
import re
from pathlib import Path

import pytest
from command_line import call
from mock_openai import MockOpenAI

import hornbook.infer.open
from hornbook.lm.endpoint import EndpointModel
from hornbook.lm.endpoint_settings import EndpointSettings

HURRIED = EndpointSettings(
    backoff_seconds=0.01, max_backoff_seconds=0.02, max_attempts=2, timeout_seconds=2.0, deadline_seconds=1.0
)
STEADY = {"only_first": False}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        hornbook.infer.open,
        "open_model",
        lambda spec, **options: EndpointModel.from_spec(str(spec), settings=HURRIED),
    )


def attack(home: Path, server: MockOpenAI, *flags: str) -> tuple[int, str]:
    code, _, error = call(
        *("run", "crescendo", "--scale", "smoke", "--seeds", "0", "--tasks", "1", "--runs", "1"),
        *("--home", home, "--target", f"{server.url}#m", *flags),
    )
    return code, error


def stored(home: Path) -> list[dict]:  # type: ignore[type-arg]
    files = sorted(home.glob("steps/red-team-*/*/transcripts.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"status": 401}, "with status 401.*Set the key in HORNBOOK_API_KEY"),
        ({"status": 400}, "1 target_error.*For example .*#0: bad_request"),
        ({"rate_limited": 1.0, **STEADY}, "could not go on .*rate_limit.*give the same command again"),
        ({"server_errors": 1.0, **STEADY}, "could not go on .*server: 503.*give the same command again"),
        ({"dropped": 1.0, **STEADY}, "Nothing answers at http.*Start the server or correct the URL"),
        ({"truncated_json": 1.0, **STEADY}, "could not go on .*malformed.*give the same command again"),
        ({"garbage": 1.0, **STEADY}, "could not go on .*malformed.*give the same command again"),
    ],
)
def test_the_sentence_says_what_is_wrong_and_what_to_do(
    tmp_path: Path, faults: dict[str, object], said: str
) -> None:
    with MockOpenAI(**faults) as server:
        code, error = attack(tmp_path, server)
    assert code == 1
    assert "Traceback" not in error
    assert re.search(said, error.replace("\n", " ")), error


def test_a_fault_now_and_then_costs_a_second_try_and_nothing_else(tmp_path: Path) -> None:
    faults = ("rate_limited", "server_errors", "dropped", "truncated_json", "garbage")
    with MockOpenAI(**dict.fromkeys(faults, 0.15), seed=3) as server:
        assert attack(tmp_path, server)[0] == 0
        asked = len(server.server.bodies)
    assert asked > len(stored(tmp_path))  # some calls did fail


@pytest.mark.parametrize("change", [{"garbage": 1.0}, {"truncated_json": 1.0}, {"rate_limited": 1.0}])
def test_a_service_that_changes_in_the_middle_loses_nothing_and_asks_nothing_twice(
    tmp_path: Path, change: dict[str, float]
) -> None:
    with MockOpenAI() as server:
        real, asked = server.server.answer, 0

        async def turning(*given):  # type: ignore[no-untyped-def]
            nonlocal asked
            asked += 1
            if asked == 6:
                server.set(**change, **STEADY)
            return await real(*given)

        server.server.answer = turning  # type: ignore[method-assign]
        code, error = attack(tmp_path, server)
        assert code == 1
        assert "give the same command again" in error
        before = stored(tmp_path)
        assert len(before) == 5
        server.set(**dict.fromkeys(change, 0.0))
        bodies = len(server.server.bodies)
        code, _ = attack(tmp_path, server)
        assert code == 0
        after = stored(tmp_path)
        assert after[:5] == before  # kept as it was
        assert len(server.server.bodies) - bodies == len(after) - 5  # one call for each new attempt


def test_a_finished_attack_asks_nobody_anything(tmp_path: Path) -> None:
    with MockOpenAI() as server:
        assert attack(tmp_path, server)[0] == 0
        asked = len(server.server.bodies)
        assert attack(tmp_path, server)[0] == 0
        assert len(server.server.bodies) == asked


def test_a_judge_off_the_menu_is_named_and_never_guessed(tmp_path: Path) -> None:
    with MockOpenAI(reply="I would say seven out of ten.") as server:
        code, error = attack(tmp_path, server, "--judge", f"{server.url}#judge")
    assert code == 1
    assert "1 undetermined" in error
    assert "no usable grade" in error
    assert "Name another judge" in error


def test_an_attacker_that_will_not_play_is_not_a_robust_target(tmp_path: Path) -> None:
    with MockOpenAI(reply="I would rather not.") as server:
        code, error = attack(tmp_path, server, "--attacker", f"{server.url}#attacker")
    assert code == 1
    assert "1 attacker_error" in error


@pytest.mark.parametrize("finish", ["content_filter", "length"])
def test_a_filtered_answer_is_a_refusal_and_a_cut_one_is_an_answer(tmp_path: Path, finish: str) -> None:
    with MockOpenAI(finish=finish) as server:
        assert attack(tmp_path, server)[0] == 0
    attempts = [line["attempt"] for line in stored(tmp_path)]
    assert all((attempt["status"] == "blocked") is (finish == "content_filter") for attempt in attempts)
