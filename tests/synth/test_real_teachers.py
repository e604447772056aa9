"""Teachers over HTTP that hang, refuse, garble and die: one sentence each, nothing lost or asked twice."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from story_server import Teacher, serving

from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.lm.base import Completion, Request, Sampling, ask
from hornbook.lm.endpoint import EndpointModel
from hornbook.lm.endpoint_settings import EndpointSettings
from hornbook.lm.simulated import SimulatedModel
from hornbook.lm.store import CallStore
from hornbook.synth import steps
from hornbook.synth.remembered import RememberedModel
from hornbook.synth.scripts import perform
from hornbook.synth.taught import question_assignments


@pytest.fixture
def server() -> Iterator[Teacher]:
    with serving() as teacher:
        yield teacher


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, recipe="test", scale="smoke", settings={})


def impatient(server: Teacher, store: CallStore) -> EndpointModel:
    """The endpoint client that gives up soon."""
    settings = EndpointSettings(
        timeout_seconds=1.0, deadline_seconds=3.0, max_attempts=2, backoff_seconds=0.01, max_concurrency=8
    )
    return EndpointModel(server.url, "teacher", api_key="none", store=store, settings=settings)


def test_an_endpoint_by_name_writes_and_is_never_asked_twice(server: Teacher, run: Run) -> None:
    made = run.step(steps.write_stories, rows=30, teacher=f"{server.url}#teacher")
    assert made.facts["rows"] == 30
    assert server.answered.total() == 30
    more = run.step(steps.write_stories, rows=40, teacher=f"{server.url}#teacher")
    assert more.facts["rows"] == 40
    assert server.answered.total() == 40, "the first 30 come from the call store"
    assert set(server.answered.values()) == {1}


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("hang", "timeout"),
        ("error", "out of memory"),
        ("garbled", "failed on|malformed"),
        ("refuse", "refusal"),
    ],
)
def test_each_bad_teacher_gets_one_sentence(
    server: Teacher, run: Run, tmp_path: Path, mode: str, says: str
) -> None:
    server.mode = mode
    with CallStore(tmp_path / "calls.sqlite") as store, pytest.raises(HornbookError, match=says) as caught:
        run.step(steps.write_stories, rows=4, teacher=impatient(server, store))
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 500


def test_nobody_listens_there(run: Run, tmp_path: Path) -> None:
    gone = Teacher()
    gone.server_close()
    with CallStore(tmp_path / "calls.sqlite") as store:  # noqa: SIM117
        with pytest.raises(HornbookError, match=r"127\.0\.0\.1"):
            run.step(steps.write_stories, rows=4, teacher=impatient(gone, store))


def test_a_teacher_that_dies_half_way_is_asked_only_for_the_rest(
    server: Teacher, run: Run, tmp_path: Path
) -> None:
    server.mode, server.good = "error", 20
    with CallStore(tmp_path / "calls.sqlite") as store:
        with pytest.raises(HornbookError, match="only the rest is asked"):
            run.step(steps.write_stories, rows=50, teacher=impatient(server, store))
        paid = Counter(server.answered)
        assert paid.total() >= 20
        server.mode = "good"
        made = run.step(steps.write_stories, rows=50, teacher=impatient(server, store))
    assert made.facts["rows"] == 50
    assert set(server.answered.values()) == {1}
    assert len(server.answered) == 50
    Corpus.open(made.path).verify()


_PROGRAM = """
import sys
from pathlib import Path
from hornbook.lab.run import Run
from hornbook.synth import steps
home, teacher = sys.argv[1:]
run = Run(Path(home), recipe="test", scale="smoke", settings={})
print(run.step(steps.write_stories, rows=40, teacher=teacher).facts["rows"])
"""


def test_a_killed_session_pays_nothing_twice(server: Teacher, tmp_path: Path) -> None:
    """kill -9 after some answers: what had reached the store is not asked again."""
    server.mode, server.good = "hang", 12
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path), f"{server.url}#teacher"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as session:
        store = tmp_path / "calls.sqlite"
        while session.poll() is None:
            if store.exists() and sum(_stored(store).values()) >= 12:
                break
            threading.Event().wait(0.05)
        assert session.poll() is None, session.communicate()
        session.send_signal(signal.SIGKILL)
        session.wait()
    server.let_go.set()
    kept, paid = _stored(store)["answer"], server.answered.total()
    server.mode = "good"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "40"
    assert kept >= 12
    assert server.answered.total() - paid == 40 - kept, "each stored answer spares one call"


def _stored(path: Path) -> Counter[str]:
    """Outcomes in a call store that another process writes."""
    with CallStore(path) as store:
        return Counter({kind: n for counts in store.summary().values() for kind, n in counts.items()})


def test_a_local_model_is_remembered(tmp_path: Path) -> None:
    asked: list[str] = []

    def reply(request: Request) -> str:
        assert request.messages is not None
        asked.append(request.messages[-1].content)
        return f"Answer {len(asked)}."

    requests = [
        ask(f"Say {number}.", sampling=Sampling(max_tokens=8), salt=str(number)) for number in range(40)
    ]
    with CallStore(tmp_path / "calls.sqlite") as store:
        model = RememberedModel(SimulatedModel("local", reply), store)
        first = model.complete(requests[:25])
        assert len(asked) == 25
        second = model.complete(requests)
    assert len(asked) == 40
    texts = [answer.text for answer in second if isinstance(answer, Completion)]
    assert texts[:25] == [answer.text for answer in first if isinstance(answer, Completion)]
    assert [answer.usage.cached for answer in second] == [True] * 25 + [False] * 15


def test_a_row_leads_back_to_the_stored_call_that_wrote_it(tmp_path):
    texts = iter(["Nothing to ask.", "Ann has 3 pears and buys 4 more pears. How many pears does Ann have?"])
    with CallStore(tmp_path / "calls.sqlite") as store:
        model = RememberedModel(SimulatedModel("two texts", lambda request: next(texts)), store)
        [written] = perform(model, question_assignments(1)[:1])
        assert written.corrected
        call = store.get(json.loads(written.row["meta"])["call"])
        assert call.response == written.row["text"]  # the corrected answer, not the first one
        assert len(call.request["messages"]) == 3


def test_a_steered_session_spends_as_many_calls_on_more_topics(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: Request) -> str:
        assert request.messages is not None
        prompt = request.messages[0].content
        asked.append(prompt)
        topic = re.search(r"lesson about (.+?) for", prompt)
        noun = re.search(r"Mention (.+?) somewhere", prompt)
        assert topic is not None
        assert noun is not None
        return f"This lesson tells of {topic.group(1)} with {noun.group(1)}. " + " ".join(
            f"word{(len(asked) * 7 + k * k) % 997}" for k in range(60)
        )

    runs = Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)
    topics = {}
    for steered in (False, True):
        asked.clear()
        teacher = SimulatedModel(f"steered {steered}", answer)
        made = runs.step(steps.write_textbooks, rows=24, seed=2, teacher=teacher, steered=steered)
        assert len(asked) == 24
        assert made.facts["rows"] == 24
        assert made.facts["steered"] is steered
        rows = Corpus.open(made.path).iter_rows(["meta"])
        topics[steered] = len({json.loads(row["meta"])["concept"] for row in rows})
    assert topics[True] > topics[False]
    with pytest.raises(HornbookError, match="simulated teacher is not called"):
        runs.step(steps.write_textbooks, rows=4, steered=True)
