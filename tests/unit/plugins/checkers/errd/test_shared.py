"""A look that several share."""

import asyncio

import pytest
from safekit_py.plugins.checkers.errd.shared import Shared


class Looks:
    def __init__(self, seconds=0.05):
        self.seconds, self.begun, self.now = seconds, 0, 0

    async def take(self):
        self.begun += 1
        self.now += 1
        assert self.now == 1, "two looks at a time"
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.now -= 1
        if self.seconds == 0:
            raise ValueError("broken")
        return self.begun


def test_fifty_at_a_time_share_a_look():
    async def run():
        looks = Looks()
        shared = Shared(looks.take)
        since = asyncio.get_running_loop().time()
        return await asyncio.gather(*(shared.look(since) for _ in range(50)))

    assert set(asyncio.run(run())) == {1}


def test_who_comes_later_gets_a_look_that_began_later():
    async def run():
        looks = Looks()
        shared = Shared(looks.take)
        clock = asyncio.get_running_loop().time
        first = asyncio.create_task(shared.look(clock()))
        await asyncio.sleep(0.01)
        later = [asyncio.create_task(shared.look(clock())) for _ in range(10)]
        content = asyncio.create_task(shared.look(clock() - 5))
        return await first, set(await asyncio.gather(*later)), await content

    assert asyncio.run(run()) == (1, {2}, 1)


def test_one_who_leaves_does_not_end_the_look_of_the_others():
    async def run():
        shared = Shared(Looks().take)
        since = asyncio.get_running_loop().time()
        first, second = (asyncio.create_task(shared.look(since)) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert asyncio.run(run()) == 1


def test_a_failure_is_told_to_those_who_waited_and_not_kept():
    async def run():
        looks = Looks(0)
        shared = Shared(looks.take)
        since = asyncio.get_running_loop().time()
        with pytest.raises(ValueError, match="broken"):
            await shared.look(since)
        looks.seconds = 0.01
        return await shared.look(since)

    assert asyncio.run(run()) == 2
