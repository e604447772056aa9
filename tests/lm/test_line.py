"""Lines: requests in, results out as they come, each paid for once; and what a broken line leaves behind."""

import time
from collections import Counter

import pytest
from mock_openai import MockOpenAI

from hornbook.errors import HornbookError
from hornbook.lm import dispatch
from hornbook.lm.base import Completion, LanguageModel, ask
from hornbook.lm.endpoint import EndpointModel, EndpointSettings
from hornbook.lm.line import Streaming, Waves, open_line
from hornbook.lm.several import SeveralModels
from hornbook.lm.simulated import SimulatedModel
from hornbook.lm.store import CallStore

HASTY = EndpointSettings(backoff_seconds=0.01, max_backoff_seconds=0.02, max_attempts=2, max_concurrency=4)


@pytest.fixture
def store(tmp_path):
    with CallStore(tmp_path / "calls.sqlite") as made:
        yield made


class Bar:
    n = 0

    def advance(self, n=1):
        self.n += n


def everything(line, found=None):
    found = {} if found is None else found
    while answers := line.answers():
        found.update(answers)
    return found


def test_an_answer_that_does_not_come_holds_nobody_up(store, monkeypatch):
    """In waves the second questions would wait for the slowest of the first ones: here for ever."""
    monkeypatch.setattr(dispatch, "_DRAIN_SECONDS", 0.01)
    with MockOpenAI() as mock:
        mock.server.fault = lambda prompt: "hang" if prompt == "slow" else None
        model = EndpointModel(mock.url, "m", store=store, settings=HASTY)

        def all_but_one():
            with open_line(model) as line:
                line.ask(ask("slow"))
                for i in range(20):
                    line.ask(ask(f"first {i}"))
                done = 0
                while done < 40:
                    for _, answer in line.answers():
                        done += 1
                        if answer.text.startswith("echo: first"):
                            line.ask(ask(f"second {answer.text}"))
                raise KeyError("left")

        with pytest.raises(KeyError, match="left"):
            all_but_one()
        assert mock.answered["slow"] == 0
        assert set((mock.answered - Counter(["slow"])).values()) == {1}


def test_the_numbers_and_the_progress_of_a_line():
    bar = Bar()
    with MockOpenAI() as mock:
        model = EndpointModel(mock.url, "m", settings=HASTY)
        assert isinstance(model, Streaming)
        assert isinstance(model, LanguageModel)
        with open_line(model, progress=bar) as line:
            assert line.answers() == []
            assert [line.ask(ask(f"question {i}")) for i in range(30)] == list(range(30))
            found = everything(line)
            assert line.ask(ask("one more")) == 30
            found |= everything(line)
    assert [found[i].text for i in range(30)] == [f"echo: question {i}" for i in range(30)]
    assert found[30].text == "echo: one more"
    assert bar.n == 31


@pytest.mark.parametrize("kept", [True, False])
def test_the_same_call_twice_on_a_line_is_paid_once(store, kept):
    with MockOpenAI() as mock:
        model = EndpointModel(mock.url, "m", store=store if kept else None, settings=HASTY)
        with open_line(model) as line:
            line.ask(ask("a"))
            line.ask(ask("a", tag="under way"))
            first = everything(line)
            line.ask(ask("a", tag="later"))
            later = everything(line)
        assert mock.received["a"] == 1
    assert [one.cached for one in (first[0], first[1], later[2])] == [False, True, True]
    assert (model.ledger.account("m").paid_calls, model.ledger.account("m").cached_calls) == (1, 2)


def test_a_line_that_breaks_gives_what_came_before(store):
    with MockOpenAI() as mock:
        model = EndpointModel(mock.url, "m", store=store, settings=HASTY)
        with open_line(model) as line:
            line.ask(ask("a"))
            assert [answer.text for _, answer in line.answers()] == ["echo: a"]
            mock.set(status=401)
            line.ask(ask("b"))
            for _ in range(2):
                with pytest.raises(HornbookError, match="status 401"):
                    line.answers()


