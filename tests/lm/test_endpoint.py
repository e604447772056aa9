"""The client against a real server that misbehaves. Every named bug is one of a public tool."""

import asyncio
import json
import threading
import time

import pytest
from mock_openai import MockOpenAI

from hornbook.errors import HornbookError
from hornbook.lm import concurrency
from hornbook.lm.base import Completion, Failure, LanguageModel, Message, Request, Sampling, ask
from hornbook.lm.endpoint import EndpointModel, EndpointSettings
from hornbook.lm.ledger import BudgetExceeded, Ledger, Price
from hornbook.lm.store import CallStore

PATIENT = EndpointSettings(backoff_seconds=0.01, max_backoff_seconds=0.05, deadline_seconds=20)
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


@pytest.fixture
def store(tmp_path):
    with CallStore(tmp_path / "calls.sqlite") as made:
        yield made


def prompts(n, **fields):
    return [ask(f"question {i}", **fields) for i in range(n)]


def test_it_is_a_language_model_and_answers_in_order(store):
    with MockOpenAI(latency=0.005) as mock:
        model = EndpointModel.from_spec(f"{mock.url}#m", store=store, settings=PATIENT)
        assert isinstance(model, LanguageModel)
        answers = model.complete(prompts(100))
    assert [a.text for a in answers] == [f"echo: question {i}" for i in range(100)]
    assert answers[3].usage.prompt_tokens == 2
    assert not any(a.cached for a in answers)


@pytest.mark.parametrize("fault", ["rate_limited", "server_errors", "dropped", "truncated_json", "garbage"])
def test_what_may_succeed_is_tried_again(store, fault):
    with MockOpenAI(**{fault: 0.5}) as mock:
        model = EndpointModel(mock.url, "m", store=store, settings=PATIENT)
        answers = model.complete(prompts(40))
        assert [a.text for a in answers] == [f"echo: question {i}" for i in range(40)]
        assert sum(mock.received.values()) > 45
        assert set(mock.answered.values()) == {1}


def test_a_failure_is_never_an_answer(store):
    with MockOpenAI(status=400) as mock:
        [result] = EndpointModel(mock.url, "m", store=store, settings=PATIENT).complete([ask("hello")])
    assert isinstance(result, Failure)
    assert result.kind == "bad_request"
    assert mock.received["hello"] == 1  # ours to fix: not tried again


@pytest.mark.parametrize(
    ("status", "kind"), [(500, "server"), (503, "server"), (504, "timeout"), (418, "bad_request")]
)
def test_status_decides_the_kind(store, status, kind):
    with MockOpenAI(status=status) as mock:
        # A prompt that talks of rates and timeouts must not sway the classification.
        [result] = EndpointModel(mock.url, "m", settings=PATIENT).complete(
            [ask("generate a rate, timeout 429")]
        )
        tries = sum(mock.received.values())
    assert result.kind == kind
    assert tries == (1 if kind == "bad_request" else PATIENT.max_attempts)
    assert result.attempts == tries


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_every_row_would_meet_stops_the_run_and_hides_the_key(status):
    with MockOpenAI(status=status) as mock:
        model = EndpointModel(mock.url, "m", api_key="sk-very-secret", settings=PATIENT)
        with pytest.raises(HornbookError, match=f"status {status}") as caught:
            model.complete(prompts(500))
        assert sum(mock.received.values()) < 100
    assert "sk-very-secret" not in str(caught.value)
    assert "sk-very-secret" not in repr(model)


def test_the_key_is_nowhere_in_the_store(tmp_path):
    path = tmp_path / "calls.sqlite"
    with MockOpenAI(status=400) as mock, CallStore(path) as store:
        model = EndpointModel(mock.url, "m", api_key="sk-very-secret", store=store, settings=PATIENT)
        model.complete([ask("x")])
        assert mock.server.headers[0]["authorization"] == "Bearer sk-very-secret"
        rows = [call for key in all_keys(store) for call in store.history(key)]
    assert "told to fail" in rows[0].response
    assert "sk-very-secret" not in json.dumps([(r.request, r.response) for r in rows])


