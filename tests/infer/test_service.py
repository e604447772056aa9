import random
import threading

import pytest
from engine_helpers import ByteTokenizer, ragged, small

from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine
from hornbook.infer.service import Busy, Service, Ticket
from hornbook.lm.base import Sampling


@pytest.fixture
def engine() -> Engine:
    return Engine(small(max_position=1024), ByteTokenizer(), weights="fp32", stop_tokens=[7], max_rows=4)


def wait(*tickets: Ticket) -> None:
    done = threading.Event()
    while not all(ticket.done for ticket in tickets):
        done.wait(0.005)


def test_requests_that_come_at_any_moment_get_the_answers_of_generate(engine: Engine) -> None:
    """Random lengths and moments; some need more room than the batch that runs when they come."""
    draw = random.Random(1)
    prompts = ragged(20, 3, 60, seed=3)
    prompts[6] = [5 + i % 200 for i in range(700)]
    sizes = [draw.choice([3, 17, 60]) for _ in prompts]
    samplings = [Sampling(max_tokens=n, seed=i, temperature=i % 2) for i, n in enumerate(sizes)]
    service, tickets = Service(engine), []
    for prompt, sampling in zip(prompts, samplings):
        tickets.append(service.submit(prompt, sampling, samples=2))
        threading.Event().wait(draw.random() * 0.02)
    wait(*tickets)
    service.close()
    for prompt, sampling, ticket in zip(prompts, samplings, tickets):
        expected = engine.generate([prompt], sampling, 2)[0]
        assert [answer.tokens for answer in ticket.answers] == [one.tokens for one in expected]
        assert [answer.reason for answer in ticket.answers] == [one.finish_reason for one in expected]


def test_free_rows_go_to_the_request_that_has_the_fewest(engine: Engine) -> None:
    """Twelve samples of one request before it do not make a single question wait for them all."""
    service = Service(engine)
    order: list[str] = []
    with engine.lock:  # nothing is drawn until all three stand in the queue
        many = service.submit([1, 2], Sampling(max_tokens=40, seed=1), samples=12)
        few = [
            service.submit([3 + i], Sampling(max_tokens=2), on_change=lambda i=i: order.append(f"single {i}"))
            for i in range(3)
        ]
        many._on_change = lambda: order.append("many")
    wait(many, *few)
    service.close()
    assert order == ["single 0", "single 1", "single 2", "many"]


def test_cancelled_requests_leave_rows_and_queue(engine: Engine) -> None:
    engine.stop_tokens = frozenset()
    service = Service(engine)
    running = service.submit([1], Sampling(max_tokens=1000), samples=4)
    queued = service.submit([2], Sampling(max_tokens=1000), samples=4)
    last = service.submit([3], Sampling(max_tokens=3))
    running.cancel()
    queued.cancel()
    wait(running, queued, last)
    assert [answer.reason for answer in running.answers] == ["cancelled"] * 4
    assert [answer.reason for answer in queued.answers] == ["cancelled"] * 4
    assert max(len(answer.tokens) for answer in running.answers) < 1000
    assert len(last.answers[0].tokens) == 3
    again = service.submit([3], Sampling(max_tokens=3))
    wait(again)
    assert service.waiting == 0
    service.close()
    with pytest.raises(Busy, match="stopping"):
        service.submit([1], Sampling())


def test_closing_ends_what_is_open_and_calls_that_wait(engine: Engine) -> None:
    engine.stop_tokens = frozenset()
    service = Service(engine)
    ticket = service.submit([1], Sampling(max_tokens=1000))
    assert service.call(lambda: 3).result(60) == 3
    service.close()
    assert ticket.answers[0].reason == "cancelled"


def test_a_full_queue_and_impossible_requests_are_refused(engine: Engine) -> None:
    service = Service(engine, max_waiting=3)
    with engine.lock:
        tickets = [service.submit([1], Sampling(max_tokens=2), samples=7)]
        with pytest.raises(Busy, match="at most 3 may"):
            service.submit([1], Sampling(max_tokens=2), samples=8)
    for prompt, words in (([], "empty"), ([1] * 1024, "context holds"), ([999], "vocabulary")):
        with pytest.raises(HornbookError, match=words):
            service.submit(prompt, Sampling(max_tokens=2))
    wait(*tickets)
    service.close()
    service = Service(Engine(small(), weights="fp32", max_tokens_in_memory=16))
    with pytest.raises(HornbookError, match="fit"):
        service.submit([1] * 20, Sampling(max_tokens=20))
    service.close()
