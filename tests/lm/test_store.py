"""The call store: durable, shared, and never wrong about whose answer it holds."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.lm.base import Request, ask
from hornbook.lm.endpoint import EndpointModel
from hornbook.lm.store import CallStore, call_key

MOCK = str(Path(__file__).with_name("mock_openai.py"))


def key(**changes):
    fields = {"provider": "p", "url": "u", "model": "m", "revision": "", "request": ask("q").as_json()}
    return call_key(**fields | changes)


def test_the_key_holds_all_that_changes_an_answer():
    keys = {key()}
    for change in (
        {"provider": "q"},
        {"url": "v"},
        {"model": "n"},
        {"revision": "r"},
        {"extra": {"a": 1}},
        {"request": ask("q", system="s").as_json()},
        {"request": ask("q", schema={"type": "object"}).as_json()},
        {"request": ask("q", tools=({"name": "t"},)).as_json()},
        {"request": ask("q", sample_index=1).as_json()},
        {"request": ask("q", salt="x").as_json()},
        {"request": Request(prompt="q").as_json()},
        {"request": Request(tokens=(1,)).as_json()},
    ):
        keys.add(key(**change))
    assert len(keys) == 13
    assert key(request=ask("q", tag="label").as_json()) == key()


def test_the_raw_answer_comes_back_byte_for_byte(tmp_path):
    raw = '{"a": 1,\n "b": "\\u00e9 é \x01"} trailing garbage'
    with CallStore(tmp_path / "deep" / "calls.sqlite") as store:
        store.put(key(), model="m", request={"x": 1}, response=raw, latency_seconds=0.5)
        call = store.get(key())
    assert (call.response, call.request, call.latency_seconds) == (raw, {"x": 1}, 0.5)
    with CallStore(tmp_path / "deep" / "calls.sqlite") as store:
        assert store.get(key()).response == raw


def test_failures_are_recorded_and_not_served(tmp_path):
    with CallStore(tmp_path / "c.sqlite") as store:
        store.put(key(), model="m", request={}, response="busy", status=503, outcome="server")
        assert store.get(key()) is None
        store.put(key(), model="m", request={}, response="fine")
        assert store.get(key()).response == "fine"
        assert [c.outcome for c in store.history(key())] == ["server", "answer"]
        assert store.summary() == {"m": {"answer": 1, "server": 1}}


def test_a_lease_makes_others_wait_until_release_or_time(tmp_path):
    with CallStore(tmp_path / "c.sqlite") as store, CallStore(tmp_path / "c.sqlite") as other:
        a, b = store.new_owner(), other.new_owner()
        assert store.claim([key()], owner=a, seconds=60) == [True]
        assert other.claim([key(), key(model="n")], owner=b, seconds=60) == [False, True]
        store.release([key()], owner=b)  # not b's to give
        assert other.claim([key()], owner=b, seconds=0.05) == [False]
        store.release([key()], owner=a)
        assert other.claim([key()], owner=b, seconds=0.05) == [True]
        time.sleep(0.1)
        assert store.claim([key()], owner=a, seconds=60) == [True]
        store.put(key(), model="m", request={}, response="busy", outcome="server")
        assert other.claim([key()], owner=b, seconds=60) == [False]  # a is about to try again
        store.release_soon(key(), owner=a)
        store.put(key(), model="m", request={}, response="x")
        assert other.claim([key()], owner=b, seconds=60) == [True]


def test_the_lease_of_a_dead_process_is_free(tmp_path):
    path = tmp_path / "c.sqlite"
    code = f"""