def test_what_is_under_way_lands_when_the_reader_gives_up(store):
    with MockOpenAI(latency=0.1) as mock:
        model = EndpointModel(mock.url, "m", store=store, settings=HASTY)
        requests = [ask(f"question {i}") for i in range(3)]

        def given_up():
            with open_line(model) as line:
                for request in requests:
                    line.ask(request)
                while sum(mock.received.values()) < 3:
                    time.sleep(0.001)
                raise KeyError("left")

        with pytest.raises(KeyError, match="left"):
            given_up()
        assert all(store.get(model.call_key(request)) is not None for request in requests)
        assert [a.cached for a in model.complete(requests)] == [True] * 3


def test_a_thread_that_leaves_the_store_leaves_no_connection_behind(store):
    before = len(store._connections)
    with MockOpenAI() as mock:
        for i in range(3):
            with open_line(EndpointModel(mock.url, "m", store=store, settings=HASTY)) as line:
                line.ask(ask(f"question {i}"))
                assert len(everything(line)) == 1
    assert len(store._connections) <= before + 1  # the writer's, which stays


def test_a_model_that_takes_lists_gets_all_that_has_gathered():
    sizes = []

    class Local(SimulatedModel):
        at_once = 3

        def complete(self, requests, *, progress=None):
            sizes.append(len(requests))
            return super().complete(requests, progress=progress)

    bar = Bar()
    with open_line(Local("echo", lambda r: r.messages[-1].content), progress=bar) as line:
        assert line.at_once == 3
        assert [line.ask(ask(word)) for word in "abc"] == [0, 1, 2]
        assert [(n, a.text) for n, a in line.answers()] == [(0, "a"), (1, "b"), (2, "c")]
        assert line.ask(ask("d")) == 3
        assert [(n, a.text) for n, a in line.answers()] == [(3, "d")]
        assert line.answers() == []
    assert sizes == [3, 1]
    assert bar.n == 4


def test_several_endpoints_share_a_line_and_one_that_is_down_costs_nothing_of_the_other(store):
    with MockOpenAI() as good, MockOpenAI(status=401) as other:
        up = EndpointModel(good.url, "m", store=store, settings=HASTY)
        down = EndpointModel(other.url, "m", store=store, settings=HASTY)
        several = SeveralModels([(up, 1), (down, 1)])
        requests = [ask(f"question {i}") for i in range(40)]
        own = [i for i, request in enumerate(requests) if several.model_of(request) is up]
        found = {}
        with open_line(several) as line:
            assert line.at_once == 32
            for request in requests:
                line.ask(request)
            with pytest.raises(HornbookError, match="401"):
                everything(line, found)
        assert sorted(found) == own
        other.set(status=200)
        with open_line(several) as line:
            for request in requests:
                line.ask(request)
            found = everything(line)
        assert [found[i].text for i in range(40)] == [f"echo: question {i}" for i in range(40)]
        assert set((good.answered + other.answered).values()) == {1}
    mixed = SeveralModels([(up, 1), (SimulatedModel("s", lambda r: "x"), 1)])
    assert isinstance(open_line(mixed), Waves)


def test_the_user_or_the_provider_says_how_many_calls_at_once(monkeypatch):
    monkeypatch.setenv("HORNBOOK_AT_ONCE", "48")
    assert EndpointModel("http://localhost:2/v1", "told").concurrency == 48
    monkeypatch.setenv("HORNBOOK_AT_ONCE", "many")
    with pytest.raises(HornbookError, match="HORNBOOK_AT_ONCE is 'many'"):
        EndpointModel("http://localhost:2/v1", "mistold")
    monkeypatch.delenv("HORNBOOK_AT_ONCE")
    with MockOpenAI() as mock:
        mock.server.rate_headers = (
            b"x-ratelimit-remaining-requests: 499\r\nx-ratelimit-remaining-tokens: 90000\r\n"
        )
        model = EndpointModel(mock.url, "m")
        assert model.concurrency == 8
        (answer,) = model.complete([ask("a")])
        assert isinstance(answer, Completion)
        assert 90_000 // 600 < model.concurrency <= 90_000 // 512
