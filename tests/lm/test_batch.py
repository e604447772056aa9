"""Provider batches: answers land under the keys of single calls, and no death loses or doubles a paid one."""

import subprocess
import sys
import time

import pytest
from mock_openai import MockOpenAI
from test_store import Mock

from hornbook.errors import HornbookError
from hornbook.lm.base import Completion, ask
from hornbook.lm.batch import BatchModel, BatchSettings
from hornbook.lm.endpoint import EndpointModel, EndpointSettings
from hornbook.lm.ledger import BudgetExceeded, Ledger, Price
from hornbook.lm.store import CallStore

FAST = EndpointSettings(backoff_seconds=0.01, max_backoff_seconds=0.05)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture
def store(tmp_path):
    with CallStore(tmp_path / "calls.sqlite") as opened:
        yield opened


def batched(server, store, said=None, **settings):
    endpoint = EndpointModel(server.url, "m", store=store, settings=FAST, **settings.pop("endpoint", {}))
    settings = {"poll_seconds": 0.01, "patience_seconds": 0.2} | settings
    return BatchModel(endpoint, BatchSettings(**settings), say=(said if said is not None else []).append)


def questions(count):
    return [ask(f"question {i}") for i in range(count)]


def test_answers_come_in_order_and_single_calls_find_them(store):
    with MockOpenAI(batch_looks=3) as server:
        model = batched(server, store, rows=4)
        answers = model.complete(questions(10))
        assert [a.text for a in answers] == [f"echo: question {i}" for i in range(10)]
        assert len(server.server.batches) == 3
        assert not server.server.bodies  # no single call was made
        again = EndpointModel(server.url, "m", store=store).complete(questions(10))
        assert all(a.cached for a in again)
        assert model.endpoint.ledger.account("m").paid_calls == 10
        model.complete(questions(10))
        assert len(server.server.batches) == 3


def test_rows_that_fail_in_the_batch_are_asked_one_by_one(store):
    said = []
    with MockOpenAI(batch_errors=0.5) as server:
        answers = batched(server, store, said).complete(questions(12))
        assert all(isinstance(a, Completion) for a in answers)
        single = len(server.server.bodies)
        assert 0 < single < 12
        assert max(server.answered.values()) == 1
    assert said[-1] == f"batch batch-0: {12 - single} answers; {single} are asked one by one"


def test_an_expired_batch_keeps_what_it_answered(store):
    with MockOpenAI(batch_errors=0.5, batch_status="expired") as server:
        answers = batched(server, store).complete(questions(12))
        assert all(isinstance(a, Completion) for a in answers)
        assert max(server.answered.values()) == 1


def test_a_batch_whose_making_was_not_heard_of_is_found_again(store):
    with MockOpenAI(batch_lost=True) as server:
        answers = batched(server, store).complete(questions(5))
        assert [a.text for a in answers] == [f"echo: question {i}" for i in range(5)]
        assert len(server.server.batches) == 1
        assert sum(server.answered.values()) == 5


def test_a_provider_without_batches_is_a_sentence_and_leaves_no_note(store, tmp_path):
    with MockOpenAI() as server:
        model = batched(server, store)
        model.endpoint.address = type(model.endpoint.address)(f"{server.url}/elsewhere", False)
        with pytest.raises(HornbookError, match=r"did not take a batch .*Ask this model call by call"):
            model.complete(questions(2))
    assert not list(tmp_path.glob("*.batches/*.json"))


def test_a_schema_is_asked_for_and_a_wrong_answer_corrected(store):
    with MockOpenAI(reply='{"n": "one"}', then='{"n": 1}') as server:
        answers = batched(server, store).complete([ask("how many", schema=SCHEMA)])
        assert [a.value for a in answers] == [{"n": 1}]
        assert len(server.server.bodies) == 1  # the correction alone


def test_the_budget_is_asked_before_anything_is_handed_in(store):
    ledger = Ledger({"m": Price(output_per_million=1000.0)}, budget=1.0)
    with MockOpenAI() as server, pytest.raises(BudgetExceeded):
        batched(server, store, endpoint={"ledger": ledger}).complete(questions(3))
    assert not server.server.batches


def test_without_a_store_nothing_is_asked():
    with MockOpenAI() as server, pytest.raises(HornbookError, match="need a call store"):
        BatchModel(EndpointModel(server.url, "m"))


CLIENT = """
import sys
from hornbook.lm.base import ask
from hornbook.lm.batch import BatchModel, BatchSettings
from hornbook.lm.endpoint import EndpointModel
from hornbook.lm.store import CallStore
with CallStore(sys.argv[1]) as store:
    model = BatchModel(EndpointModel(sys.argv[2], "m", store=store), BatchSettings(poll_seconds=0.05, rows=8),
                       say=lambda sentence: print(sentence, flush=True))
    print("begun", flush=True)
    answers = model.complete([ask(f"question {i}") for i in range(24)])
print("texts", [a.text for a in answers] == [f"echo: question {i}" for i in range(24)])
"""


@pytest.mark.parametrize("moment", ["begun", "handed in as batch batch-1", "batch batch-0: 8 answers"])
def test_kill_9_at_any_moment_pays_every_call_once(tmp_path, moment):
    path = tmp_path / "c.sqlite"
    with Mock(batch_looks=4) as server:
        command = [sys.executable, "-c", CLIENT, str(path), server.url]
        victim = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in victim.stdout:
            if moment in line:
                break
        time.sleep(0.03)
        victim.kill()
        victim.wait(10)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "texts True" in done.stdout, done.stderr
        stats = server.stats()
    assert set(stats["answered"].values()) == {1}
    assert len(stats["answered"]) == 24
