"""Checkers run side by side; a broken one shows as its own resource and nothing else."""

import asyncio

from safekit_py.runtime import watch
from safekit_py.runtime.board import Board


class Fake:
    when = "both"

    def __init__(self, resource, behave, action="restart"):
        self.resource, self.behave, self.action = resource, behave, action

    async def run(self, report):
        await self.behave(report)


async def up_for_ever(report):
    report("up", "fine")
    await asyncio.Event().wait()


async def raising(report):
    raise RuntimeError("boom")


async def leaving(report):
    raise SystemExit(1)


async def falling(report):
    report("up", "fine")
    await asyncio.sleep(0.01)
    report("down", "gone")
    report("down", "gone")
    await asyncio.Event().wait()


def play(*checkers, wait=0.1):
    changes, fallen = [], []

    async def main():
        board = Board(lambda r, before: changes.append((r.name, before, r.value)))
        running = watch.Watch(board, lambda c, cause: fallen.append((c.resource, cause)))
        running.start(checkers)
        await asyncio.sleep(wait)
        state = {r.name: r.value for r in board.all()}
        await running.stop()
        assert board.all() == []
        return state

    return asyncio.run(main()), changes, fallen


def test_a_failure_is_told_once():
    state, changes, fallen = play(Fake("tcp.a", falling))
    assert state == {"tcp.a": "down"}
    assert fallen == [("tcp.a", "gone")]
    assert changes == [("tcp.a", "init", "up"), ("tcp.a", "up", "down")]


def test_a_raising_and_an_exiting_checker_disturb_nobody():
    state, _, fallen = play(Fake("a.raises", raising), Fake("b.exits", leaving), Fake("c.works", up_for_ever))
    assert state == {"a.raises": "unknown", "b.exits": "unknown", "c.works": "up"}
    assert fallen == []


def test_all_up_waits_for_those_that_ask_for_an_action():
    async def main():
        board = Board(lambda *_: None)
        running = watch.Watch(board, lambda *_: None)
        go = asyncio.Event()

        async def later(report):
            await go.wait()
            report("up", "now")
            await asyncio.Event().wait()

        running.start([Fake("a.late", later), Fake("b.silent", raising, action="noaction")])
        waiting = asyncio.ensure_future(running.all_up())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        go.set()
        await asyncio.wait_for(waiting, 2)
        await running.stop()

    asyncio.run(main())
