"""What becomes of long commands, and how long it is known."""

import asyncio

import pytest

from safekit_py.errors import NotFoundError, Problem, StateError
from safekit_py.runtime.operations import KEPT, Operations


def test_each_way_to_end_is_told():
    async def play():
        found, loop = Operations(), asyncio.get_running_loop()
        made = [
            found.begin("web", verb, "alice", loop.create_future()) for verb in ("start", "stop", "swap", "restart")
        ]
        assert [each.state for each in made] == ["running"] * 4
        made[0].future.set_result(None)
        made[1].future.set_exception(StateError(Problem("x.y", "no")))
        made[2].future.cancel()
        made[3].future.set_exception(OSError("disk"))
        await asyncio.sleep(0)
        assert [each.state for each in made] == ["done", "failed", "given up", "failed"]
        assert [[p.code for p in each.problems] for each in made] == [[], ["x.y"], [], ["operation.failed"]]
        assert all(each.over.is_set() and each.ended >= each.began for each in made)
        assert len({each.ident for each in made}) == 4

    asyncio.run(play())


def test_the_oldest_that_are_over_go_first():
    async def play():
        found, loop = Operations(), asyncio.get_running_loop()
        lasting = found.begin("web", "stop", "", loop.create_future())
        for _ in range(KEPT + 20):
            each = found.begin("web", "start", "", loop.create_future())
            each.future.set_result(None)
            await asyncio.sleep(0)
        assert len(found.last()) <= KEPT + 1
        assert found.find(lasting.ident) is lasting
        with pytest.raises(NotFoundError):
            found.find("other-1")
        lasting.future.cancel()

    asyncio.run(play())