def all_keys(store):
    return [bytes(row[0]).hex() for row in store._connection().execute("SELECT DISTINCT key FROM calls")]


def test_no_server_is_one_clear_sentence():
    model = EndpointModel("http://127.0.0.1:9", "m", settings=PATIENT)
    with pytest.raises(HornbookError, match=r"Nothing answers at http://127\.0\.0\.1:9/v1"):
        model.complete(prompts(50))


def test_retry_after_is_obeyed():
    with MockOpenAI(rate_limited=1.0, retry_after=0.7) as mock:
        begun = time.monotonic()
        [answer] = EndpointModel(mock.url, "retry-after", settings=PATIENT).complete([ask("a")])
        assert isinstance(answer, Completion)
        assert time.monotonic() - begun >= 0.7


def test_a_hanging_server_times_out_within_the_deadline():
    with MockOpenAI(hang=1.0, only_first=False) as mock:
        settings = EndpointSettings(timeout_seconds=0.1, deadline_seconds=0.5, backoff_seconds=0.01)
        begun = time.monotonic()
        [result] = EndpointModel(mock.url, "m", settings=settings).complete([ask("a")])
    assert result.kind == "timeout"
    assert time.monotonic() - begun < 3


def test_the_limit_of_the_server_is_found_without_being_told():
    with MockOpenAI(latency=0.15, capacity=12, retry_after=0.02) as mock:
        model = EndpointModel(mock.url, "m", settings=PATIENT)
        answers = model.complete(prompts(120))
        assert all(isinstance(a, Completion) for a in answers)
        assert mock.server.busiest == 12
        why = [entry[2] for entry in model.limit.history]
    assert why[1] == "doubled"
    assert "rate limited" in why
    # One cut an episode, however many 429 it brought.
    assert why.count("rate limited") == 1
    assert mock.server.refused > 1


def test_the_second_run_costs_nothing(store):
    with MockOpenAI() as mock:
        ledger = Ledger({"m": Price(input_per_million=1e6, output_per_million=2e6)})
        model = EndpointModel(mock.url, "m", store=store, ledger=ledger, settings=PATIENT)
        first = model.complete(prompts(20))
        again = model.complete(prompts(20))
        assert sum(mock.answered.values()) == 20
    assert [a.text for a in first] == [a.text for a in again]
    assert all(a.cached and a.usage.cached for a in again)
    account = ledger.account("m")
    assert (account.paid_calls, account.cached_calls) == (20, 20)
    assert account.money == account.money_saved == 20 * (2 * 1 + 3 * 2)


def test_the_same_call_twice_in_a_list_is_paid_once_but_samples_are_apart(store):
    with MockOpenAI() as mock:
        model = EndpointModel(mock.url, "m", store=store, settings=PATIENT)
        twins = model.complete(
            [ask("a"), ask("a", tag="label"), ask("a", sample_index=1), ask("a", salt="s")]
        )
        assert mock.answered["a"] == 3
    assert [t.cached for t in twins] == [False, True, False, False]


def answers_of(store, url, model="m", request=None, **settings):
    made = EndpointModel(url, model, store=store, settings=PATIENT, **settings)
    return made.complete([request or ask("q", system="s")])[0]


def test_another_model_never_gets_cached_answers(store):
    with MockOpenAI() as mock:
        answers_of(store, mock.url)
        assert not answers_of(store, mock.url, "n").cached
        assert not answers_of(store, mock.url, revision="abc").cached
        assert not answers_of(store, mock.url, extra={"chat_template_kwargs": {"think": False}}).cached
        assert answers_of(store, mock.url).cached


def test_another_base_url_never_gets_cached_answers(store):
    with MockOpenAI() as mock, MockOpenAI(reply="from elsewhere") as other:
        answers_of(store, mock.url)
        assert answers_of(store, other.url).text == "from elsewhere"
        assert answers_of(store, mock.url).text == "echo: q"


