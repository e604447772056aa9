"""The adaptive limit against its rules, on a clock of the test's own."""

import asyncio

import pytest

from hornbook.lm.concurrency import AdaptiveLimit


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def calls(limit, n, signal="ok", *, used=1.0, **how):
    """n calls, `used` of the limit at once."""

    async def run():
        left = n
        while left > 0:
            batch = min(left, max(1, round(limit.slots * used)))
            for _ in range(batch):
                await limit.acquire()
            for _ in range(batch):
                limit.release(signal, **how)
            left -= batch

    asyncio.run(run())


@pytest.fixture
def limit():
    clock = Clock()
    made = AdaptiveLimit(start=8, most=1000, clock=clock)
    made.clock = clock
    return made


def test_it_doubles_each_clean_round_until_the_first_429(limit):
    for expected in (16, 32, 64):
        calls(limit, limit.slots)
        assert limit.slots == expected
    calls(limit, 1, "rate_limited")
    assert limit.value == pytest.approx(51.2)
    limit.clock.now = 100
    calls(limit, 51)
    assert limit.value == pytest.approx(51.2 * 1.05)


def test_one_cut_an_episode_and_no_growth_in_it(limit):
    calls(limit, 1, "rate_limited")
    assert limit.value == pytest.approx(6.4)
    for _ in range(20):
        calls(limit, 1, "rate_limited")
        calls(limit, 30)
    assert limit.value == pytest.approx(6.4)
    limit.clock.now = 16
    calls(limit, 1, "rate_limited")
    assert limit.value == pytest.approx(5.12)


def test_faults_stop_growth_and_never_cut(limit):
    for _ in range(10):
        calls(limit, 1, "fault")
        calls(limit, limit.slots - 1)
    assert limit.slots == 8


def test_a_round_that_did_not_use_the_limit_does_not_count(limit):
    calls(limit, 80, used=0.5)
    assert limit.slots == 8
    calls(limit, 8, used=0.9)
    assert limit.slots > 8


def test_neutral_signals_move_nothing(limit):
    calls(limit, 100, "neutral")
    assert limit.slots == 8


def test_it_never_falls_below_one_or_rises_above_the_most():
    clock = Clock()
    limit = AdaptiveLimit(start=1, most=3, clock=clock)
    for _ in range(20):
        clock.now += 1000
        calls(limit, 1, "rate_limited")
    assert limit.slots == 1
    for _ in range(20):
        clock.now += 1000
        calls(limit, limit.slots)
    assert limit.slots == 3


def test_nobody_gets_in_while_the_server_asked_for_peace():
    limit = AdaptiveLimit(start=2, most=2)

    async def run():
        await limit.acquire()
        limit.release("rate_limited", retry_after=0.2)
        begun = asyncio.get_running_loop().time()
        await limit.acquire()
        return asyncio.get_running_loop().time() - begun

    assert asyncio.run(run()) >= 0.19


def test_waiters_are_woken_and_a_cancelled_one_passes_its_turn_on():
    limit = AdaptiveLimit(start=1, least=1, most=1)

    async def run():
        await limit.acquire()
        first, second = asyncio.create_task(limit.acquire()), asyncio.create_task(limit.acquire())
        await asyncio.sleep(0)
        limit.release("ok")
        first.cancel()
        await asyncio.wait_for(second, 2)
        assert limit.in_use == 1

    asyncio.run(run())
