"""Places are taken in the order of arrival, and whoever leaves, however, lets the next one in."""

import asyncio

import pytest

from hornbook.studio.places import Full, Places


async def visit(places, log, name, leave):
    async with places.enter() as place:
        while not await place.wait(0.01):
            pass
        log.append(name)
        await leave.wait()


def test_the_order_of_arrival_is_kept_and_a_waiting_one_that_leaves_makes_room():
    async def main():
        places, log = Places(2, queue=3), []
        doors = [asyncio.Event() for _ in range(5)]
        tasks = []
        for i in range(5):
            tasks.append(asyncio.create_task(visit(places, log, i, doors[i])))
            await asyncio.sleep(0)
        await asyncio.sleep(0.03)
        assert log == [0, 1]
        assert (places.taken, places.waiting) == (2, 3)
        with pytest.raises(Full, match="2 places are taken and 3 wait"):
            async with places.enter():
                pass
        tasks[2].cancel()  # the first of the queue closes its browser
        await asyncio.sleep(0.02)
        assert places.waiting == 2
        doors[1].set()
        await asyncio.sleep(0.05)
        assert log == [0, 1, 3]
        tasks[0].cancel()  # one that was being served, too
        await asyncio.sleep(0.05)
        assert log == [0, 1, 3, 4]
        doors[3].set()
        doors[4].set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (places.taken, places.waiting) == (0, 0)

    asyncio.run(main())


def test_the_place_in_the_queue_is_told_and_moves_up():
    async def main():
        places = Places(1, queue=5)
        async with places.enter() as first:
            assert first.taken
            assert first.number == 0
            async with places.enter() as second:
                async with places.enter() as third:
                    assert (second.number, third.number) == (1, 2)
                assert places.waiting == 1

        async def fails():
            async with places.enter():
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fails()
        assert places.taken == 0

    asyncio.run(main())


def test_nobody_overtakes_the_queue_when_a_place_becomes_free():
    async def main():
        places = Places(1, queue=5)
        first, second = places.enter(), places.enter()
        await first.__aenter__()
        waiting = await second.__aenter__()
        await first.__aexit__(None, None, None)
        assert waiting.taken
        async with places.enter() as late:
            assert not late.taken
        await second.__aexit__(None, None, None)

    asyncio.run(main())