def test_another_system_prompt_never_gets_cached_answers(store):
    with MockOpenAI() as mock:
        answers_of(store, mock.url)
        assert not answers_of(store, mock.url, request=ask("q", system="t")).cached
        assert not answers_of(store, mock.url, request=ask("q")).cached


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.5}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}, {"max_tokens": 7},
        {"stop": ("x",)}, {"seed": 1}, {"frequency_penalty": 0.1}, {"presence_penalty": 0.1},
        {"repetition_penalty": 1.1}, {"logprobs": 1},
    ],
)  # fmt: skip
def test_every_sampling_parameter_is_in_the_key(store, change):
    with MockOpenAI() as mock:
        answers_of(store, mock.url)
        changed = ask("q", system="s", sampling=Sampling(**change))
        assert not answers_of(store, mock.url, request=changed).cached


def test_a_refusal_is_not_served_again_unless_asked(store):
    with MockOpenAI(finish="content_filter") as mock:
        model = EndpointModel(mock.url, "m", store=store, settings=PATIENT)
        [refusal] = model.complete([ask("a")])
        assert refusal.kind == "refusal"
        mock.set(finish="stop")
        keeping = EndpointSettings(serve_failures=True)
        [served] = EndpointModel(mock.url, "m", store=store, settings=keeping).complete([ask("a")])
        assert (served.kind, served.cached) == ("refusal", True)
        [asked_again] = model.complete([ask("a")])
        assert asked_again.text == "echo: a"
        assert model.complete([ask("a")])[0].cached


def test_cut_json_is_truncated_and_not_served_again(store):
    with MockOpenAI(reply='{"n": 1', finish="length") as mock:
        model = EndpointModel(mock.url, "m", store=store, settings=PATIENT)
        [cut] = model.complete([ask("a", schema=SCHEMA)])
        assert cut.kind == "truncated"
        assert mock.received["a"] == 1  # no correction turn: the same limit would cut it again
        mock.set(reply='{"n": 1}', finish="stop")
        assert model.complete([ask("a", schema=SCHEMA)])[0].value == {"n": 1}


def test_schema_by_the_server(store):
    with MockOpenAI(reply='{"n": 3}') as mock:
        model = EndpointModel(mock.url, "m", store=store, settings=PATIENT)
        [answer] = model.complete([ask("a", schema=SCHEMA)])
        assert answer.value == {"n": 3}
        assert mock.server.bodies[0]["response_format"]["json_schema"]["schema"] == SCHEMA
    assert model.capabilities.supports_schema


def test_schema_by_fence_where_the_server_knows_none(store):
    with MockOpenAI(knows_schema=False, reply='Here:\n```json\n{"n": 3}\n```\n') as mock:
        model = EndpointModel(mock.url, "m", store=store, settings=PATIENT)
        answers = model.complete([ask(f"a{i}", schema=SCHEMA) for i in range(30)])
        assert [a.value for a in answers] == [{"n": 3}] * 30
        assert not model.capabilities.supports_schema
        asked = mock.server.bodies[-1]
        assert "JSON Schema" in asked["messages"][-1]["content"]
        before = sum(mock.answered.values())
        fresh = EndpointModel(mock.url, "m", store=store, settings=PATIENT)
        assert all(a.cached for a in fresh.complete([ask(f"a{i}", schema=SCHEMA) for i in range(30)]))
        assert sum(mock.answered.values()) == before


def test_one_correction_turn_carries_the_validators_message(store):
    with MockOpenAI(reply='{"n": "three"}', then='{"n": 3}') as mock:
        model = EndpointModel(mock.url, "m", store=store, settings=PATIENT)
        [answer] = model.complete([ask("a", schema=SCHEMA)])
        assert answer.value == {"n": 3}
        turns = mock.server.bodies[1]["messages"]
        assert [t["role"] for t in turns] == ["user", "assistant", "user"]
        assert "$.n: expected integer" in turns[2]["content"]
        assert model.complete([ask("a", schema=SCHEMA)])[0].cached
        assert len(mock.server.bodies) == 2


