"""Pages show what lies on the disk, and text stays text wherever it comes from."""

import json
import signal
import time

import pytest
from studio_home import SCRIPT

from hornbook.lab.run import Run
from hornbook.studio import curves
from hornbook.studio.jobs import Jobs
from hornbook.studio.pages import ROOMS


def has_no_markup_of_theirs(text: str) -> bool:
    return "<script>document" not in text and "<img src=x" not in text


def test_text_of_models_and_users_is_never_markup(client):
    pages = [
        "/papers",
        "/runs",
        "/runs/hostile-quick",
        "/runs/hostile-quick/report",
        "/compare?a=hostile-quick&b=hostile-quick",
        "/machine",
        f"/runs/{SCRIPT}",
        f"/compare?a={SCRIPT}&b=x",
        f"/papers/{SCRIPT}",
        f"/jobs/{SCRIPT}",
    ]
    shown = 0
    for page in pages:
        text = client.get(page).text
        assert has_no_markup_of_theirs(text), page
        shown += "&lt;script&gt;document" in text
    assert shown >= 4  # it is there, as text


def test_a_finished_run_shows_its_claims_steps_samples_and_report(client):
    text = client.get("/runs/hostile-quick").text
    assert "✓ holds" in text.replace("</span>", "").replace("  ", " ") or "holds" in text
    assert "write-hostile" in text
    assert "0.25" in text
    report = client.get("/runs/hostile-quick/report")
    assert report.status_code == 200
    assert "sandbox" in report.headers["content-security-policy"]
    assert "'self'" not in report.headers["content-security-policy"]


def test_curves_are_the_logged_numbers(client):
    groups = client.get("/runs/hostile-quick/curves.json").json()["groups"]
    [group] = groups
    assert group["step"] == "write-hostile"
    loss = next(metric for metric in group["metrics"] if metric["name"] == "loss")
    assert loss["x"] == list(range(20))
    assert loss["y"][3] == pytest.approx(2.7)


def test_curves_of_a_long_run_are_thinned_and_keep_both_ends(tmp_path):
    lines = [json.dumps({"made_by": "train", "step": i, "loss": 1 / (i + 1)}) for i in range(100_000)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"torn": ']))
    [group] = curves.of_run(tmp_path)["groups"]
    [metric] = group["metrics"]
    assert len(metric["x"]) <= curves.POINTS + 1
    assert metric["x"][0] == 0
    assert metric["x"][-1] > 99_000
    assert metric["y"][0] == 1.0


def test_the_live_page_tells_steps_of_a_run_that_goes_on(client, hostile):
    run = Run(hostile.home, recipe="going", scale="smoke", settings=None, quiet=True)
    try:
        live = client.get("/runs/going-smoke/live.json").json()
        assert live["state"] == "running"  # this very process
        assert "going-smoke" in client.get("/runs").text
    finally:
        for path in sorted(run.folder.iterdir()):
            path.unlink()
        run.folder.rmdir()


def test_every_room_answers(client):
    for room, name in ROOMS:
        answer = client.get(f"/{room}")
        assert answer.status_code == 200, room
        assert f"<h1>{name}</h1>" in answer.text
        assert 'aria-current="page"' in answer.text


def test_what_is_not_there_is_said_on_a_page_and_in_json(client):
    for path in ("/runs/none-quick", "/jobs/none", "/papers/none", "/nowhere", "/runs/none/live.json"):
        assert client.get(path).status_code == 404, path
        answer = client.get(path, headers={"accept": "application/json"})
        assert "error" in answer.json()


@pytest.mark.parametrize(
    "flags", ["--home /tmp", "--scale paper", "--home=/x", "layers 6", "--x 'open", "--help"]
)
def test_settings_cannot_change_where_a_run_goes(client, hostile, flags):
    answer = client.post("/papers/start", data={"recipe": "cntk", "scale": "smoke", "flags": flags})
    assert answer.status_code == 400
    assert Jobs(hostile.home).newest("run", "cntk-smoke") is None


def test_a_command_started_from_a_page_runs_and_its_end_is_seen(client):
    answer = client.post("/papers/cntk/plan?scale=smoke", follow_redirects=False)
    assert answer.status_code == 303
    place = answer.headers["location"]
    while (state := client.get(f"{place}/state.json").json())["state"] == "running":
        time.sleep(0.2)
    assert state["state"] == "done", state
    assert "settings at scale smoke" in client.get(place).text


def test_a_run_asks_to_stop_like_ctrl_c_and_is_found_by_the_next_studio(client, hostile):
    answer = client.post(
        "/papers/start", data={"recipe": "saliency", "scale": "quick"}, follow_redirects=False
    )
    assert answer.headers["location"] == "/runs/saliency-quick"
    again = client.post("/papers/start", data={"recipe": "saliency", "scale": "quick"})
    assert again.status_code == 400
    assert "running already" in again.text
    assert client.get("/runs/saliency-quick").status_code == 200
    later = Jobs(hostile.home)  # a studio that was started again
    job = later.running("run", "saliency-quick")
    assert job is not None
    client.post("/runs/saliency-quick/stop")
    while later.find(job.id).state == "running":
        time.sleep(0.1)
    assert later.find(job.id).state == "stopped"


def test_a_stop_before_the_run_can_hear_of_it_is_not_lost(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as for a studio that a script starts with &
    try:
        jobs = Jobs(tmp_path)
        job = jobs.start(
            "run", "saliency-quick", ["run", "saliency", "--scale", "quick", "--home", str(tmp_path)]
        )
        jobs.stop(job)
    finally:
        signal.signal(signal.SIGINT, before)
    while jobs.find(job.id).state == "running":
        time.sleep(0.05)
    assert jobs.find(job.id).state == "stopped"
