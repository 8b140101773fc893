"""What becomes of long commands, and how long it is known."""

import asyncio
import gc

import pytest

from safekit_py.errors import NotFoundError, Problem, StateError
from safekit_py.runtime.operations import KEPT, MOST, Operations


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


def test_what_is_begun_goes_on_without_its_caller():
    async def play():
        found, go = Operations(), asyncio.Event()

        async def work():
            await go.wait()
            return {"text": "exchanged"}

        made = found.carry_out("db", "swap", "alice", work)
        gc.collect()
        waiter = asyncio.create_task(made.result())
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait((waiter,))
        assert (made.state, made.text) == ("running", "")
        go.set()
        assert await made.result() == {"text": "exchanged"}
        assert (made.state, made.text, found.last()) == ("done", "exchanged", [made])

    asyncio.run(play())


def test_a_failure_that_nobody_waits_for_is_told_here_alone():
    async def play():
        lost = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
        found = Operations()

        async def faulty():
            raise ValueError("a mistake")

        made = found.carry_out("db", "swap", "", faulty)
        await asyncio.wait_for(made.over.wait(), 1)
        assert (made.state, made.problems[0].code) == ("failed", "operation.failed")
        found, made = Operations(), None
        gc.collect()
        assert lost == []

    asyncio.run(play())


def test_too_many_are_refused_before_they_begin():
    async def play():
        found, go, begun = Operations(), asyncio.Event(), []

        async def work():
            begun.append(1)
            await go.wait()

        made = [found.carry_out("web", "module install", "", work) for _ in range(MOST)]
        with pytest.raises(StateError, match=r"operation\.too-many"):
            found.carry_out("web", "module install", "", work)
        go.set()
        await asyncio.gather(*(each.result() for each in made))
        await found.carry_out("web", "module install", "", work).result()
        assert len(begun) == MOST + 1

    asyncio.run(play())