def test_one_correction_and_no_more(store):
    with MockOpenAI(reply="I would rather chat.") as mock:
        model = EndpointModel(mock.url, "m", store=store, settings=PATIENT)
        [result] = model.complete([ask("a", schema=SCHEMA)])
        assert result.kind == "malformed"
        assert len(mock.server.bodies) == 2
        assert result.usage.completion_tokens == 8  # both turns were paid
        assert model.ledger.account("m").paid_calls == 2


def test_a_budget_stops_cleanly_and_keeps_everything(store):
    with MockOpenAI() as mock:
        ledger = Ledger({"m": Price(output_per_million=1e6)}, budget=30)  # 3 a call
        model = EndpointModel(mock.url, "m", store=store, ledger=ledger, settings=PATIENT)
        with pytest.raises(BudgetExceeded, match="30"):
            model.complete(prompts(100))
        paid = sum(mock.answered.values())
        assert paid == 10
        more = EndpointModel(mock.url, "m", store=store, settings=PATIENT)
        answers = more.complete(prompts(100))
        assert sum(a.cached for a in answers) == paid
        assert sum(mock.answered.values()) == 100


def test_two_jobs_that_want_the_same_answers_pay_once(store, tmp_path):
    with MockOpenAI(latency=0.1) as mock, CallStore(tmp_path / "calls.sqlite") as other:
        results = {}

        def work(name, which):
            results[name] = EndpointModel(mock.url, "m", store=which, settings=PATIENT).complete(prompts(30))

        threads = [
            threading.Thread(target=work, args=pair) for pair in (("a", store), ("b", other), ("c", store))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert set(mock.answered.values()) == {1}
        assert len(mock.answered) == 30
    assert [r.text for r in results["a"]] == [r.text for r in results["b"]] == [r.text for r in results["c"]]


def test_it_works_inside_a_running_loop():
    with MockOpenAI() as mock:

        async def notebook():
            return EndpointModel(mock.url, "m", settings=PATIENT).complete([ask("a")])

        assert asyncio.run(notebook())[0].text == "echo: a"


def test_progress_counts_every_row(store):
    class Bar:
        n = 0

        def advance(self, n=1):
            self.n += n

    with MockOpenAI() as mock:
        model = EndpointModel(mock.url, "m", store=store, settings=PATIENT)
        bar = Bar()
        model.complete([*prompts(10), *prompts(5)], progress=bar)
        model.complete(prompts(10), progress=bar)
    assert bar.n == 25


def test_stream_and_a_stream_that_breaks():
    with MockOpenAI() as mock:
        model = EndpointModel(mock.url, "m")
        assert "".join(model.stream(ask("tell me"))) == "echo: tell me"
        mock.set(corrupt_stream=True)
        with pytest.raises(HornbookError, match="broke"):
            list(model.stream(ask("tell me more and more")))


def test_plain_prompts_and_token_ids_go_to_completions():
    with MockOpenAI() as mock:
        model = EndpointModel(mock.url, "m")
        text, ids = model.complete([Request(prompt="once upon"), Request(tokens=(1, 2, 3))])
        assert text.text == "echo: once upon"
        assert isinstance(ids, Completion)
        assert {json.dumps(b["prompt"]) for b in mock.server.bodies} == {'"once upon"', "[1, 2, 3]"}


def test_neutral_settings_are_not_sent():
    with MockOpenAI() as mock:
        EndpointModel(mock.url, "m").complete([Request(messages=(Message("user", "x"),))])
        assert set(mock.server.bodies[0]) == {"model", "messages", "temperature", "max_tokens"}


def test_limits_are_shared_by_endpoint_and_model():
    a, b = EndpointModel("localhost:1", "m"), EndpointModel("http://localhost:1/v1/", "m")
    assert a.limit is b.limit
    assert a.limit is not EndpointModel("localhost:1", "n").limit
    assert concurrency.limit_for("http://localhost:1/v1", "m", most=256) is a.limit
