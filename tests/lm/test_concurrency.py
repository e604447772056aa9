"""The adaptive limit against its rules, on a clock of the test's own."""

import asyncio

import pytest

from hornbook.lm.concurrency import AdaptiveLimit, limit_for


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


def test_it_doubles_each_clean_round_until_a_round_is_refused(limit):
    for expected in (16, 32, 64):
        calls(limit, limit.slots)
        assert limit.slots == expected
    calls(limit, 8, "rate_limited")
    assert limit.slots == 56
    calls(limit, 56)
    assert limit.slots == 56  # the server is full: no growth for a while
    limit.clock.now = 100
    calls(limit, 56)
    assert limit.value == pytest.approx(56 * 1.05)


def test_one_slot_goes_for_each_refusal_and_at_most_a_fifth_a_round(limit):
    """After a doubling at most what it added, which nobody had tried before."""
    for _ in range(3):
        calls(limit, limit.slots)
    for expected in (32, 25.6, 20.48):
        calls(limit, limit.slots, "rate_limited")
        assert limit.value == pytest.approx(expected)


def test_a_single_refusal_is_an_accident_and_costs_nothing_in_the_end(limit):
    for _ in range(3):
        calls(limit, limit.slots)
    limit.most = 64
    for _ in range(50):
        calls(limit, 1, "rate_limited")
        assert limit.slots == limit.most - 1
        calls(limit, limit.most - 1)
        calls(limit, limit.most)
        assert limit.slots == limit.most
    limit.most = 1000
    calls(limit, 64)
    assert limit.slots == 128


def simulate(capacity, rounds, *, start=8):
    """Rounds against a server that refuses what is beyond its capacity: (limit, refused) of each."""
    clock = Clock()
    limit = AdaptiveLimit(start=start, most=1000, clock=clock)
    found = []

    async def run():
        for _ in range(rounds):
            clock.now += 1.0
            at_once = limit.slots
            for _ in range(at_once):
                await limit.acquire()
            for place in range(at_once):
                limit.release("ok" if place < capacity else "rate_limited")
            found.append((at_once, max(0, at_once - capacity)))

    asyncio.run(run())
    return found


@pytest.mark.parametrize("capacity", [5, 20, 64, 100, 300])
def test_it_finds_the_capacity_and_stays_there(capacity):
    settled = simulate(capacity, 120)[30:]
    assert min(slots for slots, _ in settled) >= 0.95 * capacity - 1
    assert sum(refused for _, refused in settled) <= 0.02 * sum(slots for slots, _ in settled) + 6


def test_faults_stop_growth_and_never_cut(limit):
    for _ in range(10):
        calls(limit, 2, "fault")
        calls(limit, limit.slots - 2)
    assert limit.slots == 8


def test_a_few_faults_are_weather_and_growth_goes_on(limit):
    for expected in (16, 32, 64, 128):
        few = max(1, limit.slots // 10)
        calls(limit, few, "fault")
        calls(limit, limit.slots - few)
        assert limit.slots == expected


def test_a_round_that_did_not_use_the_limit_does_not_count(limit):
    calls(limit, 80, used=0.5)
    assert limit.slots == 8
    calls(limit, 8, used=0.9)
    assert limit.slots > 8


def test_an_allowance_is_used_at_once_until_the_server_was_full(limit):
    calls(limit, 1, allowed=300)
    assert limit.slots == 300
    calls(limit, 300, "rate_limited")
    full = limit.slots
    assert full < 300
    calls(limit, 1, allowed=900)
    assert limit.slots == full


def test_a_user_who_knows_the_capacity_starts_there():
    told = limit_for("http://told/v1", "m", most=64)
    assert (told.slots, told.most) == (64, 64)
    found = limit_for("http://found/v1", "m", most=None)
    assert found.slots < 64 < found.most
    assert limit_for("http://found/v1", "m", most=64).slots == 64  # told later
    assert limit_for("http://told/v1", "m", most=None).slots == 64


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