import os
from hornbook.lm.store import CallStore
store = CallStore({str(path)!r})
print(store.claim([{key()!r}], owner=store.new_owner(), seconds=1e6), flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[True]"
    with CallStore(path) as store:
        assert store.claim([key()], owner=store.new_owner(), seconds=1) == [True]


def test_a_damaged_or_unwritable_file_is_one_sentence(tmp_path):
    path = tmp_path / "calls.sqlite"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(HornbookError, match=r"call store .*calls.sqlite cannot be opened"):
        CallStore(path)
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(HornbookError, match="cannot be opened"):
        CallStore(blocked / "calls.sqlite")


def test_a_full_disk_is_told_and_earlier_answers_stay(tmp_path):
    with CallStore(tmp_path / "c.sqlite") as store:
        store.put(key(), model="m", request={}, response="kept")
        writer = [c for c in store._connections if c is not store._local.connection]
        pages = writer[0].execute("PRAGMA page_count").fetchone()[0]
        writer[0].execute(f"PRAGMA max_page_count={pages + 1}")
        with pytest.raises(HornbookError, match=r"could not be written .*full.*Free space"):
            store.put(key(model="n"), model="n", request={}, response=os.urandom(200_000).hex())
        assert store.get(key()).response == "kept"


CLIENT = """
import sys
from hornbook.lm.base import ask
from hornbook.lm.endpoint import EndpointModel, EndpointSettings
from hornbook.lm.store import CallStore

class Bar:
    def advance(self, n=1):
        print(n, flush=True)

settings = EndpointSettings(backoff_seconds=0.01, max_backoff_seconds=0.05, max_concurrency=16)
with CallStore(sys.argv[1]) as store:
    model = EndpointModel(sys.argv[2], "m", store=store, settings=settings)
    answers = model.complete([ask(f"question {i}") for i in range(int(sys.argv[3]))], progress=Bar())
print("texts", [a.text for a in answers] == [f"echo: question {i}" for i in range(int(sys.argv[3]))])
"""


class Mock:
    """The misbehaving server in a process of its own."""

    def __init__(self, **settings):
        self.process = subprocess.Popen(
            [sys.executable, MOCK, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def stats(self):
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/stats") as response:
            return json.loads(response.read())


@pytest.mark.parametrize("kill_after", [5, 60])
def test_kill_9_loses_nothing_paid_and_pays_nothing_twice(tmp_path, kill_after):
    path, rows = tmp_path / "c.sqlite", 150
    with Mock(latency=0.02, server_errors=0.05, rate_limited=0.05, retry_after=0.01) as mock:
        command = [sys.executable, "-c", CLIENT, str(path), mock.url, str(rows)]
        victim = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for _ in range(kill_after):
            victim.stdout.readline()
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        victim.stdout.close()
        time.sleep(0.2)
        answered = mock.stats()["answered"]
        with sqlite3.connect(path) as connection:
            (stored,) = connection.execute("SELECT COUNT(*) FROM calls WHERE outcome='answer'").fetchone()
        # All that was handed to the caller is stored; only answers on the wire at the kill may be missing.
        assert stored >= kill_after
        assert len(answered) - stored <= 16
        again = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "texts True" in again.stdout, again.stderr
        final = mock.stats()["answered"]
        paid_twice = sum(count - 1 for count in final.values())
        assert len(final) == rows
        assert paid_twice == len(answered) - stored  # nothing that was stored is paid again


def test_two_processes_share_a_file_and_pay_once(tmp_path):
    with Mock(latency=0.05, server_errors=0.1) as mock:
        command = [sys.executable, "-c", CLIENT, str(tmp_path / "c.sqlite"), mock.url, "120"]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        outs = [process.communicate(timeout=60)[0] for process in both]
        assert all("texts True" in out for out in outs)
        assert set(mock.stats()["answered"].values()) == {1}
        assert len(mock.stats()["answered"]) == 120


def test_a_new_parser_needs_no_new_call(tmp_path):
    # What is stored is the response, not what we made of it: a row read as
    # malformed today is a row once the reader learns better.
    with CallStore(tmp_path / "c.sqlite") as store:
        model = EndpointModel("http://127.0.0.1:9/v1", "m", store=store)
        request = ask("q")
        raw = json.dumps({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]})
        store.put(model._call_key(request, "plain"), model="m", request={}, response=raw)
        assert model.complete([request])[0].text == "yes"


def test_many_processes_may_open_a_new_store_at_once(tmp_path):
    """The change to a write-ahead log is not covered by SQLite's own waiting."""
    script = (
        "import sys, time; from pathlib import Path; from hornbook.lm.store import CallStore\n"
        "for number in range(15):\n"
        "    while time.time() < float(sys.argv[2]) + 0.05 * number: pass\n"
        "    CallStore(Path(sys.argv[1], f'{number}.sqlite')).close()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(time.time() + 2)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    faults = [process.communicate(timeout=60)[1] for process in processes]
    assert faults == [""] * 6
